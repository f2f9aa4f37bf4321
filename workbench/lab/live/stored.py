"""A finished run of each recipe that is shown before anything is loaded.

Made by ``python -m workbench.lab.live.stored NAME…`` (all recipes of the classroom without names),
which trains each with its own settings; machine and date stand in the file.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from workbench import recipes, storage
from workbench.config import RunConfig
from workbench.lab.live.engine import Course, Engine, Look
from workbench.probes import Probe
from workbench.run_directory import RunDirectory

PLACE = Path(__file__).parents[3] / "data" / "labs"
#: Recipes with a stored run; the others take longer than a classroom has.
NAMES = ("protgpt2-tiny", "distilbert-pmhc", "distilbiobert", "tinybiobert", "compactbiobert")


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


def make(recipe: str) -> Path:
    """Train a recipe as it is and store what the panel shows first.

    Raises:
        WorkbenchError: if the run fails.
    """
    import torch

    with tempfile.TemporaryDirectory() as directory:
        place = RunDirectory(Path(directory) / "run")
        engine = Engine(
            lambda _seed: RunConfig.from_recipe(recipe), lambda: None, lambda _config: place
        )
        engine.tell("play")
        engine.wait()
        looks = []
        for number in range(len(engine.moment.examples)):
            engine.tell("example", number)
            engine.wait()
            looks.append(engine.moment.look)
        engine.close()
        engine.join()
    course = engine.moment.course
    if course is None or course.results is None:
        raise SystemExit(f"{recipe}: {engine.moment.error or 'no results'}")
    content = {
        "machine": f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}",
        "date": date.today().isoformat(),
        "config": course.config.to_json(),
        "lines": list(course.lines),
        "results": course.results | {"run": ""},
        "words": list(looks[0].probe.words),
        "looks": [_packed(look) for look in looks],
    }  # fmt: skip
    path = PLACE / f"{recipe}.json"
    storage.make_directory(PLACE, "the stored runs")
    storage.write_bytes(path, json.dumps(content, ensure_ascii=False).encode() + b"\n")
    return path


def _packed(look: Look) -> dict[str, Any]:
    probe = look.probe
    known = {}
    if probe.oracle is not None:
        known = {str(i): float(probe.oracle[i]) for i in np.flatnonzero(probe.oracle)}
    return {
        "title": probe.title, "text": probe.text, "rest": probe.rest, "label": probe.label,
        "oracle": known,
        "logits": {
            name: base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()
            for name, row in look.logits.items()
        },
    }  # fmt: skip


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


if __name__ == "__main__":
    for asked in sys.argv[1:] or NAMES:
        recipes.get(asked)
        print(make(asked))
