"""What records of large sources are, and their rows of tokens: proteins, and sentences.

The same rows as `corpora.tokenise` and `texts.tokenise` make, computed for many records at once
and without lists of numbers: of a large source that is most of the time and of the memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench import corpora
from workbench.corpora import SequenceFormat
from workbench.errors import WorkbenchError
from workbench.foreign import dialects
from workbench.hidden_words import texts
from workbench.records.sources import Expected
from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """Rows of tokens of some records.

    Attributes:
        tokens: of all rows, one after the other.
        lengths: ``[rows]``, tokens of each row.
        rows: ``[records]``, rows of each record.
        units: ``[records]``, residues or words of each.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray
    units: np.ndarray


class RecordKind(Protocol):
    """One kind of records, for one tokenizer and one length of rows."""

    #: What is looked for in a source, and the words of its messages.
    expected: Expected
    #: Most tokens in a row.
    block: int
    #: Tokens of each row that stand for no residue or word.
    context: int
    #: Token ids are below this.
    vocabulary: int

    def clean(self, record: str, seen: Counter[str]) -> str:
        """A record as it is tokenised; empty if it is left out. ``seen`` counts what was done."""

    def encode(self, records: Sequence[str]) -> Encoded:
        """Rows of clean records."""

    def notes(self, source: str, seen: Counter[str]) -> list[str]:
        """What was changed or left out, in sentences."""

    def described(self) -> list[Any]:
        """Everything that the tokens depend on beside the records; what JSON can hold."""


