"""The chunked loss against its dense twin, in value and gradient, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from workbench import vocabulary_loss
from workbench.bench import mlm_head
from workbench.losses import Direction, Reduction
from workbench.objective import Counts, HardTerm, Objective, SoftTerm, TeacherSignal
from workbench.vocabulary_loss import VocabularyLoss, dense_vocabulary_loss

chunked = vocabulary_loss.vocabulary_loss
DIRECTIONS = get_args(Direction)


@dataclass(frozen=True)
class Given:
    """Hidden states and heads of a student, with gradients, and of a teacher."""

    hidden: Tensor
    weight: Tensor
    labels: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor
    bias: Tensor | None
    teacher_bias: Tensor | None

    def loss(self, function=chunked, **options) -> VocabularyLoss:
        options = {"temperature": 2.0, "alpha": 0.3, "sequences": 2, **options}
        if function is dense_vocabulary_loss:
            options.pop("chunk_bytes", None)
        return function(
            self.hidden, self.weight, self.labels, self.teacher_hidden, self.teacher_weight,
            bias=self.bias, teacher_bias=self.teacher_bias, **options,
        )  # fmt: skip

    @property
    def trained(self) -> list[Tensor]:
        return [t for t in (self.hidden, self.weight, self.bias) if t is not None]

    def rows_at_once(self, rows: int) -> int:
        """The budget for so many rows."""
        return rows * len(self.weight) * 2 * self.hidden.element_size()


def case(
    rows: int = 7,
    vocabulary: int = 13,
    width: int = 4,
    teacher_width: int = 5,
    *,
    bias: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
) -> Given:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    return Given(
        hidden=random(rows, width).requires_grad_(),
        weight=random(vocabulary, width).requires_grad_(),
        labels=torch.randint(vocabulary, (rows,), generator=generator),
        teacher_hidden=random(rows, teacher_width),
        teacher_weight=random(vocabulary, teacher_width),
        bias=random(vocabulary).requires_grad_() if bias else None,
        teacher_bias=random(vocabulary) if bias else None,
    )


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Relative to the largest number of the tensor: a gradient has entries next to zero."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    if found.numel():
        largest = max(float(expected.abs().max()), 1e-300)
        assert float((found - expected).abs().max()) <= tolerance * largest


def agree(one: Given, tolerance: float = 1e-9, **options) -> None:
    """Assert that both functions give the same three values and the same gradients."""
    found, expected = one.loss(**options), one.loss(dense_vocabulary_loss, **options)
    for mine, theirs in zip(found, expected, strict=True):
        close(mine.detach(), theirs.detach(), tolerance)
    # An upstream gradient that is not 1.
    for mine, theirs in zip(
        torch.autograd.grad(-2.5 * found.total, one.trained),
        torch.autograd.grad(-2.5 * expected.total, one.trained),
        strict=True,
    ):
        close(mine, theirs, tolerance)


# ---------------------------------------------------------------------- equal to the formula


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("squared", [True, False])
def test_value_and_gradient_are_those_of_the_dense_formula(direction, temperature, alpha, squared):
    for bias in (True, False):
        one = case(bias=bias)
        agree(
            one, temperature=temperature, alpha=alpha, direction=direction,
            temperature_squared=squared, chunk_bytes=one.rows_at_once(3),
        )  # fmt: skip


@pytest.mark.parametrize("hard", get_args(Reduction))
@pytest.mark.parametrize("soft", get_args(Reduction))
def test_reductions_are_those_of_the_dense_formula(hard, soft):
    for rows in (None, 50):  # alone, and as a part of a larger batch
        agree(case(), hard_reduction=hard, soft_reduction=soft, rows=rows, sequences=3)


@given(
    rows=st.integers(1, 20),
    vocabulary=st.integers(1, 40),
    width=st.integers(1, 9),
    teacher_width=st.integers(1, 9),
    bias=st.booleans(),
    at_once=st.integers(1, 25),
    temperature=st.floats(0.1, 50),
    alpha=st.floats(0, 1),
    direction=st.sampled_from(DIRECTIONS),
    block=st.integers(1, 10_000),
    seed=st.integers(0, 1000),
)
def test_any_shape_in_any_chunks(
    rows, vocabulary, width, teacher_width, bias, at_once, temperature, alpha, direction, block,
    seed,
):  # fmt: skip
    one = case(rows, vocabulary, width, teacher_width, bias=bias, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vocabulary_loss.BLOCK_BYTES, "cpu", block)
        if vocabulary == 1:  # nothing to say: every value is 0, and rounding all there is
            loss = one.loss(temperature=temperature, alpha=alpha, direction=direction)
            assert all(abs(value.item()) < 1e-9 for value in loss)
            return
        agree(
            one, temperature=temperature, alpha=alpha, direction=direction,
            chunk_bytes=one.rows_at_once(at_once),
        )  # fmt: skip


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradcheck(direction, temperature):
    one = case(rows=5, vocabulary=6, width=3)

    def total(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        moved = replace(one, hidden=hidden, weight=weight, bias=bias)
        return moved.loss(
            temperature=temperature, direction=direction, chunk_bytes=one.rows_at_once(2)
        ).total

    assert torch.autograd.gradcheck(total, tuple(one.trained))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_by_hand(direction):
    one = case(rows=2, vocabulary=3)
    z = one.hidden @ one.weight.T + one.bias
    v = one.teacher_hidden @ one.teacher_weight.T + one.teacher_bias
    hard = soft = 0.0
    for row in range(2):
        hard -= math.log(z[row].softmax(-1)[one.labels[row]].item()) / 2
        q, p = ((x[row] / 5).softmax(-1).tolist() for x in (z, v))
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]

        def kl(a, b):
            return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))

        divergence = {
            "forward": kl(p, q), "reverse": kl(q, p), "jensen-shannon": (kl(p, m) + kl(q, m)) / 2
        }  # fmt: skip
        soft += 25 * divergence[direction] / 2
    loss = one.loss(temperature=5.0, alpha=0.3, direction=direction)
    assert loss.hard.item() == pytest.approx(hard, rel=1e-12)
    assert loss.soft.item() == pytest.approx(soft, rel=1e-12)
    assert loss.total.item() == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("temperature", [0.05, 1.0, 10.0])
def test_large_logits_stay_finite(direction, temperature):
    agree(case(scale=30.0), temperature=temperature, direction=direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_student_that_is_its_teacher_has_no_divergence(direction):
    one = case()
    same = replace(
        one, teacher_hidden=one.hidden.detach(), teacher_weight=one.weight.detach(),
        teacher_bias=one.bias.detach(),
    )  # fmt: skip
    loss = same.loss(alpha=0.0, direction=direction, temperature=1.0)
    assert abs(loss.soft.item()) < 1e-15
    assert all(g.abs().max() < 1e-14 for g in torch.autograd.grad(loss.total, same.trained))


# ---------------------------------------------------------------------- precision


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_single_precision(direction, temperature):
    agree(
        case(64, 500, 16, 24, dtype=torch.float32, scale=0.5), 2e-5,
        direction=direction, temperature=temperature, chunk_bytes=64_000,
    )  # fmt: skip


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_half_precision_is_summed_and_softened_in_full(direction):
    one = case(64, 500, 16, 24, dtype=torch.bfloat16, scale=0.5)
    loss = one.loss(direction=direction, chunk_bytes=64_000)
    assert {value.dtype for value in loss} == {torch.float32}
    # bfloat16 has 8 bits: logits of some size 4 are off by 1 % each, their mean by far less.
    agree(one, 0.02, direction=direction, chunk_bytes=64_000)
    many, few = (
        torch.autograd.grad(one.loss(chunk_bytes=size).total, one.weight)[0].float()
        for size in (one.rows_at_once(1), 10**9)
    )
    # 64 chunks summed in bfloat16 would be off by several percent.
    assert (many - few).norm() < 0.005 * few.norm()


def test_a_small_mean_does_not_vanish_in_half_precision():
    one = case(dtype=torch.float16, scale=0.5)
    rows = 10**7  # 1/rows is below the smallest number of float16
    loss = one.loss(rows=rows)
    (found,) = torch.autograd.grad(rows * loss.total, one.hidden)
    (expected,) = torch.autograd.grad(one.loss(rows=1).total, one.hidden)
    close(found, expected, 1e-2)


def test_student_and_teacher_may_differ_in_precision():
    one = case(32, 50, dtype=torch.float32)
    half = replace(
        one, teacher_hidden=one.teacher_hidden.bfloat16(),
        teacher_weight=one.teacher_weight.bfloat16(), teacher_bias=one.teacher_bias.bfloat16(),
    )  # fmt: skip
    # Its logits are rounded after they were divided by T, in the dense formula before.
    agree(half, 0.02, temperature=3.0)


# ---------------------------------------------------------------------- gradients asked for


@pytest.mark.parametrize("needed", ["hidden", "weight", "bias"])
def test_only_what_asks_for_a_gradient_gets_one(needed, monkeypatch):
    one = case()
    (expected,) = torch.autograd.grad(one.loss().total, getattr(one, needed))
    alone = replace(
        one, **{n: getattr(one, n).detach() for n in ("hidden", "weight", "bias") if n != needed}
    )
    products = []
    for name in ("mm", "addmm"):
        whole = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, w=whole, **k: products.append(1) or w(*a, **k))
    loss = alone.loss()
    # Logits twice, and the gradient of the hidden states where it is needed.
    assert len(products) == (3 if needed == "hidden" else 2)
    loss.total.backward()
    close(getattr(alone, needed).grad, expected, 1e-12)
    assert all(getattr(alone, n).grad is None for n in {"hidden", "weight", "bias"} - {needed})


def test_without_gradients_there_is_only_the_value(monkeypatch):
    one = case()
    expected = one.loss().total.item()
    with torch.no_grad():
        monkeypatch.setattr(torch, "mm", None)
        loss = one.loss()
    assert loss.total.item() == expected and not loss.total.requires_grad


def test_terms_are_detached_and_the_teacher_gets_no_gradient():
    one = case()
    learning = replace(one, teacher_weight=one.teacher_weight.requires_grad_())
    loss = learning.loss()
    assert loss.total.requires_grad and not loss.hard.requires_grad and not loss.soft.requires_grad
    loss.total.backward()
    assert learning.teacher_weight.grad is None


def test_a_tied_matrix_gets_both_of_its_gradients():
    one, ids = case(width=5, teacher_width=5), torch.tensor([1, 2, 3, 4, 5, 6, 0])
    table = one.weight

    def gradient(function) -> Tensor:
        tied = replace(one, hidden=nn.functional.embedding(ids, table).tanh())
        return torch.autograd.grad(tied.loss(function).total, table)[0]

    close(gradient(chunked), gradient(dense_vocabulary_loss))


def test_backward_may_come_twice_and_leaves_its_gradients_alone():
    one = case()
    total = one.loss().total
    first = torch.autograd.grad(total, one.trained, retain_graph=True)
    copies = [g.clone() for g in first]
    for gradient in first:
        gradient.zero_()
    for again, copy in zip(torch.autograd.grad(3 * total, one.trained), copies, strict=True):
        close(again, 3 * copy, 1e-14)


def test_inputs_are_left_as_they_were():
    one = case()
    before = [t.detach().clone() for t in vars(one).values()]
    one.loss().total.backward()
    assert all(torch.equal(t, b) for t, b in zip(vars(one).values(), before, strict=True))


def test_a_part_without_rows_adds_nothing():
    one = case(rows=0)
    loss = one.loss(rows=10)
    assert loss.total.item() == 0.0
    assert all(not g.any() for g in torch.autograd.grad(loss.total, one.trained))


# ---------------------------------------------------------------------- in place of the objective


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_the_weighted_sum_of_an_objective(direction):
    one = case()
    heads = []
    for weight, bias in ((one.weight, one.bias), (one.teacher_weight, one.teacher_bias)):
        heads.append(lambda h, w=weight, b=bias: nn.functional.linear(h, w, b))
    objective = Objective(
        hard=HardTerm(reduction="token-mean"),
        soft=SoftTerm(direction=direction, reduction="batchmean"),
        combined=7.0,
    )
    values = objective.values(
        one.hidden, heads[0], one.labels, TeacherSignal(one.teacher_hidden, heads[1]),
        temperature=3.0, counts=Counts(rows=9, sequences=4), vocabulary=len(one.weight),
    )  # fmt: skip
    weights = objective.weights(0.2)
    both = weights["hard"] + weights["soft"]
    loss = one.loss(
        temperature=3.0, alpha=weights["hard"] / both, direction=direction,
        soft_reduction="batchmean", rows=9, sequences=4,
    )  # fmt: skip
    total = objective.total(values, 0.2)
    close(both * loss.total.detach(), total.detach(), 1e-12)
    close(loss.hard, values["hard"].detach(), 1e-12)
    close(loss.soft, values["soft"].detach(), 1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(both * loss.total, one.trained),
        torch.autograd.grad(total, one.trained),
        strict=True,
    ):
        close(mine, theirs, 1e-12)


# ---------------------------------------------------------------------- chunks and memory


@pytest.mark.parametrize(
    ("rows", "bytes_per_row", "budget", "expected"),
    [
        (4096, 402_056, vocabulary_loss.CHUNK_BYTES, 512),  # 50,257 tokens in float32
        (10, 4, 16, 4),  # 4 + 4 + 2
        (9, 4, 16, 3),  # not 4 + 4 + 1
        (5, 4, 10**9, 5),
        (5, 100, 1, 1),
        (0, 4, 16, 1),
    ],
)
def test_rows_of_a_chunk(rows, bytes_per_row, budget, expected):
    assert vocabulary_loss.chunk_rows(rows, bytes_per_row, budget) == expected


def test_extra_memory_is_a_twelfth_of_the_dense_formulas():
    # As wide in the vocabulary against rows and widths as at full size, and made in a moment.
    one = case(512, 3000, 8, 16, bias=False, dtype=torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vocabulary_loss.BLOCK_BYTES, "cpu", 50_000)
        mine, dense = (
            mlm_head.peak_memory_mb(
                lambda f=f: torch.autograd.grad(
                    one.loss(f, chunk_bytes=one.rows_at_once(64)).total, one.trained
                )
            )
            for f in (chunked, dense_vocabulary_loss)
        )
    logits = 4 * 512 * 3000 / 1e6
    assert dense > 6 * logits
    assert mine <= dense / 12


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; expected a finite number above 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"alpha": 1.1}, "alpha is 1.1; expected a number from 0"),
        ({"direction": "sideways"}, "direction is 'sideways'; expected one of forward, reverse"),
        ({"hard_reduction": "mean"}, "reduction is 'mean'; expected one of token-mean"),
        ({"soft_reduction": "median"}, "reduction is 'median'"),
        ({"soft_reduction": "batchmean", "sequences": None}, "batchmean divides by sequences"),
        ({"rows": 0}, "rows is 0; a mean needs at least 1"),
        ({"chunk_bytes": 0}, "chunk_bytes is 0"),
    ],
)
def test_numbers_out_of_range_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        case().loss(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden": (7, 3)}, r"student's hidden states are \[7, 3\] and its head \[13, 4\]"),
        ({"hidden": (7, 2, 4)}, r"student's hidden states are \[7, 2, 4\]"),
        ({"teacher_hidden": (7, 4)}, r"teacher's hidden states are \[7, 4\] and its head"),
        ({"teacher_hidden": (6, 5)}, "7 rows of the student, 6 of the teacher"),
        ({"labels": (6,)}, r"labels \[6\]"),
        ({"labels": (7, 1)}, r"labels \[7, 1\]"),
        ({"teacher_weight": (12, 5), "teacher_bias": (12,)}, "is 13 and the teacher's 12"),
        ({"bias": (12,)}, r"student's bias is \[12\]; expected \[13\]"),
        ({"teacher_bias": (13, 1)}, r"teacher's bias is \[13, 1\]"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_one_line(changed, message):
    one = case()
    changed = {n: torch.zeros(shape, dtype=getattr(one, n).dtype) for n, shape in changed.items()}
    with pytest.raises(ValueError, match=message) as caught:
        replace(one, **changed).loss()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [-100, -1, 13])
def test_labels_out_of_range_are_one_line(label):
    one = case()
    one.labels[3] = label
    with pytest.raises(ValueError, match=rf"labels run from .*{label}.*; expected 0 to 12"):
        one.loss()


def test_types_that_do_not_fit_are_one_line():
    one = case()
    with pytest.raises(ValueError, match=r"labels are torch\.float64; expected integers"):
        replace(one, labels=one.labels.double()).loss()
    with pytest.raises(ValueError, match="student's hidden states and head are float32 and f"):
        replace(one, hidden=one.hidden.float()).loss()
    with pytest.raises(ValueError, match="teacher's hidden states and head are bfloat16 and float"):
        replace(one, teacher_bias=one.teacher_bias.bfloat16()).loss()
    with pytest.raises(ValueError, match="tensors lie on cpu and meta; move them to one device"):
        replace(one, labels=one.labels.to("meta")).loss()
