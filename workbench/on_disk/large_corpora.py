"""Corpora that are not held in memory: large files, packed files, data sets of the hub.

    source → `load` → `LargeCorpus` → `rows` → rows on disk → `corpora.make_batches`

A source that turns out to be small is read at once, as a small file is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.corpora import Rows
from workbench.on_disk import token_files
from workbench.records import streams
from workbench.records.sources import Expected
from workbench.records.streams import Stream

if TYPE_CHECKING:
    from workbench.on_disk.record_kinds import RecordKind
    from workbench.progress import Progress

#: A packed file or a data set of the hub with fewer characters is small.
SMALL = 2**23


@dataclass(frozen=True)
class LargeCorpus:
    """A source that is tokenised piece by piece, see `rows`.

    Attributes:
        source: what was given.
        stream: its records.
        train_records: records to take, from the first; None takes all.
        validation_records: held-out records to judge by at most.
        notes: none yet: what is left out is known when all is read, and told by `rows`.
        has_oracle: the truth about it is not known.
        tagged: nor its entities.
    """

    source: str
    stream: Stream = field(repr=False)
    train_records: int | None
    validation_records: int
    notes: tuple[str, ...] = ()
    has_oracle: bool = False
    tagged: None = None


def load(
    source: str,
    column: str | None,
    expected: Expected,
    *,
    train_records: int | None,
    validation_records: int,
) -> LargeCorpus | list[str] | None:
    """A large corpus; the records themselves of one that turns out to be small.

    Args:
        source: as of `sources.read`.
        column: of a table; None looks for the usual names.
        expected: what records are asked for.
        train_records: records to take, from the first; None takes all.
        validation_records: held-out records to judge by at most.

    Returns:
        None if it is a small file or a world, which others read.

    Raises:
        WorkbenchError: if the source is unreadable or has no such column.
    """
    if not streams.is_large(source):
        return None
    stream = streams.open_stream(source, column, expected)
    records = _all_of_few(stream)
    if records is not None:
        return records
    return LargeCorpus(source, stream, train_records, validation_records)


def rows(corpus: LargeCorpus, kind: RecordKind, progress: Progress | None) -> tuple[Rows, Rows]:
    """Training rows on disk and held-out rows in memory.

    Args:
        corpus: the source.
        kind: what its records are, with the tokenizer.
        progress: who is told how far it is, and what was left out.

    Raises:
        WorkbenchError: see `token_files.tokenise` and `stored_rows.open_rows`.
    """
    from workbench.on_disk import stored_rows

    place = token_files.tokenise(
        corpus.stream, kind, most_records=corpus.train_records, progress=progress
    )
    if progress:
        for note in token_files.about(place)["notes"]:
            progress.note(f"note: {note}")
    return stored_rows.open_rows(place, corpus.validation_records)


def _all_of_few(stream: Stream) -> list[str] | None:
    """All records, if there are few characters in them."""
    if stream.in_bytes and stream.total >= streams.LARGE:
        return None
    if stream.in_bytes:
        # Refuses what is no text, with its line.
        stream.identify(None)
    found: list[str] = []
    held = 0
    for piece in stream.pieces(None):
        found += piece.records
        # A record weighs more than its letters.
        held += sum(len(record) + 64 for record in piece.records)
        if held > SMALL:
            return None
    return found
