"""Scores of yes-or-no answers: closed forms, and scikit-learn's own values."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from workbench.classifying import classification
from workbench.classifying.classification import METRICS, Interval
from workbench.errors import UsageError


def calibrated(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    given = rng.uniform(size=n)
    if ties:
        given = given.round(1)
    return (rng.uniform(size=n) < given).astype(int), given


# ---------------------------------------------------------------------- scores


@pytest.mark.parametrize("threshold", [0.5, 0.3])
@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_scikit_learns(threshold, ties):
    labels, given = calibrated(500, seed=1, ties=ties)
    given = given * 0.9 + 0.01
    decided = given >= threshold
    scores = classification.score(labels, given, threshold=threshold)
    assert scores.examples == 500
    assert scores.positives == labels.sum()
    assert scores.threshold == threshold
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, decided))
    assert scores.f1 == pytest.approx(metrics.f1_score(labels, decided))
    assert scores.matthews == pytest.approx(metrics.matthews_corrcoef(labels, decided))
    assert scores.auc == pytest.approx(metrics.roc_auc_score(labels, given))
    assert scores.negative_log_likelihood == pytest.approx(metrics.log_loss(labels, given))
    assert scores.intervals == {}


def test_scores_worked_by_hand():
    labels = [1, 1, 1, 0, 0, 0, 0, 0]
    given = [0.9, 0.6, 0.2, 0.8, 0.4, 0.2, 0.1, 0.1]
    scores = classification.score(labels, given)
    tp, fn, fp, tn = 2, 1, 1, 4
    assert scores.accuracy == 6 / 8
    assert scores.f1 == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert scores.matthews == pytest.approx((tp * tn - fp * fn) / math.sqrt(3 * 3 * 5 * 5))
    # 0.9 beats five negatives, 0.6 four, 0.2 beats two and ties with one, of 15 pairs.
    assert scores.auc == pytest.approx((5 + 4 + 2.5) / 15)
    likely = np.array([0.9, 0.6, 0.2, 0.2, 0.6, 0.8, 0.9, 0.9])
    assert scores.negative_log_likelihood == pytest.approx(-np.log(likely).mean())
    # Bins: 0.1 twice (no positive), 0.2 twice (one), 0.4, 0.6, 0.8 and 0.9.
    gaps = [0.2, 0.6, 0.4, 0.4, 0.8, 0.1]
    assert scores.calibration_error == pytest.approx(sum(gaps) / 8)


def test_a_constant_answer_has_the_closed_forms_of_a_coin():
    labels = np.array([1] * 30 + [0] * 70)
    scores = classification.score(labels, np.full(100, 0.3))
    assert scores.auc == 0.5
    assert scores.matthews == 0
    assert scores.f1 == 0
    assert scores.accuracy == 0.7
    assert scores.calibration_error == pytest.approx(0, abs=1e-12)
    assert scores.negative_log_likelihood == pytest.approx(stats.bernoulli(0.3).entropy())
    always = classification.score(labels, np.full(100, 0.8))
    assert always.f1 == pytest.approx(2 * 0.3 / 1.3)
    assert always.calibration_error == pytest.approx(0.5)


def test_auc_needs_the_scores_and_not_the_decisions():
    labels, given = calibrated(400, seed=2)
    order = classification.roc_auc(labels, given)
    assert order == pytest.approx(classification.roc_auc(labels, given**5))
    decided = given >= 0.5
    balanced = metrics.balanced_accuracy_score(labels, decided)
    assert metrics.roc_auc_score(labels, decided) == pytest.approx(balanced)
    assert abs(order - balanced) > 0.03
    for decisions in (decided, decided.astype(int), decided.astype(float)):
        with pytest.raises(UsageError, match="decisions"):
            classification.roc_auc(labels, decisions)


def test_auc_of_two_normals_is_its_closed_form():
    # Φ(d/√2) for unit normals d apart.
    rng = np.random.default_rng(3)
    n, distance = 20_000, 1.3
    labels = np.repeat([0, 1], n)
    given = stats.norm.cdf(rng.normal(size=2 * n) + distance * labels)
    expected = stats.norm.cdf(distance / math.sqrt(2))
    assert classification.roc_auc(labels, given) == pytest.approx(expected, abs=0.008)


def test_likelihood_is_clipped_at_the_resolution_of_the_type():
    labels = [1, 0, 1]
    for kind in (np.float32, np.float64):
        given = np.array([0.0, 0.5, 1.0], dtype=kind)
        clipped = -math.log(np.finfo(kind).eps)
        scores = classification.score(labels, given)
        assert scores.negative_log_likelihood == pytest.approx((clipped + math.log(2)) / 3)
        assert scores.negative_log_likelihood == pytest.approx(
            metrics.log_loss(labels, given), rel=1e-5
        )


def test_small_probabilities_of_the_other_class_keep_their_digits():
    scores = classification.score([0, 1], np.array([1e-12, 0.5]))
    assert scores.negative_log_likelihood == pytest.approx((math.log(2) + 1e-12) / 2, rel=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_out_what_does_not_apply_without_a_warning(label):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = classification.score([label] * 4, [0.2, 0.4, 0.6, 0.9], resamples=50)
    assert scores.auc is None
    assert scores.matthews is None
    assert scores.intervals["auc"] is None
    assert scores.intervals["matthews"] is None
    assert (scores.f1 is None) == (scores.intervals["f1"] is None) == (label == 0)
    assert scores.accuracy == 0.5
    assert isinstance(scores.intervals["accuracy"], Interval)
    with pytest.raises(UsageError, match=f"all 4 labels are {label}; an AUC needs"):
        classification.roc_auc([label] * 4, [0.2, 0.4, 0.6, 0.9])


def test_best_f1_is_the_best_over_all_thresholds():
    labels, given = calibrated(300, seed=4, ties=True)
    threshold, best = classification.best_f1(labels, given)
    tried = {t: metrics.f1_score(labels, given >= t) for t in np.unique(given)}
    assert best == pytest.approx(max(tried.values()))
    assert tried[threshold] == pytest.approx(best)
    assert classification.best_f1([0, 1], [0.3, 0.3]) == (0.3, pytest.approx(2 / 3))
    assert classification.best_f1([0, 1, 1], [0.9, 0.3, 0.2])[0] == 0.2
    with pytest.raises(UsageError, match="F1 needs positive"):
        classification.best_f1([0, 0], [0.3, 0.4])


# ---------------------------------------------------------------------- calibration


def test_reliability_counts_means_and_gives_the_calibration_error():
    labels, given = calibrated(2000, seed=5)
    given = given**2
    diagram = classification.reliability(labels, given)
    assert diagram.counts.sum() == 2000
    for b in range(10):
        inside = (given >= diagram.edges[b]) & (given < diagram.edges[b + 1])
        assert diagram.counts[b] == inside.sum()
        assert diagram.predicted[b] == pytest.approx(given[inside].mean())
        assert diagram.observed[b] == pytest.approx(labels[inside].mean())
    gaps = np.abs(diagram.observed - diagram.predicted)
    error = (diagram.counts * gaps).sum() / 2000
    assert classification.score(labels, given).calibration_error == pytest.approx(error)
    # Calibrated were u; u² is below it by u − u², by 1/6 on average.
    assert error == pytest.approx(1 / 6, abs=0.03)


def test_edges_belong_to_the_bin_above_and_empty_bins_have_no_mean():
    diagram = classification.reliability([0, 1, 1], [0.0, 0.5, 1.0], bins=2)
    assert diagram.counts.tolist() == [1, 2]
    empty = classification.reliability([1], [0.99])
    assert np.isnan(empty.predicted[:9]).all() and empty.observed[9] == 1
    with pytest.raises(UsageError, match="bins is 0"):
        classification.reliability([1], [0.5], bins=0)


# ---------------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_scores_are_scikit_learns_weighted_ones(ties):
    labels, given = calibrated(120, seed=6, ties=ties)
    given = np.sort(given * 0.98 + 0.01)
    rng = np.random.default_rng(7)
    weights = rng.integers(0, 4, size=(5, 120)).astype(float)
    got = classification._weighted(labels, given, 0.4, weights)
    assert set(got) == set(METRICS)
    decided = given >= 0.4
    for row, w in enumerate(weights):
        with_weights = {"sample_weight": w}
        repeated = np.repeat(np.arange(120), w.astype(int))
        expected = {
            "accuracy": metrics.accuracy_score(labels, decided, **with_weights),
            "f1": metrics.f1_score(labels, decided, **with_weights),
            "matthews": metrics.matthews_corrcoef(labels, decided, **with_weights),
            "auc": metrics.roc_auc_score(labels, given, **with_weights),
            "negative_log_likelihood": metrics.log_loss(labels, given, **with_weights),
            "calibration_error": classification.score(
                labels[repeated], given[repeated]
            ).calibration_error,
        }
        for name, value in expected.items():
            assert got[name][row] == pytest.approx(value, rel=1e-10), name


def test_interval_of_a_mean_is_the_normal_one():
    labels, given = calibrated(4000, seed=8)
    scores = classification.score(labels, given, resamples=2000)
    error = math.sqrt(scores.accuracy * (1 - scores.accuracy) / 4000)
    interval = scores.intervals["accuracy"]
    assert interval.low == pytest.approx(scores.accuracy - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(scores.accuracy + 1.96 * error, abs=0.15 * error)
    narrow = classification.score(labels, given, resamples=2000, level=0.5).intervals["accuracy"]
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * error, rel=0.1)


def test_interval_of_an_auc_covers_the_truth_as_often_as_it_says():
    truth = stats.norm.cdf(1 / math.sqrt(2))
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1], 60)
    covered = 0
    for seed in range(120):
        given = stats.norm.cdf(rng.normal(size=120) + labels)
        interval = classification.score(labels, given, resamples=200, seed=seed).intervals["auc"]
        covered += interval.low <= truth <= interval.high
    assert stats.binomtest(covered, 120, 0.94).pvalue > 1e-3


def test_every_interval_holds_its_point_but_for_the_biased_calibration_error():
    labels, given = calibrated(300, seed=10)
    scores = classification.score(labels, given, resamples=500)
    assert set(scores.intervals) == set(METRICS)
    for name in set(METRICS) - {"calibration_error"}:
        interval = scores.intervals[name]
        assert interval.low < getattr(scores, name) < interval.high, name


def test_the_bootstrap_is_the_same_for_the_same_seed_whatever_the_chunks(monkeypatch):
    labels, given = calibrated(70, seed=11)
    first = classification.score(labels, given, resamples=40, seed=3)
    assert first == classification.score(labels, given, resamples=40, seed=3)
    assert first != classification.score(labels, given, resamples=40, seed=4)
    monkeypatch.setattr(classification, "_CHUNK", 500)
    chunked = classification.score(labels, given, resamples=40, seed=3)
    for name in METRICS:
        a, b = first.intervals[name], chunked.intervals[name]
        assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=1e-12)
    before = np.random.get_state()[1].tolist()
    classification.score(labels, given, resamples=5)
    assert np.random.get_state()[1].tolist() == before


def test_resamples_that_lack_a_class_are_left_out():
    labels = [1, 0, 0, 0]
    scores = classification.score(labels, [0.8, 0.3, 0.2, 0.1], resamples=400)
    assert scores.intervals["auc"] == Interval(1.0, 1.0)
    assert scores.intervals["f1"] == Interval(1.0, 1.0)


# ---------------------------------------------------------------------- groups


def test_groups_are_scored_as_if_alone():
    labels, given = calibrated(600, seed=12)
    names = np.random.default_rng(13).choice(["b", "a", "c"], size=600)
    groups = classification.score_groups(labels, given, names, resamples=60)
    assert list(groups) == ["a", "b", "c"]
    assert sum(s.examples for s in groups.values()) == 600
    for name, scores in groups.items():
        rows = names == name
        alone = classification.score(labels[rows], given[rows])
        for metric in METRICS:
            assert getattr(scores, metric) == getattr(alone, metric)
        only = classification.score_groups(labels[rows], given[rows], names[rows], resamples=60)
        assert only == {name: scores}


def test_a_group_of_one_class_has_no_auc_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = classification.score_groups(
            [1, 1, 0, 1], [0.9, 0.4, 0.3, 0.8], ["x", "x", "y", "y"], resamples=20
        )
    assert groups["x"].auc is None and groups["x"].intervals["auc"] is None
    assert groups["x"].f1 == pytest.approx(2 / 3)
    assert groups["y"].auc == 1


# ---------------------------------------------------------------------- one clear line


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        ([0, 1], [0.5, math.nan], "probability 1 is nan; expected a number from 0 to 1"),
        ([0, 1], [0.5, math.inf], "probability 1 is inf"),
        ([0, 1], [-2.5, 0.5], r"probability 0 is -2\.5; .* softmax"),
        ([0, 2], [0.5, 0.5], "label 1 is 2; expected 0 or 1"),
        ([0, math.nan], [0.5, 0.5], "label 1 is nan"),
        ([], [], "no examples"),
        ([0, 1], [0.5], r"\[2\] and probabilities \[1\]"),
        ([0, 1], [[0.5, 0.5], [0.1, 0.9]], r"probabilities \[2, 2\]; expected \[n\]"),
        ([0, 1], [0, 1], "of the type int64; .* not decisions"),
        ([0, 1, 1], [0.0, 1.0, 1.0], "exactly 0 or 1, as decisions are"),
    ],
)
def test_inputs_that_cannot_be_scored_are_refused_in_one_line(labels, given, message):
    with pytest.raises(UsageError, match=message) as error:
        classification.score(labels, given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"resamples": -1}, "resamples is -1"),
        ({"seed": -1}, "seed -1"),
        ({"level": 1.0}, "level of the intervals is 1.0"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message):
        classification.score([0, 1], [0.2, 0.7], **options)


def test_as_many_groups_as_examples():
    with pytest.raises(UsageError, match="1 groups for 2 examples"):
        classification.score_groups([0, 1], [0.2, 0.7], ["a"])
