"""What a step costs, by arithmetic alone: FLOPs, bytes of memory, bytes on the disk.

One multiplication and one addition of a matrix product are two FLOPs; nothing else is counted.
With N tokens in rows of length ℓ, a model of width d whose layers hold M numbers in matrices
(12·d² in a GPT-2 or BERT, 4·d² of attention and 8·d² of the feed-forward net) takes

    forward, a layer      2·M·N of the matrices + 4·ℓ·d·N of attention (QKᵀ, sum over values)
    backward, a layer     twice that: a product for the inputs' gradient and one for the weights'
    head                  2·V·d a scored row forward, twice that backward, V answers

(Kaplan et al. 2020, arXiv 2001.08361, section 2.1, with attention and head kept). Attention is
counted in full, also where a causal kernel skips half of it, and what fused kernels compute a
second time in their backward pass is not. ``tests/unit/test_arithmetic.py`` holds the
formulas against PyTorch's own counter and against the bytes that a step really holds.

Nothing here loads torch. `Footing` is the one place for what changes the bytes of a number or
splits a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.objective import CHUNK_NUMBERS

#: Blocks of [rows, vocabulary] that the loss holds at once, its backward pass included: logits of
#: both models, softened ones, logarithms, probabilities, gradients. Measured, see `loss_bytes`.
LOGIT_BLOCKS = 8
#: Vocabularies from this size on have their loss computed by `workbench.vocabulary_loss`, which
#: makes each chunk of logits once; bytes of a chunk.
LARGE, CHUNK_BYTES = 2**13, 200 * 2**20
#: How logits are held: all of them; in chunks, made again in the backward pass; in chunks, once.
Way = Literal["whole", "again", "once"]
#: Widths of activations that a layer keeps for its backward pass beside the feed-forward net's:
#: inputs and outputs of two norms (4), queries, keys and values (3), what attention gives (1).
KEPT_WIDTHS = 8
#: Inner widths that the feed-forward net keeps: before and after the activation; where that is
#: written out in Python, as ``gelu_new`` is, three more.
KEPT_INNER, KEPT_WRITTEN_OUT = 2, 3


#: Of the header of a safetensors file, for each tensor: its name, type, shape and place.
ENTRY_BYTES = 105


@dataclass(frozen=True)
class Footing:
    """How numbers are held and a step is taken; weights, moments and losses are in float32.

    Attributes:
        activation_bytes: of a number between the layers.
        answer_bytes: of a number that a teacher answers with and that is kept.
        parts: of a step's batch, of which a process holds one at a time.
    """

    activation_bytes: int = 4
    answer_bytes: int = 4
    parts: int = 1


@dataclass(frozen=True)
class Size:
    """Everything of a model that its costs follow from.

    Attributes:
        parameters: tied ones once.
        tensors: in how many tensors.
        layers: number of layers.
        heads: of attention.
        width: of the hidden states.
        inner: width within the feed-forward net.
        matrices: numbers in the matrices of one layer.
        head: numbers in the matrices that a scored row passes through above the layers.
        answers: tokens or classes.
        positions: longest row.
        written_out: whether the activation function is a formula in Python and not one kernel.
    """

    parameters: int
    tensors: int
    layers: int
    heads: int
    width: int
    inner: int
    matrices: int
    head: int
    answers: int
    positions: int
    written_out: bool = False


@dataclass(frozen=True)
class Load:
    """What a step reads, on average over the steps of a run.

    Attributes:
        sequences: rows of tokens.
        length: of a row with its padding.
        tokens: in all rows, without padding.
        scored: positions that count in the loss.
    """

    sequences: float
    length: float
    tokens: float
    scored: float

    @property
    def read(self) -> float:
        """Tokens with padding: what layers compute."""
        return self.sequences * self.length

    def part(self, parts: int) -> Load:
        """One of so many parts of it."""
        return Load(self.sequences / parts, self.length, self.tokens / parts, self.scored / parts)


@dataclass(frozen=True)
class Looks:
    """What an objective looks at inside the models, as far as it costs anything.

    Attributes:
        hidden: pairs of hidden states compared.
        projections: whether each passes through a learned matrix.
        maps: whether attention maps are kept, which only slow attention does.
        scores: whether attention's scores are computed a second time.
        states: whether the last hidden states of all tokens are compared.
        layers: pairs of layers whose attention is compared.
    """

    hidden: int = 0
    projections: int = 0
    maps: bool = False
    scores: bool = False
    states: bool = False
    layers: int = 0


# ---------------------------------------------------------------------- FLOPs


def forward_flops(size: Size, load: Load) -> float:
    """Of a pass through the layers, head left out."""
    return load.read * size.layers * (2 * size.matrices + 4 * load.length * size.width)


def training_flops(size: Size, load: Load) -> float:
    """Of a pass through the layers and back."""
    return 3 * forward_flops(size, load)


def head_flops(size: Size, rows: float) -> float:
    """Of the head on so many scored rows."""
    return 2 * size.head * rows


def way(answers: int, rows: float, *, plain: bool) -> Way:
    """How the loss of a step holds its logits.

    Args:
        answers: tokens or classes.
        rows: scored in a part of a step.
        plain: the objective needs of the logits no more than cross-entropy and divergence.
    """
    if plain and answers >= LARGE:
        return "once"
    return "again" if rows * answers > CHUNK_NUMBERS else "whole"


def loss_flops(student: Size, teacher: Size | None, rows: float, how: Way) -> float:
    """Of both heads on scored rows, and of the student's backward.

    Args:
        student: whose head is trained.
        teacher: whose head is applied to its hidden states; None where its logits are there, or
            for a student that learns from labels alone.
        rows: scored.
        how: see `way`.
    """
    again = 1 if how == "again" else 0
    flops = (3 + again) * head_flops(student, rows)
    return flops if teacher is None else flops + (1 + again) * head_flops(teacher, rows)


def comparison_flops(student: Size, teacher: Size, load: Load, looks: Looks) -> float:
    """Of projections of hidden states, forward and back, and of scores computed once more."""
    flops = 3 * 2 * looks.projections * student.width * teacher.width * load.tokens
    if looks.scores:
        scores = 2 * load.read * load.length
        flops += scores * (3 * student.layers * student.width + teacher.layers * teacher.width)
    return flops


# ---------------------------------------------------------------------- memory


def activation_numbers(size: Size, load: Load, looks: Looks = Looks()) -> float:
    """Numbers that a student keeps between its forward and its backward pass, loss left out."""
    inner = KEPT_INNER + (KEPT_WRITTEN_OUT if size.written_out else 0)
    layer = KEPT_WIDTHS * size.width + inner * size.inner
    if looks.maps:
        layer += size.heads * load.length
    if looks.scores:
        layer += 2 * size.heads * load.length
    return load.read * (size.layers * layer + 2 * size.width)


def teacher_working(size: Size, load: Load) -> float:
    """Numbers that one layer of a teacher's forward pass holds at its worst."""
    inner = 2 + (KEPT_WRITTEN_OUT - 1 if size.written_out else 0)
    return load.read * (3 * size.width + inner * size.inner)


