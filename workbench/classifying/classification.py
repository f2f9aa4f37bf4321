"""How good the answers to a yes-or-no question are: is this pair of peptide and HLA a binder?

A model gives each example a probability of the positive class. Accuracy, F1 and Matthews
correlation judge the decision it leads to (positive from a threshold on), the area under the
ROC curve (AUC) judges the order, likelihood and calibration judge the probability itself. AUC
is computed from probabilities, never from decisions: on decisions it is only the balanced
accuracy, and inputs that are decisions are refused.

Point values of accuracy, F1, Matthews correlation and AUC are scikit-learn's. The bootstrap needs
each of them some thousand times; it computes them from how often each example was drawn, for
many resamples at once, and the tests hold them equal to scikit-learn's weighted ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.errors import UsageError

CALIBRATION_BINS = 10
#: What `Scores` measures and the bootstrap gives an interval for.
METRICS = (
    "accuracy",
    "f1",
    "matthews",
    "auc",
    "negative_log_likelihood",
    "calibration_error",
)
#: Most numbers of resampled examples held at once, 8 bytes each.
_CHUNK = 2**20


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval, lower and upper end."""

    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """How good the answers to a set of examples are.

    Attributes:
        examples: how many.
        positives: how many have label 1.
        threshold: probability from which an example is called positive.
        accuracy: share of right decisions.
        f1: harmonic mean of precision and recall of the positive class; None where no example
            is positive.
        matthews: correlation of labels and decisions, −1 to 1, 0 where all decisions are the
            same; None where all labels are.
        auc: P(a positive is put above a negative), ties count one half; None where one class
            is missing.
        negative_log_likelihood: mean of −ln P(label), nats.
        calibration_error: expected calibration error of the positive class, see `reliability`.
        intervals: for each of `METRICS` its bootstrap interval, or None where the metric is;
            empty if no resamples were asked for.
    """

    examples: int
    positives: int
    threshold: float
    accuracy: float
    f1: float | None
    matthews: float | None
    auc: float | None
    negative_log_likelihood: float
    calibration_error: float
    intervals: dict[str, Interval | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over the predicted probability; one entry of each array a bin.

    Attributes:
        edges: ``[bins + 1]``, from 0 to 1; a bin holds its lower edge, the last one both.
        counts: ``[bins]``, examples in the bin.
        predicted: ``[bins]``, their mean probability; NaN in an empty bin.
        observed: ``[bins]``, their share of positives; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray


# ---------------------------------------------------------------------- scores


def score(
    labels: Sequence[int] | np.ndarray,
    probabilities: Sequence[float] | np.ndarray,
    *,
    threshold: float = 0.5,
    resamples: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> Scores:
    """Score probabilities against labels.

    Args:
        labels: ``[n]``, 0 or 1.
        probabilities: ``[n]``, P(label is 1), as floats. Where the truth was given probability
            zero it counts as the resolution of their type (1.2e-7 for float32), as in
            scikit-learn, so that rounding in a softmax does not make a likelihood infinite.
        threshold: probability from which an example is called positive.
        resamples: bootstrap resamples for `Scores.intervals`; 0 for none.
        level: of the intervals, 0 to 1.
        seed: of the bootstrap's generator.

    Raises:
        UsageError: if lengths differ, there are no examples, a label is not 0 or 1, a
            probability is not a number from 0 to 1, or they are decisions.
    """
    truth, given = _checked(labels, probabilities)
    _check_options(threshold, resamples, level, seed)
    scores = _score(truth, given, threshold)
    if not resamples:
        return scores
    rng = np.random.default_rng([seed, 0x626F6F74])
    return _with_intervals(scores, truth, given, resamples, level, rng)


def score_groups(
    labels: Sequence[int] | np.ndarray,
    probabilities: Sequence[float] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    *,
    threshold: float = 0.5,
    resamples: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Scores]:
    """`score` of each group, such as an allele, by its name in alphabetical order.

    A group's interval depends on its own examples only, not on which other groups there are.

    Args:
        labels: ``[n]``, 0 or 1.
        probabilities: ``[n]``, P(label is 1).
        groups: ``[n]``, the name of each example's group.
        threshold: as in `score`.
        resamples: as in `score`.
        level: as in `score`.
        seed: as in `score`.

    Raises:
        UsageError: as `score`.
    """
    truth, given = _checked(labels, probabilities)
    _check_options(threshold, resamples, level, seed)
    names = np.asarray(groups, dtype=str)
    if names.shape != truth.shape:
        raise UsageError(
            f"{names.size} groups for {truth.size} examples; expected one name an example"
        )
    results = {}
    for name in np.unique(names).tolist():
        rows = names == name
        scores = _score(truth[rows], given[rows], threshold)
        if resamples:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            scores = _with_intervals(scores, truth[rows], given[rows], resamples, level, rng)
        results[name] = scores
    return results


def _score(truth: np.ndarray, given: np.ndarray, threshold: float) -> Scores:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

    decided = (given >= threshold).astype(np.int64)
    positives = int(truth.sum())
    both = 0 < positives < len(truth)
    return Scores(
        examples=len(truth),
        positives=positives,
        threshold=threshold,
        accuracy=float(accuracy_score(truth, decided)),
        f1=float(f1_score(truth, decided, zero_division=0)) if positives else None,
        matthews=float(matthews_corrcoef(truth, decided)) if both else None,
        auc=float(roc_auc_score(truth, given)) if both else None,
        negative_log_likelihood=float(_losses(truth, given).mean()),
        calibration_error=_calibration_error(truth, given),
    )


def ratio(
    labels: Sequence[int] | np.ndarray,
    probabilities: Sequence[float] | np.ndarray,
    reference: Sequence[float] | np.ndarray,
    metric: str,
    *,
    threshold: float = 0.5,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, Interval]:
    """A metric of one model over that of another, and a *paired* bootstrap interval.

    Both are judged on the same drawing of examples each time, so that what is easy or hard for
    both does not blur their ratio.

    Args:
        labels: ``[n]``, 0 or 1.
        probabilities: ``[n]``, of the model above the line.
        reference: ``[n]``, of the model below it.
        metric: one of `METRICS`.
        threshold: as in `score`.
        resamples: at least one.
        level: as in `score`.
        seed: as in `score`.

    Raises:
        UsageError: as `score`; if the metric is unknown, undefined here, or the reference's is 0.
    """
    if metric not in METRICS or resamples < 1:
        raise UsageError(
            f"the metric is {metric!r} with {resamples} resamples; expected one of "
            f"{', '.join(METRICS)} and at least one resample"
        )
    _check_options(threshold, resamples, level, seed)
    values, points = [], []
    for given in (probabilities, reference):
        truth, checked = _checked(labels, given)
        points.append(getattr(_score(truth, checked, threshold), metric))
        # The same generator twice: the same drawings for both.
        rng = np.random.default_rng([seed, 0x70616972])
        order = np.argsort(np.argsort(checked, kind="stable"), kind="stable")
        values.append(_bootstrap(truth, checked, threshold, resamples, rng, order)[metric])
    if points[0] is None or not points[1]:
        raise UsageError(f"the ratio of {metric} is undefined: {points[0]} over {points[1]}")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = values[0] / values[1]
    ratios = ratios[np.isfinite(ratios)]
    tail = 50 * (1 - level)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return points[0] / points[1], Interval(float(low), float(high))


def roc_auc(
    labels: Sequence[int] | np.ndarray, probabilities: Sequence[float] | np.ndarray
) -> float:
    """Area under the ROC curve, from probabilities.

    Raises:
        UsageError: as `score`, and if one class is missing.
    """
    truth, given = _checked(labels, probabilities)
    auc = _score(truth, given, 0.5).auc
    if auc is None:
        raise UsageError(
            f"all {len(truth)} labels are {truth[0]}; an AUC needs examples of both classes"
        )
    return auc


def best_f1(
    labels: Sequence[int] | np.ndarray, probabilities: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    """The threshold with the highest F1 on these examples, and that F1.

    Chosen and measured on the same examples it flatters a little: choose on validation data.
    Of equal F1 the highest threshold is given.

    Raises:
        UsageError: as `score`, and if no example is positive.
    """
    from sklearn.metrics import precision_recall_curve

    truth, given = _checked(labels, probabilities)
    if not truth.any():
        raise UsageError(f"all {len(truth)} labels are 0; an F1 needs positive examples")
    precision, recall, thresholds = precision_recall_curve(truth, given)
    precision, recall = precision[:-1], recall[:-1]  # the last has no threshold
    total = precision + recall
    f1 = 2 * precision * recall / np.where(total > 0, total, 1)
    best = len(f1) - 1 - int(f1[::-1].argmax())
    return float(thresholds[best]), float(f1[best])


def reliability(
    labels: Sequence[int] | np.ndarray,
    probabilities: Sequence[float] | np.ndarray,
    bins: int = CALIBRATION_BINS,
) -> Reliability:
    """How often what was called p likely was so, for a reliability diagram.

    The expected calibration error is Σ n_b/N·|observed_b − predicted_b| over the bins of P(label
    is 1), as in Naeini, Cooper & Hauskrecht (AAAI 2015); not that of the likelier class, which
    for two classes would leave half of the bins empty.

    Raises:
        UsageError: as `score`, and if there is no bin.
    """
    truth, given = _checked(labels, probabilities)
    if bins < 1:
        raise UsageError(f"bins is {bins}; expected at least one")
    place = _bins(given, bins)
    counts = np.bincount(place, minlength=bins)
    some = np.where(counts > 0, counts, 1)
    empty = np.where(counts > 0, 0.0, np.nan)
    return Reliability(
        edges=np.linspace(0, 1, bins + 1),
        counts=counts,
        predicted=np.bincount(place, weights=given, minlength=bins) / some + empty,
        observed=np.bincount(place, weights=truth, minlength=bins) / some + empty,
    )


# ---------------------------------------------------------------------- bootstrap


def _with_intervals(
    scores: Scores,
    truth: np.ndarray,
    given: np.ndarray,
    resamples: int,
    level: float,
    rng: np.random.Generator,
) -> Scores:
    values = _bootstrap(truth, given, scores.threshold, resamples, rng)
    tail = 50 * (1 - level)
    intervals: dict[str, Interval | None] = {}
    for name in METRICS:
        # A resample of a small group may lack a class; the interval is over those that do not.
        defined = values[name][np.isfinite(values[name])]
        if getattr(scores, name) is None or not defined.size:
            intervals[name] = None
        else:
            low, high = np.percentile(defined, [tail, 100 - tail])
            intervals[name] = Interval(float(low), float(high))
    known = {name: getattr(scores, name) for name in scores.__dataclass_fields__}
    return Scores(**{**known, "intervals": intervals})


def _bootstrap(
    truth: np.ndarray,
    given: np.ndarray,
    threshold: float,
    resamples: int,
    rng: np.random.Generator,
    places: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Every metric on ``resamples`` drawings of the examples with replacement, NaN if undefined.

    With ``places`` ``[n]``, where each example stands in order of probability, the examples
    drawn do not depend on the probabilities.
    """
    # Sorted once: every resample is then in order of probability too.
    order = np.argsort(given, kind="stable")
    truth, given = truth[order], given[order]
    n = len(truth)
    rows = max(1, _CHUNK // n)
    parts = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(n, size=(count, n))
        if places is not None:
            drawn = places[drawn]
        drawn += n * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        parts.append(_weighted(truth, given, threshold, weights.astype(np.float64)))
    return {name: np.concatenate([p[name] for p in parts]) for name in METRICS}


def _weighted(
    truth: np.ndarray, given: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric under each row of ``weights`` ``[resamples, n]``; ``given`` ascends."""
    decided = given >= threshold
    total = weights.sum(axis=1)
    positive = weights @ truth
    called = weights @ decided
    hits = weights @ (truth * decided)
    false_alarms, misses = called - hits, positive - hits
    rejections = total - hits - false_alarms - misses
    sums = (called, positive, total - called, total - positive)
    product = np.prod([np.sqrt(s) for s in sums], axis=0)
    covariance = hits * rejections - false_alarms * misses
    both = (positive > 0) & (positive < total)
    # All decisions the same: scikit-learn's value is 0.
    matthews = np.where(product > 0, covariance / np.where(product > 0, product, 1), 0.0)
    gaps = _bin_sums(given, truth - given)
    return {
        "accuracy": (hits + rejections) / total,
        "f1": np.where(positive > 0, 2 * hits / np.maximum(called + positive, 1), np.nan),
        "matthews": np.where(both, matthews, np.nan),
        "auc": np.where(both, weighted_auc(truth, given, weights), np.nan),
        "negative_log_likelihood": weights @ _losses(truth, given) / total,
        "calibration_error": np.abs(weights @ gaps).sum(axis=1) / total,
    }


def weighted_auc(truth: np.ndarray, given: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(positive above negative) + ½·P(equal) under each row of weights; ``given`` ascends."""
    starts = np.flatnonzero(np.append(True, np.diff(given) > 0))
    positive = np.add.reduceat(weights * truth, starts, axis=1)
    negative = np.add.reduceat(weights * (1 - truth), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    won = (positive * (below + negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return won / np.where(pairs > 0, pairs, 1)


# ---------------------------------------------------------------------- parts


def _bins(given: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((given * bins).astype(np.intp), bins - 1)


def _bin_sums(given: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``[n, bins]``: each value in the column of its bin, so that a product sums each bin."""
    spread = np.zeros((len(given), CALIBRATION_BINS))
    spread[np.arange(len(given)), _bins(given, CALIBRATION_BINS)] = values
    return spread


def _calibration_error(truth: np.ndarray, given: np.ndarray) -> float:
    gaps = np.bincount(_bins(given, CALIBRATION_BINS), weights=truth - given)
    return float(np.abs(gaps).sum() / len(truth))


def _losses(truth: np.ndarray, given: np.ndarray) -> np.ndarray:
    """−ln P(label) of each example, ``[n]``, nats, clipped at the resolution of the type."""
    smallest = np.finfo(given.dtype).eps
    likely = np.where(truth == 1, given, 1 - given)
    return -np.log(np.clip(likely.astype(np.float64), smallest, 1.0))


def _checked(
    labels: Sequence[int] | np.ndarray, probabilities: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    truth, given = np.asarray(labels), np.asarray(probabilities)
    if truth.ndim != 1 or truth.shape != given.shape:
        raise UsageError(
            f"labels have the shape {list(truth.shape)} and probabilities {list(given.shape)}; "
            "expected [n] for both"
        )
    if not truth.size:
        raise UsageError("there are no examples to score; expected at least one")
    strange = ~np.isin(truth, (0, 1))
    if strange.any():
        at = int(strange.argmax())
        raise UsageError(f"label {at} is {truth[at]}; expected 0 or 1")
    if not np.issubdtype(given.dtype, np.floating):
        raise UsageError(
            f"the probabilities are of the type {given.dtype}; expected floating-point "
            "probabilities of the positive class, not decisions"
        )
    wrong = ~((given >= 0) & (given <= 1))  # also where it is not a number
    if wrong.any():
        at = int(wrong.argmax())
        raise UsageError(
            f"probability {at} is {given[at]}; expected a number from 0 to 1 (take the softmax "
            "of logits first)"
        )
    if given.max() == 1 and np.isin(given, (0, 1)).all() and given.min() == 0:
        raise UsageError(
            "all probabilities are exactly 0 or 1, as decisions are; expected what the model "
            "gave before a threshold or argmax"
        )
    return truth.astype(np.int64), given


def _check_options(threshold: float, resamples: int, level: float, seed: int) -> None:
    if not 0 <= threshold <= 1:
        raise UsageError(f"the threshold is {threshold}; expected a number from 0 to 1")
    if resamples < 0 or seed < 0:
        raise UsageError(
            f"resamples is {resamples} and seed {seed}; expected numbers that are not negative"
        )
    if not 0 < level < 1:
        raise UsageError(f"the level of the intervals is {level}; expected between 0 and 1")
