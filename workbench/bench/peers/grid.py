"""A grid of runs here against the time that the peers' steps alone would take: `bench grid`."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from workbench.bench.goals import Goal
from workbench.bench.peers import job, measure

TEMPERATURES = [1.0, 2.0, 4.0, 7.0, 10.0]
ALPHAS = [0.0, 0.1, 0.3, 0.6, 1.0]
SEEDS, STEPS = 2, 300
#: At most so much of the peers' time.
SHARE_GOAL = 0.25


def measure_grid(workers: int | None = None) -> dict[str, Any]:
    """A real sweep, everything included, between two measurements of the peers' step.

    The sweep makes its teacher cache, trains its baselines, evaluates every run and saves every
    student. Of the peers only their steps are counted: no loading, no evaluation, no files.

    Args:
        workers: of the sweep; None for its own default.

    Returns:
        Seconds of the sweep, of the fastest peer's steps, their ratio and the goal.
    """
    import workbench

    runs = len(TEMPERATURES) * len(ALPHAS) * SEEDS
    before = measure.measure(rounds=3, steps=10)
    # A cache of its own: an answer or a baseline kept from an earlier sweep would flatter it.
    with tempfile.TemporaryDirectory(prefix="workbench-grid-") as scratch:
        kept = os.environ.get("WORKBENCH_CACHE")
        os.environ["WORKBENCH_CACHE"] = str(Path(scratch, "cache"))
        try:
            started = time.perf_counter()
            found = workbench.sweep(
                job.RECIPE,
                directory=Path(scratch, "sweep"),
                workers=workers,
                temperature=TEMPERATURES,
                alpha=ALPHAS,
                seeds=SEEDS,
                size=job.SIZE,
                steps=STEPS,
            )
            seconds = time.perf_counter() - started
        finally:
            if kept is None:
                del os.environ["WORKBENCH_CACHE"]
            else:
                os.environ["WORKBENCH_CACHE"] = kept
    after = measure.measure(rounds=3, steps=10)
    return {
        **compare(seconds, [before, after], runs),
        "workers": found["workers"],
        "threads_of_a_worker": found["threads"],
        "textbrewer": before["textbrewer"],
    }


def compare(seconds: float, found: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    """The sweep against the peers' steps.

    Args:
        seconds: of the sweep.
        found: what `measure.measure` gave before and after.
        runs: in the sweep.
    """
    steps = {
        name: sum(f["contestants"][name]["step_ms"] for f in found) / len(found) / 1e3
        for name in measure.PEERS
        if name in found[0]["contestants"]
    }
    fastest = min(steps, key=steps.__getitem__)
    theirs = steps[fastest] * runs * STEPS
    goal = Goal(
        f"share of the time of the fastest peer ({fastest})", seconds / theirs, SHARE_GOAL,
        "at most",
    )  # fmt: skip
    return {
        "runs": runs,
        "steps": STEPS,
        "sweep_seconds": seconds,
        "peer_seconds": {name: step * runs * STEPS for name, step in steps.items()},
        "goals": [goal.to_json()],
    }
