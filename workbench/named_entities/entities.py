"""Named-entity recognition: the task by which distilled biomedical BERTs are judged.

    `read_tags` → sentences → `encode` → rows of word pieces
    an encoder → `build` → `train_classifier` → `predict` → `score` → `Scores`

`fine_tune` is all of it.

The published DistilBioBERT, TinyBioBERT and CompactBioBERT (Rohanian et al., arXiv 2209.03182)
are compared by the F1 of whole entities: right are those whose first word, last word and type are
right (the rule of CoNLL-2003, as the library seqeval counts it). An entity found with one word too
few is a wrong one, and the one that was there is missed.

Every held-out word counts exactly once. Sentences that are longer than the model are cut between
words and put together again before entities are looked for; so no entity is lost to truncation,
and models with different tokenizers are judged by the same words.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workbench.corpora import POOL
from workbench.distiller import GRADIENT_CLIP, Schedule
from workbench.errors import NonFiniteLoss, UsageError, WorkbenchError
from workbench.named_entities.entity_scores import Scores as Scores
from workbench.named_entities.entity_scores import count as count
from workbench.named_entities.entity_scores import interval as interval
from workbench.named_entities.entity_scores import score as score
from workbench.named_entities.tag_files import OUTSIDE, TaggedWords, check_entities, is_tag
from workbench.named_entities.tag_files import Tagged as Tagged
from workbench.named_entities.tag_files import read_tags as read_tags
from workbench.named_entities.word_pieces import IGNORED, Row, padded, positions_of
from workbench.named_entities.word_pieces import encode as encode
from workbench.named_entities.word_pieces import labels_of as labels_of
from workbench.progress import Progress, Silent

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Rows answered at once.
EVALUATION_BATCH = 64
#: Share of the steps until the learning rate's peak.
WARMUP = 0.1


@dataclass(frozen=True)
class Trained:
    """A model that finds entities.

    Attributes:
        classifier: a ``…ForTokenClassification`` in eval mode; its configuration names the tags.
        steps: that the optimiser took.
        seconds: that they took.
    """

    classifier: PreTrainedModel
    steps: int
    seconds: float


# ---------------------------------------------------------------------- training


def fine_tune(
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[TaggedWords],
    held_out: Sequence[TaggedWords],
    *,
    seed: int = 0,
    epochs: int = 5,
    batch_size: int = 16,
    learning_rate: float = 5e-5,
    max_steps: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Teach a copy of an encoder to find entities, and judge it on held-out sentences.

    Args:
        encoder: as `build`.
        tokenizer: the encoder's.
        train: sentences to learn from.
        held_out: sentences to judge by.
        seed: as `train_classifier`, as are the rest; the defaults of epochs, batch size and
            learning rate are those of the published models.
        epochs: passes over the training sentences.
        batch_size: rows a step.
        learning_rate: peak.
        max_steps: most optimiser steps.
        progress: who is told.

    Raises:
        WorkbenchError: as `train_classifier` and `evaluate`.
    """
    # Before the training, so that nobody waits for an error.
    check_entities(held_out, "the held-out sentences")
    trained = train_classifier(
        encoder,
        tokenizer,
        train,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_steps=max_steps,
        progress=progress,
    )
    scores = evaluate(trained.classifier, tokenizer, held_out)
    return replace(scores, steps=trained.steps, seconds=trained.seconds)


