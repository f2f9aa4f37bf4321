"""Linear CKA against its invariances and a closed form; layers of real models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench import corpora, models, similarity


def features(rows: int = 60, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).double()


def test_itself_turned_mirrored_scaled_and_moved_is_the_same():
    x = features()
    turn, _ = torch.linalg.qr(features(5, 5, seed=1))
    for same in (x, -x, 3 * x, x + 7, x @ turn, x[:, torch.tensor([4, 2, 0, 1, 3])]):
        assert similarity.linear_cka(x, same) == pytest.approx(1.0)


def test_it_is_symmetric_and_less_than_one_for_others():
    x, y = features(), features(width=9, seed=1)
    assert similarity.linear_cka(x, y) == pytest.approx(similarity.linear_cka(y, x))
    assert 0 < similarity.linear_cka(x, y) < 0.5


def test_closed_form_for_one_feature():
    # With one column on each side, CKA is the squared correlation.
    x, noise = features(width=1), features(width=1, seed=1)
    y = x + 0.5 * noise
    correlation = np.corrcoef(x[:, 0], y[:, 0])[0, 1]
    assert similarity.linear_cka(x, y) == pytest.approx(correlation**2)


def test_unrelated_directions_have_none():
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    y = torch.tensor([[1.0], [1], [-1], [-1]])
    assert similarity.linear_cka(x, y) == pytest.approx(0.0)


def test_what_does_not_vary_is_not_a_number():
    assert math.isnan(similarity.linear_cka(features(), torch.ones(60, 2)))


@pytest.mark.parametrize("y", [torch.ones(59, 2), torch.ones(60), torch.ones(1, 2)])
def test_other_shapes_are_refused(y):
    with pytest.raises(ValueError, match="expected two matrices with the same rows"):
        similarity.linear_cka(features(), y)


def test_layers_of_a_copy_are_alike_and_padding_does_not_count(tiny_teacher):
    teacher, tokenizer, _ = models.load_causal_lm(tiny_teacher)
    corpus = corpora.load("world:proteins", train_sequences=12, validation_sequences=8)
    train, _ = corpora.tokenise_split(corpus, tokenizer, "plain", 128)
    batches = corpora.make_batches(train, 6, tokenizer.eos_token_id)
    table = similarity.layer_similarity(teacher, teacher, batches)
    assert table.shape == (3, 3)
    assert np.diag(table) == pytest.approx(1.0)
    one_by_one = corpora.make_batches(train, 1, tokenizer.eos_token_id)
    alone = similarity.layer_similarity(teacher, teacher, one_by_one)
    assert alone == pytest.approx(table, abs=1e-5)
    student = models.build_like(teacher, 1, seed=0)
    models.initialise(student, teacher, (0,))
    states = similarity.hidden_states(student, batches)
    assert len(states) == 2 and len(states[0]) == sum(b.tokens for b in batches)
    # The copied first layer says what the teacher's first says, before the final norm.
    assert similarity.linear_cka(states[0], similarity.hidden_states(teacher, batches)[0]) > 0.999
