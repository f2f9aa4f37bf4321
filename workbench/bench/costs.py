"""What each student costs and what it is worth: all students of all models, trained and timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench import corpora, evaluation, models, runtime, tasks, workshop
from workbench.bench import speedups
from workbench.comparisons.tradeoff import label
from workbench.config import RunConfig
from workbench.progress import Progress, Silent, for_here

#: Recipe and size of the students of each built-in teacher, the smallest first.
STUDENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "protgpt2": (
        ("protgpt2-tiny", "1x32"), ("protgpt2-tiny", ""), ("protgpt2-small", ""),
        ("protgpt2-medium", ""),
    ),
    "pmhc": (("distilbert-pmhc", "1"), ("distilbert-pmhc", "2"), ("distilbert-pmhc", "")),
    "biobert": (
        ("tinybiobert", ""), ("distilbiobert", "2"), ("distilbiobert", ""), ("compactbiobert", ""),
    ),
}  # fmt: skip
SEEDS = (0, 1)
STEPS = 300


def measure(
    teachers: Sequence[str] = tuple(STUDENTS),
    *,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train every student with every seed, then time all of them, each in turn with its teacher.

    Args:
        teachers: of `STUDENTS`.
        seeds: of start and order.
        steps: of each student, and of the baseline that has the same start.
        progress: who is told; a bar by default.

    Returns:
        ``steps``, ``seeds`` and ``teachers``: by name ``{"headline", "name", "better", "oracle",
        "teacher": row, "students": [row]}``. A row has ``quality`` (a list with a figure a seed,
        of the teacher one figure) and `tradeoff.COSTS`; a student's also ``recipe``, ``size``,
        ``layers``, ``width``, ``baseline`` (quality without a teacher, a figure a seed) and
        ``speedups`` (see `speedups.measure`).
    """
    progress = progress or for_here()
    found: dict[str, Any] = {"steps": steps, "seeds": list(seeds), "teachers": {}}
    measured: dict[str, tuple[Any, Any, list[Any]]] = {}
    try:
        for name in teachers:
            entry, shop, students = _train(STUDENTS[name], seeds, steps, progress)
            found["teachers"][name] = entry
            measured[name] = (shop.teacher_model, shop.validation, students)
        # Speed last and without training between: the machine is in one state for all.
        for name, (teacher, rows, students) in measured.items():
            progress.stage(f"timing the students of {name}")
            entry = found["teachers"][name]
            entry["teacher"] |= _cost(teacher, rows)
            for row, student in zip(entry["students"], students, strict=True):
                row |= _cost(student, rows)
                row["speedups"] = speedups.measure(teacher, student)
    finally:
        progress.close()
    return found


def _train(
    students: Sequence[tuple[str, str]], seeds: Sequence[int], steps: int, progress: Progress
) -> tuple[dict[str, Any], Any, list[Any]]:
    headline = tasks.of(students[0][0]).headline
    entry: dict[str, Any] = {
        "headline": headline.key, "name": headline.name, "better": headline.better, "students": [],
    }  # fmt: skip
    kept = []
    for recipe, size in students:
        quality: dict[str, list[float]] = {"student": [], "baseline": []}
        for seed in seeds:
            config = RunConfig.from_recipe(recipe, size=size, seed=seed, steps=steps)
            progress.stage(f"{label(recipe, size)}, seed {seed}")
            shop = workshop.prepare(config, Silent())
            order = corpora.endless_order(len(shop.train_batches), seed)
            for step in range(steps):
                batch = shop.batch(next(order), step + 1)
                for distiller in (shop.student, shop.baseline):
                    distiller.step(batch).check_finite()
                progress.advance(step + 1, steps, {})
            rows = _rows(config, shop)
            for role, values in quality.items():
                values.append(rows[role][headline.key])
        model = shop.student.student.eval()
        entry["oracle"] = rows["oracle"][headline.key]
        entry["teacher"] = {"quality": rows["teacher"][headline.key]}
        entry["students"].append(
            {
                "recipe": recipe,
                "size": size,
                "layers": model.config.num_hidden_layers,
                "width": model.config.hidden_size,
                "quality": quality["student"],
                "baseline": quality["baseline"],
            }
        )
        kept.append(model)
    return entry, shop, kept


def _rows(config: RunConfig, shop) -> dict[str, dict[str, Any]]:
    """Quality of all four, without their speed."""
    return tasks.of_run(config).four_rows(config, evaluation.judged_by(shop, brief=True))


def _cost(model, rows) -> dict[str, float]:
    measured = runtime.measure_reader(model, rows, seconds=0.5)
    return {
        "latency_ms": measured.latency_ms,
        "parameters": models.parameters(model),
        "peak_memory_mb": measured.peak_memory_mb,
    }
