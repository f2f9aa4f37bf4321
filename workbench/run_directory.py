"""A run directory: its names, its lock, its configuration and its metrics.

config.json     all of it: rebuilds the run
metrics.jsonl   a line a logged step
events.jsonl    every change made by hand, with its step
checkpoint/     last.safetensors: student, baseline and their optimisers
student/        a plain transformers directory
results.json    what the evaluation found
figures/
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import storage
from workbench.config import RunConfig
from workbench.errors import WorkbenchError
from workbench.records import hub

if TYPE_CHECKING:
    from workbench.models import Origin

FORMAT = "workbench run 1"
CHECKPOINT = "checkpoint/last.safetensors"


@dataclass(frozen=True)
class RunDirectory:
    """Names of what is in a run."""

    path: Path

    @property
    def config(self) -> Path:
        """config.json."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """events.jsonl."""
        return self.path / "events.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / CHECKPOINT

    @property
    def student(self) -> Path:
        """The finished student."""
        return self.path / "student"

    @property
    def results(self) -> Path:
        """results.json."""
        return self.path / "results.json"

    @property
    def figures(self) -> Path:
        """Where figures go."""
        return self.path / "figures"


def load_config(directory: RunDirectory) -> RunConfig:
    """The configuration of a run.

    Raises:
        WorkbenchError: if there is no run in the directory.
    """
    if not directory.path.is_dir():
        raise WorkbenchError(f"there is no run directory {directory.path}")
    if not directory.config.exists():
        raise WorkbenchError(
            f"{directory.path} holds no run (no config.json); begin one with "
            "`workbench distill NAME --run DIR`"
        )
    content = storage.read_json(directory.config)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WorkbenchError(
            f"{directory.config} was not written by this workbench; expected format {FORMAT!r}"
        )
    return RunConfig.from_json(content["run"])


def described(
    config: RunConfig,
    scheduled: Sequence[dict[str, Any]] = (),
    origin: Origin | None = None,
) -> dict[str, Any]:
    """What config.json of a new run holds.

    Args:
        config: of the run.
        scheduled: changes that it will make on the way, as in events.jsonl.
        origin: which weights its teacher has.
    """
    content = {"format": FORMAT, "run": config.to_json(), "versions": versions()}
    if origin is not None:
        content["teacher"] = {"source": config.teacher, **asdict(origin)}
        content["data"] = {"source": config.data, "commit": _data_commit(config.data)}
    return {**content, "scheduled": list(scheduled)} if scheduled else content


def check_teacher(directory: RunDirectory, origin: Origin) -> None:
    """Raise WorkbenchError if a run's teacher has other weights than when the run began."""
    known = storage.read_json(directory.config).get("teacher")
    if known is None or known["fingerprint"] == origin.fingerprint:
        return
    then, now = (
        f"SHA-256 {print_[:12]}…" + (f", commit {commit[:12]}" if commit else "")
        for print_, commit in (
            (known["fingerprint"], known["commit"]), (origin.fingerprint, origin.commit),
        )
    )  # fmt: skip
    advice = (
        f"hf download {hub.name(known['source'])} --revision {known['commit']} brings them back"
        if known["commit"]
        else "put them back, or begin a new run"
    )
    raise WorkbenchError(
        f"the teacher {known['source']} of {directory.path} has other weights than when the run "
        f"began ({then}; now {now}); {advice}"
    )


def as_begun(directory: RunDirectory, config: RunConfig) -> RunConfig:
    """A run's configuration with the teacher at the commit that it began with.

    That is what `main` was then; only where the hub's cache still holds its weights, because a
    copy that the hub has converted is found by the name of the branch only.
    """
    known = storage.read_json(directory.config).get("teacher") or {}
    found = None if Path(config.teacher).exists() else hub.split(config.teacher)
    if not known.get("commit") or found is None or found[1] != hub.MAIN:
        return config
    if not hub.holds_weights(found[0], known["commit"]):
        return config
    return replace(config, teacher=hub.pinned(found[0], known["commit"]))


def _data_commit(source: str) -> str | None:
    """Of a data set on the hub; None for a file or a world."""
    if Path(source).exists() or hub.split(source) is None:
        return None
    return hub.locate(source, "dataset").commit


def is_run(path: str | Path) -> bool:
    """Whether a directory holds a run of this workbench."""
    try:
        load_config(RunDirectory(Path(path)))
    except WorkbenchError:
        return False
    return True


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """All whole lines of a run's metrics.jsonl, also while it is being written."""
    path = RunDirectory(Path(run)).metrics
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            continue
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise WorkbenchError(f"{path}, line {number}, is damaged: {error}") from error
    return lines


def new_name(config: RunConfig, within: Path = Path("runs")) -> Path:
    """A name in a directory, by default ``runs/`` here, that is still free."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = within / f"{config.recipe}-{config.variant}-{stamp}"
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def check_free(directory: RunDirectory) -> None:
    """Raise WorkbenchError unless a run may begin here: a new or empty directory."""
    path = directory.path
    if not path.exists():
        return
    if not path.is_dir():
        raise WorkbenchError(f"{path} is a file; expected a directory for the run")
    if directory.config.exists():
        raise WorkbenchError(
            f"{path} already holds a run; go on with `workbench resume {path}`, or give another "
            "directory with --run"
        )
    others = [p.name for p in sorted(path.iterdir()) if p.name != ".lock"]
    if others:
        raise WorkbenchError(
            f"{path} holds something else ({others[0]}); give an empty or new directory with --run"
        )


@contextmanager
def new_directory(directory: RunDirectory) -> Iterator[None]:
    """Make and lock a run directory; a run that cannot even begin leaves nothing behind."""
    made = not directory.path.exists()
    storage.make_directory(directory.path, "the run")
    try:
        with lock(directory):
            check_free(directory)
            yield
    finally:
        if made and not directory.config.exists():
            with suppress(OSError):
                (directory.path / ".lock").unlink()
                directory.path.rmdir()


@contextmanager
def lock(directory: RunDirectory) -> Iterator[None]:
    """Keep a second process off the run; the system releases the lock if this one dies."""
    from filelock import FileLock, Timeout

    held = FileLock(directory.path / ".lock", timeout=0)
    try:
        held.acquire()
    except Timeout as error:
        raise WorkbenchError(
            f"another process is working on {directory.path}; wait for it, or give another "
            "directory with --run"
        ) from error
    except OSError as error:
        raise storage.disk_error(error, directory.path / ".lock", "the run") from error
    try:
        yield
    finally:
        held.release()


def versions() -> dict[str, str]:
    """Versions of what decides a run's last bits, for its config.json."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("workbench", "torch", "transformers", "accelerate", "datasets", "numpy")
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
