"""Training a masked language model: the classroom teacher, or a user's.

The built-in teacher sees every sentence once, its world never runs dry, and it is given the
oracle's distribution of a hidden word instead of the word that chance put there. The mean of the
loss over words is the same, and so is what it leads to; the draw in every gradient is gone. In
other words, the classroom teacher is a student of the oracle. A teacher of a user's text learns
from its words, as BERT did.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench import corpora, export, models, recipes
from workbench.corpora import Batch
from workbench.distiller import Distiller, Schedule
from workbench.hidden_words import masked_lm, masked_words, texts
from workbench.hidden_words.masking import Masker
from workbench.objective import Objective, SoftTerm, TeacherSignal
from workbench.progress import Progress
from workbench.worlds import biomedical

RECIPE = "distilbiobert"
#: Spread of fresh weights: 0.02, BERT's, is made for a width of 768 and too small here.
INITIAL_SPREAD = 0.05
#: Seeds of the training stream; runs use other seeds for their data.
STREAM_SEED = 50_000_000
#: Sentences that the tokenizer is trained on, and their seed.
TOKENIZER_SENTENCES, TOKENIZER_SEED = 20_000, 4_000_003
#: Most word pieces of a tokenizer trained here.
MOST_PIECES = 4000
#: Which tokens of the held-out sentences are hidden is the same for every run.
HELD_OUT_SEED = 4_000_004
#: Passes over a user's text.
FILE_EPOCHS = 4
EVALUATION_BATCH = 100


def train(
    plan, place: Path, *, data: str | None, column: str | None, steps: int | None, seed: int,
    progress: Progress,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Train a masked language model with its tokenizer and save both.

    Args:
        plan: a `teachers.Plan`.
        place: directory to save them in.
        data: a text instead of the world.
        column: of a table of texts.
        steps: optimiser steps; by default the plan's, or some passes over a text.
        seed: of the initial weights, of the masks and of the data's order.
        progress: who is told.

    Returns:
        Held-out figures, the oracle's where there is one; and what the model is, for its card.
    """
    scale = recipes.get(RECIPE).scale("classroom")
    progress.stage("preparing the data")
    corpus = texts.load(
        data or scale.data_source,
        validation_sentences=plan.validation_sequences,
        train_sentences=None if data else 1,
        column=column,
    )
    for note in corpus.notes:
        progress.note(f"note: {note}")
    tokenizer = built_in_tokenizer() if data is None else _tokenizer_of(corpus.train)
    shape = replace(scale.teacher, vocabulary=len(tokenizer))
    pad = tokenizer.pad_token_id
    masker = Masker(tokenizer, shape.vocabulary)
    rows, validation = texts.tokenise_split(corpus, tokenizer, shape.positions)
    held_out = [
        masker.hide(batch, seed=HELD_OUT_SEED)
        for batch in corpora.make_batches(validation, EVALUATION_BATCH, pad)
    ]
    if data:
        batches = corpora.make_batches(rows, plan.batch_size, pad)
        steps = steps or FILE_EPOCHS * len(batches)
        stream = _round_and_round(batches, masker, seed)
    else:
        steps = steps or plan.steps
        stream = Stream(tokenizer, masker, plan.batch_size, shape.positions, seed)
    model = masked_lm.build(
        shape, activation=scale.activation, seed=seed, initial_spread=INITIAL_SPREAD, pad=pad
    )
    distiller = Distiller(
        model,
        Objective(soft=SoftTerm(entropy_kept=True), scores="masked"),
        None if data else stream,
        temperature=1.0,
        alpha=1.0 if data else 0.0,
        learning_rate=plan.learning_rate,
        schedule=Schedule(steps, min(plan.warmup, steps // 5)),
        weight_decay=plan.weight_decay,
    )
    oracle = None
    if corpus.tagged:
        oracle = masked_words.oracle_quality(corpus.tagged[1], held_out, tokenizer)
    started = time.perf_counter()
    progress.stage("training the teacher")
    quality = distiller.evaluate(held_out, None)
    tokens = 0
    for step in range(1, steps + 1):
        record = distiller.step(next(stream))
        record.check_finite()
        tokens += record.tokens
        if step % max(1, steps // plan.evaluations) == 0 or step == steps:
            quality = distiller.evaluate(held_out, None)
        numbers = {
            "loss": record.numbers()["total"],
            "perplexity": quality.perplexity,
            "tokens/s": tokens / (time.perf_counter() - started),
        }
        progress.advance(step, steps, numbers)
    bare = distiller.accelerator.unwrap_model(distiller.student)
    export.save_model(place, bare, tokenizer)
    figures = {
        "teacher": str(place),
        "parameters": models.parameters(bare),
        "steps": steps,
        "seconds": time.perf_counter() - started,
        "perplexity": quality.perplexity,
        "top1": quality.top1,
        "top5": quality.top5,
        "calibration_error": quality.calibration_error,
        "oracle_perplexity": oracle.perplexity if oracle else None,
        "ratio_to_oracle": quality.perplexity / oracle.perplexity if oracle else None,
        "megabytes": (place / "model.safetensors").stat().st_size / 1e6,
        "fingerprint": models.fingerprint(bare),
    }
    about = (
        f"A cased BERT with {shape.layers} layers, {shape.width} wide, and {shape.vocabulary:,} "
        "word pieces, which tells the words that are hidden from it"
    )
    return figures, about


def built_in_tokenizer():
    """The tokenizer of the biomedical world: every word of its grammar is a piece."""
    world = biomedical.default_world()
    sentences = [s.text for s in world.sample(TOKENIZER_SENTENCES, TOKENIZER_SEED)]
    return masked_lm.word_pieces([*sentences, " ".join(world.words)], size=MOST_PIECES)


def _tokenizer_of(lines: Sequence[str]):
    return masked_lm.word_pieces(lines, size=MOST_PIECES)


class Stream:
    """New sentences for ever, in masked batches, and the oracle's answer to the last one given.

    Args:
        tokenizer: every word of the world must be a piece of it.
        masker: hides words.
        batch_size: sentences a batch.
        positions: most tokens in a row.
        seed: of sentences and masks.
    """

    def __init__(
        self, tokenizer, masker: Masker, batch_size: int, positions: int, seed: int
    ) -> None:
        self.vocabulary = len(tokenizer)
        self._mask_id = tokenizer.mask_token_id
        self._ids = masked_words.word_ids(tokenizer, biomedical.default_world())
        self._batches = self._draw(tokenizer, masker, batch_size, positions, seed)
        self._sentences: list = []

    def __next__(self) -> Batch:
        return next(self._batches)

    def signal(self, batch: Batch, scored: Tensor) -> TeacherSignal:
        """See `workbench.teacher_cache.Teacher`; of the batch that was last given."""
        truth = masked_words.oracle_targets(
            batch, [self._sentences[i] for i in batch.members], self._ids, self.vocabulary,
            self._mask_id,
        )  # fmt: skip
        return TeacherSignal(truth.clamp_min(masked_words.IMPOSSIBLE).log())

    def _draw(self, tokenizer, masker, batch_size, positions, seed) -> Iterator[Batch]:
        pool = draw = 0
        while True:
            self._sentences = biomedical.sample(
                corpora.POOL * batch_size, seed=STREAM_SEED * (seed + 1) + pool
            )
            rows = texts.tokenise([s.text for s in self._sentences], tokenizer, positions)
            batches = corpora.make_batches(rows, batch_size, tokenizer.pad_token_id)
            # Else short sentences would come first in every pool.
            order = corpora.endless_order(len(batches), seed + pool)
            for _ in batches:
                yield masker.mask(batches[next(order)], seed=seed, draw=draw)
                draw += 1
            pool += 1


def _round_and_round(batches: Sequence[Batch], masker: Masker, seed: int) -> Iterator[Batch]:
    for draw, index in enumerate(corpora.endless_order(len(batches), seed)):
        yield masker.mask(batches[index], seed=seed, draw=draw)
