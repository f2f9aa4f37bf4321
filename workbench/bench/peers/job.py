"""The job that all contestants do: one teacher, one student's start, one list of batches.

It is written to a folder, so that a program in another Python environment, which has no
workbench, does the same work: ``teacher/`` and ``student/`` are plain `transformers` directories,
``batches.safetensors`` holds padded tokens and lengths, ``job.json`` the rest.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from workbench import corpora, losses, models, storage, workshop
from workbench.bench.peers import floor
from workbench.config import RunConfig
from workbench.corpora import Batch
from workbench.distiller import GRADIENT_CLIP
from workbench.progress import Silent
from workbench.recipes.recipe import Shape
from workbench.workshop import Workshop

#: The student of the measurement: two layers, 64 wide, of the recipe protgpt2-tiny.
RECIPE, SIZE = "protgpt2-tiny", "2x64"
#: Length of the run that the steps are a part of: it sets the learning rate of each.
STEPS = 300


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        config: of the run, as `RunConfig.to_json` gives it.
        order: places of the batches in the order in which they are learned from.
        threads: of every contestant.
        clip: largest norm of the gradient.
    """

    config: dict[str, Any]
    order: list[int]
    threads: int
    clip: float


@dataclass(frozen=True)
class Work:
    """What a step of the job is, and what its first must give.

    Attributes:
        shape: of the student.
        operations: of a step, mean over the run.
        tokens: padded ones in a batch, mean over the run.
        batch: the most common shape of a batch in words.
        entropy_kept: what a loss with the teacher's entropy left in is larger by at the first
            step, nats, weight and T² included.
    """

    shape: Shape
    operations: float
    tokens: float
    batch: str
    entropy_kept: float


def configuration(size: str = SIZE, steps: int = STEPS, **options: Any) -> RunConfig:
    """The classroom's run with a student of that size."""
    return RunConfig.from_recipe(RECIPE, size=size, steps=steps, **options)


def write(directory: Path, config: RunConfig) -> Work:
    """Write the job into an empty folder; the teacher is asked about its batches on the way.

    Raises:
        WorkbenchError: if teacher or data cannot be used.
    """
    from safetensors.torch import save_file

    shop = workshop.prepare(config, Silent())
    batches = shop.train_batches
    order = list(islice(corpora.endless_order(len(batches), config.seed), config.steps))
    job = Job(config.to_json(), order, torch.get_num_threads(), GRADIENT_CLIP)
    with models.quiet_transformers():
        shop.teacher_model.save_pretrained(directory / "teacher")
        shop.student.student.save_pretrained(directory / "student")
    tensors = {f"ids.{b.index}": b.input_ids for b in batches}
    tensors |= {f"lengths.{b.index}": b.lengths for b in batches}
    save_file(tensors, directory / "batches.safetensors")
    storage.write_json(directory / "job.json", asdict(job))
    return _work(config, shop, [batches[i] for i in order])


def _work(config: RunConfig, shop: Workshop, run: list[Batch]) -> Work:
    shape = workshop.student_shape(config, shop.teacher_model, len(shop.tokenizer), None)
    scored, _ = shop.student.objective.rows(run[0])
    answers = shop.teacher.signal(run[0], scored).logits(slice(None))
    entropy = float(losses.entropy(answers, config.temperature).mean())
    rows, lengths = run[0].input_ids.shape[0], [b.input_ids.shape[1] for b in run]
    return Work(
        shape=shape,
        operations=statistics.mean(
            floor.operations(shape, *b.input_ids.shape, b.tokens - len(b.lengths)).total
            for b in run
        ),
        tokens=statistics.mean(b.input_ids.numel() for b in run),
        batch=f"{rows} sequences, padded to {min(lengths)} to {max(lengths)} tokens",
        entropy_kept=(1 - config.alpha) * config.temperature**2 * entropy,
    )
