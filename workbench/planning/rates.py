"""How fast this machine is at what a run does, measured in some two seconds if nothing else runs.

A large matrix product gives the rate that everything else is held against. A run does not reach
it: norms, activation functions and softmaxes take time and are no products. So a few layers of
teacher and student, as wide as the real ones, with random weights, read rows as long as the run's,
the student's also backwards, and the loss is computed on some rows. What they reach of the rate of
the product is the efficiency of each.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from workbench import inner, models
from workbench.devices import precision
from workbench.inner import Matcher
from workbench.large_vocabulary import is_plain
from workbench.objective import Counts, Objective, TeacherSignal
from workbench.planning import arithmetic
from workbench.planning.arithmetic import Load, Looks, Size
from workbench.vocabulary_loss import vocabulary_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Seconds that each of the four measurements may take, its warm-up left out.
SECONDS = 0.4
#: Rows and columns of the product.
SIDE = {"cpu": 1024, "cuda": 8192}
#: Most tokens of the measured layers' vocabulary, and most answers of the measured loss: what is
#: left out of a table costs nothing, and of the loss as much as its part.
TOKENS, ANSWERS = 1000, 8192
#: Most rows of the measured loss, of the length of the measured rows, and numbers in the layers.
ROWS, LENGTH, PARAMETERS = 512, 512, 100_000_000


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        device: "cpu" or "cuda".
        threads: of PyTorch, on a CPU.
        products: FLOP/s of a large matrix product, float32.
        teacher: FLOP/s of the teacher's layers, forward.
        student: FLOP/s of the student's layers, forward and back, comparison of layers included.
        loss: FLOP/s of heads and loss, forward and back.
        optimiser: seconds a parameter of clipping and AdamW.
        seconds: that the measurement took.
    """

    device: str
    threads: int
    products: float
    teacher: float
    student: float
    loss: float
    optimiser: float
    seconds: float

    def efficiency(self, part: str) -> float:
        """Share of the product's rate that "teacher", "student" or "loss" reach."""
        return getattr(self, part) / self.products

    def to_json(self) -> dict[str, Any]:
        """With the efficiencies."""
        parts = ("teacher", "student", "loss")
        return {**asdict(self), "efficiency": {part: self.efficiency(part) for part in parts}}


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        teacher: sketched, of any size; only layers like its own are made.
        student: likewise.
        sizes: of teacher and student.
        load: of a part of a step.
        objective: of the run.
        looks: of it, in full.
        keeps_logits: the teacher's logits are kept, and not its hidden states.
        precision: in which models read; see `workbench.devices.precision`.
    """

    teacher: PreTrainedModel
    student: PreTrainedModel
    sizes: tuple[Size, Size]
    load: Load
    objective: Objective
    looks: Looks
    keeps_logits: bool
    precision: str = "float32"


def measure(asked: Asked, device: torch.device) -> Rates:
    """Measure all of it on a device."""
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        products = _products(device)
        teacher, student, optimiser = _layers(asked, products, device)
        loss = _loss(asked, products, device)
    return Rates(
        device=device.type,
        threads=torch.get_num_threads(),
        products=products,
        teacher=teacher,
        student=student,
        loss=loss,
        optimiser=optimiser,
        seconds=time.perf_counter() - started,
    )


def _products(device: torch.device) -> float:
    side = SIDE.get(device.type, SIDE["cpu"])
    a, b = torch.randn(2, side, side, device=device)
    out = torch.empty_like(a)
    return 2 * side**3 / _seconds(lambda: torch.mm(a, b, out=out), device)


def _layers(asked: Asked, products: float, device: torch.device) -> tuple[float, float, float]:
    """FLOP/s of the teacher forward, of the student's training, and seconds a parameter."""
    large, small = asked.sizes
    budget = products * SECONDS / 2
    load, student_layers = _portion(small, asked.load, budget / 3)
    _, teacher_layers = _portion(large, load, budget)
    student_layers = min(student_layers, teacher_layers)
    wanted = inner.looks(asked.objective)
    teacher = _piece(asked.teacher, teacher_layers, wanted, device).eval().requires_grad_(False)
    student = _piece(asked.student, student_layers, wanted, device).train()
    ids = torch.randint(
        teacher.config.vocab_size, (round(load.sequences), round(load.length)), device=device
    )
    real = torch.ones_like(ids, dtype=torch.bool)

    @torch.no_grad()
    def ask():
        with precision.reading(asked.precision, device):
            last, held = _read(teacher, ids, real, wanted)
        return precision.full(last), None if held is None else precision.seen(held)

    forward = replace(large, layers=teacher_layers)
    flops = arithmetic.forward_flops(forward, load)
    if asked.looks.scores:
        flops += 2 * load.read * load.length * large.width * teacher_layers
    of_teacher = flops / _seconds(ask, device)
    seen = ask()[1]
    matcher = None
    if wanted:
        matcher = Matcher(
            _by_hand(asked.objective, student_layers), student.config, teacher.config
        ).to(device)
    parameters = [*student.parameters(), *(matcher.parameters() if matcher else ())]
    # A new optimiser and moments of its own, as a run has them.
    optimiser = torch.optim.AdamW(parameters, lr=1e-9, fused=True)
    counts = Counts(rows=ids.numel(), sequences=len(ids), tokens=ids.numel(),
                    pairs=ids.numel() * ids.shape[1])  # fmt: skip
    taken = []

    def learn() -> None:
        with precision.reading(asked.precision, device):
            last, own = _read(student, ids, real, wanted)
        total = precision.full(last).square().mean()
        if matcher is not None:
            total = total + sum(matcher(precision.seen(own), seen, counts).values())
        total.backward()
        _wait(device)
        before = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        _wait(device)
        taken.append(time.perf_counter() - before)
        optimiser.zero_grad(set_to_none=True)

    whole = _seconds(learn, device)
    stepping = statistics.median(taken[1:] or taken)
    learned = replace(small, layers=student_layers)
    share = student_layers / small.layers
    looks = replace(
        asked.looks,
        hidden=math.ceil(asked.looks.hidden * share),
        projections=math.ceil(asked.looks.projections * share),
    )
    flops = arithmetic.training_flops(learned, load)
    flops += arithmetic.comparison_flops(learned, replace(large, layers=0), load, looks)
    numbers = sum(p.numel() for p in parameters)
    return of_teacher, flops / max(whole - stepping, 1e-9), stepping / numbers


