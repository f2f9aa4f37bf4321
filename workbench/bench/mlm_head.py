"""What it saves to score before projecting: the vocabulary head of a masked language model.

Only the masked tokens of a BERT have a loss, some 15 % of all, yet the usual code makes logits for
every token and lets the loss ignore the rest (label −100; with a teacher, ``masked_select`` on both
models' logits). Here each such *full layout* is measured against this package's own way, *rows
first*: pick the hidden states of the masked tokens, then apply the head to those.

Both take the hidden states as given and give the loss and its gradient on the hidden states and on
the head's parameters. The encoder, the same for both, is no part of it.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.bench.goals import Goal
from workbench.objective import Counts, HardTerm, Objective, TeacherSignal

#: So many times faster than the full layout, with so many times less memory.
FASTER_GOAL, SMALLER_GOAL = 5.0, 3.0
#: The label that ``cross_entropy`` passes over.
IGNORED = -100
#: DistilBioBERT: 5 · soft + 2 · hard at T = 2, soft on masked tokens only
#: (nlpie-research/Compact-Biomedical-Transformers, ``DistilBioBERT-Distillation.py``).
TEMPERATURE, ALPHA = 2.0, 2 / 7
#: Positions are scored against the tokens that stood there, not against the next ones.
OBJECTIVE = Objective(hard=HardTerm(shifted=False))


@dataclass(frozen=True)
class Sizes:
    """Of a head and of the batch that it reads; by default BioBERT's and DistilBioBERT's.

    Attributes:
        batch: sequences.
        length: tokens in each.
        width: of the hidden states of student and teacher.
        vocabulary: tokens that there are.
        share: of the tokens, how many are masked; round(share · length) in each sequence.
    """

    batch: int = 8
    length: int = 256
    width: int = 768
    vocabulary: int = 28_996
    share: float = 0.15


#: Small enough for float64, where the two layouts must agree to rounding.
SMALL = Sizes(batch=2, length=20, width=12, vocabulary=101)


@dataclass(frozen=True)
class Case:
    """A student's head, a teacher's, and what they read.

    Attributes:
        head: the student's, with gradients.
        teacher_head: without gradients.
        hidden: ``[batch, length, width]``, the student's last hidden states, with gradient.
        teacher_hidden: ``[batch, length, width]``, without gradient.
        masked: ``[batch, length]``, True where a token is to be told.
        labels: ``[masked positions]``, the tokens that stood there, row after row.
        sizes: of all this.
    """

    head: nn.Module
    teacher_head: nn.Module
    hidden: Tensor
    teacher_hidden: Tensor
    masked: Tensor
    labels: Tensor
    sizes: Sizes

    def gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        """Of a loss on the hidden states and on each parameter of the student's head."""
        return torch.autograd.grad(loss, [self.hidden, *self.head.parameters()])


def bert_head(width: int, vocabulary: int) -> nn.Sequential:
    """The head of a BERT: a layer with GELU and normalisation, then a logit for each token."""
    return nn.Sequential(
        nn.Linear(width, width),
        nn.GELU(),
        nn.LayerNorm(width, eps=1e-12),
        nn.Linear(width, vocabulary),
    )


