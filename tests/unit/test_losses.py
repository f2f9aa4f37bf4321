"""Loss terms against their closed forms, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from workbench import losses

DIRECTIONS = ("forward", "reverse", "jensen-shannon")

seeds = st.integers(0, 2**32 - 1)
temperatures = st.floats(0.3, 30.0)
sizes = st.tuples(st.integers(1, 5), st.integers(2, 12))


def logits(seed: int, shape: tuple[int, ...], scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def pair(seed: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Student's logits, asking for a gradient, and the teacher's."""
    both = logits(seed, (2, *shape))
    return both[0].clone().requires_grad_(), both[1]


def gradient(value: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, at)[0]


# ---------------------------------------------------------------------- gradients


@given(seeds, sizes, temperatures)
def test_gradient_of_the_forward_divergence_is_q_minus_p_over_t(seed, size, temperature):
    student, teacher = pair(seed, size)
    divergence = losses.soft_divergence(student, teacher, temperature)
    expected = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    torch.testing.assert_close(
        gradient(divergence.sum(), student), (expected / temperature).detach(), atol=1e-12, rtol=0
    )


@given(seeds, sizes, temperatures)
def test_gradient_of_t_squared_times_the_mean_divergence_is_t_times_q_minus_p(
    seed, size, temperature
):
    student, teacher = pair(seed, size)
    rows, vocabulary = size
    mean = losses.reduce(
        losses.soft_divergence(student, teacher, temperature),
        "token-mean",
        rows=rows,
        sequences=1,
        vocabulary=vocabulary,
    )
    expected = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    torch.testing.assert_close(
        gradient(temperature**2 * mean, student),
        (temperature * expected / rows).detach(),
        atol=1e-10,
        rtol=1e-9,
    )


@given(seeds, sizes)
def test_at_high_temperature_the_gradient_is_the_difference_of_centred_logits(seed, size):
    # T(q − p) → (centred z − centred v)/V, and what is left falls off as 1/T.
    student, teacher = pair(seed, size)
    vocabulary = size[1]
    difference = (student - student.mean(-1, keepdim=True)) - (
        teacher - teacher.mean(-1, keepdim=True)
    )
    limit = (difference / vocabulary).detach()
    errors = []
    for temperature in (1e3, 1e4):
        divergence = losses.soft_divergence(student, teacher, temperature)
        found = gradient(temperature**2 * divergence.sum(), student)
        errors.append((found - limit).abs().max().item())
    assert errors[1] < 0.02 * limit.abs().max().item() + 1e-5
    assert errors[1] < 0.2 * errors[0] + 1e-7


@given(seeds, sizes)
def test_gradient_of_the_hard_loss_is_softmax_minus_one_hot(seed, size):
    student, _ = pair(seed, size)
    labels = torch.randint(size[1], (size[0],), generator=torch.Generator().manual_seed(seed))
    value = losses.hard_cross_entropy(student, labels)
    assert value.shape == (size[0],)
    expected = student.softmax(-1) - functional.one_hot(labels, size[1])
    torch.testing.assert_close(
        gradient(value.sum(), student), expected.detach(), atol=1e-12, rtol=0
    )


def test_hard_loss_is_minus_the_log_probability_of_the_label():
    student = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)
    assert losses.hard_cross_entropy(student, torch.tensor([1])).item() == pytest.approx(
        math.log(4 / 3), abs=1e-15
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_gradients_agree_with_finite_differences(direction, temperature):
    student, teacher = pair(1, (2, 5))
    assert torch.autograd.gradcheck(
        lambda z: losses.soft_divergence(z, teacher, temperature, direction), (student,)
    )
    assert torch.autograd.gradcheck(
        lambda z: losses.soft_cross_entropy(z, teacher, temperature), (student,)
    )
    assert torch.autograd.gradcheck(lambda z: losses.entropy(z, temperature), (student,))


# ---------------------------------------------------------------------- values


def test_divergences_of_two_coins():
    # p = (3/4, 1/4), q = (1/2, 1/2)
    teacher = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64)
    values = {d: losses.soft_divergence(student, teacher, 1.0, d).item() for d in DIRECTIONS}
    middle = (5 / 8, 3 / 8)
    assert values["forward"] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert values["reverse"] == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert values["jensen-shannon"] == pytest.approx(
        0.5 * (0.75 * math.log(0.75 / middle[0]) + 0.25 * math.log(0.25 / middle[1]))
        + 0.5 * (0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.5 / middle[1]))
    )


