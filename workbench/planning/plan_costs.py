"""What a sketched run would cost: FLOPs, seconds, bytes of memory and of disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench import storage, tasks
from workbench.config import RunConfig
from workbench.large_vocabulary import is_plain
from workbench.objective import Objective
from workbench.planning import arithmetic
from workbench.planning.arithmetic import Footing, Load, Looks, Size
from workbench.planning.places import Place
from workbench.planning.rates import Rates
from workbench.planning.reading import Reading
from workbench.teacher_cache import cache_directory, is_kept

#: Bytes of the figures and tables of results of a run, and of a line of its metrics, about: counted
#: in runs of protgpt2-tiny, distilbert-pmhc and tinybiobert.
FIGURES = {"text-generation": 750_000, "text-classification": 2_140_000, "fill-mask": 531_000}
LINE_BYTES = 850
#: Of a student's model card, about.
CARD = 5_500


@dataclass(frozen=True)
class Sketch:
    """Everything that a plan is computed from.

    Attributes:
        config: of the run.
        teacher_place: where the teacher would come from.
        data_place: where the data would.
        teacher: its size.
        student: its size.
        models: teacher and student without weights.
        tokenizer: the teacher's; None if it is not here.
        reading: rows and tokens.
        objective: of the student.
        looks: what it looks at inside the models, and of the baseline nothing.
        footing: bytes of numbers, parts of a step.
    """

    config: RunConfig
    teacher_place: Place
    data_place: Place
    teacher: Size
    student: Size
    models: tuple[Any, Any]
    tokenizer: Any
    reading: Reading
    objective: Objective
    looks: Looks
    footing: Footing

    @property
    def cached(self) -> bool:
        """Whether the teacher is asked once about all batches.

        Not where words are hidden anew at every step, nor where there would be too much to keep.
        """
        return self.may_be_cached and is_kept(_kept_bytes(self), cache_directory())

    @property
    def may_be_cached(self) -> bool:
        """Whether the teacher's answers would be kept if there is room for them."""
        return self.config.cached and self.objective.scores != "masked"

    @property
    def keeps_logits(self) -> bool:
        """Whether the teacher's logits are kept; its hidden states otherwise, as `LiveTeacher`."""
        causal = self.objective.scores == "next-token"
        return causal and self.teacher.answers <= self.teacher.width


def step(sketch: Sketch) -> dict[str, Any]:
    """What a step reads, on average."""
    load = sketch.reading.step
    return {**asdict(load), "read": load.read, "parts": sketch.footing.parts}


def total(sketch: Sketch) -> dict[str, Any]:
    """What all steps read; ``passes`` over the data are null where their size is not known."""
    steps, step, rows = sketch.config.steps, sketch.reading.step, sketch.reading.rows
    return {
        "steps": steps,
        "sequences": steps * step.sequences,
        "tokens": steps * step.tokens,
        "scored": steps * step.scored,
        "passes": None if rows is None else steps * step.sequences / rows,
    }


def flops(sketch: Sketch) -> dict[str, float | None]:
    """Of the whole run, by what is done; heads and loss apart from the layers.

    Evaluations are None where the held-out rows are not known, and left out of the total.
    """
    config, step = sketch.config, sketch.reading.step
    teacher, student, looks = sketch.teacher, sketch.student, sketch.looks
    plain = is_plain(sketch.objective)
    how = arithmetic.way(student.answers, step.scored / sketch.footing.parts, plain=plain)
    their_head = None if sketch.keeps_logits else teacher
    reads = arithmetic.forward_flops(student, step)
    asks = arithmetic.forward_flops(teacher, step)
    logged = config.steps / config.log_every
    terms = len(sketch.objective.terms())
    through = looks.hidden or looks.layers or looks.states
    # The ledger differentiates each term by itself where one does not pass through the logits.
    ledger = logged * reads * (1 + (2 * terms if through else 0))
    whole_data = _answered(sketch)
    judged = sketch.reading.held_out
    evaluations = 2 + config.steps // config.evaluate_every
    found: dict[str, float | None] = {
        # Asked for each step, and again for each line of the ledger.
        "teacher": (config.steps + logged) * asks,
        "student": config.steps
        * (3 * reads + arithmetic.comparison_flops(student, teacher, step, looks)),
        "baseline": config.steps * 3 * reads,
        "loss": config.steps
        * (
            arithmetic.loss_flops(student, their_head, step.scored, how)
            + arithmetic.loss_flops(student, None, step.scored, how)
        ),
        "ledger": ledger,
        "evaluations": None,
    }
    answered = (config.steps + logged) * step.tokens
    if sketch.cached:
        found["teacher"] = arithmetic.forward_flops(teacher, whole_data)
        answered = whole_data.tokens
    if sketch.keeps_logits:
        found["teacher"] += arithmetic.head_flops(teacher, answered)
    if judged is not None:
        asked = 1 if is_kept(_held_out_bytes(sketch), cache_directory()) else evaluations
        found["teacher"] += asked * arithmetic.forward_flops(teacher, judged)
        heads = 2 * arithmetic.head_flops(student, judged.scored)
        heads += 0 if sketch.keeps_logits else 2 * arithmetic.head_flops(teacher, judged.scored)
        found["evaluations"] = evaluations * (2 * arithmetic.forward_flops(student, judged) + heads)
    return {**found, "total": sum(part for part in found.values() if part is not None)}


