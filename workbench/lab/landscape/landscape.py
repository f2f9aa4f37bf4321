"""The landscape of a sweep: what T and α make of a student, as heat maps that can be asked.

    >>> from workbench import Landscape
    >>> landscape = Landscape("protgpt2-tiny")          # a stored sweep: opens at once
    >>> landscape
    >>> landscape.select(temperature=10, alpha=0.1, variant="as-published")
    >>> landscape.lab()                                 # the same settings, in the Lab
    >>> Landscape(workbench.sweep("protgpt2-tiny", temperature=[1, 10], alpha=[0, 0.5]))

All of it is in the page: menus, cells and charts answer without a kernel.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import UsageError
from workbench.lab import registry
from workbench.lab.landscape import landscape_svg, shown
from workbench.lab.pictured import Pictured, text_of

if TYPE_CHECKING:
    from workbench.lab.live.lab import Lab

log = logging.getLogger(__name__)
#: Parts of a state, and whose names they are.
PARTS = ("figure", "student", "variant", "temperature", "alpha")


class Landscape(Pictured):
    """Heat maps over T and α, a variant each; the curves, shares and answers behind a cell.

    A landscape made by a cell that is run again replaces the one that the cell made before.

    Args:
        source: name of a stored sweep, such as ``protgpt2-tiny``; a stored file; the directory of
            a sweep; or what `workbench.sweep` returned. Of a sweep that is not stored the answers
            are asked for here, which loads the models.
        name: a new landscape closes the open one of the same name; by default the cell's.

    Raises:
        UsageError: if there is no such sweep.
        WorkbenchError: if it is damaged, of another kind, or a search, which has no grid.

    Attributes:
        state: what is shown, by name: ``figure``, ``student``, ``variant``, ``temperature`` and
            ``alpha``; follows the browser.
        data: all that is shown; see `workbench.lab.landscape.shown.pack`.
        content: as it is stored; see `workbench.lab.landscape.gathering.gather`.
    """

    state = traitlets.Dict().tag(sync=True)
    _data = traitlets.Dict().tag(sync=True)

    _esm = text_of("elements.js", "landscape/charts.js", "landscape/landscape.js")
    _css = text_of("landscape/landscape.css")

    def __init__(
        self, source: str | Path | Mapping[str, Any] = "protgpt2-tiny", name: str | None = None
    ) -> None:
        self.content = shown.read(source)
        told = source["sweep"] if isinstance(source, Mapping) else source
        self.data = shown.pack(self.content, str(told))
        # A state is replaced, never changed: the browser and a cell may both do so at once.
        self._state_lock = threading.Lock()
        super().__init__(state=self._first(), _data=self.data)
        self.observe(lambda _: self._publisher.poke(), names="state")
        self.name = name or "/".join(filter(None, (registry.cell(), "landscape")))
        registry.claim(self.name, self)

    # ------------------------------------------------------------------ by hand

    def select(self, **parts: Any) -> None:
        """Show something else.

        Args:
            parts: ``figure``, ``student``, ``variant``, ``temperature``, ``alpha``; what is not
                given stays. ``T`` is short for temperature.

        Raises:
            UsageError: if the sweep has no such value.
        """
        with self._state_lock:
            self.state = self._checked({**self.state, **_long(parts)})

    def measured(self, **parts: Any) -> dict[str, Any]:
        """A figure at a point: ``mean``, 95 % ``interval``, ``values`` by seed, ``baseline``.

        Args:
            parts: as for `select`; what is not given is as it is shown now.

        Raises:
            UsageError: if the sweep has no such point, or it was not measured there.
        """
        state = self._checked({**self.state, **_long(parts)})
        point = self._point(state)
        found = point and point["figures"][state["figure"]]
        if not found:
            raise UsageError(f"{state['figure']} is not measured at {state}")
        return found

    @staticmethod
    def stored() -> list[str]:
        """Names of the stored sweeps."""
        return shown.names()

    @property
    def link(self) -> str:
        """The chosen cell as a link for the Lab, such as ``protgpt2-tiny;T=10;alpha=0.1``."""
        return self.point["link"]

    @property
    def point(self) -> dict[str, Any]:
        """The chosen cell: figures, curve, ledger and answers.

        Raises:
            UsageError: if the sweep has no such point.
        """
        found = self._point(self.state)
        if found is None:
            raise UsageError(f"the sweep has no point at {self.state}")
        return found

    def lab(self, **options: Any) -> Lab:
        """The Lab with the settings of the chosen cell, ready to play.

        Args:
            options: as for `workbench.Lab`.

        Raises:
            UsageError: if its sliders do not reach this cell's T.
        """
        from workbench.lab.live.controls import WITHOUT_KNOB
        from workbench.lab.live.lab import Lab

        fixed = self.content["sweep"]["fixed"]
        more = {key: value for key, value in fixed.items() if key in (*WITHOUT_KNOB, "weights")}
        return Lab(self.link, **{**more, **options})

    def svg(self) -> str:
        """The heat maps of the present state, without JavaScript."""
        return landscape_svg.picture(self.data, self.state)

    def __repr__(self) -> str:
        """One line, shown where there are no widgets."""
        data = self.data
        grid = f"{len(data['temperatures'])} × {len(data['alphas'])} points over T and α"
        return f"Landscape of {data['recipe']}: {grid}, {len(data['variants'])} variants"

    # ------------------------------------------------------------------ state

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the browser has set; it may change the state and nothing else."""
        try:
            # Before it is set: a value that fails while it is being set would stay.
            state = self._checked({**self.state, **dict(sync_data["state"])})
        except (UsageError, KeyError, TypeError, ValueError):
            log.warning("the browser sent a state that is none: %.200r", sync_data.get("state"))
        else:
            with self._state_lock:
                super().set_state({"state": state})

    @traitlets.validate("state")
    def _validate(self, proposal: Any) -> dict[str, Any]:
        return self._checked(proposal["value"])

    def _choices(self) -> dict[str, list[Any]]:
        data = self.data
        return {
            "figure": [figure["key"] for figure in data["figures"]],
            "student": data["students"],
            "variant": [variant["name"] for variant in data["variants"]],
            "temperature": data["temperatures"],
            "alpha": data["alphas"],
        }

    def _first(self) -> dict[str, Any]:
        """The published point where the sweep has it, of the largest student first."""
        choices = self._choices()
        state = {name: values[0] for name, values in choices.items()} | {
            "student": choices["student"][-1]
        }
        published = self.data["variants"][0]["published"]
        for name, value in zip(("temperature", "alpha"), published, strict=True):
            if value in choices[name]:
                state[name] = value
        return state

    def _checked(self, state: Mapping[str, Any]) -> dict[str, Any]:
        choices = self._choices()
        for name, value in state.items():
            if name not in choices:
                raise UsageError(f"there is no {name!r} to choose; expected {', '.join(PARTS)}")
            if isinstance(value, bool) or value not in choices[name]:
                raise UsageError(
                    f"{name} is {value!r}; this sweep has {', '.join(map(str, choices[name]))}"
                )
        # Of equal numbers the sweep's own: 10 and 10.0 are written differently.
        return {
            name: choices[name][choices[name].index(state[name])] if name in state else
            choices[name][0] for name in PARTS
        }  # fmt: skip

    def _point(self, state: Mapping[str, Any]) -> dict[str, Any] | None:
        choices = self._choices()
        at = [
            choices[name].index(state[name])
            for name in ("variant", "student", "temperature", "alpha")
        ]
        return next((point for point in self.data["points"] if point["at"] == at), None)


def _long(parts: Mapping[str, Any]) -> dict[str, Any]:
    """``T`` is short for temperature, as in links."""
    return {"temperature" if name == "T" else name: value for name, value in parts.items()}
