"""What the browser is told of a landscape: read, checked, and put into the places of a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import recipes, storage
from workbench.errors import UsageError, WorkbenchError
from workbench.lab.landscape.gathering import BESIDE, FORMAT, gather, student
from workbench.lab.landscape.store import PLACE
from workbench.lab.live.knobs import Settings

#: Names, the good end and digits of figures that are no headline; units where they have one.
FIGURES = {
    "kl_to_teacher": ("KL to the teacher, nats", "lower", 3),
    "calibration_error": ("calibration error", "lower", 3),
    "agreement": ("agreement with the teacher", "higher", 3),
}
#: Cividis, made for all kinds of colour vision: even steps of lightness, from blue to yellow.
COLOURS = (
    "#00224e", "#0f3370", "#35456c", "#4f576c", "#666970", "#7d7c78", "#948e77", "#aea371",
    "#c8b866", "#e5cf52", "#fee838",
)  # fmt: skip


def read(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The content of a landscape.

    Args:
        source: name of a stored sweep, such as ``protgpt2-tiny``; a stored file (``….json``); the
            directory of a sweep; or what `workbench.sweep` returned.

    Returns:
        See `workbench.lab.landscape.gathering.gather`.

    Raises:
        UsageError: if there is no such sweep.
        WorkbenchError: if it is damaged, of another kind, or a search.
    """
    if isinstance(source, Mapping):
        if "sweep" not in source:
            raise UsageError("this is not what workbench.sweep returned: it names no directory")
        return gather(source["sweep"])
    path = Path(source)
    if path.is_dir():
        return gather(path)
    if path.suffix != ".json":
        stored = PLACE / f"{source}.json"
        if path.name != str(source) or not stored.exists():
            raise UsageError(
                f"there is no sweep {str(source)!r}; expected the directory of one, a stored file, "
                f"or one of {', '.join(names()) or 'the stored ones, of which there are none'}"
            )
        path = stored
    content = storage.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WorkbenchError(f"{path} is no stored sweep; expected format {FORMAT!r}")
    return content


def names() -> list[str]:
    """Names of the stored sweeps."""
    return sorted(path.stem for path in PLACE.glob("*.json"))


