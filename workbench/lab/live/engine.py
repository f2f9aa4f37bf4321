"""What trains behind a panel: one thread that owns the run, told by commands, seen as moments.

A panel puts commands in a queue and values of knobs in a mailbox, from whatever thread, and
returns. Only the engine's thread touches models, and it takes commands between two steps. What
it lets others see, a `Moment`, never changes.
"""

from __future__ import annotations

import atexit
import math
import queue
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from workbench.config import RunConfig
from workbench.errors import Interrupted, UsageError, WorkbenchError

State = Literal[
    "new", "preparing", "running", "paused", "finishing", "done", "failed", "following", "closed"
]
#: States in which a run is over.
_ENDS = ("new", "done", "failed", "closed")
#: Seconds between two looks at the chosen example while training goes on.
LOOK_EVERY = 0.4
#: Seconds to wait, when the interpreter ends, for a step to be over.
LAST_STEP = 20.0

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_preparing = threading.Lock()


@dataclass(frozen=True)
class Course:
    """A run as far as it is.

    Attributes:
        number: 1 for the first of a panel.
        config: what it was begun with.
        directory: of the run, as text.
        lines: of metrics.jsonl.
        changes: made by hand, of those that still count.
        results: contents of results.json; None until it is finished.
    """

    number: int
    config: RunConfig
    directory: str = ""
    lines: tuple[dict[str, Any], ...] = ()
    changes: tuple[Any, ...] = ()
    results: dict[str, Any] | None = None

    def points(self, role: str, key: str) -> tuple[tuple[int, float], ...]:
        """(step, figure) of "student" or "baseline", wherever it was measured and is a number."""
        found = ((x["step"], x["validation"][role].get(key)) for x in self.lines
                 if "validation" in x)  # fmt: skip
        return tuple((s, v) for s, v in found if v is not None and math.isfinite(v))


@dataclass(frozen=True)
class Look:
    """What the models say about the chosen example.

    Attributes:
        probe: the example, see `workbench.probes.Probe`.
        logits: ``[vocabulary]`` float32 of "teacher", "student" and "baseline", those there are.
        step: of the students.
    """

    probe: Any
    logits: Mapping[str, Any]
    step: int


@dataclass(frozen=True)
class Moment:
    """How things stand.

    Attributes:
        state: one of `State`.
        stage: what is being done while preparing or finishing, in words.
        done: of ``total`` things of this stage; total 0 is unknown.
        total: see ``done``.
        step: of the present run.
        kept: steps that one can go back to.
        seconds_left: of training; NaN while unknown.
        reason: why the run stands still, in words.
        remark: a sentence for the user, such as why a command was refused.
        error: how it failed: one line.
        details: traceback of a failure.
        course: the present run; None before the first.
        earlier: finished runs of this panel, oldest first.
        examples: names of the examples that one can look at.
        example: the chosen one.
        look: None until models are loaded.
        references: the headline of "teacher" and "oracle" on the held-out data of the run.
        turns: how often a run was taken back or branched.
        knobs: of the run, where it was taken back or branched last.
    """

    state: State = "new"
    stage: str = ""
    done: int = 0
    total: int = 0
    step: int = 0
    kept: tuple[int, ...] = ()
    seconds_left: float = math.nan
    reason: str = ""
    remark: str = ""
    error: str = ""
    details: str = ""
    course: Course | None = None
    earlier: tuple[Course, ...] = ()
    examples: tuple[str, ...] = ()
    example: int = 0
    look: Look | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    turns: int = 0
    knobs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plateau:
    """Stop where the headline no longer gets better.

    Attributes:
        measurements: so many in a row without a new best.
        least: relative gain that counts as better.
    """

    measurements: int = 4
    least: float = 0.002

    def reached(self, values: list[float], lower_is_better: bool) -> bool:
        """Whether the last measurements brought nothing; ``values`` from the first on."""
        if len(values) <= self.measurements:
            return False
        sign = 1.0 if lower_is_better else -1.0
        before = min(sign * v for v in values[: -self.measurements])
        since = min(sign * v for v in values[-self.measurements :])
        return since > before - self.least * abs(before)


