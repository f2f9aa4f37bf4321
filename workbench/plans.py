"""What a run would do, before it is begun: `workbench distill NAME … --dry-run`.

No weights are loaded, no network is asked, nothing is written. Shapes come from the recipe or from
a teacher's ``config.json`` (`sketches`), rows and tokens from a look at the data (`reading`), FLOPs
and bytes from closed forms (`arithmetic`), and the time from what this machine reaches on a few
layers of these widths, measured now (`rates`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench import (
    arithmetic,
    inner,
    layer_maps,
    models,
    places,
    rates,
    reading,
    recipes,
    sketches,
    tasks,
    workshop,
)
from workbench.arithmetic import Footing, Load, Looks, Size
from workbench.config import RunConfig
from workbench.errors import WorkbenchError
from workbench.objective import Objective
from workbench.places import Place
from workbench.rates import Rates
from workbench.reading import Reading
from workbench.run_directory import RunDirectory, check_free, new_name

#: Bytes of a run's figures with its tables of results, and of a line of its metrics, as runs of
FIGURES = {"text-generation": 750_000, "text-classification": 750_000, "fill-mask": 531_000}
LINE_BYTES = 850
#: Share of the memory that is free which a plan may fill before it warns.
COMFORTABLE = 0.9


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
        """Whether the teacher is asked once about all batches; not where masks are drawn anew."""
        return self.config.cached and self.objective.scores != "masked"

    @property
    def keeps_logits(self) -> bool:
        """Whether the teacher's logits are kept; its hidden states otherwise, as `LiveTeacher`."""
        causal = self.objective.scores == "next-token"
        return causal and self.teacher.answers <= self.teacher.width


