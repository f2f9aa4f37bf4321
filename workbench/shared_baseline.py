"""One baseline for many runs: trained once, kept, and told again step by step.

The student that learns from labels alone does not know T, α or the weights of other terms. Runs
that differ in nothing else have the same baseline to the last bit, so a sweep trains it once and
each of its runs is told what it did: the same losses, the same held-out figures, the same weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from workbench import corpora, models, storage, tasks
from workbench.config import RunConfig
from workbench.distiller import Distiller, Snapshot, StepRecord
from workbench.errors import NonFiniteLoss, WorkbenchError
from workbench.workshop import Workshop

FORMAT = "workbench baseline 1"
#: Batches by which the data of a baseline are known, where there are more.
READ = 10_000
#: Settings of a run that its baseline does not know.
_NOT_ITS_OWN = ("temperature", "alpha", "variant", "match", "weights", "cached", "log_every",
                "checkpoint_every")  # fmt: skip
#: Rows of the results that do not depend on the distilled student.
ROWS = ("oracle", "teacher", "baseline")


class SharedBaseline:
    """Stands where a run has its baseline's `Distiller`, and repeats what was recorded.

    Args:
        shop: of the run; its baseline, at the start, is taken over.
        config: of the run.
        directory: of the recording.

    Attributes:
        step_number: steps that the run has asked for.
        rows: of the results (oracle, teacher, baseline), once a run has measured them.
    """

    def __init__(self, shop: Workshop, config: RunConfig, directory: Path) -> None:
        self._shop, self._config, self._directory = shop, config, directory
        self._real: Distiller = shop.baseline
        content = storage.read_json(directory / "recording.json")
        self._losses: list[dict[str, float]] = content["losses"]
        self._tokens: list[int] = content["tokens"]
        self._validations: dict[str, dict[str, float | None]] = content["validation"]
        path = directory / "rows.json"
        self.rows: dict[str, Any] = storage.read_json(path) if path.exists() else {}
        self.step_number = 0

    # ------------------------------------------------------------------ as a distiller

    @property
    def accelerator(self):
        """The run's."""
        return self._real.accelerator

    @property
    def device(self) -> torch.device:
        """Where the student lives."""
        return self._real.device

    @property
    def student(self):
        """The model, as it is at this step."""
        self._catch_up()
        return self._real.student

    def step(self, batch) -> StepRecord:
        """What the baseline's losses were at the next step; the batch is known already."""
        losses, tokens = self._losses[self.step_number], self._tokens[self.step_number]
        self.step_number += 1
        values = {name: torch.tensor(value) for name, value in losses.items()}
        return StepRecord(self.step_number, values, tokens)

    def validation(self) -> dict[str, float | None]:
        """Its held-out figures at this step."""
        known = self._validations.get(str(self.step_number))
        if known is None:
            self._catch_up()
            return tasks.of_run(self._config).validate(self._real, self._shop)
        return known

    def snapshot(self) -> Snapshot:
        """Its weights and moments at this step."""
        self._catch_up()
        return self._real.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Go to a step of a checkpoint."""
        self._real.restore(snapshot)
        self.step_number = snapshot.step

    # ------------------------------------------------------------------ what it keeps

    def keep_rows(self, results: dict[str, Any]) -> None:
        """Keep the rows of a run's results that the other runs share."""
        if not self.rows:
            self.rows = {name: results[name] for name in ROWS}
            storage.write_json(self._directory / "rows.json", self.rows)

    def _catch_up(self) -> None:
        """Bring the real baseline here: from the recorded end, or by learning the steps between."""
        if self._real.step_number == self.step_number:
            return
        if self.step_number == self._config.steps:
            # T is a knob of the run, though its baseline does not use it.
            knobs = self._real.snapshot().knobs
            self._real.restore(Snapshot(self.step_number, _read_end(self._directory), knobs))
            return
        order = corpora.endless_order(len(self._shop.train_batches), self._config.seed)
        for index in islice(order, self._real.step_number, self.step_number):
            self._real.step(self._shop.batch(index, self._real.step_number + 1))


def share(
    shop: Workshop,
    config: RunConfig,
    directory: Path,
    should_stop: Callable[[], bool] | None = None,
) -> SharedBaseline:
    """The shared baseline of a run, recorded before or now; several processes may ask at once.

    Args:
        shop: of the run; student and baseline at their start.
        config: of the run.
        directory: where recordings live, a folder each.
        should_stop: asked before every step; True raises KeyboardInterrupt, and nothing is kept.

    Raises:
        NonFiniteLoss: if a loss of the baseline is no number.
        WorkbenchError: if the disk is in the way.
    """
    from filelock import FileLock

    place = directory / key(shop, config)
    storage.make_directory(place, "the shared baseline")
    with FileLock(place / ".lock"):
        if not (place / "recording.json").exists():
            _record(shop, config, place, should_stop)
    return SharedBaseline(shop, config, place)


def key(shop: Workshop, config: RunConfig) -> str:
    """Hash of all that decides a baseline's bytes: settings, start, teacher, data and so on."""
    own = {k: v for k, v in config.to_json().items() if k not in _NOT_ITS_OWN}
    start = models.fingerprint(shop.baseline.student)
    teacher = models.fingerprint(shop.teacher_model)
    read = [corpora.digest(b, READ) for b in (shop.train_batches, shop.validation_batches)]
    rest = [own, start, teacher, read, torch.get_num_threads(), torch.__version__, FORMAT]
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def _record(
    shop: Workshop, config: RunConfig, place: Path, should_stop: Callable[[], bool] | None
) -> None:
    """Train the baseline from its start to its end, write it down, and put it back."""
    task = tasks.of_run(config)
    baseline = shop.baseline
    start = baseline.snapshot()
    losses, tokens = [], []
    validation = {"0": task.validate(baseline, shop)}
    for index in islice(corpora.endless_order(len(shop.train_batches), config.seed), config.steps):
        if should_stop is not None and should_stop():
            raise KeyboardInterrupt
        record = baseline.step(shop.batch(index, baseline.step_number + 1))
        try:
            record.check_finite()
        except NonFiniteLoss as error:
            raise NonFiniteLoss(f"the student without a teacher: {error}") from error
        losses.append(record.numbers())
        tokens.append(record.tokens)
        step = baseline.step_number
        if step % config.evaluate_every == 0 or step == config.steps:
            validation[str(step)] = task.validate(baseline, shop)
    end = baseline.snapshot().tensors
    storage.write_safetensors(place / "end.safetensors", end, {"format": FORMAT})
    storage.write_json(
        place / "recording.json",
        {"format": FORMAT, "losses": losses, "tokens": tokens, "validation": validation},
    )
    baseline.restore(start)


def _read_end(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    path = directory / "end.safetensors"
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WorkbenchError(
            f"the shared baseline {path} is damaged ({error}); remove {directory} to train it again"
        ) from error
