"""A run that something else trains, as the panel's engine would show it: read, never touched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import events, run_directory, storage
from workbench.errors import WorkbenchError
from workbench.lab.live import stored
from workbench.lab.live.engine import Course, Moment
from workbench.run_directory import RunDirectory

#: Seconds between two looks at the directory.
INTERVAL = 0.5
_READ_ONLY = "This panel only shows the run."


class Follower:
    """Reads a run directory again and again; what an `Engine` offers, without its hands.

    Args:
        path: of the run; finished, or being written by another process or machine.
        changed: called after every change of `moment`.

    Raises:
        WorkbenchError: if there is no run.
    """

    def __init__(self, path: str | Path, changed: Callable[[], None]) -> None:
        self._directory = RunDirectory(Path(path))
        config = run_directory.load_config(self._directory)
        self.moment = Moment(
            state="following", course=Course(1, config, str(path)),
            references=stored.references(config),
        )  # fmt: skip
        self._changed = changed
        self._seen: tuple[Any, ...] = ()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="workbench follower", daemon=True)
        self._read()
        if self.moment.course.results is None:
            self._thread.start()

    def tell(self, command: str, value: Any = None) -> None:
        """Say that nothing can be done here."""
        del command, value
        self.remark(_READ_ONLY)

    def set(self, name: str, value: float) -> None:
        """A knob moves what is shown, never the run."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run that is followed has its results, or this panel is closed."""
        if not self._thread.is_alive():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Look no more. Twice is once."""
        self._closed.set()
        self._update(state="closed")

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: wait until the thread has ended."""
        return self.wait(timeout)

    def remark(self, sentence: str) -> None:
        """Show a sentence."""
        self._update(remark=sentence)

    def _loop(self) -> None:
        while not self._closed.wait(INTERVAL):
            try:
                self._read()
            except (WorkbenchError, OSError, ValueError) as error:
                # A shared folder comes and goes; the next look may find it again.
                self._update(reason=f"cannot read {self._directory.path}: {error}")
                continue
            if self.moment.course.results is not None:
                return

    def _read(self) -> None:
        here = self._directory
        seen = tuple(
            (p.stat().st_mtime_ns, p.stat().st_size) if p.exists() else None
            for p in (here.metrics, here.events, here.results)
        )
        if seen == self._seen:
            return
        lines = run_directory.read_metrics(here.path)
        results = storage.read_json(here.results) if here.results.exists() else None
        changes = tuple(events.effective(events.read(here.events)))
        course = replace(self.moment.course, lines=tuple(lines), changes=changes, results=results)
        step = lines[-1]["step"] if lines else 0
        total = course.config.steps
        reason = (
            f"{here.path} is finished at step {step:,}"
            if results
            else f"{here.path}, at step {step:,} of {total:,}"
        )
        self._seen = seen
        self._update(course=course, step=step, done=step, total=total, reason=reason)

    def _update(self, **changes: Any) -> None:
        self.moment = replace(self.moment, **changes)
        self._changed()
