"""What classifiers say about peptide–HLA pairs: answers, quality in groups, believed motifs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench import corpora, models
from workbench.classifying import classification, pairs
from workbench.classifying.classification import Scores
from workbench.classifying.pairs import PairCorpus
from workbench.corpora import Batch
from workbench.foreign import heads
from workbench.teacher_cache import Teacher
from workbench.worlds import peptides
from workbench.worlds.peptides import Record
from workbench.worlds.proteins import AMINO_ACIDS

#: Bootstrap resamples for an interval, and for that of a single allele.
RESAMPLES, ALLELE_RESAMPLES = 1000, 200
BATCH_SIZE = 256
#: Random peptides that are scored for a believed motif, and the share of them that is kept.
MOTIF_PEPTIDES, MOTIF_SHARE = 4000, 0.02
#: Groups of pairs that are judged apart, and what they are called.
GROUPS = {
    "all": "all held-out pairs",
    "random": "binders against random peptides",
    "swap": "binders against binders of another allele",
    "unseen": "alleles never seen in training",
    "unseen_swap": "unseen alleles, against binders of another allele",
}


@dataclass(frozen=True)
class Judgement:
    """One group of pairs with what somebody says about it.

    Attributes:
        records: the pairs.
        probabilities: ``[n]``, P(binder) of each.
    """

    records: list[Record]
    probabilities: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """``[n]``, 0 or 1."""
        return np.array([r.label for r in self.records], dtype=np.int64)

    def against(self, kind: str) -> Judgement:
        """All binders, and the negatives of one kind only."""
        kept = np.array([r.kind in (peptides.BINDER, kind) for r in self.records], dtype=bool)
        return Judgement(
            [r for r, keep in zip(self.records, kept, strict=True) if keep],
            self.probabilities[kept],
        )

    def score(self, resamples: int = RESAMPLES) -> Scores:
        """Scores with intervals."""
        return classification.score(self.labels, self.probabilities, resamples=resamples)

    def by_allele(self, resamples: int = ALLELE_RESAMPLES) -> dict[str, Scores]:
        """Scores of each allele's pairs."""
        return classification.score_groups(
            self.labels,
            self.probabilities,
            [r.allele for r in self.records],
            resamples=resamples,
        )


@dataclass(frozen=True)
class Fidelity:
    """How near a student's answers are to its teacher's.

    Attributes:
        kl_to_teacher: mean KL(teacher‖student) at T = 1, nats.
        agreement: share of pairs that both put into the same class.
    """

    kl_to_teacher: float
    agreement: float


@torch.no_grad()
def class_logits(model, batches: Sequence[Batch]) -> torch.Tensor:
    """A classifier's logits, ``[n, classes]`` float64, in the order of the rows.

    Args:
        model: in eval mode.
        batches: of all rows.
    """
    backbone, head = models.split_head(model)
    device = next(model.parameters()).device
    found = torch.empty((sum(len(b.lengths) for b in batches), models.answers(model)))
    for batch in batches:
        ids, real = batch.input_ids.to(device), batch.real().to(device)
        hidden = models.last_hidden(backbone, ids, real)
        first = torch.arange(ids.shape[1], device=device).expand_as(ids) == 0
        found[batch.members] = head(heads.rows(head, hidden, first, ids, real)).float().cpu()
    return found.double()


def teacher_logits(teacher: Teacher, batches: Sequence[Batch]) -> torch.Tensor:
    """What a teacher, asked live or read from a cache, says about the same; see `class_logits`."""
    found = torch.empty((sum(len(b.lengths) for b in batches), teacher.vocabulary))
    for batch in batches:
        first = batch.real() & (torch.arange(batch.input_ids.shape[1]) == 0)
        signal = teacher.signal(batch, first)
        found[batch.members] = signal.logits(slice(None)).float().cpu()
    return found.double()


def binder_probability(logits: torch.Tensor) -> np.ndarray:
    """P(binder) from logits, ``[n]`` float64."""
    return torch.softmax(logits, dim=-1)[:, 1].numpy()


def fidelity(teacher: torch.Tensor, student: torch.Tensor) -> Fidelity:
    """From the logits of both."""
    log_p, log_q = torch.log_softmax(teacher, -1), torch.log_softmax(student, -1)
    kl = (torch.softmax(teacher, -1) * (log_p - log_q)).sum(-1).mean()
    agreed = (teacher.argmax(-1) == student.argmax(-1)).double().mean()
    return Fidelity(float(kl), float(agreed))


def score_pairs(
    model, tokenizer, records: Sequence[Record], pseudo_sequences: dict[str, str]
) -> np.ndarray:
    """P(binder) of pairs, ``[n]``.

    Args:
        model: a classifier in eval mode.
        tokenizer: its tokenizer.
        records: pairs.
        pseudo_sequences: by allele.
    """
    rows = pairs.tokenise(
        records, pseudo_sequences, tokenizer, model.config.max_position_embeddings
    )
    batches = corpora.make_batches(rows, BATCH_SIZE, tokenizer.pad_token_id)
    return binder_probability(class_logits(model, batches))


