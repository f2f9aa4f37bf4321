"""One worker of a sweep: a process of its own that claims trials and trains them.

Started by `workbench.sweeps.crew` as ``python -m workbench.sweeps.worker``. It reads on standard
input what to do, then ``go``, and tells on standard output, a JSON object a line, how far it is.
Where standard input ends, the one who started it has ended or wants it to: it keeps a checkpoint,
puts its trial back into the queue and leaves.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from workbench.errors import Interrupted, NonFiniteLoss, UsageError, WorkbenchError
from workbench.progress import Silent
from workbench.sweeps.plan import Plan
from workbench.sweeps.study import Study, first_number

#: Figures of student and baseline that a sweep keeps.
KEPT = (
    "parameters", "perplexity", "perplexity_per_residue", "accuracy", "f1", "auc", "kl_to_teacher",
    "agreement", "calibration_error",
)  # fmt: skip


class Channel:
    """To and from the one who started this worker."""

    def __init__(self) -> None:
        # What libraries print goes where errors go; only messages go to standard output.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.task: dict[str, Any] = json.loads(sys.stdin.readline())
        self.go, self.stop = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, **message: Any) -> None:
        """Send a message; if nobody is there any more, stop."""
        try:
            self._out.write(json.dumps(message, allow_nan=False) + "\n")
            self._out.flush()
        except BrokenPipeError:
            self.stop.set()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "go":
                self.go.set()
        self.stop.set()
        self.go.set()


class Telling(Silent):
    """Passes on how far the teacher has been asked."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def advance(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """See `workbench.progress.Progress`."""
        self._channel.tell(asked=done, tokens=total)

    def note(self, text: str) -> None:
        """See `workbench.progress.Progress`."""
        self._channel.tell(note=text)


class Worker:
    """Works on a study until nothing waits in it.

    Args:
        plan: of the sweep.
        study: its trials.
        directory: of the sweep.
        channel: to tell how far it is.
    """

    def __init__(self, plan: Plan, study: Study, directory: Path, channel: Channel) -> None:
        self.plan, self.study, self.directory, self.channel = plan, study, directory, channel

    def ask_the_teacher(self) -> None:
        """Make the teacher caches that the runs will share, before anybody needs them."""
        from workbench import workshop

        seen = set()
        for point in self.plan.points():
            # T, α and the variant do not change what the teacher is asked.
            if (point["init"], point["size"]) not in seen:
                seen.add((point["init"], point["size"]))
                config = self.plan.config(point, self.plan.seeds[0])
                workshop.prepare(config, Telling(self.channel))

    def work(self) -> None:
        """Trial after trial."""
        while not self.channel.stop.is_set():
            trial = self.study.claim()
            if trial is None:
                return
            self.channel.tell(claimed=trial.number)
            try:
                with self.study.alive(trial):
                    self._attempt(trial)
            except (Interrupted, KeyboardInterrupt):
                self.study.put_back(trial._trial_id)
                return
            except WorkbenchError:
                # The disk, the data, the teacher: no other trial would fare better.
                self.study.put_back(trial._trial_id)
                raise
            self.channel.tell(over=trial.number)

    def _attempt(self, trial) -> None:
        point, seeds = self.study.suggest(trial)
        headline = self.plan.headline
        runs: list[dict[str, Any]] = []
        for turn, seed in enumerate(seeds):
            place = f"runs/{_label(first_number(trial), self.plan, point, seed)}"
            told = {"seed": seed, "run": place, "state": "failed", "figures": None}
            runs.append(told)
            watch = _Watch(self, trial, turn)
            try:
                results = self._train(point, seed, self.directory / place, watch)
            except NonFiniteLoss as error:
                self.study.failed(trial, str(error), runs)
                self.channel.tell(note=f"{place}: {error}")
                return
            except Interrupted:
                if not watch.prune:
                    raise
                told["state"] = "pruned"
                self.study.pruned(trial, runs)
                return
            told.update(state="complete", figures=_figures(results))
        values = [run["figures"]["student"][headline.key] for run in runs]
        self.study.done(trial, sum(values) / len(values), runs)

    def _train(
        self, point: dict[str, Any], seed: int, place: Path, watch: _Watch
    ) -> dict[str, Any]:
        from workbench import runs

        how = {
            "progress": Silent(), "on_metrics": watch.look, "should_stop": watch.should_stop,
            "brief": True, "baselines": self.directory / "baselines",
        }  # fmt: skip
        if runs.is_run(place):
            return runs.resume(place, **how)
        return runs.distill(self.plan.recipe, place, **how, **self.plan.options(point, seed))


class _Watch:
    """Follows one run: whether to stop it, and why."""

    def __init__(self, worker: Worker, trial, turn: int) -> None:
        self._worker, self._trial, self._turn = worker, trial, turn
        self.prune = False

    def look(self, line: dict[str, Any]) -> None:
        """At a line of metrics.jsonl."""
        plan = self._worker.plan
        if not (plan.prune and "validation" in line and line["step"]):
            return
        config_steps = plan.config(plan.points()[0], plan.seeds[0]).steps
        if line["step"] == config_steps:
            return
        value = line["validation"]["student"][plan.headline.key]
        self._trial.report(value, self._turn * config_steps + line["step"])
        self.prune = self._trial.should_prune()

    def should_stop(self) -> bool:
        """Before a step."""
        return self.prune or self._worker.channel.stop.is_set()


def _figures(results: dict[str, Any]) -> dict[str, Any]:
    rows = {
        name: {key: results[name].get(key) for key in KEPT}
        for name in ("oracle", "teacher", "student", "baseline")
    }
    return {"steps": results["steps"], "seconds": results["seconds"], **rows}


def _label(number: int, plan: Plan, point: dict[str, Any], seed: int) -> str:
    """Name of a run's directory: its trial, what it varies, its seed."""
    words = [f"{number:04}", f"T{point['temperature']:.4g}", f"a{point['alpha']:.4g}"]
    for axis in ("variant", "init", "size"):
        if len(plan.axes[axis]) > 1 and point[axis]:
            words.append("".join(c if c.isalnum() or c in "+-" else "_" for c in point[axis]))
    return "-".join([*words, f"s{seed}"])


def main() -> int:
    """What this process does; its exit status."""
    channel = Channel()
    task = channel.task
    try:
        plan = Plan.from_json(task["plan"])
        directory = Path(task["directory"])
        worker = Worker(plan, Study(plan, task["study"], task["storage"]), directory, channel)
        if task["first"]:
            worker.ask_the_teacher()
        else:
            import workbench.runs  # noqa: F401 - slow, and meanwhile the first one is asking
        channel.tell(ready=True)
        channel.go.wait()
        worker.work()
    except WorkbenchError as error:
        channel.tell(problem=str(error), usage=isinstance(error, UsageError))
        return 1
    return 0


if __name__ == "__main__":
    # Left at once: at its end an interpreter with torch takes its time.
    status = main()
    sys.stderr.flush()
    os._exit(status)
