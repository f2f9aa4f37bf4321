"""Exercises of notebook 06: what masking changes, scoring first, weights as published."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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

_HIDDEN, _CHANGED, _CHOSEN = "12 %", "13.5 %", "15 %"


def _changed(measured: Any) -> tuple[str, str]:
    share = number(measured, "The share")
    if 1 < share <= 100:
        raise Wrong(f"{share:.4g} looks like per cent; give the share as a fraction of 1.")
    if not 0 < share < 1:
        raise Wrong(f"A share lies between 0 and 1; this one is {share:.4g}.")
    # Bounds half-way between the choices.
    choice = _HIDDEN if share < 0.1275 else _CHANGED if share < 0.1425 else _CHOSEN
    return choice, f"{share:.1%} of the words are no longer what they were."


q1 = Prediction(
    "06.q1",
    prompt="BERT chooses 15 % of the tokens. Of these 80 % become `[MASK]`, 10 % another token at "
    "random, and 10 % stay. Which share of all tokens does the model see *changed*?",
    choices=(_HIDDEN, _CHANGED, _CHOSEN),
    right=_CHANGED,
    verdict=_changed,
    explanation="15 % times (0.8 + 0.1) is 13.5 %: 12 % are hidden and 1.5 % swapped. The other "
    "1.5 % stand there unchanged and are asked for all the same. The model cannot know which "
    "tokens these are, so it has to have an opinion about every token it reads.",
    hints=(
        "Not every token that is chosen is changed.",
        "Of those chosen, 80 % and 10 % are changed: 0.15 · 0.9.",
    ),
)


# ---------------------------------------------------------------------- score first


class _Head:
    """A vocabulary head that counts the rows it is given."""

    def __init__(self, weight) -> None:
        self.weight = weight
        self.rows = 0

    def __call__(self, states):
        self.rows += states.numel() // states.shape[-1]
        return states @ self.weight


def _judge_score(function: Callable) -> Outcome:
    import torch
    from torch.nn import functional

    for seed, (batch, length, width, vocabulary) in enumerate([(3, 7, 4, 11), (1, 12, 5, 30)]):
        generator = torch.Generator().manual_seed(seed)
        states = torch.randn(batch, length, width, generator=generator)
        head = _Head(torch.randn(width, vocabulary, generator=generator))
        hidden = torch.rand(batch, length, generator=generator) < 0.3
        labels = torch.randint(vocabulary, (int(hidden.sum()),), generator=generator)
        logits = states @ head.weight
        expected = functional.cross_entropy(logits[hidden], labels).item()
        value = number(call(function, states, head, hidden, labels), "The loss")
        if not math.isclose(value, expected, rel_tol=1e-4):
            raise Wrong(_remark(value, expected, logits, hidden, labels))
        if head.rows > len(labels):
            raise Wrong(
                f"The loss is right, but the head was applied to {head.rows} rows where "
                f"{len(labels)} are hidden. Choose the rows first."
            )
    return Outcome("correct", "The same loss, and the head saw the hidden positions only.")


def _remark(value: float, expected: float, logits, hidden, labels) -> str:
    from torch.nn import functional

    line = f"The loss is {value:.6g}; expected {expected:.6g}."
    summed = functional.cross_entropy(logits[hidden], labels, reduction="sum").item()
    if math.isclose(value, summed, rel_tol=1e-4):
        return f"{line} That is the sum over hidden positions; take the mean."
    if math.isclose(value, summed / hidden.numel(), rel_tol=1e-4):
        return f"{line} That is divided by all positions; divide by the hidden ones."
    return f"{line} Labels are those of the hidden positions, row after row: `states[hidden]`."


q2 = Exercise(
    "06.q2",
    prompt="Only hidden positions have a loss. Write it so that the head, which makes a logit for "
    "every word of the vocabulary, is applied to them alone.",
    starter='''\
from torch.nn import functional as F


def loss_of_hidden(states, head, hidden, labels):
    """Mean cross-entropy of the hidden positions.

    states: [batch, length, width]; head: [..., width] to [..., vocabulary]
    hidden: [batch, length], True where a word is to be told; labels: [hidden positions]
    """
    ...


q2.check(loss_of_hidden)''',
    answer='''\
from torch.nn import functional as F


def loss_of_hidden(states, head, hidden, labels):
    """Mean cross-entropy of the hidden positions.

    states: [batch, length, width]; head: [..., width] to [..., vocabulary]
    hidden: [batch, length], True where a word is to be told; labels: [hidden positions]
    """
    rows = states[hidden]
    return F.cross_entropy(head(rows), labels)


q2.check(loss_of_hidden)''',
    judge=_judge_score,
    explanation="`states[hidden]` is `[hidden positions, width]`, in the order of the labels. The "
    "head then makes 15 % of the logits, with the same loss and the same gradient.",
    hints=(
        "A mask of shape `[batch, length]` chooses rows of a tensor `[batch, length, width]`.",
        "`rows = states[hidden]`, and `F.cross_entropy(head(rows), labels)`.",
    ),
)


# ---------------------------------------------------------------------- weights

q3 = Exercise(
    "06.q3",
    prompt="Published are the weights 2 (labels), 5 (teacher's answers) and 1 (cosine). Here the "
    "first two are written k·(α·hard + (1−α)·soft). Which α is that?",
    starter="alpha = ...\nq3.check(alpha)",
    answer="alpha = 2 / (2 + 5)\nq3.check(alpha)",
    judge=judge_number(
        "alpha",
        2 / 7,
        right="α = 2/7 and k = 7: 7·2/7 = 2 and 7·5/7 = 5.",
        near=(
            (5 / 7, "That is 1 − α: in this course α weighs the labels."),
            (2 / 5, "That is the ratio of the two weights; α is a share of both together."),
            (2 / 8, "The cosine has a weight of its own and is not part of α."),
            (5 / 8, "That is 1 − α with the cosine counted; α weighs the labels."),
            (2, "α lies between 0 and 1: the share of the labels in both weights."),
        ),
        otherwise="α is the weight of the labels over both weights together.",
    ),
    explanation="k·α = 2 and k·(1−α) = 5 add up to k = 7, so α = 2/7. Only the ratio of two loss "
    "terms decides where the gradient points; k says how loud both are beside the cosine.",
    hints=("k·α = 2 and k·(1−α) = 5: add the two.", "k is 7."),
)

QUESTIONS = (q1, q2, q3)
