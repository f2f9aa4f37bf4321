"""What Python has of the panel's controls: settings from words, knobs, buttons, a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import run_directory
from workbench.events import WEIGHT
from workbench.lab.live import knobs
from workbench.lab.live.knobs import LIVE, ON_RESET, Settings

if TYPE_CHECKING:
    from workbench.lab.live.lab import Lab

#: Options of `RunConfig.from_recipe` that a panel has no knob for.
WITHOUT_KNOB = (
    "scale", "teacher", "column", "label", "alleles", "match", "whole_words", "batch_size",
    "train_sequences", "validation_sequences", "cached",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """Asked before Play; the run answers it.

    Attributes:
        text: the question.
        options: what can be answered.
        measured: from the contents of results.json to the option that came true.
    """

    text: str
    options: tuple[str, ...]
    measured: Callable[[dict[str, Any]], str]


class Control:
    """A knob of the panel for Python: read and set its ``value``."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self.name = lab, name

    @property
    def value(self) -> Any:
        """Where it stands."""
        return self._lab.settings.values()[self.name]

    @value.setter
    def value(self, value: Any) -> None:
        self._lab.set(**{self.name: value})


class Press:
    """A button of the panel for Python."""

    def __init__(self, press: Callable[[], Any]) -> None:
        self._press = press

    def click(self) -> None:
        """As the mouse does."""
        self._press()


def settings(link: str, options: Mapping[str, Any]) -> Settings:
    """Settings of a link, and those given beside it; what has no knob is an option of the run.

    Raises:
        UsageError: if the link or an option is wrong.
    """
    found = knobs.read(link)
    named = long_names(options)
    own = {n: v for n, v in named.items()
           if n in (*LIVE, *ON_RESET) or n.startswith(WEIGHT)}  # fmt: skip
    others = {n: v for n, v in named.items() if n not in own}
    found = replace(found, options=others)
    ordered = dict(sorted(own.items(), key=lambda item: item[0] != "variant"))
    found = found.changed({n: v for n, v in ordered.items() if v is not None})
    found.config()
    return found


def of_run(path: str | Path) -> Settings:
    """Settings as a run has them, also where no knob reaches.

    Raises:
        WorkbenchError: if there is no run.
    """
    config = run_directory.load_config(run_directory.RunDirectory(Path(path)))
    weights = {f"{WEIGHT}{n}": v for n, v in (config.weights or {}).items()}
    given = {n: getattr(config, n) for n in (*LIVE, *ON_RESET)} | weights
    options = {n: getattr(config, n) for n in WITHOUT_KNOB}
    return Settings(config.recipe, given, options)


def long_names(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes by the names of knobs: ``T`` is temperature, ``weights`` a knob for each term."""
    named: dict[str, Any] = {}
    for key, value in changes.items():
        if key == "weights":
            named |= {f"{WEIGHT}{n}": v for n, v in (value or {}).items()}
        else:
            named[knobs.LONG.get(key, key)] = value
    return named
