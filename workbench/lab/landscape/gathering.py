"""What a landscape shows, gathered from the directory of a sweep.

The content is plain data: everything of ``sweep.json``, and for each point the intervals of every
figure over its seeds and, of the run with its first seed, thinned curves, the last ledger, and what
the student expects at a few held-out places.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import storage
from workbench.comparisons import verdicts
from workbench.errors import WorkbenchError
from workbench.run_directory import RunDirectory, read_metrics

FORMAT = "workbench landscape 1"
#: Figures that a landscape has beside the headline.
BESIDE = ("kl_to_teacher", "calibration_error", "agreement")
#: A curve has so many points of the losses at most; held-out figures are few and all kept.
MOST_LOSSES = 24
#: Places of held-out data at which the answers are kept, and words that are named at each.
PLACES, WORDS = 2, 8
#: Digits of a stored number.
DIGITS = 6
#: Settings that `workbench sweep` has a flag for; the others can be given in Python only.
_FLAGS = frozenset((
    "steps", "scale", "teacher", "data", "column", "label", "alleles", "match", "weights",
    "whole_words", "batch_size", "learning_rate", "checkpoint_every",
))  # fmt: skip
#: Of ``sweep.json`` but not of the content: they name places on the machine that it was made on.
_LOCAL = ("sweep", "storage", "study", "points")


def gather(directory: str | Path) -> dict[str, Any]:
    """The content of a landscape, from a sweep that is finished or has begun.

    Args:
        directory: of the sweep.

    Returns:
        ``sweep`` (``sweep.json`` without what is of one machine), ``command`` that makes the sweep
        again, ``points`` (each with ``figures``, ``curve``, ``ledger``, ``answers``), ``baselines``
        (the curve without a teacher, by student) and ``places`` (in the held-out data).

    Raises:
        WorkbenchError: if there is no sweep, or it is a search and has no grid.
    """
    # Slow to import, for its database; a stored landscape needs none of it.
    from workbench.sweeps import RESULTS
    from workbench.sweeps.plan import FORMAT as SWEEP

    place = Path(directory)
    if not (place / RESULTS).exists():
        raise WorkbenchError(
            f"{place} holds no sweep that can be shown (no {RESULTS}); make one with "
            "`workbench sweep NAME --temperature … --alpha …`"
        )
    found = storage.read_json(place / RESULTS)
    if not isinstance(found, dict) or found.get("format") != SWEEP:
        raise WorkbenchError(f"{place / RESULTS} is no sweep; expected format {SWEEP!r}")
    if found["search"]:
        raise WorkbenchError(
            f"{place} is a search, whose points lie on no grid; a landscape needs a sweep without "
            "--search"
        )
    content = {
        "format": FORMAT,
        "command": command(found),
        "sweep": {key: value for key, value in found.items() if key not in _LOCAL},
        "points": [_point(place, point, found["headline"]["key"]) for point in found["points"]],
        "baselines": _baselines(place, found["points"]),
        "places": [],
    }
    _ask(place, found, content)
    return _rounded(content)


def command(found: Mapping[str, Any]) -> str:
    """What makes a sweep again, from its results: a command line, or Python where none can."""
    axes = {name: values for name, values in found["axes"].items() if _said(name, values)}
    fixed = {**found["fixed"], "steps": found["steps"]}
    if set(fixed) - _FLAGS:
        given = {**axes, "seeds": list(found["seeds"]), **fixed}
        words = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"workbench.sweep({found['recipe']!r}, {words})"
    words = ["workbench", "sweep", str(found["recipe"])]
    for axis, values in axes.items():
        words += [f"--{axis}", *(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]
    words += ["--seeds", str(len(found["seeds"]))]
    for name, value in fixed.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "weights":
            words += [w for term, one in value.items() for w in ("--weight", f"{term}={one:g}")]
        elif name == "whole_words":
            words.append(flag)
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def _said(axis: str, values: Sequence[Any]) -> bool:
    """Whether an axis has to be given, or is the recipe's own."""
    if axis in ("temperature", "alpha") or len(values) > 1:
        return True
    return axis != "init" and values[0] not in ("", "corrected")


def student(point: Mapping[str, Any]) -> str:
    """What tells students of a sweep apart besides T, α and the variant."""
    return f"{point['init']}|{point['size']}"


