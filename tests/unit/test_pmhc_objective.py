"""The three readings of distilbert-pmhc, against torch's own losses; padding; parts of a batch."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from workbench import classifiers, corpora, losses, models, pairs, recipes
from workbench.corpora import Batch
from workbench.distiller import Distiller, Schedule
from workbench.objective import CosineTerm, Objective
from workbench.recipes import Shape
from workbench.recipes.recipe import VARIANTS
from workbench.teacher_cache import LiveTeacher, open_cache

SHAPE = Shape(layers=2, heads=2, width=16, positions=64, vocabulary=25)
T, ALPHA = 2.0, 0.3
logit = st.floats(-30, 30)


def classifier(seed: int, shape: Shape = SHAPE):
    model = classifiers.build(shape, activation="gelu", seed=seed, initial_spread=0.4)
    return model.double()


@pytest.fixture(scope="module")
def batch() -> Batch:
    corpus = pairs.load(pairs.PEPTIDE_WORLD, train_pairs=12, validation_pairs=10)
    rows = pairs.tokenise(
        corpus.train, corpus.pseudo_sequences, classifiers.residue_tokenizer(), 64
    )
    (batch,) = corpora.make_batches(rows, 12, 0)
    assert len(set(batch.lengths.tolist())) > 1  # some rows are padded
    return batch


@pytest.fixture
def teacher():
    return classifier(1).eval().requires_grad_(False)


def distiller(teacher, objective: Objective, student=None) -> Distiller:
    return Distiller(
        student or classifier(2), objective, LiveTeacher(teacher), temperature=T, alpha=ALPHA,
        learning_rate=1e-3, schedule=Schedule(10, 0),
    )  # fmt: skip


def by_hand(variant: str, batch: Batch, teacher, student) -> tuple[float, float, float, float]:
    """Hard, soft, cosine and total as one would write them with torch alone."""
    mask = batch.real().long()
    with torch.no_grad():
        v, z = (m(input_ids=batch.input_ids, attention_mask=mask, output_hidden_states=True)
                for m in (teacher, student))  # fmt: skip
    h_t, h_s = v.hidden_states[-1], z.hidden_states[-1]
    v, z, y = v.logits, z.logits, batch.labels
    t = functional.softmax(v / T, dim=-1)
    if variant == "as-coded":
        s = functional.softmax(z / T, dim=-1)
        hard, soft = nn.CrossEntropyLoss()(s, y), nn.CrossEntropyLoss()(s, t)
        cosine = nn.CosineEmbeddingLoss()(t, s, torch.ones(len(y)))
        return hard, soft, cosine, (hard + soft + cosine) / 3
    hard = nn.CrossEntropyLoss()(z, y)
    if variant == "corrected":
        kl = nn.KLDivLoss(reduction="batchmean")
        soft = kl(functional.log_softmax(z / T, dim=-1), t) * T * T
    else:
        soft = nn.CrossEntropyLoss()(z / T, t)
    real = mask.bool()
    cosine = nn.CosineEmbeddingLoss()(h_t[real], h_s[real], torch.ones(int(real.sum())))
    return hard, soft, cosine, ALPHA * hard + (1 - ALPHA) * soft + cosine


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_has_the_terms_of_its_variant(variant, batch, teacher):
    objective = recipes.get("distilbert-pmhc").variant(variant).objective
    made = distiller(teacher, objective)
    expected = by_hand(variant, batch, teacher, made.student)
    found = made.step(batch).numbers()
    assert list(found) == ["hard", "soft", "cosine", "total"]
    assert list(found.values()) == pytest.approx([float(x) for x in expected], abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_no_term(variant, batch, teacher):
    objective = recipes.get("distilbert-pmhc").variant(variant).objective
    longer = functional.pad(batch.input_ids, (0, 7), value=0)
    padded = Batch(0, longer, batch.lengths, 0, batch.tokens, batch.labels, batch.members)
    found = [distiller(teacher, objective).step(b).numbers() for b in (batch, padded)]
    assert found[0] == pytest.approx(found[1], abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_in_parts_is_the_batch_in_one_piece(variant, batch, teacher):
    objective = recipes.get("distilbert-pmhc").variant(variant).objective
    parts, first = [], 0
    for rows in (slice(0, 5), slice(5, 12)):
        lengths = batch.lengths[rows]
        tokens = int(lengths.sum())
        parts.append(Batch(0, batch.input_ids[rows], lengths, first, tokens, batch.labels[rows]))
        first += tokens
    whole, split = distiller(teacher, objective), distiller(teacher, objective)
    assert whole.step(batch).numbers() == pytest.approx(split.step(parts).numbers(), abs=1e-9)
    for one, other in zip(whole.student.parameters(), split.student.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_cache_says_what_the_teacher_says(batch, teacher, tmp_path):
    live = LiveTeacher(teacher)
    cached = open_cache(live, [batch], directory=tmp_path)
    first = batch.real() & (torch.arange(batch.input_ids.shape[1]) == 0)
    one, other = live.signal(batch, first), cached.signal(batch, first)
    with torch.no_grad():
        whole = teacher(input_ids=batch.input_ids, attention_mask=batch.real().long()).logits
    assert one.logits(slice(None)).equal(other.logits(slice(None)))
    assert one.states.equal(other.states) and len(one.states) == batch.tokens
    torch.testing.assert_close(one.logits(slice(None)), whole)


def test_the_ledger_holds_all_three_terms_and_changes_nothing(batch, teacher):
    objective = recipes.get("distilbert-pmhc").variant("corrected").objective
    made = distiller(teacher, objective)
    before = models.fingerprint(made.student)
    entries = made.ledger(batch)
    assert list(entries) == ["hard", "soft", "cosine"]
    assert sum(entry.share for entry in entries.values()) == pytest.approx(1)
    assert models.fingerprint(made.student) == before
    assert all(p.grad is None for p in made.student.parameters())
    # Against the gradient of each term alone, taken by a step of its own.
    mask = batch.real().long()
    student = copy.deepcopy(made.student)
    z = student(input_ids=batch.input_ids, attention_mask=mask).logits
    (ALPHA * functional.cross_entropy(z, batch.labels)).backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in student.parameters()))
    assert entries["hard"].gradient_norm == pytest.approx(norm, rel=1e-6)


def test_an_average_has_no_alpha():
    objective = Objective(cosine=CosineTerm("answers"), averaged=True, scores="example")
    for alpha in (0.0, 0.5, 1.0):
        weights = objective.weights(alpha)
        assert weights == dict.fromkeys(("hard", "soft", "cosine"), 1 / 3)
    own = Objective(cosine=CosineTerm(weight=0.7)).weights(0.25)
    assert own == {"hard": 0.25, "soft": 0.75, "cosine": 0.7}


def test_formulas_say_what_differs():
    variants = recipes.get("distilbert-pmhc").variants
    text = {name: v.objective.formula(2, 0.5) for name, v in variants.items()}
    assert "0.5·4·KL(teacher‖student) at T=2" in text["corrected"]
    assert "0.5·CE(student, teacher) at T=2" in text["as-published"]
    assert text["as-coded"].startswith("L = 0.333·CE(softmax(student), label) at T=2")
    assert "1·(1−cos(last hidden states))" in text["corrected"]
    assert "0.333·(1−cos(answers at T=2))" in text["as-coded"]


# ---------------------------------------------------------------------- losses


@given(a=logit, b=logit, temperature=st.floats(0.3, 20), label=st.integers(0, 1))
def test_softmax_twice_confines_the_loss(a, b, temperature, label):
    z = torch.tensor([[a, b]], dtype=torch.float64)
    y = torch.tensor([label])
    found = losses.probability_cross_entropy(z, y, temperature)
    assert math.log1p(1 / math.e) - 1e-12 <= found.item() <= math.log1p(math.e) + 1e-12
    direct = nn.CrossEntropyLoss()(functional.softmax(z / temperature, dim=-1), y)
    assert found.item() == pytest.approx(direct.item(), abs=1e-12)


def test_softmax_twice_does_not_pull_a_student_that_is_wrong_and_sure():
    y = torch.tensor([0])
    norms = []
    for loss in (lambda z: losses.hard_cross_entropy(z, y),
                 lambda z: losses.probability_cross_entropy(z, y, 1.0)):  # fmt: skip
        z = torch.tensor([[-8.0, 8.0]], dtype=torch.float64, requires_grad=True)
        loss(z).sum().backward()
        norms.append(float(z.grad.norm()))
    assert norms[0] == pytest.approx(math.sqrt(2), rel=1e-6)
    assert norms[1] < 1e-6


@given(st.lists(st.tuples(logit, logit), min_size=2, max_size=6))
def test_cosine_distance_is_that_of_torch(rows):
    a = torch.tensor(rows, dtype=torch.float64) + 0.1
    b = a.flip(0)
    found = losses.cosine_distance(a, b).mean()
    expected = nn.CosineEmbeddingLoss()(a, b, torch.ones(len(a)))
    assert float(found) == pytest.approx(float(expected), abs=1e-7)
