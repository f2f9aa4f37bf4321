"""Where the data come from: a world, FASTA, CSV, text, Parquet or a hub data set.

    source → `load` → `Corpus` (datasets.Dataset with a ``sequence`` column)
           → `tokenise` → rows of token ids → `make_batches` → `Batch`

What happens to letters (`clean_sequence`): lower case is raised; gaps (``-``,
``.``) and a final stop (``*``) are removed; B, J, O, U, Z and an inner stop
become X; a record with anything else, or without one of the twenty amino acids,
is left out. Everything that was changed is counted in `Corpus.notes`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.foreign import dialects
from workbench.records import sources, streams
from workbench.records.sources import check_text as check_text
from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

PROTEIN_WORLD = "world:proteins"
EXPECTED = sources.Expected(
    what="protein sequences",
    world=PROTEIN_WORLD,
    hub_example="nferruz/UR50_2021_04",
    columns=("sequence", "text", "seq", "protein", "protein_sequence"),
    fasta=True,
)
SequenceFormat = Literal["plain", "protgpt2"]
LINE_WIDTH = 60
#: One sequence in ten is held out of a file, by a hash of its letters: the same
#: sequence is on the same side whatever file it comes in.
HELD_OUT = 10
#: Batches of neighbouring lengths are formed within pools of this many batches.
POOL = 16
#: So many rows, about, are shuffled together, which takes some 65 bytes for each.
SHUFFLED = 2**20
#: Numbers of batches that are made Python's own at once.
LISTED = 2**16

_ORDER = 0x6261746368  # "batch"
_STANDARD = frozenset(AMINO_ACIDS)
_RAISE = str.maketrans("", "", " \t\r\n-.")


@dataclass(frozen=True)
class Corpus:
    """Training and held-out sequences.

    Attributes:
        source: what was given.
        train: ``datasets.Dataset`` with a ``sequence`` column.
        validation: likewise; empty if the source has too few records to hold some
            out (then blocks are held out, see `tokenise_split`).
        notes: sentences about what was changed or left out, for the user.
        has_oracle: whether the truth about these sequences is known.
    """

    source: str
    train: Dataset
    validation: Dataset
    notes: tuple[str, ...] = ()
    has_oracle: bool = False


@dataclass(frozen=True)
class Rows:
    """Token ids, one array a block, and how many residues they stand for.

    Attributes:
        tokens: arrays of token ids; the first token of each is context only. Of a large source
            they are read as they are asked for, see `stored_rows.StoredTokens`.
        residues: letters in all blocks together, for perplexity per residue.
        labels: ``[rows]``, the class of each row, where rows are examples to be classified.
    """

    tokens: Sequence[np.ndarray]
    residues: int
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def batches(self, batch_size: int, pad: int) -> Sequence[Batch]:
        """See `make_batches`."""
        lengths = np.array([len(t) for t in self.tokens], dtype=np.int64)
        order = batch_order(len(self), batch_size, lambda first, last: lengths[first:last])
        batches: list[Batch] = []
        first = 0
        for part in order:
            for at in range(0, len(part), batch_size):
                places = part[at : at + batch_size]
                labels = None if self.labels is None else torch.from_numpy(self.labels[places])
                batch = padded(
                    [self.tokens[i] for i in places], pad, len(batches), first, places, labels
                )
                batches.append(batch)
                first += batch.tokens
        return batches


@dataclass(frozen=True)
class Batch:
    """Padded token ids.

    Attributes:
        index: place of the batch among its fellows, from 0.
        input_ids: ``[batch, length]``, padded on the right.
        lengths: ``[batch]``, real tokens of each row.
        first_token: how many real tokens the batches before this one hold.
        tokens: how many real tokens this one holds.
        labels: ``[batch]``, classes, where there are any.
        members: ``[batch]``, which rows these are.
        masked: ``[batch, length]``, True where a token is hidden and to be told; ``labels`` are
            then the tokens that stood there, row after row.
        draw: number of the draw of these masks.
        part: of a larger batch, from which row on; 0 for a whole one.
    """

    index: int
    input_ids: Tensor
    lengths: Tensor
    first_token: int
    tokens: int = field(default=0)
    labels: Tensor | None = None
    members: np.ndarray | None = None
    masked: Tensor | None = None
    draw: int = 0
    part: int = 0

    def real(self) -> Tensor:
        """``[batch, length]``, True where a token is not padding."""
        return torch.arange(self.input_ids.shape[1]) < self.lengths[:, None]


# ---------------------------------------------------------------------- sources


def load(
    source: str,
    *,
    train_sequences: int | None = None,
    validation_sequences: int = 500,
    column: str | None = None,
    records: list[str] | None = None,
) -> Corpus:
    """Read a source and hold a part of it out.

    Args:
        source: ``world:proteins``, a file, or an id on the Hugging Face hub.
        train_sequences: how many to draw from a world; most to take from elsewhere.
        validation_sequences: how many to draw from a world.
        column: which column of a table holds the sequences.
        records: of the source, where they have been read already.

    Raises:
        WorkbenchError: if the source is missing, empty, unreadable or holds no protein.
    """
    if source == PROTEIN_WORLD:
        return _protein_world(train_sequences or 4000, validation_sequences)
    records = streams.read(source, column, EXPECTED) if records is None else records
    if train_sequences is not None:
        records = records[:train_sequences]
    sequences, notes = clean(records, source)
    apart = [s for s in sequences if held_out(s)]
    kept = [s for s in sequences if not held_out(s)]
    if len(sequences) < HELD_OUT or not apart or not kept:
        apart, kept = [], sequences
    return Corpus(source, _dataset(kept), _dataset(apart), tuple(notes))


def clean(records: list[str], source: str) -> tuple[list[str], list[str]]:
    """Letters of proteins from raw records, and what was changed.

    Returns:
        Sequences, and notes for the user.

    Raises:
        WorkbenchError: if nothing is left.
    """
    seen: Counter[str] = Counter()
    sequences = []
    for record in records:
        sequence = clean_sequence(record, seen)
        if sequence:
            sequences.append(sequence)
    if not sequences:
        raise WorkbenchError(
            f"{source} holds no protein sequence ({len(records)} records read); expected "
            f"one-letter amino acids {AMINO_ACIDS}"
        )
    return sequences, notes_of(source, seen)


def notes_of(source: str, seen: Counter[str]) -> list[str]:
    """What `clean_sequence` counted, in sentences for the user."""
    return [f"{source}: {seen[what]:,} {what}" for what in sorted(seen)]


def clean_sequence(record: str, seen: Counter[str]) -> str:
    """One record by the rules at the top of this file; empty if it must be left out.

    Args:
        record: raw letters.
        seen: counts what was changed, by description.
    """
    letters = record.translate(_RAISE)
    if letters.endswith("*"):
        letters = letters[:-1]
        seen["final stops (*) removed"] += 1
    upper = letters.upper()
    if not re.fullmatch(r"[A-Z*]+", upper) or _STANDARD.isdisjoint(upper):
        seen["records left out: no amino acid, or other characters"] += 1
        return ""
    gaps = sum(record.count(g) for g in "-.")
    if gaps:
        seen["gaps (- or .) removed"] += gaps
    if upper != letters:
        seen["records with lower-case letters, raised"] += 1
    odd = sum(upper.count(a) for a in "BJOUZX*")
    if odd:
        seen["residues that are not one of the twenty (B J O U X Z *), read as X"] += odd
        upper = re.sub(r"[BJOUZ*]", "X", upper)
    return upper


def _protein_world(train: int, validation: int) -> Corpus:
    from workbench.worlds import proteins

    # Two seeds far from each other and from any that a user would pick for a run: the data
    # are the same for every run, so that runs can be compared and the teacher cached.
    return Corpus(
        PROTEIN_WORLD,
        _dataset(proteins.sample(train, seed=2_000_001)),
        _dataset(proteins.sample(validation, seed=2_000_002)),
        has_oracle=True,
    )


def _dataset(sequences: list[str]) -> Dataset:
    from datasets import Dataset, Features, Value

    features = Features({"sequence": Value("string")})
    return Dataset.from_dict({"sequence": sequences}, features=features)


def held_out(text: str) -> bool:
    """Whether a text is kept for judging: one in `HELD_OUT`, by its hash."""
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT == 0


# ---------------------------------------------------------------------- tokens


def format_of(config, tokenizer: PreTrainedTokenizerBase | None = None) -> SequenceFormat:
    """How a teacher wants its sequences, as its configuration says in ``sequence_format``.

    ``plain`` is the bare letters; ``protgpt2`` is what the model card of ProtGPT2 asks for, a
    line break before, after, and within after every 60 residues. A configuration that says
    nothing means the latter, where the tokenizer has a line break.
    """
    stated = getattr(config, "sequence_format", None)
    if stated is None:
        breaks = tokenizer is None or dialects.breaks_lines(tokenizer)
        return "protgpt2" if breaks else "plain"
    return "plain" if stated == "plain" else "protgpt2"


def write_sequence(sequence: str, form: SequenceFormat) -> str:
    """The text of one sequence between its two end-of-text tokens."""
    if form == "plain":
        return sequence
    lines = [sequence[i : i + LINE_WIDTH] for i in range(0, len(sequence), LINE_WIDTH)]
    return "\n" + "\n".join(lines) + "\n"


def tokenise(
    sequences: list[str],
    tokenizer: PreTrainedTokenizerBase,
    form: SequenceFormat,
    block: int,
) -> Rows:
    """Sequences as rows of at most ``block`` tokens, each between tokens that begin and end it.

    A longer one is cut into blocks that overlap by one token: the last token of a
    block is the first, unscored, of the next. So every token but the very first of a
    sequence is predicted exactly once, and nothing is lost.

    Args:
        sequences: cleaned letters.
        tokenizer: the teacher's.
        form: see `format_of`.
        block: most tokens in a row, at least 2.
    """
    if not sequences:
        return Rows([], 0)
    begin, end = dialects.first_token(tokenizer), tokenizer.eos_token_id
    texts = [write_sequence(s, form) for s in sequences]
    # Quietly: it would warn of sequences beyond the model's length, and they are cut below.
    encoded = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    rows = []
    for ids in encoded:
        tokens = np.array([begin, *ids, end], dtype=np.int64)
        for start in range(0, len(tokens) - 1, block - 1):
            rows.append(tokens[start : start + block])
    return Rows(rows, sum(len(s) for s in sequences))


def tokenise_split(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, form: SequenceFormat, block: int
) -> tuple[Rows, Rows]:
    """Training and held-out rows of a corpus.

    With too few sequences to hold some out, the last tenth of all blocks is held out.

    Raises:
        WorkbenchError: if there is only one block.
    """
    train = tokenise(corpus.train["sequence"][:], tokenizer, form, block)
    validation = tokenise(corpus.validation["sequence"][:], tokenizer, form, block)
    return hold_out_rows(train, validation, corpus.source, block, context=1)


def hold_out_rows(
    train: Rows, validation: Rows, source: str, block: int, *, context: int
) -> tuple[Rows, Rows]:
    """Both as they are; or, where no record could be held out, the last tenth of all rows.

    Args:
        train: rows to learn from.
        validation: held-out rows, which may be none.
        source: for the message.
        block: most tokens in a row.
        context: tokens of each row that stand for no letter or word.

    Raises:
        WorkbenchError: if there is only one row.
    """
    if len(validation):
        return train, validation
    held = max(1, len(train) // HELD_OUT)
    if len(train) <= held:
        raise WorkbenchError(
            f"{source} makes one block of {block} tokens only; expected at least two, "
            "one to train on and one to hold out"
        )
    scored = sum(len(t) - context for t in train.tokens)
    held_scored = sum(len(t) - context for t in train.tokens[-held:])
    # Letters or words are shared out by tokens; exact where a token is one.
    held_residues = round(train.residues * held_scored / scored)
    return (
        Rows(train.tokens[:-held], train.residues - held_residues),
        Rows(train.tokens[-held:], held_residues),
    )


def make_batches(rows: Rows, batch_size: int, pad: int) -> Sequence[Batch]:
    """Batches of similar lengths, formed once from the data and not from a run's seed.

    A run's seed decides the order in which batches come, never what is in them: so
    the teacher's answer to a batch can be kept, and a student trained from the cache
    gets the same bytes as one trained with the teacher running beside it.

    Args:
        rows: from `tokenise`.
        batch_size: rows a batch; the last may have fewer.
        pad: token id to fill up with.
    """
    return rows.batches(batch_size, pad)


def batch_order(
    count: int, batch_size: int, lengths_of: Callable[[int, int], np.ndarray]
) -> Iterator[np.ndarray]:
    """Numbers of rows in the order of their batches, in parts of whole batches.

    Rows are shuffled, and sorted by length within pools of `POOL` batches. More than `SHUFFLED`
    are shuffled within stretches of about as many, so that no table of all rows is needed.

    Args:
        count: of rows.
        batch_size: rows a batch.
        lengths_of: tokens of the rows from the first number up to the second.
    """
    pool = POOL * batch_size
    stretch = max(1, SHUFFLED // pool) * pool
    for number, first in enumerate(range(0, count, stretch)):
        last = min(first + stretch, count)
        seed = [_ORDER, number] if number else _ORDER
        order = np.random.default_rng(seed).permutation(last - first)
        lengths = lengths_of(first, last)[order]
        whole = len(order) // pool * pool
        for start, end, width in ((0, whole, pool), (whole, len(order), len(order) - whole)):
            if start < end:
                within = lengths[start:end].reshape(-1, width).argsort(axis=1, kind="stable")
                part = np.take_along_axis(order[start:end].reshape(-1, width), within, axis=1)
                yield first + part.ravel()


def padded(
    members: Sequence[np.ndarray],
    pad: int,
    index: int,
    first_token: int,
    places: np.ndarray,
    labels: Tensor | None = None,
) -> Batch:
    """One batch of rows of tokens; see `Batch` for what the arguments are."""
    lengths = torch.tensor([len(m) for m in members])
    ids = torch.full((len(members), int(lengths.max())), pad)
    for row, member in enumerate(members):
        ids[row, : len(member)] = torch.from_numpy(member)
    return Batch(index, ids, lengths, first_token, int(lengths.sum()), labels, places)


def digest(batches: Sequence[Batch], at_most: int) -> str:
    """SHA-256 by which batches are known: of all, or of about so many where there are more."""
    found = hashlib.sha256(str(len(batches)).encode())
    for index in range(0, len(batches), max(1, len(batches) // at_most)):
        found.update(batches[index].input_ids.numpy().data)
        found.update(batches[index].lengths.numpy().data)
    return found.hexdigest()


def endless_order(count: int, seed: int) -> Iterator[int]:
    """Indices 0 … count−1 over and over, each time in a new order drawn from ``seed``."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch, 0x6F72646572]).permutation(count)
        # In parts: as a list of Python's numbers a hundred million would take some gigabytes.
        for start in range(0, count, LISTED):
            yield from order[start : start + LISTED].tolist()
        epoch += 1
