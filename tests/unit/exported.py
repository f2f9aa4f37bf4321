"""One export of each kind of model, made once for all tests: a few seconds each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import export, models, portable, run_directory, storage, tasks
from workbench.config import RunConfig
from workbench.progress import Silent

#: Built-in model, and the recipe of its kind.
KINDS = {
    "protgpt2-tiny": "protgpt2-tiny",
    "pmhc": "distilbert-pmhc",
    "biobert": "distilbiobert",
}
#: Of a deep one some layers will do: the exporter takes its time for each.
LAYERS = {"biobert": (0, 1, 10, 11)}
#: Held-out examples of the runs that are made here.
HELD_OUT = 150


@dataclass(frozen=True)
class Exported:
    """An export, and the model that it was made of.

    Attributes:
        found: what `portable.export` said.
        config: of the run that it was made from.
        model: in PyTorch.
        tokenizer: its own.
    """

    found: dict[str, Any]
    config: RunConfig
    model: Any
    tokenizer: Any

    @property
    def task(self) -> tasks.Task:
        """Of the model."""
        return tasks.of(self.config.recipe)

    @property
    def directory(self) -> Path:
        """Of the export."""
        return Path(self.found["out"])


def finished_run(directory: Path, name: str) -> RunConfig:
    """Make a run directory whose student is a built-in model, or some layers of one."""
    config = RunConfig.from_recipe(KINDS[name], validation_sequences=HELD_OUT)
    directory.mkdir(parents=True)
    storage.write_json(directory / "config.json", run_directory.described(config))
    if name in LAYERS:
        teacher, tokenizer, _ = tasks.of(config.recipe).load_model(name)
        student = models.build_like(teacher, len(LAYERS[name]), seed=0)
        models.initialise(student, teacher, LAYERS[name])
        export.save_model(directory / "student", student, tokenizer)
    else:
        shutil.copytree(models.resolve_model(name), directory / "student")
    return config


def make(directory: Path, name: str) -> Exported:
    """A run with a built-in model as its student, exported with int8."""
    config = finished_run(directory, name)
    found = portable.export(directory, int8=True, progress=Silent())
    model, tokenizer, _ = tasks.of(config.recipe).load_model(str(directory / "student"))
    return Exported(found, config, model, tokenizer)
