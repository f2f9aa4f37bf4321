"""A cost model fitted to measured points: a sum of amounts, each at a price, no price below 0.

The fit makes the squares of the relative errors smallest, so that a small model counts as much as
a large one. How far it can be trusted is asked by leaving each point out in turn and predicting it
from the others; what the residuals say is always kinder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fit:
    """Prices, and how wrong they are.

    Attributes:
        prices: seconds for one of each amount, 0 or more.
        residuals: predicted over measured, less 1, of each point.
        left_out: the same where the point was left out of the fit.
    """

    prices: tuple[float, ...]
    residuals: tuple[float, ...]
    left_out: tuple[float, ...]

    @property
    def typical_error(self) -> float:
        """Root of the mean square of `left_out`."""
        return math.sqrt(sum(error**2 for error in self.left_out) / len(self.left_out))

    @property
    def worst_error(self) -> float:
        """The largest of `left_out`, without its sign."""
        return max(abs(error) for error in self.left_out)

    def predict(self, amounts: Sequence[float]) -> float:
        """What so much would take, s."""
        return sum(p * a for p, a in zip(self.prices, amounts, strict=True))

    def to_json(self) -> dict[str, Any]:
        """With both errors."""
        return {
            **asdict(self), "typical_error": self.typical_error, "worst_error": self.worst_error,
        }  # fmt: skip


def fit(amounts: Sequence[Sequence[float]], seconds: Sequence[float]) -> Fit:
    """Prices by non-negative least squares on relative errors.

    Args:
        amounts: ``[points, prices]``, of each point what was done.
        seconds: ``[points]``, that it took, above 0.

    Raises:
        ValueError: if there are too few points to leave one out, or a time is not above 0.
    """
    table, times = np.asarray(amounts, dtype=float), np.asarray(seconds, dtype=float)
    if len(table) <= table.shape[1] or len(table) != len(times):
        raise ValueError(
            f"{len(table)} points and {len(times)} times for {table.shape[1]} prices; expected "
            "more points than prices, and a time for each"
        )
    if not (times > 0).all():
        raise ValueError("a time is not above 0")
    prices = _prices(table, times)
    left_out = []
    for i in range(len(table)):
        others = np.arange(len(table)) != i
        left_out.append(float(table[i] @ _prices(table[others], times[others]) / times[i] - 1))
    return Fit(
        prices=tuple(map(float, prices)),
        residuals=tuple(map(float, table @ prices / times - 1)),
        left_out=tuple(left_out),
    )


def _prices(table: np.ndarray, times: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls

    relative = table / times[:, None]
    # Amounts differ by many powers of ten; the solver wants columns of one size.
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(relative / scale, np.ones(len(times)))
    return found / scale


def passes_until_worth(ask: float, write: float, read: float) -> int | None:
    """Least passes over the same tokens from which on keeping answers is faster than asking again.

    n passes cost n·ask, or ask + write + n·read where the first pass asks, writes, and each pass
    reads; keeping wins from n = (ask + write)/(ask − read) on.

    Args:
        ask: seconds to run the teacher on a token.
        write: seconds to keep its answer.
        read: seconds to read it.

    Returns:
        The number of passes; None where reading takes as long as asking, so that it never wins.
    """
    if read >= ask:
        return None
    return max(1, math.ceil((ask + write) / (ask - read) - 1e-12))
