"""Records of a source that is too large to be held in memory, piece by piece.

`sources.read` gives all records at once; a `Stream` gives the same records of the same file in
pieces of about `PIECE` bytes, each with the place where the next one begins, so that reading can
go on after an interruption. Text, FASTA (both also as ``.gz``), CSV, Parquet and data sets of
the hub.

A record of more than `LONGEST` characters is refused: what is read, tokenised and counted is one
record at least, so its length is what bounds the memory. The longest protein known has some
45,000 residues.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError, first_line
from workbench.records import hub, sources
from workbench.records.file_identity import changed, identity, is_gzip, line_and_column, opened
from workbench.records.sources import Expected

if TYPE_CHECKING:
    from datasets import Dataset

    from workbench.progress import Progress

#: Files of at least so many bytes are read as a stream.
LARGE = 64 * 2**20
#: Bytes read at once, and about what a piece holds.
PIECE = 2**20
#: Most characters of one record: a sequence, a line, a field of a table.
LONGEST = 2**19
#: Rows of a Parquet file or of a data set of the hub that are read at once.
ROWS = 256

_BOM = codecs.BOM_UTF8
_TOO_LONG = "expected one sequence or sentence a record; split it, or leave it out"


@dataclass(frozen=True)
class Piece:
    """Some records, and what is needed to go on behind them.

    Attributes:
        records: raw, one a sequence or a line.
        place: where the next piece begins, for `Stream.pieces`; what JSON can hold.
        done: how much of `Stream.total` has been read.
    """

    records: list[str]
    place: Any
    done: int


@dataclass(frozen=True)
class Stream:
    """Records of one source, as often as they are asked for.

    Attributes:
        source: what was given.
        total: bytes, or records where bytes are not known; None where neither is.
        in_bytes: whether it is bytes.
        identify: asks for what tells these contents from others, as text; of a file that takes
            about a second a gigabyte the first time. Raises WorkbenchError if a text file is no
            UTF-8 text, with the line.
        pieces: the pieces from a place on, None for the beginning. Raises WorkbenchError if the
            source cannot be read on.
    """

    source: str
    total: int | None
    in_bytes: bool
    identify: Callable[[Progress | None], str]
    pieces: Callable[[Any], Iterator[Piece]]


def is_large(source: str) -> bool:
    """Whether a source may be too large to be read at once: a large file, a .gz, a hub id."""
    path = Path(source).expanduser()
    if path.is_file():
        return path.stat().st_size >= LARGE or is_gzip(path)
    return sources.is_hub_id(source)


def read(source: str, column: str | None, expected: Expected) -> list[str]:
    """All records at once, as `sources.read`; of a packed file, too.

    Raises:
        WorkbenchError: as `open_stream`.
    """
    path = Path(source).expanduser()
    if not (path.is_file() and is_gzip(path)):
        return sources.read(source, column, expected)
    sources.check_text(path)
    pieces = open_stream(source, column, expected).pieces(None)
    return [record for piece in pieces for record in piece.records]


def open_stream(source: str, column: str | None, expected: Expected) -> Stream:
    """The records that `sources.read` would give, as a stream.

    Args:
        source: a file (FASTA, text, either as .gz; CSV, TSV, Parquet), or an id on the hub.
        column: of a table; None looks for the usual names.
        expected: what records are asked for.

    Raises:
        WorkbenchError: if the source is missing, unreadable or has no such column.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        if sources.is_hub_id(source):
            return _open_hub(source, column, expected)
        raise sources.missing(source, expected)
    inner = Path(path.stem) if is_gzip(path) else path
    suffix = inner.suffix.lower()
    if suffix == ".parquet":
        return _open_parquet(path, column, expected)
    first = _first_line(path)
    if not first:
        raise sources.empty(source, expected)
    if suffix in (".csv", ".tsv"):
        return _open_csv(path, "\t" if suffix == ".tsv" else ",", column, expected)
    begins = first.startswith(">")
    if suffix in sources.FASTA and expected.fasta:
        if not begins:
            raise sources.not_fasta(path)
        return _file(path, lambda place: _fasta_pieces(path, place))
    if begins and expected.fasta:
        return _file(path, lambda place: _fasta_pieces(path, place))
    return _file(path, lambda place: _line_pieces(path, place))


# ---------------------------------------------------------------------- what a file holds


def _file(path: Path, pieces: Callable[[Any], Iterator[Piece]], *, text: bool = True) -> Stream:
    total = path.stat().st_size
    return Stream(str(path), total, True, lambda progress: identity(path, text, progress), pieces)


