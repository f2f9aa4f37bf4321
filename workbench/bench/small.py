"""The short measurements: a step, the worlds, start-up, and a recipe with several seeds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from workbench.bench.goals import Goal

#: Seconds that ``import workbench`` may take.
IMPORT_GOAL = 0.5


def step(rounds: int = 3, steps: int = 40) -> dict[str, Any]:
    """A distillation step from the cache against one that runs the teacher, in turn.

    Both train a student from the same start on the same batches; at the end the two
    students' weights must be the same bytes.

    Returns:
        Median seconds of a step each way (ms), their ratio, and whether the weights agree.
    """
    import torch

    from workbench import corpora, models, workshop
    from workbench.config import RunConfig
    from workbench.progress import Silent

    shops = {
        name: workshop.prepare(
            RunConfig.from_recipe("protgpt2-tiny", cached=cached, steps=rounds * steps), Silent()
        )
        for name, cached in (("cached", True), ("live", False))
    }
    times: dict[str, list[float]] = {name: [] for name in shops}
    orders = {
        name: corpora.endless_order(len(shop.train_batches), 0) for name, shop in shops.items()
    }
    for _ in range(rounds):
        for name, shop in shops.items():
            for _ in range(steps):
                batch = shop.train_batches[next(orders[name])]
                started = time.perf_counter()
                shop.student.step(batch)
                times[name].append(time.perf_counter() - started)
    prints = {name: models.fingerprint(shop.student.student) for name, shop in shops.items()}
    cached, live = (1e3 * statistics.median(times[name]) for name in ("cached", "live"))
    return {
        "step_from_cache_ms": cached,
        "step_with_live_teacher_ms": live,
        "ratio": live / cached,
        "same_student_bytes": prints["cached"] == prints["live"],
        "steps": rounds * steps,
        "threads": torch.get_num_threads(),
    }


def world(sequences: int = 20_000, scored: int = 2_000) -> dict[str, Any]:
    """How fast the protein world draws and how fast its oracle answers, residues/s."""
    from workbench.worlds import proteins

    built_in = proteins.default_world()
    built_in.sample(10, 0)
    started = time.perf_counter()
    drawn = built_in.sample(sequences, 1)
    sampling = time.perf_counter() - started
    several, one = drawn[:scored], drawn[:300]
    built_in.oracle_batch(several[:10])
    started = time.perf_counter()
    built_in.oracle_batch(several)
    batch = time.perf_counter() - started
    started = time.perf_counter()
    for sequence in one:
        built_in.oracle(sequence)
    single = time.perf_counter() - started
    return {
        "sample_residues_per_second": sum(map(len, drawn)) / sampling,
        "oracle_residues_per_second": sum(map(len, several)) / batch,
        "oracle_residues_per_second_one_at_a_time": sum(map(len, one)) / single,
    }


def import_time(repeats: int = 15) -> dict[str, Any]:
    """Seconds that ``import workbench`` adds to an empty interpreter, and those of two commands.

    Returns:
        Medians of times taken in turn, and the goal.
    """
    calls = {
        "empty": ["-c", "pass"],
        "import": ["-c", "import workbench"],
        "help": ["-m", "workbench", "--help"],
        "recipes": ["-m", "workbench", "recipes"],
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, arguments in calls.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - started)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    added = max(0.0, seconds["import"] - seconds["empty"])
    return {
        "import_workbench_seconds": added,
        "empty_interpreter_seconds": seconds["empty"],
        "workbench_help_seconds": seconds["help"],
        "workbench_recipes_seconds": seconds["recipes"],
        "repeats": repeats,
        "goals": [Goal("seconds of import workbench", added, IMPORT_GOAL, "at most").to_json()],
    }


def seeds(count: int = 4) -> dict[str, Any]:
    """Each variant of protgpt2-tiny with several seeds: what the teacher was worth.

    Returns:
        For each variant, a line a seed: held-out perplexity of student and baseline and
        by how much the student's is lower; and the least of these.
    """
    from workbench import corpora, workshop
    from workbench.config import RunConfig
    from workbench.progress import Silent
    from workbench.recipes.recipe import VARIANTS

    found: dict[str, Any] = {}
    for variant in VARIANTS:
        gains = []
        for seed in range(count):
            config = RunConfig.from_recipe("protgpt2-tiny", variant=variant, seed=seed)
            shop = workshop.prepare(config, Silent())
            order = corpora.endless_order(len(shop.train_batches), seed)
            for _ in range(config.steps):
                batch = shop.train_batches[next(order)]
                shop.student.step(batch)
                shop.baseline.step(batch)
            student, baseline = (
                d.evaluate(shop.validation_batches, shop.validation.residues).perplexity
                for d in (shop.student, shop.baseline)
            )
            gains.append(1 - student / baseline)
            found[f"{variant}, seed {seed}"] = (
                f"student {student:.3f}, baseline {baseline:.3f}, {gains[-1]:.1%} lower"
            )
        found[f"{variant}, least"] = min(gains)
    return found
