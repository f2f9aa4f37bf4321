"""Cost against size, from a model fitted to measured points; and where keeping answers pays.

Measured on this machine: seconds a token of a teacher's forward pass and of a student's training
step with its loss, at sizes from 0.3 to some 150 million parameters with random weights, GPT-2's
and BERT's shapes; seconds a parameter of AdamW; the rates at which hidden states are written and
read. Fitted, with prices that are never negative:

    forward     s = a·FLOPs + b·numbers
    step        s = a·FLOPs + b·numbers + c·logits

Numbers are those that the layers hold a token (`arithmetic.activation_numbers`): what is no matrix
product, norms, activation functions, attention's softmax, touches each of them some times. Logits
are those of both models, on which the loss works. Everything beyond the measured points is
predicted, and what is said of a GPU is computed from its rate on paper. The comparison of hidden
states and attention, layer by layer, is in none of the points and so in no prediction.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench import recipes
from workbench.amounts import in_bytes
from workbench.bench import fits
from workbench.bench import scaling_points as points
from workbench.bench.fits import Fit
from workbench.bench.scaling_points import Point
from workbench.columns import aligned
from workbench.planning import arithmetic, sketches
from workbench.planning.arithmetic import Load, Size
from workbench.recipes import Shape

#: Tokens that the table is made for.
TOKENS = (1e8, 1e9, 1e10)
#: A GPU on paper: an A100's rate in bfloat16 by its maker's data sheet, and the share of it that
#: a training may reach; assumptions, not measurements.
GPU_FLOPS, GPU_EFFICIENCY = 312e12, 0.35


def measure(
    teachers: Sequence[Point] = points.TEACHERS,
    students: Sequence[Point] = points.STUDENTS,
    *,
    tokens: Sequence[float] = TOKENS,
    gpu_flops: float = GPU_FLOPS,
    gpu_efficiency: float = GPU_EFFICIENCY,
    kept: int = points.KEPT,
    repeats: int = 3,
) -> dict[str, Any]:
    """Measure, fit, predict.

    Args:
        teachers: whose forward pass is measured.
        students: whose training step is.
        tokens: in the columns of the table.
        gpu_flops: FLOP/s of a GPU on paper.
        gpu_efficiency: share of them that is reached, assumed.
        kept: bytes of hidden states to write and read.
        repeats: of each measurement; medians count.

    Returns:
        ``{"teachers": [point], "students": [point], "forward", "step", "optimiser", "disk",
        "gpu", "published": [row], "caching": [row]}``.
    """
    asked = [points.forward(point, repeats) for point in teachers]
    taken = [points.step(point, repeats) for point in students]
    forward = fits.fit([p["amounts"] for p in asked], [p["seconds_per_token"] for p in asked])
    step = fits.fit([p["amounts"] for p in taken], [p["seconds_per_token"] for p in taken])
    optimiser = statistics.median(p["optimiser_seconds_per_parameter"] for p in taken)
    disk = points.disk(kept, repeats)
    gpu = {"flops": gpu_flops, "efficiency": gpu_efficiency, "computed_not_measured": True}
    return {
        "teachers": asked,
        "students": taken,
        "forward": {"amounts": ["FLOPs", "numbers"], **forward.to_json()},
        "step": {"amounts": ["FLOPs", "numbers", "logits"], **step.to_json()},
        "optimiser": {"seconds_per_parameter": optimiser},
        "disk": disk,
        "gpu": gpu,
        "published": published(forward, step, optimiser, tokens, gpu_flops * gpu_efficiency),
        "caching": caching(forward, disk, gpu_flops * gpu_efficiency),
    }


# ---------------------------------------------------------------------- predicted


@dataclass(frozen=True)
class Pair:
    """A published teacher with a student of it, and how a run of theirs reads.

    Attributes:
        recipe: whose objective and batch it is.
        teacher: its name.
        teacher_size: of it.
        student: in words.
        student_size: of it.
        load: a step.
    """

    recipe: str
    teacher: str
    teacher_size: Size
    student: str
    student_size: Size
    load: Load


#: ProtBert: 30 layers, 1,024 wide, 16 heads; its configuration is known and not in a recipe.
PROTBERT = Shape(layers=30, heads=16, width=1024, positions=40_000, vocabulary=30)
#: Tokens of a row that the table assumes, by task: a block of ProtGPT2's training, 34 residues of
#: the groove with a peptide of nine between two marks, an abstract cut as in the paper.
ROW = {"text-generation": 512, "text-classification": 45, "fill-mask": 256}


def pairs() -> list[Pair]:
    """Every recipe's published student with its teacher; a halved ProtBert besides."""
    found = []
    for name in recipes.names():
        recipe = recipes.get(name)
        scale = recipe.scale("paper")
        load = _paper_load(name, scale.batch_size)
        teacher = PROTBERT if recipe.task == "text-classification" else scale.teacher
        titles = {"text-generation": "ProtGPT2", "text-classification": "ProtBert",
                  "fill-mask": "BioBERT"}  # fmt: skip
        large = sketches.size_of(sketches.of_shape(recipe.task, teacher, scale.activation))
        students = [(name, scale.student)]
        if recipe.task == "text-classification":
            half = Shape(15, 16, 1024, PROTBERT.positions, PROTBERT.vocabulary)
            students = [(f"{name}, half of ProtBert", half), (f"{name}, half of TAPE's BERT",
                                                             scale.student)]  # fmt: skip
        for title, shape in students:
            small = sketches.size_of(sketches.of_shape(recipe.task, shape, scale.activation))
            found.append(Pair(name, titles[recipe.task], large, title, small, load))
    return found


