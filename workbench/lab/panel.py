"""A panel for a notebook cell: set T and α, start a run, watch it, compare it with earlier ones.

Every control does one thing: it tells the worker or changes the settings of the
next run, and asks the publisher to draw. So callbacks return at once, on
whatever thread the kernel calls them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench import recipes, tasks
from workbench.config import SEED_LIMIT, RunConfig
from workbench.errors import UsageError
from workbench.lab import markup, registry, svg
from workbench.lab.publisher import Publisher
from workbench.lab.worker import Settings, Snapshot, Watch, Worker
from workbench.objective import Objective

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 50.0
#: Where the slider of a term's weight ends; published ones are 1 and 3.
LARGEST_WEIGHT = 10.0
_SLIDERS = (widgets.FloatSlider, widgets.FloatLogSlider)


class RunPanel(widgets.VBox):
    """Widgets that start runs of one recipe.

    Everything the mouse can do, Python can: `set`, `start`, `stop`, `wait`,
    `results`. A panel made by a cell that is run again replaces the one that the
    cell made before.

    Args:
        recipe: its name.
        steps: optimiser steps of every run; by default the recipe's.
        temperature: where the slider of T stands at first; by default the recipe's.
        alpha: where the slider of α stands at first; by default the recipe's.
        variant: corrected, as-published or as-coded.
        seed: of the student's start and the order of batches.
        weights: where the sliders of terms with a weight of their own (cosine, hidden states,
            attention) stand at first, by name; by default the recipe's.
        references: the headline (perplexity, F1) of "oracle" and "teacher", to draw before the
            first run has measured them.
        directory: where run directories are made; by default ``runs/`` here.
        name: a new panel closes the open one of the same name; by default the cell and the
            recipe.
        options: passed on to every run, see `RunConfig.from_recipe`.

    Raises:
        UsageError: if an option is out of range.

    Attributes:
        recipe: name of the recipe.
        name: name of the panel.
    """

    def __init__(
        self,
        recipe: str = "protgpt2-tiny",
        *,
        steps: int | None = None,
        temperature: float | None = None,
        alpha: float | None = None,
        variant: str = "corrected",
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
        references: Mapping[str, float] | None = None,
        directory: str | Path | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        config = RunConfig.from_recipe(
            recipe, steps=steps, temperature=temperature, alpha=alpha, variant=variant, seed=seed,
            weights=_numbers(weights or {}), **options,
        )  # fmt: skip
        _check_on_slider(config.temperature)
        self.recipe = recipe
        self._options = options
        self._directory = None if directory is None else Path(directory)
        self._references = dict(references or {})
        self._settings = Settings(
            config.temperature, config.alpha, config.variant, config.seed, config.steps,
            self._changed(config.variant, config.weights),
        )  # fmt: skip
        self._moved: dict[str, widgets.Widget] = {}
        self._lock = threading.Lock()
        self._publisher = Publisher(self._draw)
        self._headline = tasks.of(recipe).headline
        self._worker = Worker(self._distill, self._publisher.poke, headline=self._headline)
        self._closed = False
        super().__init__(layout=widgets.Layout(max_width="960px", width="100%"))
        self._build()
        self._draw()
        self._listen()
        self.name = name or "/".join(filter(None, (registry.cell(), recipe)))
        registry.claim(self.name, self)

    # -- by hand

    def set(
        self,
        *,
        T: float | None = None,
        alpha: float | None = None,
        weights: Mapping[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Change the settings of the next run; the widgets follow.

        Args:
            T: temperature.
            alpha: weight of the labels.
            weights: of terms, by name, such as ``{"hidden": 0}``; those not named stay.
            others: ``variant``, ``seed`` or ``steps``.

        Raises:
            UsageError: if a value is out of range; nothing is changed then.
        """
        unknown = sorted(set(others) - {"variant", "seed", "steps"})
        if unknown:
            raise UsageError(
                f"there is no setting {unknown[0]}; expected T, alpha, weights, variant, seed or "
                "steps"
            )
        changes = {"temperature": T, "alpha": alpha, **others}
        changes = {key: value for key, value in changes.items() if value is not None}
        given = _numbers(weights or {})
        with self._lock:
            settings = replace(self._settings, **changes)
            kept = self._changed(settings.variant, settings.weights) or {}
            settings = replace(settings, weights={**kept, **given})
            RunConfig.from_recipe(self.recipe, **self._options, **vars(settings))
            _check_on_slider(settings.temperature)
            settings = replace(settings, weights=self._changed(settings.variant, settings.weights))
            for key in (*changes, *map(_weight_of, given)):
                self._moved.pop(key, None)
            self._settings = settings
        self._publisher.poke()

    def start(self) -> bool:
        """Start a run with the present settings; False, and a sentence shown, while one goes on."""
        return self._worker.start(self._settings)

    def stop(self) -> bool:
        """Stop the run at its next step, resumable; False, and a sentence shown, without one."""
        return self._worker.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no run goes on and all is drawn; False after ``timeout`` seconds."""
        began = time.monotonic()
        if not self._worker.wait(timeout):
            return False
        left = None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        return self._publisher.flush(left)

    @property
    def settings(self) -> Settings:
        """What the next run will be started with."""
        return self._settings

    @property
    def state(self) -> str:
        """idle, preparing, training, finishing, done, stopped or failed."""
        return self._worker.snapshot.state

    @property
    def message(self) -> str:
        """How the last run ended where it was stopped or failed: one line."""
        return self._worker.snapshot.line

    @property
    def details(self) -> str:
        """Traceback of the last run where it failed."""
        return self._worker.snapshot.details

    @property
    def results(self) -> list[dict[str, Any]]:
        """Contents of results.json of every finished run, oldest first."""
        return [run.results for run in self._worker.snapshot.runs if run.results is not None]

    def close(self) -> None:
        """Stop the run at its next step, end the threads, close every widget. Twice is once."""
        if self.__dict__.get("_closed", True):
            return
        self._closed = True
        registry.release(self)
        self._worker.close()
        self._publisher.close()
        for widget in _family(self):
            if widget is not self:
                widget.close()
        super().close()

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: wait until the worker has ended; False after ``timeout`` seconds."""
        return self._worker.join(timeout)

    def __repr__(self) -> str:
        """One line, shown where there are no widgets."""
        finished = len(self.results) if "_worker" in self.__dict__ else 0
        return f"RunPanel({self.recipe!r}, {self.state}, finished runs: {finished})"

    # -- widgets

    def _build(self) -> None:
        now = self._settings
        self.temperature_slider = widgets.FloatLogSlider(
            value=now.temperature, base=10, step=0.02, readout=False,
            min=math.log10(LOWEST_TEMPERATURE), max=math.log10(HIGHEST_TEMPERATURE),
            description="Temperature T", tooltip="temperature of the soft loss",
            **_sized("450px", "130px"),
        )  # fmt: skip
        self.temperature_box = widgets.BoundedFloatText(
            value=now.temperature, min=LOWEST_TEMPERATURE, max=HIGHEST_TEMPERATURE, step=0.1,
            description="T =", tooltip="temperature T as a number", **_sized("120px", "32px"),
        )  # fmt: skip
        self.alpha_slider = widgets.FloatSlider(
            value=now.alpha, min=0.0, max=1.0, step=0.01, readout=False,
            description="Labels' weight α", tooltip="weight of the labels against the teacher",
            **_sized("450px", "130px"),
        )  # fmt: skip
        self.alpha_box = widgets.BoundedFloatText(
            value=_typed(now.alpha), min=0.0, max=1.0, step=0.05, description="α =",
            tooltip="weight of the labels as a number", **_sized("120px", "32px"),
        )  # fmt: skip
        self.variant_menu = widgets.Dropdown(
            options=list(recipes.get(self.recipe).variants), value=now.variant,
            description="Variant", tooltip="which reading of the recipe",
            **_sized("250px", "60px"),
        )  # fmt: skip
        self.seed_box = widgets.BoundedIntText(
            value=now.seed, min=0, max=SEED_LIMIT - 1, description="Seed",
            tooltip="of the student's start and the order of batches",
            **_sized("150px", "60px"),
        )  # fmt: skip
        self.weight_sliders: dict[str, widgets.FloatSlider] = {}
        self.weight_boxes: dict[str, widgets.BoundedFloatText] = {}
        self._weight_ends: dict[str, widgets.HTML] = {}
        weight_rows = [self._build_weight(name) for name in self._own_terms()]
        size = widgets.Layout(width="96px", height="32px", margin="2px 8px 2px 0")
        self.start_button = widgets.Button(
            description="Start", tooltip="start a run with these settings",
            button_style="primary", layout=size,
        )  # fmt: skip
        self.stop_button = widgets.Button(
            description="Stop", tooltip="stop the run at its next step", layout=widgets.Layout(
                width=size.width, height=size.height, margin=size.margin
            ),
        )  # fmt: skip
        self.formula_view = widgets.HTML(layout=_block(margin="8px 2px 8px"))
        self.status_view = widgets.HTML(layout=_block())
        self.progress_view = widgets.HTML(layout=_block())
        self.numbers_view = widgets.HTML(layout=_block())
        self.chart_view = widgets.HTML(layout=_block(margin="10px 2px", min_height="220px"))
        self.table_view = widgets.HTML(layout=_block())
        temperature = _with_ends(
            self.temperature_slider,
            f"{LOWEST_TEMPERATURE:g}, sharper answers",
            f"softer answers, {HIGHEST_TEMPERATURE:g}",
        )
        alpha = _with_ends(self.alpha_slider, "teacher only", "labels only")
        self.children = (
            _row(temperature, self.temperature_box, self.variant_menu),
            _row(alpha, self.alpha_box, self.seed_box),
            *weight_rows,
            self.formula_view,
            _row(self.start_button, self.stop_button),
            self.status_view,
            self.progress_view,
            self.numbers_view,
            self.chart_view,
            self.table_view,
        )

    def _build_weight(self, name: str) -> widgets.HBox:
        value = self._value(_weight_of(name), self._settings)
        start = {"value": value, "min": 0.0, "max": LARGEST_WEIGHT}
        slider = self.weight_sliders[name] = widgets.FloatSlider(
            **start, step=0.1, readout=False, description=f"Weight of {name}",
            tooltip=f"weight of the {name} term in the loss", **_sized("450px", "130px"),
        )  # fmt: skip
        box = self.weight_boxes[name] = widgets.BoundedFloatText(
            **start, step=0.1, description="w =", tooltip=f"weight of {name} as a number",
            **_sized("120px", "32px"),
        )  # fmt: skip
        column = _with_ends(slider, "0", f"{LARGEST_WEIGHT:g}")
        self._weight_ends[name] = column.children[1]
        return _row(column, box)

    def _controls(self) -> dict[str, tuple[widgets.Widget, ...]]:
        weights = {
            _weight_of(name): (slider, self.weight_boxes[name])
            for name, slider in self.weight_sliders.items()
        }
        return {
            **weights,
            "temperature": (self.temperature_slider, self.temperature_box),
            "alpha": (self.alpha_slider, self.alpha_box),
            "variant": (self.variant_menu,),
            "seed": (self.seed_box,),
        }

    def _listen(self) -> None:
        for key, controls in self._controls().items():
            for widget in controls:
                widget.observe(partial(self._on_change, key), names="value")
        self.start_button.on_click(lambda _: self.start())
        self.stop_button.on_click(lambda _: self.stop())

    def _on_change(self, key: str, change: Any) -> None:
        if self._publisher.is_current_thread():
            return  # the panel moved it, to follow the settings
        value = change.new
        read = self._resolution(change.owner)
        with self._lock:
            # A slider in the browser answers with the step next to what it was set to: that is
            # nobody's hand, and would make 0.17 of an α of 1/6.
            if read(value) == read(self._value(key, self._settings)):
                return
            value = read(value) if isinstance(change.owner, _SLIDERS) else value
            self._moved[key] = change.owner
            changes = {"weights": self._settings.weights or {}}
            if key.startswith(_weight_of("")):
                changes["weights"] = {**changes["weights"], key.removeprefix(_weight_of("")): value}
            else:
                changes[key] = value
            settings = replace(self._settings, **changes)
            self._settings = replace(
                settings, weights=self._changed(settings.variant, settings.weights)
            )
        self._publisher.poke()

    def _resolution(self, widget: widgets.Widget) -> Callable[[Any], Any]:
        """What a control makes of a value: as it shows it, or can be moved to it."""
        if widget is self.temperature_slider:
            return _two_digits
        if widget is self.alpha_slider:
            return partial(round, ndigits=2)
        if widget in self.weight_sliders.values():
            return partial(round, ndigits=1)
        return _typed if isinstance(widget, widgets.BoundedFloatText) else lambda value: value

    # -- weights of terms

    def _objective(self, variant: str) -> Objective:
        return recipes.get(self.recipe).variant(variant).objective

    def _own_terms(self) -> list[str]:
        """Terms with a weight of their own, of any variant."""
        found = {}
        for variant in recipes.get(self.recipe).variants:
            found.update(self._objective(variant).own_terms)
        return list(found)

    def _changed(
        self, variant: str, weights: Mapping[str, float] | None
    ) -> dict[str, float] | None:
        """Of some weights those that differ from the variant's own; None if none does."""
        objective = self._objective(variant)
        own, weights = objective.own_terms, weights or {}
        names = [n for n in objective.terms() if n in weights and weights[n] != own.get(n)]
        for name in names:
            if name in own and weights[name] > LARGEST_WEIGHT:
                raise UsageError(
                    f"the panel's weight of {name} is {weights[name]:g}; expected 0 to "
                    f"{LARGEST_WEIGHT:g} (runs.distill takes any)"
                )
        return {name: weights[name] for name in names} or None

    def _value(self, key: str, settings: Settings) -> Any:
        """What a control has to show."""
        if not key.startswith(_weight_of("")):
            return getattr(settings, key)
        name = key.removeprefix(_weight_of(""))
        own = self._objective(settings.variant).own_terms
        return (settings.weights or {}).get(name, own.get(name, 0.0))

    # -- drawing: the publisher's thread only, after the first

    def _draw(self) -> None:
        if self._closed:
            return
        with self._lock:
            now, settings, moved = self._worker.snapshot, self._settings, dict(self._moved)
        for key, controls in self._controls().items():
            value = self._value(key, settings)
            for widget in controls:
                read = self._resolution(widget)
                # The control under the user's hand is left alone.
                if widget is not moved.get(key) and read(widget.value) != read(value):
                    widget.value = value if isinstance(widget, _SLIDERS) else read(value)
        objective = self._objective(settings.variant)
        for name, slider in self.weight_sliders.items():
            # Another variant may be without the term.
            own = objective.own_terms.get(name)
            slider.disabled = self.weight_boxes[name].disabled = own is None
            mark = None if own is None else (own / LARGEST_WEIGHT, f"{own:g}, published")
            self._weight_ends[name].value = markup.slider_ends("0", f"{LARGEST_WEIGHT:g}", mark)
        objective = replace(objective, given=tuple((settings.weights or {}).items()))
        self.formula_view.value = markup.formula(
            objective.formula(settings.temperature, settings.alpha)
        )
        self.status_view.value = markup.status(now, settings.steps)
        self.progress_view.value = markup.progress_bar(now)
        self.numbers_view.value = markup.numbers(now)
        self.chart_view.value = self._chart(now, settings)
        self.table_view.value = markup.table(now.runs)

    def _chart(self, now: Snapshot, settings: Settings) -> str:
        references = dict(self._references)
        for run in now.runs:
            for row in ("oracle", "teacher"):
                if run.results is not None and run.results[row][self._headline.key] is not None:
                    references[row] = run.results[row][self._headline.key]
        run = now.run
        return svg.learning_chart(
            student=run.student if run else (),
            baseline=run.baseline if run else (),
            ghosts=[svg.Ghost(markup.ghost_label(r), r.student) for r in now.earlier],
            references=references,
            steps=run.settings.steps if run else settings.steps,
            step=now.done if now.state == "training" else None,
            running=run.settings.label() if run else "",
            headline=self._headline,
        )

    # -- the worker's thread

    def _distill(self, settings: Settings, watch: Watch) -> dict[str, Any]:
        from workbench import runs

        return runs.distill(
            self.recipe,
            self._run_directory(),
            progress=watch,
            on_metrics=watch.metrics,
            should_stop=watch.should_stop,
            **vars(settings),
            **self._options,
        )

    def _run_directory(self) -> Path | None:
        if self._directory is None:
            return None
        number = 1
        while (path := self._directory / f"run-{number:03d}").exists():
            number += 1
        return path


