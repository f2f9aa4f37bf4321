"""What can be set on a Lab: knobs, their values, and the one line of text that holds them all.

A link is a recipe's name and what differs from the recipe's own values, such as
``protgpt2-tiny;T=4;alpha=0.5;variant=as-coded;seed=3;hide=alpha,seed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

from workbench import layer_maps, recipes
from workbench.config import SEED_LIMIT, RunConfig
from workbench.errors import UsageError
from workbench.events import WEIGHT

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 50.0
#: Where the slider of a term's weight ends; published ones are 1 and 3.
LARGEST_WEIGHT = 10.0
#: The slider of the learning rate reaches from a hundredth of the recipe's to ten times of it.
RATE_BELOW, RATE_ABOVE = 100, 10
#: Shorter names in links.
SHORT = {"temperature": "T", "learning_rate": "lr"}
LONG = {short: name for name, short in SHORT.items()}
LIVE = ("temperature", "alpha", "learning_rate")
ON_RESET = ("variant", "size", "init", "seed", "steps", "data")
#: What a worksheet can leave out, besides knobs.
HIDEABLE = (
    "pin", "seeds", "rewind", "branch", "reset", "steps", "step", "presets", "link", "script",
    "formula", "numbers", "curves", "terms", "table", "origin", "probe",
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A setting with a story.

    Attributes:
        name: for the menu.
        words: what one sees.
        given: values of knobs.
    """

    name: str
    words: str
    given: Mapping[str, Any]


PRESETS = (
    Preset("as the recipe says", "the recipe's own T and α", {}),
    Preset("labels only", "α = 1: the teacher is not heard", {"alpha": 1.0}),
    Preset("teacher only", "α = 0: the labels are not heard", {"alpha": 0.0}),
    Preset("T too high", "all answers nearly alike", {"temperature": 50.0}),
    Preset("T low", "the teacher's first choice and little else", {"temperature": 0.5}),
    Preset("as coded", "what the released script computes", {"variant": "as-coded"}),
)


@dataclass(frozen=True)
class Settings:
    """A recipe, and what differs from its own values.

    Attributes:
        recipe: its name.
        given: values of knobs by name; "weight.hidden" and the like for terms.
        options: further options of `RunConfig.from_recipe`, which have no knob.
        hidden: knobs, commands and regions that are not shown.
    """

    recipe: str
    given: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    def config(self, seed: int | None = None) -> RunConfig:
        """The configuration of a run with these settings.

        Raises:
            UsageError: if a value is out of range.
        """
        plain = {n: v for n, v in self.given.items() if not n.startswith(WEIGHT)}
        weights = {n.removeprefix(WEIGHT): v for n, v in self.given.items() if n.startswith(WEIGHT)}
        if seed is not None:
            plain["seed"] = seed
        return RunConfig.from_recipe(self.recipe, weights=weights or None, **plain, **self.options)

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """With other values; what belongs to terms that another variant lacks is dropped.

        Raises:
            UsageError: if there is no such knob, or a value is out of range.
        """
        names = {*LIVE, *ON_RESET, *(f"{WEIGHT}{n}" for n in self.own_terms())}
        for name in changes:
            if name not in names and not name.startswith(WEIGHT):
                raise UsageError(f"there is no setting {name!r}; expected {', '.join(names)}")
        given = {**self.given, **{n: _typed(n, v) for n, v in changes.items()}}
        now = replace(self, given=given)
        if "variant" in changes:
            recipes.get(self.recipe).variant(given["variant"])
            terms = now.own_terms()
            given = {
                n: v for n, v in given.items()
                if not n.startswith(WEIGHT) or n.removeprefix(WEIGHT) in terms
            }  # fmt: skip
            now = replace(now, given=given)
        check_temperature(now.config().temperature)
        return now

    def own_terms(self) -> dict[str, float]:
        """Weights of the terms that have a weight of their own, as the variant has them."""
        variant = self.given.get("variant", "corrected")
        return recipes.get(self.recipe).variant(variant).objective.own_terms

    def values(self) -> dict[str, Any]:
        """The value of every knob."""
        config = self.config()
        own = {f"{WEIGHT}{n}": self.given.get(f"{WEIGHT}{n}", w)
               for n, w in self.own_terms().items()}  # fmt: skip
        return {name: getattr(config, name) for name in (*LIVE, *ON_RESET)} | own

    def link(self) -> str:
        """One line of text; `read` is its inverse."""
        parts = [self.recipe]
        for name, value in self.given.items():
            text = f"{value:.12g}" if isinstance(value, float) else str(value)
            parts.append(f"{SHORT.get(name, name)}={quote(text, safe=':+,/.')}")
        if self.hidden:
            parts.append(f"hide={','.join(self.hidden)}")
        return ";".join(parts)