@dataclass
class _Orders:
    """What is still to be done without being told again."""

    steps: int | None = None
    seeds: list[int] = field(default_factory=list)


def judged_on(config: RunConfig) -> tuple[Any, ...]:
    """What decides how good the teacher is: itself and the held-out data."""
    names = ("recipe", "scale", "teacher", "data", "column", "label", "alleles", "train_sequences",
             "validation_sequences", "whole_words")  # fmt: skip
    return tuple(getattr(config, name) for name in names)


class Engine:
    """Trains runs of one recipe under somebody's hand.

    Args:
        config: makes the configuration of the next run when it begins.
        changed: called after every change of `moment`, on the thread that changed it.
        directory: makes the directory of a run.
        plateau: end a run that no longer gets better; None goes on to the last step.
        known: the headline of "teacher" and "oracle" for a configuration, where it need not be
            measured; empty where it must be.
    """

    def __init__(
        self,
        config: Callable[[int | None], RunConfig],
        changed: Callable[[], None],
        directory: Callable[[RunConfig], Any],
        plateau: Plateau | None = None,
        known: Callable[[RunConfig], Mapping[str, float]] = lambda _config: {},
    ) -> None:
        self._known = known
        self._references: dict[str, Mapping[str, float]] = {}
        self.moment = Moment()
        self.plateau = plateau
        self._config = config
        self._directory = directory
        self._changed = changed
        self._commands: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._mailbox: dict[str, float] = {}
        self._lock = threading.RLock()
        self._quiet = threading.Condition(self._lock)
        self._waiting = 0
        self._cancel = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._running = False
        self._orders = _Orders()
        self._session: Any = None
        self._held = ExitStack()
        self._probes: list[Any] = []
        self._teacher_looks: dict[int, Any] = {}
        self._looked = 0.0
        self._pace: tuple[float, int] = (0.0, 0)
        _engines.add(self)

    # ------------------------------------------------------------------ from any thread

    def tell(self, command: str, value: Any = None) -> None:
        """Put a command in the queue: play, pause, steps, rewind, branch, reset, seeds, example."""
        with self._lock:
            if self._closed:
                return
            if command in ("pause", "reset"):
                self._cancel.set()
            self._waiting += 1
            self._commands.put((command, value))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop, name="workbench engine", daemon=True
                )
                self._thread.start()

    def set(self, name: str, value: float) -> None:
        """Change a live knob at the next step; of several values the last one counts."""
        with self._lock:
            self._mailbox[name] = value

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every command is carried out and no step follows; False if that took long."""
        with self._quiet:
            return self._quiet.wait_for(
                lambda: self._closed or (self._waiting == 0 and not self._running), timeout
            )

    def wait_for_end(self) -> Moment:
        """Wait until the run is finished, has failed or was left; a pause is waited out."""
        with self._quiet:
            while self._waiting or self.moment.state not in _ENDS:
                self._quiet.wait(0.2)
            return self.moment

    def close(self) -> None:
        """End at the next step, with a checkpoint; does not wait for it. Twice is once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._running = False
            self._cancel.set()
            self._commands.put(None)
            self._quiet.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def remark(self, sentence: str) -> None:
        """Show a sentence until something else happens."""
        self._update(remark=sentence)

    # ------------------------------------------------------------------ the thread

    def _loop(self) -> None:
        try:
            while True:
                try:
                    command = self._commands.get(block=not self._running)
                except queue.Empty:
                    self._guarded(self._step)
                    continue
                if command is None:
                    return
                self._cancel.clear()
                self._guarded(lambda c=command: self._carry_out(*c))
                with self._quiet:
                    self._waiting -= 1
                    self._quiet.notify_all()
        finally:
            self._leave_run()
            self._update(state="closed", remark="")

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong becomes a sentence, and the thread lives on."""
        try:
            work()
            return
        except Interrupted as error:
            self._stand("paused" if self._session else "new", reason=str(error))
        except UsageError as error:
            self.remark(str(error))
        except WorkbenchError as error:
            self._fail(str(error))
        except MemoryError:
            self._fail(
                "there is not enough memory; press Reset and choose a smaller batch or student"
            )
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            self._fail(f"{type(error).__name__}: {reason}")
        if self._session is None:
            self._running = False
            self._let_go()
        self._settle()

    def _fail(self, line: str) -> None:
        kept = self._session.kept if self._session is not None else []
        offer = f" Rewind to step {kept[-1]} and go on, or Reset." if kept else " Press Reset."
        self._orders = _Orders()
        self._stand("failed", error=f"{line}.{offer}" if not line.endswith(".") else line + offer,
                    details=traceback.format_exc())  # fmt: skip

    def _settle(self) -> None:
        with self._quiet:
            self._quiet.notify_all()

    def _carry_out(self, command: str, value: Any) -> None:
        {
            "play": self._play,
            "pause": lambda _: self._pause("paused by hand"),
            "steps": self._steps,
            "rewind": self._rewind,
            "branch": self._branch,
            "reset": self._reset,
            "seeds": self._seeds,
            "example": self._example,
            "prepare": self._warm,
        }[command](value)

    def _play(self, _value: Any) -> None:
        if self._running:
            self.remark("The training goes on already.")
            return
        self._orders.steps = None
        self._go_on()

    def _steps(self, count: int) -> None:
        self._orders.steps = count
        self._go_on()

    def _seeds(self, count: int) -> None:
        if self._running:
            self.remark("A run goes on: press Pause and Reset, or wait until it is done.")
            return
        first = self._config(None).seed
        self._leave_run()
        self._orders = _Orders(seeds=list(range(first + 1, first + count)))
        self._begin(first)
        self._run()

    def _go_on(self) -> None:
        state = self.moment.state
        if state == "failed":
            self._orders.steps = None
            self.remark("This run failed: rewind it to an earlier step, or press Reset.")
            return
        if self._session is None or state == "done":
            self._leave_run()
            self._begin(None)
        self._run()

    def _run(self) -> None:
        self._running = True
        self._pace = (time.monotonic(), self._session.step)
        self._update(state="running", stage="", reason="", remark="", error="", details="")

    def _begin(self, seed: int | None) -> None:
        """A new run, up to its first step."""
        from workbench import run_directory, storage, workshop
        from workbench.session import Session

        with self._lock:
            # What was set before is in the configuration.
            self._mailbox.clear()
        config = self._config(seed)
        directory = self._directory(config)
        run_directory.check_free(directory)
        self._update(state="preparing", stage="loading", done=0, total=0, step=0, kept=(),
                     reason="", remark="", error="", details="")  # fmt: skip
        self._held.enter_context(run_directory.new_directory(directory))
        with self._alone():
            shop = workshop.prepare(config, _Told(self))
        self._stop_if_cancelled("stopped before the first step")
        storage.write_json(directory.config, run_directory.described(config, origin=shop.origin))
        self._session = Session(
            directory, config, shop, _Told(self), on_metrics=self._measured, keeps=True
        )
        number = len(self.moment.earlier) + 1
        self._update(course=Course(number, config, str(directory.path)))
        self._find_probes(shop)
        self._refer(config, shop)
        self._session.begin()
        self._look()

    def _step(self) -> None:
        with self._lock:
            mail, self._mailbox = self._mailbox, {}
        session = self._session
        for name, value in mail.items():
            session.change(name, value)
        if mail:
            self._tell_changes()
        session.advance()
        began, first = self._pace
        done = session.step - first
        left = (time.monotonic() - began) / max(1, done) * (session.config.steps - session.step)
        self._update(state="running", step=session.step, done=session.step,
                     total=session.config.steps, kept=tuple(session.kept),
                     seconds_left=left)  # fmt: skip
        if self._orders.steps is not None:
            self._orders.steps -= 1
        if self._at_plateau():
            session.end("the held-out figure no longer gets better")
        if session.over:
            self._finish()
        elif self._orders.steps is not None and self._orders.steps <= 0:
            self._pause(f"stopped at step {session.step:,}, as asked for")
        elif time.monotonic() - self._looked > LOOK_EVERY:
            self._look()

    def _finish(self) -> None:
        session = self._session
        reason = session.ended or f"all {session.config.steps:,} steps are taken"
        more = bool(self._orders.seeds)
        self._running = more
        self._look()
        self._update(state="finishing", reason=reason, done=0, total=0)
        results = session.finish()
        course = replace(self.moment.course, results=results)
        self._update(course=course, earlier=(*self.moment.earlier, course))
        if not more:
            self._stand("done", reason=reason)
            return
        self._update(state="done", stage="", reason=reason)
        self._leave_run()
        # Still going on, for whoever waits.
        self._running = True
        self._begin(self._orders.seeds.pop(0))
        self._run()

    def _pause(self, reason: str) -> None:
        if not self._running:
            self.remark("Nothing is running.")
            return
        self._orders = _Orders()
        self._session.save()
        self._look()
        self._stand("paused", reason=reason)

    def _reset(self, _value: Any) -> None:
        self._orders = _Orders()
        self._leave_run()
        self._update(course=None, step=0, kept=(), done=0, total=0)
        self._stand("new")

    def _rewind(self, step: int) -> None:
        if self._session is None:
            self.remark("There is no run to take back.")
            return
        if self.moment.state == "done":
            self._branch(step)
            return
        self._orders = _Orders()
        before = self._session.step
        self._session.rewind(step)
        self._back_at(step, f"taken back from step {before:,} to {step:,}")

    def _branch(self, step: int) -> None:
        """Leave the run as it is and go on with a copy of its first steps."""
        from workbench import run_directory
        from workbench.session import Session

        session = self._session
        if session is None:
            self.remark("There is no run to branch from.")
            return
        if self.moment.state == "failed":
            raise UsageError("a failed run cannot be branched from; rewind it first")
        self._orders = _Orders()
        directory = self._directory(session.config)
        run_directory.check_free(directory)
        if self.moment.state != "done":
            session.save()
            # Not finished, but worth comparing with.
            self._update(earlier=(*self.moment.earlier, self.moment.course))
        with ExitStack() as held:
            held.enter_context(run_directory.new_directory(directory))
            session.branch(directory, step)
            branched = Session(
                directory, session.config, session.shop, _Told(self),
                on_metrics=self._measured, keeps=True,
            )  # fmt: skip
            branched.restore()
            branched.begin()
            self._held.close()
            self._held = held.pop_all()
        self._session = branched
        number = len(self.moment.earlier) + 1
        self._update(course=Course(number, session.config, str(directory.path)))
        self._back_at(step, f"a branch from step {step:,}; the run before it stays as it is")

    def _back_at(self, step: int, reason: str) -> None:
        from workbench import run_directory

        with self._lock:
            self._mailbox.clear()
        lines = run_directory.read_metrics(self._session.directory.path)
        self._update(course=replace(self.moment.course, lines=tuple(lines)), step=step,
                     kept=tuple(self._session.kept), done=step,
                     total=self._session.config.steps, turns=self.moment.turns + 1,
                     knobs=self._session.knobs())  # fmt: skip
        self._tell_changes()
        self._stand("paused", reason=reason)
        self._look()

    def _warm(self, _value: Any) -> None:
        """Load what takes long before it is needed: the first Play is then quick."""
        import torch
        import transformers

        del torch, transformers

    # ------------------------------------------------------------------ examples

    def _find_probes(self, shop: Any) -> None:
        from workbench import tasks

        self._probes = tasks.of_run(self._session.config).probes(shop)
        self._teacher_looks.clear()
        self._update(examples=tuple(probe.title for probe in self._probes))

    def _refer(self, config: RunConfig, shop: Any) -> None:
        """How good teacher and truth are: measured once for the same teacher and data."""
        from workbench import tasks

        key = repr(judged_on(config))
        if key not in self._references:
            found = self._known(config)
            if not found:
                self._update(stage="measuring the teacher", done=0, total=0)
                found = tasks.of_run(config).references(shop)
            self._references[key] = found
        self._update(references=self._references[key])

    def _example(self, number: int) -> None:
        if not 0 <= number < max(1, len(self.moment.examples)):
            raise UsageError(f"there is no example {number}")
        self._update(example=number)
        self._look()

    def _look(self) -> None:
        if self._session is None or not self._probes:
            return
        self._looked = time.monotonic()
        number = min(self.moment.example, len(self._probes) - 1)
        probe, shop = self._probes[number], self._session.shop
        if number not in self._teacher_looks:
            self._teacher_looks[number] = probe.logits(shop.teacher_model)
        logits = {"teacher": self._teacher_looks[number]}
        for role, distiller in (("student", shop.student), ("baseline", shop.baseline)):
            logits[role] = probe.logits(distiller.student)
        self._update(look=Look(probe, logits, self._session.step))

    # ------------------------------------------------------------------ inside

    def _measured(self, line: dict[str, Any]) -> None:
        course = self.moment.course
        if course is not None:
            self._update(course=replace(course, lines=(*course.lines, line)))

    def _tell_changes(self) -> None:
        from workbench import events

        found = events.effective(events.read(self._session.directory.events))
        self._update(course=replace(self.moment.course, changes=tuple(found)))

    def _at_plateau(self) -> bool:
        if self.plateau is None or "validation" not in (self.moment.course.lines or ({},))[-1]:
            return False
        if self.moment.course.lines[-1]["step"] != self._session.step:
            return False
        from workbench import tasks

        headline = tasks.of_run(self._session.config).headline
        values = [v for _, v in self.moment.course.points("student", headline.key)]
        return self.plateau.reached(values, headline.better == "lower")

    def _leave_run(self) -> None:
        """Let go of the run; what it has is kept on the disk."""
        self._running = False
        session, self._session = self._session, None
        unfinished = session is not None and self.moment.state not in ("done", "failed")
        try:
            if unfinished and session.step > 0:
                session.save()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Release the lock; a directory that holds nothing yet goes with it."""
        self._held.close()
        self._held = ExitStack()

    def _stand(self, state: State, **changes: Any) -> None:
        self._running = False
        self._update(state=state, stage="", **changes)
        self._settle()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other Lab of this kernel prepares.

        transformers imports its parts when they are first asked for, and two threads that do so
        at once find it without some of them.
        """
        while not _preparing.acquire(timeout=0.2):
            self._update(stage="waiting until another Lab is prepared")
            self._stop_if_cancelled("stopped before the first step")
        try:
            yield
        finally:
            _preparing.release()

    def _stop_if_cancelled(self, words: str) -> None:
        if self._cancel.is_set():
            raise Interrupted(words)

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self.moment = replace(self.moment, **changes)
        self._changed()


class _Told:
    """What preparing and finishing tell: a `workbench.progress.Progress`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def stage(self, text: str) -> None:
        """See `workbench.progress.Progress.stage`."""
        self._check()
        self._engine._update(stage=text, done=0, total=0)

    def advance(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """See `workbench.progress.Progress.advance`."""
        del numbers  # the lines of the metrics have them
        if self._engine.moment.state == "preparing":
            self._check()
            self._engine._update(done=done, total=total)

    def note(self, text: str) -> None:
        """See `workbench.progress.Progress.note`."""
        self._engine.remark(text)

    def close(self) -> None:
        """See `workbench.progress.Progress.close`."""

    def _check(self) -> None:
        if self._engine.moment.state == "preparing":
            self._engine._stop_if_cancelled("stopped before the first step")


@atexit.register
def _close_all() -> None:
    """Let steps end before the interpreter does: torch aborts when its thread is taken away."""
    engines = list(_engines)
    for engine in engines:
        engine.close()
    for engine in engines:
        engine.join(LAST_STEP)
