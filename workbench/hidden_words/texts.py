"""Sentences: from a world or a user's text to rows for a masked language model.

source → `load` → `TextCorpus` → `tokenise` → rows of word pieces → `corpora.make_batches`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench import corpora
from workbench.corpora import HELD_OUT, Rows, held_out
from workbench.errors import WorkbenchError
from workbench.foreign import dialects
from workbench.records import sources, streams
from workbench.worlds import biomedical
from workbench.worlds.biomedical import Sentence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BIOMEDICAL_WORLD = "world:biomedical"
EXPECTED = sources.Expected(
    what="sentences, one a line",
    world=BIOMEDICAL_WORLD,
    hub_example="MedRAG/pubmed",
    columns=("text", "sentence", "abstract", "content"),
)
#: What `clean_line` counts.
WITHOUT_WORD = "without a word"
#: Seeds of the built-in data, the same for every run, so that runs can be compared.
TRAIN_SEED, HELD_OUT_SEED = 4_000_001, 4_000_002


@dataclass(frozen=True)
class TextCorpus:
    """Sentences to learn from and sentences to be judged by.

    Attributes:
        source: what was given.
        train: texts to learn from.
        validation: held out; empty if the source has too few lines to hold some out (then rows
            are held out, see `tokenise_split`).
        notes: sentences about what was left out, for the user.
        tagged: the same sentences with their entities, (train, validation); None of a text
            whose truth is not known.
    """

    source: str
    train: list[str]
    validation: list[str]
    notes: tuple[str, ...] = ()
    tagged: tuple[list[Sentence], list[Sentence]] | None = None

    @property
    def has_oracle(self) -> bool:
        """Whether the truth about these sentences is known."""
        return self.tagged is not None


def load(
    source: str,
    *,
    train_sentences: int | None = None,
    validation_sentences: int = 500,
    column: str | None = None,
    records: list[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> TextCorpus:
    """Read a source and hold a part of it out.

    Args:
        source: ``world:biomedical``, a file (text, CSV, Parquet), or an id on the hub; for a
            tokenizer of residues ``world:proteins``, or proteins as `corpora.load` reads them.
        train_sentences: how many to draw from the world; most lines to take from elsewhere.
        validation_sentences: how many to draw from the world.
        column: which column of a table holds the texts.
        records: of the source, where they have been read already.
        tokenizer: of the model that is to read them; without one they are sentences.

    Raises:
        WorkbenchError: if the source is missing, empty, unreadable or holds no words, or not
            what the tokenizer reads.
    """
    if tokenizer is not None and dialects.reads_residues(tokenizer):
        return _proteins(source, tokenizer, train_sentences, validation_sentences, column, records)
    is_protein = source == corpora.PROTEIN_WORLD or sources.is_fasta(source)
    if tokenizer is not None and is_protein:
        raise WorkbenchError(
            f"{source} holds proteins, and the model's tokenizer reads words; give "
            f"{EXPECTED.what}, or a teacher whose tokenizer has a token a residue, such as ESM's"
        )
    if source == BIOMEDICAL_WORLD:
        train = biomedical.sample(train_sentences or 4000, TRAIN_SEED)
        validation = biomedical.sample(validation_sentences, HELD_OUT_SEED)
        return TextCorpus(
            source, [s.text for s in train], [s.text for s in validation], (), (train, validation)
        )
    records = streams.read(source, column, EXPECTED) if records is None else records
    records = records[:train_sentences]
    seen: Counter[str] = Counter()
    kept = [line for record in records if (line := clean_line(record, seen))]
    if not kept:
        raise WorkbenchError(
            f"{source} holds no words ({len(records)} lines read); expected {EXPECTED.what}"
        )
    apart = [line for line in kept if held_out(line)]
    rest = [line for line in kept if not held_out(line)]
    if len(kept) < HELD_OUT or not apart or not rest:
        apart, rest = [], kept
    return TextCorpus(source, rest, apart, tuple(notes_of(source, seen)))


def clean_line(record: str, seen: Counter[str]) -> str:
    """A line with single spaces; empty if there is no word in it, which is counted."""
    line = " ".join(record.split())
    if any(c.isalnum() for c in line):
        return line
    seen[WITHOUT_WORD] += 1
    return ""


def notes_of(source: str, seen: Counter[str]) -> list[str]:
    """What `clean_line` counted, in sentences for the user."""
    without = seen[WITHOUT_WORD]
    many = "line" if without == 1 else "lines"
    return [f"{source}: {without:,} {many} without a word left out"] if without else []


def _proteins(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    train_sentences: int | None,
    validation_sentences: int,
    column: str | None,
    records: list[str] | None,
) -> TextCorpus:
    """Proteins for a masked language model, written as its tokenizer reads them."""
    if source == BIOMEDICAL_WORLD:
        raise WorkbenchError(
            f"the model's tokenizer reads proteins, a token a residue, and {source} holds "
            f"sentences; give --data FILE with proteins (FASTA), or --data {corpora.PROTEIN_WORLD}"
        )
    corpus = corpora.load(
        source,
        train_sequences=train_sentences,
        validation_sequences=validation_sentences,
        column=column,
        records=records,
    )
    train, validation = (
        [dialects.write_residues(sequence, tokenizer) for sequence in part["sequence"][:]]
        for part in (corpus.train, corpus.validation)
    )
    return TextCorpus(source, train, validation, corpus.notes)


def tokenise(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, positions: int) -> Rows:
    """Texts as rows of at most ``positions`` tokens, each between ``[CLS]`` and ``[SEP]``.

    Or between whatever the tokenizer puts around a text.

    A longer text is cut between words into several rows, one word that is longer than a row
    between its pieces. Nothing is lost.

    Args:
        texts: sentences or abstracts.
        tokenizer: the model's; one that does not tell which pieces are a word takes each as one.
        positions: most tokens in a row, at least 3.

    Raises:
        ValueError: if a row has no place for a piece.
    """
    if positions < 3:
        raise ValueError(f"positions is {positions}; expected at least 3, two of them for marks")
    rows: list[np.ndarray] = []
    words = 0
    first, last = dialects.marks(tokenizer)
    room = positions - len(first) - len(last)
    if texts:
        # Quietly: it would warn of texts beyond the model's length, and they are cut below.
        encoded = tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        for number, ids in enumerate(encoded["input_ids"]):
            word_of = encoded.word_ids(number) if tokenizer.is_fast else range(len(ids))
            words += len(set(word_of))
            rows += [
                np.array([*first, *ids[part], *last], dtype=np.int64)
                for part in parts(word_of, room)
            ]
    return Rows(rows, words)


def tokenise_split(
    corpus: TextCorpus, tokenizer: PreTrainedTokenizerBase, positions: int
) -> tuple[Rows, Rows]:
    """Training and held-out rows; with too few lines, the last tenth of all rows is held out.

    Raises:
        WorkbenchError: if there is only one row.
    """
    train = tokenise(corpus.train, tokenizer, positions)
    validation = tokenise(corpus.validation, tokenizer, positions)
    # [CLS] and [SEP] are no words.
    context = sum(map(len, dialects.marks(tokenizer)))
    return corpora.hold_out_rows(train, validation, corpus.source, positions, context=context)


def parts(word_of: Sequence[int | None], longest: int) -> Iterator[slice]:
    """Stretches of at most ``longest`` pieces that end where a word ends, if one does."""
    start = 0
    while start < len(word_of):
        end = min(start + longest, len(word_of))
        cut = end
        while end < len(word_of) and cut > start and word_of[cut] == word_of[cut - 1]:
            cut -= 1
        end = cut if cut > start else end
        yield slice(start, end)
        start = end
