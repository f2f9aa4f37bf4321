"""The four rows: oracle, teacher, student, and the student trained without a teacher."""

from __future__ import annotations

from typing import Any

from workbench import corpora, models, recipes, tasks, workshop
from workbench.classifying import text_classifiers
from workbench.config import RunConfig
from workbench.errors import WorkbenchError
from workbench.foreign import suitability
from workbench.shared_baseline import SharedBaseline
from workbench.tasks import Judged
from workbench.tasks.generation import ROW_NAMES as ROW_NAMES
from workbench.workshop import Workshop


def evaluate_run(
    config: RunConfig, shop: Workshop, run: str, seconds: float, *, brief: bool = False
) -> dict[str, Any]:
    """All results of a run in the shape of ``results.json``.

    Args:
        config: of the run.
        shop: with trained students.
        run: the run directory, as text.
        seconds: time the training took.
        brief: quality only; what it costs more to measure is null.
    """
    shared = shop.baseline if isinstance(shop.baseline, SharedBaseline) else None
    judged = judged_by(shop, brief=brief, known=shared.rows if shared and brief else {})
    results = {
        "recipe": config.recipe,
        "variant": config.variant,
        "run": run,
        "steps": shop.student.step_number,
        "seconds": seconds,
        "seed": config.seed,
        "temperature": config.temperature,
        "alpha": config.alpha,
        **tasks.of_run(config).four_rows(config, judged),
    }
    if shared and brief:
        shared.keep_rows(results)
    return results


def judged_by(shop: Workshop, **options: Any) -> Judged:
    """What the four rows of a trained workshop are made from; both students go to eval mode.

    Args:
        shop: with trained students.
        options: of `Judged`: ``brief`` and ``known``.
    """
    student, baseline = (
        d.accelerator.unwrap_model(d.student).eval() for d in (shop.student, shop.baseline)
    )
    return Judged(
        corpus=shop.corpus,
        tokenizer=shop.tokenizer,
        validation=shop.validation,
        batches=shop.validation_batches,
        teacher_model=shop.teacher_model,
        teacher=shop.validation_teacher,
        student=student,
        baseline=baseline,
        **options,
    )


def evaluate_model(source: str, config: RunConfig) -> dict[str, Any]:
    """Any model of a recipe's task against oracle and teacher; baseline and training are null.

    Args:
        source: directory or hub id of the model.
        config: which task, which teacher and which held-out data.
    """
    from workbench.teacher_cache import LiveTeacher

    task = tasks.of_run(config)
    asked = config.teacher != recipes.get(config.recipe).scale(config.scale).teacher_source
    if asked:
        # The built-in teacher is left out where it cannot be compared; one that was asked for not.
        suitability.check_same_vocabulary(
            *(suitability.examine(models.resolve_model(s), task.kind)
              for s in (source, config.teacher))
        )  # fmt: skip
    student, tokenizer, place = task.load_model(source)
    teacher_model, teacher_tokenizer, _ = task.load_model(config.teacher)
    same = teacher_tokenizer.get_vocab() == tokenizer.get_vocab()
    if config.label is not None:
        same = same and _same_classes(student, teacher_model, asked=asked)
    corpus = task.load_corpus(config, tokenizer)
    # Texts are as long as they are: a teacher that is left out sets no limit to them.
    reading = (student, teacher_model) if same or config.label is None else (student,)
    block = min(models.context(model, workshop.unlimited(config)) for model in reading)
    _, validation = task.rows(corpus, tokenizer, student, block)
    masker = task.masker(tokenizer, student, whole_words=config.whole_words)
    batches = task.held_out(
        corpora.make_batches(validation, config.batch_size, task.pad(tokenizer)), masker
    )
    judged = Judged(
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
        **task.four_rows(config, judged),
    }


def _same_classes(student, teacher, *, asked: bool) -> bool:
    """Whether two classifiers of texts mean the same by their answers.

    Raises:
        WorkbenchError: if they do not, and the teacher was asked for.
    """
    own, theirs = (text_classifiers.classes(m.config) for m in (student, teacher))
    if own == theirs or not asked:
        return own == theirs
    raise WorkbenchError(
        f"the classes of the model ({', '.join(own)}) are not those of its teacher "
        f"({', '.join(theirs)}), so that their answers cannot be compared; leave --teacher away"
    )


def speed_ratio(results: dict[str, Any]) -> dict[str, float]:
    """How many times faster and smaller the student is than its teacher.

    "generation" is missing where nothing is generated.
    """
    teacher, student = results["teacher"], results["student"]
    ratios = {
        "latency": teacher["latency_ms"] / student["latency_ms"],
        "throughput": student["tokens_per_second"] / teacher["tokens_per_second"],
        "memory": teacher["peak_memory_mb"] / student["peak_memory_mb"],
        "parameters": teacher["parameters"] / student["parameters"],
    }
    if teacher["generation_seconds"] is not None:
        ratios["generation"] = teacher["generation_seconds"] / student["generation_seconds"]
    return ratios


def speed_words(results: dict[str, Any]) -> str:
    """The same in words, without a full stop."""
    speed = speed_ratio(results)
    words = [
        _times(speed["parameters"], "fewer parameters", "more parameters"),
        _times(speed["latency"], "shorter latency", "longer latency"),
        _times(speed["throughput"], "more tokens/s", "fewer tokens/s"),
    ]
    if "generation" in speed:
        words.append(_times(speed["generation"], "faster generation", "slower generation"))
    return f"{', '.join(words)} and {_times(speed['memory'], 'less memory', 'more memory')}"


def _times(ratio: float, better: str, worse: str) -> str:
    return f"{ratio:.1f} × {better}" if ratio >= 1 else f"{1 / ratio:.1f} × {worse}"