def _point(place: Path, point: Mapping[str, Any], headline: str) -> dict[str, Any]:
    done = [run["figures"] for run in point["runs"] if run["figures"]]
    figures = {key: _figure(done, key) for key in (headline, *BESIDE)}
    first = next((run for run in point["runs"] if run["figures"]), None)
    lines = read_metrics(place / first["run"]) if first else []
    return {
        **{key: value for key, value in point.items() if key != "runs"},
        "seeds": [run["seed"] for run in point["runs"] if run["figures"]],
        "errors": [run["error"] for run in point["runs"] if run["error"]],
        "figures": figures,
        "curve": _curve(lines, "student"),
        "ledger": next((line["ledger"] for line in reversed(lines) if "ledger" in line), None),
        "answers": [],
    }


def _figure(done: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    """Mean over seeds, 95 % interval, the seeds' values, and the mean without a teacher."""
    values = [run["student"][key] for run in done]
    if not values or None in values:
        return None
    mean, interval = verdicts.mean_interval(values)
    alone = [run["baseline"][key] for run in done]
    return {
        "mean": mean,
        "interval": list(interval) if interval else None,
        "values": values,
        "baseline": None if None in alone else sum(alone) / len(alone),
    }


def _curve(lines: Sequence[Mapping[str, Any]], who: str) -> dict[str, Any] | None:
    """Held-out figures and losses by step."""
    if not lines:
        return None
    measured = [line for line in lines if "validation" in line]
    learned = [line for line in lines if who in line]
    every = max(1, math.ceil(len(learned) / MOST_LOSSES))
    learned = [line for i, line in enumerate(learned[::-1]) if i % every == 0][::-1]
    keys = list(measured[0]["validation"][who]) if measured else []
    return {
        "steps": [line["step"] for line in measured],
        "figures": {key: [line["validation"][who][key] for line in measured] for key in keys},
        "loss_steps": [line["step"] for line in learned],
        "loss": [line[who]["total"] for line in learned],
    }


def _baselines(place: Path, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The curve without a teacher, of the first seed, by student: T and α do not change it."""
    found: dict[str, Any] = {}
    for point in points:
        first = next((run for run in point["runs"] if run["figures"]), None)
        if first and student(point) not in found:
            found[student(point)] = _curve(read_metrics(place / first["run"]), "baseline")
    return found


# ---------------------------------------------------------------------- answers


def _ask(place: Path, found: Mapping[str, Any], content: dict[str, Any]) -> None:
    """Put in what teacher and students say at a few places, as far as students are kept."""
    from workbench import tasks, workshop
    from workbench.progress import Silent
    from workbench.run_directory import load_config

    probes: list[Any] = []
    for point, shown in zip(found["points"], content["points"], strict=True):
        first = next((run for run in point["runs"] if run["figures"]), None)
        directory = RunDirectory(place / first["run"]) if first else None
        if directory is None or not directory.student.exists():
            continue
        if not probes:
            # T, α, variant and size change neither the data nor the teacher.
            config = load_config(directory)
            task = tasks.of_run(config)
            shop = workshop.prepare(config, Silent())
            probes = task.probes(shop)[:PLACES]
            content["places"] = [_place(one, one.logits(shop.teacher_model)) for one in probes]
        model, *_ = task.load_model(str(directory.student))
        shown["answers"] = [
            _shares(_softmax(probe.logits(model)), known["words"], probe.words)
            for probe, known in zip(probes, content["places"], strict=True)
        ]


def _place(probe: Any, teacher: Any) -> dict[str, Any]:
    """A question, the words that are named, and what teacher and oracle say."""
    said = _softmax(teacher)
    truth = probe.oracle
    weight = said if truth is None else [max(a, b) for a, b in zip(said, truth, strict=True)]
    order = sorted(range(len(said)), key=lambda i: -weight[i])[:WORDS]
    # Where all fit there is no rest.
    words = [probe.words[i] for i in order]
    return {
        "title": probe.title,
        "text": probe.text,
        "words": words,
        "rest": probe.rest if len(order) < len(said) else None,
        "label": None if probe.label is None else probe.words[probe.label],
        "teacher": _shares(said, words, probe.words),
        "oracle": None if truth is None else _shares(list(truth), words, probe.words),
    }


def _softmax(logits: Any) -> list[float]:
    top = float(max(logits))
    powers = [math.exp(float(x) - top) for x in logits]
    total = sum(powers)
    return [p / total for p in powers]


def _shares(said: Sequence[float], named: Sequence[str], words: Sequence[str]) -> list[float]:
    """Probabilities of the named words and, last, of all others together."""
    index = {word: i for i, word in reversed(list(enumerate(words)))}
    shares = [float(said[index[word]]) for word in named]
    return [*shares, max(0.0, 1.0 - sum(shares))]


def _rounded(value: Any) -> Any:
    """Numbers with the digits that a picture can show; what is not finite is null."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
