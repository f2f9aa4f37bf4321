"""What it saves never to hold all logits: `vocabulary_loss` measured at GPT-2's vocabulary.

Four ways to the same loss and gradient, from the same hidden states:

    dense        the plain formula on all logits at once (`dense_vocabulary_loss`)
    recomputed   `Objective.values`: chunks of logits, made again in the backward pass
    chunked      `vocabulary_loss`: chunks, gradient in closed form
    products     no way at all, only the matrix products that every way needs: the floor

Each runs in a process of its own, in turn, so that none inherits the memory of another and a busy
moment of the machine falls on all. On a GPU, where there is one, also Liger's chunked loss; that
part needs ``liger-kernel``, which runs nowhere else.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from workbench.bench.goals import Goal
from workbench.devices import machine
from workbench.errors import WorkbenchError
from workbench.losses import Direction
from workbench.objective import Counts, Objective, SoftTerm, TeacherSignal
from workbench.vocabulary_loss import (
    CHUNK_BYTES,
    chunk_rows,
    dense_vocabulary_loss,
    vocabulary_loss,
)

#: What the measurement is to show: so many times faster than dense, so many times less memory.
FASTER_GOAL, SMALLER_GOAL = 1.3, 12.0
TEMPERATURE, ALPHA = 10.0, 0.1


@dataclass(frozen=True)
class Sizes:
    """Of a batch and of two heads; by default GPT-2's vocabulary and GPT-2 large as the teacher.

    Attributes:
        sequences: in the batch.
        length: positions in each, all scored.
        vocabulary: tokens that there are.
        width: of the student's hidden states.
        teacher_width: of the teacher's.
        direction: of the soft term.
        device: "cpu", in float32, or "cuda", in bfloat16.
        chunk_bytes: see `vocabulary_loss`.
    """

    sequences: int = 8
    length: int = 512
    vocabulary: int = 50_257
    width: int = 512
    teacher_width: int = 1280
    direction: Direction = "forward"
    device: str = "cpu"
    chunk_bytes: int = CHUNK_BYTES

    @property
    def rows(self) -> int:
        """Scored positions."""
        return self.sequences * self.length


#: Small enough for float64, where all ways must agree to rounding.
SMALL = Sizes(sequences=2, length=20, vocabulary=101, width=8, teacher_width=12, chunk_bytes=12_000)


@dataclass(frozen=True)
class Case:
    """Hidden states and heads, drawn at random; the student's ask for a gradient."""

    hidden: Tensor
    weight: Tensor
    labels: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor
    sizes: Sizes

    def gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        """Of a loss on the student's hidden states and head."""
        return torch.autograd.grad(loss, (self.hidden, self.weight))


def case(sizes: Sizes, dtype: torch.dtype | None = None) -> Case:
    """A case drawn from seed 0, with logits of some size 1 (student) and 3 (teacher)."""
    dtype = dtype or (torch.bfloat16 if sizes.device == "cuda" else torch.float32)
    generator = torch.Generator(sizes.device).manual_seed(0)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        # In place: what is held beside the result would count as memory that was there before.
        empty = torch.empty(shape, dtype=dtype, device=sizes.device)
        return empty.normal_(0.0, scale, generator=generator)

    return Case(
        hidden=random(sizes.rows, sizes.width).requires_grad_(),
        weight=random(sizes.vocabulary, sizes.width, scale=sizes.width**-0.5).requires_grad_(),
        labels=torch.randint(
            sizes.vocabulary, (sizes.rows,), generator=generator, device=sizes.device
        ),
        teacher_hidden=random(sizes.rows, sizes.teacher_width),
        teacher_weight=random(
            sizes.vocabulary, sizes.teacher_width, scale=3 * sizes.teacher_width**-0.5
        ),
        sizes=sizes,
    )


# ------------------------------------------------------------------ the ways


def dense(case: Case) -> Tensor:
    """The loss from all logits at once, nats."""
    return _called(dense_vocabulary_loss, case)


def chunked(case: Case) -> Tensor:
    """The same from chunks of logits, with the gradient in closed form."""
    return _called(vocabulary_loss, case, chunk_bytes=case.sizes.chunk_bytes)


