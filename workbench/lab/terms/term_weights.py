"""Weights of the terms of a loss, and whose gradient reaches the student then.

    >>> from workbench.lab import weigh_terms
    >>> weigh_terms("compactbiobert")

Each term alone pulls at the student's parameters with a gradient of some norm gᵢ. This is
measured once, on one masked batch at the student's start, for every variant and some T. With the
weights wᵢ a term's share of the gradient is wᵢgᵢ / Σ wⱼgⱼ, which the browser computes while a
slider moves (``term_weights.js``). Norms and not vectors are added up, as in
`objective.LedgerEntry`: gradients that point in opposite directions still count as two pulls.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench import recipes, workshop
from workbench.config import RunConfig
from workbench.errors import UsageError
from workbench.lab import registry
from workbench.lab.live.knobs import LARGEST_WEIGHT
from workbench.lab.pictured import Pictured, text_of
from workbench.lab.terms import term_weights_svg
from workbench.objective import Objective
from workbench.progress import Silent

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.corpora import Batch
    from workbench.objective import TeacherSignal
    from workbench.teacher_cache import Teacher

#: Temperatures at which the norms are measured; a variant's own is added.
TEMPERATURES = (1.0, 2.0, 4.0, 10.0)
#: A difference between two variants' norms that is worth a word.
NOTABLE = 1.2
REFERENCE = "corrected"
log = logging.getLogger(__name__)

#: Norms of the terms' gradients without their weights: by T, by term.
Norms = dict[float, dict[str, float]]


@dataclass(frozen=True)
class Pull:
    """What one term does to the student's parameters.

    Attributes:
        weight: of the term.
        norm: Euclidean norm of its gradient, without the weight.
        share: of the sum of all weighted norms.
    """

    weight: float
    norm: float
    share: float


def weigh_terms(
    recipe: str = "compactbiobert",
    teacher: str | Path = "biobert",
    variant: str = "corrected",
    *,
    sentences: int = 64,
    seed: int = 0,
    name: str | None = None,
) -> TermWeights:
    """Measure the terms of a recipe and show what their weights make of them.

    Teacher, student, batch and masks are those of the first step of a run with this seed.

    Args:
        recipe: its name; one whose loss has terms with a weight of their own.
        teacher: name, directory or hub id of a masked language model.
        variant: which one is shown first.
        sentences: in the batch.
        seed: of the student's start and of the masks.
        name: see `TermWeights`.

    Raises:
        UsageError: if the recipe or the variant is unknown, or has no such terms.
        WorkbenchError: if the teacher cannot be loaded, or does not fit the recipe.
    """
    known = recipes.get(recipe)
    known.variant(variant)
    if known.task != "fill-mask" or not known.variant(variant).objective.own_terms:
        raise UsageError(
            f"{recipe} has no terms to weigh on masked sentences; expected distilbiobert, "
            "tinybiobert or compactbiobert"
        )
    if sentences < 1:
        raise UsageError(f"sentences is {sentences}; expected at least 1")
    measured: dict[str, Norms] = {}
    same: dict[Any, Norms] = {}
    for reading in known.variants.values():
        # Readings that differ in their words alone are measured once.
        key = (reading.objective, reading.copies_head, reading.teacher_dropout)
        if key not in same:
            same[key] = measure(recipe, reading.name, str(teacher), sentences, seed)
        measured[reading.name] = same[key]
    return TermWeights(recipe, measured, variant, name=name)


def measure(recipe: str, variant: str, teacher: str, sentences: int, seed: int) -> Norms:
    """Norms of the terms' gradients at the student's start, without their weights."""
    objective = recipes.get(recipe).variant(variant).objective
    config = RunConfig.from_recipe(
        recipe, variant=variant, teacher=teacher, seed=seed, steps=1, batch_size=sentences,
        train_sequences=sentences, validation_sequences=1,
        # With one for each, the ledger's norms are those of the terms themselves.
        weights=dict.fromkeys(objective.terms(), 1.0),
    )  # fmt: skip
    shop = workshop.prepare(config, Silent())
    batch = shop.batch(0, 1)
    shop.student.teacher = _Remembering(shop.student.teacher)
    found: Norms = {}
    for temperature in _temperatures(recipe):
        shop.student.temperature = temperature
        entries = shop.student.ledger(batch)
        found[temperature] = {name: entry.gradient_norm for name, entry in entries.items()}
    return found


def shares(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Each term's share of the sum of the weighted norms; 0 for all where nothing pulls."""
    pulls = {name: weights[name] * norm for name, norm in norms.items()}
    total = sum(pulls.values())
    return {name: pull / total if total > 0 else 0.0 for name, pull in pulls.items()}