@given(seeds, sizes, temperatures, st.sampled_from(DIRECTIONS), st.floats(-50, 50))
def test_a_student_equal_to_its_teacher_has_no_loss_and_no_gradient(
    seed, size, temperature, direction, shift
):
    student, _ = pair(seed, size)
    teacher = student.detach() + shift  # a constant on all logits changes nothing
    value = losses.soft_divergence(student, teacher, temperature, direction)
    assert value.abs().max().item() < 1e-12
    assert gradient(value.sum(), student).abs().max().item() < 1e-12


@given(seeds, sizes, temperatures, st.sampled_from(DIRECTIONS))
def test_divergences_are_not_negative(seed, size, temperature, direction):
    student, teacher = pair(seed, size)
    assert losses.soft_divergence(student, teacher, temperature, direction).min().item() > -1e-13


@given(seeds, sizes, temperatures)
def test_forward_divergence_is_cross_entropy_minus_the_teachers_entropy(seed, size, temperature):
    student, teacher = pair(seed, size)
    crossed = losses.soft_cross_entropy(student, teacher, temperature)
    divergence = losses.soft_divergence(student, teacher, temperature)
    torch.testing.assert_close(
        divergence, crossed - losses.entropy(teacher, temperature), atol=1e-12, rtol=0
    )
    # So their gradients are the same.
    torch.testing.assert_close(
        gradient(divergence.sum(), student), gradient(crossed.sum(), student), atol=1e-12, rtol=0
    )


@given(seeds, sizes, temperatures)
def test_jensen_shannon_is_symmetric_and_at_most_ln_2(seed, size, temperature):
    student, teacher = (t.detach() for t in pair(seed, size))
    value = losses.soft_divergence(student, teacher, temperature, "jensen-shannon")
    swapped = losses.soft_divergence(teacher, student, temperature, "jensen-shannon")
    torch.testing.assert_close(value, swapped, atol=1e-13, rtol=0)
    assert value.max().item() <= math.log(2.0) + 1e-13


def test_jensen_shannon_of_what_never_meets_is_ln_2():
    student = torch.tensor([[0.0, 500.0]], dtype=torch.float64)
    teacher = torch.tensor([[500.0, 0.0]], dtype=torch.float64)
    value = losses.soft_divergence(student, teacher, 1.0, "jensen-shannon")
    assert value.item() == pytest.approx(math.log(2.0), abs=1e-14)


@given(seeds, sizes, temperatures)
def test_reverse_is_forward_with_the_roles_exchanged(seed, size, temperature):
    student, teacher = (t.detach() for t in pair(seed, size))
    torch.testing.assert_close(
        losses.soft_divergence(student, teacher, temperature, "forward"),
        losses.soft_divergence(teacher, student, temperature, "reverse"),
        atol=0,
        rtol=0,
    )