def plan(recipe: str, run: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """What `workbench.distill` would do with the same arguments: sizes, cost, time, space.

    Args:
        recipe: its name.
        run: directory that the run would make; only its place matters.
        options: see `RunConfig.from_recipe`.

    Returns:
        ``{"recipe", "variant", "scale", "config", "teacher", "student", "data", "reading", "step",
        "total", "flops", "machine", "seconds", "memory", "disk", "warnings"}``; bytes, seconds and
        FLOPs as plain numbers, null where they cannot be known. `workbench.plan_table.text` makes
        a table of it.

    Raises:
        UsageError: if an option is out of range.
        WorkbenchError: if teacher or data are nowhere to be found, or do not fit the recipe.
    """
    import psutil

    config = RunConfig.from_recipe(recipe, **options)
    directory = RunDirectory(Path(run) if run else new_name(config))
    check_free(directory)
    sketch = _sketch(config)
    # Before the measurement: what the program itself takes, libraries and all.
    program, free = psutil.Process().memory_info().rss, psutil.virtual_memory().available
    from accelerate import Accelerator

    device = Accelerator().device
    measured = rates.measure(_asked(sketch), device)
    flops = _flops(sketch)
    found = {
        "recipe": config.recipe,
        "variant": config.variant,
        "scale": config.scale,
        "config": config.to_json(),
        "teacher": {**sketch.teacher_place.to_json(), **asdict(sketch.teacher)},
        "student": asdict(sketch.student),
        "data": sketch.data_place.to_json(),
        "reading": sketch.reading.to_json(),
        "step": _step(sketch),
        "total": _total(sketch),
        "flops": flops,
        "machine": {**_machine(measured), "memory_free": free},
        "seconds": _seconds(sketch, flops, measured),
        "memory": _memory(sketch, program, measured.device),
        "disk": _disk(sketch, directory.path),
    }
    return {**found, "warnings": _warnings(sketch, found)}


# ---------------------------------------------------------------------- what it would work with


def _sketch(config: RunConfig) -> Sketch:
    recipe, task = recipes.get(config.recipe), tasks.of(config.recipe)
    scale = recipe.scale(config.scale)
    teacher_place = places.of_model(config.teacher)
    data_place = places.of_data(config.data)
    if teacher_place.path is not None:
        teacher = sketches.of_directory(teacher_place.path, task.kind)
    elif places.name(config.teacher) == scale.teacher_source:
        teacher = sketches.of_shape(task.name, scale.teacher, scale.activation)
    else:
        raise WorkbenchError(
            f"the shape of {config.teacher} is not known here, and a dry run does not use the "
            f"network; get its configuration once (hf download {config.teacher} config.json), or "
            "give a directory"
        )
    tokenizer = _tokenizer(teacher_place)
    tokens = teacher.config.vocab_size if tokenizer is None else len(tokenizer)
    layer_map = layer_maps.parse(config.start, teacher.config.num_hidden_layers)
    shape = workshop.student_shape(config, teacher, tokens, layer_map)
    student = sketches.student(config, teacher, tokens)
    objective = workshop.objective_of(config)
    objective.check_widths(shape.width, teacher.config.hidden_size)
    return Sketch(
        config=config,
        teacher_place=teacher_place,
        data_place=data_place,
        teacher=sketches.size_of(teacher),
        student=sketches.size_of(student),
        models=(teacher, student),
        tokenizer=tokenizer,
        reading=reading.look(config, data_place, teacher, tokenizer, shape.positions),
        objective=objective,
        looks=looks_of(objective, student.config, teacher.config),
        footing=_footing(config),
    )


def _footing(config: RunConfig) -> Footing:
    """How a run of this configuration holds its numbers and takes its steps."""
    return Footing()


def _tokenizer(place: Place):
    """The teacher's tokenizer, if it is here."""
    import transformers

    if place.path is None or not _tokenizer_files(place.path):
        return None
    try:
        with models.quiet_transformers():
            return transformers.AutoTokenizer.from_pretrained(place.path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"cannot load the tokenizer in {place.path}: {error}") from error


def _tokenizer_files(directory: Path) -> list[Path]:
    wanted = ("tokenizer", "vocab", "merges", "spiece", "special_tokens", "added_tokens")
    return [p for p in sorted(directory.iterdir()) if p.name.startswith(wanted)]


def looks_of(objective: Objective, student, teacher) -> Looks:
    """What an objective looks at inside two models, given by their configurations."""
    hidden, attention = objective.hidden, objective.attention
    pairs = 0 if hidden is None else len(inner.hidden_pairs(hidden, student, teacher))
    maps = () if attention is None else inner.attention_pairs(attention, student, teacher)
    return Looks(
        hidden=pairs,
        projections=pairs if hidden is not None and hidden.projection else 0,
        maps=attention is not None and attention.operand == "probabilities",
        scores=attention is not None and attention.operand == "scores",
        states=objective.compares_states,
        layers=len(maps),
    )


def _asked(sketch: Sketch) -> rates.Asked:
    teacher, student = sketch.models
    return rates.Asked(
        teacher=teacher,
        student=student,
        sizes=(sketch.teacher, sketch.student),
        load=sketch.reading.step.part(sketch.footing.parts),
        objective=sketch.objective,
        looks=sketch.looks,
        keeps_logits=sketch.keeps_logits,
    )


# ---------------------------------------------------------------------- what it would cost


def _step(sketch: Sketch) -> dict[str, Any]:
    load = sketch.reading.step
    return {**asdict(load), "read": load.read, "parts": sketch.footing.parts}


def _total(sketch: Sketch) -> dict[str, Any]:
    steps, step, rows = sketch.config.steps, sketch.reading.step, sketch.reading.rows
    return {
        "steps": steps,
        "sequences": steps * step.sequences,
        "tokens": steps * step.tokens,
        "scored": steps * step.scored,
        "passes": None if rows is None else steps * step.sequences / rows,
    }


def _flops(sketch: Sketch) -> dict[str, float]:
    """Of the whole run, by what is done; heads and loss apart from the layers."""
    config, step = sketch.config, sketch.reading.step
    teacher, student, looks = sketch.teacher, sketch.student, sketch.looks
    plain = rates.plain(sketch.objective)
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
    found = {
        "teacher": config.steps * asks + (logged * asks if through else 0),
        "student": config.steps
        * (3 * reads + arithmetic.comparison_flops(student, teacher, step, looks)),
        "baseline": config.steps * 3 * reads,
        "loss": config.steps
        * (
            arithmetic.loss_flops(student, their_head, step.scored, how)
            + arithmetic.loss_flops(student, None, step.scored, how)
        ),
        "ledger": ledger,
        "evaluations": 0.0,
    }
    if sketch.cached:
        found["teacher"] = arithmetic.forward_flops(teacher, whole_data)
        if sketch.keeps_logits:
            found["teacher"] += arithmetic.head_flops(teacher, whole_data.tokens)
    if judged is not None:
        found["teacher"] += arithmetic.forward_flops(teacher, judged)
        heads = 2 * arithmetic.head_flops(student, judged.scored)
        heads += 0 if sketch.keeps_logits else 2 * arithmetic.head_flops(teacher, judged.scored)
        found["evaluations"] = evaluations * (2 * arithmetic.forward_flops(student, judged) + heads)
    return {**found, "total": sum(found.values())}


def _answered(sketch: Sketch) -> Load:
    """All training rows, which a cache holds answers to; of unknown data, what the run reads."""
    step, rows = sketch.reading.step, sketch.reading.rows
    times = sketch.config.steps if rows is None else rows / step.sequences
    return Load(times * step.sequences, step.length, times * step.tokens, times * step.scored)


def _machine(measured: Rates) -> dict[str, Any]:
    from workbench import machine

    return {"name": machine.name(), **measured.to_json()}


def _seconds(sketch: Sketch, flops: dict[str, float], measured: Rates) -> dict[str, float]:
    """Of the training, by what is done; each part at the rate that it was measured at."""
    steps = 2 * sketch.config.steps * sketch.student.parameters * measured.optimiser
    found = {
        "teacher": flops["teacher"] / measured.teacher,
        "student": flops["student"] / measured.student,
        "baseline": flops["baseline"] / measured.student,
        "loss": flops["loss"] / measured.loss,
        "optimisers": steps,
        "ledger": flops["ledger"] / measured.student,
        "evaluations": flops["evaluations"] / measured.student,
    }
    return {**found, "total": sum(found.values())}


def _memory(sketch: Sketch, program: int, device: str) -> dict[str, float | str]:
    """Most bytes that a run holds at once."""
    teacher, student = sketch.teacher, sketch.student
    live = None if sketch.cached else teacher
    largest = sketch.reading.largest
    step = arithmetic.step_bytes(
        student, live, largest, sketch.looks, sketch.footing, plain=rates.plain(sketch.objective)
    )
    training = 2 * 4 * arithmetic.optimiser_numbers(student.parameters)
    answers = _cache_bytes(sketch)
    found = {
        "program": program,
        "teacher": 4 * teacher.parameters,
        "students": training,
        "step": step,
        # A copy of both students on its way into a checkpoint; no step is taken meanwhile.
        "checkpoint": training,
        "answers": answers,
    }
    on_device = found["teacher"] + found["students"] + step
    if device == "cpu":
        peak = program + found["teacher"] + training + max(step, training) + answers
        return {**found, "device": None, "peak": peak}
    return {**found, "device": on_device, "peak": program + training + answers}


def _cache_bytes(sketch: Sketch) -> float:
    """Of the teacher's answers to all training rows, and to the held-out ones."""
    numbers = sketch.teacher.answers if sketch.keeps_logits else sketch.teacher.width
    tokens = _answered(sketch).tokens if sketch.cached else 0.0
    if sketch.reading.held_out is not None:
        tokens += sketch.reading.held_out.tokens
    return sketch.footing.answer_bytes * numbers * tokens


def _disk(sketch: Sketch, run: Path) -> dict[str, Any]:
    """Bytes that a run leaves, and free space where it leaves them."""
    from workbench.teacher_cache import cache_directory

    student, looks = sketch.student, sketch.looks
    place = sketch.teacher_place.path
    tokenizer = 0 if place is None else sum(p.stat().st_size for p in _tokenizer_files(place))
    hidden = sketch.objective.hidden
    # One projection may serve all layers.
    projections = (
        min(looks.projections, 1)
        if hidden and hidden.projection == "shared"
        else (looks.projections)
    )
    checkpoint = arithmetic.checkpoint_bytes(
        student, projections, (student.width + 1) * sketch.teacher.width
    )
    saved = arithmetic.model_bytes(student) + tokenizer
    lines = 1 + sketch.config.steps // sketch.config.log_every
    rest = FIGURES[tasks.of(sketch.config.recipe).name] + LINE_BYTES * lines
    download = 4 * sketch.teacher.parameters if not sketch.teacher_place.here else 0
    cache = cache_directory()
    return {
        "student": saved,
        "checkpoint": checkpoint,
        "rest": rest,
        "run": saved + checkpoint + rest,
        # A checkpoint replaces the one before when it is whole.
        "run_at_most": saved + 2 * checkpoint + rest,
        "run_free": places.free_bytes(run),
        "run_place": str(places.existing(run)),
        "cache": _cache_bytes(sketch),
        "cache_free": places.free_bytes(cache),
        "cache_place": str(places.existing(cache)),
        "download": download,
    }


# ---------------------------------------------------------------------- what will not do


def _warnings(sketch: Sketch, found: dict[str, Any]) -> list[str]:
    """In plain words, what stands in the way; the gravest first."""
    memory, disk, free = found["memory"], found["disk"], found["machine"]["memory_free"]
    size, warnings = arithmetic.in_bytes, []
    if memory["peak"] > COMFORTABLE * free:
        advice = (
            "a smaller --batch-size"
            if memory["step"] > memory["students"]
            else ("a smaller student or teacher, or another machine")
        )
        if memory["answers"] > memory["peak"] / 2:
            advice = "--no-cache, which runs the teacher at every step"
        warnings.append(
            f"memory will not do: the run takes some {size(memory['peak'])} and {size(free)} are "
            f"free; try {advice}"
        )
    if memory["device"] is not None:
        import torch

        there = torch.cuda.mem_get_info()[0]
        if memory["device"] > COMFORTABLE * there:
            warnings.append(
                f"the GPU's memory will not do: the run takes some {size(memory['device'])} and "
                f"{size(there)} are free; try a smaller --batch-size"
            )
    same = disk["run_place"] == disk["cache_place"]
    needed = disk["run_at_most"] + (disk["cache"] if same else 0)
    if needed > disk["run_free"]:
        warnings.append(
            f"the disk will not do: run{' and teacher cache' if same else ''} take up to "
            f"{size(needed)} and {size(disk['run_free'])} are free at {disk['run_place']}"
        )
    if not same and disk["cache"] > disk["cache_free"]:
        warnings.append(
            f"the disk will not do: the teacher cache takes {size(disk['cache'])} and "
            f"{size(disk['cache_free'])} are free at {disk['cache_place']}; use --no-cache, or "
            "set WORKBENCH_CACHE to another place"
        )
    teacher = sketch.teacher_place
    if not teacher.here:
        warnings.append(
            f"the teacher {teacher.source} is not here: the run would download some "
            f"{size(disk['download'])} (its weights in float32)"
        )
    elif teacher.bytes is None:
        warnings.append(f"{teacher.path} has no weights (*.safetensors): the run would refuse it")
    if sketch.data_place.where == "hub":
        warnings.append(
            f"the data {sketch.data_place.source} are not here: the run would get them from the "
            "hub, which alone knows how large they are"
        )
    return warnings