def train_classifier(
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[TaggedWords],
    *,
    seed: int = 0,
    epochs: int = 5,
    batch_size: int = 16,
    learning_rate: float = 5e-5,
    max_steps: int | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Teach a copy of an encoder to find entities; the encoder stays as it is.

    AdamW without weight decay; the rate rises over the first tenth of the steps and falls
    linearly to zero; gradients are clipped at norm 1. The same seed gives the same weights, to
    the byte on the same machine, and the process-wide random state is left as it was.

    Args:
        encoder: as `build`.
        tokenizer: the encoder's.
        train: sentences to learn from.
        seed: of the head's fresh weights and of the order of batches.
        epochs: passes over the training sentences.
        batch_size: rows a step.
        learning_rate: peak.
        max_steps: most optimiser steps; the schedule is that of the shorter training.
        progress: who is told.

    Raises:
        UsageError: if a number is out of range.
        WorkbenchError: if the sentences name no entity, or encoder and tokenizer do not fit.
        NonFiniteLoss: if the loss is no longer a number.
    """
    _check_numbers(seed, epochs, batch_size, learning_rate, max_steps)
    check_entities(train, "the training sentences")
    labels = labels_of(train)
    model = build(encoder, labels, seed=seed)
    _check_fit(model, tokenizer)
    rows = encode(train, tokenizer, labels, positions_of(model, tokenizer))
    steps = epochs * -(-len(rows) // batch_size)
    steps = steps if max_steps is None else min(steps, max_steps)
    schedule = Schedule(steps, round(WARMUP * steps))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    watcher = progress or Silent()
    watcher.stage("learning to find entities")
    device = next(model.parameters()).device
    step = 0
    started = time.perf_counter()
    model.train()
    for epoch in range(epochs):
        for places in _batches(rows, batch_size, seed, epoch):
            if step == steps:
                break
            loss = _loss(model, [rows[i] for i in places], tokenizer.pad_token_id, device)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * schedule.factor(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            # To read a number is to wait for the device: a hundred times, not at each step.
            if step % max(1, steps // 100) == 0 or step == steps:
                value = float(loss.detach())
                if not np.isfinite(value):
                    raise NonFiniteLoss(
                        f"the loss is {value} at step {step}; try a learning rate below "
                        f"{learning_rate:g}"
                    )
                watcher.advance(step, steps, {"loss": value})
    return Trained(model.eval(), step, time.perf_counter() - started)


def build(encoder: PreTrainedModel, labels: Sequence[str], *, seed: int) -> PreTrainedModel:
    """A copy of an encoder with a fresh head that gives every word piece a label, no dropout.

    Without dropout a training can be repeated exactly. The process-wide random state is left as
    it was.

    Args:
        encoder: a transformers model with a base, such as a ``BertForMaskedLM``; only its base
            counts. It is not changed and shares no storage with the result.
        labels: the tags, in the order of the classes.
        seed: of the head's weights.

    Returns:
        A ``…ForTokenClassification`` in float32, eval mode, where the encoder is.

    Raises:
        WorkbenchError: if there is no such model of the encoder's kind, or its base has not all
            the weights.
    """
    from transformers import AutoModelForTokenClassification

    config = copy.deepcopy(encoder.config)
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    # Not torch.manual_seed: it would also set the accelerators' generators, which are not kept.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            model = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
        except ValueError as error:
            raise WorkbenchError(
                f"{type(encoder).__name__} has no relative that labels words; expected an encoder "
                "of BERT's kind"
            ) from error
    _copy_base(encoder, model)
    return model.to(next(encoder.parameters()).device).eval()


@torch.no_grad()
def _copy_base(encoder: PreTrainedModel, model: PreTrainedModel) -> None:
    given, wanted = encoder.base_model.state_dict(), model.base_model.state_dict()
    lacking = [n for n, w in wanted.items() if n not in given or given[n].shape != w.shape]
    if lacking:
        # One layer left at its random weights would pass for a bad encoder.
        raise WorkbenchError(
            f"{len(lacking)} of {len(wanted)} weights of the encoder in {type(encoder).__name__} "
            f"are missing or of another shape, the first is {lacking[0]}; expected a complete "
            f"{type(model.base_model).__name__}"
        )
    for name, weight in wanted.items():
        weight.copy_(given[name])


def _check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows, tokens = model.get_input_embeddings().num_embeddings, len(tokenizer)
    if tokens > rows:
        raise WorkbenchError(
            f"the vocabulary does not match: the tokenizer has {tokens} tokens, the encoder "
            f"{rows}; give the tokenizer that the encoder was trained with"
        )


def _check_numbers(
    seed: int, epochs: int, batch_size: int, learning_rate: float, max_steps: int | None
) -> None:
    if seed < 0:
        raise UsageError(f"the seed is {seed}; expected 0 or more")
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; expected 1 or more")
    if not 0 < learning_rate < float("inf"):
        raise UsageError(f"the learning rate is {learning_rate}; expected a number above 0")


def _batches(rows: Sequence[Row], batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """All rows once, in batches of similar lengths, in an order drawn for this epoch."""
    rng = np.random.default_rng([seed, epoch, 0x656E74697479])
    lengths = np.array([len(row.input_ids) for row in rows])
    order = rng.permutation(len(rows))
    batches = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _loss(model: PreTrainedModel, rows: Sequence[Row], pad: int, device: torch.device) -> Tensor:
    """Mean cross-entropy over words, nats."""
    inputs = padded(rows, pad, device)
    labels = torch.full(inputs["input_ids"].shape, IGNORED)
    for i, row in enumerate(rows):
        labels[i, : len(row.input_ids)] = torch.from_numpy(row.labels)
    logits = model(**inputs).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.to(device).flatten(), ignore_index=IGNORED
    )


# ---------------------------------------------------------------------- judging


@torch.no_grad()
def word_logits(
    classifier: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[TaggedWords],
    *,
    batch_size: int = EVALUATION_BATCH,
) -> list[np.ndarray]:
    """A model's logits for every word of every sentence, ``[words, labels]`` float32 each.

    Args:
        classifier: in eval mode.
        tokenizer: its tokenizer.
        sentences: only their words are read.
        batch_size: rows at once; changes nothing but speed and memory.
    """
    _check_fit(classifier, tokenizer)
    rows = encode(sentences, tokenizer, None, positions_of(classifier, tokenizer))
    device = next(classifier.parameters()).device
    classes = classifier.config.num_labels
    found = [np.full((len(s.words), classes), np.nan, dtype=np.float32) for s in sentences]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids))
    for start in range(0, len(order), batch_size):
        part = [rows[i] for i in order[start : start + batch_size]]
        inputs = padded(part, tokenizer.pad_token_id, device)
        logits = classifier(**inputs).logits.float().cpu().numpy()
        for row, numbers in zip(part, logits, strict=True):
            words = slice(row.first_word, row.first_word + len(row.first_pieces))
            found[row.sentence][words] = numbers[row.first_pieces]
    return found


def predict(
    classifier: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[TaggedWords],
    *,
    batch_size: int = EVALUATION_BATCH,
) -> list[list[str]]:
    """The likeliest tag of every word of every sentence; arguments as `word_logits`.

    Raises:
        WorkbenchError: if the model's labels are no tags.
    """
    names = [classifier.config.id2label[i] for i in range(classifier.config.num_labels)]
    odd = [name for name in names if not is_tag(name)]
    if odd:
        raise WorkbenchError(
            f"the model has the label {odd[0]!r}; expected {OUTSIDE}, or B- or I- and a type: "
            "a model that was trained to find entities"
        )
    logits = word_logits(classifier, tokenizer, sentences, batch_size=batch_size)
    return [[names[k] for k in numbers.argmax(axis=1)] for numbers in logits]


def evaluate(
    classifier: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[TaggedWords],
) -> Scores:
    """Judge a model that labels words; types of entity that it does not know count as missed.

    Args:
        classifier: a ``…ForTokenClassification`` in eval mode, with tags for labels.
        tokenizer: its tokenizer.
        held_out: sentences with the truth.

    Raises:
        WorkbenchError: if the sentences name no entity, or the model's labels are no tags.
    """
    check_entities(held_out, "the held-out sentences")
    started = time.perf_counter()
    guesses = predict(classifier, tokenizer, held_out)
    seconds = time.perf_counter() - started
    return replace(score([s.tags for s in held_out], guesses), seconds=seconds)
