"""What `workbench bench scaling` measures: models of some sizes, AdamW, and the disk."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from workbench import corpora, storage
from workbench.corpora import Batch, Rows
from workbench.objective import Objective
from workbench.planning import arithmetic, sketches
from workbench.planning.arithmetic import Load, Looks, Size
from workbench.recipes import Shape
from workbench.teacher_cache import CachedTeacher, LiveTeacher

#: Rows of a measured batch.
LENGTH = 128
#: Width of the hidden states that the loss's teacher answers with.
TEACHER_WIDTH = 768


@dataclass(frozen=True)
class Point:
    """A model to measure.

    Attributes:
        task: "text-generation" for GPT-2's shape, "fill-mask" for BERT's.
        shape: of it.
        sequences: rows of `LENGTH` tokens in a batch.
    """

    task: str
    shape: Shape
    sequences: int

    @property
    def activation(self) -> str:
        """As published: GPT-2's students have gelu_new, BERT's gelu."""
        return "gelu_new" if self.task == "text-generation" else "gelu"


def _gpt2(layers: int, heads: int, width: int, vocabulary: int, sequences: int) -> Point:
    return Point("text-generation", Shape(layers, heads, width, LENGTH, vocabulary), sequences)


def _bert(
    layers: int, heads: int, width: int, vocabulary: int, sequences: int, inner: int | None = None
) -> Point:
    return Point("fill-mask", Shape(layers, heads, width, LENGTH, vocabulary, inner), sequences)


#: Teachers, of which only the layers work; a small vocabulary saves memory and costs nothing.
TEACHERS = (
    _gpt2(4, 4, 64, 1000, 16), _gpt2(4, 4, 128, 1000, 16), _gpt2(6, 8, 256, 1000, 8),
    _gpt2(8, 8, 512, 1000, 8), _gpt2(12, 12, 768, 1000, 4), _gpt2(12, 16, 1024, 1000, 4),
    _bert(4, 12, 312, 1000, 8, 1200), _bert(6, 8, 512, 1000, 8), _bert(12, 12, 768, 1000, 4),
)  # fmt: skip
#: Students, with vocabularies from the classroom's to the published ones. Of 4, 512, 50,257 and 6,
#: 768, 50,257 and of the last two of BERT's shape are published students themselves.
STUDENTS = (
    _gpt2(4, 4, 64, 1000, 16), _gpt2(4, 4, 128, 10_000, 8), _gpt2(4, 4, 256, 50_257, 4),
    _gpt2(6, 8, 384, 20_000, 4), _gpt2(4, 4, 512, 50_257, 4), _gpt2(6, 8, 768, 50_257, 2),
    _bert(4, 4, 128, 10_000, 16), _bert(4, 12, 312, 28_996, 8, 1200),
    _bert(6, 12, 768, 28_996, 4),
)  # fmt: skip
#: Bytes of hidden states that are written and read.
KEPT = 256 * 2**20


def forward_amounts(size: Size, load: Load) -> list[float]:
    """FLOPs and numbers of a token of a teacher's forward pass."""
    return [
        arithmetic.forward_flops(size, load) / load.tokens,
        arithmetic.activation_numbers(size, load, Looks(maps=True)) / load.tokens,
    ]


def step_amounts(size: Size, teacher: Size, load: Load) -> list[float]:
    """FLOPs, numbers and logits of a token of a student's step, its teacher's head included."""
    how = arithmetic.way(size.answers, load.scored, plain=True)
    flops = arithmetic.training_flops(size, load)
    flops += arithmetic.loss_flops(size, teacher, load.scored, how)
    numbers = arithmetic.activation_numbers(size, load, Looks(maps=True))
    logits = 2 * load.scored * size.answers
    return [flops / load.tokens, numbers / load.tokens, logits / load.tokens]


def forward(point: Point, repeats: int) -> dict[str, Any]:
    """Seconds a token of a teacher that is asked for its hidden states, as for a cache."""
    model = _build(point)
    size, batch = sketches.size_of(model), _batch(point)
    teacher = LiveTeacher(model.eval().requires_grad_(False), _device())
    # Also of a model that is wider than its small vocabulary, which answers with logits by itself.
    teacher.keeps_hidden = True
    seconds = _median(lambda: teacher.states(batch), repeats)
    load = _load(point, batch)
    found = _described(point, size, seconds / batch.tokens, forward_amounts(size, load))
    return found


