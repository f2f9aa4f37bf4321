"""Raw records from a file or the hub: FASTA, CSV, text, Parquet, a hub data set.

What a record means, and what is done with it, is decided by who asks.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError, first_line
from workbench.records import hub
from workbench.records.file_identity import opened

if TYPE_CHECKING:
    from datasets import Dataset

#: Endings of FASTA files.
FASTA = {".fasta", ".fa", ".faa", ".fas"}


@dataclass(frozen=True)
class Expected:
    """What kind of records is asked for, and how messages speak of it.

    Attributes:
        what: the records, in words.
        world: the built-in source.
        hub_example: a data set on the hub.
        columns: usual names of their column in a table, the likeliest first.
        fasta: whether FASTA is read.
    """

    what: str
    world: str
    hub_example: str
    columns: tuple[str, ...]
    fasta: bool = False

    @property
    def formats(self) -> str:
        """Formats of files, in words."""
        return "FASTA, CSV, text or Parquet" if self.fasta else "text, CSV or Parquet"


def read(source: str, column: str | None, expected: Expected) -> list[str]:
    """Raw records of a file or a hub data set, one a sequence or a line.

    Args:
        source: path or id.
        column: which column of a table; None looks for the usual names.
        expected: what records are asked for.

    Raises:
        WorkbenchError: if the source is missing, empty or unreadable, or has no such column.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if is_hub_id(source):
            return _read_hub(source, column, expected)
        raise missing(source, expected)
    if path.is_dir():
        raise WorkbenchError(f"{source} is a directory; expected a {expected.formats} file")
    if path.stat().st_size == 0:
        raise empty(source, expected)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_table(path, column, expected)
    check_text(path)
    if suffix in FASTA and expected.fasta:
        return _read_fasta(path)
    if suffix in (".csv", ".tsv"):
        return _read_table(path, column, expected)
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
    if not first.strip():
        return []
    is_fasta = expected.fasta and first.startswith(">")
    return _read_fasta(path) if is_fasta else _read_lines(path)


def is_hub_id(source: str) -> bool:
    """Whether a source is no file and reads as an id on the hub."""
    path = Path(source).expanduser()
    if path.exists() or hub.split(source) is None:
        return False
    return path.suffix.lower() not in FASTA | {".csv", ".tsv", ".txt", ".parquet", ".gz"}


def missing(source: str, expected: Expected) -> WorkbenchError:
    """What is said of a source that is no file and no id."""
    return WorkbenchError(
        f"there is no file {source}; expected a {expected.formats} file, "
        f"{expected.world}, or an id on the hub such as {expected.hub_example}"
    )


def empty(source: str, expected: Expected) -> WorkbenchError:
    """What is said of a file that holds nothing."""
    return WorkbenchError(f"{source} is empty; expected {expected.what}")


def not_fasta(path: Path) -> WorkbenchError:
    """What is said of a file that is FASTA by its ending only."""
    return WorkbenchError(
        f"{path} is not FASTA: its first line does not begin with '>'; for one sequence "
        "a line use the ending .txt, for a table .csv"
    )


def no_hub(name: str, error: Exception) -> WorkbenchError:
    """What is said when the hub does not give a data set."""
    return WorkbenchError(
        f"cannot load the data set {name} from the hub ({first_line(error)}); without network, "
        "give a file with --data FILE, or leave --data and --scale away to use the built-in world"
    )


def is_fasta(source: str) -> bool:
    """Whether a file's name says that it holds FASTA."""
    name = Path(source.lower().removesuffix(".gz"))
    return name.suffix in FASTA


def check_text(path: Path) -> None:
    """Find the first line that is not UTF-8 text, so that the message can name it."""
    with opened(path) as (file, _):
        for number, line in enumerate(file, start=1):
            if b"\0" in line:
                raise WorkbenchError(
                    f"{path} is a binary file (a zero byte in line {number}); "
                    "expected text: FASTA, CSV or one record a line"
                )
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise WorkbenchError(
                    f"{path}, line {number}, is not UTF-8 text (byte 0x{line[error.start]:02x} at "
                    f"column {error.start + 1}); save the file as UTF-8 throughout"
                ) from error


def _read_fasta(path: Path) -> list[str]:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
        if not first.startswith(">"):
            raise not_fasta(path)
        file.seek(0)
        return [sequence for _, sequence in SimpleFastaParser(file)]


def _read_lines(path: Path) -> list[str]:
    from datasets import Dataset

    table = _quiet(Dataset.from_text, path, encoding="utf-8-sig")
    return [line for line in table["text"][:] if line.strip()]


def _read_table(path: Path, column: str | None, expected: Expected) -> list[str]:
    from datasets import Dataset, Features, Value

    if path.suffix.lower() == ".parquet":
        return _column(_quiet(Dataset.from_parquet, path), column, str(path), expected)
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = (line for line in file if line.strip())
        header = next(csv.reader([next(lines, "")], delimiter=_delimiter(path)), [])
        is_empty = next(lines, None) is None
    if not header:
        return []
    name = pick_column(header, column, str(path), expected)
    if is_empty:
        return []
    # As text, whatever it looks like: NA and NAN are proteins, not missing numbers.
    table = _quiet(
        Dataset.from_csv, path, sep=_delimiter(path), usecols=[name], index_col=False,
        features=Features({name: Value("string")}), keep_default_na=False, encoding="utf-8-sig",
    )  # fmt: skip
    return _column(table, name, str(path), expected)


def _read_hub(name: str, column: str | None, expected: Expected) -> list[str]:
    from datasets import load_dataset

    at = hub.locate(name, "dataset")
    try:
        table = load_dataset(at.name, split="train", revision=at.commit)
    except Exception as error:
        # The hub client raises a dozen types for "no network", "no such name" and "gated".
        raise no_hub(name, error) from error
    return _column(table, column, name, expected)


def _quiet(read: Callable[..., Dataset], path: Path, **options) -> Dataset:
    """Run a reader of `datasets` without its bars and its log; its errors as one line.

    Its cache is thrown away: it knows a file by name and time, and would give old
    contents for a file that was changed and kept its time.
    """
    import datasets

    bars = datasets.is_progress_bar_enabled()
    verbosity = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as cache:
            return read(str(path), keep_in_memory=True, cache_dir=cache, **options)
    except Exception as error:
        reason = first_line(error.__cause__ or error)
        raise WorkbenchError(f"cannot read {path}: {reason}") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _column(table: Dataset, column: str | None, source: str, expected: Expected) -> list[str]:
    name = pick_column(table.column_names, column, source, expected)
    return [str(value) for value in table[name][:] if value is not None]


def pick_column(names: list[str], column: str | None, source: str, expected: Expected) -> str:
    """The column that is asked for, or that has one of the usual names.

    Raises:
        WorkbenchError: if there is none.
    """
    wanted = (column,) if column else expected.columns
    for name in wanted:
        for have in names:
            if have.strip().lower() == name.strip().lower():
                return have
    raise WorkbenchError(
        f"{source} has the columns {', '.join(names)}; expected one called "
        f"{' or '.join(wanted)} (or name it with --column)"
    )
