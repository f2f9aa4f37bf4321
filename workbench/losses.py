"""Loss terms of distillation, one function each, over rows that are already scored.

Every function takes ``logits`` of shape ``[rows, vocabulary]`` and returns one
value in nats for each row, ``[rows]``. Which rows count, and what their sum is
divided by, is decided outside (`reduce`): the public implementations differ
there, by factors of several hundred, more than anywhere else.

Notation, as in Hinton, Vinyals & Dean (arXiv 1503.02531): teacher logits v,
student logits z, temperature T, p = softmax(v/T), q = softmax(z/T).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from workbench.lazily import functional, torch

if TYPE_CHECKING:
    from torch import Tensor

Direction = Literal["forward", "reverse", "jensen-shannon"]
Reduction = Literal["token-mean", "batchmean", "element-mean", "sum"]


def hard_cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the true label, −ln softmax(z)[label]; always at T = 1.

    Args:
        student_logits: ``[rows, vocabulary]``.
        labels: ``[rows]``, integer.

    Returns:
        ``[rows]``, nats. Gradient on the logits: softmax(z) − onehot(label).
    """
    return functional.cross_entropy(student_logits, labels, reduction="none")


def soft_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    direction: Direction = "forward",
) -> Tensor:
    """Divergence between teacher and student, both softened by T; without the factor T².

    ``forward`` is KL(p‖q), which spreads the student over everything the teacher
    allows; ``reverse`` is KL(q‖p), which lets it pick one mode; ``jensen-shannon``
    is ½KL(p‖m) + ½KL(q‖m) with m = ½(p + q), bounded by ln 2.

    Args:
        student_logits: ``[rows, vocabulary]``.
        teacher_logits: ``[rows, vocabulary]``.
        temperature: T > 0.
        direction: one of `Direction`.

    Returns:
        ``[rows]``, nats. For ``forward``, ∂/∂z = (q − p)/T; times T² it is T(q − p),
        which for large T tends to the difference of the centred logits over the
        vocabulary size (section 2.1 of the paper).

    Raises:
        ValueError: if the direction is unknown or T is not positive and finite.
    """
    check_temperature(temperature)
    log_q = functional.log_softmax(student_logits / temperature, dim=-1)
    log_p = functional.log_softmax(teacher_logits / temperature, dim=-1)
    # Probabilities by softmax, not by log_p.exp(): on a CPU with several threads the vectorised
    # exp was seen to be less exact in its first call of a process (a relative 2e-4 in the
    # loss), so that two runs of the same seed were not the same bytes.
    p = functional.softmax(teacher_logits / temperature, dim=-1)
    if direction == "forward":
        return _kl(p, log_p, log_q)
    q = functional.softmax(student_logits / temperature, dim=-1)
    if direction == "reverse":
        return _kl(q, log_q, log_p)
    if direction == "jensen-shannon":
        log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
        return 0.5 * (_kl(p, log_p, log_m) + _kl(q, log_q, log_m))
    expected = ", ".join(get_args(Direction))
    raise ValueError(f"direction is {direction!r}; expected one of {expected}")


def soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> Tensor:
    """−Σ p ln q: the forward KL plus the teacher's entropy, ``[rows]``, nats.

    Its gradient equals that of the forward KL; its floor is H(p), not zero, so it
    looks as if it did not fall.
    """
    check_temperature(temperature)
    log_q = functional.log_softmax(student_logits / temperature, dim=-1)
    return -(functional.softmax(teacher_logits / temperature, dim=-1) * log_q).sum(-1)


def probability_cross_entropy(student_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy with the label as it comes out where softmax was applied before.

    ``CrossEntropyLoss`` applies a softmax itself. Given q = softmax(z/T) instead of logits it
    computes −ln softmax(q)[label], and as q lies in [0, 1] so does every difference of two of
    its entries: with two classes the result lies in [ln(1 + 1/e), ln(1 + e)] = [0.3133, 1.3133]
    whatever the logits are.

    Args:
        student_logits: ``[rows, vocabulary]``.
        labels: ``[rows]``, integer.
        temperature: T > 0 of the first softmax.

    Returns:
        ``[rows]``, nats.
    """
    check_temperature(temperature)
    q = functional.softmax(student_logits / temperature, dim=-1)
    return functional.cross_entropy(q, labels, reduction="none")


def probability_soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> Tensor:
    """−Σ p ln softmax(q): `soft_cross_entropy` where softmax was applied twice to the student.

    With two classes it is smallest not at q = p but at q* = clip((1 + ln(p/(1−p)))/2, 0, 1):
    softmax(q*) = p needs q* − (1 − q*) = ln(p/(1−p)). From p = 0.731 on q* is 1.

    Returns:
        ``[rows]``, nats.
    """
    check_temperature(temperature)
    q = functional.softmax(student_logits / temperature, dim=-1)
    p = functional.softmax(teacher_logits / temperature, dim=-1)
    return -(p * functional.log_softmax(q, dim=-1)).sum(-1)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cos of the angle between two vectors, as ``CosineEmbeddingLoss`` with target 1.

    Args:
        student: ``[rows, width]``.
        teacher: ``[rows, width]``.

    Returns:
        ``[rows]``, 0 (same direction) to 2.
    """
    return 1 - functional.cosine_similarity(student, teacher, dim=-1)


#: Added to both distributions of attention, as the script of CompactBioBERT does: a padded key
#: has probability zero in both.
ATTENTION_FLOOR = 1e-12


def attention_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher‖student) of attention, of each query's distribution over the keys.

    Args:
        student: ``[..., keys]``, probabilities.
        teacher: likewise.

    Returns:
        ``[...]``, nats.
    """
    log_a = (student + ATTENTION_FLOOR).log()
    log_b = (teacher + ATTENTION_FLOOR).log()
    return _kl(teacher, log_b, log_a)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of softmax(logits/T), ``[rows]``, nats."""
    check_temperature(temperature)
    log_p = functional.log_softmax(logits / temperature, dim=-1)
    return -(functional.softmax(logits / temperature, dim=-1) * log_p).sum(-1)


def reduce(
    values: Tensor, reduction: Reduction, *, rows: int, sequences: int, vocabulary: int
) -> Tensor:
    """One number from a value for each row.

    The divisors are those of the *whole* batch and are passed in, so that parts of
    a batch (chunks, accumulated micro-batches, processes) add up to the same number
    as the batch in one piece.

    Args:
        values: ``[n]``, the rows at hand, nats.
        reduction: ``token-mean`` divides by the scored rows; ``batchmean`` by the
            sequences, as torch's ``KLDivLoss("batchmean")`` does on
            ``[batch, length, vocabulary]``, so the sum over positions stays in;
            ``element-mean`` by rows × vocabulary, as ``KLDivLoss("mean")`` does;
            ``sum`` by nothing.
        rows: scored rows of the whole batch.
        sequences: sequences of the whole batch.
        vocabulary: size of the vocabulary.
    """
    divisors = {
        "token-mean": rows,
        "batchmean": sequences,
        "element-mean": rows * vocabulary,
        "sum": 1,
    }
    if reduction not in divisors:
        raise ValueError(f"reduction is {reduction!r}; expected one of {', '.join(divisors)}")
    return values.sum() / divisors[reduction]


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless ``temperature`` is a positive finite number."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; expected a finite number above 0")


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless ``alpha`` lies in [0, 1]."""
    if not (math.isfinite(alpha) and 0 <= alpha <= 1):
        raise ValueError(
            f"alpha is {alpha}; expected a number from 0 (teacher only) to 1 (labels only)"
        )


def _kl(a: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
    return (a * (log_a - log_b)).sum(-1)
