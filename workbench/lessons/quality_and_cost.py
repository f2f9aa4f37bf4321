"""Exercises of notebook 11: what is paid, what is got for it, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.comparisons.tradeoff import front
from workbench.lessons.question import (
    Exercise,
    Outcome,
    Prediction,
    Wrong,
    call,
    judge_number,
    number,
)

__all__ = ["QUESTIONS", "q1", "q2", "q3"]

#: How many times fewer parameters protgpt2-tiny has than its classroom teacher: 1,384,768/63,792.
_SMALLER = 21.7


def _faster(given: Any) -> tuple[str, str]:
    value = number(given, "The ratio of the two latencies")
    if value <= 0:
        raise Wrong(f"The ratio of the two latencies is {value:g}; it should be above 0.")
    sentence = f"{_SMALLER:.0f} times fewer parameters, {value:.1f} times less time."
    if value < 0.75 * _SMALLER:
        return "fewer than 22", sentence
    return ("about 22" if value < 1.5 * _SMALLER else "more than 22"), sentence


q1 = Prediction(
    "11.q1",
    prompt="protgpt2-tiny has 22 times fewer parameters than its teacher. How many times faster "
    "does it read one sequence?",
    choices=("fewer than 22", "about 22", "more than 22"),
    right="fewer than 22",
    verdict=_faster,
    explanation="A layer costs time for being there: it is started, its numbers are fetched, and "
    "the next layer waits. For one short sequence that counts for more than its arithmetic. The "
    "student has 2 layers for 9, and that is nearer to what is gained than the parameters are.",
    hints=(
        "Multiplying takes time, and so does everything around it.",
        "Count layers: 9 against 2.",
    ),
)

#: Points of the judge, how quality is better, and which are on the front.
_CASES: tuple[tuple[list[tuple[float, float]], str], ...] = (
    ([(1, 9), (2, 5), (3, 7), (4, 2)], "cost 3 is dearer and worse than cost 2"),
    ([(4, 2), (3, 7), (2, 5), (1, 9)], "the points need not come by rising cost"),
    ([(1, 3), (2, 3)], "the same quality for more cost is beaten"),
    ([(1, 5), (1, 4), (2, 1)], "of two with one cost the better one stands"),
    ([(7, 7)], "one point alone is not beaten"),
)


def _judge_front(function: Callable) -> Outcome:
    for points, why in _CASES:
        given = call(function, list(points))
        expected = sorted(points[i] for i in front(points, "lower"))
        try:
            found = sorted((float(cost), float(quality)) for cost, quality in given)
        except (TypeError, ValueError):
            raise Wrong(
                "It should return a list of points, each (cost, quality), as they were given."
            ) from None
        if found != [(float(a), float(b)) for a, b in expected]:
            raise Wrong(f"Of {points} it keeps {found}; {expected} was expected: {why}.")
    return Outcome("correct", "What is left is the menu: everything else costs more for less.")


q2 = Exercise(
    "11.q2",
    prompt="Write the Pareto front. Points are pairs (cost, perplexity), both better when lower. "
    "Keep those that no other point beats: none may have the same cost or less, the same "
    "perplexity or less, and one of the two less.",
    starter='''\
def pareto_front(points):
    """The points that no other one beats; any order."""
    ...


q2.check(pareto_front)''',
    answer='''\
def pareto_front(points):
    """The points that no other one beats; any order."""
    kept = []
    for cost, perplexity in sorted(points):
        if not kept or perplexity < kept[-1][1]:
            kept.append((cost, perplexity))
    return kept


q2.check(pareto_front)''',
    judge=_judge_front,
    explanation="Sorted by cost, a point is worth its cost only if its perplexity is lower than "
    "that of everything cheaper: one pass finds the front.",
    hints=(
        "Sort by cost first. Which points of the sorted list are worth more than those before?",
        "Go through the sorted points and remember the lowest perplexity so far.",
    ),
)

_SHARE, _FASTER = 0.3, 6.11
_ALL = 1 / (_SHARE + (1 - _SHARE) / _FASTER)

q3 = Exercise(
    "11.q3",
    prompt="A pipeline spends 30 % of its time on reading files and 70 % in the model. A student "
    "6.11 times faster takes the model's place. How many times faster is the pipeline?",
    starter="times_faster = ...\nq3.check(times_faster)",
    answer="times_faster = 1 / (0.3 + 0.7 / 6.11)\nq3.check(times_faster)",
    judge=judge_number(
        "times_faster",
        _ALL,
        right="2.4 times. And if the student took no time at all, it would be 3.3 times: the files "
        "still have to be read (Amdahl's law).",
        near=(
            (_FASTER, "That is the model alone; the files take as long as before."),
            (_FASTER * (1 - _SHARE), "Speed-ups cannot be averaged by shares; times can."),
            (_SHARE + (1 - _SHARE) * _FASTER,
             "Speed-ups cannot be averaged by shares; add up the times, then divide."),
            (1 / _ALL, "That is the new time as a share of the old one; the ratio is its inverse."),
        ),
        otherwise="Let the old time be 1. How long do the files take, how long the student?",
    ),
    explanation="Of a time of 1, the files take 0.3 as before and the model 0.7 / 6.11 = 0.115. "
    "Together 0.415, so 1 / 0.415 = 2.4 times faster.",
    hints=(
        "Write the new time as a share of the old one: files plus model.",
        "The model's 0.7 becomes 0.7 / 6.11.",
    ),
)  # fmt: skip

QUESTIONS = (q1, q2, q3)
