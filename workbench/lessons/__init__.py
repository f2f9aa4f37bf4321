"""Exercises of the course, a module for each notebook.

In a notebook: ``from workbench.lessons.soft_and_hard_loss import q1, q2``. A cell
that holds an exercise carries ``{"exercise": "01.q2"}`` in its metadata, and its
source is the question's starter; `solved` fills in the solutions.
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from importlib import import_module
from typing import TypeVar

from workbench.errors import WorkbenchError
from workbench.lessons.question import Outcome, Question

__all__ = ["Outcome", "Question", "questions", "solutions", "solved", "starters"]

_MODULES = (
    "soft_and_hard_loss", "temperature", "layer_halving", "peptide_binding", "hidden_words",
    "inner_layers", "compact_biobert", "hyperparameters", "quality_and_cost", "out_in_the_world",
    "your_own_model",
)  # fmt: skip

Notebook = TypeVar("Notebook", bound=MutableMapping)


def questions() -> dict[str, Question]:
    """Every question of the course by its id, in reading order."""
    found: dict[str, Question] = {}
    for name in _MODULES:
        module = import_module(f"{__name__}.{name}")
        found |= {question.id: question for question in module.QUESTIONS}
    return found


def starters() -> dict[str, str]:
    """Source of each exercise cell before anything is written in it, by id."""
    return {id: question.starter for id, question in questions().items()}


def solutions() -> dict[str, str]:
    """Source of each exercise cell when it is solved, by id."""
    return {id: question.answer for id, question in questions().items()}


def solved(notebook: Notebook) -> Notebook:
    """A copy of a notebook with the solution in every exercise cell.

    Args:
        notebook: as nbformat or json reads it; not changed.

    Raises:
        WorkbenchError: if an exercise cell names no question, names one that stood
            before, or differs from its starter: notebook and package have drifted apart.
    """
    notebook = copy.deepcopy(notebook)
    known, seen = questions(), set()
    for cell in notebook["cells"]:
        id = cell.get("metadata", {}).get("exercise")
        if id is None:
            continue
        if id not in known:
            raise WorkbenchError(f"a cell is exercise {id!r}; there are {', '.join(known)}")
        if id in seen:
            raise WorkbenchError(f"two cells are exercise {id}; expected one")
        seen.add(id)
        if "".join(cell["source"]).rstrip() != known[id].starter.rstrip():
            raise WorkbenchError(
                f"the cell of exercise {id} differs from its starter; "
                f"copy it from workbench.lessons.starters()[{id!r}]"
            )
        cell["source"] = known[id].answer
    return notebook
