"""What oracle, teacher and students answer at the same positions of the same proteins.

A course about distillation looks at answers again and again: soften them, compare
them, ask how sure they are. They are computed once, here, for models that have one
token a residue; everything else is arithmetic on ``[positions, 21]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench import losses
from workbench.errors import WorkbenchError
from workbench.worlds import proteins
from workbench.worlds.proteins import AMINO_ACIDS, SYMBOLS

#: Logarithm that stands for a probability of zero, so that it can be softened like any other.
IMPOSSIBLE = -80.0


@dataclass(frozen=True)
class Answers:
    """Answers at the same positions; symbols in the order of `proteins.SYMBOLS`.

    Attributes:
        labels: ``[positions]``, what really came next.
        oracle: ``[positions, 21]``, exact log-probabilities, float64; what cannot happen
            (no protein ends before it begins) stands at `IMPOSSIBLE`.
        logits: of each model by its name, ``[positions, 21]``, float64.
    """

    labels: Tensor
    oracle: Tensor
    logits: Mapping[str, Tensor]


def collect(sequences: Sequence[str], **models: tuple) -> Answers:
    """Ask the oracle and some models about every position of some proteins.

    Args:
        sequences: proteins, each at least one residue.
        models: by name, a model with its tokenizer, such as
            ``teacher=models.load_causal_lm("protgpt2")``; what follows them is ignored.

    Raises:
        WorkbenchError: if a model has not one token a residue.
    """
    world = proteins.default_world()
    rows = world.oracle_batch(list(sequences))
    labels = [np.append(proteins.encode(s), proteins.END) for s in sequences]
    return Answers(
        labels=torch.from_numpy(np.concatenate(labels)).long(),
        oracle=torch.from_numpy(np.log(np.concatenate(rows).clip(np.exp(IMPOSSIBLE)))),
        logits={
            name: torch.cat([residue_logits(model, tokenizer, s) for s in sequences])
            for name, (model, tokenizer, *_) in models.items()
        },
    )


@torch.no_grad()
def residue_logits(model, tokenizer, sequence: str) -> Tensor:
    """A model's logits before each residue and before the end, ``[length + 1, 21]``, float64.

    Args:
        model: a causal language model with one token a residue, in eval mode.
        tokenizer: its tokenizer.
        sequence: amino acids.

    Raises:
        WorkbenchError: if the tokenizer has another vocabulary.
    """
    order = [*tokenizer.convert_tokens_to_ids(list(AMINO_ACIDS)), tokenizer.eos_token_id]
    if len(set(order)) < len(SYMBOLS):
        raise WorkbenchError(
            "the tokenizer has no token of its own for each amino acid; expected a model with one "
            "token a residue, such as those that `workbench distill` makes from protgpt2"
        )
    ids = [tokenizer.eos_token_id, *tokenizer(sequence, add_special_tokens=False)["input_ids"]]
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([ids], device=device)).logits[0]
    return logits[:, order].cpu().double()


# ---------------------------------------------------------------------- how sure, how right


@dataclass(frozen=True)
class Calibration:
    """How sure a model says it is, against how often it is right.

    Attributes:
        confidence: of each bin that is not empty, mean probability of the first choice.
        accuracy: of each, how often the first choice was right.
        count: of each, positions.
        error: Σ count/N·|accuracy − confidence|, the expected calibration error
            (Guo et al. 2017, arXiv 1706.04599).
        negative_log_likelihood: mean, nats.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]
    error: float
    negative_log_likelihood: float