def _loss(asked: Asked, products: float, device: torch.device) -> float:
    """FLOP/s of heads and loss, forward and back."""
    large, small = asked.sizes
    answers = min(small.answers, ANSWERS)
    own, theirs = (replace(size, head=size.width * answers) for size in (small, large))
    teacher = None if asked.keeps_logits else theirs
    how = "once" if is_plain(asked.objective) and small.answers >= arithmetic.LARGE else "whole"
    row = arithmetic.loss_flops(own, teacher, 1, how)
    rows = max(1, min(round(asked.load.scored), ROWS, round(products * SECONDS / 2 / row)))
    hidden = torch.randn(rows, small.width, device=device, requires_grad=True)
    weight = torch.randn(answers, small.width, device=device, requires_grad=True)
    teacher_hidden = torch.randn(rows, large.width, device=device)
    teacher_weight = torch.randn(answers, large.width, device=device)
    labels = torch.randint(answers, (rows,), device=device)
    logits = teacher_hidden @ teacher_weight.t()
    signal = TeacherSignal(logits)
    if teacher is not None:
        signal = TeacherSignal(teacher_hidden, lambda h: h @ teacher_weight.t())
    objective = replace(asked.objective, cosine=None, hidden=None, attention=None, given=())
    counts = Counts(rows=rows, sequences=1)

    def compute() -> None:
        if how == "once":
            total = vocabulary_loss(
                hidden, weight, labels, teacher_hidden, teacher_weight, temperature=2.0, alpha=0.5
            ).total
        else:
            values = objective.values(
                hidden, lambda h: h @ weight.t(), labels, signal, temperature=2.0,
                counts=counts, vocabulary=answers,
            )  # fmt: skip
            total = objective.total(values, 0.5)
        torch.autograd.grad(total, (hidden, weight))

    return arithmetic.loss_flops(own, teacher, rows, how) / _seconds(compute, device)


def _portion(size: Size, load: Load, flops: float) -> tuple[Load, int]:
    """As much of a step, and as many layers, as so many forward FLOPs allow; at least some."""
    length = min(round(load.length), LENGTH) or 1
    one = Load(1, length, length, length)
    layer = arithmetic.forward_flops(replace(size, layers=1), one)
    sequences = max(1, min(round(load.sequences), int(flops / layer)))
    most = max(1, PARAMETERS // size.matrices)
    layers = max(1, min(size.layers, int(flops / (layer * sequences)), most))
    return Load(sequences, length, sequences * length, sequences * length), layers


def _piece(model: PreTrainedModel, layers: int, wanted: inner.Looks, device: torch.device):
    """Some layers of a model's kind, with fresh weights and a small table of tokens."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    config.vocab_size = min(config.vocab_size, TOKENS)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, 0)
    config._attn_implementation = None
    with models.quiet_transformers():
        piece = type(model.base_model)(config).to(device)
    inner.prepare(piece, wanted)
    return piece


def _read(backbone, ids, real, wanted: inner.Looks):
    if wanted:
        return inner.read(backbone, ids, real, wanted)
    return models.last_hidden(backbone, ids, real), None


def _by_hand(objective: Objective, layers: int) -> Objective:
    """The objective for as many layers of both, each compared with its like."""
    each = ",".join(map(str, range(layers)))
    hidden, attention = objective.hidden, objective.attention
    return replace(
        objective,
        hidden=None if hidden is None else replace(hidden, layers=each),
        attention=None if attention is None else replace(attention, layers=each),
    )


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a call, as often as fits; the first, which warms up, is left out."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 2 or (time.perf_counter() - began < SECONDS and len(times) < 50):
        before = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - before)
    return statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
