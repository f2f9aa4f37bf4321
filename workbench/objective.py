"""The objective: terms × weights × conventions, the total, and the ledger.

Convention of the whole project: L = α·L_hard + (1−α)·L_soft; **α weighs the hard
loss**. Everything in which published implementations differ is a field of a
term: whether labels are shifted, the direction, the factor T², the reduction.

The vocabulary is where the memory goes, so rows are scored before the head is
applied, and where ``[rows, vocabulary]`` would not fit it is made a chunk at a
time and made again in the backward pass. Value and gradient are the same. A step
at a large vocabulary goes a shorter way, see `workbench.large_vocabulary`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workbench import losses
from workbench.devices.precision import exact
from workbench.errors import WorkbenchError
from workbench.lazily import torch
from workbench.losses import Direction, Reduction
from workbench.terms import AttentionTerm, HiddenTerm

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.corpora import Batch
    from workbench.inner import Seen

#: Largest [rows, vocabulary] block of logits held at once, in numbers (64 Mi × 4 B = 256 MiB).
CHUNK_NUMBERS = 64 * 2**20

#: What a cross-entropy is computed from: logits, as it must be, or their softmax, by mistake.
Operand = Literal["logits", "probabilities"]
#: What is scored: every next token of a text, each example once, at its first token, or the
#: tokens that a batch hides.
Scored = Literal["next-token", "example", "masked"]


@dataclass(frozen=True)
class HardTerm:
    """Cross-entropy with the data.

    Attributes:
        shifted: score position t against token t+1, as a causal model must. False is
            the 2024 script: position t against token t, which teaches to copy.
        reduction: see `losses.reduce`.
        operand: "probabilities" is `losses.probability_cross_entropy`.
        softened: divide the student's logits by T here too; a label needs none.
    """

    shifted: bool = True
    reduction: Reduction = "token-mean"
    operand: Operand = "logits"
    softened: bool = False


@dataclass(frozen=True)
class SoftTerm:
    """Divergence from the teacher.

    Attributes:
        direction: see `losses.soft_divergence`.
        temperature_squared: multiply by T², which keeps the size of the gradient.
        reduction: see `losses.reduce`.
        operand: "probabilities" is `losses.probability_soft_cross_entropy`.
        entropy_kept: cross-entropy with the teacher's answer instead of the divergence from
            it: the same gradient, and the teacher's entropy stays in the value.
    """

    direction: Direction = "forward"
    temperature_squared: bool = True
    reduction: Reduction = "token-mean"
    operand: Operand = "logits"
    entropy_kept: bool = False


@dataclass(frozen=True)
class CosineTerm:
    """1 − cos of the angle between what student and teacher hold, mean over vectors.

    Attributes:
        of: "hidden", the last hidden states of all real tokens (DistilBERT; it needs a student
            as wide as its teacher), or "answers", the two softened distributions.
        weight: of the term.
    """

    of: Literal["hidden", "answers"] = "hidden"
    weight: float = 1.0


@dataclass(frozen=True)
class Counts:
    """What a batch is divided by, all of the whole batch.

    Attributes:
        rows: scored.
        sequences: in it.
        tokens: real ones.
        pairs: of real tokens of the same sequence, Σ length².
    """

    rows: int
    sequences: int
    tokens: int = 0
    pairs: int = 0


@dataclass(frozen=True)
class TeacherSignal:
    """What the teacher says about the scored rows of a batch, independent of T and α.

    Either its logits (small vocabularies) or its last hidden states, from which its
    head makes the logits chunk by chunk (large ones).

    Attributes:
        stored: ``[rows, vocabulary]`` logits or ``[rows, width]`` hidden states.
        head: maps hidden states to logits; None if ``stored`` holds logits.
        states: ``[tokens, width]``, last hidden states of all real tokens, where they are kept.
        seen: what it held inside, where that is asked for.
    """

    stored: Tensor
    head: Callable[[Tensor], Tensor] | None = None
    states: Tensor | None = None
    seen: Seen | None = None

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
        weight: of the term, see `Objective.weights`.
        gradient_norm: Euclidean norm of the weighted term's gradient. With respect to the
            student's logits, over all scored rows; or, where a term does not pass through
            the logits, with respect to all of the student's parameters.
        share: this norm over the sum of the norms of all terms. For the soft term this
            is the teacher's share; one minus it is the *effective α*.
    """

    value: float
    weight: float
    gradient_norm: float
    share: float


