"""The objective: terms × weights × conventions, the total, and the ledger.

Convention of the whole project: L = α·L_hard + (1−α)·L_soft; **α weighs the hard
loss**. Everything in which published implementations differ is a field of a
term: whether labels are shifted, the direction, the factor T², the reduction.

The vocabulary is where the memory goes, so rows are scored before the head is
applied, and where ``[rows, vocabulary]`` would not fit it is made a chunk at a
time and made again in the backward pass. Value and gradient are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from workbench import losses
from workbench.losses import Direction, Reduction

#: Largest [rows, vocabulary] block of logits held at once, in numbers (64 Mi × 4 B = 256 MiB).
CHUNK_NUMBERS = 64 * 2**20


@dataclass(frozen=True)
class HardTerm:
    """Cross-entropy with the data.

    Attributes:
        shifted: score position t against token t+1, as a causal model must. False is
            the 2024 script: position t against token t, which teaches to copy.
        reduction: see `losses.reduce`.
    """

    shifted: bool = True
    reduction: Reduction = "token-mean"


@dataclass(frozen=True)
class SoftTerm:
    """Divergence from the teacher.

    Attributes:
        direction: see `losses.soft_divergence`.
        temperature_squared: multiply by T², which keeps the size of the gradient.
        reduction: see `losses.reduce`.
    """

    direction: Direction = "forward"
    temperature_squared: bool = True
    reduction: Reduction = "token-mean"


@dataclass(frozen=True)
class Counts:
    """What a batch is divided by: scored rows, sequences (both of the whole batch)."""

    rows: int
    sequences: int


@dataclass(frozen=True)
class TeacherSignal:
    """What the teacher says about the scored rows of a batch, independent of T and α.

    Either its logits (small vocabularies) or its last hidden states, from which its
    head makes the logits chunk by chunk (large ones).

    Attributes:
        stored: ``[rows, vocabulary]`` logits or ``[rows, width]`` hidden states.
        head: maps hidden states to logits; None if ``stored`` holds logits.
    """

    stored: Tensor
    head: Callable[[Tensor], Tensor] | None = None

    def logits(self, rows: slice) -> Tensor:
        """Teacher logits of some rows, ``[n, vocabulary]``, without gradient."""
        with torch.no_grad():
            part = self.stored[rows]
            return _full_precision(part if self.head is None else self.head(part))


@dataclass(frozen=True)
class LedgerEntry:
    """What one term contributed to one step.

    Attributes:
        value: the term itself, nats (with T² and reduction, without its weight).
        weight: α or 1−α.
        gradient_norm: Euclidean norm of the weighted term's gradient with respect to
            the student's logits, over all scored rows.
        share: this norm over the sum of the norms of all terms. For the soft term this
            is the teacher's share; one minus it is the *effective α*.
    """

    value: float
    weight: float
    gradient_norm: float
    share: float


@dataclass(frozen=True)
class Objective:
    """α·hard + (1−α)·soft with all conventions spelled out."""

    hard: HardTerm = HardTerm()
    soft: SoftTerm = SoftTerm()

    def scored(self, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Which positions count, and where their labels stand.

        Args:
            lengths: ``[batch]``, tokens in each sequence; the rest is padding.
            longest: padded length.

        Returns:
            Two masks ``[batch, longest]``: positions whose hidden state is scored, and
            positions of their labels, in the same order when flattened.
        """
        position = torch.arange(longest, device=lengths.device)
        real = position < lengths[:, None]
        if not self.hard.shifted:
            return real, real
        return position < (lengths - 1)[:, None], real & (position > 0)

    def weights(self, alpha: float) -> dict[str, float]:
        """Weight of each term."""
        return {"hard": alpha, "soft": 1.0 - alpha}

    def formula(self, temperature: float, alpha: float) -> str:
        """The loss as one line of text with today's numbers in it."""
        label = "x[t+1]" if self.hard.shifted else "x[t]"
        kl = {
            "forward": "KL(teacher‖student)",
            "reverse": "KL(student‖teacher)",
            "jensen-shannon": "JS(teacher, student)",
        }[self.soft.direction]
        squared = f"{temperature**2:g}·" if self.soft.temperature_squared else ""
        over = {
            "token-mean": "mean over tokens",
            "batchmean": "sum over positions, mean over sequences",
            "element-mean": "mean over tokens and vocabulary",
            "sum": "sum",
        }
        return (
            f"L = {alpha:g}·CE(student, {label}) [{over[self.hard.reduction]}]"
            f" + {1 - alpha:g}·{squared}{kl} at T={temperature:g} [{over[self.soft.reduction]}]"
        )

    def values(
        self,
        hidden: Tensor,
        head: Callable[[Tensor], Tensor],
        labels: Tensor,
        teacher: TeacherSignal | None,
        *,
        temperature: float,
        counts: Counts,
        vocabulary: int,
        chunk_numbers: int = CHUNK_NUMBERS,
    ) -> dict[str, Tensor]:
        """Each term's value, differentiable.

        Args:
            hidden: ``[rows, width]``, the student's last hidden states, scored rows only.
            head: the student's vocabulary head.
            labels: ``[rows]``.
            teacher: what the teacher says about the same rows; None leaves the soft term out.
            temperature: T of the soft term.
            counts: divisors of the whole batch.
            vocabulary: size of the vocabulary.
            chunk_numbers: most logits to hold at once.

        Returns:
            ``{"hard": …}`` and, with a teacher, ``"soft"``; scalars in nats.
        """
        totals: dict[str, Tensor] = {}
        chunks = list(_chunks(len(hidden), vocabulary, chunk_numbers))
        for rows in chunks:

            def part(h: Tensor, rows: slice = rows) -> tuple[Tensor, ...]:
                return self._terms(
                    head(h), labels[rows], teacher, rows, temperature, counts, vocabulary
                )

            if len(chunks) == 1 or not hidden.requires_grad:
                parts = part(hidden[rows])
            else:
                parts = checkpoint(part, hidden[rows], use_reentrant=False)
            for name, value in zip(("hard", "soft"), parts, strict=False):
                totals[name] = totals[name] + value if name in totals else value
        return totals

    def total(self, values: dict[str, Tensor], alpha: float) -> Tensor:
        """Weighted sum of the terms; with no soft term, the hard one alone."""
        if "soft" not in values:
            return values["hard"]
        weights = self.weights(alpha)
        return sum(weights[name] * value for name, value in values.items())  # type: ignore[return-value]

    def ledger(
        self,
        hidden: Tensor,
        head: Callable[[Tensor], Tensor],
        labels: Tensor,
        teacher: TeacherSignal,
        *,
        temperature: float,
        alpha: float,
        counts: Counts,
        vocabulary: int,
        chunk_numbers: int = CHUNK_NUMBERS,
    ) -> dict[str, LedgerEntry]:
        """What each term contributes at this step; see `LedgerEntry`. Leaves no gradient behind."""
        weights = self.weights(alpha)
        value = dict.fromkeys(weights, 0.0)
        square = dict.fromkeys(weights, 0.0)
        for rows in _chunks(len(hidden), vocabulary, chunk_numbers):
            with torch.no_grad():
                logits = head(hidden[rows])
            logits.requires_grad_(True)
            terms = self._terms(
                logits, labels[rows], teacher, rows, temperature, counts, vocabulary
            )
            for name, term in zip(weights, terms, strict=True):
                (gradient,) = torch.autograd.grad(term, logits)
                value[name] += float(term.detach())
                square[name] += float((weights[name] * gradient).double().square().sum())
        norms = {name: s**0.5 for name, s in square.items()}
        total = sum(norms.values())
        return {
            name: LedgerEntry(
                value=value[name],
                weight=weights[name],
                gradient_norm=norms[name],
                share=norms[name] / total if total > 0 else 0.0,
            )
            for name in weights
        }

    def _terms(
        self,
        logits: Tensor,
        labels: Tensor,
        teacher: TeacherSignal | None,
        rows: slice,
        temperature: float,
        counts: Counts,
        vocabulary: int,
    ) -> tuple[Tensor, ...]:
        divide = {"rows": counts.rows, "sequences": counts.sequences, "vocabulary": vocabulary}
        logits = _full_precision(logits)
        hard = losses.reduce(
            losses.hard_cross_entropy(logits, labels), self.hard.reduction, **divide
        )
        if teacher is None:
            return (hard,)
        divergence = losses.soft_divergence(
            logits, teacher.logits(rows).to(logits.dtype), temperature, self.soft.direction
        )
        soft = losses.reduce(divergence, self.soft.reduction, **divide)
        if self.soft.temperature_squared:
            soft = soft * temperature**2
        return hard, soft


def _full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32: a softmax over them loses too much otherwise."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _chunks(rows: int, vocabulary: int, numbers: int) -> Iterator[slice]:
    size = max(1, min(rows, numbers // vocabulary))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
