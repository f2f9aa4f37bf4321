"""Files that are whole or not there: temporary name, flush to disk, rename.

Every failure of the disk becomes one clear line that names the file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from torch import Tensor


def cache_directory() -> Path:
    """``$WORKBENCH_CACHE``, or ``workbench`` under the user's cache folder."""
    chosen = os.environ.get("WORKBENCH_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workbench"


def existing(path: Path) -> Path:
    """What is there of a path: itself, or the nearest of its parents."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def free_bytes(path: Path) -> int:
    """Free space on the disk where a file or directory is, or would be made."""
    return shutil.disk_usage(existing(path)).free


def make_directory(path: Path, what: str) -> None:
    """Create a directory and its parents.

    Raises:
        WorkbenchError: if it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, path, what) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise WorkbenchError(f"{path} is not writable; choose another place for {what}")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by ``content``, or leave it as it was."""
    temporary = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise disk_error(error, path, path.name) from error


def write_json(path: Path, value: Any) -> None:
    """Replace a file by JSON, indented, with a final newline; NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Replace a file by tensors and metadata (text to text)."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, dict(metadata))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink()
        raise disk_error(error, path, path.name) from error


def check_free(place: Path, what: str, replaceable: Callable[[Path], bool]) -> None:
    """Raise WorkbenchError unless a directory may be made here, or the one that is there replaced.

    Args:
        place: of the directory.
        what: it will hold, such as "export".
        replaceable: whether a directory that is not empty is an earlier one of that kind.
    """
    if place.is_dir():
        others = sorted(path.name for path in place.iterdir())
        if not others or replaceable(place):
            return
        raise WorkbenchError(
            f"{place} holds something else ({others[0]}); give an empty or new directory with "
            f"--out, or one with an earlier {what}, which is replaced"
        )
    # Also where it would lie: found out only after the work, it would be for nothing.
    for path in (place, *place.absolute().parents):
        if path.is_dir():
            return
        if path.exists() or path.is_symlink():
            raise WorkbenchError(f"{path} is a file; expected a directory for the {what}")


def replace_directory(made: Path, path: Path) -> None:
    """Put a finished directory on the same disk in the place of another, or of nothing.

    The earlier one steps aside first; where the new one cannot come, it is put back.

    Raises:
        OSError: if the disk refuses.
    """
    earlier = made.with_name(f"{made.name}-earlier")
    try:
        if path.exists():
            os.replace(path, earlier)
        os.replace(made, path)
    finally:
        if earlier.exists():
            if path.exists():
                shutil.rmtree(earlier, ignore_errors=True)
            else:
                os.replace(earlier, path)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON object as a line."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value, allow_nan=False) + "\n")
    except OSError as error:
        raise disk_error(error, path, path.name) from error


def read_json(path: Path) -> Any:
    """Parse a JSON file; WorkbenchError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkbenchError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WorkbenchError(f"{path} is damaged: {error}") from error


def disk_error(error: Exception, path: Path, what: str) -> WorkbenchError:
    """One line for a failed write: the reason, and what to do about it."""
    reason = getattr(error, "strerror", None) or str(error)
    advice = (
        "free some space and give the command again (a run goes on with `workbench resume`)"
        if "space" in reason.lower() or "too large" in reason.lower() or "quota" in reason.lower()
        else "choose a directory that you can write to"
    )
    return WorkbenchError(f"cannot write {what} in {path.parent}: {reason}; {advice}")