def recomputed(case: Case) -> Tensor:
    """The same through `Objective.values`, which makes each chunk of logits twice."""
    objective = Objective(soft=SoftTerm(direction=case.sizes.direction))
    values = objective.values(
        case.hidden,
        lambda hidden: functional.linear(hidden, case.weight),
        case.labels,
        TeacherSignal(case.teacher_hidden, lambda h: functional.linear(h, case.teacher_weight)),
        temperature=TEMPERATURE,
        counts=Counts(rows=case.sizes.rows, sequences=case.sizes.sequences),
        vocabulary=case.sizes.vocabulary,
    )
    return objective.total(values, ALPHA)


def liger(case: Case) -> Tensor:
    """Liger's chunked loss; it knows no T², so its soft term is given that as a weight."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=ALPHA,
        weight_soft_loss=(1 - ALPHA) * TEMPERATURE**2,
        beta=0.5,
        temperature=TEMPERATURE,
    )
    return loss(
        case.hidden, case.weight, case.teacher_hidden, case.teacher_weight, case.labels, None, None
    )


def products(case: Case) -> None:
    """The matrix products alone, chunk by chunk: logits twice, gradients twice."""
    itemsize = case.hidden.element_size()
    size = chunk_rows(case.sizes.rows, 2 * itemsize * case.sizes.vocabulary, case.sizes.chunk_bytes)
    z, v = case.hidden.new_empty(2, size, case.sizes.vocabulary)
    on_hidden, on_weight = torch.empty_like(case.hidden), torch.zeros_like(case.weight)
    with torch.no_grad():
        for start in range(0, case.sizes.rows, size):
            hidden = case.hidden[start : start + size]
            n = len(hidden)
            torch.mm(case.teacher_hidden[start : start + n], case.teacher_weight.t(), out=v[:n])
            torch.mm(hidden, case.weight.t(), out=z[:n])
            torch.mm(z[:n], case.weight, out=on_hidden[start : start + n])
            on_weight.addmm_(z[:n].t(), hidden)


def _called(function: Callable[..., Any], case: Case, **options: Any) -> Tensor:
    return function(
        case.hidden,
        case.weight,
        case.labels,
        case.teacher_hidden,
        case.teacher_weight,
        temperature=TEMPERATURE,
        alpha=ALPHA,
        direction=case.sizes.direction,
        **options,
    ).total


WAYS: dict[str, Callable[[Case], Tensor]] = {
    "dense": dense,
    "recomputed": recomputed,
    "chunked": chunked,
    "liger": liger,
}

# ------------------------------------------------------------------ measuring


def measure(sizes: Sizes | None = None, rounds: int = 3) -> dict[str, Any]:
    """Time and extra memory of forward and backward pass each way; see the module.

    Seconds are medians over the rounds; those of the processor, summed over threads, tell more
    where other programs take a share of the machine. Extra memory is how far the process's
    resident memory rose at most beyond what it was with the inputs in place, MB (10⁶ bytes),
    gradients included; the largest of the rounds. Differences: of the loss at full size, in nats;
    and in a small case in float64, the largest difference of any number over the largest number
    of its tensor.

    Args:
        sizes: of the case; None for 50,257 tokens and 8 × 512 positions.
        rounds: how often each way is run.

    Returns:
        Seconds, memory, ratios, the goals, the same under ``gpu`` where there is one and else the
        reason why not, and sizes.

    Raises:
        WorkbenchError: if the machine has too little free memory for the dense way.
    """
    sizes = sizes or Sizes()
    _check_memory(sizes)
    ways = ("dense", "recomputed", "chunked", "products")
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            runs[way].append(_in_a_process(way, sizes))
    seconds = {way: statistics.median(r["seconds"] for r in runs[way]) for way in ways}
    memory = {way: max(r["extra_mb"] for r in runs[way]) for way in ways}
    processor = {way: statistics.median(r["cpu_seconds"] for r in runs[way]) for way in ways}
    faster, smaller, less = (x["dense"] / x["chunked"] for x in (seconds, memory, processor))
    return {
        **{f"{way}_seconds": seconds[way] for way in ways},
        **{f"{way}_cpu_seconds": processor[way] for way in ways},
        **{f"{way}_extra_mb": memory[way] for way in ways if way != "products"},
        "times_faster": faster,
        "times_less_cpu": less,
        "times_smaller": smaller,
        "loss_difference_float32": abs(runs["dense"][0]["loss"] - runs["chunked"][0]["loss"]),
        "difference_float64": difference(),
        **_on_gpu(sizes),
        **asdict(sizes),
        "rows_in_a_chunk": chunk_rows(sizes.rows, 8 * sizes.vocabulary, sizes.chunk_bytes),
        "temperature": TEMPERATURE,
        "alpha": ALPHA,
        "rounds": rounds,
        "goals": [
            Goal("times faster than dense", faster, FASTER_GOAL).to_json(),
            Goal("times less extra memory than dense", smaller, SMALLER_GOAL).to_json(),
        ],
    }


def difference(sizes: Sizes = SMALL) -> float:
    """How far the chunked loss and its gradients are from the dense one's in float64, relative."""
    one = case(sizes, torch.float64)
    found, expected = (
        (loss.detach(), *one.gradients(loss)) for loss in (way(one) for way in (chunked, dense))
    )
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    )


