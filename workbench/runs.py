"""A run is a directory; `distill` makes one, `resume` goes on with one.

Student and baseline are trained side by side on the same batches. Everything
random, hidden words too, is a function of (seed, step), so a run that is killed
anywhere goes on from its checkpoint to the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from workbench import corpora, evaluation, models, storage, tasks, workshop
from workbench.config import RunConfig
from workbench.distiller import Distiller, Snapshot, StepRecord
from workbench.errors import Interrupted, NonFiniteLoss, WorkbenchError
from workbench.progress import Progress, for_here
from workbench.run_directory import (
    FORMAT,
    RunDirectory,
    check_free,
    is_run,
    load_config,
    lock,
    new_directory,
    new_name,
    read_metrics,
    versions,
)
from workbench.workshop import Workshop

__all__ = ["RunDirectory", "distill", "evaluate", "is_run", "load_config", "read_metrics", "resume"]


def distill(
    recipe: str,
    run: str | Path | None = None,
    *,
    progress: Progress | None = None,
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """One full run: train student and baseline, evaluate, draw, save.

    Args:
        recipe: its name.
        run: directory to make; by default a new one under ``runs/``.
        progress: who is told how far it is; by default a bar or plain lines.
        on_metrics: called with every line of metrics.jsonl.
        should_stop: asked before every step; True interrupts the run, resumable.
        options: see `RunConfig.from_recipe`.

    Returns:
        The contents of ``results.json``.

    Raises:
        UsageError: if an option is out of range.
        WorkbenchError: if data, teacher, disk or the run directory stand in the way.
        Interrupted: if the run was stopped.
    """
    config = RunConfig.from_recipe(recipe, **options)
    directory = RunDirectory(Path(run) if run else new_name(config))
    check_free(directory)
    progress = progress or for_here()
    with new_directory(directory), _closing(progress):
        shop = workshop.prepare(config, progress)
        storage.write_json(
            directory.config,
            {"format": FORMAT, "run": config.to_json(), "versions": versions()},
        )
        return _go(directory, config, shop, progress, on_metrics, should_stop)


def resume(
    run: str | Path,
    *,
    progress: Progress | None = None,
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, to the result of one never stopped.

    A finished run is only read.

    Raises:
        WorkbenchError: if the directory holds no run, or another process works on it.
    """
    directory = RunDirectory(Path(run))
    config = load_config(directory)
    if directory.results.exists():
        return storage.read_json(directory.results)
    progress = progress or for_here()
    with lock(directory), _closing(progress):
        shop = workshop.prepare(config, progress)
        _restore(directory, shop)
        return _go(directory, config, shop, progress, on_metrics, should_stop)


def evaluate(run: str | Path, progress: Progress | None = None) -> dict[str, Any]:
    """Evaluate a finished run again, from what it stored, and rewrite its results.

    Raises:
        WorkbenchError: if the run has no final checkpoint yet.
    """
    directory = RunDirectory(Path(run))
    progress = progress or for_here()
    with lock(directory), _closing(progress):
        config, shop = open_finished(directory, progress)
        return _finish(directory, config, shop, progress)


def open_finished(directory: RunDirectory, progress: Progress) -> tuple[RunConfig, Workshop]:
    """Configuration, models and data of a finished run, the students as they were at its end.

    Raises:
        WorkbenchError: if the run has no final checkpoint yet.
    """
    config = load_config(directory)
    shop = workshop.prepare(config, progress)
    _restore(directory, shop)
    if shop.student.step_number < config.steps:
        raise WorkbenchError(
            f"{directory.path} is at step {shop.student.step_number} of {config.steps}; "
            f"finish it with `workbench resume {directory.path}`"
        )
    return config, shop


# ---------------------------------------------------------------------- the loop


def _go(
    directory: RunDirectory,
    config: RunConfig,
    shop: Workshop,
    progress: Progress,
    on_metrics: Callable[[dict[str, Any]], None] | None,
    should_stop: Callable[[], bool] | None,
) -> dict[str, Any]:
    before = models.fingerprint(shop.teacher_model)
    storage.make_directory(directory.checkpoint.parent, "the checkpoint")
    if not directory.events.exists():
        storage.write_bytes(directory.events, b"")
    _train(directory, config, shop, progress, on_metrics, should_stop or (lambda: False))
    if models.fingerprint(shop.teacher_model) != before:
        raise WorkbenchError("the teacher's weights changed during the run; it is not valid")
    return _finish(directory, config, shop, progress)


