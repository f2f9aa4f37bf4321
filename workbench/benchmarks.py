"""The measurements that the README quotes; `workbench bench WHAT` runs one."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import UsageError

#: Where measurements are kept that README and notebooks quote.
BENCHMARKS = Path(__file__).parents[1] / "data" / "benchmarks"
#: Seconds that ``import workbench`` may take.
IMPORT_GOAL = 0.5


def run(what: str) -> dict[str, Any]:
    """Measure one thing; UsageError lists what there is."""
    benchmarks: dict[str, Callable[[], dict[str, Any]]] = {
        "step": step,
        "world": world,
        "import": import_time,
        "seeds": seeds,
        "sizes": pmhc_sizes,
        "mlm-head": mlm_head,
        "biobert": biobert,
        "vocabulary-loss": vocabulary_loss,
        "costs": costs,
        "peers": peers,
        "grid": grid,
        "cache": cache,
    }
    if what not in benchmarks:
        raise UsageError(f"there is no benchmark {what!r}; expected {' or '.join(benchmarks)}")
    return benchmarks[what]()


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


def import_time(repeats: int = 5) -> dict[str, Any]:
    """Seconds that ``import workbench`` adds to an empty interpreter, and those of commands.

    Returns:
        Medians, with the goal, machine, versions and date; stored as
        ``data/benchmarks/import.json``.
    """
    from workbench.peer_bench.table import Goal

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
    return _stored("import", _stamped({
        "import_workbench_seconds": added,
        "empty_interpreter_seconds": seconds["empty"],
        "workbench_help_seconds": seconds["help"],
        "workbench_recipes_seconds": seconds["recipes"],
        "goals": [Goal("seconds of import workbench", added, IMPORT_GOAL, "at most").to_json()],
        "repeats": repeats,
        "command": "workbench bench import",
    }))  # fmt: skip


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


def mlm_head() -> dict[str, Any]:
    """The vocabulary head at hidden positions only, against everywhere; see `mlm_head.measure`."""
    from workbench import mlm_head

    return mlm_head.measure()


def vocabulary_loss() -> dict[str, Any]:
    """The loss at 50,257 tokens in chunks against all at once; see `vocabulary_bench.measure`.

    Returns:
        What `vocabulary_bench.measure` gives, with machine, versions and date.
    """
    from workbench import vocabulary_bench

    return _stamped(vocabulary_bench.measure())


def peers() -> dict[str, Any]:
    """A step here and by TextBrewer, a Trainer subclass and a plain loop, in turn.

    Returns:
        What `peer_bench.measure.measure` gives, with machine, versions and date; stored as
        ``data/benchmarks/peers.json``.
    """
    from workbench.peer_bench import measure

    return _stored("peers", _stamped(measure.measure()))


def grid() -> dict[str, Any]:
    """A sweep of fifty runs against the time that the peers' steps alone would take.

    Returns:
        What `peer_bench.grid.measure_grid` gives, with machine, versions and date; stored as
        ``data/benchmarks/grid.json``.
    """
    from workbench.peer_bench import grid

    return _stored("grid", _stamped(grid.measure_grid()))


def cache() -> dict[str, Any]:
    """Bytes a token and tokens/s of the teacher cache.

    Returns:
        What `peer_bench.cache.measure` gives, with machine, versions and date; stored as
        ``data/benchmarks/cache.json``.
    """
    from workbench.peer_bench import cache

    return _stored("cache", _stamped(cache.measure()))


def text(what: str, measured: dict[str, Any]) -> str:
    """What was measured, for people."""
    from workbench.peer_bench import table

    if what == "peers":
        return table.text(measured)
    goals = measured.get("goals", [])
    figures = {key: value for key, value in measured.items() if key != "goals"}
    return "\n".join([*table.plain(figures), *table.goals_text(goals)])


def pmhc_sizes() -> dict[str, Any]:
    """Students of the peptide–HLA teacher with fewer and fewer layers; see `sizes.measure`.

    Returns:
        What `sizes.measure` gives, with machine, versions and date: what the course stores.
    """
    from workbench import sizes

    return _stamped(sizes.measure())


def biobert() -> dict[str, Any]:
    """The three biomedical students with three seeds, and each term taken out.

    Returns:
        What `biobert_study.measure` gives, with machine, versions and date: what the course stores.
    """
    from workbench import biobert_study

    return _stamped(biobert_study.measure())


def costs() -> dict[str, Any]:
    """What every student of every teacher costs and is worth; see `costs.measure`.

    Returns:
        What `costs.measure` gives, with machine, versions and date; stored as
        ``data/benchmarks/costs.json``.
    """
    from workbench import costs

    return _stored("costs", _stamped(costs.measure()))


def _stored(name: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Write what was measured where the course keeps it, and hand it on."""
    from workbench import storage

    storage.make_directory(BENCHMARKS, "the measurements")
    storage.write_json(BENCHMARKS / f"{name}.json", measured)
    return measured


def _stamped(measured: dict[str, Any]) -> dict[str, Any]:
    import platform
    from datetime import date

    import torch

    from workbench.run_directory import versions

    return {
        **measured,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "date": date.today().isoformat(),
        "versions": versions(),
    }
