"""What tells one large file from another: a hash of all it holds, made once; and its text checked.

Also where in a file something stands, for messages, and how a packed file is opened.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from workbench import storage
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.progress import Progress

#: Bytes read at once.
CHUNK = 2**20
#: A file that changed in the last seconds may change again within the resolution of its times.
SETTLED = 2.0


def identity(path: Path, text: bool, progress: Progress | None) -> str:
    """SHA-256 of all that a file holds, unpacked; remembered as long as the file is the same.

    All of it, not samples: a file that is edited in place, with its length and its time kept,
    is another corpus. Reading it takes little beside tokenising it. What was found is
    remembered by the number of the file, its size and its times, the one of the last change of
    any kind (ctime) among them, which cannot be set by hand.
    """
    before = path.stat()
    known = [str(path.resolve()), text, *_stamp(before)]
    name = hashlib.sha256(repr(known).encode()).hexdigest()[:32]
    kept = storage.cache_directory() / "sources" / f"{name}.json"
    if kept.exists():
        return storage.read_json(kept)["sha256"]
    if progress:
        progress.stage(f"reading {path.name} through once, in MB")
    digest = _survey(path, text, progress)
    if _stamp(path.stat()) != _stamp(before):
        raise changed(path)
    if time.time() - before.st_ctime > SETTLED:
        storage.make_directory(kept.parent, "what is known of large files")
        storage.write_json(kept, {"file": str(path.resolve()), "sha256": digest})
    return digest


def _stamp(stat) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def changed(path: Path | str) -> WorkbenchError:
    """What is said of a file that changes under the reader's hands."""
    return WorkbenchError(f"{path} changed while it was being read; wait until it is written whole")


def _survey(path: Path, text: bool, progress: Progress | None) -> str:
    """SHA-256 of what a file holds; refuses what is no UTF-8 text, where it should be."""
    digest = hashlib.sha256()
    decoder = codecs.getincrementaldecoder("utf-8")()
    total, offset = path.stat().st_size, 0
    with opened(path) as (file, raw):
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            if text:
                if (zero := chunk.find(b"\0")) >= 0:
                    line, _ = line_and_column(path, offset + zero)
                    raise WorkbenchError(
                        f"{path} is a binary file (a zero byte in line {line}); expected text: "
                        "FASTA, CSV or one record a line"
                    )
                pending = len(decoder.getstate()[0])
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, offset - pending + error.start) from error
            offset += len(chunk)
            if progress:
                progress.advance(raw.tell() // 10**6, max(1, total // 10**6), {})
        if text and (pending := len(decoder.getstate()[0])):
            raise _not_utf8(path, offset - pending)
    return digest.hexdigest()


def _not_utf8(path: Path, offset: int) -> WorkbenchError:
    line, column = line_and_column(path, offset)
    with opened(path) as (file, _):
        file.seek(offset)
        byte = file.read(1)
    return WorkbenchError(
        f"{path}, line {line}, is not UTF-8 text (byte 0x{byte.hex()} at column {column}); save "
        "the file as UTF-8 throughout"
    )


def line_and_column(path: Path, offset: int) -> tuple[int, int]:
    """Line and byte of the line, both from 1, of a place in a file."""
    line, column, seen = 1, 1, 0
    with opened(path) as (file, _):
        while seen < offset and (chunk := file.read(min(CHUNK, offset - seen))):
            line += chunk.count(b"\n")
            last = chunk.rfind(b"\n")
            column = column + len(chunk) if last < 0 else len(chunk) - last
            seen += len(chunk)
    return line, column


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A file as it reads, unpacked if it is packed, and as it lies on the disk."""
    try:
        with path.open("rb") as raw:
            if is_gzip(path):
                with gzip.GzipFile(fileobj=raw) as file:
                    yield file, raw
            else:
                yield raw, raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WorkbenchError(f"{path} is damaged or no gzip file: {error}") from error
    except OSError as error:
        raise WorkbenchError(f"cannot read {path}: {error.strerror or error}") from error


def is_gzip(path: Path) -> bool:
    """Whether a file is packed, by its ending."""
    return path.suffix.lower() == ".gz"
