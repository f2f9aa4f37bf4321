"""The four rows: oracle, teacher, student, and the student trained without a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from workbench import corpora, metrics, models, runtime
from workbench.config import RunConfig
from workbench.metrics import Quality
from workbench.runtime import Runtime
from workbench.workshop import Workshop

GENERATED = 200
ROW_NAMES = ("oracle", "teacher", "student", "baseline")


def evaluate_run(config: RunConfig, shop: Workshop, run: str, seconds: float) -> dict[str, Any]:
    """All results of a run in the shape of ``results.json``.

    Args:
        config: of the run.
        shop: with trained students.
        run: the run directory, as text.
        seconds: time the training took.
    """
    student = shop.student.accelerator.unwrap_model(shop.student.student).eval()
    baseline = shop.baseline.accelerator.unwrap_model(shop.baseline.student).eval()
    rows = four_rows(
        config,
        corpus=shop.corpus,
        tokenizer=shop.tokenizer,
        validation=shop.validation,
        batches=shop.validation_batches,
        teacher_model=shop.teacher_model,
        teacher=shop.validation_teacher,
        student=student,
        baseline=baseline,
    )
    return {
        "recipe": config.recipe,
        "variant": config.variant,
        "run": run,
        "steps": shop.student.step_number,
        "seconds": seconds,
        "seed": config.seed,
        "temperature": config.temperature,
        "alpha": config.alpha,
        **rows,
    }


def evaluate_model(source: str, config: RunConfig) -> dict[str, Any]:
    """Any causal language model against oracle and teacher; baseline and training are null.

    Args:
        source: directory or hub id of the model.
        config: which teacher and which held-out data.
    """
    from workbench import workshop
    from workbench.teacher_cache import LiveTeacher

    student, tokenizer, place = models.load_causal_lm(source)
    teacher_model, teacher_tokenizer, _ = models.load_causal_lm(config.teacher)
    same = teacher_tokenizer.get_vocab() == tokenizer.get_vocab()
    corpus = workshop.load_corpus(config)
    form = corpora.format_of(student.config)
    block = min(
        student.config.max_position_embeddings, teacher_model.config.max_position_embeddings
    )
    _, validation = corpora.tokenise_split(corpus, tokenizer, form, block)
    batches = corpora.make_batches(validation, config.batch_size, tokenizer.eos_token_id)
    rows = four_rows(
        config,
        corpus=corpus,
        tokenizer=tokenizer,
        validation=validation,
        batches=batches,
        teacher_model=teacher_model if same else None,
        teacher=LiveTeacher(teacher_model) if same else None,
        student=student,
        baseline=None,
    )
    return {
        "recipe": config.recipe,
        "variant": None,
        "run": place,
        "steps": None,
        "seconds": None,
        "seed": None,
        "temperature": None,
        "alpha": None,
        **rows,
    }


def four_rows(
    config: RunConfig, *, corpus, tokenizer, validation, batches, teacher_model, teacher,
    student, baseline,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Quality of all, runtime of teacher and student; what does not apply is null."""
    device = next(student.parameters()).device
    result = {name: _empty_row() for name in ROW_NAMES}
    if corpus.has_oracle:
        sequences = corpus.validation["sequence"][:]
        _fill_quality(result["oracle"], metrics.oracle_quality(sequences))
        result["oracle"]["amino_acids"] = _world_frequencies()
    for name, model in (("teacher", teacher_model), ("student", student), ("baseline", baseline)):
        if model is None:
            continue
        quality = metrics.evaluate(model, batches, validation.residues, teacher=teacher)
        if name == "teacher":
            quality = replace(quality, kl_to_teacher=None, agreement=None)
        row = result[name]
        row["parameters"] = models.parameters(model)
        _fill_quality(row, quality)
        generated = metrics.generate_sequences(
            model, tokenizer, GENERATED, seed=config.seed,
            longest=min(128, model.config.max_position_embeddings),
        )  # fmt: skip
        row["amino_acids"] = metrics.residue_frequencies(generated)
    for name, model in (("teacher", teacher_model), ("student", student)):
        if model is not None:
            _fill_runtime(result[name], runtime.measure(model.to(device), validation))
    return result


def speed_ratio(results: dict[str, Any]) -> dict[str, float]:
    """How many times faster and smaller the student is than its teacher."""
    teacher, student = results["teacher"], results["student"]
    return {
        "latency": teacher["latency_ms"] / student["latency_ms"],
        "throughput": student["tokens_per_second"] / teacher["tokens_per_second"],
        "generation": teacher["generation_seconds"] / student["generation_seconds"],
        "memory": teacher["peak_memory_mb"] / student["peak_memory_mb"],
        "parameters": teacher["parameters"] / student["parameters"],
    }


def _empty_row() -> dict[str, Any]:
    return dict.fromkeys(
        (
            "parameters", "perplexity", "perplexity_per_residue", "accuracy", "f1", "auc",
            "kl_to_teacher", "agreement", "calibration_error", "latency_ms", "latency_p95_ms",
            "tokens_per_second", "throughput", "generation_seconds", "peak_memory_mb",
            "amino_acids",
        )
    )  # fmt: skip


def _fill_quality(row: dict[str, Any], quality: Quality) -> None:
    for name in (
        "perplexity", "perplexity_per_residue", "kl_to_teacher", "agreement", "calibration_error",
    ):  # fmt: skip
        row[name] = getattr(quality, name)


def _fill_runtime(row: dict[str, Any], measured: Runtime) -> None:
    row["latency_ms"] = measured.latency_ms
    row["latency_p95_ms"] = measured.latency_p95_ms
    row["tokens_per_second"] = measured.tokens_per_second
    row["throughput"] = {str(size): value for size, value in measured.throughput.items()}
    row["generation_seconds"] = measured.generation_seconds
    row["peak_memory_mb"] = measured.peak_memory_mb


def _world_frequencies() -> dict[str, float]:
    from workbench.worlds import proteins

    values = proteins.default_world().residue_frequencies()
    return dict(zip(proteins.AMINO_ACIDS, values.tolist(), strict=True))
