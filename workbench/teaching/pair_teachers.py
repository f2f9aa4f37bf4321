"""Training a classifier of peptide–HLA pairs: the classroom teacher, or a user's.

The built-in teacher sees every pair once, its world never runs dry, and it learns in two
lessons: first binders against random peptides, then against binders of other alleles too. With
the hard negatives from the start it stays at a coin's toss for a thousand steps and more: nothing
that it could learn first (a large hydrophobic end) tells a binder from another allele's.

Instead of the label that chance drew for a pair it is given the oracle's probability of that
label. The mean of the loss over labels is the same, and so is what it leads to; the toss of the
coin in every gradient is gone. In other words, the classroom teacher is a student of the oracle.
A teacher of a user's table learns from its labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench import corpora, export, models, recipes
from workbench.classifying import binding, classifiers, pairs
from workbench.classifying.binding import Judgement
from workbench.corpora import Batch, Rows
from workbench.distiller import Distiller, Schedule
from workbench.errors import UsageError
from workbench.objective import Objective, SoftTerm, TeacherSignal
from workbench.progress import Progress
from workbench.worlds.peptides import Record, Shares

RECIPE = "distilbert-pmhc"
#: Spread of fresh weights: 0.02, BERT's, is made for a width of 768 and too small here.
INITIAL_SPREAD = 0.05
#: Random negatives only, for the first lesson.
FIRST_LESSON = Shares(binder=0.5, random=0.5, swap=0.0)
FIRST_LESSON_SHARE = 0.05
#: Seeds of the training stream; runs use other seeds for their data.
STREAM_SEED = 40_000_000
#: Learning rate for an encoder that has been trained before.
FINE_TUNING_RATE = 5e-5
#: Passes over a user's table.
FILE_EPOCHS = 4


@dataclass(frozen=True)
class Trained:
    """A trained classifier and what is known of it.

    Attributes:
        figures: held-out quality, the oracle's where there is one, time, size.
        architecture: what it is, for the card.
    """

    figures: dict[str, Any]
    architecture: str


def train(
    plan, place: Path, *, data: str | None, alleles: str | None, base: str | None,
    steps: int | None, seed: int, progress: Progress,
) -> Trained:  # fmt: skip
    """Train a classifier and save it.

    Args:
        plan: a `teachers.Plan`.
        place: directory to save it in.
        data: a table instead of the world.
        alleles: table of pseudo-sequences.
        base: an encoder to start from, directory or hub id; None starts from nothing.
        steps: optimiser steps; by default the plan's, or some passes over a table.
        seed: of the initial weights and of the data's order.
        progress: who is told.
    """
    scale = recipes.get(RECIPE).scale("classroom")
    progress.stage("preparing the data")
    corpus = pairs.load(
        data or scale.data_source,
        alleles=alleles,
        validation_pairs=plan.validation_sequences,
        train_pairs=None if data else 1,
    )
    for note in corpus.notes:
        progress.note(f"note: {note}")
    model, tokenizer = _model(scale, base, seed)
    positions = model.config.max_position_embeddings
    pad = tokenizer.pad_token_id

    def tokenised(records):
        return pairs.tokenise(records, corpus.pseudo_sequences, tokenizer, positions)

    held_out = corpora.make_batches(tokenised(corpus.validation), binding.BATCH_SIZE, pad)
    if data:
        batches = corpora.make_batches(tokenised(corpus.train), plan.batch_size, pad)
        steps = steps or FILE_EPOCHS * len(batches)
        stream = (batches[i] for i in corpora.endless_order(len(batches), seed))
    else:
        steps = steps or plan.steps
        stream = Stream(tokenised, plan.batch_size, pad, seed, round(FIRST_LESSON_SHARE * steps))
    rate = FINE_TUNING_RATE if base else plan.learning_rate
    distiller = Distiller(
        model,
        Objective(soft=SoftTerm(entropy_kept=True), scores="example"),
        None if data else stream,
        temperature=1.0,
        alpha=1.0 if data else 0.0,
        learning_rate=rate,
        schedule=Schedule(steps, min(plan.warmup, steps // 5)),
        weight_decay=plan.weight_decay,
    )
    started = time.perf_counter()
    progress.stage("training the teacher")
    auc = float("nan")
    for step in range(1, steps + 1):
        record = distiller.step(next(stream))
        record.check_finite()
        if step % max(1, steps // plan.evaluations) == 0 or step == steps:
            judgement, unseen = _judge(distiller, corpus, held_out, tokenizer)
            auc = judgement.score(0).auc
        numbers = {"loss": record.numbers()["total"], "AUC": auc}
        progress.advance(step, steps, numbers)
    bare = distiller.accelerator.unwrap_model(distiller.student)
    export.save_model(place, bare, tokenizer)
    figures = {
        "teacher": str(place),
        "parameters": models.parameters(bare),
        "steps": steps,
        "seconds": time.perf_counter() - started,
        **_quality(judgement, unseen, corpus),
        "megabytes": (place / "model.safetensors").stat().st_size / 1e6,
        "fingerprint": models.fingerprint(bare),
    }
    config = bare.config
    architecture = (
        f"{config.num_hidden_layers} layers, {config.hidden_size} wide, a token a residue: the 34 "
        "residues of the HLA's pseudo-sequence, then the peptide"
    )
    return Trained(figures, architecture)


def _model(scale: recipes.Scale, base: str | None, seed: int):
    if base:
        return classifiers.load_base(base, seed=seed)
    model = classifiers.build(
        scale.teacher, activation=scale.activation, seed=seed, initial_spread=INITIAL_SPREAD
    )
    return model, classifiers.residue_tokenizer()


class Stream:
    """New pairs for ever, in batches, and the oracle's answer to the batch that was last given.

    Args:
        tokenised: from records to rows.
        batch_size: pairs a batch.
        pad: token id to fill up with.
        seed: of the pairs.
        first_lesson: batches with random negatives only, before those of the world.
    """

    vocabulary = len(classifiers.CLASSES)

    def __init__(
        self,
        tokenised: Callable[[list[Record]], Rows],
        batch_size: int,
        pad: int,
        seed: int,
        first_lesson: int,
    ) -> None:
        self._batches = self._draw(tokenised, batch_size, pad, seed, first_lesson)
        self._logits = torch.empty(0)

    def __next__(self) -> Batch:
        return next(self._batches)

    def signal(self, batch: Batch, scored: Tensor) -> TeacherSignal:
        """See `workbench.teacher_cache.Teacher`; of a batch of the pool at hand."""
        return TeacherSignal(self._logits[batch.members])

    def _draw(self, tokenised, batch_size, pad, seed, first_lesson) -> Iterator[Batch]:
        world = pairs.seen_world()
        lessons = (world.with_shares(FIRST_LESSON), world)
        pool = step = 0
        while True:
            lesson = lessons[step >= first_lesson]
            records = lesson.sample(
                corpora.POOL * batch_size, seed=STREAM_SEED * (seed + 1) + pool, distinct=False
            )
            truth = lesson.oracle_batch([r.peptide for r in records], [r.allele for r in records])
            likely = torch.from_numpy(np.stack([1 - truth, truth], axis=1))
            # Where the oracle is all but certain float32 knows no difference to one.
            self._logits = likely.clamp_min(1e-12).log().float()
            for batch in corpora.make_batches(tokenised(records), batch_size, pad):
                yield batch
                step += 1
            pool += 1


def _judge(distiller, corpus, held_out, tokenizer):
    model = distiller.accelerator.unwrap_model(distiller.student).eval()
    judgement, unseen, _ = binding.judge(model, tokenizer, corpus, held_out)
    return judgement, unseen


def _quality(judgement: Judgement, unseen: Judgement | None, corpus) -> dict[str, Any]:
    whole = judgement.score(0)
    figures: dict[str, Any] = {
        "accuracy": whole.accuracy,
        "f1": whole.f1,
        "auc": whole.auc,
        "matthews": whole.matthews,
        "calibration_error": whole.calibration_error,
        "auc_swaps": None,
        "auc_unseen_alleles": None,
        "oracle_auc": None,
        "oracle_auc_unseen_alleles": None,
    }
    if corpus.has_oracle and unseen is not None:
        figures["auc_swaps"] = judgement.against("swap").score(0).auc
        figures["auc_unseen_alleles"] = unseen.score(0).auc
        truth = Judgement(corpus.validation, corpus.oracle(corpus.validation))
        figures["oracle_auc"] = truth.score(0).auc
        truth = Judgement(corpus.unseen, corpus.oracle(corpus.unseen))
        figures["oracle_auc_unseen_alleles"] = truth.score(0).auc
    return figures


def check_options(
    name: str, task: str, alleles: str | None, base: str | None, column: str | None
) -> None:
    """Raise UsageError where an option is for another kind of teacher."""
    if task == "text-classification" and column:
        raise UsageError(
            f"--column is for sequences and texts; a table for {name} has the columns "
            f"{', '.join(pairs.COLUMNS)}"
        )
    if task != "text-classification" and (alleles or base):
        raise UsageError(f"--alleles and --base are for the teacher pmhc, not for {name}")