def read(link: str) -> Settings:
    """Settings from a link.

    Raises:
        UsageError: naming the first thing that is wrong in it.
    """
    recipe, *parts = link.strip().split(";")
    recipes.get(recipe)
    found: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        name = LONG.get(key.strip(), key.strip())
        if not equals or (name not in (*LIVE, *ON_RESET, "hide") and not name.startswith(WEIGHT)):
            known = ", ".join([*LONG, "alpha", *ON_RESET, "weight.TERM", "hide"])
            raise UsageError(f"{part!r} is no setting; expected one of {known} and a value after =")
        if name in found:
            raise UsageError(f"{key} is given twice")
        found[name] = unquote(value.strip())
    hidden = tuple(n.strip() for n in found.pop("hide", "").split(",") if n.strip())
    for name in hidden:
        if name not in (*LIVE, *ON_RESET, *HIDEABLE) and not name.startswith(WEIGHT):
            raise UsageError(f"{name!r} cannot be hidden; expected a knob or {', '.join(HIDEABLE)}")
    # The variant first: it decides which terms there are.
    ordered = dict(sorted(found.items(), key=lambda item: item[0] != "variant"))
    return Settings(recipe, hidden=hidden).changed(ordered)


def knobs(settings: Settings) -> list[dict[str, Any]]:
    """The knobs of a recipe, as the panel's front end wants them."""
    recipe = recipes.get(settings.recipe)
    rate = recipe.scale("classroom").learning_rate
    own = RunConfig.from_recipe(settings.recipe)
    depth = recipe.scale("classroom").teacher.layers
    starts = ["random", *(f"{name}" for name in layer_maps.presets(depth))]
    found = [
        _knob("temperature", "Temperature T", "log", min=LOWEST_TEMPERATURE,
              max=HIGHEST_TEMPERATURE, step=0.01, ends=["sharper answers", "softer answers"],
              mark={"value": own.temperature, "name": "recipe"},
              help="of the soft loss, and of the distributions shown"),
        _knob("alpha", "Labels' weight α", "slider", min=0.0, max=1.0, step=0.01,
              ends=["teacher only", "labels only"], mark={"value": own.alpha, "name": "recipe"},
              help="weight of the labels against the teacher"),
        _knob("learning_rate", "Learning rate", "log", min=rate / RATE_BELOW,
              max=rate * RATE_ABOVE, step=0.01, ends=["slow", "fast"],
              mark={"value": rate, "name": "recipe"},
              help="peak of the schedule; student and baseline have the same"),
    ]  # fmt: skip
    for name, weight in settings.own_terms().items():
        found.append(
            _knob(f"{WEIGHT}{name}", f"Weight of {name}", "slider", min=0.0, max=LARGEST_WEIGHT,
                  step=0.1, ends=["out", f"{LARGEST_WEIGHT:g}"],
                  mark={"value": weight, "name": "recipe"},
                  help=f"weight of the {name} term in the loss")
        )  # fmt: skip
    variants = [{"value": v, "label": v} for v in recipe.variants]
    return [
        *found,
        _knob("variant", "Variant", "menu", options=variants, live=False,
              help="which reading of the recipe"),
        _knob("size", "Student's size", "text", live=False, suggestions=sizes(settings),
              placeholder="as the recipe",
              help="layers, such as 3, or layers and width, such as 3x96; empty for the recipe's"),
        _knob("seed", "Seed", "number", min=0, max=SEED_LIMIT - 1, step=1, live=False,
              help="of the student's start and the order of batches"),
        _knob("steps", "Steps", "number", min=1, max=1_000_000, step=1, live=False,
              help="length of the run and of its learning-rate schedule"),
        _knob("init", "Student's start", "text", live=False, suggestions=starts,
              help="random, or layers of the teacher: 2i, first:4, 0,2,4; scratch:4 for four "
                   "layers with nothing copied"),
        _knob("data", "Data", "text", live=False,
              help="the built-in world, a file on the kernel's machine, or an id on the hub"),
    ]  # fmt: skip


def sizes(settings: Settings) -> list[str]:
    """Sizes to suggest: fewer and more layers; half and double the width where it is free."""
    scale = recipes.get(settings.recipe).scale("classroom")
    own = scale.student
    if settings.config().init != layer_maps.RANDOM:
        return [str(n) for n in range(1, max(2, scale.teacher.layers // 2) + 1)]
    layers = sorted({1, own.layers, 2 * own.layers})
    return [f"{n}x{w}" for n in layers for w in (own.width // 2, own.width, 2 * own.width)]


def check_temperature(value: float) -> None:
    """Raise UsageError where the slider does not reach."""
    if not LOWEST_TEMPERATURE <= value <= HIGHEST_TEMPERATURE:
        raise UsageError(
            f"T is {value:g}; the panel's slider goes from {LOWEST_TEMPERATURE:g} to "
            f"{HIGHEST_TEMPERATURE:g}"
        )


def _knob(name: str, label: str, kind: str, **more: Any) -> dict[str, Any]:
    blank = {"min": None, "max": None, "step": None, "options": [], "ends": ["", ""],
             "live": True, "help": "", "mark": None}  # fmt: skip
    return {"name": name, "label": label, "kind": kind, **blank, **more}


def _typed(name: str, value: Any) -> Any:
    """A value as its knob has it; text comes from links and text fields."""
    if name in ("variant", "size", "init", "data"):
        return str(value)
    try:
        if name in ("seed", "steps"):
            if float(value) != int(float(value)):
                raise ValueError
            return int(float(value))
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        kind = "a whole number" if name in ("seed", "steps") else "a number"
        raise UsageError(f"{SHORT.get(name, name)} is {value!r}; expected {kind}") from error
