"""Which classical mistakes a learner's distillation loss makes, found from its values alone.

The loss is written once, with a switch wherever people go wrong (`switched_loss`).
Every setting of the switches gives a value for each of three small batches; the
settings whose values are the learner's in all three, to a relative 1e-6, are what
the learner may have written, and of these the one with the fewest mistakes is named.

Only the learner's function is called, never read: however it is written, what
counts is what it computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.lessons.question import Outcome, Wrong, call
from workbench.lessons.switched_loss import DISTILLATION_LOSS, MOST, SOFT_LOSS, Task

#: What each mistake does to the loss.
SENTENCES = {
    "no T²": "The factor T² is missing. Softening divides the gradient by about T², so at T = 10 "
    "the teacher is a hundred times too quiet.",
    "T for T²": "The factor is T where T² is wanted: at T = 10 the teacher is still ten times too "
    "quiet.",
    "swapped": "The arguments of KL are swapped: this is KL(student‖teacher). It rewards a student "
    "that settles on one of the teacher's answers; KL(teacher‖student) asks for all of them. "
    "`kl_div(input, target)` wants the student first.",
    "probabilities": "Probabilities stand where log-probabilities belong: the first argument of "
    "`kl_div` is a logarithm, so `log_softmax`. As it is, the loss is not 0 where student and "
    "teacher agree.",
    "log_target": "With `log_target=True` the second argument of `kl_div` must be "
    "log-probabilities; it is given probabilities, and takes their exponential.",
    "axis": "The softmax runs over the wrong axis. It belongs on the vocabulary, `dim=-1`; as it "
    "is, different positions share one distribution.",
    "softmax twice": "A softmax is applied twice. `cross_entropy`, `softmax` and `log_softmax` "
    "want logits; of probabilities they make an answer that is nearly flat, and the gradient "
    "almost disappears.",
    "cross-entropy": "This is the cross-entropy −Σ p ln q, not KL. Its gradient is the same, but "
    "its floor is the teacher's entropy instead of 0, so you cannot see when the student has "
    "arrived. Subtract the entropy, or write Σ p (ln p − ln q).",
    "not softened": "T is not used inside the softmax: divide both logits by T first.",
    "student only": "Only the student is softened; the teacher's logits must be divided by T as "
    "well, or equal logits do not give a loss of 0.",
    "teacher only": "Only the teacher is softened; the student's logits must be divided by T as "
    "well, or equal logits do not give a loss of 0.",
    "softened after": "T divides the probabilities after the softmax. It belongs inside, on the "
    "logits; outside, nothing gets softer and the sum is no longer 1.",
    "sign": "The sign is flipped: descending this loss drives the student away from the teacher. "
    "It is Σ p (ln p − ln q), teacher's logarithm first.",
    "vocabulary mean": "The mean runs over the vocabulary too, as in `kl_div(reduction=\"mean\")`: "
    "sum over the vocabulary, then average over tokens. With ProtGPT2's vocabulary the term would "
    "be 50,257 times too small.",
    "sum": "The sum is not divided by the number of scored tokens: the loss, and the step, grow "
    "with the size of the batch.",
    "batchmean": "It is divided by the number of sequences, not of tokens: that is what "
    "`batchmean` does on three axes, for it divides by the first. With sequences of 512 tokens "
    "the term is about 512 times too large.",
    "padded mean": "Padding is masked out of the sum and still counted in the mean: divide by the "
    "number of scored tokens, or the loss shrinks as the padding grows.",
    "all tokens": "It is divided by all tokens. The first token of each sequence is predicted by "
    "nobody: a sequence of n tokens has n − 1 scored ones.",
    "mean of means": "Each sequence is averaged first, and then the sequences: a token in a short "
    "sequence weighs more than one in a long sequence. Divide one sum by all scored tokens.",
    "unshifted": "The labels are not shifted: position t is compared with token t, which it has "
    "just read, so the student learns to copy. Position t predicts token t + 1.",
    "backwards": "The shift goes the wrong way: position t is compared with token t − 1, which it "
    "has already read. Position t predicts token t + 1.",
    "last position": "The soft term also scores the last token of each sequence, which nothing "
    "follows: a sequence of n tokens has n − 1 scored positions.",
    "padding": "Padding is counted: positions at and after the end of a sequence must not be "
    "scored, or the student learns to predict padding.",
    "one too far": "The mask reaches one position too far: the last real token of a shorter "
    "sequence is asked to predict padding. Position t is scored if t + 1 < length.",
    "hard softened": "The hard loss is softened by T. The data's labels are compared with the "
    "student at T = 1; only the soft term uses T.",
    "hard T²": "The factor T² multiplies the hard loss too; it belongs to the soft term only.",
    "α swapped": "α is on the wrong term: here α weighs the hard loss and 1 − α the soft one. "
    "(Other libraries do it the other way round.)",
    "no 1 − α": "The soft term lacks its weight 1 − α.",
    "no α": "The hard term lacks its weight α.",
    "no weights": "α is not used: the loss is α·hard + (1 − α)·soft.",
}  # fmt: skip

# Mistakes that can be in either term; where only one has it, the sentence says which.
_EITHER_TERM = frozenset(
    ["probabilities", "axis", "softmax twice", "vocabulary mean", "sum", "batchmean", "padded mean",
     "all tokens", "mean of means", "padding", "one too far", "backwards"]
)  # fmt: skip
_NUMERALS = {2: "Two", 3: "Three"}


# ---------------------------------------------------------------------- what is asked


def judge_soft_loss(function: Callable) -> Outcome:
    """Judge ``soft_loss(student_logits, teacher_logits, T)`` on ``[rows, vocabulary]``."""
    return _judge(function, SOFT_LOSS)


def judge_distillation_loss(function: Callable) -> Outcome:
    """Judge ``distillation_loss(student_logits, teacher_logits, input_ids, lengths, T, alpha)``.

    Logits are ``[batch, length, vocabulary]``, ids ``[batch, length]``, lengths ``[batch]``.
    """
    return _judge(function, DISTILLATION_LOSS)


def explain(task: Task, values: Sequence[float], tolerance: float = 1e-6) -> tuple[str, ...] | None:
    """The smallest set of mistakes that gives these values on the batches of a task.

    Args:
        task: `SOFT_LOSS` or `DISTILLATION_LOSS`.
        values: one for each of its batches.
        tolerance: relative.

    Returns:
        Keys of `SENTENCES`; a mistake of one term only is followed by " @ hard" or
        " @ soft". Empty if the values are right, None if nothing explains them.
    """
    given = torch.tensor(values, dtype=torch.float64)
    candidates = task.candidates()
    room = tolerance * given.abs()
    best: frozenset[str] | None = None
    for hard_weight, soft_weight, mistake in candidates.weights:
        hard = hard_weight * candidates.hard_values
        soft = soft_weight * candidates.soft_values
        # One batch leaves few of the million pairs; the others are asked about those.
        rest = given[0] - hard[:, :1]
        pairs = ((soft[:, 0] - rest).abs() <= room[0]).nonzero()
        near = (hard[pairs[:, 0]] + soft[pairs[:, 1]] - given).abs() <= room
        for i, j in pairs[near.all(-1)].tolist():
            found = _together(candidates.hard[i], candidates.soft[j])
            found |= {mistake} if mistake else set()
            if best is None or len(found) < len(best):
                best = found
    if best is None or len(best) > MOST:
        return None
    order = list(SENTENCES)
    return tuple(sorted(best, key=lambda key: order.index(key.partition(" @ ")[0])))


# ---------------------------------------------------------------------- the verdict


def _judge(function: Callable, task: Task) -> Outcome:
    # A notebook may have switched gradients off for all that follows; that is not the question.
    with torch.enable_grad():
        return _verdict(function, task)


def _verdict(function: Callable, task: Task) -> Outcome:
    students, results = _run(function, task)
    tolerance = 1e-6 if all(r.dtype == torch.float64 for r in results) else 2e-4
    values = [float(result.detach()) for result in results]
    expected = [float(task.loss(case, case.student)) for case in task.cases]
    if _close(values, expected, tolerance):
        _check_gradients(task, students, results, 10 * tolerance)
        return Outcome("correct", "Value and gradient agree with the reference on three batches.")
    found = explain(task, values, tolerance)
    if found:
        return Outcome("wrong", _sentence(found))
    ratios = [value / right for value, right in zip(values, expected, strict=True)]
    if _close(ratios, [ratios[0]] * len(ratios), 10 * tolerance):
        return Outcome(
            "wrong",
            f"The loss is {ratios[0]:.6g} times what it should be, in every batch: a constant "
            "factor that does not belong there.",
        )
    return Outcome(
        "wrong",
        "The value is wrong, and it is none of the well-known mistakes. Work out this example by "
        "hand, step by step:",
        _compared(function, task),
    )


def _run(function: Callable, task: Task) -> tuple[list[Tensor], list[Tensor]]:
    """The student's logits and the loss on every batch; in float32 if float64 makes it fail."""
    failure: Wrong | None = None
    for dtype in (torch.float64, torch.float32):
        students, results = [], []
        try:
            for case in task.cases:
                student, given = task.arguments(case, dtype)
                students.append(student)
                results.append(_checked(call(function, *given)))
            return students, results
        except Wrong as error:
            failure = failure or error
    raise failure


