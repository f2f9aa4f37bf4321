"""Classifying single texts into two or more classes: judged by accuracy, F1, AUC, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench import models, runtime
from workbench.classifying import (
    binding,
    classification,
    labelled_texts,
    many_classes,
    text_classifiers,
)
from workbench.classifying.labelled_texts import LabelledTexts
from workbench.classifying.many_classes import ClassScores
from workbench.config import RunConfig
from workbench.corpora import Rows
from workbench.errors import UsageError
from workbench.probes import Probe
from workbench.progress import Progress
from workbench.tasks.classification import EXTRA_KEYS as PAIR_KEYS
from workbench.tasks.classification import Classification
from workbench.tasks.generation import ROW_NAMES, fill_runtime
from workbench.tasks.task import ROW_KEYS, Judged

#: What a row of peptide–HLA pairs has, null here but for those that apply; and each class apart.
EXTRA_KEYS = (*PAIR_KEYS, "classes")
RESAMPLES = 1000
#: Held-out texts that one can watch, and letters of one in a menu.
PROBES, TITLE = 8, 40


class TextClassification(Classification):
    """As for pairs of peptide and HLA, but for what the data are and how many classes there are."""

    tags = ("knowledge-distillation",)

    def load_model(self, source: str):
        """A classifier of texts."""
        return text_classifiers.load(source)

    def load_corpus(self, config: RunConfig, tokenizer=None) -> LabelledTexts:
        """Texts with a class each."""
        if config.data.startswith("world:"):
            raise UsageError(
                f"--column and --label are for a table of texts and their classes, and "
                f"{config.data} is none; leave them out, or give --data FILE"
            )
        return labelled_texts.load(
            config.data, config.label or "", column=config.column, most=config.train_sequences
        )

    def rows(
        self,
        corpus: LabelledTexts,
        tokenizer,
        model,
        positions: int,
        progress: Progress | None = None,
    ) -> tuple[Rows, Rows]:
        """A row a text, with its class as the model numbers it."""
        names = text_classifiers.classes(model.config)
        return tuple(
            labelled_texts.tokenise(part, names, tokenizer, positions, corpus.source, progress)
            for part in (corpus.train, corpus.validation)
        )

    def classes(self, like) -> tuple[str, ...]:
        """Those of the teacher."""
        return text_classifiers.classes(like.config)

    def scores(self, shop, logits: torch.Tensor) -> ClassScores:
        """How good logits ``[n, classes]`` for the held-out rows are."""
        return many_classes.score(shop.validation.labels, _probabilities(logits))

    def four_rows(self, config: RunConfig, judged: Judged) -> dict[str, Any]:
        """Teacher, student and baseline; the oracle's row is null, nobody knows the truth."""
        result: dict[str, Any] = {
            name: dict.fromkeys((*ROW_KEYS, *EXTRA_KEYS)) for name in ROW_NAMES
        }
        names = text_classifiers.classes(judged.student.config)
        labels = judged.validation.labels
        logits: dict[str, torch.Tensor] = {}
        compared = {
            "teacher": judged.teacher_model,
            "student": judged.student,
            "baseline": judged.baseline,
        }
        for name, model in compared.items():
            if model is None:
                continue
            logits[name] = binding.class_logits(model, judged.batches)
            row = result[name]
            row["parameters"] = models.parameters(model)
            row.update(report(labels, _probabilities(logits[name]), names))
            if name != "baseline" and not judged.brief:
                fill_runtime(row, runtime.measure_reader(model, judged.validation))
            if name != "teacher" and "teacher" in logits:
                near = binding.fidelity(logits["teacher"], logits[name])
                row["kl_to_teacher"], row["agreement"] = near.kl_to_teacher, near.agreement
        kept = _kept(labels, logits)
        return {**result, "without_hla": None, "kept": kept, "classes": list(names)}

    def probes(self, shop) -> list[Probe]:
        """The classes of some held-out texts."""
        names = text_classifiers.classes(shop.teacher_model.config)
        found = []
        for number, example in enumerate(shop.corpus.validation[:PROBES]):
            ids = torch.as_tensor(shop.validation.tokens[number])
            found.append(
                Probe(
                    title=example.text[:TITLE] + ("…" if len(example.text) > TITLE else ""),
                    text=example.text,
                    words=names,
                    rest="another class",
                    label=int(shop.validation.labels[number]),
                    oracle=None,
                    ask=lambda model, ids=ids: model(
                        input_ids=ids[None].to(next(model.parameters()).device)
                    ).logits[0],
                )
            )
        return found

    def sentences(self, results: dict[str, Any]) -> list[str]:
        """What the student keeps of its teacher, and how F1 and AUC are meant."""
        found = super().sentences(results)
        names = results["classes"]
        if len(names) == 2:
            return [*found, f"F1 and AUC are those of the class {names[1]}."]
        return [
            *found,
            f"F1 is the mean over the classes of the held-out texts, of {len(names)} that the "
            "teacher knows, and AUC that of each against all others (macro).",
        ]


def report(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The figures of one row of ``results.json``, with each class apart.

    Args:
        labels: ``[n]``.
        probabilities: ``[n, classes]``.
        names: of the classes.
    """
    scores = many_classes.score(labels, probabilities, resamples=RESAMPLES)
    return {
        **{name: getattr(scores, name) for name in classification.METRICS},
        "intervals": _intervals(scores),
        "reliability": many_classes.reliability(labels, probabilities),
        "classes": many_classes.by_class(labels, probabilities.argmax(axis=1), names),
    }


def _intervals(scores: ClassScores) -> dict[str, list[float] | None]:
    return {
        name: None if interval is None else [interval.low, interval.high]
        for name, interval in scores.intervals.items()
    }


def _kept(labels: np.ndarray, logits: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    if not {"teacher", "student"} <= set(logits):
        return None
    found = many_classes.f1_ratio(
        labels, _probabilities(logits["student"]), _probabilities(logits["teacher"])
    )
    if found is None:
        return None
    return {"f1": found[0], "interval": [found[1].low, found[1].high]}


def _probabilities(logits: torch.Tensor) -> np.ndarray:
    return torch.softmax(logits, dim=-1).numpy()
