"""What was measured, for people: a line a figure, and each goal with whether it was met."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Goal:
    """A figure and what it should be.

    Attributes:
        what: is measured.
        found: the figure.
        goal: what it should be.
        sense: whether that is the least or the most that it may be.
    """

    what: str
    found: float
    goal: float
    sense: Literal["at least", "at most"] = "at least"

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.found >= self.goal if self.sense == "at least" else self.found <= self.goal

    def to_json(self) -> dict[str, Any]:
        """With the verdict in it."""
        return {**asdict(self), "met": self.met}

    def __str__(self) -> str:
        verdict = "met" if self.met else "missed"
        return f"{self.what}: {self.found:.3g}, {self.sense} {self.goal:g}: {verdict}"


def goals_text(goals: list[dict[str, Any]]) -> list[str]:
    """A line a goal, from `Goal.to_json`."""
    return [str(Goal(**{k: v for k, v in goal.items() if k != "met"})) for goal in goals]


def plain(measured: dict[str, Any]) -> list[str]:
    """A line a figure; what has figures of its own follows indented."""
    lines = []
    for key, value in measured.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {line}" for line in plain(value))]
        else:
            lines.append(f"{key}: {value:,.4g}" if isinstance(value, float) else f"{key}: {value}")
    return lines
