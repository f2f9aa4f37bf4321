"""The recogniser of loss mistakes: each is planted as a learner would write it, and must be named.

The functions here are written with torch's own losses, apart from the switched loss
that they are compared with.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from workbench import losses
from workbench.lessons import mistakes, switched_loss
from workbench.lessons.soft_and_hard_loss import q2, q3


def named(outcome) -> set[str]:
    """Keys of the mistakes whose sentences stand in an outcome."""
    return {key for key, sentence in mistakes.SENTENCES.items() if sentence in outcome.text}


# ---------------------------------------------------------------------- q2: rows


def right_log_target(z, v, T):
    log_q, log_p = F.log_softmax(z / T, -1), F.log_softmax(v / T, -1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean") * T**2


def right_module(z, v, T):
    return torch.nn.KLDivLoss(reduction="batchmean")((z / T).log_softmax(1), (v / T).softmax(1)) * (
        T * T
    )


def right_by_hand(z, v, T):
    p, q = torch.softmax(v / T, dim=-1), torch.softmax(z / T, dim=-1)
    return T**2 * (p * (p.log() - q.log())).sum(-1).mean()


def right_cross_entropy_minus_entropy(z, v, T):
    p = torch.softmax(v / T, dim=-1)
    entropy = -(p * p.log()).sum(-1).mean()
    return T**2 * (F.cross_entropy(z / T, p) - entropy)


def right_distributions(z, v, T):
    from torch.distributions import Categorical, kl_divergence

    return T**2 * kl_divergence(Categorical(logits=v / T), Categorical(logits=z / T)).mean()


def right_row_by_row(z, v, T):
    total = 0.0
    for a, b in zip(z, v, strict=True):
        p = torch.exp(b / T) / torch.exp(b / T).sum()
        q = torch.exp(a / T) / torch.exp(a / T).sum()
        total = total + (p * torch.log(p / q)).sum()
    return total / len(z) * T**2


def right_in_single_precision(z, v, T):
    return right_log_target(z.float(), v.float(), T)


def right_only_for_single_precision(z, v, T):
    # A constant of float32 in a matrix product: float64 logits make it fail.
    ones = torch.ones(z.shape[1], 1, dtype=torch.float32)
    p, log_q = F.softmax(v / T, -1), F.log_softmax(z / T, -1)
    return T**2 * ((p * (p.log() - log_q)) @ ones).mean()


def right_in_place(z, v, T):
    z /= T
    v /= T
    return T**2 * F.kl_div(z.log_softmax(-1), v.softmax(-1), reduction="batchmean")


def right_twice_log_softmax(z, v, T):
    # The logarithm of a softmax is a logit, so this is right, if odd.
    log_q = F.log_softmax(F.log_softmax(z, -1) / T, -1)
    return T**2 * F.kl_div(log_q, F.softmax(v / T, -1), reduction="batchmean")


RIGHT_ROWS = [f for name, f in list(globals().items()) if name.startswith("right_")]


@pytest.mark.parametrize("function", RIGHT_ROWS, ids=lambda f: f.__name__)
def test_right_ways_to_write_the_soft_loss(function):
    outcome = q2.check(function)
    assert outcome.state == "correct", outcome


def soft(z, v, T, *, factor=None, log=F.log_softmax, reduction="batchmean", dim=-1):
    factor = T**2 if factor is None else factor
    return factor * F.kl_div(log(z / T, dim), F.softmax(v / T, dim), reduction=reduction)


ROW_MISTAKES = {
    "no T²": lambda z, v, T: soft(z, v, T, factor=1),
    "T for T²": lambda z, v, T: soft(z, v, T, factor=T),
    "swapped": lambda z, v, T: soft(v, z, T),
    "probabilities": lambda z, v, T: soft(z, v, T, log=F.softmax),
    "log_target": lambda z, v, T: (
        T**2
        * F.kl_div(
            F.log_softmax(z / T, -1), F.softmax(v / T, -1), reduction="batchmean", log_target=True
        )
    ),
    "axis": lambda z, v, T: soft(z, v, T, dim=0),
    "softmax twice": lambda z, v, T: soft(z.softmax(-1), v.softmax(-1), T),
    "cross-entropy": lambda z, v, T: T**2 * F.cross_entropy(z / T, F.softmax(v / T, -1)),
    "not softened": lambda z, v, T: (
        T**2 * F.kl_div(F.log_softmax(z, -1), F.softmax(v, -1), reduction="batchmean")
    ),
    "student only": lambda z, v, T: (
        T**2 * F.kl_div(F.log_softmax(z / T, -1), F.softmax(v, -1), reduction="batchmean")
    ),
    "teacher only": lambda z, v, T: (
        T**2 * F.kl_div(F.log_softmax(z, -1), F.softmax(v / T, -1), reduction="batchmean")
    ),
    "softened after": lambda z, v, T: (
        T**2 * F.kl_div(F.log_softmax(z, -1) / T, F.softmax(v, -1) / T, reduction="batchmean")
    ),
    "sign": lambda z, v, T: (
        T**2
        * (F.softmax(v / T, -1) * (F.log_softmax(z / T, -1) - F.log_softmax(v / T, -1)))
        .sum(-1)
        .mean()
    ),
    "vocabulary mean": lambda z, v, T: soft(z, v, T, reduction="mean"),
    "sum": lambda z, v, T: soft(z, v, T, reduction="sum"),
}


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("mistake", ROW_MISTAKES)
def test_a_mistake_in_the_soft_loss_is_named(mistake):
    outcome = q2.check(ROW_MISTAKES[mistake])
    assert outcome.state == "wrong"
    assert named(outcome) == {mistake}


def test_softmax_twice_is_named_wherever_it_happens():
    ways = [
        lambda z, v, T: soft(z.softmax(-1), v, T),
        lambda z, v, T: soft(z, v.softmax(-1), T),
        lambda z, v, T: (
            T**2
            * F.kl_div(
                F.log_softmax(F.softmax(z / T, -1), -1),
                F.softmax(v / T, -1),
                reduction="batchmean",
            )
        ),
    ]
    for way in ways:
        assert named(q2.check(way)) == {"softmax twice"}


ROW_PAIRS = {
    ("no T²", "swapped"): lambda z, v, T: soft(v, z, T, factor=1),
    ("no T²", "vocabulary mean"): lambda z, v, T: soft(z, v, T, factor=1, reduction="mean"),
    ("T for T²", "probabilities"): lambda z, v, T: soft(z, v, T, factor=T, log=F.softmax),
    ("swapped", "axis"): lambda z, v, T: soft(v, z, T, dim=0),
    ("swapped", "probabilities"): lambda z, v, T: soft(v, z, T, log=F.softmax),
    ("no T²", "cross-entropy"): lambda z, v, T: F.cross_entropy(z / T, F.softmax(v / T, -1)),
    ("axis", "sum"): lambda z, v, T: soft(z, v, T, dim=0, reduction="sum"),
    ("softmax twice", "no T²"): lambda z, v, T: soft(z.softmax(-1), v.softmax(-1), T, factor=1),
}


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("pair", ROW_PAIRS, ids=" and ".join)
def test_two_mistakes_in_the_soft_loss_are_both_named(pair):
    outcome = q2.check(ROW_PAIRS[pair])
    assert named(outcome) == set(pair)
    assert outcome.text.startswith("Two mistakes. (1) ")


def test_three_mistakes_are_all_named():
    outcome = q2.check(lambda z, v, T: soft(v, z, T, factor=1, dim=0))
    assert named(outcome) == {"no T²", "swapped", "axis"}


def test_a_mistake_in_single_precision_is_named_too():
    assert named(q2.check(lambda z, v, T: soft(z.float(), v.float(), T, factor=1))) == {"no T²"}


# ---------------------------------------------------------------------- q3: a padded batch


def pieces(z, v, ids, lengths):
    """Scored rows, as the right solution picks them."""
    scored = torch.arange(ids.shape[1] - 1) < (lengths - 1)[:, None]
    return z[:, :-1][scored], v[:, :-1][scored], ids[:, 1:][scored]


def good_boolean_mask(z, v, ids, lengths, T, alpha):
    z, v, labels = pieces(z, v, ids, lengths)
    return alpha * F.cross_entropy(z, labels) + (1 - alpha) * right_log_target(z, v, T)


def good_mask_by_multiplication(z, v, ids, lengths, T, alpha):
    mask = (torch.arange(1, ids.shape[1])[None] < lengths[:, None]).to(z.dtype)
    z, v = z[:, :-1], v[:, :-1]
    hard = F.cross_entropy(z.transpose(1, 2), ids[:, 1:], reduction="none")
    log_q, p = (z / T).log_softmax(-1), (v / T).softmax(-1)
    kl = F.kl_div(log_q, p, reduction="none").sum(-1) * T**2
    return ((alpha * hard + (1 - alpha) * kl) * mask).sum() / mask.sum()


def good_ignore_index(z, v, ids, lengths, T, alpha):
    labels = ids.clone()
    labels[torch.arange(ids.shape[1]) >= lengths[:, None]] = -100
    labels = labels[:, 1:].reshape(-1)
    z = z[:, :-1].reshape(-1, z.shape[-1])
    v = v[:, :-1].reshape(-1, v.shape[-1])
    keep = labels != -100
    soft_cross_entropy = F.cross_entropy(z[keep] / T, F.softmax(v[keep] / T, -1))
    entropy = F.cross_entropy(v[keep] / T, F.softmax(v[keep] / T, -1))
    soft_term = T**2 * (soft_cross_entropy - entropy)
    return alpha * F.cross_entropy(z, labels) + (1 - alpha) * soft_term


def good_sequence_by_sequence(z, v, ids, lengths, T, alpha):
    hard, kl, count = 0.0, 0.0, 0
    for i, n in enumerate(lengths.tolist()):
        for t in range(n - 1):
            hard = hard - F.log_softmax(z[i, t], -1)[ids[i, t + 1]]
            p, q = F.softmax(v[i, t] / T, -1), F.softmax(z[i, t] / T, -1)
            kl = kl + (p * (p / q).log()).sum()
            count += 1
    return (alpha * hard + (1 - alpha) * T**2 * kl) / count


def good_in_single_precision(z, v, ids, lengths, T, alpha):
    return good_boolean_mask(z.float(), v.float(), ids, lengths, T, alpha)


RIGHT_BATCHES = [f for name, f in list(globals().items()) if name.startswith("good_")]


@pytest.mark.parametrize("function", RIGHT_BATCHES, ids=lambda f: f.__name__)
def test_right_ways_to_write_the_whole_loss(function):
    outcome = q3.check(function)
    assert outcome.state == "correct", outcome


def whole(
    z, v, ids, lengths, T, alpha, *, soft_loss=right_log_target, hard_loss=F.cross_entropy, mix=None
):
    """The right whole loss with one part of it replaced."""
    z, v, labels = pieces(z, v, ids, lengths)
    hard, soft_value = hard_loss(z, labels), soft_loss(z, v, T)
    return mix(alpha, hard, soft_value) if mix else alpha * hard + (1 - alpha) * soft_value


def with_soft(soft_loss):
    return lambda *given: whole(*given, soft_loss=soft_loss)


def with_hard(hard_loss):
    return lambda *given: whole(*given, hard_loss=hard_loss)


def with_mix(mix):
    return lambda *given: whole(*given, mix=mix)


def masked(z, v, labels, mask, T, alpha, divisor=None, divisor_soft=None):
    """Both terms from the same rows and a mask, with divisors of one's own."""
    hard = F.cross_entropy(z.transpose(1, 2), labels, reduction="none") * mask
    kl = F.kl_div((z / T).log_softmax(-1), (v / T).softmax(-1), reduction="none").sum(-1) * mask
    divisor = mask.sum() if divisor is None else divisor
    divisor_soft = divisor if divisor_soft is None else divisor_soft
    return alpha * hard.sum() / divisor + (1 - alpha) * T**2 * kl.sum() / divisor_soft


