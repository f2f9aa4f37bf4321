"""What a sweep is asked to do: its axes, its seeds, and everything that stays fixed.

A plan is plain data. It rebuilds every run of the sweep, gives the sweep its name, and says in
what it differs from another one, so that two are never mixed in one study.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench import recipes, tasks
from workbench.config import RunConfig
from workbench.errors import UsageError, WorkbenchError

FORMAT = "workbench sweep 1"
AXES = ("temperature", "alpha", "variant", "init", "size")
SEARCHES = ("tpe",)
#: Of a search that does not say.
TRIALS = 50
#: Parts of a plan in which two that share a study must agree, in words.
_IDENTITY = {
    "recipe": "recipe", "search": "search", "fixed": "setting", "content": "content of",
    "seeds": "seeds",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All of a sweep.

    Attributes:
        recipe: its name.
        axes: values by axis (temperature, alpha, variant, init, size), each at least one; of a
            search the ends of temperature and alpha.
        seeds: every point is trained with each.
        fixed: options of `RunConfig.from_recipe` that all runs share.
        search: "tpe", or empty for a grid.
        trials: points that a search tries; 0 for a grid.
        prune: stop a run that does worse than the median of the others at the same step.
        content: SHA-256 of the files that data, alleles and teacher are read from, by option.
    """

    recipe: str
    axes: dict[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    fixed: dict[str, Any] = field(default_factory=dict)
    search: str = ""
    trials: int = 0
    prune: bool = False
    content: dict[str, str] = field(default_factory=dict)

    # ------------------------------------------------------------------ points and runs

    def points(self) -> list[dict[str, Any]]:
        """Every point of a grid."""
        names = list(self.axes)
        return [
            dict(zip(names, values, strict=True))
            for values in itertools.product(*self.axes.values())
        ]

    def options(self, point: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """What `RunConfig.from_recipe` and `runs.distill` are given for one run."""
        options = {**self.fixed, **point, "seed": seed}
        if "checkpoint_every" not in options:
            # A short run begins anew sooner than it writes a dozen checkpoints.
            steps = self.fixed.get("steps")
            scale = recipes.get(self.recipe).scale(self.fixed.get("scale", "classroom"))
            options["checkpoint_every"] = scale.steps if steps is None else steps
        return options

    def config(self, point: Mapping[str, Any], seed: int) -> RunConfig:
        """The configuration of one run; UsageError names what is out of range."""
        return RunConfig.from_recipe(self.recipe, **self.options(point, seed))

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Ends of what a search draws from a range; axes with one value are fixed."""
        return {
            name: (min(self.axes[name]), max(self.axes[name]))
            for name in ("temperature", "alpha")
            if len(self.axes[name]) > 1
        }

    @property
    def runs(self) -> int:
        """Number of Optuna's trials: runs of a grid, points of a search."""
        return self.trials if self.search else len(self.points()) * len(self.seeds)

    @property
    def headline(self):
        """The figure by which points are compared."""
        return tasks.of(self.recipe).headline

    # ------------------------------------------------------------------ as data

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `from_json` is its inverse."""
        return {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """From `to_json`; WorkbenchError if it is of another version."""
        values = dict(values)
        if values.pop("format", None) != FORMAT:
            raise WorkbenchError(
                f"the sweep was not written by this version of the workbench; expected {FORMAT!r}"
            )
        values["axes"] = {name: tuple(v) for name, v in values["axes"].items()}
        return cls(**{**values, "seeds": tuple(values["seeds"])})

    @property
    def name(self) -> str:
        """The recipe and a hash of everything: the same command finds its sweep again."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return f"{self.recipe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def difference(self, other: Plan) -> str:
        """In what another plan of the same study may not differ but does, as text; else empty.

        A grid may grow: more temperatures, alphas, variants and seeds are new points of it.
        """
        mine, theirs = self.to_json(), other.to_json()
        if not self.search and not other.search:
            mine["seeds"] = theirs["seeds"] = None
        found = []
        for part, word in _IDENTITY.items():
            a, b = mine[part], theirs[part]
            if isinstance(a, dict):
                found += [
                    f"{word} {key}: {_said(b.get(key))} there, {_said(a.get(key))} here"
                    for key in sorted({*a, *b})
                    if a.get(key) != b.get(key)
                ]
            elif a != b:
                found.append(f"{word}: {_said(b)} there, {_said(a)} here")
        growing = () if self.search else ("temperature", "alpha", "variant")
        for axis in AXES:
            a, b = mine["axes"].get(axis), theirs["axes"].get(axis)
            if axis not in growing and a != b:
                found.append(f"{axis}: {_said(b)} there, {_said(a)} here")
        return "; ".join(found)


def make(
    recipe: str,
    *,
    temperature: Sequence[float] | float | None = None,
    alpha: Sequence[float] | float | None = None,
    variant: Sequence[str] | str | None = None,
    init: Sequence[str] | str | None = None,
    size: Sequence[str | int] | str | int | None = None,
    seeds: int | Sequence[int] = 2,
    search: str | None = None,
    trials: int | None = None,
    prune: bool = False,
    **fixed: Any,
) -> Plan:
    """A plan, with every value checked before anything is begun.

    Args:
        recipe: its name.
        temperature: values of T; of a search the ends of its range.
        alpha: values of α, likewise.
        variant: variants of the recipe.
        init: starts of the student.
        size: sizes of the student.
        seeds: how many, from 0, or which.
        search: "tpe" for a search instead of a grid.
        trials: points that a search tries.
        prune: stop runs that do worse than the median.
        fixed: options of `RunConfig.from_recipe` for all runs.

    Raises:
        UsageError: naming the first value that cannot be used.
        WorkbenchError: if a file of data or teacher cannot be read.
    """
    given = dict(temperature=temperature, alpha=alpha, variant=variant, init=init, size=size)
    axes = {name: _values(name, value) for name, value in given.items() if value is not None}
    if not axes:
        raise UsageError(
            "the grid has no point; give values to at least one of --temperature, --alpha, "
            "--variant, --init, --size, such as --temperature 1 2 4 --alpha 0 0.5 1"
        )
    if "seed" in fixed:
        raise UsageError("a sweep has several seeds; give --seeds instead of a seed")
    numbers = _seeds(seeds)
    if search is None and trials is not None:
        raise UsageError("--trials is for a search; add --search tpe, or leave it out for a grid")
    if search is not None and search not in SEARCHES:
        raise UsageError(f"there is no search {search!r}; expected {' or '.join(SEARCHES)}")
    if search is not None and trials is not None and trials < 1:
        raise UsageError(f"trials is {trials}; expected at least 1")
    fixed = {name: value for name, value in fixed.items() if value is not None}
    plan = Plan(
        recipe=recipe,
        axes=axes,
        seeds=numbers,
        fixed=fixed,
        search=search or "",
        trials=(TRIALS if trials is None else trials) if search else 0,
        prune=prune,
    )
    first = plan.config({}, numbers[0])
    # What is not an axis is the recipe's own, and stands in the plan.
    axes = {name: axes.get(name, (getattr(first, name),)) for name in AXES}
    plan = Plan(**{**plan.__dict__, "axes": axes, "content": _content(first)})
    for point in plan.points():
        for seed in numbers:
            plan.config(point, seed)
    if search and all(len(values) == 1 for values in axes.values()):
        raise UsageError(
            "the search has nothing to search; give two ends to --temperature or --alpha, such as "
            "--temperature 1 10, or several values to --variant, --init or --size"
        )
    if search and plan.axes["temperature"][0] <= 0:
        raise UsageError("a search needs temperatures above 0")
    return plan


def as_of_now(plan: Plan) -> Plan:
    """The same plan with the hashes of the files as they are now.

    Raises:
        WorkbenchError: if one cannot be read.
    """
    return replace(plan, content=_content(plan.config({}, plan.seeds[0])))


def _values(axis: str, value: Any) -> tuple[Any, ...]:
    values = [value] if isinstance(value, str | int | float) else list(value)
    if not values:
        raise UsageError(f"the grid has no point: {axis} has no values; give it at least one")
    if axis in ("temperature", "alpha"):
        values = [_number(axis, v) for v in values]
    else:
        values = [str(v) for v in values]
    for position, one in enumerate(values):
        if one in values[:position]:
            raise UsageError(f"{axis} has {_said(one)} twice; give every value once")
    return tuple(values)


def _number(axis: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{axis} is {value!r}; expected numbers") from error


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, int):
        if seeds < 1:
            raise UsageError(f"seeds is {seeds}; expected at least 1")
        return tuple(range(seeds))
    if not seeds:
        raise UsageError("the grid has no point: there are no seeds; give at least one")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"the seeds {list(seeds)} hold one twice; give every seed once")
    return tuple(int(seed) for seed in seeds)


def _content(config: RunConfig) -> dict[str, str]:
    """Hashes of the files that a run reads: another file under the same name is other data."""
    found = {}
    for name in ("data", "alleles", "teacher"):
        path = Path(getattr(config, name) or "")
        files = [path] if path.is_file() else []
        if name == "teacher" and path.is_dir() and path != Path():
            files = [p for p in (path / "config.json", path / "model.safetensors") if p.is_file()]
        if files:
            digest = hashlib.sha256()
            for file in files:
                digest.update(_hash(file))
            found[name] = digest.hexdigest()
    return found


def _hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    except OSError as error:
        raise WorkbenchError(f"cannot read {path}: {error.strerror}") from error
    return digest.digest()


def _said(value: Any) -> str:
    """A value in a sentence; long hashes by their beginning."""
    if value is None:
        return "not given"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    if isinstance(value, str) and len(value) == 64:
        return f"SHA-256 {value[:8]}…"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    return str(value) or "the recipe's own"
