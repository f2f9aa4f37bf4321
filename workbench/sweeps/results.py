"""What a sweep found, as data and as a table: each point, its seeds, an interval, a verdict."""

from __future__ import annotations

import math
import statistics
from datetime import date
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from workbench.columns import aligned
from workbench.comparisons import verdicts
from workbench.comparisons.headline import Headline
from workbench.run_directory import versions
from workbench.sweeps.plan import AXES, FORMAT, Plan
from workbench.sweeps.study import Study, shown

#: Figures beside the headline that a point has the mean of.
BESIDE = ("kl_to_teacher", "agreement", "calibration_error")
_STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
#: Of a trial whose worker was killed twice.
KILLED = "its worker was killed, and once more when it was tried again"


def collect(study: Study, *, workers: int, threads: int) -> dict[str, Any]:
    """The contents of ``sweep.json``, as the study stands.

    Args:
        study: of the sweep.
        workers: processes at a time.
        threads: of each.

    Returns:
        ``recipe``, ``steps``, ``axes``, ``seeds``, ``fixed``, ``headline`` and so on;
        ``points``: a list with, for each, T, α, variant, init, size, its ``state``, all of its
        ``runs``, and over its seeds ``mean``, ``interval`` (95 %, by Student's t) and ``baseline``
        of the headline, the means of KL to the teacher (nats), agreement, calibration error and
        training seconds, and the ``verdict`` against the baseline; ``best``: the index of the best
        of the complete points. What does not apply is null.
    """
    plan = study.plan
    config = plan.config(plan.points()[0], plan.seeds[0])
    trained = _by_point(plan, list(study.latest().values()))
    figures = [run["figures"] for _, runs in trained for run in runs if run["figures"]]
    points = [_point(plan, point, runs) for point, runs in trained]
    complete = [i for i, p in enumerate(points) if p["state"] == "complete"]
    headline = plan.headline
    best = headline.best([points[i]["mean"] for i in complete]) if complete else None
    return {
        "format": FORMAT,
        "recipe": plan.recipe,
        "search": plan.search or None,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "scale": config.scale,
        "teacher_source": config.teacher,
        "data": config.data,
        "axes": {name: list(plan.axes[name]) for name in AXES},
        "seeds": list(plan.seeds),
        "fixed": plan.fixed,
        "pruned": plan.prune,
        "headline": {"key": headline.key, "name": headline.name, "better": headline.better},
        "oracle": figures[0]["oracle"] if figures else None,
        "teacher": figures[0]["teacher"] if figures else None,
        "points": points,
        "best": next((i for i in complete if points[i]["mean"] == best), None),
        "study": study.name,
        "storage": shown(study.url),
        "workers": workers,
        "threads": threads,
        "machine": _machine(workers, threads),
        "date": date.today().isoformat(),
        "versions": versions(),
    }