def shifted_mask(ids, lengths):
    return torch.arange(ids.shape[1] - 1) < (lengths - 1)[:, None]


def unshifted(z, v, ids, lengths, T, alpha):
    return masked(z, v, ids, torch.arange(ids.shape[1]) < lengths[:, None], T, alpha)


def unshifted_hard_term_only(z, v, ids, lengths, T, alpha):
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    z_scored, v_scored, _ = pieces(z, v, ids, lengths)
    soft_value = right_log_target(z_scored, v_scored, T)
    return alpha * F.cross_entropy(z[real], ids[real]) + (1 - alpha) * soft_value


def backwards(z, v, ids, lengths, T, alpha):
    mask = torch.arange(1, ids.shape[1]) < lengths[:, None]
    return masked(z[:, 1:], v[:, 1:], ids[:, :-1], mask, T, alpha)


def padding_counted(z, v, ids, lengths, T, alpha):
    every = torch.ones(ids.shape[0], ids.shape[1] - 1)
    return masked(z[:, :-1], v[:, :-1], ids[:, 1:], every, T, alpha)


def padding_in_the_soft_term(z, v, ids, lengths, T, alpha):
    # Labels of -100 silence the hard term; kl_div knows nothing of them.
    labels = ids.masked_fill(torch.arange(ids.shape[1]) >= lengths[:, None], -100)[:, 1:]
    z, v = z[:, :-1].flatten(0, 1), v[:, :-1].flatten(0, 1)
    hard = F.cross_entropy(z, labels.flatten())
    return alpha * hard + (1 - alpha) * right_log_target(z, v, T)


