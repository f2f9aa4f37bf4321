"""Better, not, or inconclusive: what several seeds say about a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: Of the intervals.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Verdict:
    """The relative difference of a figure over pairs of runs with the same seed.

    Attributes:
        word: "better", "not better" (worse, or no more than nothing) or "inconclusive".
        mean: relative difference, such as −0.25 for a quarter less; the geometric mean.
        low: lower end of the 95 % interval; −inf with one pair.
        high: upper end.
        pairs: so many.
    """

    word: Literal["better", "not better", "inconclusive"]
    mean: float
    low: float
    high: float
    pairs: int


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Mean over seeds and its 95 % interval by Student's t; None with a single value.

    Raises:
        ValueError: if there are no values.
    """
    if not values:
        raise ValueError("there are no values")
    mean, count = sum(values) / len(values), len(values)
    if count < 2:
        return mean, None
    from scipy.stats import t

    spread = math.sqrt(sum((x - mean) ** 2 for x in values) / (count - 1))
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread / math.sqrt(count)
    return mean, (mean - half, mean + half)


def compare(values: Sequence[float], against: Sequence[float], *, lower_is_better: bool) -> Verdict:
    """Whether one figure is better than another, by Student's t on the logarithms of the ratios.

    Args:
        values: one a seed, above 0.
        against: of the same seeds, in the same order.
        lower_is_better: as for perplexity.

    Raises:
        ValueError: if there are no pairs, or a value is not above 0.
    """
    if not values or len(values) != len(against):
        raise ValueError(f"{len(values)} values against {len(against)}; expected pairs")
    if min(*values, *against) <= 0:
        raise ValueError("a ratio needs figures above 0")
    logs = [math.log(a / b) for a, b in zip(values, against, strict=True)]
    mean, count = sum(logs) / len(logs), len(logs)
    if count < 2:
        return Verdict("inconclusive", math.expm1(mean), -math.inf, math.inf, count)
    from scipy.stats import t

    spread = math.sqrt(sum((x - mean) ** 2 for x in logs) / (count - 1))
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread / math.sqrt(count)
    low, high = mean - half, mean + half
    good, bad = (high < 0, low > 0) if lower_is_better else (low > 0, high < 0)
    word = "better" if good else "not better" if bad else "inconclusive"
    return Verdict(word, math.expm1(mean), math.expm1(low), math.expm1(high), count)
