"""What a run would do, before it is begun: `workbench distill NAME … --dry-run`.

No weights are loaded, no network is asked, nothing is written. Shapes come from the recipe or from
a teacher's ``config.json`` (`sketches`), rows and tokens from a look at the data (`reading`), FLOPs
and bytes from closed forms (`arithmetic`), and the time from what this machine reaches on a few
layers of these widths, measured now (`rates`).
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench import amounts, inner, layer_maps, models, recipes, tasks, workshop
from workbench.classifying import classifiers
from workbench.config import RunConfig
from workbench.devices import processes
from workbench.errors import WorkbenchError
from workbench.foreign import suitability
from workbench.foreign.suitability import Facts
from workbench.objective import Objective
from workbench.planning import places, plan_costs, rates, reading, sketches
from workbench.planning.arithmetic import Footing, Looks
from workbench.planning.places import Place
from workbench.planning.plan_costs import Sketch
from workbench.records import hub
from workbench.run_directory import RunDirectory, check_free, new_name
from workbench.teacher_cache import LARGEST

#: Share of the memory that is free which a plan may fill before it warns.
COMFORTABLE = 0.9


def plan(recipe: str, run: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """What `workbench.distill` would do with the same arguments: sizes, cost, time, space.

    Args:
        recipe: its name.
        run: directory that the run would make; only its place matters.
        options: see `RunConfig.from_recipe`.

    Returns:
        ``{"recipe", "variant", "scale", "config", "teacher", "student", "data", "reading", "step",
        "total", "flops", "machine", "seconds", "memory", "disk", "warnings"}``; bytes, seconds and
        FLOPs as plain numbers, null where they cannot be known. `plan_table.text` makes a table
        of it.

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
    measured = rates.measure(_asked(sketch), processes.device_alone())
    flops = plan_costs.flops(sketch)
    found = {
        "recipe": config.recipe,
        "variant": config.variant,
        "scale": config.scale,
        "config": config.to_json(),
        "teacher": {**sketch.teacher_place.to_json(), **asdict(sketch.teacher)},
        "student": asdict(sketch.student),
        "data": sketch.data_place.to_json(),
        "reading": sketch.reading.to_json(),
        "step": plan_costs.step(sketch),
        "total": plan_costs.total(sketch),
        "flops": flops,
        "machine": {**plan_costs.machine(measured), "memory_free": free},
        "seconds": plan_costs.seconds(sketch, flops, measured),
        "memory": plan_costs.memory(sketch, program, measured.device),
        "disk": plan_costs.disk(sketch, directory.path),
    }
    return {**found, "warnings": _warnings(sketch, found)}


# ---------------------------------------------------------------------- what it would work with


def _sketch(config: RunConfig) -> Sketch:
    recipe, task = recipes.get(config.recipe), tasks.of_run(config)
    scale = recipe.scale(config.scale)
    teacher_place = places.of_model(config.teacher)
    data_place = places.of_data(config.data)
    if teacher_place.path is not None:
        teacher = sketches.of_directory(teacher_place.path, task.kind)
    elif hub.name(config.teacher) == scale.teacher_source:
        teacher = sketches.of_shape(task.name, scale.teacher, scale.activation)
    else:
        raise WorkbenchError(
            f"the shape of {config.teacher} is not known here, and a dry run does not use the "
            f"network; get its configuration once (hf download {config.teacher} config.json), or "
            "give a directory"
        )
    tokenizer = _tokenizer(teacher_place)
    suitability.check_own_teacher(config, built_in=teacher_place.where == "built in")
    if tokenizer is not None and config.label is None:
        suitability.check_tokenizer(teacher.config, tokenizer, task.kind, str(teacher_place.path))
        if task.kind is models.CLASSIFIER:
            classifiers.check_answers(teacher.config, tokenizer, str(teacher_place.path))
    elif tokenizer is not None:
        suitability.check_texts(config, Facts(config.teacher, teacher.config, tokenizer))
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
        reading=reading.look(
            config, data_place, teacher, tokenizer, workshop.row_length(config, shape.positions)
        ),
        objective=objective,
        looks=looks_of(objective, student.config, teacher.config),
        footing=_footing(config),
    )


def _footing(config: RunConfig) -> Footing:
    """How a run of this configuration holds its numbers and takes its steps."""
    share = -(-config.batch_size // processes.count())
    held = min(config.micro_batch or share, share)
    return Footing(
        activation_bytes=2 if config.precision == "bfloat16" else 4,
        parts=-(-config.batch_size // held),
    )


def _tokenizer(place: Place):
    """The teacher's tokenizer, if it is here."""
    import transformers

    if place.path is None or not plan_costs.tokenizer_files(place.path):
        return None
    try:
        with models.quiet_transformers():
            return transformers.AutoTokenizer.from_pretrained(place.path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"cannot load the tokenizer in {place.path}: {error}") from error


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
        precision=sketch.config.precision,
    )


# ---------------------------------------------------------------------- what will not do


def _warnings(sketch: Sketch, found: dict[str, Any]) -> list[str]:
    """In plain words, what stands in the way; the gravest first."""
    memory, disk, free = found["memory"], found["disk"], found["machine"]["memory_free"]
    size, warnings = amounts.in_bytes, []
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
    import torch

    # Of other accelerators than NVIDIA's and AMD's PyTorch does not say what is free.
    if memory["device"] is not None and torch.cuda.is_available():
        there = torch.cuda.mem_get_info()[0]
        if memory["device"] > COMFORTABLE * there:
            warnings.append(
                f"the GPU's memory will not do: the run takes some {size(memory['device'])} and "
                f"{size(there)} are free; try a smaller --batch-size"
            )
    run_place, cache_place = (os.stat(disk[place]) for place in ("run_place", "cache_place"))
    same = run_place.st_dev == cache_place.st_dev
    kept = disk["cache"] + (disk["token_files"] or 0)
    needed = disk["run_at_most"] + (kept if same else 0)
    if needed > disk["run_free"]:
        warnings.append(
            f"the disk will not do: run{' and cache' if same else ''} take up to "
            f"{size(needed)} and {size(disk['run_free'])} are free at {disk['run_place']}"
        )
    if not same and kept > disk["cache_free"]:
        advice = "use --no-cache, or " if disk["cache"] else ""
        warnings.append(
            f"the disk will not do: the cache takes {size(kept)} and {size(disk['cache_free'])} "
            f"are free at {disk['cache_place']}; {advice}set WORKBENCH_CACHE to another place"
        )
    too_many = plan_costs.uncached(sketch)
    if too_many:
        about = "up to" if sketch.reading.rows is None else "some"
        warnings.append(
            f"the teacher would be asked at every step: its answers would take {about} "
            f"{size(too_many)}, more than are kept ({size(LARGEST)} at most, less on a full disk)"
        )
    teacher = sketch.teacher_place
    if not teacher.here:
        warnings.append(
            f"the teacher {teacher.source} is not here: the run would download some "
            f"{size(disk['download'])} (its weights in float32)"
        )
        if sketch.objective.scores == "example":
            warnings.append(
                f"the teacher's shape is the recipe's and not read from {teacher.source}, which is "
                "an encoder: make a classifier of it (workbench teach pmhc --base "
                f"{teacher.source} --data FILE --out DIR) and give it with --teacher DIR"
            )
    elif teacher.bytes is None:
        warnings.append(f"{teacher.path} has no weights (*.safetensors): the run would refuse it")
    if sketch.data_place.where == "hub":
        warnings.append(
            f"the data {sketch.data_place.source} are not here: the run would get them from the "
            "hub, which alone knows how large they are"
        )
    return warnings