def _answered(sketch: Sketch) -> Load:
    """All training rows, which a cache holds answers to; of unknown data, what the run reads."""
    step, rows = sketch.reading.step, sketch.reading.rows
    times = sketch.config.steps if rows is None else rows / step.sequences
    return Load(times * step.sequences, step.length, times * step.tokens, times * step.scored)


def machine(measured: Rates) -> dict[str, Any]:
    """The machine in words, and what was measured on it."""
    from workbench.devices import machine

    return {"name": machine.name(), **measured.to_json()}


def seconds(
    sketch: Sketch, flops: dict[str, float | None], measured: Rates
) -> dict[str, float | None]:
    """Of the training, by what is done; each part at the rate that it was measured at."""
    steps = 2 * sketch.config.steps * sketch.student.parameters * measured.optimiser
    evaluations = flops["evaluations"]
    found = {
        "teacher": flops["teacher"] / measured.teacher,
        "student": flops["student"] / measured.student,
        "baseline": flops["baseline"] / measured.student,
        "loss": flops["loss"] / measured.loss,
        "optimisers": steps,
        "ledger": flops["ledger"] / measured.student,
        "evaluations": None if evaluations is None else evaluations / measured.student,
    }
    return {**found, "total": sum(part for part in found.values() if part is not None)}


def memory(sketch: Sketch, program: int, device: str) -> dict[str, float | None]:
    """Most bytes that a run holds at once; ``device`` is None where there is no accelerator."""
    teacher, student = sketch.teacher, sketch.student
    live = None if sketch.cached else teacher
    largest = sketch.reading.largest
    step = arithmetic.step_bytes(
        student, live, largest, sketch.looks, sketch.footing, plain=is_plain(sketch.objective)
    )
    training = 2 * 4 * arithmetic.optimiser_numbers(student.parameters)
    answers = cache_bytes(sketch)
    found = {
        "program": program,
        "teacher": 4 * teacher.parameters,
        "students": training,
        "step": step,
        # A copy of both students on its way into a checkpoint; no step is taken meanwhile.
        "checkpoint": training,
        "evaluation": arithmetic.loss_bytes(student, largest.scored, "whole"),
        "answers": answers,
    }
    then = max(step, found["evaluation"])
    on_device = found["teacher"] + found["students"] + then
    if device == "cpu":
        peak = program + found["teacher"] + training + max(then, training) + answers
        return {**found, "device": None, "peak": peak}
    # The teacher is loaded into the machine's own memory, before there are students.
    held = max(found["teacher"], training)
    return {**found, "device": on_device, "peak": program + held + answers}


def cache_bytes(sketch: Sketch) -> float:
    """Of the teacher's answers to all training rows, and to the held-out ones."""
    judged = _held_out_bytes(sketch)
    found = judged if is_kept(judged, cache_directory()) else 0.0
    return found + (_kept_bytes(sketch) if sketch.cached else 0.0)


def uncached(sketch: Sketch) -> float:
    """Bytes of answers that are too many to be kept; 0 if none are."""
    return _kept_bytes(sketch) if sketch.may_be_cached and not sketch.cached else 0.0


def _kept_bytes(sketch: Sketch) -> float:
    return _answer_bytes(sketch) * _answered(sketch).tokens


def _held_out_bytes(sketch: Sketch) -> float:
    held_out = sketch.reading.held_out
    return 0.0 if held_out is None else _answer_bytes(sketch) * held_out.tokens


def _answer_bytes(sketch: Sketch) -> int:
    numbers = sketch.teacher.answers if sketch.keeps_logits else sketch.teacher.width
    return sketch.footing.answer_bytes * numbers


def disk(sketch: Sketch, run: Path) -> dict[str, Any]:
    """Bytes that a run leaves, and free space where it leaves them."""
    student, looks = sketch.student, sketch.looks
    place = sketch.teacher_place.path
    tokenizer = 0 if place is None else sum(p.stat().st_size for p in tokenizer_files(place))
    hidden = sketch.objective.hidden
    # One projection may serve all layers.
    shared = hidden is not None and hidden.projection == "shared"
    projections = min(looks.projections, 1) if shared else looks.projections
    checkpoint = arithmetic.checkpoint_bytes(
        student, projections, (student.width + 1) * sketch.teacher.width
    )
    saved = arithmetic.model_bytes(student) + tokenizer + CARD
    lines = 1 + sketch.config.steps // sketch.config.log_every
    rest = FIGURES[tasks.of_run(sketch.config).name] + LINE_BYTES * lines
    download = 4 * sketch.teacher.parameters if not sketch.teacher_place.here else 0
    cache = cache_directory()
    return {
        "student": saved,
        "checkpoint": checkpoint,
        "rest": rest,
        "run": saved + checkpoint + rest,
        # A checkpoint replaces the one before when it is whole.
        "run_at_most": saved + 2 * checkpoint + rest,
        "run_free": storage.free_bytes(run),
        "run_place": str(storage.existing(run)),
        "cache": cache_bytes(sketch),
        # Beside the answers, under the same directory.
        "token_files": sketch.reading.token_files,
        "cache_free": storage.free_bytes(cache),
        "cache_place": str(storage.existing(cache)),
        "download": download,
    }


def tokenizer_files(directory: Path) -> list[Path]:
    """Files of a tokenizer in a model's directory."""
    wanted = ("tokenizer", "vocab", "merges", "spiece", "special_tokens", "added_tokens")
    return [p for p in sorted(directory.iterdir()) if p.name.startswith(wanted)]
