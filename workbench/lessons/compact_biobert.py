"""Exercises of notebook 08: a mean too many, and the F1 of whole entities."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

_TWO, _KEYS, _MOST = "about 2", "about 15", "about 256"


def _quieter(measured: Any) -> tuple[str, str]:
    ratio = number(measured, "The ratio")
    if ratio <= 0:
        raise Wrong(f"The ratio is {ratio:.4g}; one above 0 was expected.")
    if ratio < 0.9:
        raise Wrong(f"The ratio is {ratio:.3g}; divide the one without the mean by the one with.")
    # Bounds half-way between the choices, on a scale of factors.
    choice = _TWO if ratio < 6.3 else _KEYS if ratio < 71 else _MOST
    return choice, f"The attention term gets {ratio:.3g} times quieter."


q1 = Prediction(
    "08.q1",
    prompt='The KL of attention is a sum over the keys. `KLDivLoss(reduction="mean")` divides it '
    "by their number. Our sentences have some 15 tokens. How many times quieter does the attention "
    "term get?",
    choices=(_TWO, _KEYS, _MOST),
    right=_KEYS,
    verdict=_quieter,
    explanation="A query's KL is one number; divided by n keys it is n times smaller, and so is "
    "its gradient. The script reads 256 tokens at once, so there it is up to 256 times. Nothing "
    "crashes: the weight 3 of the formula becomes as little as 3/256.",
    hints=(
        "By what is each query's KL divided?",
        "By the number of tokens that it can look at, itself included.",
    ),
)


# ---------------------------------------------------------------------- entities

q2 = Exercise(
    "08.q2",
    prompt="The truth is `B-Drug O B-Disease I-Disease O B-Gene`, a model says `B-Drug O B-Disease "
    "O O B-Gene`: five of six words are right. What is the F1 of entities?",
    starter="f1 = ...\nq2.check(f1)",
    answer="f1 = 2 * 2 / (3 + 3)\nq2.check(f1)",
    judge=judge_number(
        "f1",
        2 / 3,
        right="Two of three found are right, two of three there are found: 2/3. "
        "The disease that lost a word counts as wrong, and the true one as missed.",
        near=(
            (5 / 6, "That is the share of words. An entity counts only as a whole."),
            (1, "The disease was found with one word too few: that is a wrong entity."),
            (
                4 / 5,
                "The disease found with one word too few is an entity that was found, and wrong.",
            ),
            (1 / 3, "Two entities are right, drug and gene."),
            (6 / 7, "That is the F1 of tagged words; an entity counts only as a whole."),
        ),
        otherwise="F1 is 2·right / (found + there), each a number of entities.",
    ),
    explanation="Right are drug and gene. Three entities were found and three are there, so "
    "precision and recall are both 2/3, and F1 = 2·2/(3 + 3).",
    hints=(
        "Count entities: how many are there, how many were found, how many agree in first word, "
        "last word and type?",
        "F1 = 2·right / (found + there).",
    ),
)

_TAGS = (
    (("B-Drug", "O", "B-Disease", "I-Disease", "O"), {("Drug", 0, 0), ("Disease", 2, 3)}),
    (("O", "O"), set()),
    (("B-Gene", "B-Gene", "I-Gene"), {("Gene", 0, 0), ("Gene", 1, 2)}),
    (("O", "B-Disease", "I-Disease", "I-Disease"), {("Disease", 1, 3)}),
    (("B-Drug", "B-Disease", "O", "B-Gene"),
     {("Drug", 0, 0), ("Disease", 1, 1), ("Gene", 3, 3)}),
)  # fmt: skip


def _judge_entities(function: Callable) -> Outcome:
    for tags, expected in _TAGS:
        what = f"For `{' '.join(tags)}`"
        found = call(function, list(tags))
        if isinstance(found, str) or not isinstance(found, Iterable):
            raise Wrong(f"{what} it returns {found!r}; expected a list of (type, first, last).")
        try:
            entities = [(str(kind), int(first), int(last)) for kind, first, last in found]
        except (TypeError, ValueError):
            raise Wrong(f"{what} an entry is no (type, first, last): {list(found)!r}.") from None
        if set(entities) == expected and len(entities) == len(expected):
            continue
        remark = ""
        if {(k, a, b - 1) for k, a, b in entities} == expected:
            remark = " The last word belongs to the entity: count it, not the one after it."
        elif {k for k, _, _ in entities} & {"B-Drug", "B-Disease", "B-Gene"}:
            remark = " The type is what follows the hyphen: `tag[2:]`."
        elif len(entities) < len(expected) and tags[-1] != "O":
            remark = " Look at entities at the end, and at those that touch: each B- begins one."
        elif len(entities) > len(expected):
            remark = " An I- goes on with the entity before it and begins none."
        raise Wrong(f"{what} it returns {sorted(entities)}; expected {sorted(expected)}.{remark}")
    return Outcome("correct", "Two sets of these, and F1 is 2·|both| / (|found| + |there|).")


q3 = Exercise(
    "08.q3",
    prompt="Find the entities of a sentence from its tags: B- begins one, I- goes on with it, O is "
    "outside.",
    starter='''\
def entities_of(tags):
    """A list of (type, first word, last word), words counted from 0.

    tags: such as ["B-Drug", "O", "B-Disease", "I-Disease"]; I- always follows B- or I-
    """
    ...


q3.check(entities_of)''',
    answer='''\
def entities_of(tags):
    """A list of (type, first word, last word), words counted from 0.

    tags: such as ["B-Drug", "O", "B-Disease", "I-Disease"]; I- always follows B- or I-
    """
    found = []
    for place, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append((tag[2:], place, place))
        elif tag.startswith("I-"):
            found[-1] = (*found[-1][:2], place)
    return found


q3.check(entities_of)''',
    judge=_judge_entities,
    explanation="Each B- opens an entity of one word, each I- moves the end of the last one. "
    "Real files also hold an I- that follows no B-; the package's `entity_scores` counts them as "
    "seqeval does.",
    hints=(
        "Go through the tags with `enumerate`; at each B- append (type, place, place).",
        "At an I- replace the last entry: the same type and first word, and this place as last.",
    ),
)

QUESTIONS = (q1, q2, q3)
