"""The commands, thin: read options, call the package, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.bench.command import BENCHMARKS
from workbench.errors import Interrupted, NonFiniteLoss, UsageError, WorkbenchError

app = typer.Typer(
    name="workbench",
    help="Learn knowledge distillation on the models of biology.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps.")]
Seed = Annotated[int, typer.Option(help="Of the initial weights and the order of batches.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="FASTA, CSV, text or Parquet file, or an id on the hub (ID@REVISION); for "
        "distilbert-pmhc a table with the columns peptide, allele, label, or of texts and classes."
    ),
]
WholeWords = Annotated[
    bool, typer.Option("--whole-words", help="Hide all pieces of a word or none (fill-mask).")
]
Alleles = Annotated[
    str | None,
    typer.Option(help="Table of HLA pseudo-sequences, for pairs with alleles not built in."),
]
Column = Annotated[
    str | None, typer.Option(help="Which column of a table holds the sequences or texts.")
]
Label = Annotated[
    str | None,
    typer.Option(help="Which column of a table of texts holds their classes (distilbert-pmhc)."),
]
TeacherOption = Annotated[
    str | None,
    typer.Option(help="Directory or hub id (ID@REVISION) of a model for the recipe's task."),
]
Brief = Annotated[
    bool,
    typer.Option(
        "--brief",
        help="Measure quality only at the end: no speed, nothing generated, no figures. "
        "`workbench evaluate DIR` adds them.",
    ),
]

MicroBatch = Annotated[
    int | None,
    typer.Option(
        help="Most sequences that a process reads at once; the rest of a step is accumulated."
    ),
]
Accumulate = Annotated[
    int | None,
    typer.Option(help="In how many parts a process reads its share; instead of --micro-batch."),
]
Precision = Annotated[str | None, typer.Option(help="In which models read: float32 or bfloat16.")]


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation and say what to do."""
    from workbench import doctor as checks

    findings = checks.examine()
    if as_json:
        _print_json({"checks": [f.to_json() for f in findings]})
    else:
        print(checks.report(findings))
    if any(f.state == "wrong" for f in findings):
        raise WorkbenchError(
            "something is wrong; each line above that begins with ✗ says what to do"
        )


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="One recipe; all without it.")] = None,
    as_json: Json = False,
) -> None:
    """Every published model: variants, T, α, terms, parameters of teacher and student."""
    from workbench import catalogue

    if as_json:
        _print_json(
            catalogue.describe(name)
            if name
            else {"recipes": [catalogue.describe(n) for n in catalogue.names()]}
        )
    else:
        print("\n\n".join(catalogue.text(n) for n in ([name] if name else catalogue.names())))