def _compared(function: Callable, task: Task) -> str:
    """The example's code, the right value and the learner's; the code shown is the code run."""
    setup, _, line = task.example.rpartition("\n")
    name = line.partition("(")[0]
    values = []
    for one in (lambda *given: task.loss(case := task.case(*given), case.student), function):
        scope = {"torch": torch, name: one}
        exec(setup, scope)
        values.append(float(eval(line, scope)))
    return f"{task.example}\nexpected  {values[0]:.4f}\nyours     {values[1]:.4f}"


def _checked(result: Any) -> Tensor:
    if not isinstance(result, Tensor):
        raise Wrong(
            f"The loss should be a tensor of no axes; it is a {type(result).__name__}, through "
            "which no gradient flows."
        )
    if result.dim() != 0:
        raise Wrong(
            f"The loss should be one number, a tensor of shape []; it has shape "
            f"{list(result.shape)}. Sum over the vocabulary and average over the scored rows."
        )
    if result.dtype not in (torch.float64, torch.float32):
        raise Wrong(f"The loss is a {result.dtype}; float32 or float64 is wanted.")
    if torch.isnan(result):
        raise Wrong(
            "The loss is nan. A usual reason: `kl_div` takes the logarithm of its second argument, "
            "so log-probabilities there (without `log_target=True`) give nan, and so does a "
            "logarithm of 0."
        )
    if torch.isinf(result):
        raise Wrong("The loss is infinite: somewhere it takes the logarithm of 0 or divides by 0.")
    return result


