"""Losses of distilbert-pmhc: bounds, minima and gradients, and the three readings by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from workbench import corpora, losses, models, recipes
from workbench.classifying import classifiers, pairs
from workbench.corpora import Batch
from workbench.distiller import Distiller, Schedule
from workbench.errors import WorkbenchError
from workbench.objective import Counts, HardTerm, Objective, SoftTerm, TeacherSignal
from workbench.recipes import Shape
from workbench.teacher_cache import LiveTeacher

SHAPE = Shape(layers=2, heads=2, width=16, positions=64, vocabulary=25)
VARIANTS = ("corrected", "as-published", "as-coded")
NAMES = ("hard", "soft", "cosine")
logits_of_two = st.tuples(st.floats(-50, 50), st.floats(-50, 50))
temperatures = st.floats(0.25, 25)


def objective(variant: str) -> Objective:
    return recipes.get("distilbert-pmhc").variant(variant).objective


def pair(a: float, b: float) -> Tensor:
    return torch.tensor([[a, b]], dtype=torch.float64)


def probability(*values: float) -> Tensor:
    """Logits at T = 1 whose softmax is 1 − p, p."""
    return torch.tensor([[math.log1p(-p), math.log(p)] for p in values], dtype=torch.float64)


# ---------------------------------------------------------------------- softmax before the label


@given(z=logits_of_two, temperature=temperatures, label=st.integers(0, 1))
def test_with_softmax_before_it_a_cross_entropy_is_confined(z, temperature, label):
    found = losses.probability_cross_entropy(pair(*z), torch.tensor([label]), temperature)
    assert found.shape == (1,)
    assert math.log(1 + 1 / math.e) - 1e-12 <= found.item() <= math.log(1 + math.e) + 1e-12


def test_the_bounds_of_the_confined_cross_entropy_are_reached():
    z, labels = pair(0, 400).repeat(2, 1), torch.tensor([1, 0])
    best, worst = losses.probability_cross_entropy(z, labels, 2.0).tolist()
    assert best == pytest.approx(0.3133, abs=5e-5) and worst == pytest.approx(1.3133, abs=5e-5)
    assert best == pytest.approx(math.log(1 + 1 / math.e), abs=1e-15)
    assert worst == pytest.approx(math.log(1 + math.e), abs=1e-15)


@given(
    rows=st.lists(st.tuples(logits_of_two, st.integers(0, 1)), min_size=1, max_size=6),
    temperature=temperatures,
)
def test_it_is_torchs_cross_entropy_of_a_softmax(rows, temperature):
    z = torch.tensor([r for r, _ in rows], dtype=torch.float64)
    y = torch.tensor([label for _, label in rows])
    found = losses.probability_cross_entropy(z, y, temperature)
    expected = nn.CrossEntropyLoss()(torch.softmax(z / temperature, dim=1), y)
    assert found.shape == (len(rows),)
    assert found.mean().item() == pytest.approx(expected.item(), abs=1e-13)


@pytest.mark.parametrize("margin", [10.0, 20.0, 40.0])
def test_it_does_not_pull_where_a_student_is_wrong_and_sure(margin):
    y = torch.tensor([0])
    pull = {}
    for name, loss in (
        ("right", lambda z: losses.hard_cross_entropy(z, y)),
        ("twice", lambda z: losses.probability_cross_entropy(z, y, 1.0)),
    ):
        z = pair(0, margin).requires_grad_()
        loss(z).sum().backward()
        pull[name] = z.grad[0]
    q = 1 / (1 + math.exp(margin))
    assert pull["right"].tolist() == pytest.approx([q - 1, 1 - q], abs=1e-12)
    assert pull["right"].abs().min() > 0.9999
    # By the chain rule: q(1−q)·2·softmax(q)[wrong], and q(1−q) is all but nothing.
    wrong = 1 / (1 + math.exp(-(1 - 2 * q)))
    expected = 2 * q * (1 - q) * wrong
    assert pull["twice"].tolist() == pytest.approx([-expected, expected], rel=1e-9)
    assert pull["twice"].abs().max() < 1e-4


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_gradients_are_those_of_finite_differences(temperature):
    z = torch.tensor([[0.3, -1.2], [2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    v, y = pair(0.7, -0.4).repeat(2, 1), torch.tensor([1, 0])
    for loss in (
        lambda x: losses.probability_cross_entropy(x, y, temperature),
        lambda x: losses.probability_soft_cross_entropy(x, v, temperature),
        lambda x: losses.soft_cross_entropy(x, v, temperature),
        lambda x: losses.cosine_distance(x, v),
    ):
        assert torch.autograd.gradcheck(loss, (z,))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature):
    z, y = pair(0, 1), torch.tensor([1])
    for call in (
        lambda: losses.probability_cross_entropy(z, y, temperature),
        lambda: losses.probability_soft_cross_entropy(z, z, temperature),
        lambda: losses.soft_cross_entropy(z, z, temperature),
    ):
        with pytest.raises(ValueError, match="temperature is"):
            call()


# ---------------------------------------------------------------------- softmax before the teacher


@pytest.mark.parametrize("p", [0.02, 0.2, 0.26, 0.27, 0.3, 0.5, 0.6, 0.7, 0.73, 0.74, 0.8, 0.99])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_minimum_of_the_soft_term_lies_where_the_formula_says(p, temperature):
    q = torch.linspace(0, 1, 20_001, dtype=torch.float64)[1:-1]
    student = temperature * torch.stack([torch.log1p(-q), q.log()], dim=1)
    teacher = temperature * probability(p).expand(len(q), 2)
    found = losses.probability_soft_cross_entropy(student, teacher, temperature)
    best = q[found.argmin()].item()
    expected = min(max((1 + math.log(p / (1 - p))) / 2, 0.0), 1.0)
    assert best == pytest.approx(expected, abs=1e-4)
    # The right term's minimum is the teacher's answer.
    right = losses.soft_cross_entropy(student, teacher, temperature)
    assert q[right.argmin()].item() == pytest.approx(p, abs=1e-4)


@given(z=logits_of_two, v=logits_of_two, temperature=temperatures)
def test_soft_terms_are_torchs_with_probabilities_as_targets(z, v, temperature):
    z, v = pair(*z), pair(*v)
    target = torch.softmax(v / temperature, dim=1)
    criterion = nn.CrossEntropyLoss()
    twice = losses.probability_soft_cross_entropy(z, v, temperature)
    once = losses.soft_cross_entropy(z, v, temperature)
    expected = criterion(torch.softmax(z / temperature, dim=1), target)
    assert twice.item() == pytest.approx(expected.item(), abs=1e-12)
    assert once.item() == pytest.approx(criterion(z / temperature, target).item(), rel=1e-12)
    # Cross-entropy is divergence and entropy.
    parts = losses.soft_divergence(z, v, temperature) + losses.entropy(v, temperature)
    assert once.item() == pytest.approx(parts.item(), rel=1e-9, abs=1e-9)


# ---------------------------------------------------------------------- cosine


@pytest.mark.parametrize("width", [2, 16])
def test_the_cosine_distance_is_torchs_embedding_loss(width):
    generator = torch.Generator().manual_seed(width)
    a, b = torch.randn(2, 9, width, generator=generator, dtype=torch.float64)
    found = losses.cosine_distance(a, b)
    expected = nn.CosineEmbeddingLoss(reduction="none")(a, b, torch.ones(9))
    # Torch's adds 1e-12 to the squares.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(losses.cosine_distance(5 * a, 0.1 * b), found, rtol=0, atol=1e-12)
    ends = torch.stack([losses.cosine_distance(a, 2 * a), losses.cosine_distance(a, -a)])
    torch.testing.assert_close(ends[0], torch.zeros(9).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(ends[1], torch.full((9,), 2.0).double(), rtol=0, atol=1e-12)


# ---------------------------------------------------------------------- three readings, one batch


def classifier(seed: int, shape: Shape = SHAPE):
    return classifiers.build(shape, activation="gelu", seed=seed, initial_spread=0.4).double()


@pytest.fixture(scope="module")
def teacher():
    return classifier(1).eval().requires_grad_(False)


def batches_of(count: int, size: int) -> list[Batch]:
    corpus = pairs.load(pairs.PEPTIDE_WORLD, train_pairs=count, validation_pairs=10)
    tokenizer = classifiers.residue_tokenizer()
    rows = pairs.tokenise(corpus.train, corpus.pseudo_sequences, tokenizer, 64)
    return corpora.make_batches(rows, size, tokenizer.pad_token_id)


@pytest.fixture(scope="module")
def batch() -> Batch:
    (batch,) = batches_of(10, 10)
    assert len(set(batch.lengths.tolist())) > 1  # there is padding
    assert set(batch.labels.tolist()) == {0, 1}
    return batch


def longer(batch: Batch, more: int, filling: int) -> Batch:
    """The same batch with other padding, and more of it."""
    ids = batch.input_ids.masked_fill(~batch.real(), filling)
    ids = functional.pad(ids, (0, more), value=filling)
    return Batch(0, ids, batch.lengths, batch.first_token, batch.tokens, batch.labels)


def values(variant: str, student, teacher, batch: Batch, temperature: float) -> dict[str, Tensor]:
    """`Objective.values` of a batch that both models are run on."""
    chosen = objective(variant)
    scored, labelled = chosen.scored(batch.lengths, batch.input_ids.shape[1])
    assert scored.equal(labelled) and scored.sum() == len(batch.lengths)
    real = batch.real()
    states = []
    for model in (student, teacher):
        backbone, head = models.split_head(model)
        states.append((models.last_hidden(backbone, batch.input_ids, real), head))
    (own, own_head), (other, other_head) = states
    return chosen.values(
        own[scored],
        own_head,
        batch.labels,
        TeacherSignal(other[scored], other_head, other[real]),
        temperature=temperature,
        counts=Counts(len(batch.lengths), len(batch.lengths), batch.tokens),
        vocabulary=2,
        states=own[real] if chosen.compares_states else None,
    )


def written_out(
    variant: str, student, teacher, batch: Batch, temperature: float, alpha: float
) -> tuple[dict[str, Tensor], Tensor]:
    """The same with whole models and torch's modules."""
    mask = (torch.arange(batch.input_ids.shape[1]) < batch.lengths[:, None]).long()
    asked = {"input_ids": batch.input_ids, "attention_mask": mask, "output_hidden_states": True}
    own, other = student(**asked), teacher(**asked)
    z, v, y = own.logits, other.logits, batch.labels
    p = nn.Softmax(dim=1)(v / temperature)
    if variant == "as-coded":  # remi-or/distilCamembert: softmax goes into CrossEntropyLoss
        q = nn.Softmax(dim=1)(z / temperature)
        hard = nn.CrossEntropyLoss()(q, y)
        soft = nn.CrossEntropyLoss()(q, p)
        cosine = nn.CosineEmbeddingLoss()(p, q, torch.ones(len(y)))
        return {"hard": hard, "soft": soft, "cosine": cosine}, (hard + soft + cosine) / 3
    hard = nn.CrossEntropyLoss()(z, y)
    if variant == "as-published":
        soft = nn.CrossEntropyLoss()(z / temperature, p)
    else:
        log_q = nn.LogSoftmax(dim=1)(z / temperature)
        soft = nn.KLDivLoss(reduction="batchmean")(log_q, p) * temperature**2
    kept = mask.reshape(-1).nonzero()[:, 0]
    h, g = (x.hidden_states[-1].reshape(-1, x.hidden_states[-1].shape[-1]) for x in (own, other))
    cosine = nn.CosineEmbeddingLoss()(h[kept], g[kept], torch.ones(len(kept)))
    total = alpha * hard + (1 - alpha) * soft + cosine
    return {"hard": hard, "soft": soft, "cosine": cosine}, total


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.0])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_a_variant_is_what_one_writes_with_torch(variant, temperature, alpha, teacher, batch):
    student = classifier(2)
    found = values(variant, student, teacher, batch, temperature)
    expected, total = written_out(variant, student, teacher, batch, temperature, alpha)
    assert tuple(found) == NAMES
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-10)
    sum_of_terms = objective(variant).total(found, alpha)
    torch.testing.assert_close(sum_of_terms, total, rtol=1e-9, atol=1e-10)
    parameters = list(student.parameters())
    gradients = [
        torch.autograd.grad(x, parameters, allow_unused=True) for x in (sum_of_terms, total)
    ]
    largest = max(float(g.abs().max()) for g in gradients[1] if g is not None)
    assert largest > 1e-3
    for mine, plain in zip(*gradients, strict=True):
        assert (mine is None) == (plain is None)
        if mine is not None:
            torch.testing.assert_close(mine, plain, rtol=1e-7, atol=1e-9)