def _by_point(
    plan: Plan, trials: list[FrozenTrial]
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Points in the plan's order, of a search in that of their trials, each with its runs."""
    if plan.search:
        return [
            (t.user_attrs["point"], _runs(t, plan))
            for t in sorted(trials, key=lambda t: t.user_attrs.get("retry_of", t.number))
            if "point" in t.user_attrs
        ]
    found: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for point in plan.points():
        mine = [t for t in trials if t.user_attrs["point"] == point]
        mine.sort(key=lambda t: plan.seeds.index(t.user_attrs["seed"]))
        found.append((point, [run for t in mine for run in _runs(t, plan)]))
    return found


def _runs(trial: FrozenTrial, plan: Plan) -> list[dict[str, Any]]:
    """What is known of a trial's runs; of those not begun, their seed."""
    state = _STATES[trial.state]
    error = trial.user_attrs.get("error")
    if state == "failed" and error is None:
        error = KILLED
    told = [
        {**run, "error": error if run["state"] == "failed" else None}
        for run in trial.user_attrs.get("runs", [])
    ]
    seeds = plan.seeds if plan.search else (trial.user_attrs["seed"],)
    rest = [
        {"seed": seed, "run": None, "state": state, "figures": None, "error": error}
        for seed in seeds[len(told) :]
    ]
    return told + rest


def _point(plan: Plan, point: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    headline = plan.headline
    states = {run["state"] for run in runs}
    order = ("failed", "pruned", "running", "waiting", "complete")
    state = next((s for s in order if s in states), "waiting")
    done = [run["figures"] for run in runs if run["figures"]]
    students = [f["student"][headline.key] for f in done]
    baselines = [f["baseline"][headline.key] for f in done]
    mean, interval = verdicts.mean_interval(students) if done else (None, None)
    return {
        **point,
        "state": state,
        "mean": mean,
        "interval": list(interval) if interval else None,
        "baseline": statistics.fmean(baselines) if done else None,
        "verdict": _verdict(students, baselines, headline),
        **{key: _mean([f["student"][key] for f in done]) for key in BESIDE},
        "seconds": _mean([f["seconds"] for f in done]),
        "runs": [_run(run) for run in runs],
    }


def _run(run: dict[str, Any]) -> dict[str, Any]:
    """A run with its student's and its baseline's figures; oracle and teacher stand once above."""
    figures = run["figures"] or dict.fromkeys(("steps", "seconds", "student", "baseline"))
    kept = {key: figures[key] for key in ("steps", "seconds", "student", "baseline")}
    return {**{k: run[k] for k in ("seed", "run", "state", "error")}, "figures": run["figures"]
            and kept}  # fmt: skip


def _verdict(
    students: list[float], baselines: list[float], headline: Headline
) -> dict[str, Any] | None:
    """Against the labels alone; ends that are infinite, with one seed, are null."""
    if not students or min(*students, *baselines) <= 0:
        return None
    found = verdicts.compare(students, baselines, lower_is_better=headline.better == "lower")
    ends = [end if math.isfinite(end) else None for end in (found.low, found.high)]
    return {"word": found.word, "mean": found.mean, "interval": None if None in ends else ends}


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def _machine(workers: int, threads: int) -> str:
    from workbench.devices import machine

    each = "a thread" if threads == 1 else f"{threads} threads"
    crew = "1 worker" if workers == 1 else f"{workers} workers"
    return f"{machine.name()}, {crew} with {each}{'' if workers == 1 else ' each'}"


# ---------------------------------------------------------------------- for people


def table(found: dict[str, Any]) -> str:
    """A sweep's points as aligned text, the best marked, and what is to be said of them."""
    name = found["headline"]["name"]
    digits = 2 if found["headline"]["better"] == "lower" else 3
    varied = [
        axis
        for axis in ("variant", "init", "size")
        if len({point[axis] for point in found["points"]}) > 1
    ]
    lines = [
        ["", "T", "α", *varied, name, "± 95 %", "baseline", "against it", "verdict",
         "KL to teacher", "agreement", "calibration error"]
    ]  # fmt: skip
    for i, point in enumerate(found["points"]):
        lines.append(
            [
                "*" if i == found["best"] else "",
                f"{point['temperature']:.4g}",
                f"{point['alpha']:.4g}",
                *(point[axis] or "own" for axis in varied),
                *_figures(point, digits),
            ]
        )
    return "\n".join([aligned(lines), *_sentences(found)])


def _figures(point: dict[str, Any], digits: int) -> list[str]:
    def said(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    verdict, interval = point["verdict"], point["interval"]
    word = verdict["word"] if verdict else "–"
    return [
        said(point["mean"], f"{{:.{digits}f}}"),
        said((interval[1] - interval[0]) / 2 if interval else None, f"{{:.{digits}f}}"),
        said(point["baseline"], f"{{:.{digits}f}}"),
        said(verdict["mean"] if verdict else None, "{:+.1%}"),
        word if point["state"] == "complete" else point["state"],
        said(point["kl_to_teacher"], "{:.4f}"),
        said(point["agreement"], "{:.3f}"),
        said(point["calibration_error"], "{:.4f}"),
    ]


def _sentences(found: dict[str, Any]) -> list[str]:
    headline = found["headline"]
    said = []
    teacher = found["teacher"]
    if teacher:
        said.append(f"The teacher's {headline['name']} is {teacher[headline['key']]:.3f}.")
    if found["best"] is not None:
        best = found["points"][found["best"]]
        said.append(
            f"Best on average (*): T = {best['temperature']:.4g}, α = {best['alpha']:.4g}. The "
            f"baseline learned {found['steps']} steps from the same start on the same batches, "
            "from labels alone."
        )
    failed = [r for p in found["points"] for r in p["runs"] if r["error"]]
    if failed:
        said.append(f"{len(failed)} runs failed; the first: {failed[0]['error']}")
    return said
