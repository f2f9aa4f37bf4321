"""Telling hidden words: masked language models, judged by perplexity and by entities found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench import corpora, inner, metrics, models, runtime
from workbench.comparisons.headline import BY_TASK
from workbench.config import RunConfig
from workbench.corpora import Batch, Rows
from workbench.errors import UsageError
from workbench.foreign import dialects
from workbench.hidden_words import masked_lm, masked_words, texts
from workbench.hidden_words.masking import Masker, Masking
from workbench.hidden_words.texts import TextCorpus
from workbench.metrics import Quality
from workbench.named_entities import entities
from workbench.on_disk import large_corpora
from workbench.on_disk.large_corpora import LargeCorpus
from workbench.on_disk.record_kinds import Residues, Sentences
from workbench.probes import Probe, at_place
from workbench.progress import Progress
from workbench.recipes.recipe import Scale, Shape
from workbench.records import sources
from workbench.tasks.generation import (
    ROW_NAMES,
    fill_quality,
    fill_runtime,
    without_fidelity,
)
from workbench.tasks.task import ROW_KEYS, Judged
from workbench.worlds import biomedical

EXTRA_KEYS = ("top1", "top5", "entity_f1", "entity_interval")
#: Which tokens of the held-out sentences are hidden is the same for every run.
HELD_OUT_SEED = 4_000_004
#: Sentences of the built-in world that one can watch, and what stood there.
GAPS = (
    ("[MASK] inhibits EGFR .", "Gefitinib"),
    ("Melanoma was treated with [MASK] .", "vemurafenib"),
    ("[MASK] is used in the treatment of depression .", "Sertraline"),
    ("Gefitinib inhibits [MASK] .", "EGFR"),
    ("Gefitinib [MASK] EGFR .", "inhibits"),
)
#: Of other texts, so many held-out rows.
PROBES = 5
#: Sentences that models learn entities from, and passes over them.
ENTITY_SENTENCES, ENTITY_EPOCHS = 500, 3
#: Peak learning rate of that: the published 5e-5 is for models eight times as wide.
ENTITY_RATE = 5e-4


class FillMask:
    """See `workbench.tasks.task.Task`."""

    name = "fill-mask"
    kind = models.MASKED
    headline = BY_TASK[name]
    tags = ("knowledge-distillation", "biomedical")
    intervals_in_table = False

    def load_model(self, source: str):
        """A masked language model."""
        return masked_lm.load(source)

    def load_corpus(self, config: RunConfig, tokenizer=None) -> TextCorpus | LargeCorpus:
        """Sentences, or proteins for a tokenizer of residues."""
        if config.alleles:
            raise UsageError(f"--alleles is for peptides and HLA; leave it out for {config.recipe}")
        residues = tokenizer is not None and dialects.reads_residues(tokenizer)
        records = None
        if residues or not sources.is_fasta(config.data):
            records = large_corpora.load(
                config.data,
                config.column,
                corpora.EXPECTED if residues else texts.EXPECTED,
                train_records=config.train_sequences,
                validation_records=config.validation_sequences,
            )
        if isinstance(records, LargeCorpus):
            return records
        return texts.load(
            config.data,
            train_sentences=config.train_sequences,
            validation_sentences=config.validation_sequences,
            column=config.column,
            records=records,
            tokenizer=tokenizer,
        )

    def rows(
        self,
        corpus: TextCorpus | LargeCorpus,
        tokenizer,
        model,
        positions: int,
        progress: Progress | None = None,
    ) -> tuple[Rows, Rows]:
        """Sentences, long ones in several rows."""
        if isinstance(corpus, LargeCorpus):
            kind = Residues if dialects.reads_residues(tokenizer) else Sentences
            return large_corpora.rows(corpus, kind(tokenizer, positions), progress)
        return texts.tokenise_split(corpus, tokenizer, positions)

    def pad(self, tokenizer) -> int:
        """The padding token."""
        return tokenizer.pad_token_id

    def masker(self, tokenizer, model, *, whole_words: bool) -> Masker:
        """Hides 15 % of the tokens, anew at every step."""
        masking = Masking(whole_words=whole_words)
        return Masker(tokenizer, model.config.vocab_size, masking)

    def held_out(self, batches: Sequence[Batch], masker: Masker | None) -> list[Batch]:
        """With hidden tokens, the same ones in every run."""
        return [masker.hide(batch, seed=HELD_OUT_SEED) for batch in batches]

    def build(self, shape: Shape, scale: Scale, *, seed: int, tokenizer, like):
        """A BERT."""
        return masked_lm.build(
            shape,
            activation=scale.activation,
            seed=seed,
            initial_spread=getattr(like.config, "initializer_range", 0.02),
            pad=tokenizer.pad_token_id,
        )

    def count_parameters(self, shape: Shape, scale: Scale) -> int:
        """Of a BERT with its head, tied weights once."""
        return masked_lm.count_parameters(shape, activation=scale.activation)

    def validate(self, distiller, shop) -> dict[str, float | None]:
        """Perplexity of hidden words, and fidelity to the teacher."""
        quality = distiller.evaluate(shop.validation_batches, None, shop.validation_teacher)
        return {
            "perplexity": quality.perplexity,
            "top1": quality.top1,
            "kl_to_teacher": quality.kl_to_teacher,
            "agreement": quality.agreement,
        }

    def references(self, shop) -> dict[str, float]:
        """Perplexity of hidden words of teacher and oracle."""
        batches = shop.validation_batches
        quality = metrics.evaluate(shop.teacher_model, batches, None, scores="masked")
        found = {"teacher": quality.perplexity}
        if shop.corpus.tagged:
            truth = masked_words.oracle_quality(shop.corpus.tagged[1], batches, shop.tokenizer)
            if truth is not None:
                found["oracle"] = truth.perplexity
        return found

    def four_rows(self, config: RunConfig, judged: Judged) -> dict[str, dict[str, Any]]:
        """Quality of all, entities found by all, runtime of teacher and student."""
        result = {name: dict.fromkeys((*ROW_KEYS, *EXTRA_KEYS)) for name in ROW_NAMES}
        corpus: TextCorpus = judged.corpus
        result |= judged.known
        if corpus.tagged and "oracle" not in judged.known:
            truth = masked_words.oracle_quality(corpus.tagged[1], judged.batches, judged.tokenizer)
            if truth is not None:
                _fill(result["oracle"], truth)
        compared = {
            "teacher": judged.teacher_model,
            "student": judged.student,
            "baseline": judged.baseline,
        }
        for name, model in compared.items():
            if model is None or name in judged.known:
                continue
            # Attention maps are kept for training only; what is measured is what is used.
            inner.release(model)
            quality = metrics.evaluate(
                model, judged.batches, None, teacher=judged.teacher, scores="masked",
                intervals=True,
            )  # fmt: skip
            if name == "teacher":
                quality = without_fidelity(quality)
            row = result[name]
            row["parameters"] = models.parameters(model)
            _fill(row, quality)
            if judged.brief:
                continue
            if corpus.tagged:
                train, held_out = corpus.tagged
                found = entities.fine_tune(
                    model, judged.tokenizer, train[:ENTITY_SENTENCES], held_out,
                    seed=config.seed, epochs=ENTITY_EPOCHS, learning_rate=ENTITY_RATE,
                )  # fmt: skip
                row["entity_f1"], row["entity_interval"] = found.f1, list(found.interval)
            if name != "baseline":
                fill_runtime(row, runtime.measure_reader(model, judged.validation))
        return result

    def probes(self, shop) -> list[Probe]:
        """Hidden words: of sentences chosen to be telling, or of held-out ones."""
        tokenizer = shop.tokenizer
        words = tuple(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
        found = []
        for text, label, oracle in self._gaps(shop):
            ids = torch.tensor(tokenizer(text)["input_ids"])
            place = ids.tolist().index(tokenizer.mask_token_id)
            found.append(
                Probe(
                    title=text,
                    text=text,
                    words=words,
                    rest="any other word",
                    label=label,
                    oracle=oracle,
                    ask=at_place(ids, place, len(words)),
                )
            )
        return found

    def _gaps(self, shop) -> list[tuple[str, int, np.ndarray | None]]:
        """Text with one hidden piece, the piece, and its exact distribution where it is known."""
        tokenizer = shop.tokenizer
        found = []
        known = masked_words.word_ids(tokenizer, biomedical.default_world()) is not None
        if shop.corpus.tagged and known:
            for text, word in GAPS:
                truth = np.zeros(len(tokenizer))
                answer = biomedical.oracle(text, text.split().index("[MASK]"))
                truth[tokenizer.convert_tokens_to_ids(list(answer))] = list(answer.values())
                label = tokenizer.convert_tokens_to_ids(word)
                found.append((text.replace("[MASK]", tokenizer.mask_token), label, truth))
            return found
        first, last = dialects.marks(tokenizer)
        for block in shop.validation.tokens[:PROBES]:
            ids = [int(i) for i in block[len(first) : len(block) - len(last)]]
            place = len(ids) // 2
            hidden = [*ids[:place], tokenizer.mask_token_id, *ids[place + 1 :]]
            found.append((tokenizer.decode(hidden), ids[place], None))
        return found

    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """Of the table of four rows."""
        return (
            ("parameters", "parameters", "{:,}"),
            ("perplexity", "perplexity", "{:.3f}"),
            ("top1", "first guess", "{:.3f}"),
            ("top5", "first five", "{:.3f}"),
            ("entity_f1", "entity F1", "{:.3f}"),
            ("kl_to_teacher", "KL to teacher", "{:.4f}"),
            ("agreement", "agreement", "{:.3f}"),
            ("calibration_error", "calibration error", "{:.4f}"),
            ("latency_ms", "latency ms", "{:.2f}"),
            ("tokens_per_second", "tokens/s", "{:,.0f}"),
        )

    def sentences(self, results: dict[str, Any]) -> list[str]:
        """What the teacher was worth, in hidden words and in entities."""
        student, baseline = results["student"], results["baseline"]
        found = []
        if baseline["perplexity"] is not None:
            change = 1 - student["perplexity"] / baseline["perplexity"]
            found.append(
                f"Perplexity of hidden words is {abs(change):.1%} "
                f"{'lower' if change > 0 else 'higher'} than that of the same student trained "
                "without the teacher for as many steps."
            )
        rows = {name: results[name] for name in ROW_NAMES if results[name]["entity_f1"] is not None}
        if rows:
            said = ", ".join(
                f"{name} {row['entity_f1']:.3f} ({row['entity_interval'][0]:.3f} to "
                f"{row['entity_interval'][1]:.3f})"
                for name, row in rows.items()
            )
            found.append(
                f"After {ENTITY_EPOCHS} passes over {ENTITY_SENTENCES} tagged sentences the F1 of "
                f"entities (95 % interval) is: {said}."
            )
        return found


def _fill(row: dict[str, Any], quality: Quality) -> None:
    fill_quality(row, quality)
    row["top1"], row["top5"] = quality.top1, quality.top5