def _paper_load(name: str, batch_size: int) -> Load:
    recipe = recipes.get(name)
    length = ROW[recipe.task]
    scored = {"text-generation": length - 1, "text-classification": 1, "fill-mask": 0.15 * length}
    tokens = batch_size * length
    return Load(batch_size, length, tokens, batch_size * scored[recipe.task])


def published(
    forward: Fit, step: Fit, optimiser: float, tokens: Sequence[float], gpu: float
) -> list[dict[str, Any]]:
    """Days of published pairs on this machine, predicted, and on a GPU, computed.

    Args:
        forward: of a teacher.
        step: of a student.
        optimiser: seconds a parameter.
        tokens: columns of the table.
        gpu: FLOP/s that a GPU is taken to reach.
    """
    rows = []
    for pair in pairs():
        load = pair.load
        ask = forward.predict(points.forward_amounts(pair.teacher_size, load))
        learn = step.predict(points.step_amounts(pair.student_size, pair.teacher_size, load))
        learn += optimiser * pair.student_size.parameters / load.tokens
        flops_ask = arithmetic.forward_flops(pair.teacher_size, load) / load.tokens
        flops_learn = points.step_amounts(pair.student_size, pair.teacher_size, load)[0]
        rows.append(
            {
                "recipe": pair.recipe,
                "teacher": pair.teacher,
                "teacher_parameters": pair.teacher_size.parameters,
                "student": pair.student,
                "student_parameters": pair.student_size.parameters,
                "teacher_seconds_per_token": ask,
                "student_seconds_per_token": learn,
                "flops_per_token": {"teacher": flops_ask, "student": flops_learn},
                "days_here": {_name(n): n * (ask + learn) / 86400 for n in tokens},
                "days_on_gpu_computed": {
                    _name(n): n * (flops_ask + flops_learn) / gpu / 86400 for n in tokens
                },
            }
        )
    return rows


def caching(forward: Fit, disk: dict[str, float], gpu: float) -> list[dict[str, Any]]:
    """For each teacher: bytes a token, and from which pass on keeping hidden states pays."""
    rows, seen = [], set()
    for pair in pairs():
        if pair.teacher in seen:
            continue
        seen.add(pair.teacher)
        load, width = pair.load, pair.teacher_size.width
        here = forward.predict(points.forward_amounts(pair.teacher_size, load))
        there = arithmetic.forward_flops(pair.teacher_size, load) / load.tokens / gpu
        masked = recipes.get(pair.recipe).task == "fill-mask"
        row: dict[str, Any] = {
            "teacher": pair.teacher,
            "width": width,
            "masks_drawn_anew": masked,
        }
        for kind, size in (("float32", 4), ("bfloat16", 2)):
            per_token = width * size
            write = per_token / disk["write_bytes_per_second"]
            read = per_token / disk["read_bytes_per_second"]
            row[kind] = {
                "bytes_per_token": per_token,
                "bytes_for_1e9_tokens": 1e9 * per_token,
                "read_seconds_per_token": read,
                "ask_seconds_per_token_here": here,
                "passes_here": fits.passes_until_worth(here, write, read),
                "ask_seconds_per_token_gpu_computed": there,
                "passes_gpu_computed": fits.passes_until_worth(there, write, read),
            }
        rows.append(row)
    return rows