def one_too_far(z, v, ids, lengths, T, alpha):
    mask = torch.arange(ids.shape[1] - 1) < lengths[:, None]
    return masked(z[:, :-1], v[:, :-1], ids[:, 1:], mask, T, alpha)


def last_position(z, v, ids, lengths, T, alpha):
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    z_scored, _, labels = pieces(z, v, ids, lengths)
    soft_value = right_log_target(z[real], v[real], T)
    return alpha * F.cross_entropy(z_scored, labels) + (1 - alpha) * soft_value


def padded_mean(z, v, ids, lengths, T, alpha):
    mask = shifted_mask(ids, lengths)
    return masked(z[:, :-1], v[:, :-1], ids[:, 1:], mask, T, alpha, divisor=mask.numel())


def all_tokens(z, v, ids, lengths, T, alpha):
    mask = shifted_mask(ids, lengths)
    return masked(z[:, :-1], v[:, :-1], ids[:, 1:], mask, T, alpha, divisor=lengths.sum())


def mean_of_means(z, v, ids, lengths, T, alpha):
    each = [
        good_boolean_mask(z[i : i + 1], v[i : i + 1], ids[i : i + 1], lengths[i : i + 1], T, alpha)
        for i in range(len(ids))
    ]
    return torch.stack(each).mean()


