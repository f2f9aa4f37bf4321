"""Exercises of notebook 07: scores or probabilities, counting hidden states, means and padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from workbench import layer_maps
from workbench.lessons.question import (
    Exercise,
    NotAttempted,
    Outcome,
    Prediction,
    Wrong,
    call,
    number,
)

__all__ = ["QUESTIONS", "q1", "q2", "q3"]

_SCORES, _SAME, _PROBABILITIES = "scores", "about the same", "probabilities"


def _louder(measured: Any) -> tuple[str, str]:
    if not isinstance(measured, Mapping) or {_SCORES, _PROBABILITIES} - set(measured):
        raise Wrong(
            'A dictionary is wanted: the norm of the gradient of "scores" and of "probabilities".'
        )
    before = number(measured[_SCORES], "The norm of scores")
    after = number(measured[_PROBABILITIES], "The norm of probabilities")
    if min(before, after) <= 0:
        raise Wrong("A norm is above 0; one of these is not.")
    ratio = before / after
    choice = _SAME if 0.5 < ratio < 2 else _SCORES if ratio > 1 else _PROBABILITIES
    louder, word = (ratio, _SCORES) if ratio > 1 else (1 / ratio, _PROBABILITIES)
    return choice, f"The gradient of the {word} is {louder:,.3g} times as long."


q1 = Prediction(
    "07.q1",
    prompt="Attention can be compared before softmax (scores) or after it (probabilities), both by "
    "the mean squared difference. Which term has the longer gradient on an untrained student?",
    choices=(_SCORES, _SAME, _PROBABILITIES),
    right=_SCORES,
    verdict=_louder,
    explanation="Scores can be any number. Probabilities of n keys are about 1/n, and so are their "
    "differences; squared, 1/n². On the way back the gradient passes through softmax, which makes "
    "it smaller by about 1/n once more. The longer the text, the quieter the term.",
    hints=(
        "A sentence has some 15 tokens. How large is a typical probability, how large a score?",
        "Then square the differences.",
    ),
)


# ---------------------------------------------------------------------- which hidden states

_STATES = (0, 3, 6, 9, 12)
_REMARKS = {
    (2, 5, 8, 11): "These are layers, counted from 0. Their outputs stand one place later.",
    (3, 6, 9, 12): "The embeddings' output, place 0, is compared too: five entries.",
    (0, 2, 5, 8, 11): "These are layers; the output of layer 2 is `hidden_states[3]`.",
    (0, 3, 6, 9): "The last entry is missing: after the student's layer 3 comes the last pair.",
    (0, 1, 2, 3, 4): "These are the student's places; the teacher's are wanted.",
    (1, 4, 7, 10, 13): "Places are counted from 0, and the teacher's go up to 12.",
    (0, 4, 8, 12): "Each layer of the student answers for 12 / 4 = 3 of the teacher, not for 4.",
}


def _judge_states(given: Any) -> Outcome:
    try:
        entries = list(given)
    except TypeError:
        raise Wrong(f"A list of five places is wanted, not {type(given).__name__}.") from None
    if isinstance(given, str | bytes | Mapping):
        raise Wrong(f"A list of five places is wanted, not {type(given).__name__}.")
    if any(entry is ... for entry in entries):
        raise NotAttempted("There is still a `...` in the list.")
    places = tuple(number(entry, "A place") for entry in entries)
    if any(place != int(place) for place in places):
        raise Wrong("Places are whole numbers.")
    if places == _STATES:
        layers = ", ".join(map(str, layer_maps.named("uniform", 12, 4)))
        return Outcome(
            "correct", f"The embeddings, and the outputs of layers {layers}: 3m for m = 0 to 4."
        )
    if places in _REMARKS:
        raise Wrong(_REMARKS[places])
    if len(places) != len(_STATES):
        raise Wrong(f"{len(places)} entries; the student has 5 hidden states, embeddings included.")
    raise Wrong("The student's state m is held against the teacher's 3m.")


q2 = Exercise(
    "07.q2",
    prompt="A student of 4 layers and a teacher of 12: attention of layer m is held against layer "
    "3m + 2. `hidden_states[0]` is the embeddings' output, `hidden_states[i + 1]` that of layer i. "
    "Which of the teacher's `hidden_states` belong to the student's 0, 1, 2, 3, 4?",
    starter="places = ...\nq2.check(places)",
    answer="places = [0, 3, 6, 9, 12]\nq2.check(places)",
    judge=_judge_states,
    explanation="The output of teacher layer 3m + 2 is `hidden_states[3m + 3]`, and that of the "
    "student's layer m is `hidden_states[m + 1]`: place m belongs to place 3m, with the embeddings "
    "at 0. The paper counts hidden states and the script layers; both mean the same pairs.",
    hints=(
        "Begin with the embeddings: both models have them at place 0.",
        "Layer 2 of the teacher is at place 3.",
    ),
)


# ---------------------------------------------------------------------- padding


def _case(seed: int, lengths: tuple[int, ...], longest: int):
    import torch

    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(len(lengths), longest, 3, generator=generator)
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    values[~real] = 7.0
    return values, real


def _judge_mean(function: Callable) -> Outcome:
    for seed, (lengths, longest) in enumerate([((4, 2, 1), 4), ((5, 5), 5), ((2, 6), 9)]):
        values, real = _case(seed, lengths, longest)
        expected = values[real].mean().item()
        value = number(call(function, values.clone(), real.clone()), "The mean")
        if math.isclose(value, expected, rel_tol=1e-4):
            continue
        line = f"For lengths {', '.join(map(str, lengths))} of {longest} it gives {value:.4g}; "
        line += f"expected {expected:.4g}."
        of_rows = sum(v[r].mean().item() for v, r in zip(values, real, strict=True)) / len(lengths)
        if math.isclose(value, values.mean().item(), rel_tol=1e-4):
            line += " That is the mean over padding as well."
        elif math.isclose(value, (values * real[..., None]).mean().item(), rel_tol=1e-4):
            line += " Padding is zero now, and still counted in the divisor."
        elif math.isclose(value, of_rows, rel_tol=1e-4):
            line += " That is the mean of the rows' means: tokens of short rows would count more."
        elif math.isclose(value, 3 * expected, rel_tol=1e-4):
            line += " Divide by the entries too: each token has as many as the width."
        raise Wrong(line)
    return Outcome("correct", "Padding changes nothing now, however long the longest row is.")


q3 = Exercise(
    "07.q3",
    prompt="Rows of a batch are filled up to the longest one. Write the mean over real tokens.",
    starter='''\
def mean_over_real(values, real):
    """Mean of all entries of real tokens, one number.

    values: [batch, length, width], such as squared differences
    real: [batch, length], True where a token is no padding
    """
    ...


q3.check(mean_over_real)''',
    answer='''\
def mean_over_real(values, real):
    """Mean of all entries of real tokens, one number.

    values: [batch, length, width], such as squared differences
    real: [batch, length], True where a token is no padding
    """
    return values[real].mean()


q3.check(mean_over_real)''',
    judge=_judge_mean,
    explanation="`values[real]` keeps the rows of real tokens, `[tokens, width]`. Setting padding "
    "to zero is not enough: the divisor would still count it, and the term would get quieter "
    "wherever a batch happens to hold one long sentence.",
    hints=(
        "Both the sum and what it is divided by must leave padding out.",
        "A mask `[batch, length]` chooses from `[batch, length, width]`.",
    ),
)

QUESTIONS = (q1, q2, q3)
