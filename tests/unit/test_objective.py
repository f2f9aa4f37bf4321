"""The objective: its three variants, what must not change it, and the ledger."""

from __future__ import annotations

import math
from itertools import pairwise
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench import corpora, models, recipes
from workbench.distiller import Distiller, Schedule
from workbench.objective import Counts, HardTerm, Objective, SoftTerm, TeacherSignal
from workbench.teacher_cache import LiveTeacher

VARIANTS = {n: v.objective for n, v in recipes.get("protgpt2-tiny").variants.items()}
BATCH, LENGTH, WIDTH, VOCABULARY = 4, 7, 6, 11
TEMPERATURE, ALPHA = 10.0, 0.1


def random(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def hidden() -> Tensor:
    return random(BATCH, LENGTH, WIDTH, seed=1).requires_grad_()


@pytest.fixture
def head() -> nn.Linear:
    layer = nn.Linear(WIDTH, VOCABULARY, bias=True).double()
    layer.weight.data.copy_(random(VOCABULARY, WIDTH, seed=2, scale=0.7))
    layer.bias.data.copy_(random(VOCABULARY, seed=3))
    return layer


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def teacher_logits() -> Tensor:
    return random(BATCH, LENGTH, VOCABULARY, seed=5)


def by_the_book(
    variant: str, student: Tensor, teacher: Tensor, ids: Tensor, temperature: float, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Hard term, soft term and total on whole ``[batch, length, vocabulary]`` tensors."""
    vocabulary = student.shape[-1]
    if variant == "as-coded":  # the script of May 2024, line by line
        hard = nn.CrossEntropyLoss()(student.view(-1, vocabulary), ids.view(-1))
        soft = nn.KLDivLoss(reduction="batchmean")(
            functional.log_softmax(student / temperature, dim=-1),
            functional.softmax(teacher / temperature, dim=-1),
        )
    else:
        hard = nn.CrossEntropyLoss()(
            student[:, :-1].reshape(-1, vocabulary), ids[:, 1:].reshape(-1)
        )
        p = functional.softmax(teacher[:, :-1] / temperature, dim=-1)
        q = functional.softmax(student[:, :-1] / temperature, dim=-1)
        soft = (p * (p / q).log()).sum(-1).mean()
        if variant == "corrected":
            soft = soft * temperature * temperature
    return hard, soft, alpha * hard + (1 - alpha) * soft


def terms(
    objective: Objective,
    hidden: Tensor,
    head,
    ids: Tensor,
    teacher_logits: Tensor | None,
    *,
    lengths: Tensor | None = None,
    counts: Counts | None = None,
    temperature: float = TEMPERATURE,
    **options,
) -> dict[str, Tensor]:
    """`Objective.values` of whole padded tensors."""
    if lengths is None:
        lengths = torch.full((len(ids),), ids.shape[1])
    scored, labelled = objective.scored(lengths, ids.shape[1])
    signal = None if teacher_logits is None else TeacherSignal(teacher_logits[scored])
    return objective.values(
        hidden[scored],
        head,
        ids[labelled],
        signal,
        temperature=temperature,
        counts=counts or Counts(int(scored.sum()), len(ids)),
        vocabulary=VOCABULARY,
        **options,
    )


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


# ---------------------------------------------------------------------- the three variants


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_variants_are_what_a_plain_implementation_gives(
    variant, temperature, alpha, hidden, head, ids, teacher_logits
):
    objective = VARIANTS[variant]
    hard, soft, total = by_the_book(variant, head(hidden), teacher_logits, ids, temperature, alpha)
    values = terms(objective, hidden, head, ids, teacher_logits, temperature=temperature)
    close(values["hard"], hard)
    close(values["soft"], soft)
    found = objective.total(values, alpha)
    close(found, total)
    variables = (hidden, head.weight, head.bias)
    for mine, plain in zip(
        torch.autograd.grad(found, variables), torch.autograd.grad(total, variables), strict=True
    ):
        close(mine, plain, 1e-11)


def test_the_variants_differ_by_the_factors_that_the_course_names(
    hidden, head, ids, teacher_logits
):
    soft = {
        name: terms(objective, hidden, head, ids, teacher_logits)["soft"].item()
        for name, objective in VARIANTS.items()
    }
    assert soft["corrected"] == pytest.approx(TEMPERATURE**2 * soft["as-published"])
    per_token = terms(
        Objective(hard=HardTerm(shifted=False), soft=SoftTerm(temperature_squared=False)),
        hidden, head, ids, teacher_logits,
    )["soft"].item()  # fmt: skip
    assert soft["as-coded"] == pytest.approx(LENGTH * per_token)


def test_the_hard_label_of_the_script_teaches_to_copy(ids):
    # A student whose logits point at the token it sees has no hard loss as coded.
    copying = 60.0 * functional.one_hot(ids, VOCABULARY).double()
    none = None
    as_coded = terms(VARIANTS["as-coded"], copying, lambda x: x, ids, none)["hard"]
    corrected = terms(VARIANTS["corrected"], copying, lambda x: x, ids, none)["hard"]
    assert as_coded.item() < 1e-20
    assert corrected.item() > 30


def test_the_corrected_hard_term_is_the_loss_of_transformers(tiny_teacher):
    model, tokenizer, _ = models.load_causal_lm(tiny_teacher)
    ids = torch.tensor([tokenizer("ACDEFGHIKL")["input_ids"], tokenizer("WYVTSRQPNM")["input_ids"]])
    backbone, head = models.split_head(model)
    hidden = backbone(input_ids=ids).last_hidden_state
    values = terms(Objective(), hidden, head, ids, None)
    close(values["hard"], model(input_ids=ids, labels=ids).loss, 1e-6)


def test_without_a_teacher_the_hard_term_stands_alone(hidden, head, ids):
    values = terms(Objective(), hidden, head, ids, None)
    assert set(values) == {"hard"}
    assert Objective().total(values, alpha=0.1) is values["hard"]


# ---------------------------------------------------------------------- which positions count


def test_scored_positions_and_their_labels_by_hand():
    lengths = torch.tensor([4, 2, 3])
    scored, labelled = Objective().scored(lengths, 4)
    assert scored.int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert labelled.int().tolist() == [[0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0]]
    scored, labelled = VARIANTS["as-coded"].scored(lengths, 4)
    assert scored.int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert labelled.equal(scored)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant, hidden, head, ids, teacher_logits):
    lengths = torch.tensor([7, 2, 5, 4])
    objective = VARIANTS[variant]
    plain = terms(objective, hidden, head, ids, teacher_logits, lengths=lengths)
    more = 3  # columns of rubbish on the right, and other rubbish in the padding that was there
    padding = torch.arange(LENGTH) >= lengths[:, None]
    rubbish = hidden.detach().clone()
    rubbish[padding] = 1e6
    other = terms(
        objective,
        torch.cat([rubbish, torch.full((BATCH, more, WIDTH), math.nan).double()], dim=1),
        head,
        functional.pad(ids.masked_fill(padding, 0), (0, more)),
        functional.pad(teacher_logits.masked_fill(padding[..., None], 1e6), (0, 0, 0, more)),
        lengths=lengths,
    )
    for name, value in plain.items():
        assert value.item() == other[name].item()


@pytest.mark.parametrize("reduction", ["token-mean", "batchmean", "element-mean", "sum"])
@pytest.mark.parametrize("cuts", [(1, 2, 3), (2,), (3,)])
def test_the_parts_of_a_batch_add_up_to_the_batch(
    reduction, cuts, hidden, head, ids, teacher_logits
):
    objective = Objective(hard=HardTerm(reduction=reduction), soft=SoftTerm(reduction=reduction))
    lengths = torch.tensor([7, 2, 5, 4])
    whole = terms(objective, hidden, head, ids, teacher_logits, lengths=lengths)
    borders = [0, *cuts, BATCH]
    sums = {"hard": 0.0, "soft": 0.0}
    for a, b in pairwise(borders):
        part = terms(
            objective, hidden[a:b], head, ids[a:b], teacher_logits[a:b],
            lengths=lengths[a:b], counts=Counts(int((lengths - 1).sum()), BATCH),
        )  # fmt: skip
        sums = {name: sums[name] + part[name] for name in sums}
    for name, value in whole.items():
        close(sums[name], value)


@pytest.fixture(scope="module")
def teacher(tiny_teacher) -> LiveTeacher:
    model, _, _ = models.load_causal_lm(tiny_teacher)
    return LiveTeacher(model.double())


def new_student(shape) -> nn.Module:
    student = models.build_causal_lm(shape, activation="gelu_pytorch_tanh", seed=1)
    student.get_input_embeddings().weight.data.mul_(10)  # away from the flat start
    return student.double()


def take_step(teacher: LiveTeacher | None, shape, objective, batches, alpha: float = ALPHA):
    """The losses of one step and the gradients it was taken with, before they are clipped."""
    student = new_student(shape)
    distiller = Distiller(
        student, objective, teacher,
        temperature=TEMPERATURE, alpha=alpha, learning_rate=1e-3, schedule=Schedule(10, 0),
    )  # fmt: skip
    gradients = {}

    def keep(_parameters, _limit):
        gradients.update({n: p.grad.clone() for n, p in student.named_parameters()})

    with mock.patch("torch.nn.utils.clip_grad_norm_", keep):
        record = distiller.step(batches)
    assert gradients
    return record, gradients


@pytest.fixture
def rows() -> corpora.Rows:
    tokenizer = models.residue_tokenizer()
    sequences = ["ACDEFGHIK", "MKV", "WWYYTTSSRRQQPPNN", "LL", "GAVLIMFYW", "KRKRKR", "C"]
    return corpora.tokenise(sequences, tokenizer, "plain", 64)


@pytest.mark.parametrize("variant", VARIANTS)
def test_accumulated_batches_make_the_same_step_as_the_whole(variant, rows, teacher, tiny_shape):
    objective = VARIANTS[variant]
    (whole,) = corpora.make_batches(rows, 8, pad=0)
    record, expected = take_step(teacher, tiny_shape, objective, whole)
    for size in (1, 2, 3):
        parts = corpora.make_batches(rows, size, pad=0)
        assert len(parts) == math.ceil(7 / size)
        accumulated, gradients = take_step(teacher, tiny_shape, objective, parts)
        assert accumulated.tokens == record.tokens
        for name, value in record.values.items():
            close(accumulated.values[name], value, 1e-11)
        for name, value in expected.items():
            close(gradients[name], value, 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_the_distiller_has_the_gradient_of_the_plain_implementation(
    variant, teacher, tiny_shape
):
    tokenizer = models.residue_tokenizer()
    sequences = ["ACDEFGHIKL", "WYVTSRQPNM", "MKVLAAGGKS"]  # one length: nothing is padded
    (batch,) = corpora.make_batches(corpora.tokenise(sequences, tokenizer, "plain", 64), 3, 0)
    record, gradients = take_step(teacher, tiny_shape, VARIANTS[variant], batch)
    student = new_student(tiny_shape)
    student.train()
    hard, soft, total = by_the_book(
        variant,
        student(input_ids=batch.input_ids).logits,
        teacher.model(input_ids=batch.input_ids).logits,
        batch.input_ids,
        TEMPERATURE,
        ALPHA,
    )
    for name, value in (("hard", hard), ("soft", soft), ("total", total)):
        close(record.values[name], value.detach(), 1e-11)
    total.backward()
    for name, parameter in student.named_parameters():
        close(gradients[name], parameter.grad, 1e-10)


@pytest.mark.parametrize(("alpha", "alone"), [(0.0, "soft"), (1.0, "hard")])
def test_at_its_ends_alpha_silences_one_term(alpha, alone, rows, teacher, tiny_shape):
    (batch,) = corpora.make_batches(rows, 8, pad=0)
    record, gradients = take_step(teacher, tiny_shape, Objective(), batch, alpha)
    assert record.values["total"].item() == record.values[alone].item()
    if alone == "hard":
        _, labels_only = take_step(None, tiny_shape, Objective(), batch, alpha)
        for name, value in labels_only.items():
            close(gradients[name], value)


# ---------------------------------------------------------------------- chunks


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rows_at_once", [1, 3, 5])
@pytest.mark.parametrize("from_hidden", [False, True])
def test_chunks_give_the_value_and_gradient_of_the_whole(
    variant, rows_at_once, from_hidden, hidden, head, ids
):
    objective = VARIANTS[variant]
    teacher_head = nn.Linear(5, VOCABULARY).double()
    teacher_hidden = random(BATCH, LENGTH, 5, seed=6)
    scored, labelled = objective.scored(torch.full((BATCH,), LENGTH), LENGTH)
    most = 0

    def watched(h: Tensor) -> Tensor:
        nonlocal most
        most = max(most, len(h))
        return head(h)

    def run(signal: TeacherSignal, numbers: int) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        values = objective.values(
            hidden[scored], watched, ids[labelled], signal,
            temperature=2.0, counts=Counts(int(scored.sum()), BATCH), vocabulary=VOCABULARY,
            chunk_numbers=numbers,
        )  # fmt: skip
        total = objective.total(values, 0.3)
        return values, torch.autograd.grad(total, (hidden, head.weight, head.bias))

    with torch.no_grad():
        logits = teacher_head(teacher_hidden[scored])
    dense, dense_gradients = run(TeacherSignal(logits), 10**9)
    assert most == int(scored.sum())
    most = 0
    signal = TeacherSignal(teacher_hidden[scored], teacher_head) if from_hidden else None
    chunked, gradients = run(
        signal or TeacherSignal(logits), rows_at_once * VOCABULARY + VOCABULARY - 1
    )
    assert most == rows_at_once
    for name, value in dense.items():
        close(chunked[name], value)
    for mine, whole in zip(gradients, dense_gradients, strict=True):
        close(mine, whole)
    assert teacher_head.weight.grad is None


def test_half_precision_logits_are_softened_in_full_precision(hidden, ids, teacher_logits):
    logits = random(BATCH, LENGTH, VOCABULARY, seed=8).bfloat16()
    teacher = teacher_logits.bfloat16()
    half = terms(Objective(), logits, lambda x: x, ids, teacher)
    full = terms(Objective(), logits.float(), lambda x: x, ids, teacher.float())
    for name, value in full.items():
        assert half[name].dtype == torch.float32
        assert half[name].item() == value.item()


# ---------------------------------------------------------------------- the ledger


def ledger(objective, hidden, head, ids, teacher_logits, temperature, alpha, **options):
    scored, labelled = objective.scored(torch.full((len(ids),), ids.shape[1]), ids.shape[1])
    return objective.ledger(
        hidden[scored], head, ids[labelled], TeacherSignal(teacher_logits[scored]),
        temperature=temperature, alpha=alpha, counts=Counts(int(scored.sum()), len(ids)),
        vocabulary=teacher_logits.shape[-1], **options,
    )  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("temperature", [1.0, 10.0])
@pytest.mark.parametrize("chunk_numbers", [10**9, 2 * VOCABULARY])
def test_ledger_in_closed_form(
    variant, temperature, chunk_numbers, hidden, head, ids, teacher_logits
):
    objective = VARIANTS[variant]
    entries = ledger(
        objective, hidden, head, ids, teacher_logits, temperature, ALPHA,
        chunk_numbers=chunk_numbers,
    )  # fmt: skip
    last = LENGTH if variant == "as-coded" else LENGTH - 1
    labels = ids if variant == "as-coded" else ids[:, 1:]
    student = head(hidden)[:, :last].detach()
    teacher = teacher_logits[:, :last]
    tokens = BATCH * last
    z, v = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)
    factor = {
        "corrected": temperature / tokens,  # T(q − p)/N
        "as-published": 1 / (temperature * tokens),  # (q − p)/(T·N)
        "as-coded": 1 / (temperature * BATCH),  # summed over positions
    }[variant]
    soft = (1 - ALPHA) * factor * (z - v).norm().item()
    one_hot = functional.one_hot(labels, VOCABULARY)
    hard = ALPHA / tokens * (student.softmax(-1) - one_hot).norm().item()
    assert entries["hard"].gradient_norm == pytest.approx(hard, rel=1e-10)
    assert entries["soft"].gradient_norm == pytest.approx(soft, rel=1e-10)
    assert entries["soft"].share == pytest.approx(soft / (soft + hard), rel=1e-10)
    assert entries["hard"].share + entries["soft"].share == pytest.approx(1.0, abs=1e-15)
    assert (entries["hard"].weight, entries["soft"].weight) == (ALPHA, 1 - ALPHA)
    expected = by_the_book(variant, head(hidden), teacher_logits, ids, temperature, ALPHA)
    assert entries["hard"].value == pytest.approx(expected[0].item(), rel=1e-10)
    assert entries["soft"].value == pytest.approx(expected[1].item(), rel=1e-10)


def test_at_ten_degrees_the_teacher_is_heard_with_t_squared_and_not_without():
    # Sequences as long as the script's blocks, and as unlike as a fresh student and its teacher.
    length, vocabulary = 512, 21
    ids = torch.randint(vocabulary, (2, length), generator=torch.Generator().manual_seed(9))
    student = random(2, length, vocabulary, seed=10, scale=0.1)
    teacher = random(2, length, vocabulary, seed=11, scale=2.0)
    share = {
        name: ledger(objective, student, lambda x: x, ids, teacher, 10.0, 0.1)["soft"].share
        for name, objective in VARIANTS.items()
    }
    assert share["as-published"] < 0.05
    assert 0.7 < share["corrected"] < share["as-coded"]


@pytest.mark.parametrize(("alpha", "alone"), [(0.0, "soft"), (1.0, "hard")])
def test_ledger_at_the_ends_of_alpha(alpha, alone, hidden, head, ids, teacher_logits):
    entries = ledger(Objective(), hidden, head, ids, teacher_logits, 2.0, alpha)
    (other,) = set(entries) - {alone}
    assert (entries[alone].weight, entries[alone].share) == (1.0, 1.0)
    assert (entries[other].weight, entries[other].share) == (0.0, 0.0)
    assert entries[other].gradient_norm == 0.0
    assert entries[other].value > 0  # its value is shown without the weight


def test_ledger_of_no_gradient_at_all_has_no_shares(ids):
    only_word = torch.zeros(BATCH, LENGTH, 1, dtype=torch.float64)
    entries = ledger(Objective(), only_word, lambda x: x, 0 * ids, only_word, 2.0, 0.5)
    assert {e.share for e in entries.values()} == {0.0}


def test_ledger_leaves_no_gradient_behind(rows, teacher, tiny_shape):
    student = new_student(tiny_shape)
    distiller = Distiller(
        student, Objective(), teacher,
        temperature=TEMPERATURE, alpha=ALPHA, learning_rate=1e-3, schedule=Schedule(10, 0),
    )  # fmt: skip
    (batch,) = corpora.make_batches(rows, 8, pad=0)
    before = models.fingerprint(student)
    first = distiller.ledger(batch)
    assert all(p.grad is None for m in (student, teacher.model) for p in m.parameters())
    assert models.fingerprint(student) == before
    assert distiller.ledger(batch) == first
    values = distiller.step(batch).numbers()
    for name, entry in first.items():
        assert entry.value == pytest.approx(values[name], rel=1e-10)


# ---------------------------------------------------------------------- the formula


def test_formula_shows_the_numbers_and_the_conventions():
    texts = {name: objective.formula(10.0, 0.1) for name, objective in VARIANTS.items()}
    for text in texts.values():
        assert text.startswith("L = 0.1·CE(student, x[t")
        assert "T=10" in text
        assert "KL(teacher‖student)" in text
    assert "0.9·100·KL" in texts["corrected"]
    assert "0.9·KL" in texts["as-published"]
    assert "0.9·KL" in texts["as-coded"]
    assert "x[t+1]" in texts["corrected"]
    assert "x[t+1]" in texts["as-published"]
    assert "x[t]" in texts["as-coded"]
    assert texts["corrected"].count("[mean over tokens]") == 2
    assert texts["as-coded"].endswith("[sum over positions, mean over sequences]")


@pytest.mark.parametrize(
    ("objective", "part"),
    [
        (Objective(soft=SoftTerm(direction="reverse")), "KL(student‖teacher)"),
        (Objective(soft=SoftTerm(direction="jensen-shannon")), "JS(teacher, student)"),
        (Objective(soft=SoftTerm(reduction="sum")), "[sum]"),
        (Objective(soft=SoftTerm(reduction="element-mean")), "mean over tokens and vocabulary"),
    ],
)
def test_formula_of_other_conventions(objective, part):
    text = objective.formula(2.5, 0.25)
    assert part in text
    assert "0.25·CE" in text
    assert "0.75·6.25·" in text
    assert "T=2.5" in text