@app.command()
def distill(
    name: Annotated[str, typer.Argument(help="Name of a recipe; see `workbench recipes`.")],
    run: Annotated[Path | None, typer.Option(help="Run directory to make.")] = None,
    variant: Annotated[
        str, typer.Option(help="corrected, as-published or as-coded.")
    ] = "corrected",
    scale: Annotated[str, typer.Option(help="classroom or paper.")] = "classroom",
    temperature: Annotated[float | None, typer.Option("--temperature", "-T")] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="Weight of the hard loss, 0 to 1.")
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
    teacher: TeacherOption = None,
    data: Data = None,
    column: Column = None,
    label: Label = None,
    alleles: Alleles = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="How the student starts: random, or with layers of its teacher: 2i, 2i+1, "
            "distilbert, first, last, spaced, uniform (first:4 for four layers), or a map such as "
            "0,2,4,6; by default as the recipe says."
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            help="Layers of the student, such as 3, or layers and width, such as 3x96; by default "
            "as the recipe says."
        ),
    ] = "",
    match: Annotated[
        str | None,
        typer.Option(
            help="Which teacher layers hidden and attention terms imitate: a map as for --init."
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="A term's weight, such as hidden=0, which takes it out; repeatable."),
    ] = None,
    whole_words: WholeWords = False,
    batch_size: Annotated[int | None, typer.Option(help="Sequences a step.")] = None,
    length: Annotated[
        int | None, typer.Option(help="Longest row in tokens, at most the model's positions.")
    ] = None,
    micro_batch: MicroBatch = None,
    accumulate: Accumulate = None,
    precision: Precision = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Steps until the peak learning rate; then a linear decay.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's, on matrices.")] = None,
    cached: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep the teacher's answers, or ask each time."),
    ] = True,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    brief: Brief = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Begin nothing: print parameters, FLOPs, time, memory, disk."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """One full run: train, evaluate, draw, save the student."""
    options = dict(
        variant=variant, scale=scale, temperature=temperature, alpha=alpha, steps=steps,
        seed=seed, teacher=teacher, data=data, column=column, label=label, alleles=alleles,
        init=init, size=size, match=match, weights=_weights(weight), whole_words=whole_words,
        batch_size=batch_size, length=length, micro_batch=micro_batch, accumulate=accumulate,
        precision=precision, learning_rate=learning_rate, warmup=warmup,
        weight_decay=weight_decay, cached=cached, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    if dry_run:
        from workbench.devices import processes
        from workbench.planning import plan_table, plans

        if processes.rank() > 0:
            return  # the main process plans for all, and alone speaks
        planned = plans.plan(name, run, **options)
        if as_json:
            _print_json(planned)
        else:
            print(plan_table.text(planned))
        return
    from workbench import runs

    _print_results(runs.distill(name, run, brief=brief, **options), as_json)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    brief: Brief = False,
    as_json: Json = False,
) -> None:
    """Go on from the last checkpoint, to the same result as if never stopped."""
    from workbench import runs

    _print_results(runs.resume(run, brief=brief), as_json)


@app.command()
def sweep(
    name: Annotated[
        str | None, typer.Argument(help="Name of a recipe; see `workbench recipes`.")
    ] = None,
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", "-T", help="Several values; of a search two ends."),
    ] = None,
    alpha: Annotated[
        list[float] | None, typer.Option(help="Several weights of the hard loss, 0 to 1.")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Several variants.")] = None,
    init: Annotated[list[str] | None, typer.Option(help="Several starts of the student.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="Several sizes of the student.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each point, seeds from 0; 2.")] = None,
    search: Annotated[
        str | None, typer.Option(help="tpe: search between the ends given, instead of a grid.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Points that a search tries; 50.")] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop runs that do worse than the median of others.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes at a time; by default one a core.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Of the sweep; by default under sweeps/.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study in the storage.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="URL of a database; by default an SQLite file in the directory."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Directory of a sweep to go on with; no other option.")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="classroom or paper.")] = None,
    steps: Steps = None,
    teacher: TeacherOption = None,
    data: Data = None,
    column: Column = None,
    label: Label = None,
    alleles: Alleles = None,
    match: Annotated[str | None, typer.Option(help="As for distill.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="As for distill; repeatable.")] = None,
    whole_words: WholeWords = False,
    batch_size: Annotated[int | None, typer.Option(help="Sequences a step.")] = None,
    length: Annotated[int | None, typer.Option(help="As for distill.")] = None,
    micro_batch: MicroBatch = None,
    accumulate: Accumulate = None,
    precision: Precision = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    warmup: Annotated[int | None, typer.Option(help="As for distill.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's, on matrices.")] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints; by default only at the end.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A grid of runs over T, α and more, or a search; the same command goes on with it."""
    from workbench import sweeps

    options = {
        "temperature": temperature, "alpha": alpha, "variant": variant, "init": init, "size": size,
        "seeds": seeds, "search": search, "trials": trials, "prune": prune or None,
        "scale": scale, "steps": steps, "teacher": teacher,
        "data": data, "column": column, "label": label, "alleles": alleles,
        "match": match, "weights": _weights(weight), "batch_size": batch_size, "length": length,
        "micro_batch": micro_batch, "accumulate": accumulate, "precision": precision,
        "learning_rate": learning_rate, "warmup": warmup, "weight_decay": weight_decay,
        "checkpoint_every": checkpoint_every, "whole_words": whole_words or None,
    }  # fmt: skip
    given = {key: value for key, value in options.items() if value is not None}
    if resume is not None:
        if name or given or study or directory:
            raise UsageError("--resume knows its sweep; beside it only --workers and --storage")
        found = sweeps.resume(resume, storage=storage, workers=workers)
    elif name is None:
        raise UsageError("name a recipe, or go on with a sweep by --resume DIR")
    else:
        found = sweeps.sweep(
            name, directory=directory, study=study, storage=storage, workers=workers, **given
        )
    if as_json:
        _print_json(found)
    else:
        print(sweeps.table(found))
        print(f"Everything is in {found['sweep']}.")


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(help="A run directory, steered by hand or not.")],
    into: Annotated[Path | None, typer.Option("--run", help="Run directory to make.")] = None,
    as_json: Json = False,
) -> None:
    """Repeat a run from its configuration and its events, and compare the bytes."""
    from workbench import runs
    from workbench.errors import WorkbenchError

    found = runs.replay(run, into)
    if as_json:
        _print_json(found)
    elif found["same"]:
        print(f"The same bytes after {found['steps']:,} steps: {found['replayed']}")
    if not found["same"]:
        raise WorkbenchError(
            f"{found['replayed']} differs from {found['run']} in {len(found['differs'])} tensors, "
            f"such as {found['differs'][0]}; the same bytes need the same machine and versions, "
            "see config.json"
        )