@dataclass(frozen=True)
class Objective:
    """α·hard + (1−α)·soft, and more terms if asked for, with all conventions spelled out.

    Attributes:
        hard: cross-entropy with the label.
        soft: divergence from the teacher.
        cosine: a third term with a weight of its own; None for none.
        hidden: hidden states layer by layer, with a weight of its own; None for none.
        attention: attention layer by layer, with a weight of its own; None for none.
        averaged: the mean of the terms instead of their weighted sum; α is then without effect.
        combined: what α·hard + (1−α)·soft is multiplied by, so that published weights such as
            2 and 5 stand beside those of the other terms as they were published.
        scores: what is scored.
        given: weights that stand instead of those above, (name, weight) each: 0 takes a term out
            and leaves all others as they are.
    """

    hard: HardTerm = HardTerm()
    soft: SoftTerm = SoftTerm()
    cosine: CosineTerm | None = None
    hidden: HiddenTerm | None = None
    attention: AttentionTerm | None = None
    averaged: bool = False
    combined: float = 1.0
    scores: Scored = "next-token"
    given: tuple[tuple[str, float], ...] = ()

    def rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Which positions of a batch are scored, and against what.

        Returns:
            A mask ``[batch, length]`` and labels ``[rows]``, in the same order when flattened.
        """
        if self.scores == "masked":
            if batch.masked is None or batch.labels is None:
                raise ValueError("the batch hides no tokens; mask it first")
            return batch.masked, batch.labels
        scored, labelled = self.scored(batch.lengths, batch.input_ids.shape[1])
        return scored, batch.input_ids[labelled] if batch.labels is None else batch.labels

    def counts(self, batches: Sequence[Batch]) -> Counts:
        """Divisors of some batches that make one step together."""
        return Counts(
            rows=sum(int(self.rows(b)[0].sum()) for b in batches),
            sequences=sum(len(b.lengths) for b in batches),
            tokens=sum(b.tokens for b in batches),
            pairs=sum(int(b.lengths.square().sum()) for b in batches),
        )

    def scored(self, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Which positions count, and where their labels stand.

        Args:
            lengths: ``[batch]``, tokens in each sequence; the rest is padding.
            longest: padded length.

        Returns:
            Two masks ``[batch, longest]``: positions whose hidden state is scored, and
            positions of their labels, in the same order when flattened. Where each example
            is scored once both are its first token; the label is the batch's.
        """
        position = torch.arange(longest, device=lengths.device)
        real = position < lengths[:, None]
        if self.scores == "example":
            first = real & (position == 0)
            return first, first
        if not self.hard.shifted:
            return real, real
        return position < (lengths - 1)[:, None], real & (position > 0)

    @property
    def compares_states(self) -> bool:
        """Whether a term needs the hidden states of teacher and student."""
        return self.cosine is not None and self.cosine.of == "hidden"

    def check_widths(self, student: int, teacher: int) -> None:
        """Raise WorkbenchError if a term compares last hidden states and the widths differ."""
        if self.compares_states and student != teacher:
            raise WorkbenchError(
                f"the student's hidden states are {student} wide and the teacher's {teacher}; the "
                "cosine term needs a student as wide as its teacher: give --init with a layer map, "
                "such as 2i"
            )

    @property
    def looks_inside(self) -> bool:
        """Whether a term compares what the models hold in their layers."""
        return self.hidden is not None or self.attention is not None

    @property
    def own_terms(self) -> dict[str, float]:
        """Weights of the terms that have one of their own, in order."""
        terms = {"cosine": self.cosine, "hidden": self.hidden, "attention": self.attention}
        return {name: term.weight for name, term in terms.items() if term is not None}

    def terms(self) -> tuple[str, ...]:
        """Names of the terms, in order."""
        return ("hard", "soft", *self.own_terms)

    def weights(self, alpha: float) -> dict[str, float]:
        """Weight of each term."""
        names = self.terms()
        if self.averaged:
            return {**dict.fromkeys(names, 1 / len(names)), **dict(self.given)}
        combined = {"hard": self.combined * alpha, "soft": self.combined * (1.0 - alpha)}
        return {**combined, **self.own_terms, **dict(self.given)}

    def formula(self, temperature: float, alpha: float) -> str:
        """The loss as one line of text with today's numbers in it."""
        weights = {name: f"{value:.3g}" for name, value in self.weights(alpha).items()}
        kl = {
            "forward": "KL(teacher‖student)",
            "reverse": "KL(student‖teacher)",
            "jensen-shannon": "JS(teacher, student)",
        }[self.soft.direction]
        if self.soft.entropy_kept:
            kl = "CE(student, teacher)"
        if self.soft.operand == "probabilities":
            kl = "CE(softmax(student), teacher)"
        squared = f"{temperature**2:g}·" if self.soft.temperature_squared else ""
        mean = {
            "next-token": "mean over tokens",
            "example": "mean",
            "masked": "mean over hidden tokens",
        }[self.scores]
        over = {
            "token-mean": mean,
            "batchmean": "sum over positions, mean over sequences",
            "element-mean": "mean over tokens and vocabulary",
            "sum": "sum",
        }
        label = "x[t+1]" if self.hard.shifted else "x[t]"
        label = {"next-token": label, "example": "label", "masked": "hidden token"}[self.scores]
        student = "student" if self.hard.operand == "logits" else "softmax(student)"
        at = f" at T={temperature:g}" if self.hard.softened else ""
        line = (
            f"L = {weights['hard']}·CE({student}, {label}){at} [{over[self.hard.reduction]}]"
            f" + {weights['soft']}·{squared}{kl} at T={temperature:g} [{over[self.soft.reduction]}]"
        )
        if self.cosine is not None:
            hidden = "last hidden states)) [mean over tokens]"
            answers = f"answers at T={temperature:g})) [{mean}]"
            compared = hidden if self.compares_states else answers
            line += f" + {weights['cosine']}·(1−cos({compared}"
        if self.hidden is not None:
            line += f" + {weights['hidden']}·{_hidden_formula(self.hidden)}"
        if self.attention is not None:
            line += f" + {weights['attention']}·{_attention_formula(self.attention)}"
        return line

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
        states: Tensor | None = None,
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
            states: ``[tokens, width]``, the student's last hidden states of all real tokens,
                for a term that compares them.
            chunk_numbers: most logits to hold at once.

        Returns:
            ``{"hard": …}`` and, with a teacher, the other terms; scalars in nats.
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
                from torch.utils.checkpoint import checkpoint

                parts = checkpoint(part, hidden[rows], use_reentrant=False)
            for name, value in zip(self.terms(), parts, strict=False):
                totals[name] = totals[name] + value if name in totals else value
        if teacher is not None and self.compares_states:
            totals["cosine"] = self.hidden_cosine(states, teacher.states, counts)
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
        value, square = self.measured(
            hidden, head, labels, teacher, temperature=temperature, alpha=alpha, counts=counts,
            vocabulary=vocabulary, chunk_numbers=chunk_numbers,
        )  # fmt: skip
        return self.entries(value, {name: s**0.5 for name, s in square.items()}, alpha)

    def measured(
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
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Each term's value, and the square of its weighted gradient's norm.

        Both are sums over rows: with ``counts`` of a whole batch, those of its parts add up.
        """
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
                (gradient,) = torch.autograd.grad(term, logits, retain_graph=True)
                value[name] += float(term.detach())
                square[name] += float(exact(weights[name] * gradient).square().sum())
        return value, square

    def entries(
        self, value: dict[str, float], norms: dict[str, float], alpha: float
    ) -> dict[str, LedgerEntry]:
        """The ledger of terms with these values and these norms of their weighted gradients."""
        weights, total = self.weights(alpha), sum(norms.values())
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
        hard_values = (
            losses.hard_cross_entropy(
                logits / temperature if self.hard.softened else logits, labels
            )
            if self.hard.operand == "logits"
            else losses.probability_cross_entropy(
                logits, labels, temperature if self.hard.softened else 1.0
            )
        )
        hard = losses.reduce(hard_values, self.hard.reduction, **divide)
        if teacher is None:
            return (hard,)
        teacher_logits = teacher.logits(rows).to(logits.dtype)
        soft_values = self._soft(logits, teacher_logits, temperature)
        soft = losses.reduce(soft_values, self.soft.reduction, **divide)
        if self.soft.temperature_squared:
            soft = soft * temperature**2
        if self.cosine is None or self.compares_states:
            return hard, soft
        q = torch.softmax(logits / temperature, dim=-1)
        p = torch.softmax(teacher_logits / temperature, dim=-1)
        return hard, soft, losses.cosine_distance(q, p).sum() / counts.rows

    def _soft(self, logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        if self.soft.operand == "probabilities":
            return losses.probability_soft_cross_entropy(logits, teacher_logits, temperature)
        if self.soft.entropy_kept:
            return losses.soft_cross_entropy(logits, teacher_logits, temperature)
        return losses.soft_divergence(logits, teacher_logits, temperature, self.soft.direction)

    def hidden_cosine(
        self, states: Tensor | None, teacher_states: Tensor | None, counts: Counts
    ) -> Tensor:
        """Mean of 1 − cos between last hidden states, ``[tokens, width]`` each, a scalar."""
        if states is None or teacher_states is None:
            raise ValueError("the cosine term needs the hidden states of teacher and student")
        self.check_widths(states.shape[-1], teacher_states.shape[-1])
        distance = losses.cosine_distance(states, teacher_states.to(states.dtype))
        return distance.sum() / counts.tokens


def _hidden_formula(term: HiddenTerm) -> str:
    layers = f"layers {term.layers}{' and embeddings' if term.embeddings else ''}"
    student = {None: "student", "shared": "W·student", "each": "W_l·student"}[term.projection]
    if term.measure == "cosine":
        return f"Σ(1−cos({student}, teacher hidden states)) [{layers}, mean over tokens]"
    return f"ΣMSE({student}, teacher hidden states) [{layers}, mean over tokens and width]"


def _attention_formula(term: AttentionTerm) -> str:
    what = "attention" if term.operand == "probabilities" else "attention scores before softmax"
    if term.measure == "mse":
        return f"ΣMSE({what}) [layers {term.layers}, mean over heads, queries and keys]"
    keys = " and keys" if term.averaged_over_keys else ""
    return f"ΣKL(teacher‖student {what}) [layers {term.layers}, mean over heads, queries{keys}]"


def _full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32: a softmax over them loses too much otherwise."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _chunks(rows: int, vocabulary: int, numbers: int) -> Iterator[slice]:
    size = max(1, min(rows, numbers // vocabulary))
    # At least one, if an empty one: a few rows of a batch may hold nothing that is scored.
    for start in range(0, max(1, rows), size):
        yield slice(start, min(start + size, rows))