def batchmean_on_three_axes(z, v, ids, lengths, T, alpha, factor=None):
    mask = shifted_mask(ids, lengths)[..., None]
    log_q = F.log_softmax(z[:, :-1] / T, -1) * mask
    log_p = F.log_softmax(v[:, :-1] / T, -1) * mask
    # Where both logarithms are 0 they add nothing.
    kl = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    z_scored, _, labels = pieces(z, v, ids, lengths)
    factor = T**2 if factor is None else factor
    return alpha * F.cross_entropy(z_scored, labels) + (1 - alpha) * factor * kl


def axis_over_the_length(z, v, ids, lengths, T, alpha, part=slice(None)):
    mask = shifted_mask(ids, lengths)
    z_scored, _, labels = pieces(z, v, ids, lengths)
    log_q = F.log_softmax(z[:, part] / T, dim=1)[:, : mask.shape[1]]
    p = F.softmax(v[:, part] / T, dim=1)[:, : mask.shape[1]]
    kl = F.kl_div(log_q, p, reduction="none").sum(-1)[mask].mean()
    return alpha * F.cross_entropy(z_scored, labels) + (1 - alpha) * T**2 * kl


def hard_softened(z, v, ids, lengths, T, alpha):
    z, v, labels = pieces(z, v, ids, lengths)
    return alpha * F.cross_entropy(z / T, labels) + (1 - alpha) * right_log_target(z, v, T)


