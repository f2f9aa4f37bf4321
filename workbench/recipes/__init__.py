"""The published models, one file each; `get` and `names` find them."""

from __future__ import annotations

from workbench.errors import UsageError
from workbench.recipes import biobert, pmhc, protgpt2
from workbench.recipes.recipe import Recipe, Scale, Shape, Variant

__all__ = ["Recipe", "Scale", "Shape", "Variant", "get", "names"]

_RECIPES: dict[str, Recipe] = {
    r.name: r for r in (*protgpt2.RECIPES, *pmhc.RECIPES, *biobert.RECIPES)
}


def names(task: str | None = None) -> list[str]:
    """Names of all recipes, or of those of a task, smallest student first in each family."""
    return [name for name, recipe in _RECIPES.items() if task in (None, recipe.task)]


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: listing the names there are.
    """
    if name not in _RECIPES:
        raise UsageError(f"there is no recipe {name!r}; the recipes are {', '.join(_RECIPES)}")
    return _RECIPES[name]