def _check_gradients(
    task: Task, students: Sequence[Tensor], results: Sequence[Tensor], tolerance: float
) -> None:
    """Raise Wrong unless the gradients on the student's logits are right as well."""
    for case, student, result in zip(task.cases, students, results, strict=True):
        gradient = None
        if result.requires_grad:
            (gradient,) = torch.autograd.grad(result, student, allow_unused=True)
        if gradient is None:
            raise Wrong(
                "The value is right, but no gradient reaches the student's logits: somewhere "
                "there is `.detach()`, `.item()`, `torch.tensor(…)` or `torch.no_grad()`. The "
                "student would learn nothing."
            )
        leaf = case.student.clone().requires_grad_()
        (expected,) = torch.autograd.grad(task.loss(case, leaf), leaf)
        if (gradient.double() - expected).norm() > tolerance * expected.norm():
            raise Wrong(
                "The value is right, but the gradient on the student's logits is not: a part of "
                "the way from the logits to the loss is cut, by `.detach()` or `torch.no_grad()`."
            )


def _sentence(found: Sequence[str]) -> str:
    sentences = []
    for key in found:
        name, _, place = key.partition(" @ ")
        other = {"hard": "soft", "soft": "hard"}.get(place)
        rest = f" (Only the {place} term has this; the {other} term is right.)" if place else ""
        sentences.append(SENTENCES[name] + rest)
    if len(sentences) == 1:
        return sentences[0]
    numbered = " ".join(f"({i}) {sentence}" for i, sentence in enumerate(sentences, 1))
    return f"{_NUMERALS[len(sentences)]} mistakes. {numbered}"


def _close(values: Sequence[float], others: Sequence[float], tolerance: float) -> bool:
    pairs = zip(values, others, strict=True)
    return all(math.isclose(a, b, rel_tol=tolerance) for a, b in pairs)


def _together(hard: frozenset[str], soft: frozenset[str]) -> frozenset[str]:
    """Mistakes of both terms, each once; where only one term has a common one, it says which."""
    if hard == {"-"}:
        return soft
    if "unshifted" in hard:
        # Whoever does not shift scores a position more in the soft term too.
        soft -= {"last position"}
    both = hard & soft
    found = set(both)
    for place, mistakes in (("hard", hard - both), ("soft", soft - both)):
        found |= {f"{key} @ {place}" if key in _EITHER_TERM else key for key in mistakes}
    return frozenset(found)
