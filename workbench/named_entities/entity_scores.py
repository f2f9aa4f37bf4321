"""How well named entities were found: the F1 of whole entities, and how sure it is.

Right is an entity whose first word, last word and type are right (Tjong Kim Sang & De Meulder,
CoNLL 2003, as the library seqeval counts). One that was found with a word too few is a wrong one,
and the one that was there is missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True)
class Scores:
    """How well the entities of held-out sentences were found.

    Attributes:
        f1: harmonic mean of precision and recall, 0 to 1.
        precision: share of the entities found that are right; 0 where none was found.
        recall: share of the entities there that were found.
        by_type: for each type of entity, there or found, its ``f1``, ``precision``, ``recall``
            and ``entities`` (how many are there).
        sentences: how many were judged.
        entities: how many they hold.
        steps: of the optimiser; 0 where only `evaluate` was asked for.
        seconds: that training took; where there was none, that answering took.
        interval: lower and upper end of the 95 % bootstrap interval of `f1`, over sentences.
    """

    f1: float
    precision: float
    recall: float
    by_type: dict[str, dict[str, float]]
    sentences: int
    entities: int
    steps: int
    seconds: float
    interval: tuple[float, float]


def score(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> Scores:
    """Score tags against the truth, by seqeval; steps and seconds are zero.

    Args:
        truth: the tags of each sentence, with one entity at least.
        guesses: as many, of the same lengths.

    Raises:
        ValueError: if a sentence has other than one guess a word.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    # seqeval takes lists only, and would join two sentences that are tuples.
    true, given = [list(tags) for tags in truth], [list(tags) for tags in guesses]
    counts = count(true, given)
    precision, recall, f1, entities = precision_recall_fscore_support(
        true, given, average="micro", zero_division=0
    )
    columns = precision_recall_fscore_support(true, given, average=None, zero_division=0)
    types = sorted({kind for tags in (*true, *given) for kind, _, _ in _entities(tags)})
    by_type = {
        kind: {"f1": float(f), "precision": float(p), "recall": float(r), "entities": int(n)}
        for kind, p, r, f, n in zip(types, *columns, strict=True)
    }
    return Scores(
        f1=float(f1),
        precision=float(precision),
        recall=float(recall),
        by_type=by_type,
        sentences=len(true),
        entities=int(entities),
        steps=0,
        seconds=0.0,
        interval=interval(counts),
    )


def count(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> np.ndarray:
    """Entities of each sentence that are right, that were found, and that are there.

    Args:
        truth: the tags of each sentence.
        guesses: as many, of the same lengths.

    Returns:
        ``[sentences, 3]``, integers.

    Raises:
        ValueError: if a sentence has other than one guess a word.
    """
    counts = np.zeros((len(truth), 3), dtype=np.int64)
    for i, (tags, guessed) in enumerate(zip(truth, guesses, strict=True)):
        if len(tags) != len(guessed):
            raise ValueError(f"sentence {i} has {len(tags)} words and {len(guessed)} guesses")
        there, found = _entities(tags), _entities(guessed)
        counts[i] = len(there & found), len(found), len(there)
    return counts


def _entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Type, first and last word of each entity of a sentence."""
    from seqeval.metrics.sequence_labeling import get_entities

    return set(get_entities(list(tags)))


def interval(
    counts: np.ndarray, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of F1 over sentences, lower and upper end.

    Sentences are drawn, not entities: errors in one sentence come together. F1 is
    2·right/(found + there); a resample with nothing found and nothing there has none and is left
    out.

    Args:
        counts: ``[sentences, 3]`` of `count`, with one entity at least.
        resamples: how often as many sentences are drawn.
        level: share of the resamples within.
        seed: of the drawing.
    """
    # Sentences with equal counts are exchangeable. So it is enough to draw how many of each kind
    # come, and there are some tens of kinds however many sentences: the same distribution, and
    # a thousand resamples take milliseconds.
    kinds, sizes = np.unique(counts, axis=0, return_counts=True)
    rng = np.random.default_rng([seed, 0x66316E6572])
    drawn = rng.multinomial(len(counts), sizes / len(counts), size=resamples)
    right, found, there = (drawn @ kinds).T
    some = found + there > 0
    f1 = 2 * right[some] / (found + there)[some]
    tail = 50 * (1 - level)
    low, high = np.percentile(f1, [tail, 100 - tail])
    return float(low), float(high)
