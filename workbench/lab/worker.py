"""The one thread that trains, and what it tells those who watch.

Commands go into a queue and return at once, from any thread. Models, optimisers
and figures belong to the worker; everybody else reads `Worker.snapshot`, which
holds plain numbers and never changes once it is made.
"""

from __future__ import annotations

import atexit
import math
import queue
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from workbench.errors import Interrupted, WorkbenchError
from workbench.headline import PERPLEXITY, Headline

State = Literal["idle", "preparing", "training", "finishing", "done", "stopped", "failed"]
#: Seconds that the end of the interpreter waits for a run to stop at its next step.
LAST_STEP = 10.0
_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


@dataclass(frozen=True)
class Settings:
    """What a run is started with.

    Attributes:
        temperature: T of the soft term.
        alpha: weight of the hard term.
        variant: of the recipe.
        seed: of the student's start and the order of batches.
        steps: optimiser steps.
        weights: of terms, by name, where they differ from the recipe's; None where none does.
    """

    temperature: float
    alpha: float
    variant: str
    seed: int
    steps: int
    weights: dict[str, float] | None = None

    @property
    def reading(self) -> str:
        """The variant, and the weights that differ from it: ``corrected hidden=0``."""
        changed = (f"{name}={value:g}" for name, value in (self.weights or {}).items())
        return " ".join((self.variant, *changed))

    def label(self) -> str:
        """Short text: ``T=10 α=0.1 corrected``."""
        return f"T={self.temperature:g} α={self.alpha:.3g} {self.reading}"


#: The headline, such as held-out perplexity, at a step.
Point = tuple[int, float]


@dataclass(frozen=True)
class Run:
    """A run of this worker, finished or not.

    Attributes:
        number: 1 for the first.
        settings: what it was started with.
        student: the headline of the student.
        baseline: of the same student without a teacher.
        results: contents of results.json; None unless the run was finished.
        headline: what the curves show.
    """

    number: int
    settings: Settings
    student: tuple[Point, ...] = ()
    baseline: tuple[Point, ...] = ()
    results: dict[str, Any] | None = None
    headline: Headline = PERPLEXITY


@dataclass(frozen=True)
class Snapshot:
    """How things stand.

    Attributes:
        state: one of `State`.
        stage: what is being done, in words.
        done: steps (or other things) done in this stage, of ``total``; total 0 is unknown.
        total: see ``done``.
        numbers: loss, perplexity and tokens/s as last told.
        seconds_left: of training; NaN while unknown.
        line: how the last run ended, where it was stopped or failed.
        remark: a sentence for the user, such as why a command was refused.
        run: the present run, or the last one.
        earlier: those before it, oldest first.
        details: traceback of a failure.
    """

    state: State = "idle"
    stage: str = ""
    done: int = 0
    total: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    seconds_left: float = math.nan
    line: str = ""
    remark: str = ""
    run: Run | None = None
    earlier: tuple[Run, ...] = ()
    details: str = ""

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, oldest first."""
        return self.earlier if self.run is None else (*self.earlier, self.run)


class Worker:
    """Runs one job after another on a thread of its own, which starts with the first.

    Args:
        work: does one run and returns its results; told the settings and a `Watch`.
        changed: called after every change of `snapshot`, on the thread that changed it.
        clock: seconds, only ever forwards.
        headline: what the curves of its runs show.
    """

    def __init__(
        self,
        work: Callable[[Settings, Watch], dict[str, Any]],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        headline: Headline = PERPLEXITY,
    ) -> None:
        self.headline = headline
        self.snapshot = Snapshot()
        self.clock = clock
        self._work = work
        self._changed = changed
        self._commands: queue.SimpleQueue[tuple[Settings, Watch] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._idle = threading.Event()
        self._idle.set()
        self._watch: Watch | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        _workers.add(self)

    def start(self, settings: Settings) -> bool:
        """Ask for a run; refused, with a remark, while there is one."""
        with self._lock:
            if self._closed:
                return False
            if not self._idle.is_set():
                self.remark("A run is going on: press Stop first, or wait until it is done.")
                return False
            self._idle.clear()
            now = self.snapshot
            self._watch = Watch(self, settings.steps)
            self.snapshot = Snapshot(
                state="preparing",
                stage="starting",
                run=Run(len(now.runs) + 1, settings, headline=self.headline),
                earlier=now.runs,
            )
            self._commands.put((settings, self._watch))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop, name="workbench worker", daemon=True
                )
                self._thread.start()
        self._changed()
        return True

    def stop(self) -> bool:
        """Ask the run to stop at the next step; refused, with a remark, where that cannot be."""
        with self._lock:
            if self._idle.is_set() or self._watch is None:
                self.remark("Nothing is running: press Start.")
                return False
            if self.snapshot.state == "finishing":
                self.remark("The training is over; its results come in a few seconds.")
                return False
            self._watch.stop.set()
            self.remark("Stopping at the next step.")
            return True

    def remark(self, sentence: str) -> None:
        """Show a sentence until the state changes."""
        self.update(remark=sentence)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no run is going on; False if that took longer than ``timeout`` seconds."""
        return self._idle.wait(timeout)

    def close(self) -> None:
        """Stop the run at the next step and end the thread; does not wait for it."""
        with self._lock:
            self._closed = True
            if self._watch is not None:
                self._watch.stop.set()
                self._watch.abandoned = True
            self._commands.put(None)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread of a closed worker has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def update(self, **changes: Any) -> None:
        """Make a new snapshot with some changes and tell of it."""
        with self._lock:
            self.snapshot = replace(self.snapshot, **changes)
        self._changed()

    def _loop(self) -> None:
        while (command := self._commands.get()) is not None:
            self._run(*command)

    def _run(self, settings: Settings, watch: Watch) -> None:
        try:
            end = {"state": "done", "results": self._work(settings, watch)}
        except Interrupted as error:
            end = {"state": "stopped", "line": str(error)}
        except WorkbenchError as error:
            end = {"state": "failed", "line": str(error), "details": traceback.format_exc()}
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            line = f"{type(error).__name__}: {reason}"
            end = {"state": "failed", "line": line, "details": traceback.format_exc()}
        with self._lock:
            run = replace(self.snapshot.run, results=end.pop("results", None))
            self.snapshot = replace(self.snapshot, stage="", remark="", run=run, **end)
            self._idle.set()
        self._changed()


