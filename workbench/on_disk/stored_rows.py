"""Rows and batches that stay on disk and are read as they are asked for.

Read with positioned reads and not through a map of the file: pages of a mapped file count as the
process's own memory while they are in it, and a corpus of which every row is read in random order
would soon be there whole. The system's cache of files does the same work beside the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from workbench import corpora, storage
from workbench.corpora import HELD_OUT, Batch, Rows
from workbench.errors import WorkbenchError
from workbench.on_disk import token_files

#: Most tokens of a held-out set that is read into memory.
HELD_OUT_TOKENS = 2**23


class Numbers:
    """A file of numbers of one type, read from any place by any thread.

    Args:
        path: of the file.
        type: of its numbers.
    """

    def __init__(self, path: Path, type: np.dtype) -> None:
        self.path, self.type = path, type
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __reduce__(self):
        return Numbers, (self.path, self.type)

    def __len__(self) -> int:
        return os.fstat(self._file).st_size // self.type.itemsize

    def read(self, first: int, last: int) -> np.ndarray:
        """Numbers from the first place up to the last.

        Raises:
            WorkbenchError: if the file is shorter, or cannot be read.
        """
        size = self.type.itemsize
        content, wanted = b"", (last - first) * size
        try:
            while len(content) < wanted:
                some = os.pread(self._file, wanted - len(content), first * size + len(content))
                if not some:
                    raise WorkbenchError(
                        f"{self.path} is shorter than it was when it was written; remove "
                        f"{self.path.parent} and give the command again"
                    )
                content += some
        except OSError as error:
            raise WorkbenchError(f"cannot read {self.path}: {error.strerror}") from error
        return np.frombuffer(content, self.type)


class StoredTokens(Sequence[np.ndarray]):
    """Rows of tokens in the files of `token_files.tokenise`, each an array of int64.

    Args:
        directory: of the files.
        side: "train" or "held_out".
        first, last: the rows; None for the last of all.
    """

    def __init__(self, directory: Path, side: str, first: int = 0, last: int | None = None) -> None:
        self.directory, self.side, self.first = directory, side, first
        stored = np.dtype(token_files.about(directory)["type"])
        self._tokens = Numbers(directory / f"{side}.tokens", stored)
        self._ends = Numbers(directory / f"{side}.ends", token_files.ENDS)
        self.last = len(self._ends) if last is None else last

    def __len__(self) -> int:
        return self.last - self.first

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> StoredTokens: ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"rows of a file are taken one after the other, not by {step}")
            last = max(first, last)
            return StoredTokens(self.directory, self.side, self.first + first, self.first + last)
        row = range(len(self))[index]
        begin, end = self._bounds(row, row + 1)
        return self._tokens.read(int(begin), int(end)).astype(np.int64)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def lengths(self, first: int, last: int) -> np.ndarray:
        """Tokens of the rows from the first up to the last, ``[last − first]``."""
        return np.diff(self._bounds(first, last))

    def total(self) -> int:
        """Tokens of all rows."""
        begin, end = self._bounds(0, len(self))[[0, -1]]
        return int(end - begin)

    def _bounds(self, first: int, last: int) -> np.ndarray:
        """Where these rows begin, and where the last ends, in the file of tokens, int64."""
        first, last = self.first + first, self.first + last
        if first:
            return self._ends.read(first - 1, last).astype(np.int64)
        return np.concatenate([[0], self._ends.read(0, last)]).astype(np.int64)


@dataclass(frozen=True)
class StoredRows(Rows):
    """Rows whose tokens, and whose batches, stay on disk."""

    tokens: StoredTokens

    def batches(self, batch_size: int, pad: int) -> StoredBatches:
        """See `corpora.make_batches`; the same batches, made when they are asked for."""
        return StoredBatches(self.tokens, batch_size, pad)


class StoredBatches(Sequence[Batch]):
    """Batches of stored rows, made when they are asked for.

    Their order is written beside the rows once: for each place its row, and for each batch the
    tokens before it.

    Args:
        tokens: the rows.
        batch_size: rows a batch; the last may have fewer.
        pad: token id to fill up with.

    Raises:
        WorkbenchError: if the order cannot be written.
    """

    def __init__(self, tokens: StoredTokens, batch_size: int, pad: int) -> None:
        self.rows, self.batch_size, self.pad = tokens, batch_size, pad
        stem = f"{tokens.side}.{tokens.first}-{tokens.last}.by-{batch_size}"
        order, before = (tokens.directory / f"{stem}.{name}" for name in ("order", "before"))
        stored = token_files.token_type(max(1, len(tokens)))
        if not before.exists():
            _write_order(tokens, batch_size, stored, order, before)
        self._order = Numbers(order, stored)
        self._before = Numbers(before, token_files.ENDS)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    @property
    def total_tokens(self) -> int:
        """Tokens of all batches."""
        return self.rows.total()

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        first = number * self.batch_size
        places = self._order.read(first, min(first + self.batch_size, len(self.rows)))
        places = places.astype(np.int64)
        before = int(self._before.read(number, number + 1)[0])
        members = [self.rows[int(place)] for place in places]
        return corpora.padded(members, self.pad, number, before, places)

    def __iter__(self) -> Iterator[Batch]:
        return (self[number] for number in range(len(self)))


def _write_order(
    tokens: StoredTokens, batch_size: int, stored: np.dtype, order: Path, before: Path
) -> None:
    """Write the order of rows and the tokens before each batch; whole, or not at all."""
    parts = [path.with_name(f"{path.name}.part-{os.getpid()}") for path in (order, before)]
    seen = 0
    try:
        with parts[0].open("wb") as rows, parts[1].open("wb") as counts:
            for part in corpora.batch_order(len(tokens), batch_size, tokens.lengths):
                rows.write(part.astype(stored).tobytes())
                # Of rows that lie together, so that a part's table of lengths is one read.
                low, high = int(part.min()), int(part.max()) + 1
                lengths = tokens.lengths(low, high)[part - low]
                sums = np.add.reduceat(lengths, np.arange(0, len(part), batch_size))
                counts.write((seen + np.cumsum(sums) - sums).astype(token_files.ENDS).tobytes())
                seen += int(sums.sum())
            for file in (rows, counts):
                file.flush()
                os.fsync(file.fileno())
        os.replace(parts[0], order)
        os.replace(parts[1], before)
    except OSError as error:
        raise storage.disk_error(error, order, "the order of the batches") from error
    finally:
        # Whatever went wrong, Ctrl-C included, no half of a file is left; what is whole has moved.
        for path in parts:
            with suppress(OSError):
                path.unlink()


def open_rows(directory: Path, most_held_out: int) -> tuple[Rows, Rows]:
    """Training rows, and held-out rows in memory, of a directory of `token_files.tokenise`.

    Args:
        directory: of the files.
        most_held_out: held-out records at most; they are taken evenly from the whole source, and
            fewer of them where they are long (`HELD_OUT_TOKENS`).

    Raises:
        WorkbenchError: if the files are damaged, or there is only one row.
    """
    found = token_files.about(directory)
    totals = found["totals"]
    learned, judged = (StoredTokens(directory, side) for side in token_files.SIDES)
    if len(learned) and len(judged):
        train = StoredRows(learned, totals["train"]["units"])
        return train, _some_records(directory, judged, totals["held_out"], most_held_out)
    # All records on one side, as where one line is repeated: rows are held out, as in memory.
    side = "train" if len(learned) else "held_out"
    tokens = learned if len(learned) else judged
    held = max(1, len(tokens) // HELD_OUT)
    if len(tokens) <= held:
        raise WorkbenchError(
            f"{found['source']} makes one block of {found['block']} tokens only; expected at least "
            "two, one to train on and one to hold out"
        )
    units, context = totals[side]["units"], found["context"]
    train, last = tokens[: len(tokens) - held], tokens[len(tokens) - held :]
    scored = tokens.total() - context * len(tokens)
    residues = round(units * (last.total() - context * held) / scored)
    count = _count(held, last.total(), most_held_out)
    rows = [last[int(i)] for i in _spread(held, count)]
    shown = sum(len(row) - context for row in rows)
    judged_units = residues if count == held else round(units * shown / scored)
    return StoredRows(train, units - residues), Rows(rows, judged_units)


def _some_records(directory: Path, tokens: StoredTokens, totals: dict[str, int], most: int) -> Rows:
    records = Numbers(directory / f"{tokens.side}.records", token_files.RECORDS)
    rows: list[np.ndarray] = []
    units = 0
    for record in _spread(totals["records"], _count(totals["records"], totals["tokens"], most)):
        first, last = 2 * max(0, int(record) - 1), 2 * int(record) + 2
        ends = records.read(first, last).astype(np.int64).reshape(-1, 2)
        begin, before = (0, 0) if record == 0 else ends[0]
        rows += tokens[int(begin) : int(ends[-1][0])]
        units += int(ends[-1][1] - before)
    return Rows(rows, units)


def _count(have: int, tokens: int, most: int) -> int:
    """How many to take, of records of about the same length."""
    return max(1, min(have, most, int(have * min(1.0, HELD_OUT_TOKENS / max(1, tokens)))))


def _spread(have: int, count: int) -> np.ndarray:
    """So many numbers below ``have``, evenly spread; all of them if they are as many."""
    return np.arange(count, dtype=np.int64) * have // count
