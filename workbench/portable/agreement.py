"""How far the answers of an exported file are from PyTorch's, for many shapes of input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError

#: A float32 export may differ from PyTorch by so much: absolute up to logits of size 1, beyond
#: that relative to the largest logit, which is all that float32 can promise.
TOLERANCE = 1e-4
#: Longest input that is compared.
LONGEST = 512

#: From tokens and a mask of real ones, both ``[batch, length]``, to logits.
Answer = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Difference:
    """Of two ways to answer.

    Attributes:
        largest: absolute difference of any two logits at a real token.
        scale: largest absolute logit.
        finite: whether all logits are finite numbers.
    """

    largest: float
    scale: float
    finite: bool

    @property
    def allowed(self) -> float:
        """What a float32 export may differ by."""
        return TOLERANCE * max(1.0, self.scale)

    @property
    def within(self) -> bool:
        """Whether it differs by no more."""
        return self.finite and self.largest <= self.allowed


def inputs(vocabulary: int, longest: int, pad: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random tokens and masks ``[batch, length]``: one token, odd sizes, padding, the longest."""
    rng = np.random.default_rng(0)
    longest = min(longest, LONGEST)
    shapes = [(1, 1), (1, 5), (2, 7), (3, 33), (5, longest // 2), (1, longest)]
    for batch, length in shapes:
        length = max(1, min(length, longest))
        ids = torch.from_numpy(rng.integers(0, vocabulary, (batch, length)))
        # Every row but the first is shorter than the one before it.
        lengths = torch.tensor([max(1, length * (batch - row) // batch) for row in range(batch)])
        real = torch.arange(length) < lengths[:, None]
        yield ids.where(real, torch.tensor(pad)), real


def largest_difference(
    one: Answer, other: Answer, vocabulary: int, longest: int, pad: int
) -> Difference:
    """Of two ways to answer, over all of `inputs`.

    Args:
        one: the first way.
        other: the second, which sets the scale.
        vocabulary: tokens that there are.
        longest: most tokens in an input.
        pad: token that rows are filled up with.
    """
    largest, scale, finite = 0.0, 0.0, True
    for ids, real in inputs(vocabulary, longest, pad):
        found, expected = one(ids, real), other(ids, real)
        if found.shape != expected.shape:
            raise WorkbenchError(
                f"the exported model answers {list(ids.shape)} tokens with "
                f"{list(found.shape)} logits and PyTorch with {list(expected.shape)}"
            )
        if found.dim() == 3:  # one answer a token; those at padding mean nothing
            found, expected = found[real], expected[real]
        finite = finite and bool(found.isfinite().all() & expected.isfinite().all())
        largest = max(largest, float((found - expected).abs().max()))
        scale = max(scale, float(expected.abs().max()))
    return Difference(largest, scale, finite)