def test_the_variants_differ_in_what_the_course_says(teacher, batch):
    student, t = classifier(2), 3.0
    corrected, published, coded = (values(v, student, teacher, batch, t) for v in VARIANTS)
    assert corrected["hard"].item() == published["hard"].item() != coded["hard"].item()
    assert corrected["cosine"].item() == published["cosine"].item() != coded["cosine"].item()
    # As published: neither T² nor the teacher's entropy taken off.
    with torch.no_grad():
        v = teacher(input_ids=batch.input_ids, attention_mask=batch.real().long()).logits
    entropy = losses.entropy(v, t).mean().item()
    assert published["soft"].item() == pytest.approx(corrected["soft"].item() / t**2 + entropy)
    low, high = math.log(1 + 1 / math.e), math.log(1 + math.e)
    assert low < coded["hard"].item() < high and low < coded["soft"].item() < high


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("more", "filling"), [(0, 9), (5, 0), (11, 17)])
def test_padding_changes_no_term(variant, more, filling, teacher, batch):
    student = classifier(2)
    plain = values(variant, student, teacher, batch, 2.0)
    padded = values(variant, student, teacher, longer(batch, more, filling), 2.0)
    for name in NAMES:
        torch.testing.assert_close(padded[name], plain[name], rtol=1e-10, atol=1e-12)


