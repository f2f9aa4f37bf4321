"""All recipes on the accelerator that is there: tokens/s, memory, utilisation."""

from __future__ import annotations

import gc
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from workbench import corpora, models, recipes, workshop
from workbench.config import RunConfig
from workbench.corpora import Batch
from workbench.devices.precision import PRECISIONS
from workbench.distiller import Distiller, Schedule
from workbench.errors import WorkbenchError
from workbench.progress import Silent
from workbench.teacher_cache import LiveTeacher

#: Steps before the clock starts, and steps that are timed.
WARM, STEPS = 10, 100
#: Of the published shapes: sequences a step, tokens of each.
SEQUENCES, LENGTH = 8, 512
#: Seconds between two looks at how busy the device is.
EVERY = 0.25


def measure() -> dict[str, Any]:
    """Each recipe at classroom scale, and ProtGPT2's at their published shapes, in both precisions.

    Returns:
        The device, and by recipe and precision: tokens/s, time of a step (ms), peak memory (MB,
        10⁶ bytes) and the share of time that the device was busy (%); null where the system does
        not tell. At classroom scale student and baseline take each step, one after the other, on
        the same tokens, which count once; at published shape the student beside its teacher.

    Raises:
        WorkbenchError: on a machine without an accelerator.
    """
    if not torch.accelerator.is_available():
        raise WorkbenchError(
            "there is no accelerator here to measure (PyTorch finds no GPU); `workbench bench "
            "step` measures the processor"
        )
    found: dict[str, Any] = {"device": _device_name()}
    for name in recipes.names():
        for precision in PRECISIONS:
            found[f"{name}, classroom, {precision}"] = classroom(name, precision)
    for name in [n for n in recipes.names() if n.startswith("protgpt2")]:
        for precision in PRECISIONS:
            found[f"{name}, paper, {precision}"] = published_shape(name, precision)
    return found


def classroom(name: str, precision: str, warm: int = WARM, steps: int = STEPS) -> dict[str, Any]:
    """Steps of student and baseline as a run takes them."""
    config = RunConfig.from_recipe(name, precision=precision, steps=warm + steps)
    shop = workshop.prepare(config, Silent())
    order = corpora.endless_order(len(shop.train_batches), config.seed)

    def step() -> int:
        batch = shop.batch(next(order), shop.student.step_number + 1)
        shop.baseline.step(batch)
        shop.student.step(batch)
        return batch.tokens

    return _figures(step, shop.student.device, warm, steps)


def published_shape(
    name: str, precision: str, warm: int = WARM, steps: int = STEPS, length: int = LENGTH
) -> dict[str, Any]:
    """Steps of a ProtGPT2 student of published shape beside its teacher, from random weights."""
    recipe = recipes.get(name)
    scale = recipe.scale("paper")
    teacher, student = (
        models.build_causal_lm(shape, activation=scale.activation, seed=0)
        for shape in (scale.teacher, scale.student)
    )
    distiller = Distiller(
        student,
        recipe.variant("corrected").objective,
        None,
        temperature=recipe.temperature,
        alpha=recipe.alpha,
        learning_rate=scale.learning_rate,
        schedule=Schedule(warm + steps, 0),
        reads_in=precision,
    )
    distiller.teacher = LiveTeacher(teacher.requires_grad_(False), distiller.device)
    ids = torch.randint(
        scale.student.vocabulary, (SEQUENCES, length), generator=torch.Generator().manual_seed(0)
    )
    batch = Batch(0, ids, torch.full((SEQUENCES,), length), 0, ids.numel())

    def step() -> int:
        distiller.step(batch)
        return batch.tokens

    return _figures(step, distiller.device, warm, steps)


def _figures(step, device: torch.device, warm: int, steps: int) -> dict[str, Any]:
    on_cuda = device.type == "cuda"
    for _ in range(warm):
        step()
    # What the models before these left behind in cycles would count as these models' memory.
    gc.collect()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with _watching(device) as busy:
        _finish(device)
        began = time.perf_counter()
        tokens = sum(step() for _ in range(steps))
        _finish(device)
        seconds = time.perf_counter() - began
    return {
        "tokens_per_second": tokens / seconds,
        "step_ms": 1e3 * seconds / steps,
        "peak_memory_mb": torch.cuda.max_memory_allocated(device) / 1e6 if on_cuda else None,
        "utilisation_percent": statistics.mean(busy) if busy else None,
    }


def _finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def _watching(device: torch.device) -> Iterator[list[float]]:
    """Collects how busy the device is, percent, while something else goes on."""
    seen: list[float] = []
    program = shutil.which("nvidia-smi")
    if device.type != "cuda" or program is None:
        yield seen
        return
    over = threading.Event()
    which = str(torch.cuda.get_device_properties(device).uuid)
    command = [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits",
               f"--id=GPU-{which.removeprefix('GPU-')}"]  # fmt: skip

    def look() -> None:
        while not over.wait(EVERY):
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.stdout.strip().isdigit():
                seen.append(float(answer.stdout))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _device_name() -> str:
    device = torch.accelerator.current_accelerator()
    return torch.cuda.get_device_name() if device.type == "cuda" else device.type