def calibration(logits: Tensor, labels: Tensor, temperature: float = 1.0, bins: int = 10):
    """`Calibration` of softmax(logits/T).

    Args:
        logits: ``[positions, symbols]``; log-probabilities will do.
        labels: ``[positions]``.
        temperature: T.
        bins: of equal width.
    """
    losses.check_temperature(temperature)
    log_p = torch.log_softmax(logits.double() / temperature, dim=-1)
    highest, first = log_p.exp().max(-1)
    sure, right = highest.numpy(), (first == labels).double().numpy()
    index = np.minimum((sure * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    full = count > 0
    confidence = np.bincount(index, sure, minlength=bins)[full] / count[full]
    accuracy = np.bincount(index, right, minlength=bins)[full] / count[full]
    return Calibration(
        confidence=tuple(confidence.tolist()),
        accuracy=tuple(accuracy.tolist()),
        count=tuple(count[full].tolist()),
        error=float((count[full] * np.abs(accuracy - confidence)).sum() / count.sum()),
        negative_log_likelihood=float(-log_p.gather(1, labels[:, None]).mean()),
    )


def honest_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T that gives softmax(logits/T) its lowest negative log-likelihood.

    Above 1 the model is too sure, below 1 not sure enough ("temperature scaling",
    Guo et al. 2017). The likelihood is concave in 1/T, so there is one answer.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        log_p = torch.log_softmax(logits.double() / np.exp(log_temperature), dim=-1)
        return float(-log_p.gather(1, labels[:, None]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 4.0), method="bounded").x))


# ---------------------------------------------------------------------- dark knowledge


def substitutions(log_probabilities: Tensor, favourites: Tensor) -> np.ndarray:
    """How the probability that the favourite does not get is shared among the others.

    Args:
        log_probabilities: ``[positions, 21]``, of anybody; logits will do.
        favourites: ``[positions]``, the residue that each position asks for (its own
            first choice, or the oracle's); −1 leaves a position out.

    Returns:
        ``[20, 20]``: row a, column b: mean of P(b)/(1 − P(a)) over the positions whose
        favourite is a; the diagonal and rows without a position are NaN.
    """
    p = torch.softmax(log_probabilities.double(), dim=-1).numpy()[:, :20]
    table = np.full((20, 20), np.nan)
    for a in range(20):
        rows = p[(favourites == a).numpy()]
        if len(rows):
            others = np.delete(np.arange(20), a)
            table[a, others] = (rows[:, others] / rows[:, others].sum(1, keepdims=True)).mean(0)
    return table


def blosum_agreement(table: np.ndarray) -> float:
    """Rank correlation of a substitution table with BLOSUM62, over all pairs that both have.

    Columns are first divided by the background, because BLOSUM scores are log-odds.
    """
    from Bio.Align import substitution_matrices
    from scipy.stats import spearmanr

    blosum = substitution_matrices.load("BLOSUM62")
    scores = np.array([[blosum[a, b] for b in AMINO_ACIDS] for a in AMINO_ACIDS])
    odds = table / proteins.background()[None, :]
    known = np.isfinite(odds)
    return float(spearmanr(odds[known], scores[known]).statistic)


def favourites(log_probabilities: Tensor, least: float = 0.5) -> Tensor:
    """The first choice at each position, −1 where it is below ``least`` or the end."""
    highest, first = torch.softmax(log_probabilities.double(), dim=-1).max(-1)
    return torch.where((highest >= least) & (first < 20), first, -1)


# ---------------------------------------------------------------------- gradients


def soft_gradient(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, *, squared: bool = True
) -> Tensor:
    """∂/∂z of mean KL(p‖q), times T² if ``squared``, times the number of rows, by autograd.

    Args:
        student_logits: ``[rows, vocabulary]``.
        teacher_logits: ``[rows, vocabulary]``.
        temperature: T.
        squared: with the factor T².

    Returns:
        ``[rows, vocabulary]``: each row's own gradient.
    """
    z = student_logits.detach().double().requires_grad_(True)
    value = losses.soft_divergence(z, teacher_logits.double(), temperature).sum()
    (gradient,) = torch.autograd.grad(value, z)
    return gradient * temperature**2 if squared else gradient


def matching_limit(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The limit of `soft_gradient` (squared) for T → ∞: the difference of the centred logits
    over the size of the vocabulary (Hinton et al. 2015, section 2.1), ``[rows, vocabulary]``.
    """  # fmt: skip
    difference = student_logits.double() - teacher_logits.double()
    return (difference - difference.mean(-1, keepdim=True)) / difference.shape[-1]
