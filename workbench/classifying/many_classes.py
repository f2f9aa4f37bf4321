"""How good the answers of a classifier with two or more classes are.

With two classes these are the figures of `classification`: F1, AUC and calibration of the second
class. With more, F1 is the mean of the F1 of each class and AUC the mean of each class against all
others (*macro*), over the classes that the examples have; the Matthews correlation is Gorodkin's
for any number of classes (Computational Biology and Chemistry 28, 2004), and calibration is that
of the likeliest class, as of a language model's likeliest token (Guo et al., ICML 2017).

Point values are scikit-learn's. The bootstrap computes them from how often each example was drawn,
as in `classification`; the tests hold it equal to scikit-learn's weighted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.classifying import classification
from workbench.classifying.classification import CALIBRATION_BINS, METRICS, Interval
from workbench.errors import UsageError

#: Most numbers of resampled examples held at once, 8 bytes each.
_CHUNK = 2**20


@dataclass(frozen=True)
class ClassScores:
    """How good the answers to a set of examples are.

    Attributes:
        examples: how many.
        accuracy: share of right decisions; the likeliest class is decided for.
        f1: of the second of two classes, macro of more; None where two classes have no positive.
        matthews: correlation of labels and decisions; None where all labels are the same.
        auc: of the second of two classes, macro one against all others of more; None where all
            labels are the same.
        negative_log_likelihood: mean of −ln P(label), nats.
        calibration_error: of the second of two classes, of the likeliest of more.
        intervals: for each of `classification.METRICS` its 95 % bootstrap interval, or None where
            the metric is; empty if no resamples were asked for.
    """

    examples: int
    accuracy: float
    f1: float | None
    matthews: float | None
    auc: float | None
    negative_log_likelihood: float
    calibration_error: float
    intervals: dict[str, Interval | None] = field(default_factory=dict)


def score(labels: np.ndarray, probabilities: np.ndarray, *, resamples: int = 0) -> ClassScores:
    """Score probabilities against labels.

    Args:
        labels: ``[n]``, numbers of classes from 0.
        probabilities: ``[n, classes]``, rows that sum to 1.
        resamples: bootstrap resamples for intervals; 0 for none.

    Raises:
        UsageError: if shapes do not fit, there are no examples, or a label is no class.
    """
    _check(labels, probabilities)
    if probabilities.shape[1] == 2:
        found = classification.score(labels, _open(probabilities[:, 1]), resamples=resamples)
        return ClassScores(
            found.examples, **{name: getattr(found, name) for name in METRICS},
            intervals=found.intervals,
        )  # fmt: skip
    points = _points(labels, probabilities)
    intervals: dict[str, Interval | None] = {}
    if resamples:
        values = _bootstrap(labels, probabilities, resamples)
        intervals = {
            name: None if points[name] is None else _between(values[name]) for name in METRICS
        }
    return ClassScores(len(labels), **points, intervals=intervals)


def f1_ratio(
    labels: np.ndarray, probabilities: np.ndarray, reference: np.ndarray, *, resamples: int = 1000
) -> tuple[float, Interval] | None:
    """F1 of one model over that of another, with a paired bootstrap interval.

    Args:
        labels: ``[n]``.
        probabilities: ``[n, classes]``, of the model above the line.
        reference: ``[n, classes]``, of the one below.
        resamples: at least one.

    Returns:
        None where the ratio is undefined: no positive example, or a reference of 0.

    Raises:
        UsageError: as `score`.
    """
    own, theirs = score(labels, probabilities), score(labels, reference)
    if own.f1 is None or not theirs.f1:
        return None
    if probabilities.shape[1] == 2:
        return classification.ratio(
            labels, _open(probabilities[:, 1]), _open(reference[:, 1]), "f1", resamples=resamples
        )
    # The same generator twice: the same drawings for both.
    above, below = (_bootstrap(labels, p, resamples)["f1"] for p in (probabilities, reference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return own.f1 / theirs.f1, _between(above / below)


def by_class(labels: np.ndarray, decided: np.ndarray, names: Sequence[str]) -> dict[str, dict]:
    """Precision, recall and F1 of each class, by its name.

    Args:
        labels: ``[n]``.
        decided: ``[n]``, the classes that were answered.
        names: of the classes.

    Returns:
        ``{name: {"examples", "precision", "recall", "f1"}}``; the figures are None of a class
        that no example has.
    """
    from sklearn.metrics import precision_recall_fscore_support

    each = precision_recall_fscore_support(
        labels, decided, labels=np.arange(len(names)), zero_division=0
    )
    found = {}
    for name, precision, recall, f1, examples in zip(names, *each, strict=True):
        figures = {"precision": precision, "recall": recall, "f1": f1}
        found[name] = {
            "examples": int(examples),
            **{key: float(value) if examples else None for key, value in figures.items()},
        }
    return found


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, list[float | None]]:
    """Ten bins over what was said how often, for a reliability diagram.

    Args:
        labels: ``[n]``.
        probabilities: ``[n, classes]``.

    Returns:
        ``counts``, ``predicted`` (mean probability) and ``observed`` (share that came true; None
        in an empty bin, as is the former): of the second of two classes, of the likeliest of more.
    """
    said, true = _forecast(labels, probabilities)
    bins = classification.reliability(true.astype(np.int64), _open(said))
    return {
        "counts": bins.counts.tolist(),
        "predicted": [None if np.isnan(v) else float(v) for v in bins.predicted],
        "observed": [None if np.isnan(v) else float(v) for v in bins.observed],
    }


# ---------------------------------------------------------------------- points


def _points(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

    decided = probabilities.argmax(axis=1)
    present = np.unique(labels)
    several = len(present) > 1
    aucs = [roc_auc_score(labels == k, probabilities[:, k]) for k in present] if several else []
    said, true = _forecast(labels, probabilities)
    return {
        "accuracy": float(accuracy_score(labels, decided)),
        "f1": float(f1_score(labels, decided, labels=present, average="macro", zero_division=0)),
        "matthews": float(matthews_corrcoef(labels, decided)) if several else None,
        "auc": float(np.mean(aucs)) if several else None,
        "negative_log_likelihood": float(_losses(labels, probabilities).mean()),
        "calibration_error": float(np.abs(_gaps(said, true).sum(axis=0)).sum() / len(labels)),
    }


def _forecast(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was said to be how likely, ``[n]``, and whether it came true."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _open(said: np.ndarray) -> np.ndarray:
    """Probabilities short of 0 and 1: a classifier that is sure of all is still no decision."""
    return np.clip(said, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).eps)


def _losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """−ln P(label), ``[n]``, nats; at most what the resolution of the type allows."""
    likely = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(likely.astype(np.float64), np.finfo(probabilities.dtype).eps, 1.0))


def _gaps(said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """``[n, bins]``: came true − said, each in the column of its bin."""
    spread = np.zeros((len(said), CALIBRATION_BINS))
    bins = np.minimum((said * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    spread[np.arange(len(said)), bins] = true - said
    return spread


# ---------------------------------------------------------------------- bootstrap


def _bootstrap(
    labels: np.ndarray, probabilities: np.ndarray, resamples: int
) -> dict[str, np.ndarray]:
    """Every metric on drawings of the examples with replacement, NaN where it is undefined."""
    rng = np.random.default_rng([0, 0x6D616E79])
    n = len(labels)
    rows = max(1, _CHUNK // n)
    parts = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        parts.append(weighted(labels, probabilities, weights.astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def weighted(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric under weights of the examples.

    Args:
        labels: ``[n]``.
        probabilities: ``[n, classes]``, more than two.
        weights: ``[resamples, n]``, how often each example counts.

    Returns:
        ``[resamples]`` by the names of `classification.METRICS`, NaN where undefined.
    """
    decided = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    is_label, is_decided = labels[:, None] == classes, decided[:, None] == classes
    total = weights.sum(axis=1)
    truly, called = weights @ is_label, weights @ is_decided
    hits = weights @ (is_label & is_decided)
    right = hits.sum(axis=1)
    several = (truly > 0).sum(axis=1) > 1
    spread = np.sqrt(total**2 - (truly**2).sum(1)) * np.sqrt(total**2 - (called**2).sum(1))
    covariance = right * total - (truly * called).sum(axis=1)
    # All decisions the same: scikit-learn's value is 0.
    matthews = np.where(spread > 0, covariance / np.where(spread > 0, spread, 1), 0.0)
    gaps = _gaps(*_forecast(labels, probabilities))
    f1 = np.where(truly > 0, 2 * hits / np.maximum(truly + called, 1), np.nan)
    return {
        "accuracy": right / total,
        "f1": np.nanmean(f1, axis=1),
        "matthews": np.where(several, matthews, np.nan),
        "auc": np.where(several, _macro_auc(labels, probabilities, weights, truly > 0), np.nan),
        "negative_log_likelihood": weights @ _losses(labels, probabilities) / total,
        "calibration_error": np.abs(weights @ gaps).sum(axis=1) / total,
    }


def _macro_auc(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, drawn: np.ndarray
) -> np.ndarray:
    """Mean over the classes that were drawn, ``[resamples]``."""
    total = np.zeros(len(weights))
    for k in np.unique(labels):
        order = np.argsort(probabilities[:, k], kind="stable")
        of_class = classification.weighted_auc(
            (labels == k).astype(np.int64)[order], probabilities[order, k], weights[:, order]
        )
        total += np.where(drawn[:, k], of_class, 0.0)
    return total / drawn.sum(axis=1)


def _between(values: np.ndarray) -> Interval | None:
    """The middle 95 % of those that are numbers."""
    defined = values[np.isfinite(values)]
    if not defined.size:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return Interval(float(low), float(high))


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise UsageError(
            f"labels have the shape {list(labels.shape)} and probabilities "
            f"{list(probabilities.shape)}; expected [n] and [n, classes], n at least 1"
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise UsageError(
            f"a label is {labels.min() if labels.min() < 0 else labels.max()}; expected classes "
            f"from 0 to {probabilities.shape[1] - 1}"
        )