def test_forward_is_what_torch_calls_the_divergence_from_student_to_teacher():
    student, teacher = (t.detach() for t in pair(3, (4, 7)))
    expected = functional.kl_div(
        (student / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(losses.soft_divergence(student, teacher, 2.0), expected)


@given(seeds, sizes, temperatures)
def test_entropy_lies_between_zero_and_ln_v(seed, size, temperature):
    values = losses.entropy(logits(seed, size), temperature)
    assert values.min().item() > 0
    assert values.max().item() <= math.log(size[1]) + 1e-12
    flat = losses.entropy(torch.full(size, 7.0, dtype=torch.float64), temperature)
    torch.testing.assert_close(flat, torch.full_like(flat, math.log(size[1])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_extreme_logits_stay_finite_in_value_and_gradient(direction, dtype):
    generator = torch.Generator().manual_seed(5)
    signs = torch.randint(0, 2, (2, 40, 9), generator=generator).to(dtype) * 2 - 1
    student, teacher = (80 * signs[0]).requires_grad_(), 80 * signs[1]
    value = losses.soft_divergence(student, teacher, 0.25, direction)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient(value.sum(), student)).all()
    crossed = losses.soft_cross_entropy(student, teacher, 0.25)
    assert torch.isfinite(crossed).all()
    assert torch.isfinite(gradient(crossed.sum(), student)).all()
    assert torch.isfinite(losses.entropy(teacher, 0.25)).all()


# ---------------------------------------------------------------------- reductions


@given(seeds, st.integers(1, 4), st.integers(1, 6), st.integers(2, 9), temperatures)
def test_reductions_divide_as_torch_does_on_batch_length_vocabulary(
    seed, batch, length, vocabulary, temperature
):
    student, teacher = (t.detach() for t in pair(seed, (batch, length, vocabulary)))
    log_q, p = (student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1)
    rows = losses.soft_divergence(
        student.reshape(-1, vocabulary), teacher.reshape(-1, vocabulary), temperature
    )

    def reduced(how: losses.Reduction) -> torch.Tensor:
        return losses.reduce(rows, how, rows=batch * length, sequences=batch, vocabulary=vocabulary)

    def close(value: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(value, expected, atol=1e-12, rtol=1e-12)

    close(reduced("batchmean"), functional.kl_div(log_q, p, reduction="batchmean"))
    close(reduced("sum"), functional.kl_div(log_q, p, reduction="sum"))
    # torch announces that "mean" will come to mean "batchmean"; today it divides by every number.
    close(reduced("element-mean"), functional.kl_div(log_q, p, reduction="none").mean())
    flat = functional.kl_div(
        log_q.reshape(-1, vocabulary), p.reshape(-1, vocabulary), reduction="batchmean"
    )
    close(reduced("token-mean"), flat)


@pytest.mark.parametrize("how", ["token-mean", "batchmean", "element-mean", "sum"])
def test_parts_of_a_batch_add_up_to_the_batch(how):
    values = logits(6, (12,))
    whole = {"rows": 12, "sequences": 3, "vocabulary": 5}
    parts = [losses.reduce(values[i : i + 5], how, **whole) for i in (0, 5, 10)]
    torch.testing.assert_close(sum(parts), losses.reduce(values, how, **whole))


def test_unknown_direction_and_reduction_are_named():
    student, teacher = pair(7, (2, 3))
    with pytest.raises(ValueError, match=r"'backward'.*forward, reverse, jensen-shannon"):
        losses.soft_divergence(student, teacher, 1.0, "backward")
    with pytest.raises(ValueError, match=r"'mean'.*token-mean"):
        losses.reduce(teacher.sum(-1), "mean", rows=2, sequences=1, vocabulary=3)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, -math.inf, math.nan])
def test_bad_temperatures_are_refused_everywhere(temperature):
    student, teacher = pair(8, (2, 3))
    for call in (
        lambda: losses.check_temperature(temperature),
        lambda: losses.soft_divergence(student, teacher, temperature),
        lambda: losses.soft_cross_entropy(student, teacher, temperature),
        lambda: losses.entropy(teacher, temperature),
    ):
        with pytest.raises(ValueError, match="temperature is"):
            call()


@pytest.mark.parametrize("alpha", [-0.001, 1.001, math.inf, math.nan])
def test_bad_alphas_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        losses.check_alpha(alpha)


@pytest.mark.parametrize("alpha", [0, 0.0, 0.5, 1, 1.0])
def test_alpha_may_be_at_either_end(alpha):
    losses.check_alpha(alpha)
    losses.check_temperature(1e-3)