def step(point: Point, repeats: int) -> dict[str, Any]:
    """Seconds a token of a training step with its loss, and a parameter of AdamW."""
    from workbench.distiller import Distiller, Schedule

    model = _build(point)
    size, batch = sketches.size_of(model), _batch(point)
    masked = point.task == "fill-mask"
    objective = Objective(scores="masked" if masked else "next-token")
    if masked:
        batch = _hide(batch)
    device = _device()
    head = torch.nn.Linear(TEACHER_WIDTH, point.shape.vocabulary, bias=False, device=device)
    states = torch.randn(batch.tokens, TEACHER_WIDTH)
    teacher = CachedTeacher(states, point.shape.vocabulary, head.requires_grad_(False), device)
    distiller = Distiller(
        model, objective, teacher, temperature=2.0, alpha=0.5, learning_rate=1e-5,
        schedule=Schedule(steps=10_000, warmup=0),
    )  # fmt: skip
    whole = _median(lambda: distiller.step(batch), repeats)
    # With gradients of their size, whatever they are, AdamW alone.
    for parameter in distiller.student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stepping = _median(lambda: distiller.optimizer.step(), repeats)
    load = _load(point, batch)
    # Of this teacher only the head works.
    theirs = replace(size, head=head.weight.numel())
    found = _described(
        point, size, max(whole - stepping, 1e-9) / batch.tokens, step_amounts(size, theirs, load)
    )
    found["optimiser_seconds_per_parameter"] = stepping / size.parameters
    return found


def _described(point: Point, size: Size, seconds: float, amounts: list[float]) -> dict[str, Any]:
    return {
        "family": "GPT-2" if point.task == "text-generation" else "BERT",
        **asdict(point.shape),
        "parameters": size.parameters,
        "seconds_per_token": seconds,
        "amounts": amounts,
    }


def _build(point: Point):
    return sketches.BUILDERS[point.task](point.shape, activation=point.activation, seed=0)


def _batch(point: Point) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(point.shape.vocabulary, (point.sequences, LENGTH), generator=generator)
    rows = Rows(list(ids.numpy()), ids.numel())
    return corpora.make_batches(rows, point.sequences, 0)[0]


def _hide(batch: Batch) -> Batch:
    """Hide 15 % of the tokens; which ones makes no difference to the time."""
    masked = torch.zeros_like(batch.input_ids, dtype=torch.bool)
    masked[:, :: round(1 / 0.15)] = True
    return replace(batch, masked=masked, labels=batch.input_ids[masked])


def _load(point: Point, batch: Batch) -> Load:
    scored = batch.tokens - point.sequences
    if batch.masked is not None:
        scored = int(batch.masked.sum())
    return Load(point.sequences, LENGTH, batch.tokens, scored)


def _device() -> torch.device:
    from accelerate import Accelerator

    return Accelerator().device


def _median(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        before = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return statistics.median(times[1:])


def disk(size: int, repeats: int) -> dict[str, Any]:
    """Rates at which a file of hidden states is written and flushed, and read from the disk."""
    from workbench.teacher_cache import cache_directory

    directory = cache_directory()
    storage.make_directory(directory, "the teacher cache")
    states = torch.randn(size // (4 * TEACHER_WIDTH), TEACHER_WIDTH)
    held = states.numel() * states.element_size()
    written, read, again = [], [], []
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        path = Path(scratch) / "states.safetensors"
        for _ in range(repeats):
            written.append(_took(lambda: storage.write_safetensors(path, {"states": states}, {})))
            forgets = _forget(path)
            read.append(_took(lambda: _read(path)))
            again.append(_took(lambda: _read(path)))
    return {
        "bytes": held,
        "write_bytes_per_second": held / statistics.median(written),
        "read_bytes_per_second": held / statistics.median(read),
        "read_again_bytes_per_second": held / statistics.median(again),
        "from_disk": forgets,
    }


def _forget(path: Path) -> bool:
    """Ask the system to drop a file from memory, so that it is read from the disk; if it can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _read(path: Path) -> float:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        # The sum touches every page, which mapping alone does not.
        return float(file.get_tensor("states").sum())


def _took(call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before