class TermWeights(Pictured):
    """Sliders for α and the terms' weights, and bars of each term's share of the gradient.

    One made by a cell that is run again replaces the one that the cell made before.

    Args:
        recipe: its name.
        measured: of each variant, see `measure`.
        variant: which one is shown first.
        name: a new one closes the open one of the same name; by default the cell's.

    Attributes:
        state: the present ``variant``, ``temperature``, ``alpha`` and ``weights`` of the terms
            that have one of their own; can be set, and follows the browser.
        recipe: its name.
        name: name of the widget.
    """

    _esm = text_of("elements.js", "explorer_charts.js", "terms/term_weights.js")
    _css = text_of("terms/term_weights.css")

    state = traitlets.Dict().tag(sync=True)
    _variants = traitlets.Dict().tag(sync=True)
    _title = traitlets.Unicode("").tag(sync=True)
    _most = traitlets.Float(LARGEST_WEIGHT).tag(sync=True)

    def __init__(
        self, recipe: str, measured: Mapping[str, Norms], variant: str, *, name: str | None = None
    ) -> None:
        self.recipe = recipe
        self._measured = measured
        super().__init__(
            state=self._own(variant),
            _title=recipes.get(recipe).title,
            _variants={key: self._pack(key) for key in measured},
        )
        self.observe(lambda _: self._publisher.poke(), names="state")
        self.name = name or "/".join(filter(None, (registry.cell(), "term weights")))
        registry.claim(self.name, self)

    # -- by hand

    def set(
        self,
        *,
        T: float | None = None,
        alpha: float | None = None,
        weights: Mapping[str, float] | None = None,
        variant: str | None = None,
    ) -> None:
        """Change what is shown.

        Args:
            T: temperature, one of those measured.
            alpha: weight of the labels.
            weights: of terms, by name; those not named stay.
            variant: begins with this variant's own numbers.

        Raises:
            UsageError: if a value is out of range; nothing is changed then.
        """
        state = dict(self.state) if variant is None else self._own(variant)
        if T is not None:
            state["temperature"] = T
        if alpha is not None:
            state["alpha"] = alpha
        self.state = {**state, "weights": {**state["weights"], **(weights or {})}}

    def pulls(self, state: Mapping[str, Any] | None = None) -> dict[str, Pull]:
        """Weight, norm and share of every term, at a state; by default the present one."""
        state = state or self.state
        weights = self._weighted(state).weights(state["alpha"])
        norms = self._measured[state["variant"]][state["temperature"]]
        found = shares(norms, weights)
        return {name: Pull(weights[name], norms[name], found[name]) for name in norms}

    def formula(self) -> str:
        """The loss with the present numbers."""
        state = self.state
        return self._weighted(state).formula(state["temperature"], state["alpha"])

    def svg(self) -> str:
        """A picture of the present state, without JavaScript."""
        rows = {"these weights": self.pulls()}
        rows |= {key: self.pulls(self._own(key)) for key in self._measured}
        said = self._remark(self.state["variant"], self.state["temperature"])
        return term_weights_svg.picture(
            f"{self._title}, {self.state['variant']}, T = {self.state['temperature']:g}, "
            f"α = {self.state['alpha']:.3g}",
            rows, self.formula(), said,
        )  # fmt: skip

    def __repr__(self) -> str:
        """One line, shown where there are no widgets."""
        said = ", ".join(f"{name} {pull.share:.1%}" for name, pull in self.pulls().items())
        return f"TermWeights({self.recipe!r}, {self.state['variant']}): {said}"

    # -- the state's way in

    @traitlets.validate("state")
    def _validate(self, proposal: Any) -> dict[str, Any]:
        return self._checked(proposal["value"])

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the browser has set; it may change the state and nothing else."""
        try:
            # Before it is set: a value that fails while it is being set would stay.
            state = self._checked(sync_data.get("state", self.state))
        except UsageError as error:
            log.warning("a state of the browser was not taken: %s", error)
            self.send_state("state")
        else:
            super().set_state({"state": state})

    def _checked(self, state: Any) -> dict[str, Any]:
        if not (isinstance(state, Mapping) and set(state) == set(_KEYS)):
            raise UsageError(f"the state is {state!r:.200}; expected {', '.join(_KEYS)}")
        variant = state["variant"]
        if variant not in list(self._measured):
            raise UsageError(f"the variant is {variant!r}; expected {' or '.join(self._measured)}")
        measured = self._measured[variant]
        if state["temperature"] not in list(measured):  # a list: it may be anything
            raise UsageError(
                f"T is {state['temperature']!r}; the gradients were measured at "
                f"{', '.join(f'{t:g}' for t in measured)}"
            )
        own = self._objective(variant).own_terms
        if not isinstance(state["weights"], Mapping) or set(state["weights"]) != set(own):
            raise UsageError(
                f"the weights are {state['weights']!r:.200}; expected some for {', '.join(own)}"
            )
        return {
            "variant": variant,
            "temperature": float(state["temperature"]),
            "alpha": _between("α", state["alpha"], 1.0),
            "weights": {n: _between(n, state["weights"][n], LARGEST_WEIGHT) for n in own},
        }

    # -- parts

    def _objective(self, variant: str) -> Objective:
        return recipes.get(self.recipe).variant(variant).objective

    def _weighted(self, state: Mapping[str, Any]) -> Objective:
        return replace(self._objective(state["variant"]), given=tuple(state["weights"].items()))

    def _own(self, variant: str) -> dict[str, Any]:
        """The state in which a variant comes."""
        known = recipes.get(self.recipe)
        own = known.variant(variant)
        return {
            "variant": variant,
            "temperature": float(own.temperature or known.temperature),
            "alpha": float(known.alpha),
            "weights": {name: float(value) for name, value in own.objective.own_terms.items()},
        }

    def _pack(self, variant: str) -> dict[str, Any]:
        objective = self._objective(variant)
        return {
            "own": self._own(variant),
            "combined": objective.combined,
            "source": recipes.get(self.recipe).variant(variant).source,
            "at": {
                f"{temperature:g}": {
                    "norms": norms,
                    "formula": _template(objective, temperature),
                    "remark": self._remark(variant, temperature),
                }
                for temperature, norms in self._measured[variant].items()
            },
        }

    def _remark(self, variant: str, temperature: float) -> str:
        """How the gradients of a variant differ from those of the corrected one."""
        if variant == REFERENCE or REFERENCE not in self._measured:
            return ""
        norms = self._measured[variant][temperature]
        other = self._measured[REFERENCE][temperature]
        found = {
            name: norm / other[name]
            for name, norm in norms.items()
            if norm > 0 and other.get(name, 0) > 0
        }
        notable = {n: r for n, r in found.items() if max(r, 1 / r) >= NOTABLE}
        if not notable:
            return f"Weight for weight, every term pulls as it does in {REFERENCE}."
        words = [
            f"{name} {_three_digits(max(ratio, 1 / ratio))} times "
            f"{'stronger' if ratio > 1 else 'weaker'}"
            for name, ratio in sorted(notable.items(), key=lambda i: -abs(math.log(i[1])))
        ]
        return f"Weight for weight, next to {REFERENCE} at this T: {', '.join(words)}."


_KEYS = ("variant", "temperature", "alpha", "weights")


def _temperatures(recipe: str) -> list[float]:
    known = recipes.get(recipe)
    own = {float(v.temperature or known.temperature) for v in known.variants.values()}
    return sorted({*TEMPERATURES, *own})


class _Remembering:
    """A teacher that is asked once: what it says of one batch does not depend on T."""

    def __init__(self, teacher: Teacher) -> None:
        self.vocabulary = teacher.vocabulary
        self._teacher = teacher
        self._said: TeacherSignal | None = None

    def signal(self, batch: Batch, scored: Tensor) -> TeacherSignal:
        if self._said is None:
            self._said = self._teacher.signal(batch, scored)
        return self._said


def _three_digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _between(name: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise UsageError(f"the weight of {name} is {value!r}; expected 0 to {most:g}")
    return float(value)


def _template(objective: Objective, temperature: float) -> list[list[str]]:
    """The formula in pieces: a text, and the term whose weight is written behind it."""
    # `formula` writes weights as numbers; these are none that a formula has otherwise.
    marks = {name: (i + 1) * 1.11e50 for i, name in enumerate(objective.terms())}
    line = replace(objective, given=tuple(marks.items())).formula(temperature, 0.0)
    pieces = []
    for name, mark in marks.items():
        before, _, line = line.partition(f"{mark:.3g}")
        pieces.append([before, name])
    return [*pieces, [line, ""]]