def hard_softened_in_place(z, v, ids, lengths, T, alpha):
    z, v, labels = pieces(z, v, ids, lengths)
    soft_value = right_in_place(z, v, T)
    return alpha * F.cross_entropy(z, labels) + (1 - alpha) * soft_value


def hard_squared(z, v, ids, lengths, T, alpha):
    z, v, labels = pieces(z, v, ids, lengths)
    soft_value = soft(z, v, T, factor=1)
    return (alpha * F.cross_entropy(z, labels) + (1 - alpha) * soft_value) * T**2


BATCH_MISTAKES = {
    "no T²": with_soft(ROW_MISTAKES["no T²"]),
    "T for T²": with_soft(ROW_MISTAKES["T for T²"]),
    "swapped": with_soft(ROW_MISTAKES["swapped"]),
    "probabilities": with_soft(ROW_MISTAKES["probabilities"]),
    "log_target": with_soft(ROW_MISTAKES["log_target"]),
    "softmax twice": with_hard(lambda z, y: F.cross_entropy(z.softmax(-1), y)),
    "cross-entropy": with_soft(ROW_MISTAKES["cross-entropy"]),
    "not softened": with_soft(ROW_MISTAKES["not softened"]),
    "student only": with_soft(ROW_MISTAKES["student only"]),
    "teacher only": with_soft(ROW_MISTAKES["teacher only"]),
    "softened after": with_soft(ROW_MISTAKES["softened after"]),
    "sign": with_soft(ROW_MISTAKES["sign"]),
    "vocabulary mean": with_soft(ROW_MISTAKES["vocabulary mean"]),
    "sum": with_soft(ROW_MISTAKES["sum"]),
    "batchmean": batchmean_on_three_axes,
    "padded mean": padded_mean,
    "all tokens": all_tokens,
    "mean of means": mean_of_means,
    "unshifted": unshifted,
    "backwards": backwards,
    "last position": last_position,
    "padding": padding_counted,
    "one too far": one_too_far,
    "axis": axis_over_the_length,
    "hard softened": hard_softened,
    "hard T²": hard_squared,
    "α swapped": with_mix(lambda alpha, hard, soft_value: (1 - alpha) * hard + alpha * soft_value),
    "no 1 − α": with_mix(lambda alpha, hard, soft_value: alpha * hard + soft_value),
    "no α": with_mix(lambda alpha, hard, soft_value: hard + (1 - alpha) * soft_value),
    "no weights": with_mix(lambda alpha, hard, soft_value: hard + soft_value),
}


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("mistake", BATCH_MISTAKES)
def test_a_mistake_in_the_whole_loss_is_named(mistake):
    outcome = q3.check(BATCH_MISTAKES[mistake])
    assert outcome.state == "wrong"
    assert named(outcome) == {mistake}


def test_every_sentence_has_its_test():
    assert set(BATCH_MISTAKES) | set(ROW_MISTAKES) == set(mistakes.SENTENCES)


@pytest.mark.parametrize(
    ("function", "mistake"),
    [
        (unshifted_hard_term_only, "unshifted"),
        (hard_softened_in_place, "hard softened"),
        (lambda *given: axis_over_the_length(*given, part=slice(None, -1)), "axis"),
        (with_soft(lambda z, v, T: soft(z, v, T, dim=0)), "axis"),
        (with_soft(lambda z, v, T: soft(z.softmax(-1), v, T)), "softmax twice"),
    ],
    ids=["unshifted", "in place", "length", "rows", "student"],
)
def test_the_same_mistake_in_other_words(function, mistake):
    assert named(q3.check(function)) == {mistake}


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
def test_a_mistake_of_one_term_says_which():
    only_soft = q3.check(BATCH_MISTAKES["vocabulary mean"])
    assert "Only the soft term has this; the hard term is right." in only_soft.text
    only_hard = q3.check(BATCH_MISTAKES["softmax twice"])
    assert "Only the hard term has this; the soft term is right." in only_hard.text
    only_soft = q3.check(padding_in_the_soft_term)
    assert named(only_soft) == {"padding"}
    assert "Only the soft term has this" in only_soft.text
    assert "Only the" not in q3.check(padding_counted).text


