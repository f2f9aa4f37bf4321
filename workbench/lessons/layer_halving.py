"""Exercises of notebook 03: layer maps, and what a student starts with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workbench import layer_maps
from workbench.lessons.question import (
    Exercise,
    NotAttempted,
    Outcome,
    Prediction,
    Wrong,
    call,
    judge_number,
    number,
)

__all__ = ["QUESTIONS", "q1", "q2", "q3", "q4"]


def _layers(given: Any, what: str) -> list[int]:
    """Layer numbers from whatever sequence a learner gives; a clear line for anything else."""
    if isinstance(given, str | dict | set) or not hasattr(given, "__iter__"):
        raise Wrong(
            f"{what} should be a list of layer numbers; it is of type {type(given).__name__}."
        )
    layers = list(given)
    if any(layer is ... for layer in layers):
        raise NotAttempted(f"{what} still holds `...`.")
    for layer in layers:
        value = number(layer, f"Each entry of {what}")
        if value != int(value) or isinstance(layer, float):
            raise Wrong(f"Layers are numbered with whole numbers; {what} holds {layer!r}.")
    return [int(layer) for layer in layers]


def _judge_map(given: Any) -> Outcome:
    layers = _layers(given, "`layer_map`")
    if layers == [1, 3, 5, 7, 9, 11]:
        return Outcome(
            "correct",
            "2i + 1, CompactBioBERT's map: the last layer is in it, and layer 0 is not.",
        )
    if layers == [0, 2, 4, 6, 8, 10]:
        raise Wrong(
            "That is 2i, every other layer from layer 0, DistilBioBERT's map. Here it begins with "
            "layer 1."
        )
    if layers == [2, 4, 6, 8, 10, 12]:
        raise Wrong(
            "That counts layers from 1. They are numbered from 0, as Python does, so layer 12 does "
            "not exist: subtract 1 from each."
        )
    if layers == [1, 3, 5]:
        raise Wrong(
            "That stops half-way: every other layer of 12 gives six, up to layer 11. Do not stop "
            "at the number of student layers."
        )
    outside = [layer for layer in layers if not 0 <= layer < 12]
    if outside:
        raise Wrong(f"Layer {outside[0]} does not exist: a teacher of 12 layers has 0 to 11.")
    if len(layers) != 6:
        raise Wrong(
            f"It has {len(layers)} {'entry' if len(layers) == 1 else 'entries'}; a student with "
            "half of 12 layers needs six, one for each of its layers."
        )
    if sorted(layers) == [1, 3, 5, 7, 9, 11]:
        raise Wrong("The layers are right and their order is not: student layer 0 comes first.")
    raise Wrong(f"{layers} is not every other layer from layer 1. Which layer comes after 1?")


q1 = Exercise(
    "03.q1",
    prompt="A layer map names a teacher layer for each student layer. Write the one that takes "
    "every other layer of a 12-layer teacher, beginning with layer 1; layers are numbered from 0.",
    starter="layer_map = ...\nq1.check(layer_map)",
    answer="layer_map = list(range(1, 12, 2))\nq1.check(layer_map)",
    judge=_judge_map,
    explanation="Student layer i takes teacher layer 2i + 1: 1, 3, 5, 7, 9, 11. With 2i it would "
    "be 0, 2, 4, 6, 8, 10, and the last layer would be left out.",
    hints=(
        "A student with half of 12 layers has six: the list has six entries.",
        "`range(start, stop, step)` counts in steps; stop itself is left out.",
    ),
)

_STARTS = ("2i", "2i+1", "first", "last", "spaced", "random")


def _lowest(measured: Any) -> tuple[str, str]:
    if not hasattr(measured, "items"):
        raise Wrong(
            "The result should be a dict from the name of a start to its perplexity; it is of type "
            f"{type(measured).__name__}."
        )
    perplexities = {
        str(name): number(value, f"The perplexity of {name}") for name, value in measured.items()
    }
    missing = [name for name in _STARTS if name not in perplexities]
    if missing:
        raise Wrong(f"The result has no perplexity for {', '.join(missing)}.")
    order = sorted(_STARTS, key=lambda name: perplexities[name])
    listed = ", ".join(f"{name} {perplexities[name]:.4g}" for name in order)
    return order[0], f"Perplexities before any training: {listed}."


q2 = Prediction(
    "03.q2",
    prompt="Six students, not trained at all: five take their layers from the teacher by a map, "
    "one is random. Which has the lowest perplexity?",
    choices=_STARTS,
    right="first",
    verdict=_lowest,
    explanation="What decides is layer 0, which turns embeddings into what all later layers read. "
    "The maps with layer 0 (first, 2i, spaced) are close to each other and not far from the "
    "teacher; those without it (2i+1, last) are no better than random, about as good as a guess "
    "among all symbols. Later layers each add a little to what is there, so leaving some of them "
    "out costs little. Which of the three is ahead is a small difference; look at the numbers.",
    hints=(
        "Every layer adds to what the layers before it wrote. Which layer does the most depend on?",
        "Only one layer reads the embeddings directly. Which maps keep it?",
    ),
)

_WIDTH, _VOCABULARY, _POSITIONS, _ALL = 512, 50_257, 1_024, 38_866_432
_SHARE = (_VOCABULARY + _POSITIONS) * _WIDTH / _ALL

q3 = Exercise(
    "03.q3",
    prompt="protgpt2-distilled-tiny has 4 layers, 4 heads, width 512, 1,024 positions, a "
    "vocabulary of 50,257 tokens, and 38,866,432 parameters; its head is the token table again. "
    "Which share of the parameters is embeddings, of tokens and of positions?",
    starter="share = ...\nq3.check(share)",
    answer="share = (50257 + 1024) * 512 / 38_866_432\nq3.check(share)",
    judge=judge_number(
        "share",
        _SHARE,
        right="26.3 of 38.9 million, two thirds. Taking layers away cannot make this model much "
        "smaller: most of it is the table.",
        near=(
            (100 * _SHARE, "That is per cent; as a fraction it is right. Divide by 100."),
            (
                _VOCABULARY * _WIDTH / _ALL,
                "That is the token table alone. The table of 1,024 positions is an embedding too.",
            ),
            (
                100 * _VOCABULARY * _WIDTH / _ALL,
                "That is the token table alone, in per cent. Add the positions; give a fraction.",
            ),
            (
                (2 * _VOCABULARY + _POSITIONS) * _WIDTH / _ALL,
                "That counts the token table twice. The head is tied: it is the same table.",
            ),
            (
                2 * _VOCABULARY * _WIDTH / _ALL,
                "That counts the token table twice and leaves out the positions. The head is tied: "
                "it is the same table.",
            ),
            (1 - _SHARE, "That is the share of all the rest."),
            (
                float((_VOCABULARY + _POSITIONS) * _WIDTH),
                "That is their number. Divide by all parameters, 38,866,432.",
            ),
        ),
        otherwise="A table has a row for each entry and a column for each number of the width.",
        tolerance=2e-3,
    ),
    explanation="The token table has 50,257 × 512 numbers and the position table 1,024 × 512, "
    "together 26,255,872 of 38,866,432, that is 0.676. The head is tied to the token table and "
    "adds nothing.",
    hints=(
        "Two tables: one row a token, one row a position, each row as wide as the model.",
        "(50,257 + 1,024) × 512, divided by all parameters.",
    ),
)


def _judge_spaced(function: Callable) -> Outcome:
    # Well-known sizes first, so that the first to fail is one worth looking at.
    sizes = [(12, 6), (12, 4), (9, 4), (36, 4), (12, 12), (6, 3), (2, 2), (12, 1), (1, 1)]
    sizes += [(n, m) for n in range(1, 25) for m in range(1, n + 1) if (n, m) not in sizes]
    for teacher, student in sizes:
        what = f"`spaced({teacher}, {student})`"
        expected = list(layer_maps.named("spaced", teacher, student))
        try:
            layers = _layers(call(function, teacher, student), what)
        except Wrong as line:
            raise Wrong(f"For {what}: {line}") from None
        if layers != expected:
            raise Wrong(
                f"{what} gives {layers}; expected {expected}. "
                + _remark(layers, expected, teacher, student)
            )
    return Outcome("correct", f"The same maps as the package's own, for {len(sizes)} sizes.")


def _remark(layers: Sequence[int], expected: Sequence[int], teacher: int, student: int) -> str:
    if len(layers) != len(expected):
        return f"A map has one entry for each of the {student} student layers."
    if student == 1:
        return "A student of one layer takes the teacher's last."
    exact = [i * (teacher - 1) / (student - 1) for i in range(student)]
    if layers == [round(place) for place in exact]:
        return "`round` takes a half to the even neighbour; here halves go up."
    if layers == [int(place) for place in exact]:
        return "It is rounded down; take the nearest layer."
    if layers == [i * teacher // student for i in range(student)]:
        return "The steps are L/N; with (L − 1)/(N − 1) they reach the last layer."
    if layers[-1] == teacher:
        return f"Layers are numbered from 0: the last is {teacher - 1}."
    if layers[0] != 0 or layers[-1] != teacher - 1:
        return "The first and the last layer of the teacher belong to it."
    return "Student layer i takes the layer nearest to i·(L − 1)/(N − 1)."


q4 = Exercise(
    "03.q4",
    prompt="Write the evenly spaced map for any depth: the student's first and last layer take the "
    "teacher's first and last, and the others lie as evenly between them as can be.",
    starter='''\
def spaced(teacher_layers, student_layers):
    """Teacher layer for each student layer, a list of numbers from 0.

    Student layer i of N takes the layer nearest to i * (L - 1) / (N - 1), halves rounded up,
    for a teacher of L layers. A student of one layer takes the teacher's last.
    """
    ...


q4.check(spaced)''',
    answer='''\
import math


def spaced(teacher_layers, student_layers):
    """Teacher layer for each student layer, a list of numbers from 0.

    Student layer i of N takes the layer nearest to i * (L - 1) / (N - 1), halves rounded up,
    for a teacher of L layers. A student of one layer takes the teacher's last.
    """
    if student_layers == 1:
        return [teacher_layers - 1]
    steps = student_layers - 1
    return [math.floor(i * (teacher_layers - 1) / steps + 0.5) for i in range(student_layers)]


q4.check(spaced)''',
    judge=_judge_spaced,
    explanation="There are N − 1 steps between the student's first and last layer, over L − 1 "
    "teacher layers, so the step is (L − 1)/(N − 1). `math.floor(x + 0.5)` rounds halves up; "
    "Python's `round` takes them to the even neighbour, and then the steps come out uneven.",
    hints=(
        "From the first to the last layer the student takes N − 1 steps, the teacher L − 1.",
        "A student of one layer takes no step, and N − 1 is 0: treat it first.",
        "`round(2.5)` is 2 and `round(3.5)` is 4. `math.floor(x + 0.5)` gives 3 and 4.",
    ),
)

QUESTIONS = (q1, q2, q3, q4)
