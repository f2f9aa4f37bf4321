"""A run under somebody's hand: step by step, changed, taken back, ended early, finished.

The same session serves the command line, which drives it straight to its end, and a live panel,
which stops on the way. Student and baseline are trained side by side on the same batches.
Everything random, hidden words too, is a function of (seed, step), so a run that is killed
anywhere goes on from its checkpoint to the same bytes, and one that was steered by hand can be
repeated from its configuration and its events.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from workbench import checkpoints, corpora, evaluation, events, models, storage, tasks
from workbench.config import RunConfig
from workbench.devices import processes
from workbench.distiller import Distiller, Snapshot, StepRecord
from workbench.errors import NonFiniteLoss, UsageError, WorkbenchError
from workbench.events import END, REWIND, WEIGHT, Event
from workbench.progress import Progress
from workbench.run_directory import RunDirectory, read_metrics
from workbench.shared_baseline import SharedBaseline
from workbench.workshop import Workshop

#: Largest number of bytes that the snapshots for going back may take.
KEPT_BYTES = 256 * 2**20
#: Training batches by which several processes see that they have the same data.
COMPARED = 64


class Session:
    """Trains one run's student and baseline.

    Of several processes each has a session of its own and takes the same steps; the main one
    alone writes and measures, and the others wait for it where that is due.

    Args:
        directory: of the run, locked by the caller; its checkpoint is not looked at, see
            `restore`.
        config: of the run.
        shop: what it works with, the students at their start.
        progress: who is told how far it is.
        on_metrics: called with every line of metrics.jsonl.
        scheduled: changes to make on the way, by their step.
        keeps: keep snapshots in memory, to go back to; about as many as checkpoints.
        brief: leave out at the end what costs more than a short training, see `finish`.

    Attributes:
        directory: of the run.
        config: of the run.
        shop: what it works with.
        progress: who is told how far it is.
        ended: why the run was ended before its last step; None while it was not.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: RunConfig,
        shop: Workshop,
        progress: Progress,
        *,
        on_metrics: Callable[[dict[str, Any]], None] | None = None,
        scheduled: Sequence[Event] = (),
        keeps: bool = False,
        brief: bool = False,
    ) -> None:
        self.directory, self.config, self.shop = directory, config, shop
        self.ended: str | None = None
        self.progress = progress
        self._on_metrics = on_metrics
        self._team = processes.join()
        self._task = tasks.of_run(config)
        self._headline = self._task.headline
        self._keeps = keeps
        self._brief = brief
        self._kept: dict[int, tuple[Snapshot, Snapshot]] = {}
        #: Changes to come, and whether the file of events has them already.
        self._scheduled = [(event, False) for event in scheduled]
        self._unread: list[tuple[StepRecord, StepRecord]] = []
        self._order: Iterator[int] = iter(())
        self._seconds = 0.0
        self._tokens = 0
        self._trained_seconds = 0.0
        self._shown: float = float("nan")
        # On a CPU the numbers are already there, and a bad step is noticed at that step; on an
        # accelerator reading one would wait for it, so steps are looked at when they are logged.
        self._eager = shop.student.device.type == "cpu"
        for event in scheduled:
            self._check(event)
        if self._team.main:
            storage.make_directory(directory.checkpoint.parent, "the checkpoint")
            if not directory.events.exists():
                storage.write_bytes(directory.events, b"")
        self._begin_order()

    # ------------------------------------------------------------------ how it stands

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.shop.student.step_number

    @property
    def over(self) -> bool:
        """Whether there is no further step to take."""
        return self.ended is not None or self.step >= self.config.steps

    @property
    def kept(self) -> list[int]:
        """Steps that one can go back to."""
        return sorted(self._kept)

    def knobs(self) -> dict[str, float]:
        """What can be changed now, and where it stands: knobs, and the weights of terms."""
        student = self.shop.student
        return {
            "temperature": student.temperature,
            "alpha": student.alpha,
            "learning_rate": student.learning_rate,
            **{f"{WEIGHT}{n}": w for n, w in _own_weights(student).items()},
        }

    # ------------------------------------------------------------------ onwards

    def begin(self) -> None:
        """Measure the start and keep it; before the first step, once."""
        self._team.agree(self.shop.origin.fingerprint, "teacher")
        self._team.agree(self._data_digest(), "set of training batches")
        self._gather()
        main = self._team.main
        if main and self.step == 0 and not read_metrics(self.directory.path):
            line = {"step": 0, "seconds": 0.0, "validation": self._validation()}
            self._log(line)
            self._shown = line["validation"]["student"][self._headline.key]
        self._team.wait()
        self._keep()

    def advance(self) -> None:
        """One step of student and baseline, with what is due after it: log, evaluate, keep.

        Raises:
            NonFiniteLoss: if a loss is no number any more; see `rewind`.
            WorkbenchError: if the disk is in the way.
        """
        began = time.perf_counter()
        self._apply_scheduled()
        if self.over:
            return
        student, baseline = self.shop.student, self.shop.baseline
        index = next(self._order)
        step = student.step_number + 1
        batch = self.shop.batch(index, step)
        due = step % self.config.evaluate_every == 0 or step == self.config.steps
        logged = due or step % self.config.log_every == 0
        ledger = student.ledger(batch) if logged else None
        records = (student.step(batch), baseline.step(batch))
        self._unread.append(records)
        self._tokens += records[0].tokens
        if self._eager or logged:
            self._look_at_losses()
        line = None
        if due:
            self._gather()
        if logged and self._team.main:
            line = _metrics_line(records, ledger)
            if due:
                line["validation"] = self._validation()
                self._shown = line["validation"]["student"][self._headline.key]
        elapsed = time.perf_counter() - began
        self._seconds += elapsed
        self._trained_seconds += elapsed
        if line is not None:
            line["seconds"] = self._seconds
            line["tokens_per_second"] = self._tokens / self._trained_seconds
            self._log(line)
            self.progress.advance(
                step,
                self.config.steps,
                {
                    "loss": line["student"]["total"],
                    self._headline.name: self._shown,
                    "tokens/s": line["tokens_per_second"],
                },
            )
        if step % self.config.checkpoint_every == 0 or step == self.config.steps:
            self.save()
            self._keep()
        elif due:
            self._team.wait()

    def change(self, name: str, value: float) -> None:
        """Change a knob; it applies from the next step and is an event of the run.

        Args:
            name: one of `knobs`.
            value: new one.

        Raises:
            UsageError: if there is no such knob, or the value is out of range.
        """
        event = Event(self.step, name, self.knobs().get(name), float(value))
        self._check(event)
        if event.old == event.new:
            return
        self._carry_out(event)
        events.append(self.directory.events, event)

    def settle(self) -> None:
        """Make the scheduled changes that are due, without a step after them."""
        self._apply_scheduled()

    def end(self, reason: str) -> None:
        """Take no further step. An event of the run; `finish` then measures what there is."""
        if self.ended is None and self.step < self.config.steps:
            self._end(Event(self.step, END, None, reason))

    def rewind(self, step: int) -> None:
        """Go back to a step that was kept; metrics and weights are what they were then.

        Knobs go back, too. The file of events keeps what is now undone, and says that it is.

        Raises:
            UsageError: if nothing was kept of that step.
        """
        self._check_kept(step)
        old = self.step
        for distiller, snapshot in zip(self._distillers(), self._kept[step], strict=True):
            distiller.restore(snapshot)
        self._kept = {s: held for s, held in self._kept.items() if s <= step}
        self.ended = None
        self._scheduled.clear()
        self._unread.clear()
        self._begin_order()
        events.append(self.directory.events, Event(step, REWIND, old, step))
        self._cut_metrics()
        self.save()

    def finish(self) -> dict[str, Any]:
        """Save the student, measure the four rows, draw; the contents of ``results.json``.

        The main process does, and tells the others.

        Raises:
            WorkbenchError: if the teacher is not what it was, or the disk is in the way.
        """
        self._gather()
        if models.fingerprint(self.shop.teacher_model) != self.shop.origin.fingerprint:
            raise WorkbenchError("the teacher's weights changed during the run; it is not valid")
        if not self._team.main:
            return json.loads(self._team.tell(""))
        results = finish(self.directory, self.config, self.shop, self.progress, brief=self._brief)
        self._team.tell(json.dumps(results))
        return results

    # ------------------------------------------------------------------ keeping

    def save(self) -> None:
        """Write the checkpoint; all processes together."""
        if self._team.main or self.shop.student.sharded:
            snapshots = [d.snapshot() for d in self._distillers()]
        if self._team.main:
            checkpoints.write(self.directory, snapshots)
        self._team.wait()

    def restore(self) -> None:
        """Put the students where the checkpoint says, the metrics with them, and the events.

        Events that lie after the checkpoint will happen again at their steps.

        Raises:
            WorkbenchError: if the checkpoint is damaged or of another run.
        """
        checkpoints.restore(self.directory, self.shop)
        if self._team.main:
            self._cut_metrics()
        lines = read_metrics(self.directory.path)
        shown = [x["validation"]["student"][self._headline.key] for x in lines if "validation" in x]
        self._shown = shown[-1] if shown else float("nan")
        # What an interrupted run did after its checkpoint is in the file already; what it was
        # still going to do stands in its configuration.
        happened = events.effective(events.read(self.directory.events))
        planned = events.scheduled(storage.read_json(self.directory.config).get("scheduled", []))
        known = {(e.step, e.name) for e in happened}
        self._scheduled = [(e, True) for e in happened if e.step >= self.step]
        self._scheduled += [
            (e, False) for e in planned if e.step >= self.step and (e.step, e.name) not in known
        ]
        self._scheduled.sort(key=lambda pair: pair[0].step)
        self._begin_order()

    def branch(self, target: RunDirectory, step: int) -> None:
        """Write a run that has this one's first steps and goes on from there by itself.

        Args:
            target: of the new run, locked by the caller; holds none.
            step: up to which it is taken; one of `kept`.

        Raises:
            UsageError: if nothing was kept of that step.
            WorkbenchError: if the disk is in the way.
        """
        self._check_kept(step)
        storage.make_directory(target.checkpoint.parent, "the checkpoint")
        content = storage.read_json(self.directory.config)
        origin = {"run": str(self.directory.path), "step": step}
        storage.write_json(target.config, {**content, "branch": origin})
        taken = events.effective(events.read(self.directory.events))
        taken = [e.to_json() for e in taken if e.step < step]
        storage.write_bytes(target.events, _as_lines(taken))
        lines = [x for x in read_metrics(self.directory.path) if x["step"] <= step]
        storage.write_bytes(target.metrics, _as_lines(lines))
        checkpoints.write(target, self._kept[step])

    # ------------------------------------------------------------------ inside

    def _distillers(self) -> tuple[Distiller, Distiller]:
        return self.shop.student, self.shop.baseline

    def _begin_order(self) -> None:
        order = corpora.endless_order(len(self.shop.train_batches), self.config.seed)
        self._order = islice(order, self.step, None)

    def _apply_scheduled(self) -> None:
        while self._scheduled and self._scheduled[0][0].step <= self.step:
            event, recorded = self._scheduled.pop(0)
            ends = event.name == END
            if ends:
                self.ended = str(event.new)
            else:
                event = Event(self.step, event.name, self.knobs()[event.name], event.new)
                self._carry_out(event)
            if not recorded and self._team.main:
                events.append(self.directory.events, event)
            if ends:
                self.save()

    def _data_digest(self) -> str:
        """Of some training batches; several processes must have the same."""
        if self._team.count == 1:
            return ""
        return corpora.digest(self.shop.train_batches, COMPARED)

    def _gather(self) -> None:
        """Have whole students on the main process, where they are trained in shards."""
        if self.shop.student.sharded:
            for distiller in self._distillers():
                distiller.gather()

    def _end(self, event: Event) -> None:
        self.ended = str(event.new)
        events.append(self.directory.events, event)
        self.save()

    def _carry_out(self, event: Event) -> None:
        student, baseline = self._distillers()
        if event.name.startswith(WEIGHT):
            student.set_weight(event.name.removeprefix(WEIGHT), event.new)
        elif event.name == "learning_rate":
            # Both, or the comparison would not be at equal budget.
            student.learning_rate = baseline.learning_rate = event.new
        else:
            setattr(student, event.name, event.new)

    def _check(self, event: Event) -> None:
        event.check()
        if event.name not in (END, REWIND) and event.name not in self.knobs():
            raise UsageError(
                f"there is no {event.name} to change in {self.config.recipe} "
                f"({self.config.variant}); expected {', '.join(self.knobs())}"
            )

    def _look_at_losses(self) -> None:
        try:
            for pair in self._unread:
                for record in pair:
                    record.check_finite()
        except NonFiniteLoss as error:
            kept = checkpoints.step_of(self.directory)
            where = f"step {kept} in {self.directory.checkpoint}" if kept else "the start"
            none = "" if kept else ": none was written"
            raise NonFiniteLoss(
                f"{error}; the run was stopped. The last good checkpoint is {where}{none}; try a "
                "smaller learning rate or another temperature"
            ) from error
        finally:
            self._unread.clear()

    def _validation(self) -> dict[str, dict[str, float | None]]:
        student, baseline = self._distillers()
        shared = isinstance(baseline, SharedBaseline)
        return {
            "student": self._task.validate(student, self.shop),
            "baseline": baseline.validation()
            if shared
            else self._task.validate(baseline, self.shop),
        }

    def _log(self, line: dict[str, Any]) -> None:
        storage.append_line(self.directory.metrics, line)
        if self._on_metrics:
            self._on_metrics(line)

    def _cut_metrics(self) -> None:
        """Leave out of the metrics what lies after the present step."""
        lines = [x for x in read_metrics(self.directory.path) if x["step"] <= self.step]
        if self.directory.metrics.exists():
            # A run that begins again measures its start again.
            lines = lines if self.step > 0 or self._kept else []
            storage.write_bytes(self.directory.metrics, _as_lines(lines))
        self._seconds = lines[-1]["seconds"] if lines else 0.0

    def _check_kept(self, step: int) -> None:
        if step not in self._kept:
            known = ", ".join(map(str, self.kept)) or "none"
            raise UsageError(f"nothing was kept of step {step}; kept are {known}")

    def _keep(self) -> None:
        if not self._keeps:
            return
        self._kept[self.step] = tuple(d.snapshot() for d in self._distillers())
        size = sum(_bytes(s) for pair in self._kept.values() for s in pair)
        while size > KEPT_BYTES and len(self._kept) > 3:
            # The one whose neighbours are nearest, so that the others stay spread over the run.
            steps = self.kept
            gaps = {b: c - a for a, b, c in zip(steps, steps[1:], steps[2:], strict=False)}
            size -= sum(_bytes(s) for s in self._kept.pop(min(gaps, key=gaps.__getitem__)))