BATCH_PAIRS = {
    # What the script of 2024 did, but for its shift.
    ("no T²", "batchmean"): lambda *given: batchmean_on_three_axes(*given, factor=1),
    ("unshifted", "padding"): lambda z, v, ids, lengths, T, alpha: masked(
        z, v, ids, torch.ones(ids.shape), T, alpha
    ),
    ("unshifted", "batchmean"): lambda z, v, ids, lengths, T, alpha: masked(
        z, v, ids, torch.arange(ids.shape[1]) < lengths[:, None], T, alpha, None, len(ids)
    ),
    ("padding", "batchmean"): lambda z, v, ids, lengths, T, alpha: masked(
        z[:, :-1], v[:, :-1], ids[:, 1:], torch.ones(ids[:, 1:].shape), T, alpha, None, len(ids)
    ),
    ("hard softened", "no T²"): lambda *given: whole(
        *given, hard_loss=lambda z, y: F.cross_entropy(z / given[4], y),
        soft_loss=ROW_MISTAKES["no T²"],
    ),
    ("α swapped", "swapped"): lambda *given: whole(
        *given,
        soft_loss=ROW_MISTAKES["swapped"],
        mix=lambda alpha, hard, soft_value: (1 - alpha) * hard + alpha * soft_value,
    ),
    ("one too far", "no T²"): lambda z, v, ids, lengths, T, alpha: one_too_far(
        z, v, ids, lengths, T, alpha
    ) - (1 - alpha) * (T**2 - 1) * soft_on(z, v, ids, lengths, T),
}  # fmt: skip


def soft_on(z, v, ids, lengths, T):
    mask = torch.arange(ids.shape[1] - 1) < lengths[:, None]
    return soft(z[:, :-1][mask], v[:, :-1][mask], T, factor=1)


@pytest.mark.parametrize("pair", BATCH_PAIRS, ids=" and ".join)
def test_two_mistakes_in_the_whole_loss_are_both_named(pair):
    outcome = q3.check(BATCH_PAIRS[pair])
    assert named(outcome) == set(pair)
    assert outcome.text.startswith("Two mistakes. (1) ")


def test_the_script_of_2024_has_three_mistakes():
    def as_coded(z, v, ids, lengths, T, alpha):
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        return masked(z, v, ids, real, T, alpha, None, len(ids) * T**2)

    assert named(q3.check(as_coded)) == {"no T²", "batchmean", "unshifted"}


# ---------------------------------------------------------------------- what is no known mistake


def test_a_detached_loss_is_right_in_value_only():
    outcome = q2.check(lambda z, v, T: right_log_target(z.detach(), v, T))
    assert outcome.state == "wrong"
    assert "value is right, but no gradient reaches" in outcome.text

    def without_gradient(*given):
        with torch.no_grad():
            return good_boolean_mask(*given)

    assert "value is right, but no gradient reaches" in q3.check(without_gradient).text


def test_gradients_that_the_notebook_has_switched_off_are_no_mistake():
    with torch.no_grad():
        assert q2.check(right_log_target).state == "correct"


def test_a_gradient_cut_in_part_is_noticed():
    def no_gradient_through_the_soft_term(z, v, ids, lengths, T, alpha):
        z, v, labels = pieces(z, v, ids, lengths)
        soft_value = right_log_target(z, v, T).detach()
        return alpha * F.cross_entropy(z, labels) + (1 - alpha) * soft_value

    outcome = q3.check(no_gradient_through_the_soft_term)
    assert outcome.state == "wrong"
    assert "the gradient on the student's logits is not" in outcome.text


def test_a_constant_factor_is_named():
    outcome = q2.check(lambda z, v, T: 3 * right_log_target(z, v, T))
    assert outcome.state == "wrong"
    assert "The loss is 3 times what it should be" in outcome.text


