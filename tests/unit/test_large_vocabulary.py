"""A step at a large vocabulary against the same step by terms of their own: value and gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from workbench import corpora, large_vocabulary, models, recipes
from workbench.corpora import Rows
from workbench.distiller import Distiller, Schedule
from workbench.hidden_words import masked_lm
from workbench.inner import Matcher, looks
from workbench.objective import CosineTerm, Counts, HardTerm, Objective, SoftTerm, TeacherSignal
from workbench.recipes import Shape
from workbench.teacher_cache import LiveTeacher

VOCABULARY = 97
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


@pytest.fixture
def large(monkeypatch):
    """This file's small vocabulary counts as a large one, in chunks of a few rows."""
    monkeypatch.setattr(large_vocabulary, "LARGE", VOCABULARY)
    whole = large_vocabulary.vocabulary_loss

    def in_chunks(*arguments, **options):
        return whole(*arguments, **{**options, "chunk_bytes": 10_000})

    monkeypatch.setattr(large_vocabulary, "vocabulary_loss", in_chunks)


def batch_of(rows: int = 4, seed: int = 0) -> corpora.Batch:
    draw = np.random.default_rng(seed)
    tokens = [draw.integers(1, VOCABULARY, size=n) for n in draw.integers(6, 14, size=rows)]
    return corpora.make_batches(Rows(tokens, 0), rows, 0)[0]


def masked_batch() -> corpora.Batch:
    batch = batch_of()
    masked = batch.real() & (torch.arange(batch.input_ids.shape[1]) % 3 == 1)
    labels = batch.input_ids[masked]
    return replace(
        batch, input_ids=batch.input_ids.masked_fill(masked, 4), masked=masked, labels=labels
    )


def causal(width: int, seed: int):
    shape = Shape(layers=2, heads=2, width=width, positions=16, vocabulary=VOCABULARY)
    model = models.build_causal_lm(shape, activation="gelu_new", seed=seed)
    # Fresh weights answer nearly evenly, and rounding is all that would be compared.
    model.get_input_embeddings().weight.data.mul_(20)
    return model


def masked(width: int, seed: int):
    shape = Shape(layers=2, heads=2, width=width, positions=16, vocabulary=VOCABULARY)
    return masked_lm.build(shape, activation="gelu", seed=seed, initial_spread=0.3)


def distiller(build, objective, dtype, *, taught: bool = True) -> Distiller:
    student, teacher = build(8, 1).to(dtype), build(8 if objective.cosine else 12, 2).to(dtype)
    live, matcher = None, None
    if taught:
        live = LiveTeacher(teacher.requires_grad_(False), looks=looks(objective))
    if taught and objective.looks_inside:
        matcher = Matcher(objective, student.config, teacher.config, seed=0).to(dtype)
    return Distiller(
        student, objective, live, temperature=3.0, alpha=0.3 if taught else 1.0,
        learning_rate=1e-2, schedule=Schedule(10, 0), matcher=matcher,
    )  # fmt: skip


def both_ways(one: Distiller, batch) -> list[tuple[dict, torch.Tensor, list]]:
    counts = one.objective.counts([batch])
    found = []
    for apart in (False, True):
        total, values = one._loss(batch, counts, apart=apart)
        parameters = [p for p in one._parameters if p.requires_grad]
        found.append((values, total, torch.autograd.grad(total, parameters, allow_unused=True)))
    return found


def close(mine, theirs, tolerance) -> None:
    largest = max(float(theirs.detach().abs().max()), 1e-300)
    assert float((mine - theirs).detach().abs().max()) <= tolerance * largest


def flat(tensors) -> torch.Tensor:
    return torch.cat([t.flatten() for t in tensors if t is not None])


