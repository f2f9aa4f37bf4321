"""Makes what `workbench.lab.live.stored` shows: ``python -m workbench.lab.live.store NAME…``.

Each recipe is trained with its own settings; without names, all recipes of the classroom.
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
from workbench.lab.live.engine import Engine, Look
from workbench.lab.live.stored import PLACE
from workbench.run_directory import RunDirectory

#: The other recipes take longer than a class has.
NAMES = ("protgpt2-tiny", "distilbert-pmhc", "distilbiobert", "tinybiobert", "compactbiobert")


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


if __name__ == "__main__":
    for asked in sys.argv[1:] or NAMES:
        recipes.get(asked)
        print(make(asked))