def _weight_of(term: str) -> str:
    """Key of the control of a term's weight."""
    return f"weight of {term}"


def _numbers(weights: Mapping[str, Any]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in weights.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"the weights are {weights!r}; expected a number for each name, such as {{'hidden': 0}}"
        ) from error


def _typed(value: float) -> float:
    """As a box shows it: four decimals."""
    return round(value, 4)


def _two_digits(value: float) -> float:
    """A slider's value as somebody would write it: 9.77 is 9.8, 31.6 is 32."""
    return float(f"{value:.2g}")


def _check_on_slider(temperature: float) -> None:
    if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        raise UsageError(
            f"the panel's temperature is {temperature:g}; expected {LOWEST_TEMPERATURE:g} to "
            f"{HIGHEST_TEMPERATURE:g} (runs.distill takes any above 0)"
        )


def _sized(width: str, description: str) -> dict[str, Any]:
    return {
        "layout": widgets.Layout(width=width),
        "style": {"description_width": description},
    }


def _block(**layout: str) -> widgets.Layout:
    return widgets.Layout(width="auto", **layout)  # 100 % and the margin would be too wide


def _row(*children: widgets.Widget) -> widgets.HBox:
    layout = widgets.Layout(flex_flow="row wrap", align_items="flex-start", width="auto")
    return widgets.HBox(children, layout=layout)


def _with_ends(slider: widgets.Widget, low: str, high: str) -> widgets.VBox:
    ends = widgets.HTML(
        markup.slider_ends(low, high),
        layout=widgets.Layout(margin="-6px 12px 4px 144px", width="auto"),
    )
    return widgets.VBox((slider, ends), layout=widgets.Layout(width="458px"))


def _family(widget: widgets.Widget) -> list[widgets.Widget]:
    """A widget, all below it, and the layout and style of each."""
    members = [widget]
    for child in getattr(widget, "children", ()):
        members += _family(child)
    for part in ("layout", "style"):
        if isinstance(held := getattr(widget, part, None), widgets.Widget):
            members.append(held)
    return members
