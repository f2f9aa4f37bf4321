"""What a visitor of `workbench show` sees: one panel, or one sentence that says why there is none.

The page's only cell calls `show`. A visitor may ask for other settings in the
address, as in ``/?link=protgpt2-tiny;T=4;alpha=0.5``.
"""

from __future__ import annotations

import html
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import ipywidgets as widgets
from IPython.display import HTML, display

from workbench import run_directory
from workbench.config import RunConfig
from workbench.errors import UsageError, WorkbenchError
from workbench.lab.panel import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, RunPanel

LONGEST_LINK = 500  # characters; it is quoted in a sentence where it is wrong
#: What may stand after the recipe's name: the option of `RunPanel`, and how it is read.
_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "T": ("temperature", float),
    "alpha": ("alpha", float),
    "variant": ("variant", str),
    "seed": ("seed", int),
    "steps": ("steps", int),
}


def show(text: str) -> None:
    """Display the panel, or the one that the visitor's address asks for.

    Args:
        text: a recipe's name, a permalink, or the absolute path of a run directory.
    """
    try:
        link = asked(os.environ.get("QUERY_STRING", ""))
        if link is not None:
            settings(link)  # raises for anything but a permalink: visitors open no directory
        shown = panel_for(text if link is None else link)
    except WorkbenchError as error:
        shown = HTML(f'<p role="alert" class="workbench-alert">{html.escape(str(error))}</p>')
    display(shown)


def panel_for(text: str) -> widgets.Widget:
    """The panel for a recipe's name, a permalink or the absolute path of a run directory.

    Raises:
        WorkbenchError: if there is no such recipe or run, or a setting is out of range.
    """
    if not Path(text).is_absolute():
        return RunPanel(**settings(text))
    config = run_directory.load_config(run_directory.RunDirectory(Path(text)))
    taken = inspect.signature(RunConfig.from_recipe).parameters.keys() - {"name"}
    return RunPanel(config.recipe, **{name: getattr(config, name) for name in taken})


def settings(permalink: str) -> dict[str, Any]:
    """Read ``protgpt2-tiny;T=4;alpha=0.5;variant=as-coded;seed=1;steps=400``.

    Returns:
        Options of `RunPanel`: ``recipe`` and those that are given.

    Raises:
        UsageError: if there is no such recipe or setting, or a value is out of range.
    """
    recipe, *parts = permalink.split(";")
    found: dict[str, Any] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in _SETTINGS:
            raise UsageError(f"there is no setting {key!r}; expected {', '.join(_SETTINGS)}")
        option, read = _SETTINGS[key]
        if option in found:
            raise UsageError(f"{key} is given twice")
        try:
            found[option] = read(value)
        except ValueError as error:
            raise UsageError(f"{key} is {value!r}; expected a number") from error
    config = RunConfig.from_recipe(recipe, **found)
    if not LOWEST_TEMPERATURE <= config.temperature <= HIGHEST_TEMPERATURE:
        raise UsageError(
            f"T is {config.temperature:g}; expected {LOWEST_TEMPERATURE:g} to "
            f"{HIGHEST_TEMPERATURE:g}"
        )
    return {"recipe": recipe, **found}


def asked(query: str) -> str | None:
    """The permalink in a query string, None if there is none.

    Raises:
        UsageError: if there is more than one, or one longer than `LONGEST_LINK`.
    """
    links = parse_qs(query, keep_blank_values=True).get("link", [])
    if len(links) > 1:
        raise UsageError("the address has more than one link")
    if links and len(links[0]) > LONGEST_LINK:
        raise UsageError(
            f"the link has {len(links[0])} characters; expected at most {LONGEST_LINK}"
        )
    return links[0] if links else None
