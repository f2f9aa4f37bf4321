"""The least that a step can take: its arithmetic over the rate of this machine's matrix products.

Counted are the matrix products of a GPT-2 student, forward once and backward twice, on padded
tokens; norms, activations and the optimiser are not. Two rates are measured: of one large square
product, the machine's own, and of products of the step's own shapes, thin ones, which no
arrangement of the same model can be rid of.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from workbench.recipes.recipe import Shape

#: Side of the large product.
SIDE = 1024


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of forward and backward pass, a multiplication and an addition
    counted as two.

    Attributes:
        layers: linear maps of the layers, 6 · parameters · tokens.
        attention: queries with keys and probabilities with values, over full squares.
        head: of the vocabulary, at scored positions only.
    """

    layers: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.layers + self.attention + self.head


def operations(shape: Shape, rows: int, length: int, scored: int) -> Operations:
    """Of one step of a GPT-2 on one batch.

    Args:
        shape: of the student; its inner layer is four times as wide.
        rows: sequences in the batch.
        length: padded tokens of each.
        scored: positions that the vocabulary head is applied to.
    """
    linear = 12 * shape.layers * shape.width**2
    return Operations(
        layers=6.0 * linear * rows * length,
        # Two products forward and four backward, each of 2 · length² · width operations a row.
        attention=12.0 * shape.layers * rows * length**2 * shape.width,
        head=6.0 * shape.vocabulary * shape.width * scored,
    )


def square_rate(seconds: float = 0.2) -> float:
    """Operations/s of a large float32 matrix product, the median of many."""
    one, other = torch.ones(2, SIDE, SIDE).unbind()
    return _rate([(one, other)], seconds)


def own_rate(shape: Shape, tokens: int, seconds: float = 0.2) -> float:
    """Operations/s of the products of one layer, forward and backward, the median of many.

    Args:
        shape: of the student.
        tokens: padded tokens of a batch.
    """
    pairs = []
    for inputs, outputs in ((1, 3), (1, 1), (1, 4), (4, 1)):
        x = torch.ones(tokens, inputs * shape.width)
        weight = torch.ones(inputs * shape.width, outputs * shape.width)
        gradient = torch.ones(tokens, outputs * shape.width)
        pairs += [(x, weight), (gradient, weight.t()), (x.t(), gradient)]
    return _rate(pairs, seconds)


def _rate(pairs: list[tuple[torch.Tensor, torch.Tensor]], seconds: float) -> float:
    work = sum(2.0 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in pairs)
    outs = [a.new_empty(a.shape[0], b.shape[1]) for a, b in pairs]
    times = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        for (a, b), out in zip(pairs, outs, strict=True):
            torch.mm(a, b, out=out)
        times.append(time.perf_counter() - started)
    return work / statistics.median(times)