class Watch:
    """What a run tells the worker; a `workbench.progress.Progress` and both hooks of a run."""

    def __init__(self, worker: Worker, steps: int) -> None:
        self.stop = threading.Event()
        self.abandoned = False
        self._worker = worker
        self._steps = steps
        self._step = -1
        self._began = 0.0
        self._over = False

    # -- hooks of a run

    def should_stop(self) -> bool:
        """Asked by the run before every step, and so also how far it is."""
        self._step += 1
        if self._step == 0:
            self._began = self._worker.clock()
        elapsed = self._worker.clock() - self._began
        left = elapsed / self._step * (self._steps - self._step) if self._step else math.nan
        self._worker.update(
            state="training", done=self._step, total=self._steps, seconds_left=left
        )
        return self.stop.is_set()

    def metrics(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""
        measured = line.get("validation")
        run = self._worker.snapshot.run
        if measured is None or run is None:
            return
        step = line["step"]
        self._worker.update(
            run=replace(
                run,
                student=(*run.student, (step, measured["student"][run.headline.key])),
                baseline=(*run.baseline, (step, measured["baseline"][run.headline.key])),
            )
        )

    # -- progress

    def stage(self, text: str) -> None:
        """See `workbench.progress.Progress.stage`."""
        if self._step >= 0:
            self._over = True
        self._leave_if_stopped()
        self._worker.update(
            state="finishing" if self._over else "preparing",
            stage=text,
            done=0,
            total=0,
            seconds_left=math.nan,
            remark="" if self._over else self._worker.snapshot.remark,
        )

    def advance(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """See `workbench.progress.Progress.advance`."""
        if self._step < 0:
            self._leave_if_stopped()
        if self._step < 0 or self._over:
            self._worker.update(done=done, total=total)
        else:
            self._worker.update(done=done, total=total, numbers=dict(numbers))

    def note(self, text: str) -> None:
        """See `workbench.progress.Progress.note`."""
        self._worker.remark(text)

    def close(self) -> None:
        """See `workbench.progress.Progress.close`."""

    def _leave_if_stopped(self) -> None:
        """Between stages a run asks nobody whether to stop; it is told here."""
        if self._over:
            if self.abandoned:
                raise Interrupted("closed after the last step; nothing of the training is lost")
        elif self.stop.is_set():
            raise Interrupted("stopped before the first step")


@atexit.register
def _close_all() -> None:
    """Let runs end before the interpreter does: torch aborts when its thread is taken away."""
    workers = list(_workers)
    for worker in workers:
        worker.close()
    for worker in workers:
        worker.join(LAST_STEP)
