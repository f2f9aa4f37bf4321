"""What differs between generating, classifying and telling hidden words: data, models, figures.

Everything else (objective, distiller, runs) is the same for all tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench import recipes
from workbench.errors import UsageError
from workbench.tasks.task import Judged, Task

if TYPE_CHECKING:
    from workbench.config import RunConfig

__all__ = ["Judged", "Task", "of", "of_results", "of_run", "recipe_for"]


def of(recipe: str) -> Task:
    """The task of a recipe.

    Raises:
        UsageError: if there is no recipe of that name.
    """
    from workbench.tasks.classification import Classification
    from workbench.tasks.fill_mask import FillMask
    from workbench.tasks.generation import Generation

    tasks = {task.name: task for task in (Generation(), Classification(), FillMask())}
    return tasks[recipes.get(recipe).task]


def of_run(config: RunConfig) -> Task:
    """The task of a run: its recipe's, or that of a table of texts and their classes."""
    return of(config.recipe) if config.label is None else _texts()


def of_results(results: dict[str, Any]) -> Task:
    """The task that the contents of a ``results.json`` come from."""
    return _texts() if results.get("classes") else of(results["recipe"])


def _texts() -> Task:
    from workbench.tasks.labelled_texts import TextClassification

    return TextClassification()


def recipe_for(architectures: list[str]) -> str:
    """Name of the recipe whose teacher and data a model is evaluated with.

    Args:
        architectures: of its configuration.

    Raises:
        UsageError: if no recipe has models of that kind.
    """
    for name in recipes.names():
        if any(a.endswith(of(name).kind.endings) for a in architectures):
            return name
    raise UsageError(
        f"no recipe has models such as {' '.join(architectures) or 'one of unnamed architecture'}; "
        "expected a causal language model (…LMHeadModel or …ForCausalLM), a masked one "
        "(…ForMaskedLM) or a classifier (…ForSequenceClassification)"
    )