def run_once(way: str, sizes: Sizes) -> dict[str, float]:
    """Run one way in this process, which should be a new one.

    Returns:
        ``seconds``, ``cpu_seconds`` (on a CPU), ``extra_mb`` and, unless it is "products",
        ``loss`` in nats.
    """
    small = replace(SMALL, device=sizes.device, direction=sizes.direction)
    _run(way, case(small))  # threads, libraries
    one = case(sizes)
    if sizes.device == "cuda":
        return _run_on_gpu(way, one)
    before = machine.resident_memory()[0]
    started, processor = time.perf_counter(), time.process_time()
    loss = _run(way, one)
    found = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - processor,
        "extra_mb": (machine.resident_memory()[1] - before) / 1e6,
    }
    return found if loss is None else {**found, "loss": loss}


def _run(way: str, case: Case) -> float | None:
    if way == "products":
        products(case)
        return None
    loss = WAYS[way](case)
    case.gradients(loss)
    return float(loss.detach())


def _in_a_process(way: str, sizes: Sizes) -> dict[str, float]:
    command = [sys.executable, "-m", "workbench.bench.vocabulary", way, json.dumps(asdict(sizes))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it left with {done.returncode}"])[-1]
        raise WorkbenchError(f"the {way} way did not come to its end: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _check_memory(sizes: Sizes) -> None:
    import psutil

    # Some eight blocks of logits, beside the inputs.
    needed = 9 * 4 * sizes.rows * sizes.vocabulary
    free = psutil.virtual_memory().available
    if free < needed:
        raise WorkbenchError(
            f"the dense loss needs some {needed / 1e9:.0f} GB of free memory and there are "
            f"{free / 1e9:.1f}; close other programs, or measure on a larger machine"
        )


# ------------------------------------------------------------------ on a GPU


def _on_gpu(sizes: Sizes) -> dict[str, Any]:
    """Dense, chunked and Liger's in bfloat16, all with the divergence that Liger has."""
    if not torch.cuda.is_available():
        return {"gpu": None, "gpu_reason": "no CUDA device", "liger": None,
                "liger_reason": "Liger's kernels need a CUDA device"}  # fmt: skip
    on_gpu = replace(sizes, device="cuda", direction="jensen-shannon")
    found = {way: _in_a_process(way, on_gpu) for way in ("dense", "chunked")}
    compared = {
        "gpu": {"name": torch.cuda.get_device_name(), **found},
        "gpu_times_faster": found["dense"]["seconds"] / found["chunked"]["seconds"],
        "gpu_times_smaller": found["dense"]["extra_mb"] / found["chunked"]["extra_mb"],
    }
    try:
        return {**compared, "liger": _in_a_process("liger", on_gpu)}
    except WorkbenchError as error:
        return {**compared, "liger": None, "liger_reason": str(error)}


def _run_on_gpu(way: str, one: Case, repeats: int = 10) -> dict[str, float]:
    loss = _run(way, one)  # compiles, and fills the allocator
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        _run(way, one)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    found = {
        "seconds": statistics.median(times),
        "extra_mb": (torch.cuda.max_memory_allocated() - before) / 1e6,
    }
    return found if loss is None else {**found, "loss": loss}


if __name__ == "__main__":
    print(json.dumps(run_once(sys.argv[1], Sizes(**json.loads(sys.argv[2])))))
