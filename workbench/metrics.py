"""What is measured about answers: perplexity, fidelity, calibration, composition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench import models
from workbench.corpora import Batch, clean_sequence
from workbench.devices.precision import exact
from workbench.foreign import dialects
from workbench.objective import Objective, Scored
from workbench.row_bootstrap import RowSums
from workbench.similarity import layer_similarity as layer_similarity
from workbench.similarity import linear_cka as linear_cka
from workbench.teacher_cache import Teacher
from workbench.worlds.proteins import AMINO_ACIDS

CALIBRATION_BINS = 10
#: How many guesses `Quality.top5` allows.
TOP = 5
#: Most logits held at once while evaluating.
EVALUATION_NUMBERS = 64 * 2**20


@dataclass(frozen=True)
class Quality:
    """How good the answers to held-out sequences are.

    Attributes:
        negative_log_likelihood: mean over scored tokens, nats.
        perplexity: its exponential.
        perplexity_per_residue: the exponential of the *sum* over the number of residues, so
            that models with different tokenizers can be compared.
        calibration_error: expected calibration error of the most probable token, 10 bins of
            equal width, Σ n_b/N·|accuracy_b − confidence_b|.
        kl_to_teacher: mean KL(teacher‖student) at T = 1 over scored tokens, nats; None
            without a teacher.
        agreement: share of positions where teacher and student put the same token first.
        tokens: scored tokens.
        top1: share of tokens that the model puts first.
        top5: share of tokens among the five that the model puts first.
        intervals: 95 % bootstrap intervals over rows, ``[low, high]`` by name, of perplexity,
            fidelity and shares; None if not asked for, or with fewer than two rows.
    """

    negative_log_likelihood: float
    perplexity: float
    perplexity_per_residue: float | None
    calibration_error: float | None
    kl_to_teacher: float | None
    agreement: float | None
    tokens: int
    top1: float | None = None
    top5: float | None = None
    intervals: dict[str, list[float]] | None = None


@torch.no_grad()
def evaluate(
    model,
    batches: Sequence[Batch],
    residues: int | None,
    *,
    teacher: Teacher | None = None,
    scores: Scored = "next-token",
    intervals: bool = False,
) -> Quality:
    """Score held-out batches with a language model.

    Args:
        model: in eval mode, causal or masked.
        batches: held-out data; with hidden tokens for a masked model.
        residues: letters that the batches stand for; None leaves out what is per residue.
        teacher: adds fidelity to it.
        scores: every next token, or the hidden ones.
        intervals: add them, see `Quality`; the batches know their rows.
    """
    backbone, head = models.split_head(model)
    device = next(model.parameters()).device
    rows_at_once = max(1, EVALUATION_NUMBERS // model.config.vocab_size)
    objective = Objective(scores=scores)
    tally = Tally(sum(len(batch.lengths) for batch in batches) if intervals else 0)
    for batch in batches:
        scored, labels = objective.rows(batch)
        members = batch.members[scored.nonzero()[:, 0].numpy()] if intervals else None
        hidden = models.last_hidden(backbone, batch.input_ids.to(device), batch.real().to(device))
        hidden, labels = hidden[scored.to(device)], labels.to(device)
        signal = teacher.signal(batch, scored) if teacher else None
        for start in range(0, len(hidden), rows_at_once):
            rows = slice(start, start + rows_at_once)
            tally.add(
                head(hidden[rows]).float(),
                labels[rows],
                signal.logits(rows).to(device) if signal else None,
                members[rows] if intervals else None,
            )
    return tally.quality(residues)


class Tally:
    """Adds up what is measured, part by part.

    Args:
        rows: of the held-out data, for intervals; 0 for none.
    """

    def __init__(self, rows: int = 0) -> None:
        self._by_row = RowSums(rows) if rows else None
        self.nll = self.kl = 0.0
        self.agreed = self.first = self.fifth = self.tokens = self.compared = 0
        self.bins = np.zeros((3, CALIBRATION_BINS))

    def add(
        self,
        logits: Tensor,
        labels: Tensor,
        teacher: Tensor | None = None,
        members: np.ndarray | None = None,
    ) -> None:
        """Count some tokens.

        Args:
            logits: ``[tokens, vocabulary]``; log-probabilities will do.
            labels: ``[tokens]``.
            teacher: ``[tokens, vocabulary]``, the teacher's logits.
            members: ``[tokens]``, the row of each token, for intervals.
        """
        log_q = torch.log_softmax(logits, dim=-1)
        own = log_q.gather(1, labels[:, None])
        self.nll -= float(exact(own).sum())
        confidence, guess = torch.softmax(logits, dim=-1).max(dim=-1)
        right = guess == labels
        self.first += int(right.sum())
        # Rank of the label, ties in its favour.
        near = (log_q > own).sum(-1) < TOP
        self.fifth += int(near.sum())
        _fill_bins(self.bins, confidence, right)
        self.tokens += len(labels)
        found = {"negative_log_likelihood": -own[:, 0], "top1": right, "top5": near}
        if teacher is not None:
            log_p = torch.log_softmax(teacher, dim=-1)
            p = torch.softmax(teacher, dim=-1)
            kl, agreed = (p * (log_p - log_q)).sum(-1), log_p.argmax(dim=-1) == guess
            self.kl += float(exact(kl).sum())
            self.agreed += int(agreed.sum())
            self.compared += len(labels)
            found |= {"kl_to_teacher": kl, "agreement": agreed}
        if self._by_row is not None:
            numbers = {name: value.cpu().double().numpy() for name, value in found.items()}
            self._by_row.add(members, **numbers)

    def quality(self, residues: int | None) -> Quality:
        """All that was counted, as means."""
        tokens = self.tokens
        return Quality(
            negative_log_likelihood=self.nll / tokens,
            perplexity=_exp(self.nll / tokens),
            perplexity_per_residue=None if residues is None else _exp(self.nll / residues),
            calibration_error=float(np.abs(self.bins[1] - self.bins[2]).sum() / tokens),
            kl_to_teacher=self.kl / tokens if self.compared else None,
            agreement=self.agreed / tokens if self.compared else None,
            tokens=tokens,
            top1=self.first / tokens,
            top5=self.fifth / tokens,
            intervals=None if self._by_row is None else self._by_row.intervals(),
        )


def oracle_quality(sequences: Sequence[str]) -> Quality:
    """The same figures for the exact truth of the protein world."""
    from workbench.worlds import proteins

    nll = 0.0
    tokens = 0
    bins = np.zeros((3, CALIBRATION_BINS))
    world = proteins.default_world()
    by_row = RowSums(len(sequences))
    answers = world.oracle_batch(sequences)
    for number, (sequence, rows) in enumerate(zip(sequences, answers, strict=True)):
        symbols = np.append(proteins.encode(sequence), proteins.END)
        own = np.log(rows[np.arange(len(rows)), symbols])
        nll -= own.sum()
        tokens += len(rows)
        by_row.add(np.full(len(rows), number), negative_log_likelihood=-own)
        _fill_bins(bins, torch.from_numpy(rows.max(1)), torch.from_numpy(rows.argmax(1) == symbols))
    residues = sum(len(s) for s in sequences)
    return Quality(
        negative_log_likelihood=nll / tokens,
        perplexity=_exp(nll / tokens),
        perplexity_per_residue=_exp(nll / residues),
        calibration_error=float(np.abs(bins[1] - bins[2]).sum() / bins[0].sum()),
        kl_to_teacher=None,
        agreement=None,
        tokens=tokens,
        intervals=by_row.intervals(),
    )


@torch.no_grad()
def generate_sequences(
    model, tokenizer, count: int, *, seed: int, longest: int = 128, batch_size: int = 100
) -> list[str]:
    """Proteins drawn from a model at T = 1, without truncating its distribution.

    Args:
        model: a causal language model in eval mode.
        tokenizer: its tokenizer.
        count: how many.
        seed: of the draws; the process-wide random state is left as it was.
        longest: most tokens in a sequence.
        batch_size: how many at a time.

    Returns:
        Cleaned sequences; fewer than ``count`` if some hold no amino acid.
    """
    from collections import Counter

    device, begin = next(model.parameters()).device, dialects.first_token(tokenizer)
    drawn: list[str] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, count, batch_size):
            prompt = torch.full((min(batch_size, count - start), 1), begin)
            tokens = model.generate(
                prompt.to(device),
                attention_mask=torch.ones_like(prompt).to(device),
                do_sample=True,
                # All said out loud: a model's own generation_config fills what is left open.
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                max_length=longest,
                pad_token_id=tokenizer.eos_token_id,
            )
            drawn += tokenizer.batch_decode(tokens[:, 1:], skip_special_tokens=True)
    return [s for s in (clean_sequence(text, Counter()) for text in drawn) if s]


@torch.no_grad()
def next_residue(model, tokenizer, prefix: str) -> dict[str, float]:
    """A model's distribution of what follows a prefix: each amino acid, or "END".

    Args:
        model: a causal language model with one token a residue.
        tokenizer: its tokenizer.
        prefix: amino acids.
    """
    begin = dialects.first_token(tokenizer)
    ids = [begin, *tokenizer(prefix, add_special_tokens=False)["input_ids"]]
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([ids], device=device)).logits[0, -1]
    probabilities = torch.softmax(logits.float(), dim=-1).tolist()
    places = tokenizer.convert_tokens_to_ids(list(AMINO_ACIDS))
    found = {a: probabilities[i] for a, i in zip(AMINO_ACIDS, places, strict=True)}
    return {**found, "END": probabilities[tokenizer.eos_token_id]}


def residue_frequencies(sequences: Sequence[str]) -> dict[str, float]:
    """Share of each of the twenty amino acids among the residues of some sequences."""
    text = "".join(sequences)
    counts = {a: text.count(a) for a in AMINO_ACIDS}
    total = max(1, sum(counts.values()))
    return {a: n / total for a, n in counts.items()}


def _fill_bins(bins: np.ndarray, confidence: Tensor, correct: Tensor) -> None:
    """Add to [count, Σ correct, Σ confidence] of each bin of confidence."""
    confidence_values = confidence.cpu().double().numpy()
    index = np.minimum((confidence_values * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins[0] += np.bincount(index, minlength=CALIBRATION_BINS)
    bins[1] += np.bincount(index, correct.cpu().double().numpy(), minlength=CALIBRATION_BINS)
    bins[2] += np.bincount(index, confidence_values, minlength=CALIBRATION_BINS)


def _exp(value: float) -> float:
    """exp, held at the largest power that float64 and JSON can carry: a student may be that bad."""
    return math.exp(min(value, 700.0))