def _name(tokens: float) -> str:
    return f"{tokens:.0e}".replace("e+", "e").replace("e0", "e")


# ---------------------------------------------------------------------- in words


def text(measured: dict[str, Any]) -> str:
    """The fits with their errors, the table of days, and where keeping answers pays."""
    gpu, disk = measured["gpu"], measured["disk"]
    lines = [
        "Measured, predicted from the other points:",
        aligned([["", "parameters", "ms/token", "left out"], *_points(measured)]),
        "",
        *(_fit(name, measured[name]) for name in ("forward", "step")),
        f"AdamW: {measured['optimiser']['seconds_per_parameter'] * 1e9:.3g} ns a parameter",
        "",
        "Days of teacher and student, without a baseline: here, predicted from the fit; on a GPU, "
        f"computed from {gpu['flops'] / 1e12:g} TFLOP/s × {gpu['efficiency']:g}, not measured:",
        _days(measured["published"]),
        "Hidden states and attention that a loss compares layer by layer (compactbiobert, "
        "tinybiobert) are not in it.",
        "",
        f"Hidden states are written at {disk['write_bytes_per_second'] / 1e6:,.0f} MB/s and read "
        f"at {disk['read_bytes_per_second'] / 1e6:,.0f} MB/s"
        f"{' from the disk' if disk['from_disk'] else ', perhaps from memory'}; passes over the "
        "same tokens from which on keeping them is faster:",
        _caching(measured["caching"]),
        "* where the same tokens stay hidden; masks are drawn anew at each step here, which leaves "
        "nothing to keep",
    ]
    return "\n".join(lines)


def _points(measured: dict[str, Any]) -> list[list[str]]:
    lines = []
    for what, fit in (("teachers", "forward"), ("students", "step")):
        for point, error in zip(measured[what], measured[fit]["left_out"], strict=True):
            lines.append(
                [
                    f"{what[:-1]} {point['family']} {point['layers']}x{point['width']}",
                    f"{point['parameters']:,}",
                    f"{1e3 * point['seconds_per_token']:.3g}",
                    f"{error:+.0%}",
                ]
            )
    return lines


def _fit(name: str, fit: dict[str, Any]) -> str:
    prices = " + ".join(
        f"{1e12 * price:.3g} ps·{amount}"
        for price, amount in zip(fit["prices"], fit["amounts"], strict=True)
    )
    return (
        f"{name}: seconds a token = {prices}; a point left out is missed by "
        f"{fit['typical_error']:.0%} (root mean square), {fit['worst_error']:.0%} at worst"
    )


def _days(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["days_here"])
    head = ["teacher, student", "parameters", *(f"{n} here" for n in names),
            *(f"{n} GPU" for n in names)]  # fmt: skip
    return aligned(
        [
            head,
            *(
                [
                    f"{row['teacher']}, {row['student']}",
                    f"{row['student_parameters']:,}",
                    *(_number(row["days_here"][n]) for n in names),
                    *(_number(row["days_on_gpu_computed"][n]) for n in names),
                ]
                for row in rows
            ),
        ]
    )


def _caching(rows: list[dict[str, Any]]) -> str:
    lines = [["teacher", "bytes/token", "1e9 tokens", "ask here", "read", "passes here",
              "passes GPU"]]  # fmt: skip
    for row in rows:
        for kind in ("float32", "bfloat16"):
            found = row[kind]
            lines.append(
                [
                    f"{row['teacher']}{'*' if row['masks_drawn_anew'] else ''}, {kind}",
                    f"{found['bytes_per_token']:,}",
                    in_bytes(found["bytes_for_1e9_tokens"]),
                    f"{1e6 * found['ask_seconds_per_token_here']:,.3g} µs",
                    f"{1e6 * found['read_seconds_per_token']:,.3g} µs",
                    _passes(found["passes_here"]),
                    _passes(found["passes_gpu_computed"]),
                ]
            )
    return aligned(lines)


def _number(value: float) -> str:
    """Two significant digits and all that stand before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _passes(passes: int | None) -> str:
    return "never" if passes is None else str(passes)
