"""Classifying pairs of peptide and HLA: judged by accuracy, F1, AUC and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench import models, runtime
from workbench.classifying import binding, classification, classifiers, pairs
from workbench.classifying.binding import Judgement
from workbench.classifying.pairs import PairCorpus
from workbench.comparisons.headline import BY_TASK
from workbench.config import RunConfig
from workbench.corpora import Batch, Rows
from workbench.probes import Probe
from workbench.progress import Progress
from workbench.recipes.recipe import Scale, Shape
from workbench.tasks.generation import ROW_NAMES, fill_runtime, refuse_whole_words
from workbench.tasks.task import ROW_KEYS, Judged

EXTRA_KEYS = (
    "matthews", "negative_log_likelihood", "groups", "alleles", "reliability", "motifs",
)  # fmt: skip
#: Held-out pairs that one can watch.
PROBES = 8
#: Alleles whose motifs a run draws: one of A and two of B, with plain anchors that differ.
SHOWN_ALLELES = ("HLA-A*02:01", "HLA-B*07:02", "HLA-B*44:02")
#: Random peptides for each of them, at most: no more than there are held-out pairs.
SHOWN_PEPTIDES = 2000


class Classification:
    """See `workbench.tasks.task.Task`."""

    name = "text-classification"
    kind = models.CLASSIFIER
    headline = BY_TASK[name]
    tags = ("knowledge-distillation", "protein", "peptide", "mhc")
    intervals_in_table = True

    def load_model(self, source: str):
        """A classifier with two classes."""
        return classifiers.load(source)

    def load_corpus(self, config: RunConfig, tokenizer=None) -> PairCorpus:
        """Pairs of peptide and allele."""
        return pairs.load(
            config.data,
            alleles=config.alleles,
            train_pairs=config.train_sequences,
            validation_pairs=config.validation_sequences,
        )

    def rows(
        self,
        corpus: PairCorpus,
        tokenizer,
        model,
        positions: int,
        progress: Progress | None = None,
    ) -> tuple[Rows, Rows]:
        """A row a pair."""
        return tuple(
            pairs.tokenise(part, corpus.pseudo_sequences, tokenizer, positions)
            for part in (corpus.train, corpus.validation)
        )

    def pad(self, tokenizer) -> int:
        """The padding token."""
        return tokenizer.pad_token_id

    def masker(self, tokenizer, model, *, whole_words: bool) -> None:
        """Nothing is hidden."""
        refuse_whole_words(whole_words, self.name)

    def held_out(self, batches: Sequence[Batch], masker: None) -> Sequence[Batch]:
        """As they are."""
        return batches

    def build(self, shape: Shape, scale: Scale, *, seed: int, tokenizer, like):
        """A BERT."""
        model = classifiers.build(
            shape,
            activation=scale.activation,
            seed=seed,
            initial_spread=getattr(like.config, "initializer_range", 0.02),
            classes=self.classes(like),
        )
        model.config.pad_token_id = tokenizer.pad_token_id
        return model

    def classes(self, like) -> tuple[str, ...]:
        """Names of a student's classes, whose teacher is given."""
        return classifiers.CLASSES

    def count_parameters(self, shape: Shape, scale: Scale) -> int:
        """Of a BERT with pooler and head."""
        return classifiers.count_parameters(shape, activation=scale.activation)

    def validate(self, distiller, shop) -> dict[str, float | None]:
        """F1, AUC and likelihood, and fidelity to the teacher."""
        student = distiller.accelerator.unwrap_model(distiller.student).eval()
        logits = binding.class_logits(student, shop.validation_batches)
        teacher = binding.teacher_logits(shop.validation_teacher, shop.validation_batches)
        scores = self.scores(shop, logits)
        fidelity = binding.fidelity(teacher, logits)
        return {
            "f1": scores.f1,
            "auc": scores.auc,
            "negative_log_likelihood": scores.negative_log_likelihood,
            "kl_to_teacher": fidelity.kl_to_teacher,
            "agreement": fidelity.agreement,
        }

    def scores(self, shop, logits: torch.Tensor):
        """How good logits ``[n, classes]`` for the held-out rows are."""
        return Judgement(shop.corpus.validation, binding.binder_probability(logits)).score(0)

    def references(self, shop) -> dict[str, float]:
        """F1 of the teacher, and of the oracle where the truth is known."""
        records = shop.corpus.validation
        logits = binding.teacher_logits(shop.validation_teacher, shop.validation_batches)
        found = {"teacher": self.scores(shop, logits).f1}
        if shop.corpus.has_oracle:
            found["oracle"] = Judgement(records, shop.corpus.oracle(records)).score(0).f1
        return found

    def four_rows(self, config: RunConfig, judged: Judged) -> dict[str, Any]:
        """The four rows, what a model blind to the HLA could reach, and what the student keeps."""
        result: dict[str, Any] = {
            name: dict.fromkeys((*ROW_KEYS, *EXTRA_KEYS)) for name in ROW_NAMES
        }
        corpus: PairCorpus = judged.corpus
        blind = None
        if corpus.has_oracle:
            truth = Judgement(corpus.validation, corpus.oracle(corpus.validation))
            unseen = Judgement(corpus.unseen, corpus.oracle(corpus.unseen))
            result["oracle"].update(binding.report(truth, unseen))
            if not judged.brief:
                result["oracle"]["motifs"] = _measured_motifs()
            blind = binding.report(
                Judgement(corpus.validation, corpus.oracle_without_allele(corpus.validation)),
                Judgement(corpus.unseen, corpus.oracle_without_allele(corpus.unseen)),
            )
        answers: dict[str, Judgement] = {}
        logits: dict[str, Any] = {}
        compared = {
            "teacher": judged.teacher_model,
            "student": judged.student,
            "baseline": judged.baseline,
        }
        for name, model in compared.items():
            if model is None:
                continue
            answers[name], unseen, logits[name] = binding.judge(
                model, judged.tokenizer, corpus, judged.batches
            )
            row = result[name]
            row["parameters"] = models.parameters(model)
            row.update(binding.report(answers[name], unseen))
            if name != "baseline" and not judged.brief:
                row["motifs"] = _believed_motifs(model, judged.tokenizer, corpus)
                fill_runtime(row, runtime.measure_reader(model, judged.validation))
            if name != "teacher" and "teacher" in logits:
                near = binding.fidelity(logits["teacher"], logits[name])
                row["kl_to_teacher"], row["agreement"] = near.kl_to_teacher, near.agreement
        return {**result, "without_hla": blind, "kept": _kept(answers)}

    def probes(self, shop) -> list[Probe]:
        """Whether some held-out peptides bind."""
        records = shop.corpus.validation[:PROBES]
        truth = shop.corpus.oracle(records) if shop.corpus.has_oracle else None
        positions = shop.teacher_model.config.max_position_embeddings
        rows = pairs.tokenise(records, shop.corpus.pseudo_sequences, shop.tokenizer, positions)

        def known(number: int) -> np.ndarray | None:
            return None if truth is None else np.array([1 - truth[number], truth[number]])

        found = []
        for number, (record, block) in enumerate(zip(records, rows.tokens, strict=True)):
            ids = torch.as_tensor(block)
            found.append(
                Probe(
                    title=f"{record.peptide} and {record.allele}",
                    text=f"Does {record.peptide} bind {record.allele}?",
                    words=classifiers.CLASSES,
                    rest="",
                    label=int(record.label),
                    oracle=known(number),
                    ask=lambda model, ids=ids: model(
                        input_ids=ids[None].to(next(model.parameters()).device)
                    ).logits[0],
                )
            )
        return found

    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """Of the table of four rows."""
        return (
            ("parameters", "parameters", "{:,}"),
            ("accuracy", "accuracy", "{:.3f}"),
            ("f1", "F1", "{:.3f}"),
            ("auc", "AUC", "{:.3f}"),
            ("matthews", "Matthews", "{:.3f}"),
            ("kl_to_teacher", "KL to teacher", "{:.4f}"),
            ("agreement", "agreement", "{:.3f}"),
            ("calibration_error", "calibration error", "{:.4f}"),
            ("latency_ms", "latency ms", "{:.2f}"),
            ("tokens_per_second", "tokens/s", "{:,.0f}"),
        )

    def sentences(self, results: dict[str, Any]) -> list[str]:
        """What the student keeps of its teacher, and whether it looks at the HLA."""
        found = []
        kept = results["kept"]
        if kept:
            low, high = kept["interval"]
            found.append(
                f"The student keeps {kept['f1']:.1%} of its teacher's F1 (95 % interval {low:.1%} "
                f"to {high:.1%})."
            )
        for name, start in (("swap", "Against binders of another allele"),
                            ("unseen", "On alleles never seen in training")):  # fmt: skip
            rows = {r: results[r]["groups"] for r in ROW_NAMES if results[r]["groups"]}
            said = [f"{r} {g[name]['auc']:.3f}" for r, g in rows.items() if name in g]
            if said:
                found.append(f"{start} the AUC is: {', '.join(said)}.")
        if results["without_hla"]:
            groups = results["without_hla"]["groups"]
            found.append(
                f"Without a look at the HLA nobody could do better than AUC "
                f"{results['without_hla']['auc']:.3f}, and {groups['swap']['auc']:.3f} against "
                "binders of another allele."
            )
        return found


def _kept(answers: dict[str, Judgement]) -> dict[str, Any] | None:
    """Share of the teacher's F1; None where it has none: a teacher that calls nothing a binder."""
    if not {"teacher", "student"} <= set(answers):
        return None
    teacher, student = answers["teacher"], answers["student"]
    if student.score(0).f1 is None or not teacher.score(0).f1:
        return None
    ratio, interval = classification.ratio(
        teacher.labels, student.probabilities, teacher.probabilities, "f1", resamples=1000
    )
    return {"f1": ratio, "interval": [interval.low, interval.high]}


def _measured_motifs() -> dict[str, list[list[float]]]:
    world = pairs.seen_world()
    return {name: world.allele(name).motif.tolist() for name in SHOWN_ALLELES}


def _believed_motifs(model, tokenizer, corpus: PairCorpus) -> dict[str, list[list[float]]]:
    count = min(SHOWN_PEPTIDES, len(corpus.validation))
    return {
        name: binding.believed_motif(
            model, tokenizer, corpus.pseudo_sequences[name], count=count
        ).tolist()
        for name in SHOWN_ALLELES
        if name in corpus.pseudo_sequences
    }
