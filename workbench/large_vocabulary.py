"""One step's loss at a large vocabulary: hard and soft term together, without whole logits.

`Objective.values` gives each term with a gradient of its own, for which it makes each chunk of
logits twice. A step needs only the gradient of their weighted sum. Where both models' heads end
in one matrix, that comes from `vocabulary_loss`, which makes each chunk once, and is the same in
value and gradient up to rounding. A head with a transformation before its matrix, as BERT's, has
it applied to the scored rows first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from workbench.vocabulary_loss import CHUNK_BYTES, vocabulary_loss

if TYPE_CHECKING:
    from workbench.objective import Counts, Objective, TeacherSignal

#: Vocabularies from this size on. A property of the model and not of a batch, so that all steps
#: of a run go the same way; the classroom's are 2 to 3,162.
LARGE = 2**13
#: Terms that are functions of the logits.
ANSWERS = ("hard", "soft")


class MatrixHead(NamedTuple):
    """A vocabulary head: ``matrix(transform(rows))``.

    Attributes:
        transform: from hidden states to what the matrix reads; None for nothing.
        matrix: with or without a bias.
    """

    transform: Callable[[Tensor], Tensor] | None
    matrix: nn.Linear


class Together(NamedTuple):
    """The loss of one step.

    Attributes:
        weighted: weighted sum of the terms in `ANSWERS`; differentiable.
        values: each term there is, without its weight; those in `ANSWERS` are detached.
    """

    weighted: Tensor
    values: dict[str, Tensor]


def matrix_head(head: Callable[[Tensor], Tensor]) -> MatrixHead | None:
    """A head taken apart, or None if it does not end in one matrix."""
    if type(head) is nn.Linear:
        return MatrixHead(None, head)
    predictions = getattr(head, "predictions", None)
    decoder, transform = (getattr(predictions, n, None) for n in ("decoder", "transform"))
    if type(decoder) is nn.Linear and transform is not None:
        return MatrixHead(transform, decoder)
    return None


def is_plain(objective: Objective) -> bool:
    """Whether an objective needs of the logits no more than cross-entropy and divergence."""
    soft = objective.soft
    compares_answers = objective.cosine is not None and not objective.compares_states
    plain_soft = soft.operand == "logits" and not soft.entropy_kept
    return _is_plain_hard(objective) and plain_soft and not compares_answers


def _is_plain_hard(objective: Objective) -> bool:
    return objective.hard.operand == "logits" and not objective.hard.softened


def loss(
    objective: Objective,
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    labels: Tensor,
    teacher: TeacherSignal | None,
    *,
    temperature: float,
    alpha: float,
    counts: Counts,
    vocabulary: int,
    states: Tensor | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Together | None:
    """The loss of one step; None where it has to be made by `Objective.values`.

    That is where the vocabulary is small, a head does not end in one matrix, the teacher is given
    by its logits, or a term needs more than the weighted sum of cross-entropy and divergence.

    Args:
        objective: terms and conventions.
        hidden: ``[rows, width]``, the student's last hidden states, scored rows only.
        head: the student's vocabulary head.
        labels: ``[rows]``.
        teacher: what the teacher says about the same rows; None for labels alone.
        temperature: T of the soft term.
        alpha: weight of the hard term.
        counts: divisors of the whole batch.
        vocabulary: size of the vocabulary.
        states: ``[tokens, width]``, last hidden states of all real tokens, for a term that
            compares them.
        chunk_bytes: most bytes for logits of both models at once.
    """
    heads = _heads(objective, head, teacher) if vocabulary >= LARGE else None
    if heads is None:
        return None
    both, share = 1.0, 1.0
    if teacher is not None:
        weights = objective.weights(alpha)
        both = weights["hard"] + weights["soft"]
        if not both > 0:
            return None
        share = weights["hard"] / both
    own, theirs = heads
    hidden, weight, bias = _operands(own, hidden)
    teacher_hidden = teacher_weight = teacher_bias = None
    if theirs is not None:
        with torch.no_grad():
            teacher_hidden, teacher_weight, teacher_bias = _operands(theirs, teacher.stored)
    found = vocabulary_loss(
        hidden, weight, labels, teacher_hidden, teacher_weight, bias=bias,
        teacher_bias=teacher_bias, temperature=temperature, alpha=share,
        direction=objective.soft.direction,
        temperature_squared=objective.soft.temperature_squared,
        hard_reduction=objective.hard.reduction, soft_reduction=objective.soft.reduction,
        rows=counts.rows, sequences=counts.sequences, chunk_bytes=chunk_bytes,
    )  # fmt: skip
    if teacher is None:
        return Together(found.total, {"hard": found.hard})
    values = {"hard": found.hard, "soft": found.soft}
    if objective.compares_states:
        values["cosine"] = objective.hidden_cosine(states, teacher.states, counts)
    return Together(both * found.total, values)


def _heads(
    objective: Objective, head: Callable[[Tensor], Tensor], teacher: TeacherSignal | None
) -> tuple[MatrixHead, MatrixHead | None] | None:
    """Both heads taken apart, None for a teacher that there is not; None if it cannot be done."""
    own = matrix_head(head)
    if own is None or not _is_plain_hard(objective):
        return None
    if teacher is None:
        return own, None
    if not is_plain(objective):
        return None
    theirs = None if teacher.head is None else matrix_head(teacher.head)
    return None if theirs is None else (own, theirs)


def _operands(head: MatrixHead, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Rows, matrix and bias in the precision in which the head itself would compute."""
    if head.transform is not None:
        rows = head.transform(rows)
    weight, bias = head.matrix.weight, head.matrix.bias
    device = rows.device.type
    dtype = weight.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return rows.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
