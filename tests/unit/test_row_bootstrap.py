"""Intervals of means over tokens, from drawings of whole rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench import metrics
from workbench.corpora import Rows, make_batches
from workbench.row_bootstrap import RowSums
from workbench.teacher_cache import LiveTeacher


def sums(values: np.ndarray) -> RowSums:
    """Rows of some tokens with these negative log-likelihoods, ``[rows, tokens]``."""
    found = RowSums(len(values))
    members = np.repeat(np.arange(len(values)), values.shape[1])
    found.add(members, negative_log_likelihood=values.ravel(), agreement=values.ravel() > 0.5)
    return found


def test_rows_are_drawn_and_not_tokens():
    # Each row's 50 tokens are the same number: there are 40 facts here, not 2,000.
    row = np.random.default_rng(0).normal(2, 1, 40)
    low, high = sums(np.repeat(row[:, None], 50, axis=1)).intervals()["perplexity"]
    half = 1.96 * row.std(ddof=1) / math.sqrt(40)
    assert math.log(low) == pytest.approx(row.mean() - half, abs=half / 5)
    assert math.log(high) == pytest.approx(row.mean() + half, abs=half / 5)


def test_the_interval_covers_what_it_should():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        row = rng.normal(2, 1, (30, 1))
        low, high = sums(row).intervals(resamples=200)["perplexity"]
        covered += low <= math.exp(2) <= high
    # 95 % of 100, a little less for so few rows; four standard deviations are 9.
    assert 84 <= covered <= 100


def test_long_rows_count_by_their_tokens_and_one_row_has_no_interval():
    found = RowSums(2)
    found.add(np.array([0] * 9 + [1]), negative_log_likelihood=np.array([1.0] * 9 + [3.0]))
    low, high = found.intervals()["perplexity"]
    assert (math.log(low), math.log(high)) == pytest.approx((1, 3))
    assert sums(np.ones((1, 5))).intervals() is None
    nothing = sums(np.zeros((3, 2))).intervals()
    assert nothing == {"perplexity": [1.0, 1.0], "agreement": [0.0, 0.0]}


def test_an_evaluation_counts_the_same_with_and_without_intervals(tiny_teacher):
    from workbench import models

    model, *_ = models.load_causal_lm(tiny_teacher)
    rng = np.random.default_rng(2)
    tokens = [np.r_[0, rng.integers(1, 21, n), 0] for n in (5, 30, 11, 2, 17, 8, 60)]
    rows = Rows(tokens, sum(map(len, tokens)) - 14)
    batches = make_batches(rows, 3, 0)
    plain = metrics.evaluate(model, batches, rows.residues, teacher=LiveTeacher(model))
    found = metrics.evaluate(
        model, batches, rows.residues, teacher=LiveTeacher(model), intervals=True
    )
    assert plain.intervals is None and set(found.intervals) == {
        "perplexity", "top1", "top5", "kl_to_teacher", "agreement",
    }  # fmt: skip
    for name in ("perplexity", "top1", "top5", "kl_to_teacher", "agreement"):
        low, high = found.intervals[name]
        assert getattr(plain, name) == getattr(found, name)
        assert low <= getattr(found, name) <= high
    # The same by hand, a row at a time.
    by_hand = RowSums(len(tokens))
    for number, ids in enumerate(tokens):
        ids = torch.from_numpy(ids)[None]
        with torch.no_grad():
            log = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
        own = -log.gather(1, ids[0, 1:, None])[:, 0]
        by_hand.add(np.full(len(own), number), negative_log_likelihood=own.double().numpy())
    assert found.intervals["perplexity"] == pytest.approx(
        by_hand.intervals()["perplexity"], rel=1e-5
    )
