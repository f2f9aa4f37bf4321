"""Tokens of a large source on disk: made piece by piece, gone on with after an interruption.

    KEY/                      whole, or not there; until it is whole, KEY.part/
      train.tokens            token ids of all rows, in the smallest unsigned type that holds them
      train.ends              of each row, where it ends in train.tokens (tokens, 64 bits)
      train.records           of each record, rows and units up to its end (64 bits each)
      held_out.…              the same of the records that are held out
      about.json              what all this is, and the sizes of the files

KEY is a hash of everything that the tokens depend on: what the source holds (all of it, see
`streams`), the tokenizer, the form, the length of a row. A record is held out by the rule that
`corpora.held_out` states, so that a file gives the same rows here and in memory.

Every few seconds ``state.json`` says how far the source was read and how long the files then
were. Who comes later cuts the files to these lengths and reads on from there: a record's tokens
do not depend on where a piece began, so the result is the same bytes as without the interruption.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from workbench import storage
from workbench.corpora import held_out
from workbench.errors import WorkbenchError
from workbench.on_disk.record_kinds import RecordKind
from workbench.progress import Progress, Silent
from workbench.records.file_identity import changed
from workbench.records.streams import Stream

FORMAT = "tokens 1"
SIDES = ("train", "held_out")
#: Endings of the files of each side, and the type of their numbers; that of tokens is chosen.
ENDS, RECORDS = np.dtype("<u8"), np.dtype("<u8")
#: Characters that are tokenised at once: a tokenizer takes some 300 bytes for each.
AT_ONCE = 2**17
#: Seconds between two notes of how far the work is.
NOTED = 5.0


@dataclass
class _State:
    """How far the work is; everything that going on needs."""

    place: Any = None
    done: int = 0
    read: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    totals: dict[str, list[int]] = field(default_factory=lambda: {s: [0, 0, 0, 0] for s in SIDES})

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> _State:
        return cls(**{**values, "seen": Counter(values["seen"])})


def tokenise(
    stream: Stream,
    kind: RecordKind,
    *,
    most_records: int | None = None,
    directory: Path | None = None,
    progress: Progress | None = None,
    noted: float = NOTED,
) -> Path:
    """The directory with the tokens of a source: found, gone on with, or made.

    Args:
        stream: the source.
        kind: what its records are.
        most_records: records to take, from the first; None takes all.
        directory: where token files live; by default ``tokens`` in `storage.cache_directory`.
        progress: who is told.
        noted: seconds between two notes of how far the work is.

    Raises:
        WorkbenchError: if the source cannot be read or holds no such records, or the disk is full;
            what was done is kept.
    """
    from filelock import FileLock

    progress = progress or Silent()
    directory = directory or storage.cache_directory() / "tokens"
    contents = stream.identify(progress)
    described = [FORMAT, contents, most_records, kind.described()]
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]
    place = directory / key
    storage.make_directory(directory, "the tokens")
    # One process makes them; whoever wants the same waits, and finds them.
    with FileLock(directory / f"{key}.lock"):
        if not (place / "about.json").exists():
            part = directory / f"{key}.part"
            storage.make_directory(part, "the tokens")
            try:
                _make(stream, kind, most_records, part, progress, noted)
                if stream.identify(None) != contents:
                    shutil.rmtree(part)
                    raise changed(stream.source)
                os.replace(part, place)
            except OSError as error:
                raise WorkbenchError(
                    f"cannot write the tokens of {stream.source} in {directory}: "
                    f"{error.strerror or error}; free some space, or name another disk in "
                    "WORKBENCH_CACHE, and give the command again: what was done is kept"
                ) from error
    return place


def about(place: Path) -> dict[str, Any]:
    """What a directory of `tokenise` holds.

    Sizes are compared, contents are not: summing up as many bytes as a corpus has takes longer
    than a short run, and the directory was renamed only when all of it was written.

    Raises:
        WorkbenchError: if it is damaged.
    """
    found = storage.read_json(place / "about.json")
    for name, size in found["sizes"].items():
        file = place / name
        if not file.exists() or file.stat().st_size != size:
            raise WorkbenchError(
                f"{file} is not as it was written ({size:,} bytes); remove {place} and give the "
                "command again"
            )
    return found


def token_type(vocabulary: int) -> np.dtype:
    """The smallest unsigned type that holds ids below ``vocabulary``, little end first."""
    return np.min_scalar_type(max(0, vocabulary - 1)).newbyteorder("<")


def file_bytes(vocabulary: int, records: float, rows: float, tokens: float) -> float:
    """What `tokenise` writes for a source: tokens, the end of each row, two counts a record."""
    counts = ENDS.itemsize * rows + 2 * RECORDS.itemsize * records
    return token_type(vocabulary).itemsize * tokens + counts


def _make(
    stream: Stream,
    kind: RecordKind,
    most: int | None,
    part: Path,
    progress: Progress,
    noted: float,
) -> None:
    journal = part / "state.json"
    state = _State.from_json(storage.read_json(journal)) if journal.exists() else _State()
    # The state behind the last piece that was written whole; its files may be longer by now.
    kept = json.dumps(state.to_json())
    name = Path(stream.source).name
    progress.stage(f"tokenising {name}, in MB" if stream.in_bytes else f"tokenising {name}")
    if state.done:
        progress.note(f"note: {stream.source} was begun before; going on {_where(state, stream)}")
    last = time.monotonic()
    with ExitStack() as stack:
        files = _opened(part, state, stack)
        try:
            for piece in stream.pieces(state.place):
                left = None if most is None else most - state.read
                records = list(islice(piece.records, left))
                for some in _groups(records):
                    _add(some, kind, state, files)
                state.read += len(records)
                state.place, state.done = piece.place, piece.done
                state.sizes = {name: file.tell() for name, file in files.items()}
                kept = json.dumps(state.to_json())
                _tell(progress, state, stream)
                if time.monotonic() - last >= noted:
                    _note(journal, kept, files)
                    last = time.monotonic()
                if most is not None and state.read >= most:
                    break
            _check(stream, kind, state)
        except BaseException:
            # Ctrl-C as well. On a full disk there may be no room for this either, and the note
            # of some seconds ago holds.
            with suppress(OSError, WorkbenchError):
                _note(journal, kept, files)
            raise
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    written = {
        "format": FORMAT,
        "source": stream.source,
        "block": kind.block,
        "context": kind.context,
        "type": token_type(kind.vocabulary).str,
        "records_read": state.read,
        "notes": kind.notes(stream.source, state.seen),
        "totals": {
            side: dict(zip(("records", "rows", "tokens", "units"), state.totals[side], strict=True))
            for side in SIDES
        },
        "sizes": {name: (part / name).stat().st_size for name in files},
    }
    storage.write_json(part / "about.json", written)
    journal.unlink(missing_ok=True)


def _opened(part: Path, state: _State, stack: ExitStack) -> dict[str, IO[bytes]]:
    """The files, as long as the state says."""
    files = {}
    for side in SIDES:
        for ending in ("tokens", "ends", "records"):
            name = f"{side}.{ending}"
            path = part / name
            path.touch()
            file = stack.enter_context(path.open("r+b"))
            file.truncate(state.sizes.get(name, 0))
            file.seek(0, os.SEEK_END)
            files[name] = file
    return files


def _groups(records: list[str]) -> Iterator[list[str]]:
    """Records in groups of about `AT_ONCE` characters."""
    some: list[str] = []
    held = 0
    for record in records:
        if some and held + len(record) > AT_ONCE:
            yield some
            some, held = [], 0
        some.append(record)
        held += len(record)
    if some:
        yield some


def _add(records: list[str], kind: RecordKind, state: _State, files: dict[str, IO[bytes]]) -> None:
    """Write the rows of some records."""
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for record in records:
        clean = kind.clean(record, state.seen)
        if clean:
            sides["held_out" if held_out(clean) else "train"].append(clean)
    stored = token_type(kind.vocabulary)
    for side, texts in sides.items():
        if not texts:
            continue
        encoded = kind.encode(texts)
        totals = state.totals[side]
        ends = totals[2] + np.cumsum(encoded.lengths)
        rows = totals[1] + np.cumsum(encoded.rows)
        units = totals[3] + np.cumsum(encoded.units)
        files[f"{side}.tokens"].write(encoded.tokens.astype(stored).tobytes())
        files[f"{side}.ends"].write(ends.astype(ENDS).tobytes())
        files[f"{side}.records"].write(np.stack([rows, units], 1).astype(RECORDS).tobytes())
        totals[0] += len(texts)
        totals[1] += len(encoded.lengths)
        totals[2] += len(encoded.tokens)
        totals[3] += int(encoded.units.sum())


def _note(journal: Path, kept: str, files: dict[str, IO[bytes]]) -> None:
    """Write down how far the work is, behind what it speaks of."""
    for file in files.values():
        file.flush()
        os.fsync(file.fileno())
    storage.write_bytes(journal, kept.encode())


def _check(stream: Stream, kind: RecordKind, state: _State) -> None:
    if not any(totals[1] for totals in state.totals.values()):
        raise WorkbenchError(
            f"{stream.source} holds nothing to learn from ({state.read:,} records read); expected "
            f"{kind.expected.what}"
        )


def _tell(progress: Progress, state: _State, stream: Stream) -> None:
    numbers = {"records": float(state.read)}
    if stream.total is None:
        progress.advance(state.done, state.done, numbers)
        return
    size = 10**6 if stream.in_bytes else 1
    progress.advance(state.done // size, max(1, stream.total // size), numbers)


def _where(state: _State, stream: Stream) -> str:
    where = f"behind record {state.read:,}"
    return f"{where}, at {state.done / stream.total:.0%}" if stream.total else where
