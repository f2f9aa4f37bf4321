"""The two layouts of the vocabulary head: one loss, one gradient, and what is counted of memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from workbench.bench import mlm_head
from workbench.bench.mlm_head import SMALL, Sizes
from workbench.objective import Objective

LAYOUTS = pytest.mark.parametrize("layouts", mlm_head.COMPARED.values(), ids=mlm_head.COMPARED)
#: Wide in the vocabulary, so that logits are most of what is held, and yet made in a moment.
WIDE = Sizes(batch=4, length=40, width=16, vocabulary=2000)


@LAYOUTS
@pytest.mark.parametrize("seed", range(5))
def test_both_layouts_are_one_loss_and_one_gradient(layouts, seed):
    case = mlm_head.case(SMALL, torch.float64, seed)
    losses = [layout(case) for layout in layouts]
    assert abs(losses[0] - losses[1]) < 1e-12
    full, rows = map(case.gradients, losses)
    assert len(full) == 1 + len(list(case.head.parameters()))
    for one, other in zip(full, rows, strict=True):
        assert one.abs().max() > 1e-4
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    # Hidden states of tokens that are not told have no part in it.
    assert (rows[0][case.masked] != 0).any(dim=-1).all() and not rows[0][~case.masked].any()


def test_the_losses_are_those_of_the_formulas():
    case, temperature = mlm_head.case(SMALL, torch.float64), mlm_head.TEMPERATURE
    hard, soft = 0.0, 0.0
    labels = iter(case.labels.tolist())
    with torch.no_grad():
        for place in case.masked.nonzero().tolist():
            student = case.head(case.hidden[tuple(place)])
            teacher = case.teacher_head(case.teacher_hidden[tuple(place)])
            hard -= float(student.log_softmax(-1)[next(labels)])
            p, q = ((z / temperature).softmax(-1) for z in (teacher, student))
            soft += temperature**2 * float((p * (p / q).log()).sum())
    hard, soft = hard / len(case.labels), soft / len(case.labels)
    both = mlm_head.ALPHA * hard + (1 - mlm_head.ALPHA) * soft
    assert mlm_head.rows_first(case).item() == pytest.approx(hard, abs=1e-12)
    assert mlm_head.distilled_rows_first(case).item() == pytest.approx(both, abs=1e-12)


def test_a_case_masks_its_share_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    case, again = mlm_head.case(WIDE), mlm_head.case(WIDE)
    assert torch.equal(torch.get_rng_state(), before)
    assert case.masked.sum(1).tolist() == [6] * 4 and case.labels.shape == (24,)
    assert torch.equal(case.hidden, again.hidden) and torch.equal(case.masked, again.masked)
    assert not torch.equal(case.masked, mlm_head.case(WIDE, seed=1).masked)


def test_the_head_is_that_of_bert():
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLMPredictionHead

    theirs = BertLMPredictionHead(BertConfig(hidden_size=12, vocab_size=101)).eval()
    ours = mlm_head.bert_head(12, 101)
    ours[0].load_state_dict(theirs.transform.dense.state_dict())
    ours[2].load_state_dict(theirs.transform.LayerNorm.state_dict())
    ours[3].load_state_dict(theirs.decoder.state_dict())
    assert ours[2].eps == theirs.transform.LayerNorm.eps
    hidden = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(hidden), theirs(hidden))


@pytest.mark.parametrize(("name", "terms"), [("mlm", {"hard"}), ("distillation", {"hard", "soft"})])
def test_rows_first_is_what_training_does(name, terms, monkeypatch):
    seen, values = [], Objective.values

    def watched(self, hidden, *args, **options):
        found = values(self, hidden, *args, **options)
        seen.append((len(hidden), set(found)))
        return found

    monkeypatch.setattr(Objective, "values", watched)
    case = mlm_head.case(SMALL)
    full, rows = mlm_head.COMPARED[name]
    full(case)
    assert seen == []
    rows(case)
    assert seen == [(len(case.labels), terms)]


@LAYOUTS
def test_rows_first_takes_a_fraction_of_the_memory(layouts):
    case = mlm_head.case(WIDE)
    full, rows = (
        mlm_head.peak_memory_mb(lambda layout=layout: case.gradients(layout(case)))
        for layout in layouts
    )
    logits = 4 * WIDE.batch * WIDE.length * WIDE.vocabulary / 1e6
    # In its backward pass the full layout holds log-probabilities, the gradient on them and that
    # on the logits.
    assert full > 3 * logits
    assert rows < full / 3


def test_peak_memory_is_the_most_that_is_held_at_once():
    numbers = 250_000  # 1 MB of float32

    def two_then_one():
        first = torch.ones(numbers)
        second = first + 1
        del first
        return second * 2

    assert mlm_head.peak_memory_mb(two_then_one) == pytest.approx(2, abs=0.01)

    kept = torch.ones(numbers, requires_grad=True)

    def backward():
        # The exponential is kept for the backward pass though nobody holds it here any more, and
        # beside it there are the gradient that comes in and the one that goes out.
        return torch.autograd.grad(kept.exp().sin().sum(), kept)

    assert 3 <= mlm_head.peak_memory_mb(backward) <= 5
    assert mlm_head.peak_memory_mb(lambda: kept.detach()) < 0.01


def test_peak_memory_sees_scratch_space_within_an_operation():
    values = torch.ones(1000, 250)  # 1 MB
    chosen = (torch.arange(1000) < 10).unsqueeze(-1).expand_as(values)
    # Two integers of 8 bytes a number, to find the places; the result itself is 0.01 MB.
    assert mlm_head.peak_memory_mb(lambda: torch.masked_select(values, chosen)) > 2


def test_differences_find_a_difference():
    case = mlm_head.case(SMALL, torch.float64)

    def off(one):
        return mlm_head.rows_first(one) * 1.5

    plain = mlm_head.rows_first(case).item()
    loss, gradient = mlm_head.differences(case, off, mlm_head.rows_first)
    assert loss == pytest.approx(0.5 * plain) and gradient == pytest.approx(0.5)
    assert mlm_head.differences(case, mlm_head.rows_first, mlm_head.rows_first) == (0.0, 0.0)


def test_measure_gives_every_figure():
    found = mlm_head.measure(WIDE, repeats=2)
    for name in mlm_head.COMPARED:
        one = {k.removeprefix(f"{name}_"): v for k, v in found.items() if k.startswith(name)}
        assert set(one) == {
            *("full_seconds", "rows_first_seconds", "times_faster"),
            *("full_peak_mb", "rows_first_peak_mb", "times_smaller"),
            *(f"{w}_difference_{d}" for w in ("loss", "gradient") for d in ("float32", "float64")),
        }
        assert all(math.isfinite(v) and v >= 0 for v in one.values())
        assert one["times_faster"] == one["full_seconds"] / one["rows_first_seconds"]
        assert one["times_smaller"] == one["full_peak_mb"] / one["rows_first_peak_mb"] > 3
        assert one["loss_difference_float64"] < 1e-12 > one["gradient_difference_float64"]
        assert one["loss_difference_float32"] < 1e-4 > one["gradient_difference_float32"]
    assert found["masked_positions"] == 24 and found["vocabulary"] == 2000
    assert found["repeats"] == 2 and len(found["goals"]) == 2
    faster, smaller = found["goals"]
    assert (faster["found"], faster["goal"]) == (found["mlm_times_faster"], 5)
    assert smaller["found"] == found["mlm_times_smaller"] and smaller["met"]


def test_positions_that_are_not_masked_are_ignored():
    case = mlm_head.case(SMALL, torch.float64)
    alone = functional.cross_entropy(case.head(case.hidden)[case.masked], case.labels)
    assert mlm_head.full_layout(case).item() == pytest.approx(alone.item(), abs=1e-12)
