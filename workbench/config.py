"""The configuration of a run: everything that decides what comes out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from workbench import layer_maps, losses, recipes, student_size
from workbench.devices import processes
from workbench.devices.precision import PRECISIONS
from workbench.errors import UsageError, WorkbenchError
from workbench.records import hub, tables

SEED_LIMIT = 2**32
#: Tokens that a row needs: two marks and something between them.
SHORTEST_ROW = 3
#: Fields that runs of an earlier day do not have, and what they were then.
_LATER = {"label": None, "size": "", "length": None, "micro_batch": None, "precision": "float32"}


@dataclass(frozen=True)
class RunConfig:
    """All of a run; `to_json` and `from_json` are inverse.

    Attributes:
        recipe: name of the recipe.
        variant: corrected, as-published or as-coded.
        scale: classroom or paper.
        temperature: T of the soft term.
        alpha: weight of the hard term.
        steps: optimiser steps.
        seed: of the student's initial weights and of the order of batches.
        teacher: name, directory or hub id, ``ID@REVISION`` for a revision of it.
        data: world, file or hub id, likewise.
        column: of a table of sequences or texts; None looks for the usual names.
        label: of a table of texts, the column of their classes; None where data are no such table.
        alleles: table of pseudo-sequences of HLA molecules; None takes the built-in one.
        match: which teacher layers the hidden and attention terms hold the student's layers
            against, as `layer_maps.parse` reads it; None takes the recipe's map.
        weights: of terms, by name, instead of the recipe's; None for the recipe's.
        whole_words: hide all pieces of a word or none, where words are hidden.
        init: how the student starts: ``random``, or a layer map as `layer_maps.parse` reads it.
            With a map the student is as wide as its teacher, with as many layers as the map has.
        size: of the student instead of the recipe's, as `student_size.parse` reads it; empty
            for the recipe's.
        batch_size: sequences a step, of all processes together.
        length: longest row, tokens; None for the model's positions.
        micro_batch: most sequences that a process reads at once; the rest of a step is
            accumulated. None for all of its share.
        precision: of reading, see `workbench.devices.precision`.
        learning_rate: peak.
        warmup: steps.
        weight_decay: AdamW's.
        train_sequences: how many to take; None takes all.
        validation_sequences: how many a world draws for evaluation.
        cached: keep the teacher's answers; False runs the teacher at every step.
        log_every: steps between lines of metrics.jsonl.
        evaluate_every: steps between held-out evaluations.
        checkpoint_every: steps between checkpoints.
    """

    recipe: str
    variant: str
    scale: str
    temperature: float
    alpha: float
    steps: int
    seed: int
    teacher: str
    data: str
    column: str | None
    label: str | None
    alleles: str | None
    match: str | None
    weights: dict[str, float] | None
    whole_words: bool
    init: str
    size: str
    batch_size: int
    length: int | None
    micro_batch: int | None
    precision: str
    learning_rate: float
    warmup: int
    weight_decay: float
    train_sequences: int | None
    validation_sequences: int
    cached: bool
    log_every: int
    evaluate_every: int
    checkpoint_every: int

    def __post_init__(self) -> None:
        recipe = recipes.get(self.recipe)
        recipe.variant(self.variant)
        recipe.scale(self.scale)
        try:
            losses.check_temperature(self.temperature)
            losses.check_alpha(self.alpha)
        except ValueError as error:
            raise UsageError(str(error)) from error
        own = recipe.scale(self.scale)
        layer_maps.check(self.start)
        if hub.name(self.teacher) == own.teacher_source:
            layer_maps.parse(self.start, own.teacher.layers)
        student_size.resize(own.student, self.size)
        terms = recipe.variant(self.variant).objective.terms()
        for name, weight in (self.weights or {}).items():
            if name not in terms:
                raise UsageError(
                    f"{self.recipe} ({self.variant}) has no term {name!r}; its terms are "
                    f"{', '.join(terms)}"
                )
            if not (math.isfinite(weight) and weight >= 0):
                raise UsageError(f"the weight of {name} is {weight}; expected 0 or more")
        if self.label is not None and recipe.task != "text-classification":
            raise UsageError(
                f"--label is for a table of texts and their classes; {self.recipe} learns none"
            )
        if self.label is not None and self.alleles:
            raise UsageError(
                "--alleles is for pairs of peptide and HLA, --label (or --column) for texts and "
                "their classes; give one of them"
            )
        if self.data.startswith("world:"):
            # Of another task --alleles is refused with the data themselves, in other words.
            about_pairs = recipe.task == "text-classification"
            for name in ("column", "alleles") if about_pairs else ("column",):
                if getattr(self, name):
                    raise UsageError(f"--{name} is about a file of data; give it with --data FILE")
        if self.match is not None:
            if not recipe.variant(self.variant).objective.looks_inside:
                raise UsageError(
                    f"--match is for recipes that compare layers; {self.recipe} ({self.variant}) "
                    "compares none"
                )
            layer_maps.check(self.match)
        for name in (
            "steps", "batch_size", "validation_sequences", "log_every", "evaluate_every",
            "checkpoint_every",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.train_sequences is not None and self.train_sequences < 1:
            raise UsageError(f"train_sequences is {self.train_sequences}; expected at least 1")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UsageError(f"micro_batch is {self.micro_batch}; expected at least 1")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is {self.precision!r}; expected {' or '.join(PRECISIONS)}")
        if not 0 <= self.seed < SEED_LIMIT:
            raise UsageError(f"seed is {self.seed}; expected a number from 0 to 2³²−1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(
                f"learning_rate is {self.learning_rate}; expected a finite number above 0"
            )
        if self.warmup < 0:
            raise UsageError(f"warmup is {self.warmup}; expected 0 or more steps")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError(f"weight_decay is {self.weight_decay}; expected 0 or more")
        if self.length is not None and self.length < SHORTEST_ROW:
            raise UsageError(f"length is {self.length}; expected at least {SHORTEST_ROW} tokens")

    @property
    def start(self) -> str:
        """How the student starts, with its number of layers where a map and a size are given."""
        return student_size.start(self.init, self.size)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunConfig:
        """From `to_json`; WorkbenchError if fields are missing or unknown."""
        known = {f.name for f in fields(cls)}
        values = _LATER | values
        if set(values) != known:
            odd = ", ".join(sorted(known ^ set(values)))
            raise WorkbenchError(
                f"the run's configuration does not fit this version of the workbench ({odd}); "
                "resume it with the version that began it"
            )
        return cls(**values)

    @classmethod
    def from_recipe(
        cls,
        name: str,
        *,
        variant: str = "corrected",
        scale: str = "classroom",
        temperature: float | None = None,
        alpha: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        teacher: str | None = None,
        data: str | None = None,
        column: str | None = None,
        label: str | None = None,
        alleles: str | None = None,
        match: str | None = None,
        weights: dict[str, float] | None = None,
        whole_words: bool = False,
        init: str | None = None,
        size: str | int = "",
        batch_size: int | None = None,
        length: int | None = None,
        accumulate: int | None = None,
        micro_batch: int | None = None,
        precision: str | None = None,
        learning_rate: float | None = None,
        warmup: int | None = None,
        weight_decay: float | None = None,
        train_sequences: int | None = None,
        validation_sequences: int | None = None,
        cached: bool = True,
        checkpoint_every: int | None = None,
    ) -> RunConfig:
        """A recipe's own values, and those given instead of them.

        ``accumulate`` gives ``micro_batch`` in another way: in how many parts each process reads
        its share of a step. Of a classifier's recipe ``label`` is found in the header of the data,
        where they are no pairs of peptide and HLA.

        Raises:
            UsageError: naming the first value that is out of range.
        """
        recipe = recipes.get(name)
        own, chosen = recipe.scale(scale), recipe.variant(variant)
        steps = own.steps if steps is None else steps
        data = data or hub.pinned(own.data_source, own.data_revision)
        if recipe.task == "text-classification" and label is None:
            label = tables.label_column(data, column)
        batch_size = own.batch_size if batch_size is None else batch_size
        if accumulate is not None:
            if micro_batch is not None:
                raise UsageError("accumulate and micro_batch say the same; give one of them")
            if accumulate < 1:
                raise UsageError(f"accumulate is {accumulate}; expected at least 1")
            micro_batch = -(-batch_size // (accumulate * processes.count()))
        # A number of sequences belongs to the built-in source; a user's file is taken whole.
        own_train = own.train_sequences if hub.name(data) == own.data_source else None
        return cls(
            recipe=name,
            variant=variant,
            scale=scale,
            temperature=float(_first(temperature, chosen.temperature, recipe.temperature)),
            alpha=recipe.alpha if alpha is None else float(alpha),
            steps=steps,
            seed=seed,
            teacher=teacher or hub.pinned(own.teacher_source, own.teacher_revision),
            data=data,
            column=column,
            label=label,
            alleles=alleles,
            match=match,
            weights=dict(weights) if weights else None,
            whole_words=whole_words,
            init=recipe.init if init is None else init,
            size=str(size),
            batch_size=batch_size,
            length=own.length if length is None else length,
            micro_batch=own.micro_batch if micro_batch is None else micro_batch,
            precision=precision or processes.precision() or own.precision,
            learning_rate=own.learning_rate if learning_rate is None else float(learning_rate),
            warmup=min(own.warmup, max(1, steps) // 5) if warmup is None else warmup,
            weight_decay=own.weight_decay if weight_decay is None else float(weight_decay),
            train_sequences=own_train if train_sequences is None else train_sequences,
            validation_sequences=(
                own.validation_sequences if validation_sequences is None else validation_sequences
            ),
            cached=cached,
            log_every=max(1, min(10, steps // 20)),
            evaluate_every=max(1, steps // own.evaluations),
            checkpoint_every=max(1, steps // 12) if checkpoint_every is None else checkpoint_every,
        )


def _first(*values: float | None) -> float:
    """The first that is given."""
    return next(value for value in values if value is not None)
