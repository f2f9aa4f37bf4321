"""Generating sequences: causal language models, judged by perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workbench import corpora, metrics, models, runtime
from workbench.comparisons.headline import BY_TASK
from workbench.config import RunConfig
from workbench.corpora import Batch, Corpus, Rows
from workbench.errors import UsageError
from workbench.foreign import dialects
from workbench.metrics import Quality
from workbench.on_disk import large_corpora
from workbench.on_disk.large_corpora import LargeCorpus
from workbench.on_disk.record_kinds import Proteins
from workbench.probes import Probe, at_place
from workbench.progress import Progress
from workbench.recipes.recipe import Scale, Shape
from workbench.runtime import Runtime
from workbench.tasks.task import ROW_KEYS, Judged
from workbench.worlds import proteins

GENERATED = 200
#: Places of a held-out sequence that one can watch, and held-out sequences.
PROBE_PLACES, PROBE_SEQUENCES = (12, 24, 3), 3
ROW_NAMES = ("oracle", "teacher", "student", "baseline")


class Generation:
    """See `workbench.tasks.task.Task`."""

    name = "text-generation"
    kind = models.CAUSAL
    headline = BY_TASK[name]
    tags = ("knowledge-distillation", "protein")
    intervals_in_table = False

    def load_model(self, source: str):
        """A causal language model."""
        return models.load_causal_lm(source)

    def load_corpus(self, config: RunConfig, tokenizer=None) -> Corpus | LargeCorpus:
        """Sequences."""
        if config.alleles:
            raise UsageError(f"--alleles is for peptides and HLA; leave it out for {config.recipe}")
        records = large_corpora.load(
            config.data,
            config.column,
            corpora.EXPECTED,
            train_records=config.train_sequences,
            validation_records=config.validation_sequences,
        )
        if isinstance(records, LargeCorpus):
            return records
        return corpora.load(
            config.data,
            train_sequences=config.train_sequences,
            validation_sequences=config.validation_sequences,
            column=config.column,
            records=records,
        )

    def rows(
        self,
        corpus: Corpus | LargeCorpus,
        tokenizer,
        model,
        positions: int,
        progress: Progress | None = None,
    ) -> tuple[Rows, Rows]:
        """Sequences in blocks, in the form that the model wants."""
        form = corpora.format_of(model.config, tokenizer)
        if isinstance(corpus, LargeCorpus):
            return large_corpora.rows(corpus, Proteins(tokenizer, form, positions), progress)
        return corpora.tokenise_split(corpus, tokenizer, form, positions)

    def pad(self, tokenizer) -> int:
        """The end-of-text token."""
        return tokenizer.eos_token_id

    def masker(self, tokenizer, model, *, whole_words: bool) -> None:
        """Nothing is hidden: every next token is."""
        refuse_whole_words(whole_words, self.name)

    def held_out(self, batches: Sequence[Batch], masker: None) -> Sequence[Batch]:
        """As they are."""
        return batches

    def build(self, shape: Shape, scale: Scale, *, seed: int, tokenizer, like):
        """A GPT-2."""
        model = models.build_causal_lm(
            shape, activation=scale.activation, seed=seed, end_of_text=tokenizer.eos_token_id
        )
        model.config.sequence_format = corpora.format_of(like.config, tokenizer)
        return model

    def count_parameters(self, shape: Shape, scale: Scale) -> int:
        """Of a GPT-2, tied weights once."""
        return models.count_parameters(shape, activation=scale.activation)

    def validate(self, distiller, shop) -> dict[str, float | None]:
        """Perplexity, and fidelity to the teacher."""
        quality = distiller.evaluate(
            shop.validation_batches, shop.validation.residues, shop.validation_teacher
        )
        return {
            "perplexity": quality.perplexity,
            "kl_to_teacher": quality.kl_to_teacher,
            "agreement": quality.agreement,
        }

    def references(self, shop) -> dict[str, float]:
        """Perplexity of teacher and oracle."""
        quality = metrics.evaluate(
            shop.teacher_model, shop.validation_batches, shop.validation.residues
        )
        found = {"teacher": quality.perplexity}
        if shop.corpus.has_oracle:
            found["oracle"] = metrics.oracle_quality(
                shop.corpus.validation["sequence"][:]
            ).perplexity
        return found

    def four_rows(self, config: RunConfig, judged: Judged) -> dict[str, dict[str, Any]]:
        """Quality of all, runtime of teacher and student; what does not apply is null."""
        device = next(judged.student.parameters()).device
        result = {name: dict.fromkeys((*ROW_KEYS, "amino_acids")) for name in ROW_NAMES}
        result |= judged.known
        if judged.corpus.has_oracle and "oracle" not in judged.known:
            sequences = judged.corpus.validation["sequence"][:]
            fill_quality(result["oracle"], metrics.oracle_quality(sequences))
            result["oracle"]["amino_acids"] = _world_frequencies()
        compared = (
            ("teacher", judged.teacher_model),
            ("student", judged.student),
            ("baseline", judged.baseline),
        )
        for name, model in compared:
            if model is None or name in judged.known:
                continue
            quality = metrics.evaluate(
                model, judged.batches, judged.validation.residues, teacher=judged.teacher,
                intervals=True,
            )  # fmt: skip
            if name == "teacher":
                quality = without_fidelity(quality)
            row = result[name]
            row["parameters"] = models.parameters(model)
            fill_quality(row, quality)
            if judged.brief:
                continue
            generated = metrics.generate_sequences(
                model, judged.tokenizer, GENERATED, seed=config.seed,
                longest=min(128, models.context(model, 128)),
            )  # fmt: skip
            row["amino_acids"] = metrics.residue_frequencies(generated)
        for name, model in compared[:2]:
            if model is not None and not judged.brief:
                fill_runtime(result[name], runtime.measure(model.to(device), judged.validation))
        return result

    def probes(self, shop) -> list[Probe]:
        """What follows after some residues of held-out sequences."""
        found = []
        tokens = shop.tokenizer.convert_ids_to_tokens(list(range(len(shop.tokenizer))))
        tokens[shop.tokenizer.eos_token_id] = "end"
        for number, block in enumerate(shop.validation.tokens[:PROBE_SEQUENCES]):
            ids = torch.as_tensor(block)
            oracle = _oracle_of_tokens(block, shop.tokenizer) if shop.corpus.has_oracle else None
            for place in PROBE_PLACES:
                if place + 1 >= len(ids):
                    continue
                text = shop.tokenizer.decode(ids[1 : place + 1]).replace("\n", "")
                truth = None if oracle is None else oracle[place]
                found.append(
                    Probe(
                        title=f"held-out sequence {number + 1}, after {place} tokens",
                        text=f"{text} ?",
                        words=tuple(tokens),
                        rest="any other token",
                        label=int(ids[place + 1]),
                        oracle=truth,
                        ask=at_place(ids, place, len(tokens)),
                    )
                )
        return found

    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """Of the table of four rows."""
        return (
            ("parameters", "parameters", "{:,}"),
            ("perplexity", "perplexity", "{:.3f}"),
            ("perplexity_per_residue", "per residue", "{:.3f}"),
            ("kl_to_teacher", "KL to teacher", "{:.4f}"),
            ("agreement", "agreement", "{:.3f}"),
            ("calibration_error", "calibration error", "{:.4f}"),
            ("latency_ms", "latency ms", "{:.2f}"),
            ("tokens_per_second", "tokens/s", "{:,.0f}"),
        )

    def sentences(self, results: dict[str, Any]) -> list[str]:
        """What the teacher was worth."""
        student, baseline = results["student"], results["baseline"]
        if not baseline["perplexity"]:
            return []
        gain = 1 - student["perplexity"] / baseline["perplexity"]
        return [
            f"With its teacher the student's perplexity is {abs(gain):.1%} "
            f"{'lower' if gain >= 0 else 'higher'} than without."
        ]


def _oracle_of_tokens(block: np.ndarray, tokenizer) -> np.ndarray | None:
    """What follows each token of a block, exactly, ``[length, vocabulary]``.

    None unless the block is the beginning of a sequence, and each residue one token.
    """
    end = tokenizer.eos_token_id
    columns = [*tokenizer.convert_tokens_to_ids(list(proteins.AMINO_ACIDS)), end]
    if len(set(columns)) < len(proteins.SYMBOLS) or block[0] != dialects.first_token(tokenizer):
        return None
    residues = {token: letter for token, letter in zip(columns, proteins.AMINO_ACIDS, strict=False)}
    inside = [int(token) for token in block[1:] if token != end]
    if not all(token in residues for token in inside):
        return None
    found = np.zeros((len(inside) + 1, len(tokenizer)))
    found[:, columns] = proteins.oracle("".join(residues[token] for token in inside))
    return found


def refuse_whole_words(whole_words: bool, task: str) -> None:
    """Raise UsageError where nothing is masked."""
    if whole_words:
        raise UsageError(f"--whole-words is for fill-mask; nothing is hidden in {task}")


def fill_runtime(row: dict[str, Any], measured: Runtime) -> None:
    """Put the figures of a measurement where the results have them."""
    row["latency_ms"] = measured.latency_ms
    row["latency_p95_ms"] = measured.latency_p95_ms
    row["tokens_per_second"] = measured.tokens_per_second
    row["throughput"] = {str(size): value for size, value in measured.throughput.items()}
    row["generation_seconds"] = measured.generation_seconds
    row["peak_memory_mb"] = measured.peak_memory_mb


def fill_quality(row: dict[str, Any], quality: Quality) -> None:
    """Put the figures of a quality where the results have them."""
    for name in (
        "perplexity", "perplexity_per_residue", "kl_to_teacher", "agreement", "calibration_error",
    ):  # fmt: skip
        row[name] = getattr(quality, name)
    row["intervals"] = quality.intervals


def without_fidelity(quality: Quality) -> Quality:
    """The teacher's own quality: that it agrees with itself says nothing."""
    compared = ("kl_to_teacher", "agreement")
    intervals = {k: v for k, v in (quality.intervals or {}).items() if k not in compared}
    return replace(quality, kl_to_teacher=None, agreement=None, intervals=intervals or None)


def _world_frequencies() -> dict[str, float]:
    values = proteins.default_world().residue_frequencies()
    return dict(zip(proteins.AMINO_ACIDS, values.tolist(), strict=True))