def test_a_teacher_is_missed_by_its_own_terms_only(teacher, batch):
    """A student that is its teacher: no divergence and no angle; the label's term is left."""
    for variant in ("corrected", "as-coded"):
        found = values(variant, teacher, teacher, batch, 2.0)
        assert found["cosine"].item() == pytest.approx(0, abs=1e-12)
        assert found["hard"].item() > 0.3
    assert values("corrected", teacher, teacher, batch, 2.0)["soft"].item() == pytest.approx(0)


# ---------------------------------------------------------------------- weights and ledger


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_an_average_weighs_every_term_alike_whatever_alpha(alpha):
    assert objective("as-coded").weights(alpha) == dict.fromkeys(NAMES, 1 / 3)
    two = Objective(averaged=True).weights(alpha)
    assert two == {"hard": 0.5, "soft": 0.5}
    for variant in ("corrected", "as-published"):
        assert objective(variant).weights(alpha) == {
            "hard": alpha, "soft": 1 - alpha, "cosine": 1.0,
        }  # fmt: skip


def distiller(variant: str, teacher, student=None, alpha: float = 0.3) -> Distiller:
    return Distiller(
        student or classifier(2), objective(variant), LiveTeacher(teacher), temperature=2.0,
        alpha=alpha, learning_rate=1e-3, schedule=Schedule(10, 0),
    )  # fmt: skip


