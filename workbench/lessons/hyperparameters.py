"""Exercises of notebook 10: where a published T and α lie on the landscape of a sweep."""

from __future__ import annotations

from typing import Any

from workbench.lessons.question import Exercise, Prediction, Wrong, judge_number, number

__all__ = ["QUESTIONS", "q1", "q2", "q3"]

#: The published point.
_T, _ALPHA = 10.0, 0.1
#: The same mixture of gradients with T²: α′/((1−α′)·T²) = α/(1−α).
_WITH_SQUARE = _ALPHA * _T**2 / (1 - _ALPHA + _ALPHA * _T**2)
#: Relative differences that are called nothing, against a baseline and between twins.
_SAME, _TWINS = 0.05, 0.02


def _ratio(measured: Any) -> float:
    ratio = number(measured, "The ratio")
    if ratio <= 0:
        raise Wrong(f"The ratio is {ratio:g}; a ratio of two perplexities is above 0.")
    return ratio


def _against_labels(measured: Any) -> tuple[str, str]:
    change = _ratio(measured) - 1
    choice = "about the same" if abs(change) <= _SAME else "lower" if change < 0 else "higher"
    word = "lower" if change < 0 else "higher"
    return choice, f"It is {abs(change):.1%} {word} than with labels alone."


q1 = Prediction(
    "10.q1",
    prompt="T = 10, α = 0.1, without T²: nine tenths of the weight are the teacher's. Compared "
    "with a student that learns from labels alone, is the perplexity lower, about the same "
    f"(within {_SAME:.0%}), or higher?",
    choices=("lower", "about the same", "higher"),
    right="about the same",
    verdict=_against_labels,
    explanation="Softening by T = 10 makes the teacher's gradient about a hundred times smaller. "
    "The weight 0.9 against 0.1 gives back a factor of nine. What is left, 9 : 100, is less "
    "still in the gradient, for the teacher's is the shorter one even at T = 1: the ledger shows "
    "the labels some fifty times louder than the teacher. The student learns what labels teach.",
    hints=(
        "How much smaller is the gradient of the soft loss at T = 10 than at T = 1?",
        "About T² = 100 times. The weights 0.9 and 0.1 differ by a factor of 9.",
    ),
)

q2 = Exercise(
    "10.q2",
    prompt="The published point has T = 10, α = 0.1 and no T². With T², at the same T, another α "
    "gives the same mixture of the two gradients. Which?",
    starter="alpha = ...\nq2.check(alpha)",
    answer="T = 10\nalpha = 0.1 * T**2 / (0.9 + 0.1 * T**2)\nq2.check(alpha)",
    judge=judge_number(
        "alpha",
        _WITH_SQUARE,
        right="10/10.9 = 0.917. Without T², the published point is where α = 0.92 is with it: "
        "next to *labels only*.",
        near=(
            (
                1 - _WITH_SQUARE,
                "That is the weight of the soft loss; α is the weight of the labels.",
            ),
            (
                _ALPHA / _T**2 / (1 - _ALPHA + _ALPHA / _T**2),
                "The other way round: T² makes the teacher louder, so a larger α is needed to "
                "have the labels as loud as before.",
            ),
            (
                1 - _ALPHA,
                "0.9 turns the weights round; what has to be made good is the factor T² = 100.",
            ),
            (
                _ALPHA * _T / (1 - _ALPHA + _ALPHA * _T),
                "That is with a factor of T; the loss is multiplied by T².",
            ),
            (_ALPHA, "With the same α the teacher is T² = 100 times louder than before."),
        ),
        otherwise="Write the labels' weight over the teacher's for both, α/(1−α) and "
        "α′/((1−α′)·T²), and make them equal.",
    ),
    explanation="α′/((1−α′)·100) = 0.1/0.9 gives α′ = 10/10.9 = 0.917. The two losses differ by a "
    "common factor only, and AdamW does not mind a common factor much.",
    hints=(
        "What counts is the ratio of the labels' weight to the teacher's.",
        "Without T² it is 0.1/0.9. With T² it is α′/((1−α′)·100).",
    ),
)


def _twins(measured: Any) -> tuple[str, str]:
    change = _ratio(measured) - 1
    choice = "T² is better" if change < 0 else "T² is worse"
    if abs(change) <= _TWINS:
        choice = "within 2 %"
    said = f"With T² and α = {_WITH_SQUARE:.3f} the perplexity is {abs(change):.1%}"
    return choice, f"{said} {'lower' if change < 0 else 'higher'} than without T² and α = 0.1."


q3 = Prediction(
    "10.q3",
    prompt="Two students at T = 10: one with T² and your α = 0.917, one without T² and the "
    "published α = 0.1. How do their perplexities compare?",
    choices=("within 2 %", "T² is better", "T² is worse"),
    right="within 2 %",
    verdict=_twins,
    explanation="Their losses differ by a factor of 9.17 in every term. AdamW divides each "
    "gradient by its own running size, so the factor cancels, but for rounding, the small constant "
    "in that division, and the clipping of large gradients.",
    hints=(
        "Multiply the second loss by 9.17. What do you get?",
        "What does AdamW do with a loss that is multiplied by a constant?",
    ),
)

QUESTIONS = (q1, q2, q3)