def pack(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What is drawn, as plain data.

    Args:
        content: as `read` returns it.
        source: how an error names it.

    Returns:
        ``figures`` that can be shown, the axes ``temperatures``, ``alphas``, ``variants`` (each
        with its published point) and ``students``, ``points`` (each with the indices of its place
        on these axes as ``at``), ``baselines`` by student, ``places``, and words.

    Raises:
        WorkbenchError: if something is missing or is not what it should be.
    """
    try:
        return _pack(content)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise WorkbenchError(
            f"{source} cannot be shown ({type(error).__name__}: {error}); store it again with "
            "`python -m workbench.lab.landscape.store`"
        ) from error


def _pack(content: Mapping[str, Any]) -> dict[str, Any]:
    sweep = content["sweep"]
    recipe = recipes.get(sweep["recipe"])
    axes = {name: list(sweep["axes"][name]) for name in ("temperature", "alpha")}
    for name, values in axes.items():
        axes[name] = sorted(_number(value) for value in values)
    variants = [str(name) for name in sweep["axes"]["variant"]]
    keys = [f"{init}|{size}" for size in sweep["axes"]["size"] for init in sweep["axes"]["init"]]
    points = [_point(point, sweep, axes, variants, keys) for point in content["points"]]
    head = sweep["headline"]
    figures = [
        {"key": str(head["key"]), "name": str(head["name"]), "better": str(head["better"]),
         "digits": 2 if head["better"] == "lower" else 3, "headline": True},
        *({"key": key, "name": FIGURES[key][0], "better": FIGURES[key][1],
           "digits": FIGURES[key][2], "headline": False} for key in BESIDE),
    ]  # fmt: skip
    figures = [f for f in figures if any(p["figures"][f["key"]] for p in points)] or figures[:1]
    return {
        "recipe": recipe.name,
        "title": recipe.title,
        "figures": figures,
        "temperatures": axes["temperature"],
        "alphas": axes["alpha"],
        "variants": [_variant(recipe, name, axes) for name in variants],
        "students": [_student(key, sweep["axes"]["init"]) for key in keys],
        "points": points,
        "levels": {
            role: {f["key"]: _optional((sweep[role] or {}).get(f["key"])) for f in figures}
            for role in ("teacher", "oracle")
        },
        "places": [_place(one) for one in content["places"]],
        "baselines": [_curve(content["baselines"].get(key)) for key in keys],
        "steps": int(sweep["steps"]),
        "seeds": len(sweep["seeds"]),
        "told": {
            "command": str(content["command"]),
            "machine": str(sweep["machine"]),
            "date": str(sweep["date"]),
        },
        "colours": list(COLOURS),
    }


def _point(
    point: Mapping[str, Any],
    sweep: Mapping[str, Any],
    axes: Mapping[str, list[float]],
    variants: list[str],
    keys: list[str],
) -> dict[str, Any]:
    verdict = point["verdict"]
    given = {
        "temperature": _number(point["temperature"]), "alpha": _number(point["alpha"]),
        "variant": str(point["variant"]),
    }  # fmt: skip
    # What differs from the recipe's own belongs into the link; the first seed is the one whose
    # curve is shown.
    for name in ("init", "size"):
        if point[name] and point[name] != getattr(recipes.get(sweep["recipe"]), name, ""):
            given[name] = str(point[name])
    fixed = sweep["fixed"]
    given |= {name: fixed[name] for name in ("learning_rate", "data") if name in fixed}
    given |= {"steps": int(sweep["steps"]), "seed": int((point["seeds"] or sweep["seeds"])[0])}
    return {
        "at": [
            variants.index(given["variant"]), keys.index(student(point)),
            axes["temperature"].index(given["temperature"]), axes["alpha"].index(given["alpha"]),
        ],
        "state": str(point["state"]),
        "error": str(point["errors"][0]) if point["errors"] else "",
        "verdict": None if verdict is None else {
            "word": str(verdict["word"]), "mean": _number(verdict["mean"]),
            "interval": _interval(verdict["interval"]),
        },
        "figures": {key: _figure(figure) for key, figure in point["figures"].items()},
        "seconds": _optional(point["seconds"]),
        "curve": _curve(point["curve"]),
        "ledger": {
            str(term): {part: _number(entry[part]) for part in ("value", "weight", "share")}
            for term, entry in (point["ledger"] or {}).items()
        },
        "answers": [_numbers(row) for row in point["answers"]],
        "link": Settings(str(sweep["recipe"]), given).link(),
    }  # fmt: skip


def _variant(recipe: Any, name: str, axes: Mapping[str, list[float]]) -> dict[str, Any]:
    variant = recipe.variant(name)
    temperature = recipe.temperature if variant.temperature is None else variant.temperature
    squared = variant.objective.soft.temperature_squared
    return {
        "name": name,
        "words": f"{name} ({'with' if squared else 'without'} T²)",
        "source": variant.source,
        "published": [
            _on(axes["temperature"], float(temperature)), _on(axes["alpha"], float(recipe.alpha)),
        ],
        "ends": _ends(variant.objective),
    }  # fmt: skip


def _on(axis: list[float], value: float) -> float:
    """The value of an axis that is this one but for the digits that were stored; else itself."""
    return next((one for one in axis if math.isclose(one, value, rel_tol=1e-5)), value)


def _ends(objective: Any) -> dict[str, str]:
    """What the rows α = 0 and α = 1 are, in words; nothing where α is not in the loss."""
    ends = {}
    if objective.weights(0.0)["hard"] == 0:
        ends["0"] = "teacher only"
    weights = objective.weights(1.0)
    if weights["soft"] == 0:
        others = any(weight for name, weight in weights.items() if name != "hard")
        shifted = objective.hard.shifted or objective.scores != "next-token"
        alone = "labels only" if shifted else "labels not shifted"
        ends["1"] = "no soft loss" if others else alone
    return ends


def _student(key: str, inits: list[str]) -> str:
    init, _, size = key.partition("|")
    words = [size or "the recipe's own size"]
    return " ".join([*words, f"from {init}"] if len(inits) > 1 else words)


def _place(one: Mapping[str, Any]) -> dict[str, Any]:
    words = [*map(str, one["words"]), *([str(one["rest"])] if one["rest"] else [])]
    rows = {name: _numbers(one[name]) for name in ("oracle", "teacher") if one[name] is not None}
    return {
        "title": str(one["title"]), "text": str(one["text"]), "words": words, "rows": rows,
        "label": None if one["label"] is None else str(one["label"]),
    }  # fmt: skip


def _figure(figure: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    return {
        "mean": _number(figure["mean"]),
        "interval": _interval(figure["interval"]),
        "values": _numbers(figure["values"]),
        "baseline": _optional(figure["baseline"]),
    }


def _curve(curve: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    return {
        "steps": _numbers(curve["steps"]),
        "figures": {str(key): list(map(_optional, v)) for key, v in curve["figures"].items()},
        "loss_steps": _numbers(curve["loss_steps"]),
        "loss": list(map(_optional, curve["loss"])),
    }


def _interval(ends: Any) -> list[float] | None:
    if ends is None:
        return None
    low, high = _numbers(ends)
    return [low, high]


def _numbers(values: Any) -> list[float]:
    return [_number(value) for value in values]


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return value
