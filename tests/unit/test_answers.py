"""Answers at the same positions: against closed forms and slower ways to the same number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench import losses, metrics, models
from workbench.comparisons import answers
from workbench.errors import WorkbenchError
from workbench.recipes import Shape
from workbench.worlds import proteins
from workbench.worlds.proteins import AMINO_ACIDS, SYMBOLS


@pytest.fixture(scope="module")
def teacher(tiny_teacher):
    return models.load_causal_lm(tiny_teacher)


@pytest.fixture(scope="module")
def asked(teacher):
    return answers.collect(proteins.sample(8, seed=1), teacher=teacher)


def random_logits(rows: int = 200, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(rows, 21, generator=torch.Generator().manual_seed(seed)).double()


def test_every_residue_and_every_end_is_asked_about(asked):
    sequences = proteins.sample(8, seed=1)
    assert len(asked.labels) == sum(len(s) + 1 for s in sequences)
    assert "".join(SYMBOLS[i] for i in asked.labels[: len(sequences[0])]) == sequences[0]
    assert asked.labels[len(sequences[0])] == proteins.END
    assert asked.oracle.shape == asked.logits["teacher"].shape == (len(asked.labels), 21)


def test_oracle_is_a_distribution_and_zero_is_impossible(asked):
    assert torch.allclose(asked.oracle.exp().sum(-1), torch.ones(len(asked.labels)).double())
    first = asked.oracle[0]
    assert first[proteins.END] == answers.IMPOSSIBLE  # no protein ends before it begins
    assert torch.isfinite(losses.entropy(asked.oracle, 0.25)).all()


def test_logits_are_those_of_the_model_in_the_order_of_the_symbols(teacher):
    model, tokenizer, _ = teacher
    rows = torch.softmax(answers.residue_logits(model, tokenizer, "MKTAY"), -1)
    for position in range(6):
        expected = metrics.next_residue(model, tokenizer, "MKTAY"[:position])
        assert rows[position].tolist() == pytest.approx(list(expected.values()), abs=1e-6)
        assert list(expected) == list(SYMBOLS)


def test_other_vocabularies_are_refused(teacher, byte_pairs):
    tokenizer = models.residue_tokenizer()
    small = models.build_causal_lm(
        Shape(layers=1, heads=1, width=8, positions=64, vocabulary=600),
        activation="gelu_new", seed=0,
    )  # fmt: skip
    assert answers.residue_logits(small, tokenizer, "MKT").shape == (4, 21)
    lower = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="A")
    with pytest.raises(WorkbenchError, match="one token a residue"):
        answers.residue_logits(small, lower, "MKT")


# ---------------------------------------------------------------------- calibration


def test_a_model_that_tells_the_truth_is_calibrated():
    logits = random_logits(40_000)
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert answers.calibration(logits, labels).error < 0.01
    assert answers.honest_temperature(logits, labels) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_honest_temperature_undoes_a_factor_on_the_logits(factor):
    logits = random_logits(40_000)
    labels = torch.distributions.Categorical(logits=logits).sample()
    found = answers.honest_temperature(factor * logits, labels)
    assert found == pytest.approx(factor, rel=0.03)
    honest = answers.calibration(factor * logits, labels, found).error
    assert honest < 0.2 * answers.calibration(factor * logits, labels).error


def test_calibration_of_two_bins_by_hand():
    def logits(p: float) -> list[float]:
        return [math.log(p), *[math.log((1 - p) / 20)] * 20]

    rows = torch.tensor([logits(0.95)] * 4 + [logits(0.55)] * 4).double()
    labels = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])
    found = answers.calibration(rows, labels)
    assert found.count == (4, 4)
    assert found.confidence == pytest.approx((0.55, 0.95))
    assert found.accuracy == pytest.approx((0.25, 0.75))
    assert found.error == pytest.approx(0.5 * 0.30 + 0.5 * 0.20)


# ---------------------------------------------------------------------- dark knowledge


def test_substitutions_share_what_the_favourite_leaves():
    logits = random_logits()
    favourites = answers.favourites(logits, least=0.0)
    table = answers.substitutions(logits, favourites)
    seen = sorted({int(a) for a in favourites if a >= 0})
    p = torch.softmax(logits, -1).numpy()[:, :20]
    for a in seen:
        assert np.nansum(table[a]) == pytest.approx(1.0)
        assert np.isnan(table[a, a])
        rows = p[(favourites == a).numpy()]
        b = (a + 1) % 20
        slow = [row[b] / (row.sum() - row[a]) for row in rows]
        assert table[a, b] == pytest.approx(np.mean(slow))
    assert np.isnan(np.delete(table, seen, axis=0)).all()


def test_favourites_leave_out_doubt_and_the_end():
    sure, doubtful, end = torch.zeros(21), torch.zeros(21), torch.zeros(21)
    sure[3], doubtful[3], end[20] = 10.0, 1.0, 10.0
    assert answers.favourites(torch.stack([sure, doubtful, end])).tolist() == [3, -1, -1]


def test_blosum_agreement_is_high_for_blosum_itself_and_nothing_for_noise():
    from Bio.Align import substitution_matrices

    blosum = substitution_matrices.load("BLOSUM62")
    scores = np.array([[blosum[a, b] for b in AMINO_ACIDS] for a in AMINO_ACIDS], dtype=float)
    table = proteins.background()[None, :] * np.exp(scores)
    np.fill_diagonal(table, np.nan)
    assert answers.blosum_agreement(table) > 0.99  # rounding breaks ties between equal scores
    noise = np.random.default_rng(0).random((20, 20))
    assert abs(answers.blosum_agreement(noise)) < 0.2


def test_the_built_in_teacher_knows_chemistry_nearly_as_well_as_the_oracle():
    asked = answers.collect(proteins.sample(60, seed=5), teacher=models.load_causal_lm("protgpt2"))
    favourites = answers.favourites(asked.oracle)
    truth = answers.blosum_agreement(answers.substitutions(asked.oracle, favourites))
    learnt = answers.blosum_agreement(answers.substitutions(asked.logits["teacher"], favourites))
    assert truth > 0.7
    assert learnt > 0.9 * truth


# ---------------------------------------------------------------------- gradients


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_soft_gradient_is_the_closed_form(temperature):
    z, v = random_logits(seed=1), random_logits(seed=2)
    closed = temperature * (torch.softmax(z / temperature, -1) - torch.softmax(v / temperature, -1))
    assert torch.allclose(answers.soft_gradient(z, v, temperature), closed, atol=1e-12)
    without = answers.soft_gradient(z, v, temperature, squared=False)
    assert torch.allclose(without * temperature**2, closed, atol=1e-12)


def test_high_temperature_matches_logits():
    z, v = random_logits(seed=1), random_logits(seed=2)
    limit = answers.matching_limit(z, v)
    errors = [
        float((answers.soft_gradient(z, v, T) - limit).norm() / limit.norm())
        for T in (10.0, 100.0, 1000.0)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]  # the next term of the series is 1/T
    assert errors[2] < 0.01
