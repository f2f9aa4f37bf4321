"""A distillation loss with a switch wherever people go wrong, and all that it can compute.

The switches: T², the order of KL's arguments, logarithms, the axis of the softmax,
what a sum is divided by, which positions count, which label stands at each, the
weights. A `Task` knows three small batches and the value on them of every setting up to
three switches away from the right one. Batch, length and
vocabulary are different everywhere and T is no round number, so that no two mistakes
agree by accident.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

#: A set with more mistakes than this explains nothing.
MOST = 3

# ---------------------------------------------------------------------- data


@dataclass(frozen=True)
class Case:
    """A small batch: logits ``[rows, vocabulary]`` or ``[batch, length, vocabulary]``."""

    student: Tensor
    teacher: Tensor
    temperature: float
    ids: Tensor | None = None
    lengths: Tensor | None = None
    alpha: float = 0.0


def _case(
    seed: int, shape: tuple[int, ...], temperature: float, lengths=None, alpha: float = 0.0
) -> Case:
    generator = torch.Generator().manual_seed(seed)
    # Numbers that float32 holds exactly, so that a function which insists on float32 gets the
    # same batch; the teacher is somewhat like the student, as teachers are.
    student = (2.5 * torch.randn(shape, generator=generator)).double()
    teacher = (0.5 * student + 2.5 * torch.randn(shape, generator=generator)).float().double()
    if lengths is None:
        return Case(student, teacher, temperature)
    ids = torch.randint(shape[-1], shape[:2], generator=generator)
    return Case(student, teacher, temperature, ids, torch.tensor(lengths), alpha)


_ROWS = (_case(1, (4, 7), 1.7), _case(2, (6, 5), 2.6), _case(3, (5, 8), 4.3))
_BATCHES = (
    _case(4, (3, 6, 5), 1.7, (6, 3, 4), 0.3),
    _case(5, (2, 7, 4), 2.6, (4, 7), 0.45),
    _case(6, (4, 5, 6), 4.3, (2, 5, 3, 4), 0.2),
)


def _row_arguments(case: Case, dtype: torch.dtype) -> tuple[Tensor, tuple]:
    student = case.student.to(dtype, copy=True).requires_grad_()
    # A copy of the leaf, so that a function may divide its arguments in place.
    return student, (student.clone(), case.teacher.to(dtype, copy=True), case.temperature)


def _batch_arguments(case: Case, dtype: torch.dtype) -> tuple[Tensor, tuple]:
    student, (logits, teacher, temperature) = _row_arguments(case, dtype)
    ids, lengths = case.ids.clone(), case.lengths.clone()
    return student, (logits, teacher, ids, lengths, temperature, case.alpha)


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


def _row_value(case: Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
    dim = {"vocabulary": -1, "rows": 0}[setting["axis"]]
    values = _divergence(student, case.teacher, case.temperature, setting, dim)
    divisor = len(student) if setting["divisor"] == "rows" else 1
    return values.sum() / divisor * _scale(case, setting)


def _scale(case: Case, setting: Mapping[str, Any]) -> float:
    vocabulary = case.student.shape[-1] if setting["over vocabulary"] else 1
    return setting["factor"](case.temperature) * setting["sign"] / vocabulary


def _soft_value(case: Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
    grid = _soft_grid(case, student, setting)
    return _average(case, grid, setting["positions"], setting["divisor"]) * _scale(case, setting)


def _soft_grid(case: Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
    """A value for each position, ``[batch, length]``, 0 where it does not count."""

    def rows(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
        return _divergence(student, teacher, case.temperature, setting, dim)

    return _on_positions(case, setting["positions"], setting["axis"], rows, student, case.teacher)


def _hard_value(case: Case, student: Tensor, setting: Mapping[str, Any]) -> Tensor:
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


def _positions(case: Case, name: str) -> Tensor:
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
    case: Case,
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


def _average(case: Case, grid: Tensor, positions: str, divisor: str) -> Tensor:
    mask = _positions(case, positions)
    batch, length = grid.shape
    if divisor == "each":
        return (grid.sum(1) / mask.sum(1)).mean()
    return (
        grid.sum()
        / {
            "own": mask.sum(),
            "scored": (case.lengths - 1).sum(),
            "one": 1,
            "sequences": batch,
            "all, shifted": batch * (length - 1),
            "all": batch * length,
            "tokens": case.lengths.sum(),
        }[divisor]
    )


def _right(switches: Switches) -> dict[str, Any]:
    return {name: options[0][0] for name, options in switches.items()}


def _row_loss(case: Case, student: Tensor) -> Tensor:
    return _row_value(case, student, _right(_ROW_SWITCHES))


def _batch_loss(case: Case, student: Tensor) -> Tensor:
    hard = _hard_value(case, student, _right(_HARD_SWITCHES))
    soft = _soft_value(case, student, _right(_SOFT_SWITCHES))
    return case.alpha * hard + (1 - case.alpha) * soft


# ---------------------------------------------------------------------- every setting


@dataclass(frozen=True)
class Candidates:
    """Hard and soft terms with their mistakes, and their values on every batch.

    ``weights`` are the hard and the soft term's, ``[batches]`` each, with the mistake
    that they are; for rows alone there is one hard term, which is 0.
    """

    hard: list[frozenset[str]]
    hard_values: Tensor
    soft: list[frozenset[str]]
    soft_values: Tensor
    weights: list[tuple[Tensor, Tensor, str | None]]


@lru_cache(maxsize=1)
def _row_candidates() -> Candidates:
    soft, values = [], []
    for setting, mistakes in _settings(_ROW_SWITCHES, MOST):
        soft.append(mistakes)
        values.append([float(_row_value(case, case.student, setting)) for case in _ROWS])
    one = torch.ones(len(_ROWS), dtype=torch.float64)
    return Candidates(
        hard=[frozenset("-")],
        hard_values=torch.zeros(1, len(_ROWS), dtype=torch.float64),
        soft=soft,
        soft_values=torch.tensor(values, dtype=torch.float64),
        weights=[(one, one, None)],
    )


@lru_cache(maxsize=1)
def _batch_candidates() -> Candidates:
    hard, hard_values, soft, soft_values = [], [], [], []
    for setting, mistakes in _settings(_HARD_SWITCHES, 2):
        hard.append(mistakes)
        hard_values.append([float(_hard_value(c, c.student, setting)) for c in _BATCHES])
    grids: dict[tuple, list[Tensor]] = {}
    for setting, mistakes in _settings(_SOFT_SWITCHES, MOST):
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
    return Candidates(
        hard=hard,
        hard_values=torch.tensor(hard_values, dtype=torch.float64),
        soft=soft,
        soft_values=torch.tensor(soft_values, dtype=torch.float64),
        weights=[
            (*(one * weight for weight in weights(alpha)), mistake) for weights, mistake in _WEIGHTS
        ],
    )


# ---------------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class Task:
    """A function that a learner writes, and all that it is compared with.

    Attributes:
        cases: the batches.
        arguments: a fresh copy of a batch in a dtype: the leaf of the student's logits, and
            what the function is called with.
        case: the batch that such arguments are.
        loss: the right value, from a batch and the student's logits.
        candidates: values of all settings; computed once, in about a second.
        example: code that calls the function on a batch to look at, its last line the call.
    """

    cases: tuple[Case, ...]
    arguments: Callable[[Case, torch.dtype], tuple[Tensor, tuple]]
    case: Callable[..., Case]
    loss: Callable[[Case, Tensor], Tensor]
    candidates: Callable[[], Candidates]
    example: str


SOFT_LOSS = Task(
    cases=_ROWS,
    arguments=_row_arguments,
    case=lambda z, v, t: Case(z.double(), v.double(), t),
    loss=_row_loss,
    candidates=_row_candidates,
    example="""\
student_logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
teacher_logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
soft_loss(student_logits, teacher_logits, 2.0)""",
)
DISTILLATION_LOSS = Task(
    cases=_BATCHES,
    arguments=_batch_arguments,
    case=lambda z, v, ids, n, t, a: Case(z.double(), v.double(), t, ids, n, a),
    loss=_batch_loss,
    candidates=_batch_candidates,
    example="""\
student_logits = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
                               [[0.0, 1.0, 0.0], [2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
teacher_logits = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 0.0, 2.0], [0.0, 1.0, 0.0]],
                               [[0.0, 0.0, 2.0], [3.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
input_ids, lengths = torch.tensor([[0, 2, 1], [1, 0, 0]]), torch.tensor([3, 2])
distillation_loss(student_logits, teacher_logits, input_ids, lengths, 2.0, 0.5)""",
)
