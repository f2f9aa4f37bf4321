"""How many times faster a student is than its teacher: by batch size, length and mode.

Scoring reads a whole batch at once; generating writes token after token with a key-value cache.
Teacher and student are measured in turn, call by call, so that a busy moment of the machine falls
on both, and medians are compared. Weights do not matter for speed, shapes do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench import runtime
from workbench.errors import UsageError

BATCHES = (1, 8, 32)
LENGTHS = (16, 64, 128)
#: Calls of each model that count, after one that does not.
REPEATS = 5


@torch.no_grad()
def measure(
    teacher,
    student,
    *,
    batches: Sequence[int] = BATCHES,
    lengths: Sequence[int] = LENGTHS,
    repeats: int = REPEATS,
) -> list[dict[str, Any]]:
    """Time teacher and student in turn.

    Args:
        teacher: in eval mode, on the same device as the student.
        student: in eval mode.
        batches: sequences in a batch.
        lengths: tokens of each; those that a model has no positions for are left out.
        repeats: calls that count.

    Returns:
        A line for each mode, batch and length: ``{"mode": "scoring" | "generating", "batch",
        "length", "teacher_ms", "student_ms", "speedup"}``, medians of a call in ms.

    Raises:
        UsageError: if no length fits.
    """
    longest = min(m.config.max_position_embeddings for m in (teacher, student))
    fitting = [length for length in lengths if length <= longest]
    if not fitting:
        raise UsageError(f"the lengths are {list(lengths)}; the models read at most {longest}")
    modes: dict[str, Callable[[Any, int, int], None]] = {"scoring": _score}
    if not runtime.reads_both_ways(teacher):
        modes["generating"] = _generate
    return [
        {"mode": mode, "batch": batch, "length": length,
         **_in_turn(call, teacher, student, batch, length, repeats)}
        for mode, call in modes.items()
        for batch in batches
        for length in fitting
    ]  # fmt: skip


def _in_turn(
    call: Callable[[Any, int, int], None], teacher, student, batch: int, length: int, repeats: int
) -> dict[str, float]:
    times: dict[str, list[float]] = {"teacher_ms": [], "student_ms": []}
    for number in range(repeats + 1):
        for name, model in (("teacher_ms", teacher), ("student_ms", student)):
            started = time.perf_counter()
            call(model, batch, length)
            if number:  # the first call of each warms up
                times[name].append(1e3 * (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "speedup": medians["teacher_ms"] / medians["student_ms"]}


def _score(model, batch: int, length: int) -> None:
    runtime.score(model, _tokens(model, batch, length))


def _generate(model, batch: int, length: int) -> None:
    end = model.config.eos_token_id
    prompt = torch.full((batch, 1), end, device=model.device)
    model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, min_length=length,
        max_length=length, pad_token_id=end,
    )  # fmt: skip
    if prompt.device.type == "cuda":
        torch.cuda.synchronize(prompt.device)


def _tokens(model, batch: int, length: int) -> Tensor:
    """Tokens drawn from seed 0, none of which means padding: [batch, length]."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (batch, length), generator=generator)
    padding = model.config.pad_token_id
    if padding is not None:
        tokens[tokens == padding] = (padding + 1) % model.config.vocab_size
    return tokens.to(model.device)
