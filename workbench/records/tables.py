"""Tables with named columns: CSV and TSV row by row with their lines, Parquet; and what is in them.

Every cell is text, whatever it looks like: NA is a word, not a missing number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.records.file_identity import is_gzip, opened
from workbench.records.sources import check_text

#: Endings of tables.
TABLES = (".csv", ".tsv", ".parquet")
#: Usual names of the column of classes in a table of texts, the likeliest first.
LABEL_COLUMNS = ("label", "class", "category", "target", "labels")
#: Columns by which a table is known as one of peptide–HLA pairs.
PAIR_COLUMNS = {"peptide", "allele"}
#: Lines that `named_lines` names before it only counts.
NAMED_LINES = 5
#: A row: the line it ends in (of Parquet its number, from 1), and its cells by column.
Row = tuple[int, dict[str, str]]


def label_column(source: str, column: str | None) -> str | None:
    """The column of classes, where a source is a table of texts; None where it holds pairs.

    Nothing is complained of here: what cannot be read is said by who reads it.

    Args:
        source: as given with ``--data``.
        column: that holds the texts; who names one has a table of texts.
    """
    path = Path(source).expanduser()
    suffix = _suffix(path)
    found = names(path) if suffix in TABLES and path.is_file() else []
    if column is None and suffix != ".parquet" and (not found or PAIR_COLUMNS & set(found)):
        return None
    return next((name for name in LABEL_COLUMNS if name in found), LABEL_COLUMNS[0])


def names(path: Path) -> list[str]:
    """Columns of a table in lower case; empty if it cannot be read or has none."""
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import parquet

            return [name.strip().lower() for name in parquet.read_schema(path).names]
        with _opened(path) as file:
            reader = csv.reader(file, delimiter=_separator(path), strict=True)
            return _header(reader)
    except (WorkbenchError, OSError, ValueError, csv.Error):
        return []


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """All rows of a table that are not blank.

    Args:
        path: of a file that exists; Parquet by its ending, TSV likewise, CSV otherwise; these two
            may be packed, as ``.gz``.
        columns: that are wanted, in lower case; others are left out.

    Raises:
        WorkbenchError: if it is empty, no table, or lacks a column.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet(path, columns)
    check_text(path)
    with _opened(path) as file:
        # Strictly: a quote that is never closed would swallow all rows after it.
        reader = csv.reader(file, delimiter=_separator(path), strict=True)
        try:
            places = _places(_header(reader), path, columns)
            return [
                (reader.line_num, {n: c[i].strip() if i < len(c) else "" for n, i in places})
                for c in reader
                if any(cell.strip() for cell in c)
            ]
        except csv.Error as error:
            raise WorkbenchError(
                f"{path}, up to line {reader.line_num}: {error}; expected every quote to be closed "
                "in its cell"
            ) from error


def _header(reader) -> list[str]:
    filled = (cells for cells in reader if any(cell.strip() for cell in cells))
    return [name.strip().lower() for name in next(filled, [])]


def _places(header: list[str], path: Path, columns: Sequence[str]) -> list[tuple[str, int]]:
    wanted = ", ".join(columns)
    if not any(header):
        raise WorkbenchError(f"{path} is empty; expected the columns {wanted}")
    lacking = [name for name in columns if name not in header]
    if lacking:
        raise WorkbenchError(
            f"{path} has no column {' and no column '.join(lacking)} (it has "
            f"{', '.join(header)}); expected {wanted}"
        )
    return [(name, header.index(name)) for name in columns]


def _parquet(path: Path, columns: Sequence[str]) -> list[Row]:
    from pyarrow import ArrowException, parquet

    try:
        own = parquet.read_schema(path).names
        places = _places([name.strip().lower() for name in own], path, columns)
        table = parquet.read_table(path, columns=[own[i] for _, i in places])
    except (OSError, ArrowException) as error:
        raise WorkbenchError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    cells = zip(*(table.column(own[i]).to_pylist() for _, i in places), strict=True)
    rows = [dict(zip(columns, map(_text, row), strict=True)) for row in cells]
    return [(number, row) for number, row in enumerate(rows, start=1) if any(row.values())]


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def named_lines(numbers: Sequence[int]) -> str:
    """Lines in words: ``line 3``, or ``lines 3, 5, 8, 9, 12 and 1,204 more``."""
    first = sorted(numbers)[:NAMED_LINES]
    more = f" and {len(numbers) - len(first):,} more" if len(numbers) > len(first) else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, first))}{more}"


def left_out(source: object, rows: int, reasons: Mapping[str, Sequence[int]]) -> list[str]:
    """A note for each reason why lines of a table were left out."""
    return [
        f"{source}: {len(lines):,} of {rows:,} rows left out: {reason} ({named_lines(lines)})"
        for reason, lines in sorted(reasons.items())
    ]


def _separator(path: Path) -> str:
    return "\t" if _suffix(path) == ".tsv" else ","


def _suffix(path: Path) -> str:
    """What a file is, packed or not."""
    return Path(path.stem if is_gzip(path) else path.name).suffix.lower()


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOWrapper]:
    with opened(path) as (file, _), io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        yield text