def test_the_ledger_of_the_corrected_variant(teacher, batch):
    made = distiller("corrected", teacher)
    before = models.fingerprint(made.student)
    entries = made.ledger(batch)
    assert models.fingerprint(made.student) == before
    assert all(p.grad is None for p in made.student.parameters())
    assert tuple(entries) == NAMES
    assert sum(e.share for e in entries.values()) == pytest.approx(1, abs=1e-12)
    assert all(0 < e.share < 1 for e in entries.values())
    assert [e.weight for e in entries.values()] == [0.3, 0.7, 1.0]
    expected, _ = written_out("corrected", made.student, teacher, batch, 2.0, 0.3)
    norms = {}
    for name, entry in entries.items():
        assert entry.value == pytest.approx(expected[name].item(), rel=1e-9)
        gradients = torch.autograd.grad(
            entry.weight * expected[name], list(made.student.parameters()),
            retain_graph=True, allow_unused=True,
        )  # fmt: skip
        norms[name] = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
        assert entry.gradient_norm == pytest.approx(norms[name], rel=1e-6)
    for name, entry in entries.items():
        assert entry.share == pytest.approx(norms[name] / sum(norms.values()), rel=1e-6)


def test_the_ledger_of_the_average_is_measured_on_the_logits(teacher, batch):
    made = distiller("as-coded", teacher)
    entries = made.ledger(batch)
    assert tuple(entries) == NAMES
    assert sum(e.share for e in entries.values()) == pytest.approx(1, abs=1e-12)
    mask = batch.real().long()
    with torch.no_grad():
        z = made.student(input_ids=batch.input_ids, attention_mask=mask).logits
        v = teacher(input_ids=batch.input_ids, attention_mask=mask).logits
    z.requires_grad_()
    q, p = torch.softmax(z / 2, dim=1), torch.softmax(v / 2, dim=1)
    for name, term in (
        ("hard", nn.CrossEntropyLoss()(q, batch.labels)),
        ("soft", nn.CrossEntropyLoss()(q, p)),
        ("cosine", nn.CosineEmbeddingLoss()(p, q, torch.ones(len(q)))),
    ):
        (gradient,) = torch.autograd.grad(term / 3, z, retain_graph=True)
        assert entries[name].weight == pytest.approx(1 / 3)
        assert entries[name].gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-6)