@app.command()
def evaluate(
    what: Annotated[
        str,
        typer.Argument(help="A run directory, or a model: built in, a directory, or on the hub."),
    ],
    data: Data = None,
    column: Column = None,
    label: Label = None,
    alleles: Alleles = None,
    teacher: TeacherOption = None,
    recipe: Annotated[
        str | None, typer.Option(help="Whose task, teacher and data; by default by the model.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Oracle, teacher, student, student without teacher: quality and runtime."""
    from workbench import evaluation, models, runs, tasks
    from workbench.config import RunConfig

    if (Path(what) / "config.json").exists() and runs.is_run(what):
        if data or teacher or column or label or alleles or recipe:
            raise UsageError(
                "a run is evaluated on its own data and teacher; give the directory of a model, "
                f"such as {what}/student, to use --data or --teacher"
            )
        results = runs.evaluate(what)
    else:
        place = models.resolve_model(what)
        if recipe is None:
            recipe = tasks.recipe_for(models.architectures(place))
        config = RunConfig.from_recipe(
            recipe, data=data, teacher=teacher, column=column, label=label,
            alleles=alleles,
        )  # fmt: skip
        results = evaluation.evaluate_model(what, config)
    _print_results(results, as_json)


@app.command()
def teach(
    name: Annotated[str, typer.Argument(help="A classroom teacher: protgpt2, pmhc or biobert.")],
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Directory to save the teacher in.")] = None,
    steps: Steps = None,
    seed: Seed = 0,
    column: Column = None,
    alleles: Alleles = None,
    base: Annotated[
        str | None,
        typer.Option(help="A trained encoder to begin with, such as Rostlab/prot_bert (pmhc)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classroom teacher again from nothing."""
    from workbench.teaching import teachers

    figures = teachers.teach(
        name, data=data, out=out, steps=steps, seed=seed, column=column, alleles=alleles, base=base
    )
    if as_json:
        _print_json(figures)
    else:
        for key, value in figures.items():
            print(f"{key}: {value}")


@app.command()
def entities(
    what: Annotated[
        list[str],
        typer.Argument(help="Run directories (teacher, student, baseline) or encoders."),
    ],
    train: Annotated[
        Path | None, typer.Option(help="Tag file to learn from; by default the world's sentences.")
    ] = None,
    held_out: Annotated[Path | None, typer.Option(help="Tag file to be judged by.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training sentences.")] = 5,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 5e-4,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Teach encoders to find named entities, and compare the F1 of whole entities."""
    from workbench.named_entities import entity_comparison

    found = entity_comparison.compare(
        what, train=train, held_out=held_out, epochs=epochs, learning_rate=learning_rate, seed=seed
    )
    if as_json:
        _print_json(found)
    else:
        print(entity_comparison.table(found))


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    repository: Annotated[str, typer.Argument(help="On the Hugging Face hub, as OWNER/NAME.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see a repository that is made now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Upload a student and its model card to the hub: student/ of the run and nothing else."""
    from workbench.cards import publishing

    page = publishing.push(run, repository, private=not public)
    files = [file.name for file in publishing.leaving(run)]
    if as_json:
        _print_json({"page": page, "files": files})
    else:
        print(f"{len(files)} files of {run / 'student'} are at {page}.")


@app.command()
def bench(
    what: Annotated[
        str,
        typer.Argument(help=f"{', '.join([*BENCHMARKS][:-1])} or {[*BENCHMARKS][-1]}."),
    ] = "step",
    names: Annotated[
        list[str] | None, typer.Argument(help="Recipes, for full-shape; all without them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The speed measurements that the README quotes."""
    from workbench.bench import command

    measured = command.run(what, names=names or ())
    if as_json:
        _print_json(measured)
    else:
        print(command.text(what, measured))


@app.command()
def export(
    what: Annotated[
        str,
        typer.Argument(help="A run directory, or a model: built in, a directory, or on the hub."),
    ],
    to: Annotated[str, typer.Option("--to", help="onnx.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Also with weights in int8.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory to make; by default onnx in the run, or NAME-onnx here."),
    ] = None,
    data: Data = None,
    column: Column = None,
    label: Label = None,
    alleles: Alleles = None,
    as_json: Json = False,
) -> None:
    """A student for small devices: runs without torch; checked, judged and measured."""
    from workbench import portable

    found = portable.export(
        what, to=to, int8=int8, out=out, data=data, column=column, label=label, alleles=alleles
    )
    if as_json:
        _print_json(found)
    else:
        from workbench.portable import table

        print(table.text(found))
        print(f"Everything is in {found['out']}; its README.md shows how to run it.")


@app.command()
def lab(
    port: Annotated[int, typer.Option(help="On 127.0.0.1; the next free one if taken.")] = 8888,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    notebooks: Annotated[
        Path | None, typer.Option(help="Directory to serve instead of the course's own.")
    ] = None,
) -> None:
    """JupyterLab on the notebooks, on 127.0.0.1 with a token."""
    from workbench.web import server

    raise typer.Exit(server.jupyter_lab(port, browser, notebooks))


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(help="A recipe, a link such as 'protgpt2-tiny;T=4', or a run directory."),
    ] = "protgpt2-tiny",
    port: Annotated[int, typer.Option(help="The next free one if taken; 0 for any.")] = 8866,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    address: Annotated[
        str, typer.Option(help="Anything but 127.0.0.1 lets others in who have the token.")
    ] = "127.0.0.1",
    visitors: Annotated[int, typer.Option(help="At most so many at a time.")] = 12,
    idle: Annotated[float, typer.Option(help="Minutes until an idle kernel is closed.")] = 15.0,
) -> None:
    """A live panel as a web page for a class, each visitor with a kernel of their own."""
    from workbench.web import page

    options = page.Options(port, address, visitors, idle, browser)
    raise typer.Exit(page.show(name, options))


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    sys.exit(status_of(sys.argv[1:] if arguments is None else arguments))


def status_of(arguments: list[str]) -> int:
    """Run a command; its exit status."""
    from workbench.devices import processes

    try:
        if arguments and arguments[0] not in ("distill", "resume"):
            processes.refuse(arguments[0])
        status = app(_repeated(arguments) or ["--help"], prog_name="workbench",
                     standalone_mode=False)  # fmt: skip
    except (typer.Abort, Interrupted, KeyboardInterrupt) as error:
        return _fail(str(error) or "interrupted", 130)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} (see workbench --help)", 2)
    except UsageError as error:
        return _fail(str(error), 2)
    except NonFiniteLoss as error:
        return 1 if processes.rank() else _fail(str(error), 1)
    except WorkbenchError as error:
        return _fail(str(error), 1)
    if not arguments:
        return 2
    return status if isinstance(status, int) else 0


#: Options of `sweep` that take several values.
_SEVERAL = ("--temperature", "-T", "--alpha", "--variant", "--init", "--size")


def _repeated(arguments: list[str]) -> list[str]:
    """Write ``--alpha 0 0.5 1`` of a sweep as ``--alpha 0 --alpha 0.5 --alpha 1``."""
    if arguments[:1] != ["sweep"]:
        return arguments
    from workbench import recipes

    found: list[str] = []
    option = ""
    for argument in arguments:
        ends = argument.startswith("-") and not _is_number(argument)
        if ends or argument in recipes.names():
            option = argument if argument in _SEVERAL else ""
        elif option and found[-1] != option:
            found.append(option)
        found.append(argument)
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _weights(texts: list[str] | None) -> dict[str, float] | None:
    found = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"--weight is {text!r}; expected a term and a number, as hidden=0")
    return found or None


def _fail(message: str, status: int) -> int:
    from workbench.devices import processes

    if processes.rank() and status != 1:
        return status  # all processes were told the same; the main one says it
    print(f"workbench: {' '.join(message.split())}", file=sys.stderr)
    return status


def _print_results(results: dict[str, Any], as_json: bool) -> None:
    from workbench.comparisons import tables
    from workbench.devices import processes

    if processes.rank():
        return
    if as_json:
        _print_json(results)
    else:
        print(tables.summary(results))


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))
