"""Exercises of notebook 12: waiting, averaging, and what an average does to certainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from workbench.at_work.open_load import latencies
from workbench.lessons.question import Exercise, Outcome, Prediction, Wrong, call, number

__all__ = ["QUESTIONS", "q1", "q2", "q3", "q4"]


def _shorter(given: Any) -> tuple[str, str]:
    if not isinstance(given, Mapping) or not {"service", "latency"} <= set(given):
        raise Wrong(
            "A dictionary is wanted: {'service': …, 'latency': …}, each the teacher's time divided "
            "by the student's."
        )
    service = number(given["service"], "The ratio of the times in the model")
    latency = number(given["latency"], "The ratio of the latencies")
    if min(service, latency) <= 0:
        raise Wrong("A ratio of two times is above 0.")
    sentence = (
        f"In the model {service:.1f} times less time; from arrival to answer {latency:.1f} times."
    )
    if latency > 1.2 * service:
        return "by a larger factor", sentence
    return ("by the same factor" if latency > service / 1.2 else "by a smaller factor"), sentence


q1 = Prediction(
    "12.q1",
    prompt="The student scores a sequence several times faster than the teacher. Sequences arrive "
    "at random, at 95 % of the rate that the teacher can just keep up with. From arrival to "
    "answer, the median time is shorter with the student, too: by which factor, compared with the "
    "factor in the model alone?",
    choices=("by a smaller factor", "by the same factor", "by a larger factor"),
    right="by a larger factor",
    verdict=_shorter,
    explanation="At 95 % of its capacity the teacher is nearly always busy, and whoever arrives "
    "finds others waiting. At the same rate the student is idle most of the time, so hardly anyone "
    "waits for it. Latency is waiting plus service; a faster model shortens both.",
    hints=(
        "From arrival to answer a sequence does two things: it waits, then it is scored.",
        "What share of the time is the student busy at that rate? Who waits then?",
    ),
)


#: Arrivals and times in the model, s; quarters, which floats hold exactly.
_STREAMS = (
    ([0.0, 10.0, 20.0], [1.0, 2.0, 1.0]),
    ([0.0, 1.0, 2.0], [4.0, 1.0, 1.0]),
    ([0.5, 0.75, 1.0, 8.0], [2.0, 2.0, 2.0, 0.5]),
    ([2.0, 2.0, 2.0], [1.0, 0.25, 3.0]),
)


def _judge_latencies(function: Callable) -> Outcome:
    for arrivals, service in _STREAMS:
        given = call(function, list(arrivals), list(service))
        try:
            found = [float(x) for x in given]
        except (TypeError, ValueError):
            raise Wrong("It should return a list with a number for every sequence.") from None
        expected = latencies(arrivals, service).tolist()
        if found == expected:
            continue
        case = f"Arrivals {arrivals}, times in the model {service}: "
        if found == service and found != expected:
            raise Wrong(
                f"{case}that is the time in the model alone, as if nobody ever waited; a tester "
                "who asks only after the last answer measures just this."
            )
        if found == [a + e for a, e in zip(arrivals, expected, strict=True)]:
            raise Wrong(f"{case}these are the moments of the answers; subtract the arrivals.")
        if found == (np.cumsum(service) - np.array(arrivals)).tolist():
            raise Wrong(
                f"{case}{found}. The worker cannot begin before a sequence has arrived; between "
                "two it may be idle."
            )
        raise Wrong(f"{case}{expected} was expected, not {found}.")
    return Outcome(
        "correct",
        "Each begins when it has arrived and the worker is free, whichever is later. One long "
        "service delays all who come soon after it.",
    )


q2 = Exercise(
    "12.q2",
    prompt="One worker, first come first served. Given are the moments at which sequences arrive, "
    "rising, and the time that each takes in the model. Compute the latency of each: from arrival "
    "to answer.",
    starter='''\
def latencies(arrivals, service):
    """Seconds from arrival to answer of each sequence; two lists of equal length, s."""
    ...


q2.check(latencies)''',
    answer='''\
def latencies(arrivals, service):
    """Seconds from arrival to answer of each sequence; two lists of equal length, s."""
    free, found = 0.0, []
    for arrived, seconds in zip(arrivals, service):
        free = max(free, arrived) + seconds
        found.append(free - arrived)
    return found


q2.check(latencies)''',
    judge=_judge_latencies,
    explanation="`free` is the moment at which the worker is free again. A sequence begins then, "
    "or when it arrives if that is later.",
    hints=(
        "Go through the sequences in order and remember when the worker will be free.",
        "A sequence begins at `max(free, arrived)`.",
    ),
)

#: Probabilities of the right token, ``[members][tokens]``.
_SAID = (
    [[0.5, 0.5, 0.5]],
    [[0.5, 0.25], [0.5, 0.75]],
    [[0.9, 0.1, 0.2], [0.3, 0.5, 0.6], [0.6, 0.3, 0.1]],
)


def _perplexity(logarithms: np.ndarray) -> float:
    return math.exp(-float(logarithms.mean()))


def _judge_ensemble(function: Callable) -> Outcome:
    for said in _SAID:
        given = number(call(function, [list(row) for row in said]), "What it returns")
        table = np.array(said)
        expected = _perplexity(np.log(table.mean(axis=0)))
        if math.isclose(given, expected, rel_tol=1e-6):
            continue
        case = f"For {said} it gives {given:.4f}, and {expected:.4f} was expected: "
        near = (
            (
                _perplexity(np.log(table)),
                "the mean of the members' logarithms; average the probabilities first, then take "
                "the logarithm.",
            ),
            (
                float(np.mean([_perplexity(np.log(row)) for row in table])),
                "the mean of the members' perplexities; an ensemble answers once, with the mean of "
                "the probabilities.",
            ),
            (math.log(expected), "the mean −log; perplexity is its exponential."),
            (1 / expected, "the inverse; there is a minus before the logarithm."),
            (
                1 / float(table.mean()),
                "one over the mean probability; first the logarithm of each token, then the mean.",
            ),
        )
        for wrong, meaning in near:
            if math.isclose(given, wrong, rel_tol=1e-6):
                raise Wrong(case + meaning)
        raise Wrong(case.rstrip(": ") + ".")
    return Outcome(
        "correct",
        "Averaging comes before the logarithm. As −log is convex, the result is never above the "
        "geometric mean of the members' perplexities.",
    )


q3 = Exercise(
    "12.q3",
    prompt="Several students said how probable the right next residue was, at each place of a "
    "sequence. Compute the perplexity of the ensemble that averages their probabilities.",
    starter='''\
import math


def ensemble_perplexity(said):
    """said[student][place]: the probability that a student gave to the right residue."""
    ...


q3.check(ensemble_perplexity)''',
    answer='''\
import math


def ensemble_perplexity(said):
    """said[student][place]: the probability that a student gave to the right residue."""
    means = [sum(place) / len(place) for place in zip(*said)]
    return math.exp(-sum(math.log(p) for p in means) / len(means))


q3.check(ensemble_perplexity)''',
    judge=_judge_ensemble,
    explanation="At each place the mean over the students, of that the logarithm, of those the "
    "mean over the places; perplexity is the exponential of its negative.",
    hints=(
        "`zip(*said)` goes through the places; each gives the probabilities of all students.",
        "exp(−mean over places of log(mean over students)).",
    ),
)


def _certainty(given: Any) -> tuple[str, str]:
    if not isinstance(given, Mapping) or not {"one", "all"} <= set(given):
        raise Wrong("A dictionary is wanted: {'one': …, 'all': …}, two calibration errors.")
    one, all_ = (number(given[name], "A calibration error") for name in ("one", "all"))
    if min(one, all_) < 0 or max(one, all_) > 1 or one == 0:
        raise Wrong("A calibration error is a share, between 0 and 1.")
    sentence = f"One student is wrong about its certainty by {one:.4f}, the average by {all_:.4f}."
    if all_ > 1.1 * one:
        return "larger", sentence
    return ("about the same" if all_ > one / 1.1 else "smaller"), sentence


q4 = Prediction(
    "12.q4",
    prompt="A single student's calibration error is small: it is right about as often as it is "
    "sure. Several such students are averaged. Is the calibration error of the average smaller, "
    "about the same (within 10 %), or larger?",
    choices=("smaller", "about the same", "larger"),
    right="larger",
    verdict=_certainty,
    explanation="Where the students disagree, their average is less sure than each of them. It is "
    "also right more often than each of them. Less sure and more often right is no longer "
    "calibrated: the average says 60 % and is right in more than 60 of 100. Perplexity falls all "
    "the same.",
    hints=(
        "Two students: one says A with 0.9, the other B with 0.9. How sure is the average?",
        "And how often is an average right, compared with one of its members?",
    ),
)

QUESTIONS = (q1, q2, q3, q4)