# ---------------------------------------------------------------------- steps


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_in_two_parts_makes_the_step_of_the_whole(variant, teacher, batch):
    first = Batch(
        0, batch.input_ids[:3], batch.lengths[:3], 0, int(batch.lengths[:3].sum()),
        batch.labels[:3],
    )  # fmt: skip
    second = Batch(
        1, batch.input_ids[3:], batch.lengths[3:], first.tokens, batch.tokens - first.tokens,
        batch.labels[3:],
    )  # fmt: skip
    before = classifier(2).state_dict()
    whole, parts = distiller(variant, teacher), distiller(variant, teacher)
    one, other = whole.step(batch), parts.step([first, second])
    assert other.tokens == one.tokens == batch.tokens  # read, not scored
    assert other.numbers() == pytest.approx(one.numbers(), rel=1e-9)
    after, again = whole.student.state_dict(), parts.student.state_dict()
    for name, tensor in after.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=1e-6)
    moved = max(float((after[n] - before[n]).abs().max()) for n in after)
    assert moved > 5e-4  # the step is no smaller than the tolerance
    # Two steps instead of one accumulated are something else.
    apart = distiller(variant, teacher)
    for part in (first, second):
        apart.step(part)
    two = apart.student.state_dict()
    assert max(float((two[n] - after[n]).abs().max()) for n in after) > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_reports_what_one_writes_with_torch(variant, teacher, batch):
    made = distiller(variant, teacher)
    expected, total = written_out(variant, made.student, teacher, batch, 2.0, 0.3)
    found = made.step(batch).numbers()
    numbers = {**{n: x.item() for n, x in expected.items()}, "total": total.item()}
    assert found == pytest.approx(numbers, rel=1e-9)
    assert found["total"] == pytest.approx(
        sum(w * found[n] for n, w in objective(variant).weights(0.3).items())
    )


def test_labels_alone_train_without_the_other_terms(batch):
    student = classifier(2)
    made = Distiller(
        student, objective("corrected"), None, temperature=2.0, alpha=0.3,
        learning_rate=1e-3, schedule=Schedule(10, 0),
    )  # fmt: skip
    with torch.no_grad():
        logits = student(input_ids=batch.input_ids, attention_mask=batch.real().long()).logits
    expected = nn.CrossEntropyLoss()(logits, batch.labels).item()
    found = made.step(batch).numbers()
    assert found == pytest.approx({"hard": expected, "total": expected}, rel=1e-9)


@pytest.mark.parametrize("variant", ["corrected", "as-published"])
def test_hidden_states_of_another_width_are_refused_in_one_line(variant, teacher, batch):
    narrow = Shape(layers=1, heads=2, width=8, positions=64, vocabulary=25)
    made = distiller(variant, teacher, classifier(3, narrow))
    before = models.fingerprint(made.student)
    for act in (made.step, made.ledger):
        with pytest.raises(WorkbenchError) as error:
            act(batch)
        assert "8 wide and the teacher's 16; the cosine term needs" in str(error.value)
        assert "\n" not in str(error.value)
    assert models.fingerprint(made.student) == before


def test_a_cosine_of_answers_takes_a_student_of_any_width(teacher, batch):
    narrow = Shape(layers=1, heads=2, width=8, positions=64, vocabulary=25)
    found = distiller("as-coded", teacher, classifier(3, narrow)).step(batch).numbers()
    assert set(found) == {*NAMES, "total"} and all(map(math.isfinite, found.values()))


# ---------------------------------------------------------------------- formulas


def test_operand_and_kept_entropy_are_told_apart_in_a_formula():
    plain = Objective(scores="example").formula(2, 0.5)
    assert "CE(student, label) [mean]" in plain and "KL(teacher‖student)" in plain
    twice = Objective(
        hard=HardTerm(operand="probabilities"),
        soft=SoftTerm(operand="probabilities"),
        scores="example",
    ).formula(2, 0.5)
    assert "CE(softmax(student), label) [mean]" in twice
    assert "CE(softmax(student), teacher)" in twice
    assert "CE(student, teacher)" in Objective(soft=SoftTerm(entropy_kept=True)).formula(2, 0.5)


def test_the_formulas_of_the_three_readings_say_what_differs():
    text = {name: objective(name).formula(2, 0.25) for name in VARIANTS}
    cosine = " + 1·(1−cos(last hidden states)) [mean over tokens]"
    assert text["corrected"] == (
        "L = 0.25·CE(student, label) [mean] + 0.75·4·KL(teacher‖student) at T=2 [mean]" + cosine
    )
    assert text["as-published"] == (
        "L = 0.25·CE(student, label) [mean] + 0.75·CE(student, teacher) at T=2 [mean]" + cosine
    )
    assert text["as-coded"] == (
        "L = 0.333·CE(softmax(student), label) at T=2 [mean]"
        " + 0.333·CE(softmax(student), teacher) at T=2 [mean]"
        " + 0.333·(1−cos(answers at T=2)) [mean]"
    )
