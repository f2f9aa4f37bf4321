"""Quality on held-out data of whatever gives logits: PyTorch, onnxruntime, float32 or int8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench import corpora, metrics, models, tasks
from workbench.classifying import many_classes
from workbench.config import RunConfig
from workbench.corpora import Batch
from workbench.objective import Objective
from workbench.portable.agreement import Answer

#: What quality is made of; what does not apply is None.
KEYS = ("perplexity", "accuracy", "f1", "auc")


@dataclass(frozen=True)
class HeldOut:
    """Data to judge by.

    Attributes:
        task: of the model.
        batches: held-out data, with hidden tokens for a masked model.
        source: where the data came from.
        notes: what was changed or left out.
    """

    task: tasks.Task
    batches: list[Batch]
    source: str
    notes: tuple[str, ...]

    def typical_input(self) -> list[int]:
        """Tokens of a row of median length, nothing hidden in it but what is hidden anyway."""
        rows = [
            ids[:length] for b in self.batches
            for ids, length in zip(b.input_ids, b.lengths.tolist(), strict=True)
        ]  # fmt: skip
        return sorted(rows, key=len)[len(rows) // 2].tolist()


def held_out(config: RunConfig, model: Any, tokenizer: Any, longest: int) -> HeldOut:
    """The rows that a run with this configuration judges its student by.

    Args:
        config: which data.
        model: of the recipe's task.
        tokenizer: its own.
        longest: most tokens in a row, unless the configuration says fewer.

    Raises:
        WorkbenchError: if the data cannot be used.
    """
    task = tasks.of_run(config)
    corpus = task.load_corpus(config, tokenizer)
    longest = min(longest, config.length or longest)
    _, validation = task.rows(corpus, tokenizer, model, longest)
    masker = task.masker(tokenizer, model, whole_words=config.whole_words)
    batches = corpora.make_batches(validation, config.batch_size, task.pad(tokenizer))
    return HeldOut(task, task.held_out(batches, masker), corpus.source, tuple(corpus.notes))


def judge(answer: Answer, data: HeldOut, vocabulary: int) -> dict[str, float | None]:
    """Perplexity of a language model, or accuracy, F1 and AUC of a classifier.

    The same figures as those of ``results.json``: see `metrics.evaluate` and
    `many_classes.score`.

    Args:
        answer: gives the logits.
        data: to judge by.
        vocabulary: answers that there are, which decides how many rows are asked at a time.
    """
    found: dict[str, float | None] = dict.fromkeys(KEYS)
    if data.task.kind is models.CLASSIFIER:
        said = [answer(b.input_ids, b.real()) for b in data.batches]
        labels = np.concatenate([b.labels.numpy() for b in data.batches])
        probabilities = torch.softmax(torch.cat(said).float().double(), dim=-1).numpy()
        scores = many_classes.score(labels, probabilities)
        return {**found, "accuracy": scores.accuracy, "f1": scores.f1, "auc": scores.auc}
    objective = Objective(scores="masked" if data.task.kind is models.MASKED else "next-token")
    tally = metrics.Tally()
    for batch in data.batches:
        scored, labels = objective.rows(batch)
        at_once = max(1, metrics.EVALUATION_NUMBERS // (vocabulary * batch.input_ids.shape[1]))
        real, told = batch.real(), 0
        for start in range(0, len(scored), at_once):
            rows = slice(start, start + at_once)
            logits = answer(batch.input_ids[rows], real[rows])[scored[rows]]
            tally.add(logits, labels[told : told + len(logits)])
            told += len(logits)
    return {**found, "perplexity": tally.quality(None).perplexity}


def loss(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float | None]:
    """How much worse the second is in each figure; below zero where it is better."""
    worse = {"perplexity": 1, "accuracy": -1, "f1": -1, "auc": -1}
    return {
        key: None if before[key] is None or after[key] is None
        else sign * (after[key] - before[key])
        for key, sign in worse.items()
    }  # fmt: skip
