"""The model card of a distilled student, written from its run: how it was made, what it scored.

A card leaves the machine: it names files and directories by their last name only, never by their
path, and what a user typed cannot change how it is read.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import evaluation, recipes, tasks
from workbench.cards import card_usage, citations
from workbench.cards.card_text import fenced, plain, table
from workbench.config import RunConfig
from workbench.events import END, Event
from workbench.foreign import dialects
from workbench.records import hub
from workbench.row_bootstrap import LEVEL, RESAMPLES

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

_WORLDS = {
    "world:proteins": "an artificial world of proteins: families whose members differ by "
    "substitutions, insertions and deletions, drawn from hidden Markov models",
    "world:peptides": "an artificial world of peptides and HLA molecules, drawn from measured "
    "motifs",
    "world:biomedical": "sentences of a grammar over real names of drugs, diseases and genes",
}
_HELD_OUT = {
    "text-generation": "one sequence in ten, chosen by a hash of its letters (of fewer than ten "
    "sequences the last tenth of their blocks)",
    "text-classification": "one peptide in ten, with all its alleles",
    "fill-mask": "one line in ten, chosen by a hash of its letters (of fewer than ten lines the "
    "last tenth of their rows)",
}
#: Of a table of texts and their classes, instead of the task's above and below.
_TEXTS_HELD_OUT = "one text in ten, chosen by a hash of its letters"
_WHAT = {
    "text-generation": "A protein language model",
    "text-classification": "A classifier of peptide–HLA pairs",
    "fill-mask": "A masked language model of text",
}
#: Of the hub, by the names in the results.
_METRICS = {
    "perplexity": "perplexity", "accuracy": "accuracy", "f1": "f1", "auc": "roc_auc",
    "matthews": "matthews_correlation",
}  # fmt: skip
#: What `workbench distill` has flags for, and the fields of the configuration they set.
_FLAGS = {
    "temperature": "--temperature", "alpha": "--alpha", "steps": "--steps", "seed": "--seed",
    "teacher": "--teacher", "data": "--data", "column": "--column", "label": "--label",
    "alleles": "--alleles",
    "init": "--init", "size": "--size", "match": "--match", "batch_size": "--batch-size",
    "learning_rate": "--learning-rate", "length": "--length", "warmup": "--warmup",
    "weight_decay": "--weight-decay", "micro_batch": "--micro-batch", "precision": "--precision",
}  # fmt: skip
_FILES = ("teacher", "data", "alleles")


@dataclass(frozen=True)
class Made:
    """All that a card is written from.

    Attributes:
        config: of the run.
        results: contents of ``results.json``.
        formula: the loss with its numbers.
        trained_on: rows (a sequence, a pair, a sentence, or a block of a long one).
        held_out: likewise.
        tokenizer: of the student.
        positions: longest input, tokens; None if it has no end.
        versions: of what trained it.
        machine: in words, on which speed was measured.
        changes: made by hand on the way.
    """

    config: RunConfig
    results: dict[str, Any]
    formula: str
    trained_on: int
    held_out: int
    tokenizer: Any
    positions: int | None
    versions: dict[str, str]
    machine: str
    changes: Sequence[Event] = ()


def text(made: Made) -> str:
    """The card, Markdown with YAML before it."""
    config = made.config
    recipe = recipes.get(config.recipe)
    title = f"{recipe.name}, student of {plain(named(config.teacher))}"
    task = tasks.of_run(config)
    longest = f" The longest input is {made.positions:,} tokens." if made.positions else ""
    scale = "classroom" if config.scale == "classroom" else "published"
    parts = [
        f"---\n{metadata(made).to_yaml()}\n---",
        f"# {title}",
        f"{_what(made)} with {made.results['student']['parameters']:,} parameters, distilled "
        f"from a teacher with {made.results['teacher']['parameters']:,} after the recipe of "
        f"{recipe.title}, at {scale} scale. It is not that model.",
        "## Use",
        card_usage.words(task.name, made.tokenizer, _classes(made)) + longest,
        fenced(card_usage.code(task.name, made.tokenizer, texts=bool(_classes(made))), "python"),
        "It needs transformers and torch, nothing else.",
        "## Recipe",
        _recipe(made),
        *_changes(made.changes),
        "## Data",
        _data(made, task.name),
        "## Results",
        *_results(made, task),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(made, recipe)),
        "## How it was made",
        *_how(made),
        "## Citation",
        fenced(citations.bibtex(recipe.sources), "bibtex"),
    ]
    return "\n\n".join(parts) + "\n"


def _classes(made: Made) -> list[str]:
    """Of a classifier of texts, its classes; none of other models."""
    return made.results.get("classes") or []


def _what(made: Made) -> str:
    count = len(_classes(made))
    if count:
        return f"A classifier of texts into {count} classes"
    if _fills_residues(made):
        return "A masked language model of proteins"
    return _WHAT[tasks.of_run(made.config).name]


def named(source: str) -> str:
    """A world, a built-in model or an id on the hub as it is; of a path the last name alone."""
    return source if _is_hub_id(source) else Path(source).name or Path(source).resolve().name


def _is_hub_id(source: str) -> bool:
    """As `models.resolve_model` decides: what exists here is a path."""
    return hub.split(source) is not None and not Path(source).exists()


def metadata(made: Made) -> ModelCardData:
    """What the hub reads. No licence: it follows from the teacher's and the data's."""
    from huggingface_hub import EvalResult, ModelCardData

    config = made.config
    task = tasks.of_run(config)
    student = made.results["student"]
    known = {key: kind for key, kind in _METRICS.items() if student.get(key) is not None}
    data = named(config.data)
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=task.name,
        tags=[*_tags(made, task), config.recipe],
        base_model=hub.name(config.teacher) if _is_hub_id(config.teacher) else None,
        datasets=[hub.name(config.data)] if _is_hub_id(config.data) else None,
        metrics=list(known.values()),
        model_name=f"{config.recipe} ({config.variant})",
        eval_results=[
            EvalResult(
                task_type=task.name,
                dataset_type=data,
                dataset_name=f"{data}, held out",
                metric_type=kind,
                metric_value=student[key],
            )
            for key, kind in known.items()
        ],
    )


def _fills_residues(made: Made) -> bool:
    """Whether it tells hidden residues, as an ESM does, and not hidden words."""
    masked = tasks.of(made.config.recipe).name == "fill-mask"
    return masked and dialects.reads_residues(made.tokenizer)


def _tags(made: Made, task: tasks.Task) -> list[str]:
    proteins = _fills_residues(made)
    return ["protein" if proteins and tag == "biomedical" else tag for tag in task.tags]


# ---------------------------------------------------------------------- sections


def _recipe(made: Made) -> str:
    config = made.config
    recipe = recipes.get(config.recipe)
    variant = recipe.variant(config.variant)
    lines = [
        ("recipe", f"{recipe.name}, after {recipe.title}"),
        ("variant", f"{variant.name}: {variant.source}"),
        ("teacher", named(config.teacher)),
        ("start of the student (--init)", config.start),
        ("temperature T", f"{config.temperature:g}"),
        ("α, weight of the hard loss", f"{config.alpha:g}"),
        ("steps", f"{made.results['steps']:,} of {config.batch_size} rows"),
        ("precision of the forward passes", config.precision),
        ("learning rate", f"{config.learning_rate:g}, from there linearly to 0"),
        ("steps of warm-up", f"{config.warmup}"),
        ("weight decay", f"{config.weight_decay:g} (AdamW)"),
        ("seed", f"{config.seed}"),
    ]
    if config.match is not None:
        lines.append(("layers compared", config.match))
    if config.whole_words:
        lines.append(("hidden", "all pieces of a word or none"))
    written = table(("what", "value"), [(plain(what), plain(value)) for what, value in lines])
    return f"{written.replace('---:', '---')}\n\nIt minimised\n\n{fenced(made.formula, 'text')}"


def _changes(changes: Sequence[Event]) -> list[str]:
    """What was done by hand while it learned."""
    if not changes:
        return []
    lines = []
    for event in changes:
        if event.name == END:
            lines.append(f"- after step {event.step:,}: ended by hand")
        else:
            lines.append(f"- from step {event.step + 1:,}: {plain(event.name)} = {event.new:g}")
    return ["The formula is that of the first step; changed by hand on the way:", "\n".join(lines)]


def _data(made: Made, task: str) -> str:
    config = made.config
    world = _WORLDS.get(config.data)
    name = plain(named(config.data))
    what = f"Source: {name}, " + (world or "which this card does not describe further") + "."
    held = (
        "drawn from the same world by another seed, the same for every run"
        if world
        else _TEXTS_HELD_OUT
        if config.label
        else _HELD_OUT["text-generation" if _fills_residues(made) else task]
    )
    return (
        f"{what} Trained on {made.trained_on:,} rows (a row is a sequence, a sentence or a pair, "
        f"or a block of a long one); judged on {made.held_out:,} held out: {held}."
    )


def _results(made: Made, task: tasks.Task) -> list[str]:
    rows = {name: made.results[name] for name in evaluation.ROW_NAMES}
    lines = []
    for key, title, form in task.columns():
        if any(row[key] is not None for row in rows.values()):
            lines.append((title, *(_figure(row, key, form) for row in rows.values())))
    parts = [
        "*Oracle*: the truth, where it is known. *Baseline*: the same student from the same start "
        "on the same batches, without a teacher.",
        table(("", *rows), lines),
        f"In brackets: {100 * LEVEL:g} % intervals, bootstrapped over held-out rows ({RESAMPLES:,} "
        "drawings). They tell how sure a figure is of this model; another seed makes another "
        "model.",
    ]
    said = task.sentences(made.results)
    if made.results["teacher"]["latency_ms"]:
        said.append(
            f"Against its teacher it has {evaluation.speed_words(made.results)}, measured on "
            f"{made.machine}."
        )
    return [*parts, " ".join(said)] if said else parts


def _figure(row: dict[str, Any], key: str, form: str) -> str:
    if row[key] is None:
        return "–"
    interval = (row.get("intervals") or {}).get(key)
    if interval is None and key == "entity_f1":
        interval = row.get("entity_interval")
    between = "" if interval is None else f" ({form.format(interval[0])} to " + (
        f"{form.format(interval[1])})"
    )  # fmt: skip
    return form.format(row[key]) + between


def _limits(made: Made, recipe: recipes.Recipe) -> list[str]:
    config = made.config
    found = []
    if config.data in _WORLDS:
        found.append(
            "Trained and judged on an artificial world, not on nature: its figures say nothing "
            "about real proteins, peptides or texts."
        )
    else:
        found.append(
            "Judged on held-out rows of the data that it was trained on; data from elsewhere are "
            "likely to be harder, and what is wrong or one-sided there is learned along. Whether "
            "the teacher had learned from the held-out rows, this card does not know; if so, its "
            "figures are too good."
        )
    if config.scale == "classroom":
        own = recipe.scale("classroom").student
        paper = recipe.scale("paper").student
        found.append(
            f"Made to learn from: the recipe's classroom student is {own.layers} layers × "
            f"{own.width}, that of the published model {paper.layers} × {paper.width}."
        )
    if config.variant != "corrected":
        found.append(
            f"The variant {config.variant} repeats on purpose what its source does, mistakes "
            "included; the variant corrected does not."
        )
    found += [
        "Not for clinical, diagnostic or therapeutic decisions, and no substitute for an "
        "experiment.",
        "It has its teacher's mistakes, and its own besides: the agreement above is with the "
        "teacher, not with the truth.",
        "No licence is stated here: it follows from those of the teacher and of the data.",
    ]
    return found


def _how(made: Made) -> list[str]:
    versions = plain(", ".join(f"{name} {version}" for name, version in made.versions.items()))
    parts = [fenced(command(made.config), "sh" if _by_flags(made.config) else "python")]
    if made.changes:
        parts.append(
            "and the changes above, made by hand; `workbench replay` repeats both from the run."
        )
    parts.append(f"Made with {versions}; the same seed gives the same bytes on the same machine.")
    return parts


def command(config: RunConfig) -> str:
    """What repeats the run, where its files lie at hand: a command, or a call where none can."""
    usual = RunConfig.from_recipe(
        config.recipe, variant=config.variant, scale=config.scale, steps=config.steps,
        data=config.data,
        # Not the launcher's, which whoever repeats the run need not have.
        precision=recipes.get(config.recipe).scale(config.scale).precision,
    )  # fmt: skip
    always = ("temperature", "alpha", "steps", "seed")
    if config.label is not None:
        # What is found in the header of the data is said, so that it need not be found.
        always += ("label",)
    given: dict[str, Any] = {
        name: getattr(config, name)
        for name in _FLAGS
        if name in always or getattr(config, name) != getattr(usual, name)
    }
    if config.data != recipes.get(config.recipe).scale(config.scale).data_source:
        given["data"] = config.data
    for name in _FILES:
        if given.get(name):
            given[name] = " ".join(named(given[name]).split())
    if not _by_flags(config):
        sizes = {name: getattr(config, name) for name in _ONLY_CALLED}
        options = {"variant": config.variant, "scale": config.scale, **given, **sizes}
        options |= {"weights": config.weights, "whole_words": config.whole_words}
        written = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"import workbench\n\nworkbench.distill({config.recipe!r}, {written})"
    words = ["workbench", "distill", config.recipe, "--variant", config.variant]
    if config.scale != "classroom":
        words += ["--scale", config.scale]
    for name, value in given.items():
        words += [_FLAGS[name], _number(value) if isinstance(value, float) else str(value)]
    for term, weight in (config.weights or {}).items():
        words += ["--weight", f"{term}={_number(weight)}"]
    if config.whole_words:
        words.append("--whole-words")
    return shlex.join(words)


def _number(value: float) -> str:
    """As short as it can be without being another number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


#: What only the call from Python can say.
_ONLY_CALLED = ("train_sequences", "validation_sequences")


def _by_flags(config: RunConfig) -> bool:
    usual = RunConfig.from_recipe(config.recipe, scale=config.scale, data=config.data)
    return all(getattr(config, name) == getattr(usual, name) for name in _ONLY_CALLED)
