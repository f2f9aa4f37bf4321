"""The one figure by which a task's students are compared at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Headline:
    """The figure that is shown while a student learns.

    Attributes:
        key: in ``results.json`` and in the lines of ``metrics.jsonl``.
        name: for people.
        better: which end is the good one.
        digits: after the point.
    """

    key: str
    name: str
    better: Literal["lower", "higher"]
    digits: int

    def write(self, value: float) -> str:
        """A value as text."""
        return f"{value:.{self.digits}f}"

    def best(self, values: list[float]) -> float:
        """The best of some values."""
        return min(values) if self.better == "lower" else max(values)


PERPLEXITY = Headline("perplexity", "perplexity", "lower", 2)
F1 = Headline("f1", "F1", "higher", 3)
#: By what transformers calls the task.
BY_TASK = {"text-generation": PERPLEXITY, "fill-mask": PERPLEXITY, "text-classification": F1}