# ---------------------------------------------------------------------- text and FASTA


def _blocks(path: Path, start: int, ends: tuple[bytes, ...]) -> Iterator[tuple[str, int, int]]:
    """Text up to the last end of a record in each read, the place behind it, and bytes read.

    Args:
        path: of the file.
        start: byte to begin at, the first of a record.
        ends: where records end; of each, all but the first byte belongs to the next record.
    """
    with opened(path) as (file, raw):
        file.seek(start)
        carried = b""
        place = start
        while chunk := file.read(PIECE):
            buffer = carried + chunk
            cut = max(buffer.rfind(end) for end in ends) + 1
            if not cut and len(buffer) > 4 * LONGEST:
                # Four bytes a character at most.
                raise _too_long(path, place)
            if cut:
                text = _decoded(path, buffer[:cut], place)
                place += cut
                yield text, place, raw.tell()
            carried = buffer[cut:]
        if carried:
            yield _decoded(path, carried, place), place + len(carried), raw.tell()


def _decoded(path: Path, block: bytes, place: int) -> str:
    if place == 0:
        block = block.removeprefix(_BOM)
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise changed(path) from error  # it was text when it was surveyed


def _too_long(path: Path, place: int, lines: int = 0) -> WorkbenchError:
    """What is said of a record so many lines behind a place."""
    line = line_and_column(path, place)[0] + lines
    return WorkbenchError(
        f"{path}: the record that begins in line {line} has more than {LONGEST:,} characters; "
        f"{_TOO_LONG}"
    )


def _line_pieces(path: Path, place: int | None) -> Iterator[Piece]:
    start = place or 0
    for text, behind, done in _blocks(path, start, (b"\n", b"\r")):
        # What opening a file as text calls a line; str.splitlines knows more ends than these.
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for number, line in enumerate(lines):
            if len(line) > LONGEST:
                raise _too_long(path, start, number)
        records = [line for line in lines if line.strip()]
        yield Piece(records, behind, done)
        start = behind


def _fasta_pieces(path: Path, place: int | None) -> Iterator[Piece]:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    start = place or 0
    for text, behind, done in _blocks(path, start, (b"\n>", b"\r>")):
        records = [sequence for _, sequence in SimpleFastaParser(io.StringIO(text, newline=None))]
        for number, record in enumerate(records):
            if len(record) > LONGEST:
                headers = (i for i, line in enumerate(text.split("\n")) if line.startswith(">"))
                raise _too_long(path, start, next(islice(headers, number, None), 0))
        yield Piece(records, behind, done)
        start = behind


def _first_line(path: Path) -> str:
    """The first line with something in it, or the beginning of a long one."""
    with opened(path) as (file, _):
        first = file.read(len(_BOM)).removeprefix(_BOM)
        while line := first + file.readline(LONGEST):
            if line.strip():
                return line.decode("utf-8", errors="replace").lstrip("\r\n")
            first = b""
    return ""


# ---------------------------------------------------------------------- tables


def _open_csv(path: Path, delimiter: str, column: str | None, expected: Expected) -> Stream:
    header = next((row for row, _ in _csv_rows(path, delimiter) if row), [])
    name = sources.pick_column(header, column, str(path), expected)
    index = header.index(name)

    def pieces(place: int | None) -> Iterator[Piece]:
        rows = ((row, done) for row, done in _csv_rows(path, delimiter) if row)
        next(rows, None)
        records: list[str] = []
        held, done, number = 0, 0, 0
        for number, (row, done) in enumerate(rows, start=1):
            # A quoted field may hold line ends, so rows are counted and not bytes.
            if number <= (place or 0) or len(row) <= index:
                continue
            records.append(row[index])
            held += len(row[index])
            if held + len(records) * 8 >= PIECE:
                yield Piece(records, number, done)
                records, held = [], 0
        if records:
            yield Piece(records, number, done)

    return _file(path, pieces)


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[list[str], int]]:
    """Rows of fields, and bytes read so far."""
    done = 0

    def lines() -> Iterator[str]:
        nonlocal done
        for text, _, read in _blocks(path, 0, (b"\n", b"\r")):
            done = read
            yield from io.StringIO(text, newline="")

    reader = csv.reader(lines(), delimiter=delimiter)
    while True:
        # A setting of the whole process: as it was for everybody else.
        before = csv.field_size_limit(LONGEST)
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise WorkbenchError(
                f"cannot read {path}, line {reader.line_num}: {error} (a field holds at most "
                f"{LONGEST:,} characters; is a quotation mark left open?)"
            ) from error
        finally:
            csv.field_size_limit(before)
        yield row, done