def without_hla(records: Sequence[Record], seed: int = 0) -> list[Record]:
    """The same pairs, each with the allele of another pair: the HLA shown is not the one meant.

    A model that never looks at the HLA gives the same answers as before.
    """
    order = np.random.default_rng([seed, 0x686C61]).permutation(len(records))
    return [
        record._replace(allele=records[i].allele)
        for record, i in zip(records, order.tolist(), strict=True)
    ]


# ---------------------------------------------------------------------- motifs


def believed_motif(
    model,
    tokenizer,
    pseudo_sequence: str,
    *,
    count: int = MOTIF_PEPTIDES,
    share: float = MOTIF_SHARE,
    seed: int = 0,
) -> np.ndarray:
    """What a model believes an allele likes: residues of the random peptides that it scores best.

    Args:
        model: a classifier in eval mode.
        tokenizer: its tokenizer.
        pseudo_sequence: 34 residues of the allele.
        count: peptides of nine residues drawn from the background.
        share: of them that is kept.
        seed: of the drawing.

    Returns:
        ``[9, 20]``, share of each residue at each position.
    """
    from workbench.worlds import proteins

    rng = np.random.default_rng([seed, 0x6C6F676F])
    codes = rng.choice(20, size=(count, 9), p=proteins.background())
    records = [
        Record("".join(AMINO_ACIDS[k] for k in row), "it", 0, peptides.RANDOM, "")
        for row in codes.tolist()
    ]
    probabilities = score_pairs(model, tokenizer, records, {"it": pseudo_sequence})
    best = codes[np.argsort(-probabilities, kind="stable")[: max(1, round(share * count))]]
    return np.stack([(best == k).mean(axis=0) for k in range(20)], axis=1)


def anchor_agreement(believed: np.ndarray, measured: np.ndarray) -> float:
    """Mean over positions of the overlap Σ min(p, q) of two motifs, 0 to 1."""
    return float(np.minimum(believed, measured).sum(axis=1).mean())


# ---------------------------------------------------------------------- results


def report(judgement: Judgement, unseen: Judgement | None) -> dict[str, Any]:
    """The figures of one row of ``results.json``, with groups and alleles.

    Args:
        judgement: on held-out pairs.
        unseen: on pairs with alleles that were never seen, where there are any.
    """
    whole = judgement.score()
    groups = {"all": whole}
    kinds = {r.kind for r in judgement.records}
    for kind in (peptides.RANDOM, peptides.SWAP):
        if kind in kinds:
            groups[kind] = judgement.against(kind).score()
    alleles = judgement.by_allele()
    if unseen is not None:
        groups["unseen"] = unseen.score()
        groups["unseen_swap"] = unseen.against(peptides.SWAP).score()
        alleles.update(unseen.by_allele())
    bins = classification.reliability(judgement.labels, judgement.probabilities)
    return {
        **_figures(whole),
        "groups": {name: _figures(scores) for name, scores in groups.items()},
        "alleles": {name: _figures(scores) for name, scores in sorted(alleles.items())},
        "reliability": {
            "counts": bins.counts.tolist(),
            "predicted": _or_none(bins.predicted),
            "observed": _or_none(bins.observed),
        },
    }


def _figures(scores: Scores) -> dict[str, Any]:
    intervals = {
        name: None if interval is None else [interval.low, interval.high]
        for name, interval in scores.intervals.items()
    }
    return {
        "examples": scores.examples,
        "positives": scores.positives,
        **{name: getattr(scores, name) for name in classification.METRICS},
        "intervals": intervals,
    }


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]


def judge(
    model, tokenizer, corpus: PairCorpus, batches: Sequence[Batch] | None = None
) -> tuple[Judgement, Judgement | None, torch.Tensor]:
    """A model's answers on held-out pairs and on unseen alleles, and its logits on the former.

    Args:
        model: a classifier in eval mode.
        tokenizer: its tokenizer.
        corpus: pairs.
        batches: of the held-out pairs, where they exist already.
    """
    positions = model.config.max_position_embeddings
    pad = tokenizer.pad_token_id

    def ask(records: list[Record]) -> torch.Tensor:
        rows = pairs.tokenise(records, corpus.pseudo_sequences, tokenizer, positions)
        return class_logits(model, corpora.make_batches(rows, BATCH_SIZE, pad))

    logits = class_logits(model, batches) if batches else ask(corpus.validation)
    judged = Judgement(corpus.validation, binder_probability(logits))
    unseen = None
    if corpus.unseen:
        unseen = Judgement(corpus.unseen, binder_probability(ask(corpus.unseen)))
    return judged, unseen, logits
