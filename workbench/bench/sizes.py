"""Students of one teacher with fewer and fewer layers, and from other starts: what each keeps.

Every student of `STARTS` is trained from the same pairs, for the same number of steps, with the
same seed; measured are its F1 with an interval, the share of the teacher's F1 that it keeps, and
what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench import corpora, models, runtime, storage, workshop
from workbench.classifying import binding, classification
from workbench.classifying.binding import Judgement
from workbench.config import RunConfig
from workbench.progress import Progress, Silent, for_here

RECIPE = "distilbert-pmhc"
STORED = models.BUILT_IN_TEACHERS.parent / "benchmarks" / "pmhc_sizes.json"
#: Half of the layers in five ways, then fewer and fewer of every other one.
STARTS = ("2i", "2i+1", "first", "last", "random", "2i:3", "2i:2", "2i:1")


def measure(
    starts: Sequence[str] = STARTS, *, progress: Progress | None = None, **options: Any
) -> dict[str, Any]:
    """Train a student from every start and judge it.

    Args:
        starts: as `layer_maps.parse` reads them.
        progress: who is told; a bar by default.
        options: of `RunConfig.from_recipe`, such as ``steps``.

    Returns:
        ``teacher`` and a list ``students``, each with ``label``, ``init``, ``layers``,
        ``parameters``, ``latency_ms``, ``f1``, ``interval``, ``auc``, ``kept`` (share of the
        teacher's F1) and ``kept_interval``; ``oracle_f1``; ``steps`` and ``seed``.
    """
    progress = progress or for_here()
    progress.stage("training students")
    students, teacher, oracle = [], None, None
    configs = [RunConfig.from_recipe(RECIPE, init=start, **options) for start in starts]
    try:
        for done, (start, config) in enumerate(zip(starts, configs, strict=True)):
            shop = workshop.prepare(config, Silent())
            if teacher is None:
                teacher, answers = _judge(shop, shop.teacher_model)
                oracle = _oracle(shop)
            order = corpora.endless_order(len(shop.train_batches), config.seed)
            for step in range(config.steps):
                shop.student.step(shop.train_batches[next(order)]).check_finite()
                progress.advance(done * config.steps + step + 1, len(starts) * config.steps, {})
            found, own = _judge(shop, shop.student.student.eval())
            kept, interval = classification.ratio(
                answers.labels, own.probabilities, answers.probabilities, "f1"
            )
            students.append(
                {
                    "label": start,
                    "init": start.partition(":")[0],
                    **found,
                    "kept": kept,
                    "kept_interval": [interval.low, interval.high],
                }
            )
    finally:
        progress.close()
    return {
        "teacher": teacher,
        "oracle_f1": oracle,
        "students": students,
        "steps": configs[0].steps,
        "seed": configs[0].seed,
    }


def stored() -> dict[str, Any]:
    """What `workbench bench sizes` wrote once: ``data/benchmarks/pmhc_sizes.json``.

    Raises:
        WorkbenchError: if the file is missing or damaged.
    """
    return storage.read_json(STORED)


def table(measured: dict[str, Any]) -> str:
    """The students as aligned text, best first."""
    lines = [f"{'start':<8}{'layers':>7}{'parameters':>12}{'ms':>7}{'F1':>8}   of the teacher's"]
    for student in sorted(measured["students"], key=lambda s: -s["f1"]):
        low, high = student["kept_interval"]
        lines.append(
            f"{student['label']:<8}{student['layers']:>7}{student['parameters']:>12,}"
            f"{student['latency_ms']:>7.2f}{student['f1']:>8.3f}   {student['kept']:.1%} "
            f"({low:.1%} to {high:.1%})"
        )
    return "\n".join(lines)


def _judge(shop, model) -> tuple[dict[str, Any], Judgement]:
    logits = binding.class_logits(model, shop.validation_batches)
    judgement = Judgement(shop.corpus.validation, binding.binder_probability(logits))
    scores = judgement.score()
    interval = scores.intervals["f1"]
    figures = {
        "layers": model.config.num_hidden_layers,
        "parameters": models.parameters(model),
        "latency_ms": runtime.measure_reader(model, shop.validation, seconds=0.5).latency_ms,
        "f1": scores.f1,
        "interval": [interval.low, interval.high],
        "auc": scores.auc,
    }
    return figures, judgement


def _oracle(shop) -> float | None:
    if not shop.corpus.has_oracle:
        return None
    records = shop.corpus.validation
    return Judgement(records, shop.corpus.oracle(records)).score(0).f1