def teacher_kept(size: Size, load: Load, looks: Looks = Looks()) -> float:
    """Numbers of a live teacher's answer that are held until the end of the step."""
    numbers = load.tokens * size.width
    if looks.hidden:
        numbers += load.read * size.width * size.layers
    if looks.maps:
        numbers += load.read * load.length * size.heads * size.layers
    if looks.scores:
        numbers += load.read * (load.length * size.heads + 2 * size.width) * size.layers
    return numbers


def comparison_numbers(student: Size, teacher: Size, load: Load, looks: Looks) -> float:
    """Numbers that the comparison of layers keeps for the backward pass."""
    widest = teacher.width if looks.projections else student.width
    numbers = load.tokens * looks.hidden * (student.width + 2 * widest)
    if looks.layers:
        # Differences, or logarithms and products, of maps of both models.
        numbers += 3 * load.read * load.length * student.heads * looks.layers
    return numbers


def loss_bytes(student: Size, rows: float, how: Way) -> float:
    """Bytes of logits and gradients that the loss holds at once, in full precision."""
    if how == "once":
        # A chunk of both models; the gradient of the head, and once more as it is scaled.
        return CHUNK_BYTES + 4 * (2 * student.head + rows * student.width)
    held = min(rows, max(1, CHUNK_NUMBERS // student.answers))
    return 4 * LOGIT_BLOCKS * held * student.answers


def step_bytes(
    student: Size,
    teacher: Size | None,
    load: Load,
    looks: Looks,
    footing: Footing,
    *,
    plain: bool,
) -> float:
    """Most bytes that a step holds beside weights and moments.

    All activations of the student stay until its backward pass. Upon them stands the largest of
    what comes one after the other: a layer of the teacher at work, the loss, the comparison of
    layers, the gradients.

    Args:
        student: that is trained.
        teacher: that runs in the step; None where its answers were kept, or there is none.
        load: the whole step's; one part of it is held at a time.
        looks: of the objective.
        footing: bytes of a number, and parts.
        plain: see `way`.
    """
    part = load.part(footing.parts)
    kept = footing.activation_bytes * activation_numbers(student, part, looks)
    # The loss and the gradients are in full precision whatever the activations are in.
    how = way(student.answers, part.scored, plain=plain)
    then = [loss_bytes(student, part.scored, how), 4 * student.parameters]
    if teacher is not None:
        kept += footing.activation_bytes * teacher_kept(teacher, part, looks)
        then.append(footing.activation_bytes * teacher_working(teacher, part))
        then.append(footing.activation_bytes * comparison_numbers(student, teacher, part, looks))
    return kept + max(then)


def optimiser_numbers(parameters: int) -> int:
    """Weights and both moments of AdamW, which stay between steps."""
    return 3 * parameters


# ---------------------------------------------------------------------- disk


def model_bytes(size: Size) -> int:
    """Of a model's file of weights, in float32."""
    return 4 * size.parameters + ENTRY_BYTES * size.tensors


def checkpoint_bytes(size: Size, projections: int = 0, numbers: int = 0) -> int:
    """Of a checkpoint: weights and moments of student and baseline.

    Args:
        size: of the student.
        projections: matrices that are trained along with it, and not with the baseline.
        numbers: in each of them, its bias included.
    """
    parameters = 2 * size.parameters + projections * numbers
    # Beside weights and two moments of each tensor stands AdamW's count of its steps.
    entries = 4 * (2 * size.tensors + 2 * projections)
    return 4 * optimiser_numbers(parameters) + ENTRY_BYTES * entries
