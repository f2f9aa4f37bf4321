"""Classroom teachers, trained from nothing: `workbench teach NAME`.

The built-in teacher sees every sequence once: its world never runs dry. A teacher
trained on a file goes round and round it. Either way the trainer is the distiller
itself with labels only.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench import corpora, export, metrics, models, recipes, storage
from workbench.cards.card_text import fenced, plain
from workbench.cards.model_card import named
from workbench.config import SEED_LIMIT
from workbench.corpora import Batch
from workbench.distiller import Distiller, Schedule
from workbench.errors import UsageError
from workbench.progress import Progress, for_here
from workbench.teaching import masked_teachers, pair_teachers


@dataclass(frozen=True)
class Plan:
    """How a classroom teacher is trained.

    Attributes:
        recipe: whose classroom teacher shape is used.
        steps: optimiser steps.
        batch_size: sequences a step.
        learning_rate: peak of warm-up and linear decay.
        warmup: steps.
        weight_decay: AdamW's.
        validation_sequences: held out of the world.
        evaluations: how often it is judged on the way.
    """

    recipe: str
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int
    weight_decay: float
    validation_sequences: int
    evaluations: int = 12


PLANS = {
    "protgpt2": Plan(
        recipe="protgpt2-tiny",
        steps=3000,
        batch_size=64,
        learning_rate=2e-3,
        warmup=200,
        weight_decay=0.05,
        validation_sequences=1000,
    ),
    "pmhc": Plan(
        recipe=pair_teachers.RECIPE,
        steps=12_000,
        batch_size=64,
        learning_rate=1e-3,
        warmup=200,
        weight_decay=0.01,
        validation_sequences=6000,
        evaluations=5,
    ),
    "biobert": Plan(
        recipe=masked_teachers.RECIPE,
        steps=12_000,
        batch_size=64,
        learning_rate=1e-3,
        warmup=300,
        weight_decay=0.01,
        validation_sequences=2000,
        evaluations=14,
    ),
}
#: Steps on a user's file by default: about as long as a lecture's break.
FILE_STEPS = 600
#: Seeds of the training stream; runs use other seeds for their data.
STREAM_SEED = 1_000_000


def teach(
    name: str,
    *,
    data: str | None = None,
    out: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    column: str | None = None,
    alleles: str | None = None,
    base: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a teacher and save it as a transformers directory with a card.

    Args:
        name: which classroom teacher.
        data: a file or hub id instead of the built-in world; then ``out`` is needed.
        out: where to save; by default the built-in teacher itself is replaced.
        steps: optimiser steps.
        seed: of the initial weights and of the data's order.
        column: of a table of sequences.
        alleles: table of HLA pseudo-sequences, for pairs with alleles that are not built in.
        base: a trained encoder to put a head on, directory or hub id; then ``out`` is needed.
        progress: who is told.

    Returns:
        Held-out figures: perplexity, the oracle's where there is one, their ratio, seconds.

    Raises:
        UsageError: if the name is unknown, ``out`` is missing, or a number is out of its range.
        WorkbenchError: if the data cannot be used or ``out`` holds something else.
    """
    if name not in PLANS:
        raise UsageError(f"there is no teacher {name!r}; the teachers are {', '.join(PLANS)}")
    if (data or base) and not out:
        raise UsageError("a teacher trained on --data or from --base needs --out DIR")
    if steps is not None and steps < 1:
        raise UsageError(f"steps is {steps}; expected at least 1")
    if not 0 <= seed < SEED_LIMIT:
        raise UsageError(f"seed is {seed}; expected a number from 0 to 2³²−1")
    plan = PLANS[name]
    task = recipes.get(plan.recipe).task
    pair_teachers.check_options(name, task, alleles, base, column)
    for option, value in (("column", column), ("alleles", alleles)):
        if value and not data:
            raise UsageError(f"--{option} is about a file of data; give it with --data FILE")
    # In full: a directory called "." has no name to write another one beside it.
    place = Path(out).resolve() if out else models.BUILT_IN_TEACHERS / name
    storage.check_free(place, "teacher", export.is_model)
    storage.make_directory(place.parent, "the teacher")
    progress = progress or for_here()
    try:
        if task == "text-classification":
            trained = pair_teachers.train(
                plan, place, data=data, alleles=alleles, base=base, steps=steps, seed=seed,
                progress=progress,
            )  # fmt: skip
            figures, about = trained.figures, trained.architecture
        elif task == "fill-mask":
            figures, about = masked_teachers.train(
                plan, place, data=data, column=column, steps=steps, seed=seed, progress=progress
            )
        else:
            wanted = FILE_STEPS if steps is None and data else steps
            now = replace(
                plan, steps=wanted or plan.steps, warmup=min(plan.warmup, (wanted or 1000) // 5)
            )
            figures = _train(now, place, data, seed, column, progress)
            about = (
                "A GPT-2 with one token a residue. Sequences stand between two "
                f"`{models.END_OF_TEXT}` tokens, without line breaks"
            )
    finally:
        progress.close()
    command = ["workbench", "teach", name]
    for flag, value in (
        ("--data", data and named(data)), ("--column", column),
        ("--alleles", alleles and named(alleles)), ("--base", base and named(base)),
        ("--seed", seed or None), ("--steps", steps), ("--out", "DIR" if out else None),
    ):  # fmt: skip
        if value is not None:
            command += [flag, str(value)]
    card = _card(name, task, about, figures, shlex.join(command), data)
    storage.write_bytes(place / "README.md", card.encode())
    return figures


def _train(
    plan: Plan, place: Path, data: str | None, seed: int, column: str | None, progress: Progress
) -> dict[str, Any]:
    scale = recipes.get(plan.recipe).scale("classroom")
    tokenizer = models.residue_tokenizer()
    form: corpora.SequenceFormat = "plain"
    progress.stage("preparing the data")
    corpus = corpora.load(
        data or scale.data_source,
        validation_sequences=plan.validation_sequences,
        train_sequences=None if data else 1,
        column=column,
    )
    for note in corpus.notes:
        progress.note(f"note: {note}")
    block = scale.teacher.positions
    train, validation = corpora.tokenise_split(corpus, tokenizer, form, block)
    pad = tokenizer.eos_token_id
    held_out = corpora.make_batches(validation, plan.batch_size, pad)
    if data:
        batches = _round_and_round(corpora.make_batches(train, plan.batch_size, pad), seed)
    else:
        batches = _fresh(tokenizer, plan.batch_size, block, seed)
    model = models.build_causal_lm(scale.teacher, activation=scale.activation, seed=seed)
    model.config.sequence_format = form
    distiller = Distiller(
        model,
        recipes.get(plan.recipe).variant("corrected").objective,
        None,
        temperature=1.0,
        alpha=1.0,
        learning_rate=plan.learning_rate,
        schedule=Schedule(plan.steps, plan.warmup),
        weight_decay=plan.weight_decay,
    )
    oracle = (
        metrics.oracle_quality(corpus.validation["sequence"][:]).perplexity
        if corpus.has_oracle
        else None
    )
    started = time.perf_counter()
    progress.stage("training the teacher")
    quality = distiller.evaluate(held_out, validation.residues)
    tokens = 0
    for step in range(1, plan.steps + 1):
        record = distiller.step(next(batches))
        record.check_finite()
        tokens += record.tokens
        if step % max(1, plan.steps // plan.evaluations) == 0 or step == plan.steps:
            quality = distiller.evaluate(held_out, validation.residues)
        progress.advance(
            step,
            plan.steps,
            {
                "loss": record.numbers()["total"],
                "perplexity": quality.perplexity,
                "tokens/s": tokens / (time.perf_counter() - started),
            },
        )
    export.save_model(place, distiller.accelerator.unwrap_model(distiller.student), tokenizer)
    return {
        "teacher": str(place),
        "parameters": models.parameters(model),
        "steps": plan.steps,
        "seconds": time.perf_counter() - started,
        "perplexity": quality.perplexity,
        "perplexity_per_residue": quality.perplexity_per_residue,
        "calibration_error": quality.calibration_error,
        "oracle_perplexity": oracle,
        "ratio_to_oracle": quality.perplexity / oracle if oracle else None,
        "megabytes": (place / "model.safetensors").stat().st_size / 1e6,
        "fingerprint": models.fingerprint(model),
    }


def _fresh(tokenizer, batch_size: int, block: int, seed: int) -> Iterator[Batch]:
    """New sequences for ever, batched by length within pools, the batches in random order."""
    from workbench.worlds import proteins

    pool = 0
    while True:
        sequences = proteins.sample(
            corpora.POOL * batch_size, seed=STREAM_SEED * (seed + 1) + 10_000_000 + pool
        )
        rows = corpora.tokenise(sequences, tokenizer, "plain", block)
        batches = corpora.make_batches(rows, batch_size, tokenizer.eos_token_id)
        for index, _ in zip(
            corpora.endless_order(len(batches), seed + pool), batches, strict=False
        ):
            yield batches[index]
        pool += 1


def _round_and_round(batches: Sequence[Batch], seed: int) -> Iterator[Batch]:
    for index in corpora.endless_order(len(batches), seed):
        yield batches[index]


#: Figures of a card that a teacher may have, and how they are written.
_CARD_ROWS = (
    ("parameters", "parameters", "{:,}"),
    ("steps", "steps", "{:,}"),
    ("perplexity", "held-out perplexity", "{:.4f}"),
    ("perplexity_per_residue", "held-out perplexity per residue", "{:.4f}"),
    ("top1", "hidden words that it puts first", "{:.4f}"),
    ("top5", "hidden words among its first five", "{:.4f}"),
    ("accuracy", "held-out accuracy", "{:.4f}"),
    ("f1", "held-out F1", "{:.4f}"),
    ("matthews", "held-out Matthews correlation", "{:.4f}"),
    ("auc", "held-out AUC", "{:.4f}"),
    ("oracle_auc", "oracle's AUC", "{:.4f}"),
    ("auc_swaps", "AUC against binders of another allele", "{:.4f}"),
    ("auc_unseen_alleles", "AUC on alleles never seen", "{:.4f}"),
    ("oracle_auc_unseen_alleles", "oracle's AUC on these", "{:.4f}"),
    ("calibration_error", "calibration error", "{:.4f}"),
    ("oracle_perplexity", "oracle's perplexity", "{:.4f}"),
    ("ratio_to_oracle", "ratio to the oracle", "{:.4f}"),
    ("seconds", "training time", "{:.0f} s"),
    ("fingerprint", "SHA-256 of the weights", "{}"),
)


def _card(
    name: str, task: str, about: str, figures: dict[str, Any], command: str, data: str | None
) -> str:
    rows = [
        (title, form.format(figures[key]))
        for key, title, form in _CARD_ROWS
        if figures.get(key) is not None
    ]
    source = plain(named(data)) if data else "a world of this workbench"
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            f"pipeline_tag: {task}",
            "license: mit",
            "---",
            "",
            f"# Classroom teacher: {name}",
            "",
            f"{about}.",
            "",
            f"Trained on {source} and measured by",
            "",
            fenced(command, "sh"),
            "",
            "| figure | value |",
            "|---|---|",
            *(f"| {what} | {value} |" for what, value in rows),
            "",
        ]
    )
