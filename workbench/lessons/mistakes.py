"""Which classical mistakes a learner's distillation loss makes, found from its values alone.

The loss is written once, with a switch wherever people go wrong: T², the order of
KL's arguments, the axis of the softmax, what a sum is divided by, which positions
count. Every setting of the switches, up to three away from the right one, gives a
value for each of three small batches; the settings whose values are the learner's
in all three, to a relative 1e-6, are what the learner may have written, and of
these the one with the fewest mistakes is named. Batch, length and vocabulary are
different everywhere and T is no round number, so that no two mistakes agree by
accident.

Only the learner's function is called, never read: however it is written, what
counts is what it computes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from workbench.lessons.question import Outcome, Wrong, call

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
    "(Other libraries do it the other way round: see the next questions.)",
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
_MOST = 3


# ---------------------------------------------------------------------- what is asked


def judge_soft_loss(function: Callable) -> Outcome:
    """Judge ``soft_loss(student_logits, teacher_logits, T)`` on ``[rows, vocabulary]``."""
    return _judge(function, _ROWS, _row_arguments, _row_loss, _row_candidates, _row_example())


def judge_distillation_loss(function: Callable) -> Outcome:
    """Judge ``distillation_loss(student_logits, teacher_logits, input_ids, lengths, T, alpha)``.

    Logits are ``[batch, length, vocabulary]``, ids ``[batch, length]``, lengths ``[batch]``.
    """
    return _judge(
        function, _BATCHES, _batch_arguments, _batch_loss, _batch_candidates, _batch_example()
    )


def soft_loss_mistakes(values: Sequence[float], tolerance: float = 1e-6) -> tuple[str, ...] | None:
    """Keys of `SENTENCES` that explain the values on the row batches; None if nothing does."""
    return _explain(_row_candidates(), values, tolerance)


def distillation_loss_mistakes(
    values: Sequence[float], tolerance: float = 1e-6
) -> tuple[str, ...] | None:
    """Keys of `SENTENCES` that explain the values on the padded batches; None if nothing does."""
    return _explain(_batch_candidates(), values, tolerance)


# ---------------------------------------------------------------------- data


@dataclass(frozen=True)
class _Case:
    """A small batch: logits ``[rows, vocabulary]`` or ``[batch, length, vocabulary]``."""

    student: Tensor
    teacher: Tensor
    temperature: float
    ids: Tensor | None = None
    lengths: Tensor | None = None
    alpha: float = 0.0


def _case(
    seed: int, shape: tuple[int, ...], temperature: float, lengths=None, alpha: float = 0.0
) -> _Case:
    generator = torch.Generator().manual_seed(seed)
    # Numbers that float32 holds exactly, so that a function which insists on float32 gets the
    # same batch; the teacher is somewhat like the student, as teachers are.
    student = (2.5 * torch.randn(shape, generator=generator)).double()
    teacher = (0.5 * student + 2.5 * torch.randn(shape, generator=generator)).float().double()
    if lengths is None:
        return _Case(student, teacher, temperature)
    ids = torch.randint(shape[-1], shape[:2], generator=generator)
    return _Case(student, teacher, temperature, ids, torch.tensor(lengths), alpha)


_ROWS = (_case(1, (4, 7), 1.7), _case(2, (6, 5), 2.6), _case(3, (5, 8), 4.3))
_BATCHES = (
    _case(4, (3, 6, 5), 1.7, (6, 3, 4), 0.3),
    _case(5, (2, 7, 4), 2.6, (4, 7), 0.45),
    _case(6, (4, 5, 6), 4.3, (2, 5, 3, 4), 0.2),
)


def _row_arguments(case: _Case, dtype: torch.dtype) -> tuple[Tensor, tuple]:
    student = case.student.to(dtype, copy=True).requires_grad_()
    # A copy of the leaf, so that a function may divide its arguments in place.
    return student, (student.clone(), case.teacher.to(dtype, copy=True), case.temperature)


def _batch_arguments(case: _Case, dtype: torch.dtype) -> tuple[Tensor, tuple]:
    student, (logits, teacher, temperature) = _row_arguments(case, dtype)
    ids, lengths = case.ids.clone(), case.lengths.clone()
    return student, (logits, teacher, ids, lengths, temperature, case.alpha)


def _row_example() -> tuple[_Case, str]:
    text = (
        "student_logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])\n"
        "teacher_logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 2.0]])\n"
        "soft_loss(student_logits, teacher_logits, 2.0)"
    )
    student, teacher = _example_logits()
    return _Case(student, teacher, 2.0), text


def _batch_example() -> tuple[_Case, str]:
    text = (
        "student_logits = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],\n"
        "                               [[0.0, 1.0, 0.0], [2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])\n"
        "teacher_logits = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 0.0, 2.0], [0.0, 1.0, 0.0]],\n"
        "                               [[0.0, 0.0, 2.0], [3.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])\n"
        "input_ids, lengths = torch.tensor([[0, 2, 1], [1, 0, 0]]), torch.tensor([3, 2])\n"
        "distillation_loss(student_logits, teacher_logits, input_ids, lengths, 2.0, 0.5)"
    )
    (first, second), (third, fourth) = _example_logits()
    zero, x, y = torch.zeros_like(first), first.new_tensor([1, 0, 0]), first.new_tensor([0, 1, 0])
    student = torch.stack([torch.stack([first, second, x]), torch.stack([second, first, zero])])
    teacher = torch.stack([torch.stack([third, fourth, y]), torch.stack([fourth, third, zero])])
    ids, lengths = torch.tensor([[0, 2, 1], [1, 0, 0]]), torch.tensor([3, 2])
    return _Case(student, teacher, 2.0, ids, lengths, 0.5), text


def _example_logits() -> tuple[Tensor, Tensor]:
    return (
        torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64),
        torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64),
    )


# ---------------------------------------------------------------------- the verdict


def _judge(
    function: Callable,
    cases: Sequence[_Case],
    arguments: Callable[[_Case, torch.dtype], tuple[Tensor, tuple]],
    reference: Callable[[_Case, Tensor], Tensor],
    candidates: Callable[[], _Candidates],
    example: tuple[_Case, str],
) -> Outcome:
    students, results, dtype = _run(function, cases, arguments)
    tolerance = 1e-6 if all(r.dtype == torch.float64 for r in results) else 2e-4
    values = [float(result.detach()) for result in results]
    expected = [float(reference(case, case.student)) for case in cases]
    if _close(values, expected, tolerance):
        return _judge_gradient(cases, students, results, reference, 10 * tolerance)
    found = _explain(candidates(), values, tolerance)
    if found:
        return Outcome("wrong", _sentence(found))
    ratios = [value / right for value, right in zip(values, expected, strict=True)]
    if _close(ratios, [ratios[0]] * len(ratios), 10 * tolerance):
        return Outcome(
            "wrong", f"The loss is {ratios[0]:.6g} times what it should be, in every batch: a "
            "constant factor too much."
        )  # fmt: skip
    case, text = example
    given = float(call(function, *arguments(case, dtype)[1]))
    right = float(reference(case, case.student))
    return Outcome(
        "wrong",
        "The value is wrong, and it is none of the well-known mistakes. Compare by hand:",
        f"{text}\nexpected  {right:.6f}\nyours     {given:.6f}",
    )


def _run(
    function: Callable,
    cases: Sequence[_Case],
    arguments: Callable[[_Case, torch.dtype], tuple[Tensor, tuple]],
) -> tuple[list[Tensor], list[Tensor], torch.dtype]:
    """Leaves and results; in float32 if float64 makes the function fail."""
    failure: Wrong | None = None
    for dtype in (torch.float64, torch.float32):
        students, results = [], []
        try:
            for case in cases:
                student, given = arguments(case, dtype)
                students.append(student)
                results.append(_checked(call(function, *given), case))
            return students, results, dtype
        except Wrong as error:
            failure = failure or error
    raise failure


def _checked(result: Any, case: _Case) -> Tensor:
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


def _judge_gradient(
    cases: Sequence[_Case],
    students: Sequence[Tensor],
    results: Sequence[Tensor],
    reference: Callable[[_Case, Tensor], Tensor],
    tolerance: float,
) -> Outcome:
    for case, student, result in zip(cases, students, results, strict=True):
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
        (expected,) = torch.autograd.grad(reference(case, leaf), leaf)
        if (gradient.double() - expected).norm() > tolerance * expected.norm():
            raise Wrong(
                "The value is right, but the gradient on the student's logits is not: a part of "
                "the way from the logits to the loss is cut, by `.detach()` or `torch.no_grad()`."
            )
    return Outcome("correct", "Value and gradient agree with the reference on three batches.")


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


# ---------------------------------------------------------------------- the loss, with switches

Switches = Mapping[str, Sequence[tuple[Any, str | None]]]

# Each switch: its settings and the mistake that each is. The first is right.
_DISTRIBUTIONS: Switches = {
    "softened": [("both", None), ("neither", "not softened"), ("student", "student only"),
                 ("teacher", "teacher only"), ("after", "softened after")],
    "direction": [("forward", None), ("reverse", "swapped")],
    "first": [("logarithm", None), ("probability", "probabilities")],
    "second": [("probability", None), ("exponential", "log_target")],
    "formula": [("divergence", None), ("cross-entropy", "cross-entropy")],
    "twice": [((), None), *(((who, when), "softmax twice")
              for who in ("student", "teacher", "both") for when in ("before T", "after T"))],
}  # fmt: skip
_SCALES: Switches = {
    "factor": [(lambda t: t**2, None), (lambda t: 1.0, "no T²"), (lambda t: t, "T for T²")],
    "sign": [(1.0, None), (-1.0, "sign")],
    "over vocabulary": [(False, None), (True, "vocabulary mean")],
}
_ROW_SWITCHES: Switches = {
    **_DISTRIBUTIONS,
    "axis": [("vocabulary", None), ("rows", "axis")],
    **_SCALES,
    "divisor": [("rows", None), ("one", "sum")],
}
_AXES = [("vocabulary", None), ("length", "axis"), ("length, shifted", "axis"), ("batch", "axis"),
         ("rows", "axis")]  # fmt: skip
_DIVISORS = [
    ("own", None), ("scored", None), ("one", "sum"), ("sequences", "batchmean"),
    ("all, shifted", "padded mean"), ("all", "padded mean"), ("tokens", "all tokens"),
    ("each", "mean of means"),
]  # fmt: skip
_SOFT_SWITCHES: Switches = {
    **_DISTRIBUTIONS,
    "axis": _AXES,
    **_SCALES,
    "positions": [("scored", None), ("real", "last position"), ("padded", "padding"),
                  ("one too far", "one too far"), ("all", "last position+padding"),
                  ("later", "backwards"), ("later, padded", "backwards+padding")],
    "divisor": _DIVISORS,
}  # fmt: skip
_HARD_SWITCHES: Switches = {
    "softened": [(False, None), (True, "hard softened")],
    "twice": [(False, None), (True, "softmax twice")],
    "first": [("logarithm", None), ("probability", "probabilities")],
    "axis": _AXES,
    "factor": [(lambda t: 1.0, None), (lambda t: t**2, "hard T²")],
    # Positions and the label of each: the next token, the same, the one before.
    "positions": [(("scored", -1), None), (("padded", -1), "padding"),
                  (("one too far", -1), "one too far"),
                  (("real", 0), "unshifted"), (("scored", 0), "unshifted"),
                  (("all", 0), "unshifted+padding"), (("padded", 0), "unshifted+padding"),
                  (("later", 1), "backwards"), (("later, padded", 1), "backwards+padding")],
    "divisor": _DIVISORS,
}  # fmt: skip
_WEIGHTS = [
    (lambda a: (a, 1 - a), None), (lambda a: (1 - a, a), "α swapped"),
    (lambda a: (a, 1.0), "no 1 − α"), (lambda a: (1.0, 1 - a), "no α"),
    (lambda a: (1.0, 1.0), "no weights"),
]  # fmt: skip


def _settings(switches: Switches, most: int) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """Every setting with at most ``most`` switches off the right one, and its mistakes."""
    right = {name: options[0][0] for name, options in switches.items()}
    for count in range(most + 1):
        for names in itertools.combinations(switches, count):
            for chosen in itertools.product(*(switches[name][1:] for name in names)):
                mistakes = frozenset(
                    part for _, mistake in chosen if mistake for part in mistake.split("+")
                )
                values = (value for value, _ in chosen)
                yield right | dict(zip(names, values, strict=True)), mistakes


def _divergence(
    student: Tensor, teacher: Tensor, temperature: float, setting: Mapping[str, Any], dim: int
) -> Tensor:
    """A value for each row, nats; a softmax along ``dim``, the sum over the last axis."""
    sides = {}
    for name, logits in (("student", student), ("teacher", teacher)):
        divisor = temperature if setting["softened"] in ("both", name) else 1.0
        who, when = setting["twice"] or ("", "")
        again = who in ("both", name)
        if again and when == "before T":
            logits = logits.softmax(dim)
        logits = logits / divisor
        if again and when == "after T":
            logits = logits.softmax(dim)
        after = temperature if setting["softened"] == "after" else 1.0
        sides[name] = (logits.log_softmax(dim) / after, logits.softmax(dim) / after)
    first, second = sides["student"], sides["teacher"]
    if setting["direction"] == "reverse":
        first, second = second, first
    given = first[0] if setting["first"] == "logarithm" else first[1]
    target = second[1]
    if setting["second"] == "exponential":
        return (target.exp() * (target - given)).sum(-1)
    if setting["formula"] == "cross-entropy":
        return -(target * given).sum(-1)
    return (torch.xlogy(target, target) - target * given).sum(-1)


def _row_value(case: _Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
    dim = {"vocabulary": -1, "rows": 0}[setting["axis"]]
    values = _divergence(student, case.teacher, case.temperature, setting, dim)
    divisor = len(student) if setting["divisor"] == "rows" else 1
    return values.sum() / divisor * _scale(case, setting)


def _scale(case: _Case, setting: Mapping[str, Any]) -> float:
    vocabulary = case.student.shape[-1] if setting["over vocabulary"] else 1
    return setting["factor"](case.temperature) * setting["sign"] / vocabulary


def _soft_value(case: _Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
    grid = _soft_grid(case, student, setting)
    return _average(case, grid, setting["positions"], setting["divisor"]) * _scale(case, setting)


def _soft_grid(case: _Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
    """A value for each position, ``[batch, length]``, 0 where it does not count."""

    def rows(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
        return _divergence(student, teacher, case.temperature, setting, dim)

    return _on_positions(case, setting["positions"], setting["axis"], rows, student, case.teacher)


def _hard_value(case: _Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
    positions, offset = setting["positions"]

    def rows(student: Tensor, labels: Tensor, dim: int) -> Tensor:
        logits = student.softmax(dim) if setting["twice"] else student
        logits = logits / case.temperature if setting["softened"] else logits
        first = setting["first"] == "logarithm"
        answers = logits.log_softmax(dim) if first else logits.softmax(dim)
        return -answers.gather(-1, labels).squeeze(-1)

    labels = case.ids.roll(offset, 1)[..., None]
    grid = _on_positions(case, positions, setting["axis"], rows, student, labels)
    return _average(case, grid, positions, setting["divisor"]) * setting["factor"](case.temperature)


def _positions(case: _Case, name: str) -> Tensor:
    """Mask ``[batch, length]``."""
    length = case.ids.shape[1]
    position = torch.arange(length).expand_as(case.ids)
    until = case.lengths[:, None]
    return {
        "scored": position + 1 < until,
        "real": position < until,
        "padded": position + 1 < length,
        "one too far": (position < until) & (position + 1 < length),
        "all": position < length,
        "later": (position > 0) & (position < until),
        "later, padded": position > 0,
    }[name]


def _on_positions(
    case: _Case,
    positions: str,
    axis: str,
    rows: Callable[[Tensor, Tensor, int], Tensor],
    first: Tensor,
    second: Tensor,
) -> Tensor:
    mask = _positions(case, positions)
    grid = torch.zeros(case.ids.shape, dtype=torch.float64)
    if axis == "rows":
        return grid.masked_scatter(mask, rows(first[mask], second[mask], 0))
    if axis == "length, shifted":
        part = slice(1, None) if positions.startswith("later") else slice(None, -1)
        inside = torch.zeros_like(mask)
        inside[:, part] = True
        values = rows(first[:, part], second[:, part], 1)
        return grid.masked_scatter(inside, values) * mask
    dim = {"vocabulary": -1, "length": 1, "batch": 0}[axis]
    return rows(first, second, dim) * mask


def _average(case: _Case, grid: Tensor, positions: str, divisor: str) -> Tensor:
    mask = _positions(case, positions)
    batch, length = grid.shape
    if divisor == "each":
        return (grid.sum(1) / mask.sum(1)).mean()
    return grid.sum() / {
        "own": mask.sum(),
        "scored": (case.lengths - 1).sum(),
        "one": 1,
        "sequences": batch,
        "all, shifted": batch * (length - 1),
        "all": batch * length,
        "tokens": case.lengths.sum(),
    }[divisor]


def _right(switches: Switches) -> dict[str, Any]:
    return {name: options[0][0] for name, options in switches.items()}


def _row_loss(case: _Case, student: Tensor) -> Tensor:
    return _row_value(case, student, _right(_ROW_SWITCHES))


def _batch_loss(case: _Case, student: Tensor) -> Tensor:
    hard = _hard_value(case, student, _right(_HARD_SWITCHES))
    soft = _soft_value(case, student, _right(_SOFT_SWITCHES))
    return case.alpha * hard + (1 - case.alpha) * soft


# ---------------------------------------------------------------------- the search


@dataclass(frozen=True)
class _Candidates:
    """Hard and soft terms with their mistakes, and their values on every batch.

    ``weights`` are the hard and the soft term's, ``[batches]`` each, with the mistake
    that they are; for rows alone there is one hard term, which is 0.
    """

    hard: list[frozenset[str]]
    hard_values: Tensor
    soft: list[frozenset[str]]
    soft_values: Tensor
    weights: list[tuple[Tensor, Tensor, str | None]]


def _explain(
    candidates: _Candidates, values: Sequence[float], tolerance: float
) -> tuple[str, ...] | None:
    """The smallest set of mistakes that gives these values; None if none of the candidates does."""
    given = torch.tensor(values, dtype=torch.float64)
    best: frozenset[str] | None = None
    for hard_weight, soft_weight, mistake in candidates.weights:
        total = (
            hard_weight * candidates.hard_values[:, None]
            + soft_weight * candidates.soft_values[None]
        )
        near = ((total - given).abs() <= tolerance * given.abs()).all(-1)
        for i, j in near.nonzero().tolist():
            found = _together(candidates.hard[i], candidates.soft[j])
            found |= {mistake} if mistake else set()
            if best is None or len(found) < len(best):
                best = found
    if best is None or len(best) > _MOST:
        return None
    order = list(SENTENCES)
    return tuple(sorted(best, key=lambda key: order.index(key.partition(" @ ")[0])))


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


@lru_cache(maxsize=1)
def _row_candidates() -> _Candidates:
    soft, values = [], []
    for setting, mistakes in _settings(_ROW_SWITCHES, _MOST):
        soft.append(mistakes)
        values.append([float(_row_value(case, case.student, setting)) for case in _ROWS])
    one = torch.ones(len(_ROWS), dtype=torch.float64)
    return _Candidates(
        hard=[frozenset("-")],
        hard_values=torch.zeros(1, len(_ROWS), dtype=torch.float64),
        soft=soft,
        soft_values=torch.tensor(values, dtype=torch.float64),
        weights=[(one, one, None)],
    )


@lru_cache(maxsize=1)
def _batch_candidates() -> _Candidates:
    hard, hard_values, soft, soft_values = [], [], [], []
    for setting, mistakes in _settings(_HARD_SWITCHES, 2):
        hard.append(mistakes)
        hard_values.append([float(_hard_value(c, c.student, setting)) for c in _BATCHES])
    grids: dict[tuple, list[Tensor]] = {}
    for setting, mistakes in _settings(_SOFT_SWITCHES, _MOST):
        # Settings that differ in scale or divisor only share the costly part.
        key = tuple(setting[name] for name in (*_DISTRIBUTIONS, "axis", "positions"))
        if key not in grids:
            grids[key] = [_soft_grid(case, case.student, setting) for case in _BATCHES]
        soft.append(mistakes)
        soft_values.append([
            float(_average(case, grid, setting["positions"], setting["divisor"]))
            * _scale(case, setting)
            for case, grid in zip(_BATCHES, grids[key], strict=True)
        ])  # fmt: skip
    alpha = torch.tensor([case.alpha for case in _BATCHES], dtype=torch.float64)
    one = torch.ones_like(alpha)
    return _Candidates(
        hard=hard,
        hard_values=torch.tensor(hard_values, dtype=torch.float64),
        soft=soft,
        soft_values=torch.tensor(soft_values, dtype=torch.float64),
        weights=[
            (*(one * weight for weight in weights(alpha)), mistake)
            for weights, mistake in _WEIGHTS
        ],
    )