def _open_parquet(path: Path, column: str | None, expected: Expected) -> Stream:
    import pyarrow as pa
    from pyarrow import parquet

    def reader() -> parquet.ParquetFile:
        try:
            # Read page by page: by default a whole column of a row group is held.
            return parquet.ParquetFile(path, buffer_size=PIECE, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise WorkbenchError(f"cannot read {path}: {first_line(error)}") from error

    with reader() as file:
        name = sources.pick_column(file.schema_arrow.names, column, str(path), expected)
        rows = max(1, file.metadata.num_rows)
    size = path.stat().st_size

    def pieces(place: list[int] | None) -> Iterator[Piece]:
        group, skipped = place or (0, 0)
        with reader() as file:
            seen = sum(file.metadata.row_group(g).num_rows for g in range(group))
            for number in range(group, file.metadata.num_row_groups):
                read = 0
                batches = file.iter_batches(ROWS, row_groups=[number], columns=[name])
                while True:
                    try:
                        batch = next(batches, None)
                    except (pa.ArrowException, OSError) as error:
                        raise WorkbenchError(f"cannot read {path}: {first_line(error)}") from error
                    if batch is None:
                        break
                    read += batch.num_rows
                    if number == group and read <= skipped:
                        continue
                    records = _texts(batch.column(0).to_pylist(), str(path))
                    yield Piece(records, [number, read], (seen + read) * size // rows)
                seen += read

    return _file(path, pieces, text=False)


def _texts(values: list[Any], source: str) -> list[str]:
    """Values of a column as text, without those that are missing."""
    records = [str(value) for value in values if value is not None]
    for record in records:
        if len(record) > LONGEST:
            raise WorkbenchError(
                f"{source}: the record that begins {record[:40]!r} has more than {LONGEST:,} "
                f"characters; {_TOO_LONG}"
            )
    return records


def _open_hub(name: str, column: str | None, expected: Expected) -> Stream:
    """A data set of the hub, read over the network as it is needed, of one revision throughout.

    With the hub's offline switch (``HF_HUB_OFFLINE=1``) the copy in the cache of `datasets`, if it
    is of the revision asked for.
    """
    import huggingface_hub
    from datasets import load_dataset

    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        if offline:
            kept = load_dataset(hub.name(name), split="train")
            _check_revision(kept, name)
            revision, table = kept._fingerprint, kept.to_iterable_dataset()
        else:
            at = hub.locate(name, "dataset")
            revision = at.commit
            table = load_dataset(at.name, split="train", streaming=True, revision=revision)
        names = table.column_names or list(next(iter(table)))
    except WorkbenchError:
        raise
    except Exception as error:
        # The hub client raises a dozen types for "no network", "no such name" and "gated".
        raise sources.no_hub(name, error) from error
    chosen = sources.pick_column(names, column, name, expected)
    splits = getattr(table.info, "splits", None) or {}
    total = splits["train"].num_examples if "train" in splits else None

    def pieces(place: Any) -> Iterator[Piece]:
        count, state = place or (0, None)
        wanted = table.select_columns([chosen])
        if state:
            wanted.load_state_dict(state)
        batches = wanted.iter(ROWS)
        while True:
            try:
                batch = next(batches, None)
            except Exception as error:
                raise WorkbenchError(
                    f"the data set {name} broke off after {count:,} records ({first_line(error)}); "
                    "what was read is kept: give the command again"
                ) from error
            if batch is None:
                return
            count += len(batch[chosen])
            yield Piece(_texts(batch[chosen], name), [count, wanted.state_dict()], count)

    return Stream(name, total, False, lambda _: f"{name}@{revision}", pieces)


def _check_revision(kept: Dataset, source: str) -> None:
    """Raise WorkbenchError if a kept copy is not of the commit that a source names.

    Without network `datasets` gives the copy that it made last, whatever revision is asked for.
    The commit is the name of the directory that holds the copy.
    """
    repository, revision = hub.split(source)
    if revision == hub.MAIN:
        return
    wanted = hub.cached_commit(repository, revision, "dataset") or revision
    held = {Path(file["filename"]).parent.name for file in kept.cache_files}
    if held != {wanted}:
        found = " and ".join(sorted(held)) or "no known commit"
        raise WorkbenchError(
            f"the copy of {repository} on this disk is of {found} and not of {revision}; load "
            f"{source} once with network, or give a file with --data FILE"
        )
