"""What a recipe is: declarations only, no logic."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import UsageError
from workbench.objective import Objective

VARIANTS = ("corrected", "as-published", "as-coded")


@dataclass(frozen=True)
class Shape:
    """Size of a model: everything of a configuration that sets its parameter count.

    Attributes:
        layers: of attention and feed-forward net.
        heads: of attention.
        width: of the hidden states.
        positions: longest input, tokens.
        vocabulary: tokens.
        feed_forward: width of the inner layer of the feed-forward net; None for four times
            the width, as nearly everywhere.
    """

    layers: int
    heads: int
    width: int
    positions: int
    vocabulary: int
    feed_forward: int | None = None


@dataclass(frozen=True)
class Variant:
    """One reading of a recipe.

    Attributes:
        name: one of `VARIANTS`.
        objective: its loss, every convention spelled out.
        source: where this reading comes from.
        temperature: T of this reading; None for the recipe's.
        copies_head: where layers are copied, whether what is above them is copied, too; the
            tables of tokens and positions are.
        teacher_dropout: rate at which the teacher drops entries while it answers; 0 as it should
            be, 0.1 where a script leaves a BERT in training mode.
    """

    name: str
    objective: Objective
    source: str
    temperature: float | None = None
    copies_head: bool = True
    teacher_dropout: float = 0.0


@dataclass(frozen=True)
class Scale:
    """A recipe at one size: built in ("classroom") or as published ("paper").

    Attributes:
        teacher: teacher's shape.
        student: student's shape.
        teacher_source: name under ``data/teachers/`` or an id on the Hugging Face hub.
        data_source: a world or an id on the hub.
        train_sequences: sequences, or pairs, taken from the source for training; None takes all.
        validation_sequences: sequences held out from a world (other sources: a tenth).
        steps: optimiser steps.
        batch_size: sequences (or blocks) a step.
        learning_rate: peak of the schedule.
        warmup: steps of linear warm-up before the linear decay to zero.
        weight_decay: AdamW's.
        activation: activation function of the student.
        evaluations: how often a run measures held-out quality on its way.
        length: longest row, tokens; None for the model's positions.
        teacher_revision: of an id on the hub: a commit, or ``main``.
        data_revision: likewise.
        micro_batch: most sequences that a process reads at once; None for all of its share.
        precision: in which models read; see `workbench.devices.precision`.
    """

    teacher: Shape
    student: Shape
    teacher_source: str
    data_source: str
    train_sequences: int | None
    validation_sequences: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int
    weight_decay: float
    activation: str
    evaluations: int = 12
    length: int | None = None
    teacher_revision: str = ""
    data_revision: str = ""
    micro_batch: int | None = None
    precision: str = "float32"


@dataclass(frozen=True)
class Recipe:
    """A published distilled model: what was trained, from what, how.

    Attributes:
        name: as on the command line.
        title: name of the published model.
        task: what the model does, in the hub's vocabulary.
        temperature: published T.
        alpha: published α, weight of the hard loss.
        init: how the student starts, as `layer_maps.parse` reads it.
        scales: by name.
        variants: by name.
        sources: where the facts were read.
    """

    name: str
    title: str
    task: str
    temperature: float
    alpha: float
    init: str
    scales: dict[str, Scale]
    variants: dict[str, Variant]
    sources: tuple[str, ...]

    def variant(self, name: str) -> Variant:
        """The variant of that name; UsageError lists them."""
        return _pick(self.variants, name, f"variant of {self.name}")

    def scale(self, name: str) -> Scale:
        """The scale of that name; UsageError lists them."""
        return _pick(self.scales, name, f"scale of {self.name}")


def _pick(table: dict, name: str, what: str):
    if name not in table:
        raise UsageError(f"there is no {what} called {name!r}; expected {' or '.join(table)}")
    return table[name]
