"""The two-term loss at a large vocabulary, straight from hidden states, a chunk of rows at a time.

At 50,257 tokens the logits of a batch of 8 × 512 positions take 0.8 GB, and the plain formula
(`dense_vocabulary_loss`) holds some seven blocks of that size: logits of both models, softened
logits, logarithms, probabilities, gradients. Here only one chunk of the student's logits and one
of the teacher's exist at a time, and no chunk is made twice: the gradient on the logits has a
closed form, so it is written over them and carried on to hidden states and head at once, in the
forward pass. What backward still has to do is to multiply by the gradient that comes in.

With p = softmax(v/T) and q = softmax(z/T) of teacher logits v and student logits z, the gradient of
each term on z, of one row, is

    cross-entropy with the label          softmax(z) − onehot(label)
    KL(p‖q), "forward"                    (q − p)/T
    KL(q‖p), "reverse"                    q·(ln q − ln p − KL(q‖p))/T
    "jensen-shannon", m = ½(p + q)        ½q·(ln q − ln m − KL(q‖m))/T

and the soft one is multiplied by T² where that is asked for.

A chunk is as large as matrix multiplication wants it (some hundred rows); what is done number by
number is done in blocks of a few rows within it, which stay in the processor's cache.

`workbench.large_vocabulary` uses it for steps, where both heads end in a matrix. Without a teacher
(``teacher_hidden`` and ``teacher_weight`` None, α = 1) it is the cross-entropy alone.

The weighted sum is one number with one gradient. Terms that are to be differentiated apart, as in
the shares of the ledger, need a call each, with α = 1 and α = 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from workbench import losses
from workbench.losses import Direction, Reduction

#: Most bytes that the logits of both models may take at once. At 50,257 tokens in float32 these
#: are 512 rows: fewer make the matrix multiplications slower, more only take memory.
CHUNK_BYTES = 200 * 2**20
#: Bytes of logits, of one model and in full precision, that are worked on number by number.
BLOCK_BYTES = {"cpu": 2 * 2**20, "cuda": 128 * 2**20}


class VocabularyLoss(NamedTuple):
    """What `vocabulary_loss` gives, scalars in nats.

    Attributes:
        total: α·hard + (1−α)·soft; differentiable.
        hard: cross-entropy with the labels, reduced, without its weight; detached.
        soft: divergence from the teacher, reduced, with T² where asked for, without its weight;
            detached. 0 without a teacher.
    """

    total: Tensor
    hard: Tensor
    soft: Tensor


def vocabulary_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    teacher_hidden: Tensor | None = None,
    teacher_weight: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    temperature: float = 1.0,
    alpha: float = 1.0,
    direction: Direction = "forward",
    temperature_squared: bool = True,
    hard_reduction: Reduction = "token-mean",
    soft_reduction: Reduction = "token-mean",
    rows: int | None = None,
    sequences: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> VocabularyLoss:
    """α·cross-entropy + (1−α)·T²·divergence from hidden states, without whole logits.

    Equal to `dense_vocabulary_loss` in value and gradient, up to rounding. Gradients flow to
    ``hidden``, ``weight`` and ``bias`` where these ask for them, never to the teacher. Softmaxes,
    values and sums over chunks are in float32 for half precision. The gradient is made in the
    forward pass and kept for backward, which may be called again where the graph is retained; a
    gradient of the gradient there is not.

    Args:
        hidden: ``[rows, width]``, the student's last hidden states, scored rows only.
        weight: ``[vocabulary, width]``, the student's head, of the same dtype.
        labels: ``[rows]``, integer.
        teacher_hidden: ``[rows, teacher width]``; None for the cross-entropy alone, with α = 1.
        teacher_weight: ``[vocabulary, teacher width]``, of the dtype of ``teacher_hidden``.
        bias: ``[vocabulary]`` of the student's head, if it has one.
        teacher_bias: likewise of the teacher's.
        temperature: T > 0 of the soft term.
        alpha: weight of the hard term, 0 to 1.
        direction: of the divergence, see `losses.soft_divergence`.
        temperature_squared: multiply the soft term by T².
        hard_reduction: see `losses.reduce`.
        soft_reduction: likewise.
        rows: scored rows of the whole batch, where this is a part of it.
        sequences: of the whole batch; needed for ``batchmean``.
        chunk_bytes: most bytes for logits of both models at once.

    Raises:
        ValueError: if a number is out of range, or shapes, dtypes or devices do not fit together.
    """
    _check(hidden, weight, labels, teacher_hidden, teacher_weight, bias, teacher_bias, chunk_bytes)
    hard_scale, soft_scale = _scales(
        len(hidden), len(weight), hard_reduction, soft_reduction, rows, sequences
    )
    losses.check_temperature(temperature)
    losses.check_alpha(alpha)
    if teacher_hidden is None and alpha != 1:
        raise ValueError(f"alpha is {alpha} and there is no teacher; expected 1, labels only")
    if direction not in get_args(Direction):
        expected = ", ".join(get_args(Direction))
        raise ValueError(f"direction is {direction!r}; expected one of {expected}")
    terms = _Terms(
        temperature=temperature,
        alpha=alpha,
        direction=direction,
        hard_scale=hard_scale,
        soft_scale=soft_scale * (temperature**2 if temperature_squared else 1.0),
    )
    # Within a Function gradients are always off, and its inputs ask for them even where the
    # caller has switched them off.
    differentiable = torch.is_grad_enabled()
    # Dtypes are as they are given: what an autocast around it did to them was done before.
    with torch.autocast(hidden.device.type, enabled=False):
        return VocabularyLoss(
            *_Analytic.apply(
                hidden,
                weight,
                bias,
                labels.long(),
                *(None if t is None else t.detach()
                  for t in (teacher_hidden, teacher_weight, teacher_bias)),
                terms,
                chunk_bytes,
                differentiable,
            )
        )  # fmt: skip


def dense_vocabulary_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    temperature: float,
    alpha: float,
    direction: Direction = "forward",
    temperature_squared: bool = True,
    hard_reduction: Reduction = "token-mean",
    soft_reduction: Reduction = "token-mean",
    rows: int | None = None,
    sequences: int | None = None,
) -> VocabularyLoss:
    """The slow twin of `vocabulary_loss`: `losses` on all logits at once, gradient by autograd.

    Arguments and result are the same.
    """
    logits = torch.nn.functional.linear(hidden, weight, bias)
    with torch.no_grad():
        teacher_logits = torch.nn.functional.linear(teacher_hidden, teacher_weight, teacher_bias)
    logits = logits.to(_full(logits.dtype))
    divide = {
        "rows": len(hidden) if rows is None else rows,
        "sequences": sequences,
        "vocabulary": len(weight),
    }
    hard_values = losses.hard_cross_entropy(logits, labels)
    hard = losses.reduce(hard_values, hard_reduction, **divide)
    soft_values = losses.soft_divergence(
        logits, teacher_logits.to(logits.dtype), temperature, direction
    )
    soft = losses.reduce(soft_values, soft_reduction, **divide)
    if temperature_squared:
        soft = soft * temperature**2
    return VocabularyLoss(alpha * hard + (1 - alpha) * soft, hard.detach(), soft.detach())


def chunk_rows(rows: int, bytes_per_row: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Rows in a chunk: as many as the bytes allow, and then as even as possible.

    Args:
        rows: that there are.
        bytes_per_row: vocabulary × (bytes of a student's logit + of a teacher's).
        chunk_bytes: the budget; one row is taken even if it does not fit.
    """
    most = max(1, min(rows, chunk_bytes // bytes_per_row))
    chunks = max(1, math.ceil(rows / most))
    return max(1, math.ceil(rows / chunks))


# ------------------------------------------------------------------ inside


class _Terms(NamedTuple):
    """Numbers of the loss: total = α·hard_scale·Σ hard + (1−α)·soft_scale·Σ divergence."""

    temperature: float
    alpha: float
    direction: Direction
    hard_scale: float
    soft_scale: float

    def on_logits(self) -> tuple[float, float, float]:
        """What the gradients of both terms on z, and on z/T, are multiplied by; and both again.

        The larger is 1 and the last number makes up for it in the end: a mean over many rows
        would else push the gradient on the logits below what half precision can hold.
        """
        hard = self.alpha * self.hard_scale
        soft = (1 - self.alpha) * self.soft_scale / self.temperature
        largest = max(hard, soft) or 1.0
        return hard / largest, soft / largest, largest


class _Analytic(torch.autograd.Function):
    """Total, hard and soft, with gradients of the total made in the forward pass."""

    @staticmethod
    def forward(
        ctx,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        teacher_hidden: Tensor | None,
        teacher_weight: Tensor | None,
        teacher_bias: Tensor | None,
        terms: _Terms,
        chunk_bytes: int,
        differentiable: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        to_hidden, to_weight, to_bias = (differentiable and n for n in ctx.needs_input_grad[:3])
        full, (vocabulary, _) = _full(hidden.dtype), weight.shape
        hard, soft = (hidden.new_zeros(len(hidden), dtype=full) for _ in range(2))
        on_hidden = torch.empty_like(hidden) if to_hidden else None
        # Sums over chunks are kept in full precision.
        on_weight = torch.zeros_like(weight, dtype=full) if to_weight else None
        on_bias = torch.zeros_like(bias, dtype=full) if to_bias else None

        taught = teacher_hidden is not None
        theirs = teacher_hidden.element_size() if taught else 0
        size = chunk_rows(
            len(hidden), vocabulary * (hidden.element_size() + theirs), chunk_bytes
        )  # fmt: skip
        logits = hidden.new_empty(size, vocabulary)
        teacher_logits = teacher_hidden.new_empty(size, vocabulary) if taught else None
        block = max(1, BLOCK_BYTES.get(hidden.device.type, 2**21) // (vocabulary * full.itemsize))
        scratch = hidden.new_empty(3 if taught else 1, min(block, size), vocabulary, dtype=full)

        for start in range(0, len(hidden), size):
            chunk = slice(start, start + size)
            h = hidden[chunk]
            z = _logits(h, weight, bias, 1.0, logits[: len(h)])
            if taught:
                v = _logits(
                    teacher_hidden[chunk],
                    teacher_weight,
                    teacher_bias,
                    1 / terms.temperature,
                    teacher_logits[: len(h)],
                )
            for first in range(0, len(h), block):
                part = slice(first, min(first + block, len(h)))
                own = slice(start + part.start, start + part.stop)
                # In full precision these are the chunk's own numbers, else a copy.
                z_part = z[part].to(full)
                given = (labels[own], terms, scratch[:, : len(z_part)])
                asked = to_hidden or to_weight or to_bias
                if taught:
                    hard[own], soft[own] = _block(z_part, v[part].to(full), *given, asked)
                else:
                    hard[own] = _labels_only(z_part, *given, asked)
                if to_bias:
                    on_bias += z_part.sum(0)
                if z.dtype != full:
                    z[part] = z_part
            # From here on z is the gradient on the logits.
            if to_hidden:
                torch.mm(z, weight, out=on_hidden[chunk])
            if to_weight:
                if weight.dtype == full:
                    on_weight.addmm_(z.t(), h)
                else:
                    on_weight += z.t() @ h

        ctx.once_more = terms.on_logits()[2]
        ctx.save_for_backward(
            on_hidden,
            None if on_weight is None else on_weight.to(weight.dtype),
            None if on_bias is None else on_bias.to(bias.dtype),
        )
        hard, soft = hard.sum() * terms.hard_scale, soft.sum() * terms.soft_scale
        ctx.mark_non_differentiable(hard, soft)
        return terms.alpha * hard + (1 - terms.alpha) * soft, hard, soft

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, on_total: Tensor, _on_hard: Tensor, _on_soft: Tensor):
        # Not in place: with a retained graph backward may come again. The chunks are gone by now,
        # so that a second matrix of the head's size does not raise the peak.
        factor = on_total * ctx.once_more
        kept = (None if g is None else (g * factor).to(g.dtype) for g in ctx.saved_tensors)
        return *kept, *(None,) * 7


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, factor: float, out: Tensor
) -> Tensor:
    """(hidden @ weightᵀ + bias) · factor, into ``out``."""
    if bias is None:
        return torch.addmm(out, hidden, weight.t(), beta=0, alpha=factor, out=out)
    return torch.addmm(bias, hidden, weight.t(), beta=factor, alpha=factor, out=out)


def _block(
    z: Tensor, v: Tensor, labels: Tensor, terms: _Terms, scratch: Tensor, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Both terms of some rows; the gradient on the student's logits is left in ``z``.

    A logarithm of a softmax is never taken of each number: ln q = z − max z + ln max q, and what
    stands beside z is one number a row.

    Args:
        z: ``[n, vocabulary]``, student logits; overwritten.
        v: ``[n, vocabulary]``, teacher logits, already divided by T; overwritten.
        labels: ``[n]``.
        terms: numbers of the loss.
        scratch: ``[3, n, vocabulary]``.
        with_gradient: False leaves rubbish in ``z``.

    Returns:
        Cross-entropy and divergence (without T²), ``[n]`` each, nats.
    """
    temperature = terms.temperature
    at_one, q, p = scratch
    labels = labels.unsqueeze(-1)
    torch.softmax(z, -1, out=at_one)
    top = z.amax(-1, keepdim=True)
    # −ln softmax(z)[label]
    hard = (top - z.gather(-1, labels)) - at_one.amax(-1, keepdim=True).log()

    if temperature == 1:
        q = at_one
    else:
        z.div_(temperature)
        torch.softmax(z, -1, out=q)
        top = z.amax(-1, keepdim=True)
    torch.softmax(v, -1, out=p)
    teacher_top = v.amax(-1, keepdim=True)
    most, teacher_most = q.amax(-1, keepdim=True), p.amax(-1, keepdim=True)

    hard_factor, soft_factor, _ = terms.on_logits()
    if terms.direction == "jensen-shannon":
        soft = _jensen_shannon(
            z.sub_(top).add_(most.log()), v.sub_(teacher_top).add_(teacher_most.log()), q, p
        )
    else:
        # ln p − ln q = v − z + apart; of two equal models both differences are exactly 0.
        apart = (top - teacher_top) + (teacher_most / most).log()
        soft = (_forward if terms.direction == "forward" else _reverse)(z, v, q, p, apart)
    if with_gradient:
        z.mul_(soft_factor).add_(at_one, alpha=hard_factor)
        z.scatter_add_(-1, labels, z.new_full((1, 1), -hard_factor).expand_as(labels))
    return hard.squeeze(-1), soft.squeeze(-1)


def _labels_only(
    z: Tensor, labels: Tensor, terms: _Terms, scratch: Tensor, with_gradient: bool
) -> Tensor:
    """Cross-entropy of some rows, ``[n]``, nats; as `_block`, without a teacher."""
    labels = labels.unsqueeze(-1)
    probability = torch.softmax(z, -1, out=scratch[0])
    top = z.amax(-1, keepdim=True)
    hard = (top - z.gather(-1, labels)) - probability.amax(-1, keepdim=True).log()
    if with_gradient:
        factor = terms.on_logits()[0]
        torch.mul(probability, factor, out=z)
        z.scatter_add_(-1, labels, z.new_full((1, 1), -factor).expand_as(labels))
    return hard.squeeze(-1)


# Each leaves the gradient on z/T in z and returns the divergence, [n, 1].


def _forward(z: Tensor, v: Tensor, q: Tensor, p: Tensor, apart: Tensor) -> Tensor:
    divergence = v.sub_(z).mul_(p).sum(-1, keepdim=True) + apart
    torch.sub(q, p, out=z)
    return divergence


def _reverse(z: Tensor, v: Tensor, q: Tensor, p: Tensor, apart: Tensor) -> Tensor:
    z.sub_(v)
    mean = torch.mul(q, z, out=p).sum(-1, keepdim=True)
    z.sub_(mean).mul_(q)
    return mean - apart


def _jensen_shannon(log_q: Tensor, log_p: Tensor, q: Tensor, p: Tensor) -> Tensor:
    log_m = torch.logaddexp(log_p, log_q).sub_(math.log(2.0))
    from_teacher = log_p.sub_(log_m).mul_(p).sum(-1, keepdim=True)
    log_q.sub_(log_m)
    from_student = torch.mul(q, log_q, out=log_m).sum(-1, keepdim=True)
    log_q.sub_(from_student).mul_(q).mul_(0.5)
    return 0.5 * (from_teacher + from_student)


def _full(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _scales(
    n: int,
    vocabulary: int,
    hard: Reduction,
    soft: Reduction,
    rows: int | None,
    sequences: int | None,
) -> tuple[float, float]:
    """What the sums of both terms are multiplied by; the divisors are those of `losses.reduce`."""
    rows = n if rows is None else rows
    if "batchmean" in (hard, soft) and sequences is None:
        raise ValueError("batchmean divides by sequences; give their number")
    for name, count in (("rows", rows), ("sequences", sequences)):
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}; a mean needs at least 1")
    one = torch.ones(1, dtype=torch.float64)
    return tuple(  # type: ignore[return-value]
        float(losses.reduce(one, r, rows=rows, sequences=sequences or 1, vocabulary=vocabulary))
        for r in (hard, soft)
    )


def _check(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    teacher_hidden: Tensor | None,
    teacher_weight: Tensor | None,
    bias: Tensor | None,
    teacher_bias: Tensor | None,
    chunk_bytes: int,
) -> None:
    if (teacher_hidden is None) != (teacher_weight is None):
        raise ValueError("of the teacher there is only one of hidden states and head; give both")
    _check_head("student", hidden, weight, bias)
    if teacher_hidden is None:
        teacher_hidden, teacher_weight = hidden, weight
    _check_head("teacher", teacher_hidden, teacher_weight, teacher_bias)
    if len(weight) != len(teacher_weight):
        raise ValueError(
            f"the student's vocabulary is {len(weight)} and the teacher's {len(teacher_weight)}; "
            "both must score the same tokens"
        )
    if not len(hidden) == len(teacher_hidden) == labels.numel() or labels.ndim != 1:
        raise ValueError(
            f"hidden states of {len(hidden)} rows of the student, {len(teacher_hidden)} of the "
            f"teacher, and labels {list(labels.shape)}; expected as many of each, labels [rows]"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}; expected integers")
    tensors = (hidden, weight, labels, teacher_hidden, teacher_weight)
    devices = sorted({str(t.device) for t in tensors})
    if len(devices) > 1:
        raise ValueError(f"tensors lie on {' and '.join(devices)}; move them to one device")
    # On an accelerator reading them would wait for it at every step.
    if len(labels) and labels.device.type == "cpu":
        low, high = (int(label) for label in labels.aminmax())
        if low < 0 or high >= len(weight):
            raise ValueError(
                f"labels run from {low} to {high}; expected 0 to {len(weight) - 1}: "
                "leave out rows that are not scored"
            )
    if chunk_bytes < 1:
        raise ValueError(f"chunk_bytes is {chunk_bytes}; expected 1 or more")


def _check_head(whose: str, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"the {whose}'s hidden states are {list(hidden.shape)} and its head "
            f"{list(weight.shape)}; expected [rows, width] and [vocabulary, width]"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"the {whose}'s bias is {list(bias.shape)}; expected [{len(weight)}], as its head has"
        )
    dtypes = {t.dtype for t in (hidden, weight, bias) if t is not None}
    if len(dtypes) > 1 or not hidden.is_floating_point():
        names = " and ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
        raise ValueError(
            f"the {whose}'s hidden states and head are {names}; expected one floating dtype"
        )
