"""Three students of one biomedical teacher, with several seeds, and with each term taken out.

What the course stores, as `workbench bench biobert` wrote it, is in
``data/benchmarks/biobert.json``; published figures of the real models are beside it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

from workbench import corpora, evaluation, models, recipes, runtime, storage, tasks, workshop
from workbench.comparisons import studies
from workbench.config import RunConfig
from workbench.progress import Progress, Silent, for_here

STORED = models.BUILT_IN_TEACHERS.parent / "benchmarks" / "biobert.json"
#: F1 of the published models on NCBI-disease, and their sizes; each line names its source.
PUBLISHED = models.BUILT_IN_TEACHERS.parent / "benchmarks" / "biobert_published.csv"
SEEDS = (0, 1, 2)
ROWS = ("teacher", "student", "baseline")
KEPT = (
    "parameters", "perplexity", "top1", "top5", "kl_to_teacher", "agreement", "entity_f1",
    "entity_interval", "latency_ms", "tokens_per_second",
)  # fmt: skip


def measure(
    *,
    seeds: Sequence[int] = SEEDS,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train every student with every seed, then every student with each of its terms at zero.

    Args:
        seeds: of start, order and masks.
        progress: who is told; a bar by default.
        options: of `RunConfig.from_recipe`, such as ``steps``.

    Returns:
        ``oracle`` and ``teacher`` (a row each); ``students``: by recipe a list with a line a seed,
        ``{"seed", "student": row, "baseline": row}``; ``steps`` by recipe; ``ablation``: by recipe
        and label, see `ablate`, in half as many steps.
    """
    progress = progress or for_here()
    names = recipes.names("fill-mask")
    found: dict[str, Any] = {"students": {}, "ablation": {}, "steps": {}}
    try:
        for name in names:
            found["students"][name] = []
            for seed in seeds:
                config = RunConfig.from_recipe(name, seed=seed, **options)
                progress.stage(f"{name}, seed {seed}")
                rows = _learn(config, progress)
                found["oracle"], found["teacher"] = rows["oracle"], rows["teacher"]
                line = {"seed": seed, "student": rows["student"], "baseline": rows["baseline"]}
                found["students"][name].append(line)
        for name in names:
            progress.stage(f"{name}, each term taken out")
            steps = options.get("steps") or recipes.get(name).scale("classroom").steps
            found["steps"][name] = steps
            shorter = {**options, "steps": max(1, steps // 2)}
            found["ablation"][name] = ablate(name, seeds=seeds, progress=progress, **shorter)
    finally:
        progress.close()
    return found


def ablate(
    name: str, *, seeds: Sequence[int] = SEEDS, progress: Progress | None = None, **options: Any
) -> dict[str, Any]:
    """A recipe as it is, and with the weight of each of its terms at zero, all else equal.

    Returns:
        By label ("all terms", "without hidden" …): ``steps`` and ``perplexity``, a list of the
        held-out perplexity at these steps for each seed.
    """
    objective = recipes.get(name).variant("corrected").objective
    weights = objective.weights(recipes.get(name).alpha)
    configs = {"all terms": RunConfig.from_recipe(name, **options)}
    for term, weight in weights.items():
        if weight:
            configs[f"without {_WORDS[term]}"] = RunConfig.from_recipe(
                name, weights={term: 0.0}, **options
            )
    bands = studies.compare(configs, seeds=seeds, evaluations=4, progress=progress)
    return {
        label: {"steps": list(band.steps), "perplexity": [list(r.perplexity) for r in band.runs]}
        for label, band in bands.items()
    }


def stored() -> dict[str, Any]:
    """What `workbench bench biobert` wrote once, and the published figures.

    Raises:
        WorkbenchError: if the file is missing or damaged.
    """
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    return {**storage.read_json(STORED), "published": published}


def table(measured: dict[str, Any]) -> str:
    """Students and baselines as aligned text, a line a seed."""
    lines = [
        f"{'':<16}{'seed':>5}{'parameters':>12}{'ms':>7}{'perplexity':>12}{'baseline':>10}"
        f"{'entity F1':>11}{'baseline':>10}"
    ]
    teacher = measured["teacher"]
    lines.append(
        f"{'teacher':<16}{'':>5}{teacher['parameters']:>12,}{teacher['latency_ms']:>7.2f}"
        f"{teacher['perplexity']:>12.3f}{'':>10}{teacher['entity_f1']:>11.3f}"
    )
    for name, runs in measured["students"].items():
        for run in runs:
            student, baseline = run["student"], run["baseline"]
            lines.append(
                f"{name:<16}{run['seed']:>5}{student['parameters']:>12,}"
                f"{student['latency_ms']:>7.2f}{student['perplexity']:>12.3f}"
                f"{baseline['perplexity']:>10.3f}{student['entity_f1']:>11.3f}"
                f"{baseline['entity_f1']:>10.3f}"
            )
    return "\n".join(lines)


#: Terms in words.
_WORDS = {
    "hard": "labels", "soft": "soft targets", "cosine": "cosine", "hidden": "hidden states",
    "attention": "attention",
}  # fmt: skip


def _learn(config: RunConfig, progress: Progress) -> dict[str, dict[str, Any]]:
    """The four rows of one run, nothing kept on disk."""
    shop = workshop.prepare(config, Silent())
    order = corpora.endless_order(len(shop.train_batches), config.seed)
    for step in range(1, config.steps + 1):
        batch = shop.batch(next(order), step)
        shop.student.step(batch).check_finite()
        shop.baseline.step(batch).check_finite()
        progress.advance(step, config.steps, {})
    judged = evaluation.judged_by(shop)
    rows = tasks.of(config.recipe).four_rows(config, judged)
    kept = {name: {key: rows[name][key] for key in KEPT} for name in ("oracle", *ROWS)}
    kept["baseline"]["latency_ms"] = runtime.measure_reader(
        judged.baseline, shop.validation, seconds=0.2
    ).latency_ms
    return kept