# ---------------------------------------------------------------------- of any run


def finish(
    directory: RunDirectory,
    config: RunConfig,
    shop: Workshop,
    progress: Progress,
    *,
    brief: bool = False,
) -> dict[str, Any]:
    """Save the student, measure the four rows, draw; writes and returns ``results.json``.

    Args:
        directory: of the run.
        config: of the run.
        shop: with trained students.
        progress: who is told how far it is.
        brief: measure quality only: no speed, no generated sequences, no entities, no figures.
            `workbench evaluate` adds them later.
    """
    from workbench import export

    progress.stage("saving the student")
    export.save_student(directory.student, shop)
    progress.stage("measuring quality and runtime")
    lines = read_metrics(directory.path)
    seconds = lines[-1]["seconds"]
    results = evaluation.evaluate_run(config, shop, str(directory.path), seconds, brief=brief)
    formula = shop.student.objective.formula(config.temperature, config.alpha)
    if not brief:
        _draw(directory, lines, results, formula, progress)
    export.write_card(directory, config, shop, results, formula)
    storage.write_json(directory.results, results)
    return results


def _draw(
    directory: RunDirectory,
    lines: list[dict[str, Any]],
    results: dict[str, Any],
    formula: str,
    progress: Progress,
) -> None:
    from workbench import plots

    progress.stage("drawing")
    storage.make_directory(directory.figures, "the figures")
    for name, figure in plots.run_figures(lines, results, formula).items():
        for suffix in ("png", "svg"):
            plots.save(figure, directory.figures / f"{name}.{suffix}")


def _as_lines(values: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(value, allow_nan=False) + "\n" for value in values).encode()


def _own_weights(student: Distiller) -> dict[str, float]:
    """Weights of the terms that have one of their own; α moves the others."""
    weights = student.objective.weights(student.alpha)
    return {name: weights[name] for name in student.objective.own_terms}


def _metrics_line(
    records: tuple[StepRecord, StepRecord], ledger: dict[str, Any] | None
) -> dict[str, Any]:
    student, baseline = records
    entries = {name: asdict(entry) for name, entry in (ledger or {}).items()}
    return {
        "step": student.step,
        "student": student.numbers(),
        "baseline": baseline.numbers(),
        "ledger": entries,
    }


def _bytes(snapshot: Snapshot) -> int:
    return sum(t.numel() * t.element_size() for t in snapshot.tensors.values())
