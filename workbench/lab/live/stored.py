"""A finished run of each recipe that is shown before anything is loaded.

Made by `workbench.lab.live.store`; machine and date stand in the file.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from workbench import recipes, storage
from workbench.comparisons.headline import BY_TASK
from workbench.config import RunConfig
from workbench.lab.live.engine import Course, Look, judged_on
from workbench.probes import Probe

PLACE = Path(__file__).parents[3] / "data" / "labs"


@cache
def load(recipe: str) -> tuple[Course, tuple[Look, ...], str] | None:
    """The stored run of a recipe, its examples, and machine and date in words; None without one.

    Raises:
        WorkbenchError: if the file is damaged.
    """
    path = PLACE / f"{recipe}.json"
    if not path.exists():
        return None
    content = storage.read_json(path)
    config = RunConfig.from_json(content["config"])
    course = Course(0, config, "", tuple(content["lines"]), (), content["results"])
    words = tuple(content["words"])
    looks = tuple(_look(one, words, config.steps) for one in content["looks"])
    return course, looks, f"{content['machine']}, {content['date']}"


def references(config: RunConfig) -> dict[str, float]:
    """The headline of "teacher" and "oracle" where the stored run was judged on the same; or {}."""
    found = load(config.recipe)
    if found is None or judged_on(found[0].config) != judged_on(config):
        return {}
    key = BY_TASK[recipes.get(config.recipe).task].key
    rows = {role: found[0].results[role][key] for role in ("teacher", "oracle")}
    return {role: value for role, value in rows.items() if value is not None}


def _look(one: dict[str, Any], words: tuple[str, ...], step: int) -> Look:
    oracle = None
    if one["oracle"]:
        oracle = np.zeros(len(words))
        for index, value in one["oracle"].items():
            oracle[int(index)] = value
    probe = Probe(one["title"], one["text"], words, one["rest"], one["label"], oracle, _nobody)
    logits = {
        name: np.frombuffer(base64.b64decode(text), dtype="<f4")
        for name, text in one["logits"].items()
    }
    return Look(probe, logits, step)


def _nobody(_model: Any) -> Any:
    raise RuntimeError("a stored example cannot be asked again")
