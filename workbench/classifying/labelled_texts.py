"""Texts with a class each: from a table of a user to rows for a classifier.

    table → `load` → `LabelledTexts` → `tokenise` → rows with labels → `corpora.make_batches`

A table has a column of texts and one of classes. Nothing is dropped silently: every row that cannot
be used is counted, by reason, with the lines it stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench import corpora
from workbench.corpora import Rows
from workbench.errors import WorkbenchError
from workbench.foreign import dialects
from workbench.progress import Progress
from workbench.records import tables

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Usual names of the column of texts, the likeliest first.
TEXT_COLUMNS = ("text", "sequence", "sentence", "seq", "protein", "protein_sequence", "content")
#: Classes that a message names before it only counts.
NAMED_CLASSES = 12


class Example(NamedTuple):
    """A text, its class as the table writes it, and its line."""

    text: str
    label: str
    line: int


@dataclass(frozen=True)
class LabelledTexts:
    """Texts to learn from and texts to be judged by; no text is in both.

    Attributes:
        source: what was given.
        train: to learn from.
        validation: held out: one text in ten, by a hash of its letters.
        notes: sentences about what was left out, for the user.
        has_oracle: the truth about a table is not known.
    """

    source: str
    train: list[Example]
    validation: list[Example]
    notes: tuple[str, ...] = ()
    has_oracle: bool = False


def load(
    source: str, label: str, *, column: str | None = None, most: int | None = None
) -> LabelledTexts:
    """Read a table and hold a part of it out.

    Args:
        source: CSV, TSV or Parquet file.
        label: column of the classes.
        column: of the texts; None looks for the usual names.
        most: rows to take; None takes all.

    Raises:
        WorkbenchError: if it is missing, unreadable, lacks a column, has too few usable rows, or
            rows of one class only.
    """
    examples, notes = read(source, label, column)
    examples = examples[:most]
    apart = [e for e in examples if corpora.held_out(e.text)]
    kept = [e for e in examples if not corpora.held_out(e.text)]
    if not apart or not kept:
        raise WorkbenchError(
            f"{source} holds {len(examples)} usable rows, too few to hold a tenth of the texts "
            "out; expected some dozens at least"
        )
    for name, part in (("to learn from", kept), ("held out", apart)):
        if len({e.label for e in part}) < 2:
            raise WorkbenchError(
                f"all {len(part)} rows of {source} {name} have the class {part[0].label!r}; "
                "expected two classes at least"
            )
    return LabelledTexts(source, kept, apart, tuple(notes))


def read(source: str, label: str, column: str | None = None) -> tuple[list[Example], list[str]]:
    """The usable rows of a table, in its order, and notes about the others.

    Left out are rows without a text or without a class, a text that stands there again with the
    same class, and all rows of one that stands there with two.

    Raises:
        WorkbenchError: as `load`, and if no row is usable.
    """
    path = Path(source).expanduser()
    _check_file(path, source)
    names = text_column(path, column), label.strip().lower()
    if names[0] == names[1]:
        raise WorkbenchError(
            f"texts and classes are both to stand in the column {names[0]} of {source}; name one "
            "with --column and the other with --label"
        )
    rows = tables.read(path, names)
    left_out: dict[str, list[int]] = {}
    found: dict[str, Example] = {}
    contradicted: dict[str, int] = {}
    for line, cells in rows:
        example = Example(cells[names[0]], cells[names[1]], line)
        known = found.get(example.text)
        if not example.text:
            left_out.setdefault("no text", []).append(line)
        elif not example.label:
            left_out.setdefault("no class", []).append(line)
        elif known is None:
            found[example.text] = example
        elif known.label == example.label:
            left_out.setdefault("the same text again", []).append(line)
        else:
            contradicted[example.text] = known.line
            left_out.setdefault("the same text with two classes", []).append(line)
    for text, line in contradicted.items():
        left_out["the same text with two classes"].append(line)
        del found[text]
    notes = tables.left_out(source, len(rows), left_out)
    if not found:
        raise WorkbenchError(
            f"{source} holds no usable row"
            + (f" in {len(rows):,} rows; the first fault: {notes[0]}" if notes else "")
            + f"; expected a text in the column {names[0]} and its class in {names[1]}"
        )
    return list(found.values()), notes


def text_column(path: Path, column: str | None) -> str:
    """The column of texts that is asked for, or that has one of the usual names; in lower case.

    Raises:
        WorkbenchError: if no column has one of these.
    """
    if column is not None:
        return column.strip().lower()
    own = tables.names(path)
    found = next((name for name in TEXT_COLUMNS if name in own), None)
    if own and found is None:
        raise WorkbenchError(
            f"{path} has the columns {', '.join(own)}; expected one of texts called "
            f"{' or '.join(TEXT_COLUMNS)} (or name it with --column, and that of classes with "
            "--label), or for pairs of peptide and HLA peptide, allele and label"
        )
    return found or TEXT_COLUMNS[0]


def class_numbers(examples: Sequence[Example], classes: Sequence[str], source: str) -> np.ndarray:
    """Labels of a table as a teacher numbers its classes, ``[n]``.

    A label is the name of a class (``id2label`` of the teacher's configuration), letter by letter;
    or, where a table has whole numbers only and they are no names, the number of one, from 0.

    Args:
        examples: of the table.
        classes: the teacher's, in its order.
        source: of the examples, for the message.

    Raises:
        WorkbenchError: naming the first label that is none of the teacher's.
    """
    names = {name: number for number, name in enumerate(classes)}
    if not all(e.label in names for e in examples):
        numbers = {e.label: _whole(e.label) for e in examples}
        if all(number is not None for number in numbers.values()):
            names = {text: n for text, n in numbers.items() if 0 <= n < len(classes)}
    for example in examples:
        if example.label not in names:
            shown = ", ".join(map(repr, classes[:NAMED_CLASSES]))
            more = f" and {len(classes) - NAMED_CLASSES} more" * (len(classes) > NAMED_CLASSES)
            raise WorkbenchError(
                f"{source}, line {example.line}: the class {example.label!r} is none of the "
                f"teacher's ({shown}{more}); expected these names, or their numbers from 0 to "
                f"{len(classes) - 1}"
            )
    return np.array([names[e.label] for e in examples], dtype=np.int64)


def tokenise(
    examples: Sequence[Example],
    classes: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    source: str,
    progress: Progress | None = None,
) -> Rows:
    """Texts as rows of tokens, with the marks that their tokenizer puts around a text.

    A text that is longer than the model reads is cut off at its end, as `pipeline` does with
    ``truncation=True``. Where a token is a residue, a text without spaces is written as the
    tokenizer needs it.

    Args:
        examples: of a table.
        classes: names of the teacher's.
        tokenizer: the teacher's.
        positions: most tokens in a row.
        source: of the examples, for messages.
        progress: told how many texts were cut off.

    Raises:
        WorkbenchError: if a label is none of the classes.
    """
    labels = class_numbers(examples, classes, source)
    texts = written([e.text for e in examples], tokenizer)
    cut = tokenizer(texts, truncation=True, max_length=positions)["input_ids"]
    # Only a row that is full may have been cut; whole ones second, for a fast tokenizer remembers
    # to cut, and quietly, for it would warn of them.
    full = [number for number, ids in enumerate(cut) if len(ids) == positions]
    whole = tokenizer([texts[n] for n in full], verbose=False)["input_ids"] if full else []
    long = [examples[n].line for n, ids in zip(full, whole, strict=True) if len(ids) > positions]
    if long and progress is not None:
        progress.note(
            f"note: {source}: {len(long):,} of {len(texts):,} texts are longer than "
            f"{positions:,} tokens and are cut off there ({tables.named_lines(long)})"
        )
    rows = [np.array(ids, dtype=np.int64) for ids in cut]
    return Rows(rows, sum(map(len, rows)), labels)


def written(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Texts as their tokenizer reads them; see `dialects.write_residues`."""
    if not dialects.reads_residues(tokenizer):
        return list(texts)
    return [t if " " in t else dialects.write_residues(t, tokenizer) for t in texts]


def _check_file(path: Path, source: str) -> None:
    expected = "expected a CSV, TSV or Parquet file with a column of texts and one of classes"
    if not path.exists():
        raise WorkbenchError(f"there is no file {source}; {expected}")
    if path.is_dir():
        raise WorkbenchError(f"{source} is a directory; {expected}")


def _whole(label: str) -> int | None:
    """A label as a whole number, which a spreadsheet may write as 1.0; None if it is none."""
    try:
        number = float(label)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