class Proteins:
    """Sequences of amino acids; see `corpora.tokenise`.

    Args:
        tokenizer: the teacher's.
        form: how it wants them, see `corpora.format_of`.
        block: most tokens in a row, at least 2.
    """

    expected = corpora.EXPECTED
    context = 1

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, form: SequenceFormat, block: int
    ) -> None:
        self.form, self.block = form, block
        self.vocabulary = len(tokenizer)
        self._begin, self._end = dialects.first_token(tokenizer), tokenizer.eos_token_id
        self._tokenizer = _backend(tokenizer)
        self._table = _letter_table(self._tokenizer) if form == "plain" else None

    def clean(self, record: str, seen: Counter[str]) -> str:
        """See `corpora.clean_sequence`."""
        if record and not record.strip(AMINO_ACIDS):
            # Nothing but the twenty, as nearly all are: nothing to change and nothing to count.
            return record
        return corpora.clean_sequence(record, seen)

    def encode(self, records: Sequence[str]) -> Encoded:
        """See `corpora.tokenise`."""
        units = _lengths(records)
        if self._table is not None:
            counts = units
            flat = self._table[np.frombuffer("".join(records).encode("ascii"), np.uint8)]
        else:
            written = [corpora.write_sequence(r, self.form) for r in records]
            # Without places in the text, which nobody asks for: half as fast again.
            encodings = self._tokenizer.encode_batch_fast(written, add_special_tokens=False)
            ids = [encoding.ids for encoding in encodings]
            counts, flat = _lengths(ids), _flat(ids)
        tokens = _between(flat, counts, [self._begin], [self._end])
        # Blocks overlap by one token, the context of the next.
        whole, step = counts + 2, self.block - 1
        rows = -(-(whole - 1) // step)
        if len(rows) == rows.sum():
            return Encoded(tokens, whole, rows, units)
        part = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
        lengths = np.minimum(self.block, np.repeat(whole, rows) - part * step)
        begins = np.repeat(np.cumsum(whole) - whole, rows) + part * step
        shift = begins - (np.cumsum(lengths) - lengths)
        places = np.arange(lengths.sum()) + np.repeat(shift, lengths)
        return Encoded(tokens[places], lengths, rows, units)

    def notes(self, source: str, seen: Counter[str]) -> list[str]:
        """As `corpora.clean`."""
        return corpora.notes_of(source, seen)

    def described(self) -> list[Any]:
        """See `RecordKind.described`."""
        marks = [self._begin, self._end]
        return ["proteins", self.form, self.block, *marks, _fingerprint(self._tokenizer)]


class Sentences:
    """Sentences or abstracts; see `texts.tokenise`.

    Args:
        tokenizer: a fast one, the model's.
        positions: most tokens in a row, at least 3.
    """

    expected = texts.EXPECTED

    def __init__(self, tokenizer: PreTrainedTokenizerBase, positions: int) -> None:
        self.block = positions
        self.vocabulary = len(tokenizer)
        self._first, self._last = dialects.marks(tokenizer)
        self.context = len(self._first) + len(self._last)
        self._tokenizer = _backend(tokenizer)

    def clean(self, record: str, seen: Counter[str]) -> str:
        """See `texts.clean_line`."""
        return texts.clean_line(record, seen)

    def encode(self, records: Sequence[str]) -> Encoded:
        """See `texts.tokenise`."""
        longest = self.block - self.context
        ids, counts = [], []
        rows, units = np.zeros(len(records), np.int64), np.zeros(len(records), np.int64)
        # Not the fast one, which does not say what word a piece is of.
        encodings = self._tokenizer.encode_batch(list(records), add_special_tokens=False)
        for number, encoding in enumerate(encodings):
            word_of = encoding.word_ids
            parts = [p.stop - p.start for p in texts.parts(word_of, longest)]
            ids.append(encoding.ids)
            counts += parts
            rows[number], units[number] = len(parts), len(set(word_of))
        inner = np.array(counts, dtype=np.int64)
        tokens = _between(_flat(ids), inner, self._first, self._last)
        return Encoded(tokens, inner + self.context, rows, units)

    def notes(self, source: str, seen: Counter[str]) -> list[str]:
        """As `texts.load`."""
        return texts.notes_of(source, seen)

    def described(self) -> list[Any]:
        """See `RecordKind.described`."""
        marks = [self._first, self._last]
        return ["sentences", self.block, *marks, _fingerprint(self._tokenizer)]


class Residues(Sentences):
    """Proteins for a masked language model with a token a residue; see `texts.load`."""

    expected = corpora.EXPECTED

    def __init__(self, tokenizer: PreTrainedTokenizerBase, positions: int) -> None:
        super().__init__(tokenizer, positions)
        self._between = " " if " " in dialects.write_residues("AC", tokenizer) else ""

    def clean(self, record: str, seen: Counter[str]) -> str:
        """See `corpora.clean_sequence`."""
        return corpora.clean_sequence(record, seen)

    def encode(self, records: Sequence[str]) -> Encoded:
        """See `texts.tokenise`."""
        return super().encode([self._between.join(record) for record in records])

    def notes(self, source: str, seen: Counter[str]) -> list[str]:
        """As `corpora.clean`."""
        return corpora.notes_of(source, seen)

    def described(self) -> list[Any]:
        """See `RecordKind.described`."""
        return ["residues", *super().described()]


def _between(
    flat: np.ndarray, counts: np.ndarray, first: Sequence[int], last: Sequence[int]
) -> np.ndarray:
    """Each stretch of ``counts`` tokens with some tokens before and some behind it."""
    whole = counts + len(first) + len(last)
    ends = np.cumsum(whole)
    found = np.empty(ends[-1] if len(ends) else 0, dtype=np.int64)
    inner = np.ones(len(found), dtype=bool)
    places = [(ends - whole + at, token) for at, token in enumerate(first)]
    places += [(ends - len(last) + at, token) for at, token in enumerate(last)]
    for place, token in places:
        inner[place] = False
        found[place] = token
    found[inner] = flat
    return found


def _lengths(parts: Sequence[Sequence]) -> np.ndarray:
    return np.fromiter(map(len, parts), np.int64, len(parts))


def _flat(ids: Sequence[list[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(ids), np.int64, sum(map(len, ids)))


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer itself, a copy that neither cuts nor pads.

    Raises:
        WorkbenchError: if there is none.
    """
    from tokenizers import Tokenizer

    if not getattr(tokenizer, "is_fast", False):
        raise WorkbenchError(
            "a large source needs a fast tokenizer, and this teacher's is not; save it with its "
            "tokenizer.json, or give a file of less than 64 MB"
        )
    own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.encode_special_tokens = tokenizer.split_special_tokens
    own.no_truncation()
    own.no_padding()
    return own


def _fingerprint(tokenizer: Tokenizer) -> str:
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def _letter_table(tokenizer: Tokenizer) -> np.ndarray | None:
    """Token of each letter by its code, ``[256]``; None unless every letter is one token.

    The classroom's tokenizer cuts text letter by letter with a regular expression and looks each
    up; the same by a table takes a hundredth of the time.
    """
    parts = json.loads(tokenizer.to_str())
    cut, model = parts["pre_tokenizer"] or {}, parts["model"]
    is_plain = (
        model["type"] == "WordLevel"
        and cut.get("type") == "Split"
        and cut["pattern"] == {"Regex": "."}
        and cut["behavior"] == "Isolated"
        and parts["normalizer"] is None
    )
    if not is_plain or any(len(t["content"]) == 1 for t in parts["added_tokens"]):
        return None
    table = np.full(256, model["vocab"][model["unk_token"]], dtype=np.int64)
    for token, number in model["vocab"].items():
        if len(token) == 1 and ord(token) < 128:
            table[ord(token)] = number
    return table