CAUSAL = {n: v.objective for n, v in recipes.get("protgpt2-tiny").variants.items()}
MASKED = {
    "labels and soft": Objective(scores="masked"),
    "distilbiobert": recipes.get("distilbiobert").variant("corrected").objective,
    "compactbiobert": recipes.get("compactbiobert").variant("corrected").objective,
}
CASES = [
    *((causal, batch_of, o, name) for name, o in CAUSAL.items()),
    *((masked, masked_batch, o, name) for name, o in MASKED.items()),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("taught", [True, False], ids=["taught", "labels only"])
@pytest.mark.parametrize(("build", "batch", "objective", "name"), CASES)
def test_a_step_is_the_same_in_value_and_gradient(
    build, batch, objective, name, dtype, taught, large
):
    if name == "compactbiobert":  # one entry for each of two layers
        objective = replace(
            objective, hidden=replace(objective.hidden, layers="0,1"),
            attention=replace(objective.attention, layers="0,1"), cosine=None,
        )  # fmt: skip
        build = _as_wide(build)
    one = distiller(build, objective, dtype, taught=taught)
    (values, total, gradients), (apart, expected, by_terms) = both_ways(one, batch())
    assert not values["hard"].requires_grad and apart["hard"].requires_grad
    assert list(values) == list(apart) == (list(objective.terms()) if taught else ["hard"])
    tolerance = TOLERANCE[dtype]
    close(total, expected, tolerance)
    for term, value in values.items():
        close(value, apart[term], tolerance)
    assert any(g is not None and float(g.abs().max()) > 0 for g in gradients)
    # Over all parameters at once: that of a key's bias is 0 but for rounding.
    assert [g is None for g in gradients] == [g is None for g in by_terms]
    close(flat(gradients), flat(by_terms), tolerance)


def _as_wide(build):
    return lambda width, seed: build(8, seed)


def test_curves_and_ledger_say_the_same_numbers(large):
    one = distiller(causal, CAUSAL["corrected"], torch.float64)
    batch = batch_of()
    ledger = one.ledger(batch)
    record = one.step(batch).numbers()
    assert record["hard"] == pytest.approx(ledger["hard"].value, rel=1e-12)
    assert record["soft"] == pytest.approx(ledger["soft"].value, rel=1e-12)
    assert record["total"] == pytest.approx(0.3 * record["hard"] + 0.7 * record["soft"], rel=1e-12)


def test_parts_of_a_batch_add_up_to_the_whole(large):
    whole, parts = (distiller(causal, CAUSAL["corrected"], torch.float64) for _ in range(2))
    first, second = batch_of(seed=1), batch_of(seed=2)
    parts.step([first, second])
    counts = whole.objective.counts([first, second])
    for part in (first, second):
        whole._loss(part, counts, apart=True)[0].backward()
    torch.nn.utils.clip_grad_norm_(whole._parameters, 1.0)
    for group in whole.optimizer.param_groups:
        group["lr"] = 1e-2
    whole.optimizer.step()
    for mine, theirs in zip(whole._parameters, parts._parameters, strict=True):
        close(mine, theirs, 1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"hard": HardTerm(softened=True)},
        {"hard": HardTerm(operand="probabilities")},
        {"soft": SoftTerm(operand="probabilities")},
        {"soft": SoftTerm(entropy_kept=True)},
        {"cosine": CosineTerm("answers")},
        {"given": (("hard", 0.0), ("soft", 0.0))},
    ],
)
def test_terms_that_need_more_than_the_sum_go_the_other_way(changes, large):
    objective = replace(Objective(), **changes)
    one = distiller(causal, objective, torch.float32)
    batch = batch_of()
    _, values = one._loss(batch, one.objective.counts([batch]))
    assert values["hard"].requires_grad


def rows_of(head, teacher_head, vocabulary: int):
    hidden = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    signal = TeacherSignal(hidden, teacher_head)
    return large_vocabulary.loss(
        Objective(), hidden, head, torch.arange(5), signal, temperature=2.0, alpha=0.5,
        counts=Counts(5, 1), vocabulary=vocabulary,
    )  # fmt: skip


def test_only_large_vocabularies_and_heads_that_end_in_a_matrix():
    linear = nn.Linear(4, large_vocabulary.LARGE)
    assert rows_of(linear, linear, large_vocabulary.LARGE) is not None
    assert rows_of(linear, linear, large_vocabulary.LARGE - 1) is None
    assert rows_of(lambda h: linear(h), linear, large_vocabulary.LARGE) is None
    assert rows_of(linear, lambda h: linear(h), large_vocabulary.LARGE) is None
    assert rows_of(linear, None, large_vocabulary.LARGE) is None  # stored as logits
    sizes = {
        shape.vocabulary
        for name in recipes.names()
        for shape in (recipes.get(name).scale("classroom").student,)
    }
    assert max(sizes) < large_vocabulary.LARGE


def test_under_autocast_the_heads_compute_in_its_precision():
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(4, large_vocabulary.LARGE)
    nn.init.normal_(linear.weight, generator=generator)
    full = rows_of(linear, linear, large_vocabulary.LARGE)
    with torch.autocast("cpu", torch.bfloat16):
        half = rows_of(linear, linear, large_vocabulary.LARGE)
    assert half.weighted.dtype == torch.float32
    one, other = float(half.weighted.detach()), float(full.weighted.detach())
    assert one == pytest.approx(other, rel=2e-2) and one != other
    half.weighted.backward()
    assert linear.weight.grad.dtype == torch.float32 and linear.weight.grad.any()