def _train(
    directory: RunDirectory,
    config: RunConfig,
    shop: Workshop,
    progress: Progress,
    on_metrics: Callable[[dict[str, Any]], None] | None,
    should_stop: Callable[[], bool],
) -> None:
    student, baseline = shop.student, shop.baseline
    order = corpora.endless_order(len(shop.train_batches), config.seed)
    batches = islice(order, student.step_number, config.steps)
    earlier = read_metrics(directory.path)
    seconds_before = earlier[-1]["seconds"] if earlier else 0.0
    task = tasks.of(config.recipe)
    headline = task.headline
    shown = _last(earlier, headline.key)
    started = time.perf_counter()
    tokens = 0
    # On a CPU the numbers are already there, and a bad step is noticed at that step; on an
    # accelerator reading one would wait for it, so steps are looked at when they are logged.
    eager = student.device.type == "cpu"
    unread: list[tuple[StepRecord, StepRecord]] = []
    progress.stage("distilling")
    try:
        if student.step_number == 0:
            shown = _log_start(directory, shop, task, on_metrics)
        for index in batches:
            if should_stop():
                raise KeyboardInterrupt
            step = student.step_number + 1
            batch = shop.batch(index, step)
            due = step % config.evaluate_every == 0 or step == config.steps
            logged = due or step % config.log_every == 0
            ledger = student.ledger(batch) if logged else None
            records = (student.step(batch), baseline.step(batch))
            unread.append(records)
            tokens += records[0].tokens
            if eager or logged:
                for pair in unread:
                    for record in pair:
                        record.check_finite()
                unread.clear()
            if logged:
                line = _metrics_line(records, ledger)
                if due:
                    line["validation"] = _validation(shop, task)
                    shown = line["validation"]["student"][headline.key]
                elapsed = time.perf_counter() - started
                line["seconds"] = seconds_before + elapsed
                line["tokens_per_second"] = tokens / elapsed
                storage.append_line(directory.metrics, line)
                if on_metrics:
                    on_metrics(line)
                progress.advance(
                    step,
                    config.steps,
                    {
                        "loss": line["student"]["total"],
                        headline.name: shown,
                        "tokens/s": line["tokens_per_second"],
                    },
                )
            if step % config.checkpoint_every == 0 or step == config.steps:
                _save(directory, student, baseline)
    except NonFiniteLoss as error:
        kept = _checkpoint_step(directory)
        raise NonFiniteLoss(
            f"{error}; the run was stopped. The last good checkpoint is "
            + (f"step {kept} in {directory.checkpoint}" if kept else "the start: none was written")
            + "; try a smaller learning rate or another temperature"
        ) from error
    except KeyboardInterrupt as error:
        _save(directory, student, baseline)
        raise Interrupted(
            f"interrupted at step {student.step_number} of {config.steps}; go on with "
            f"`workbench resume {directory.path}`"
        ) from error


def _log_start(
    directory: RunDirectory,
    shop: Workshop,
    task: tasks.Task,
    on_metrics: Callable[[dict[str, Any]], None] | None,
) -> float | None:
    line = {"step": 0, "seconds": 0.0, "validation": _validation(shop, task)}
    storage.append_line(directory.metrics, line)
    if on_metrics:
        on_metrics(line)
    return line["validation"]["student"][task.headline.key]


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


def _validation(shop: Workshop, task: tasks.Task) -> dict[str, dict[str, float | None]]:
    return {
        name: task.validate(distiller, shop)
        for name, distiller in (("student", shop.student), ("baseline", shop.baseline))
    }


def _last(lines: list[dict[str, Any]], key: str) -> float:
    seen = [line["validation"]["student"][key] for line in lines if "validation" in line]
    return seen[-1] if seen else float("nan")


# ---------------------------------------------------------------------- checkpoints


def _save(directory: RunDirectory, student: Distiller, baseline: Distiller) -> None:
    tensors = {}
    knobs = {}
    for role, distiller in (("student", student), ("baseline", baseline)):
        snapshot = distiller.snapshot()
        tensors.update({f"{role}.{n}": t for n, t in snapshot.tensors.items()})
        knobs[role] = snapshot.knobs
    metadata = {"format": FORMAT, "step": str(student.step_number), "knobs": json.dumps(knobs)}
    storage.write_safetensors(directory.checkpoint, tensors, metadata)


def _checkpoint_step(directory: RunDirectory) -> int | None:
    from safetensors import safe_open

    if not directory.checkpoint.exists():
        return None
    with safe_open(directory.checkpoint, "pt") as file:
        return int(file.metadata()["step"])


def _restore(directory: RunDirectory, shop: Workshop) -> None:
    """Put the students where the checkpoint says, and the metrics with them."""
    from safetensors import SafetensorError, safe_open

    step = 0
    if directory.checkpoint.exists():
        try:
            with safe_open(directory.checkpoint, "pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WorkbenchError(
                f"the checkpoint {directory.checkpoint} is damaged ({error}); remove it to begin "
                "this run again from its start"
            ) from error
        step = int(metadata["step"])
        knobs = json.loads(metadata["knobs"])
        for role, distiller in (("student", shop.student), ("baseline", shop.baseline)):
            mine = {
                n.removeprefix(f"{role}."): t
                for n, t in tensors.items()
                if n.startswith(f"{role}.")
            }
            try:
                distiller.restore(Snapshot(step, mine, knobs[role]))
            except ValueError as error:
                raise WorkbenchError(
                    f"the checkpoint {directory.checkpoint} does not fit this run: {error}"
                ) from error
    lines = [line for line in read_metrics(directory.path) if line["step"] <= step and step > 0]
    if directory.metrics.exists():
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        storage.write_bytes(directory.metrics, text.encode())


# ---------------------------------------------------------------------- the end


def _finish(
    directory: RunDirectory, config: RunConfig, shop: Workshop, progress: Progress
) -> dict[str, Any]:
    from workbench import export, plots

    progress.stage("saving the student")
    export.save_student(directory.student, shop)
    progress.stage("measuring quality and runtime")
    lines = read_metrics(directory.path)
    seconds = lines[-1]["seconds"]
    results = evaluation.evaluate_run(config, shop, str(directory.path), seconds)
    progress.stage("drawing")
    storage.make_directory(directory.figures, "the figures")
    formula = shop.student.objective.formula(config.temperature, config.alpha)
    for name, figure in plots.run_figures(lines, results, formula).items():
        for suffix in ("png", "svg"):
            plots.save(figure, directory.figures / f"{name}.{suffix}")
    export.write_card(directory.student, results, formula)
    storage.write_json(directory.results, results)
    return results


@contextmanager
def _closing(progress: Progress) -> Iterator[None]:
    try:
        yield
    finally:
        progress.close()
