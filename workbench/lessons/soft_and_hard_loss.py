"""Exercises of notebook 01: the soft loss, the hard loss, and their sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from workbench.lessons.question import (
    Exercise,
    Outcome,
    Prediction,
    Wrong,
    judge_number,
    number,
)

__all__ = ["QUESTIONS", "q1", "q2", "q3", "q4", "q5"]


def _share(measured: Any) -> tuple[str, str]:
    share = number(measured, "The share")
    if not 0 <= share <= 1:
        raise Wrong(f"The share is {share:g}; expected a fraction from 0 to 1.")
    sentence = f"The teacher's share of the gradient is {share:.1%}."
    if share < 0.25:
        return "under 10 %", sentence
    return ("above 90 %" if share > 0.75 else "about half"), sentence


def _judge_rows(function: Callable) -> Outcome:
    from workbench.lessons import mistakes

    return mistakes.judge_soft_loss(function)


def _judge_batch(function: Callable) -> Outcome:
    from workbench.lessons import mistakes

    return mistakes.judge_distillation_loss(function)


q1 = Prediction(
    "01.q1",
    prompt="Someone trains with T = 10 and α = 0.1, and leaves T² out. How much of the gradient "
    "on the student's logits comes from the teacher?",
    choices=("above 90 %", "about half", "under 10 %"),
    right="under 10 %",
    verdict=_share,
    explanation="The weights say 9 : 1 for the teacher. But softening by T divides the gradient "
    "of the soft loss by about T² = 100, and nothing multiplies it back. What is left of "
    "the weights is about 9 : 100. Even at T = 1 the teacher's gradient is shorter than the "
    'labels\', so its share is smaller still: some 2 %. The loss that says "nine tenths teacher" '
    "listens to the labels.",
    hints=(
        "α = 0.1 weighs the labels, 1 − α = 0.9 the teacher. That is not yet the gradient.",
        "Each logit is divided by T before the softmax, and that divides the gradient by T. The "
        "difference between two softened answers is smaller by about T again.",
    ),
)

q2 = Exercise(
    "01.q2",
    prompt="Write the soft loss: KL(teacher‖student) of the two answers softened by T, mean over "
    "the rows, times T². Logits are [rows, vocabulary]; the result is one number.",
    starter='''\
import torch
from torch.nn import functional as F


def soft_loss(student_logits, teacher_logits, T):
    """T² · KL(teacher‖student), mean over rows. Logits: [rows, vocabulary]."""
    ...


q2.check(soft_loss)''',
    answer='''\
import torch
from torch.nn import functional as F


def soft_loss(student_logits, teacher_logits, T):
    """T² · KL(teacher‖student), mean over rows. Logits: [rows, vocabulary]."""
    log_q = F.log_softmax(student_logits / T, dim=-1)
    log_p = F.log_softmax(teacher_logits / T, dim=-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    return T**2 * kl.mean()


q2.check(soft_loss)''',
    judge=_judge_rows,
    explanation="Divide both logits by T, take logarithms of both softmaxes, weigh their "
    "difference by the teacher's probabilities, sum over the vocabulary, average over the rows, "
    "multiply by T². With torch's function it is "
    '`T**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")`; on two axes '
    "`batchmean` is the mean over rows.",
    hints=(
        "Four steps: soften both logits, a softmax of each, KL for each row, the mean of the rows "
        "times T².",
        "KL(p‖q) = Σ p (ln p − ln q), with p the teacher's answer. `F.log_softmax(x / T, dim=-1)` "
        "gives the logarithms without rounding them to −∞.",
        "`F.kl_div(input, target)` wants the student first, as logarithms, and the teacher second. "
        'Of its reductions, "batchmean" divides by the rows; "mean" divides by the vocabulary '
        "as well.",
    ),
)

q3 = Exercise(
    "01.q3",
    prompt="Write the whole loss for a padded batch: α·hard + (1 − α)·soft. Position t predicts "
    "token t + 1, padding does not count, and both terms are means over the same scored positions.",
    starter='''\
import torch
from torch.nn import functional as F


def distillation_loss(student_logits, teacher_logits, input_ids, lengths, T, alpha):
    """alpha · hard + (1 − alpha) · soft, one number.

    student_logits, teacher_logits: [batch, length, vocabulary]
    input_ids: [batch, length]; sequence i has lengths[i] tokens, the rest is padding
    """
    ...


q3.check(distillation_loss)''',
    answer='''\
import torch
from torch.nn import functional as F


def distillation_loss(student_logits, teacher_logits, input_ids, lengths, T, alpha):
    """alpha · hard + (1 − alpha) · soft, one number.

    student_logits, teacher_logits: [batch, length, vocabulary]
    input_ids: [batch, length]; sequence i has lengths[i] tokens, the rest is padding
    """
    position = torch.arange(input_ids.shape[1] - 1)
    scored = position + 1 < lengths[:, None]
    z = student_logits[:, :-1][scored]
    v = teacher_logits[:, :-1][scored]
    labels = input_ids[:, 1:][scored]

    hard = F.cross_entropy(z, labels)
    log_q = F.log_softmax(z / T, dim=-1)
    log_p = F.log_softmax(v / T, dim=-1)
    soft = T**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    return alpha * hard + (1 - alpha) * soft


q3.check(distillation_loss)''',
    judge=_judge_batch,
    explanation="Score first: the mask picks the positions whose next token exists, and what is "
    "left is rows again, as in q2. The hard loss compares row t with token t + 1 at T = 1; the "
    "soft loss compares the same rows with the teacher's. Every mean is over scored tokens, so "
    "the loss does not depend on how much padding a batch happens to have.",
    hints=(
        "Make it q2 again: pick the positions that count, and go on with rows. A boolean mask "
        "[batch, length − 1] picks rows from [batch, length − 1, vocabulary].",
        "Logits `[:, :-1]` stand at the positions, ids `[:, 1:]` are their labels. Position t "
        "counts if t + 1 < length: a sequence of n tokens has n − 1 scored positions.",
        "`scored = torch.arange(length - 1) < (lengths - 1)[:, None]`. Then the hard loss is "
        "`F.cross_entropy(student_logits[:, :-1][scored], input_ids[:, 1:][scored])`, without T.",
    ),
)

_P = (0.7, 0.2, 0.1)
_ENTROPY = -sum(p * math.log(p) for p in _P)

q4 = Exercise(
    "01.q4",
    prompt="Some libraries use the cross-entropy −Σ p ln q as soft loss. The teacher says "
    "p = [0.7, 0.2, 0.1]. What is the lowest value, in nats, that this loss can reach, whatever "
    "the student answers?",
    starter="floor = ...\nq4.check(floor)",
    answer=(
        "import math\n\nfloor = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))\nq4.check(floor)"
    ),
    judge=judge_number(
        "floor",
        _ENTROPY,
        right="−Σ p ln q = KL(p‖q) + H(p). At best KL is 0, and the entropy H(p), 0.802 nats, is "
        "left: this loss can look stuck while the student is perfect.",
        near=(
            (
                0.0,
                "0 is the floor of KL. The cross-entropy is KL plus the teacher's entropy, and "
                "the student cannot remove that part.",
            ),
            (
                _ENTROPY / math.log(2),
                "That is the entropy in bits; in nats take the natural logarithm.",
            ),
            (
                _ENTROPY / math.log(10),
                "That is the entropy with the decimal logarithm; in nats take the natural one.",
            ),
            (-_ENTROPY, "The sign: ln p is negative, so −Σ p ln p is positive."),
            (
                math.log(3),
                "That is ln 3, the value for a student, or a teacher, that finds all "
                "three equally likely. A student that knows p does better.",
            ),
            (
                -math.log(0.7),
                "That is −ln 0.7, the loss with the first answer as a hard label. "
                "Here all three answers count, each with its probability.",
            ),
            (
                0.7,
                "That is the teacher's largest probability. The loss is a sum over all three "
                "answers.",
            ),
        ),
        otherwise="Which q makes −Σ p ln q smallest, and what is the sum then?",
    ),
    explanation="−Σ p ln q is smallest where q = p, and there it is −Σ p ln p = 0.802 nats, the "
    "entropy of the teacher's answer. KL has that part taken away, so its floor is 0. The "
    "gradients are the same.",
    hints=(
        "The best student answers exactly as the teacher does: q = p.",
        "−(0.7 ln 0.7 + 0.2 ln 0.2 + 0.1 ln 0.1), with the natural logarithm.",
    ),
)

q5 = Exercise(
    "01.q5",
    prompt="A library computes `loss = alpha * soft + (1 - alpha) * hard` with alpha = 0.9. "
    "Which α is that in this course, where L = α·hard + (1 − α)·soft?",
    starter="ours = ...\nq5.check(ours)",
    answer="ours = 0.1\nq5.check(ours)",
    judge=judge_number(
        "ours",
        0.1,
        right="Their 0.9 weighs the soft loss; ours weighs the hard one, 1 − 0.9. Both say: nine "
        "tenths teacher.",
        near=(
            (
                0.9,
                "That is their number. Copied over, it would give nine tenths to the labels, "
                "where the library gives them to the teacher.",
            ),
            (10.0, "That reads as per cent; α is a fraction from 0 to 1."),
        ),
        otherwise="What does the library multiply the hard loss by?",
    ),
    explanation="In the library the hard loss is multiplied by 1 − 0.9 = 0.1, and that is what α "
    "is here. Libraries and papers differ on which term α weighs; look at the formula, never at "
    "the name.",
    hints=("Write the library's formula with the number in it, and look at the hard loss.",),
)

QUESTIONS = (q1, q2, q3, q4, q5)