def test_the_unknown_shows_an_example_with_both_values():
    def mean_squared_error(student_logits, teacher_logits, T):
        return ((student_logits - teacher_logits) ** 2).mean()

    outcome = q2.check(mean_squared_error)
    assert outcome.state == "wrong"
    setup, expected, given = outcome.details.rsplit("\n", 2)
    scope = {"torch": torch, "soft_loss": right_log_target}
    exec(setup.rpartition("\n")[0], scope)
    value = eval(setup.rpartition("\n")[2], scope)
    assert expected == f"expected  {float(value):.4f}"
    assert given == "yours     1.3333"

    outcome = q3.check(lambda z, v, ids, lengths, T, alpha: mean_squared_error(z, v, T))
    setup, expected, _ = outcome.details.rsplit("\n", 2)
    scope = {"torch": torch, "distillation_loss": good_boolean_mask}
    exec(setup.rpartition("\n")[0], scope)
    value = eval(setup.rpartition("\n")[2], scope)
    assert expected == f"expected  {float(value):.4f}"


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (lambda z, v, T: soft(z, v, T).item(), "it is a float, through which no gradient flows"),
        (lambda z, v, T: soft(z, v, T, reduction="none"), "it has shape [4, 7]"),
        (lambda z, v, T: soft(z, v, T).bfloat16(), "torch.bfloat16"),
        (lambda z, v, T: soft(z, v, T).long(), "torch.int64"),
        (lambda z, v, T: soft(z, v, T) * float("inf"), "infinite"),
        (
            lambda z, v, T: F.kl_div(F.log_softmax(z / T, -1), F.log_softmax(v / T, -1)),
            "log-probabilities there (without `log_target=True`) give nan",
        ),
        (lambda z, v: 0, "raised TypeError"),
        (lambda z, v, T: z[:, 99], "raised IndexError"),
        (right_log_target(torch.zeros(1, 2), torch.zeros(1, 2), 1), "The function itself is"),
        ("soft_loss", "The function itself is wanted"),
    ],
    ids=["item", "none", "half", "long", "inf", "nan", "signature", "index", "called", "text"],
)
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
def test_what_cannot_be_judged_gets_a_clear_line(function, line):
    outcome = q2.check(function)
    assert outcome.state == "wrong"
    assert line in outcome.text
    assert "\n" not in outcome.text


# ---------------------------------------------------------------------- the switched loss


def test_the_right_setting_is_the_loss_of_the_package():
    for case in switched_loss.SOFT_LOSS.cases:
        rows = losses.soft_divergence(case.student, case.teacher, case.temperature)
        expected = case.temperature**2 * rows.mean()
        torch.testing.assert_close(
            switched_loss.SOFT_LOSS.loss(case, case.student), expected, rtol=1e-12, atol=0
        )
    for case in switched_loss.DISTILLATION_LOSS.cases:
        z, v, labels = pieces(case.student, case.teacher, case.ids, case.lengths)
        hard = losses.hard_cross_entropy(z, labels).mean()
        rows = losses.soft_divergence(z, v, case.temperature)
        expected = case.alpha * hard + (1 - case.alpha) * case.temperature**2 * rows.mean()
        torch.testing.assert_close(
            switched_loss.DISTILLATION_LOSS.loss(case, case.student), expected, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("task", ["SOFT_LOSS", "DISTILLATION_LOSS"])
def test_no_two_single_mistakes_agree_by_accident(task):
    # Every mistake of the soft term alone, each explained by itself and nothing smaller.
    task = getattr(switched_loss, task)
    candidates = task.candidates()
    _, soft_weight, _ = candidates.weights[0]
    hard_weight = candidates.weights[0][0]
    right = hard_weight * candidates.hard_values[0]
    for found, values in zip(candidates.soft, candidates.soft_values, strict=True):
        if len(found) == 1:
            told = mistakes.explain(task, (right + soft_weight * values).tolist())
            assert {key.partition(" @ ")[0] for key in told} == found


def test_values_that_nothing_explains():
    assert mistakes.explain(switched_loss.SOFT_LOSS, [1.0, 2.0, 3.0]) is None
    assert mistakes.explain(switched_loss.DISTILLATION_LOSS, [1.0, 2.0, 3.0]) is None


def test_nothing_is_wrong_with_the_right_values():
    task = switched_loss.DISTILLATION_LOSS
    values = [float(task.loss(case, case.student)) for case in task.cases]
    assert mistakes.explain(task, values) == ()