def case(sizes: Sizes, dtype: torch.dtype = torch.float32, seed: int = 0) -> Case:
    """Two heads and a batch drawn from ``seed``; the process's random state is left as it was.

    Args:
        sizes: of head and batch.
        dtype: of all numbers.
        seed: of hidden states, masked positions, labels and weights.
    """
    shape = (sizes.batch, sizes.length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = [bert_head(sizes.width, sizes.vocabulary).to(dtype) for _ in range(2)]
        hidden, teacher_hidden = (torch.randn(*shape, sizes.width, dtype=dtype) for _ in range(2))
        each = round(sizes.share * sizes.length)
        masked = torch.rand(shape).argsort(dim=1).argsort(dim=1) < each
        labels = torch.randint(sizes.vocabulary, (sizes.batch * each,))
    student, teacher = heads
    return Case(
        head=student,
        teacher_head=teacher.requires_grad_(False),
        hidden=hidden.requires_grad_(),
        teacher_hidden=teacher_hidden,
        masked=masked,
        labels=labels,
        sizes=sizes,
    )


# ------------------------------------------------------------------ the layouts


def full_layout(case: Case) -> Tensor:
    """Cross-entropy from logits of all positions, a scalar in nats, as ``BertForMaskedLM`` does."""
    return _ignoring_cross_entropy(case, case.head(case.hidden))


def rows_first(case: Case) -> Tensor:
    """The same from logits of the masked positions, through `Objective.values`."""
    return _objective(case, None)["hard"]


def distilled_full_layout(case: Case) -> Tensor:
    """α · cross-entropy + (1−α) · T² · KL(teacher‖student) from logits of all positions, nats.

    As the script of DistilBERT (huggingface/transformers, ``research_projects/distillation``)
    with ``restrict_ce_to_mask``, from which those of CompactBioBERT's family were made: logits
    of both models everywhere, then ``masked_select`` with the mask widened to the vocabulary.
    """
    student = case.head(case.hidden)
    with torch.no_grad():
        teacher = case.teacher_head(case.teacher_hidden)
    hard = _ignoring_cross_entropy(case, student)
    chosen = case.masked.unsqueeze(-1).expand_as(student)
    chosen_student = torch.masked_select(student, chosen).view(-1, case.sizes.vocabulary)
    chosen_teacher = torch.masked_select(teacher, chosen).view(-1, case.sizes.vocabulary)
    soft = TEMPERATURE**2 * functional.kl_div(
        functional.log_softmax(chosen_student / TEMPERATURE, dim=-1),
        functional.softmax(chosen_teacher / TEMPERATURE, dim=-1),
        reduction="batchmean",
    )
    return ALPHA * hard + (1 - ALPHA) * soft


def distilled_rows_first(case: Case) -> Tensor:
    """The same from logits of the masked positions, through `Objective.values`."""
    teacher = TeacherSignal(case.teacher_hidden[case.masked], case.teacher_head)
    return OBJECTIVE.total(_objective(case, teacher), ALPHA)


def _ignoring_cross_entropy(case: Case, logits: Tensor) -> Tensor:
    labels = torch.full(case.masked.shape, IGNORED)
    labels[case.masked] = case.labels
    return functional.cross_entropy(
        logits.view(-1, case.sizes.vocabulary), labels.view(-1), ignore_index=IGNORED
    )


def _objective(case: Case, teacher: TeacherSignal | None) -> dict[str, Tensor]:
    return OBJECTIVE.values(
        case.hidden[case.masked],
        case.head,
        case.labels,
        teacher,
        temperature=TEMPERATURE,
        counts=Counts(rows=len(case.labels), sequences=case.sizes.batch),
        vocabulary=case.sizes.vocabulary,
    )


#: What is compared: the usual layout, and this package's.
COMPARED: dict[str, tuple[Callable[[Case], Tensor], Callable[[Case], Tensor]]] = {
    "mlm": (full_layout, rows_first),
    "distillation": (distilled_full_layout, distilled_rows_first),
}

# ------------------------------------------------------------------ measuring


def measure(sizes: Sizes | None = None, repeats: int = 9) -> dict[str, Any]:
    """Time and memory of forward and backward pass in both layouts, in turn.

    Seconds are medians after a warm-up. Memory is the most that torch holds at once beyond what
    was there before, gradients included; see `peak_memory_mb`. Each ratio is the larger figure
    over the smaller one where all is well: ``times_faster`` is the full layout's seconds over
    those of rows first, ``times_smaller`` likewise of memory.

    Differences between the layouts: of the loss, in nats; of the gradients, the largest of any
    number over the largest number of the same gradient. At full size in float32, and in a small
    case in float64.

    Args:
        sizes: of head and batch; None for BioBERT's.
        repeats: how often each layout is timed.

    Returns:
        Under ``mlm_…`` for the cross-entropy alone and ``distillation_…`` with a teacher, what is
        said above; sizes; and the goals, which are about the cross-entropy alone.
    """
    sizes = sizes or Sizes()
    full, small = case(sizes), case(SMALL, torch.float64)
    found: dict[str, Any] = {}
    for name, layouts in COMPARED.items():
        found |= {f"{name}_{what}": value for what, value in _compare(full, layouts, repeats)}
        for digits, one in (("float32", full), ("float64", small)):
            loss, gradient = differences(one, *layouts)
            found[f"{name}_loss_difference_{digits}"] = loss
            found[f"{name}_gradient_difference_{digits}"] = gradient
    return {
        **found,
        "batch": sizes.batch,
        "length": sizes.length,
        "width": sizes.width,
        "vocabulary": sizes.vocabulary,
        "masked_positions": len(full.labels),
        "repeats": repeats,
        "goals": [
            Goal("times faster", found["mlm_times_faster"], FASTER_GOAL).to_json(),
            Goal("times less memory", found["mlm_times_smaller"], SMALLER_GOAL).to_json(),
        ],
    }


def _compare(
    case: Case, layouts: tuple[Callable[[Case], Tensor], ...], repeats: int
) -> list[tuple[str, float]]:
    times: tuple[list[float], ...] = tuple([] for _ in layouts)
    for repeat in range(repeats + 1):
        for layout, seconds in zip(layouts, times, strict=True):
            started = time.perf_counter()
            case.gradients(layout(case))
            if repeat:  # the first round warms up
                seconds.append(time.perf_counter() - started)
    full, rows = map(statistics.median, times)
    full_mb, rows_mb = (
        peak_memory_mb(lambda layout=layout: case.gradients(layout(case))) for layout in layouts
    )
    return [
        ("full_seconds", full),
        ("rows_first_seconds", rows),
        ("times_faster", full / rows),
        ("full_peak_mb", full_mb),
        ("rows_first_peak_mb", rows_mb),
        ("times_smaller", full_mb / rows_mb),
    ]


def differences(
    case: Case, one: Callable[[Case], Tensor], other: Callable[[Case], Tensor]
) -> tuple[float, float]:
    """How far two layouts are apart.

    Returns:
        Difference of the losses, nats; and the largest difference of any number of a gradient,
        over the largest number of that gradient.
    """
    losses, gradients = [], []
    for layout in (one, other):
        loss = layout(case)
        gradients.append(case.gradients(loss))
        losses.append(float(loss.detach()))
    relative = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(*gradients, strict=True)]
    return abs(losses[0] - losses[1]), max(relative)


def peak_memory_mb(call: Callable[[], object]) -> float:
    """The most that torch's CPU allocator gave out at once during a call, MB (10⁶ bytes).

    Counted from what was there before the call, by the allocator's own record: every tensor of
    forward and backward pass, what the call returns, and scratch space inside an operation, such
    as the sums of 8 bytes a logit by which ``masked_select`` finds its places (`runtime`, which
    counts tensors, does not see those). Not counted: what a matrix library takes for itself.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [e for e in events if e.get("name") == "[memory]" and e["args"]["Device Type"] == 0]
    held = peak = 0
    for change in sorted(changes, key=lambda e: e["ts"]):
        held += change["args"]["Bytes"]
        peak = max(peak, held)
    return peak / 1e6
