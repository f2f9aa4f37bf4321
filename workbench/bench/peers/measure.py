"""Who takes a distillation step in what time: `workbench bench peers`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from workbench.bench.goals import Goal
from workbench.bench.peers import floor, job
from workbench.bench.peers.driver import Contestant, Measured, Race
from workbench.errors import WorkbenchError

#: Where `make bench` makes the second environment, and what it installs there.
ENVIRONMENT = Path(__file__).parents[3] / ".venv-peers"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
#: So many times faster than the fastest peer, and so much of the machine's rate at width 128.
FASTER_GOAL, SHARE_GOAL = 4.0, 0.5
#: Widths of the student for which the floor is told; the peers have the first.
WIDTHS = (64, 128)
#: First losses agree to this, relative: the formulas are one, the order of sums is not.
AGREEMENT = 1e-5

OURS, LIVE, WIDE = "workbench", "workbench, teacher live", f"workbench, {WIDTHS[1]} wide"
LOOP, TRAINER = "tutorial loop", "Trainer subclass"
TEXTBREWER, KEPT = "TextBrewer", "TextBrewer, logits kept"
#: That the goal is about: each as its documentation shows it, with the teacher at every step.
PEERS = (LOOP, TRAINER, TEXTBREWER)


def interpreter(environment: Path = ENVIRONMENT) -> str | None:
    """Python of the second environment, or None where it has no TextBrewer."""
    name = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    python = environment / name
    if not python.exists():
        return None
    found = subprocess.run(
        [str(python), "-c", "from importlib.util import find_spec as f; "
         "raise SystemExit(f('textbrewer') is None)"],
        check=False,
    )  # fmt: skip
    return None if found.returncode else str(python)


def how_to_get_textbrewer() -> str:
    """One line for those who do not have it."""
    return (
        "TextBrewer was left out: it needs an environment of its own; `make bench` makes it "
        f"(or: python3 -m venv .venv-peers && .venv-peers/bin/python -m pip install -r "
        f"{REQUIREMENTS.relative_to(REQUIREMENTS.parents[3])})"
    )


def contestants(peers_python: str | None) -> list[Contestant]:
    """All that are compared at the first width; TextBrewer where there is a Python for it."""
    found = [
        Contestant(OURS, "own.py", sys.executable),
        Contestant(LIVE, "own.py", sys.executable, ("live",)),
        Contestant(LOOP, "tutorial_loop.py", sys.executable),
        Contestant(TRAINER, "trainer_subclass.py", sys.executable),
    ]
    if peers_python:
        found += [
            Contestant(TEXTBREWER, "textbrewer_distiller.py", peers_python),
            Contestant(KEPT, "textbrewer_distiller.py", peers_python, ("cached",)),
        ]
    return found


def measure(rounds: int = 8, steps: int = 10, warmup: int = 5) -> dict[str, Any]:
    """Let everybody take the same steps in turn, and measure the machine between the rounds.

    Args:
        rounds: turns of each.
        steps: in a turn.
        warmup: steps beforehand.

    Returns:
        For each contestant the median time of a step, ms, its spread, processor time and how many
        times ours it takes; the floor; goals; and how to get TextBrewer where it lacks.

    Raises:
        WorkbenchError: if a contestant dies, or computes another loss.
    """
    python = interpreter()
    compared = contestants(python)
    wide = Contestant(WIDE, "own.py", sys.executable)
    rates: dict[str, list[float]] = {"square": [], **{str(width): [] for width in WIDTHS}}
    with tempfile.TemporaryDirectory(prefix="workbench-peers-") as scratch:
        folders = [Path(scratch, str(width)) for width in WIDTHS]
        works = {}
        for width, folder in zip(WIDTHS, folders, strict=True):
            folder.mkdir()
            works[width] = job.write(folder, job.configuration(f"2x{width}"))

        def measure_machine() -> None:
            rates["square"].append(floor.square_rate())
            for width, work in works.items():
                rates[str(width)].append(floor.own_rate(work.shape, round(work.tokens)))

        places = [*[folders[0]] * len(compared), folders[1]]
        with Race([*compared, wide], places, Path(scratch)) as race:
            measured = race.run(rounds, steps, warmup, between=measure_machine)
    by_name = {c.name: one for c, one in zip([*compared, wide], measured, strict=True)}
    floors = {
        str(width): _floor(works[width], by_name[name], rates["square"], rates[str(width)])
        for width, name in zip(WIDTHS, (OURS, WIDE), strict=True)
    }
    del by_name[WIDE]
    check_agreement(
        {name: one.first_loss for name, one in by_name.items()}, works[WIDTHS[0]].entropy_kept
    )
    return {
        "contestants": {name: _figures(one, by_name[OURS]) for name, one in by_name.items()},
        "floor": floors,
        "goals": [g.to_json() for g in goals(by_name, floors)],
        "textbrewer": "" if python else how_to_get_textbrewer(),
        "job": f"{job.RECIPE}, student of {job.SIZE}; {works[WIDTHS[0]].batch}",
        "rounds": rounds,
        "steps": steps,
        "threads": by_name[OURS].threads,
    }


def goals(measured: dict[str, Measured], floors: dict[str, dict[str, float]]) -> list[Goal]:
    """What was to be reached, with what was."""
    times = {
        name: _figures(one, measured[OURS])["times_ours"]
        for name, one in measured.items()
        if name in PEERS
    }
    fastest = min(times, key=times.__getitem__)
    return [
        Goal(f"times faster than the fastest peer ({fastest})", times[fastest], FASTER_GOAL),
        Goal(
            f"share of the machine's rate of matrix products at width {WIDTHS[1]}",
            floors[str(WIDTHS[1])]["square_share"],
            SHARE_GOAL,
        ),
    ]


def check_agreement(first: dict[str, float], entropy_kept: float) -> None:
    """Raise WorkbenchError unless all had the same loss at the first step, as formulas go.

    TextBrewer's value has the teacher's entropy in it. Where it keeps the logits it draws its
    first batch itself, and there is nothing to compare.

    Args:
        first: loss of the first step by contestant, nats.
        entropy_kept: see `job.Work`.
    """
    for name, found in first.items():
        expected = first[OURS] + (entropy_kept if name == TEXTBREWER else 0.0)
        if name != KEPT and abs(found - expected) > AGREEMENT * abs(expected):
            raise WorkbenchError(
                f"the first loss of {name} is {found}, expected {expected}: the two do not "
                "compute the same, so their times cannot be compared"
            )


def _step(one: Measured) -> float:
    """Median seconds of a step."""
    return statistics.median(one.seconds)


def _figures(one: Measured, ours: Measured) -> dict[str, Any]:
    """Of a contestant; the ratio is a median over rounds, each against ours of the same round."""
    tenths = statistics.quantiles(one.seconds, n=10)
    pairs = zip(one.rounds, ours.rounds, strict=True)
    return {
        "step_ms": 1e3 * _step(one),
        "spread_ms": [1e3 * tenths[0], 1e3 * tenths[-1]],
        "cpu_ms": 1e3 * statistics.median(
            cpu / len(steps) for cpu, steps in zip(one.cpu_seconds, one.rounds, strict=True)
        ),
        "times_ours": statistics.median(
            statistics.median(steps) / statistics.median(own) for steps, own in pairs
        ),
        "first_loss": one.first_loss,
        "versions": one.versions,
    }  # fmt: skip


def _floor(
    work: job.Work, one: Measured, square: list[float], own: list[float]
) -> dict[str, float]:
    found = {"gflop": work.operations / 1e9, "step_ms": 1e3 * _step(one)}
    for name, rates in (("square", square), ("own", own)):
        rate = statistics.median(rates)
        found[f"{name}_gflops"] = rate / 1e9
        found[f"{name}_floor_ms"] = 1e3 * work.operations / rate
        found[f"{name}_share"] = work.operations / rate / _step(one)
    return found
