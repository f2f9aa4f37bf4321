"""Which encoder finds entities best: teachers, students and baselines on the same sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench import models, runs, tasks
from workbench.errors import UsageError
from workbench.hidden_words import masked_lm, texts
from workbench.named_entities import entities
from workbench.named_entities.tag_files import read_tags
from workbench.progress import Progress, Silent, for_here
from workbench.run_directory import RunDirectory, load_config


def compare(
    sources: Sequence[str],
    *,
    train: Path | None = None,
    held_out: Path | None = None,
    epochs: int = 5,
    learning_rate: float = 5e-4,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Teach a copy of each encoder to find entities, and judge all on the same sentences.

    Args:
        sources: run directories, of which teacher, student and baseline are compared (a teacher
            of several runs once), or masked language models: built in, directories, hub ids.
        train: tag file to learn from, see `tag_files.read_tags`; with ``held_out``. Without both,
            the biomedical world's sentences.
        held_out: tag file to be judged by.
        epochs: passes over the training sentences.
        learning_rate: peak. The published 5e-5 is for models of 768; smaller ones want more.
        seed: of the heads' first weights and of the order.
        progress: who is told.

    Returns:
        ``train`` and ``held_out`` (sentences in each), ``epochs``, ``learning_rate``, ``seed`` and
        ``rows``, each with ``name``, ``source``, ``parameters``, ``f1``, ``interval``,
        ``precision``, ``recall``, ``by_type`` and ``seconds``.

    Raises:
        UsageError: if only one of the tag files is given.
        WorkbenchError: if a file or a model cannot be used.
    """
    if (train is None) != (held_out is None):
        raise UsageError("--train and --held-out belong together; give both tag files or neither")
    if train is None or held_out is None:
        learned, judged = texts.load(texts.BIOMEDICAL_WORLD).tagged  # type: ignore[misc]
    else:
        learned, judged = read_tags(train), read_tags(held_out)
    progress = progress or for_here()
    rows: list[dict[str, Any]] = []
    try:
        for name, source, model, tokenizer in _encoders(sources):
            progress.stage(f"teaching {name} of {source}")
            scores = entities.fine_tune(
                model, tokenizer, learned, judged, seed=seed, epochs=epochs,
                learning_rate=learning_rate, progress=progress,
            )  # fmt: skip
            rows.append(
                {
                    "name": name,
                    "source": source,
                    "parameters": models.parameters(model),
                    "f1": scores.f1,
                    "interval": list(scores.interval),
                    "precision": scores.precision,
                    "recall": scores.recall,
                    "by_type": scores.by_type,
                    "seconds": scores.seconds,
                }
            )
    finally:
        progress.close()
    return {
        "train": len(learned),
        "held_out": len(judged),
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "rows": rows,
    }


def table(found: dict[str, Any]) -> str:
    """The rows as aligned text."""
    width = max(len(f"{row['name']} {row['source']}") for row in found["rows"])
    lines = [
        f"{found['epochs']} passes over {found['train']:,} sentences, judged on "
        f"{found['held_out']:,}:",
        f"{'':<{width}}  parameters     F1   95 % interval    precision  recall  seconds",
    ]
    for row in found["rows"]:
        low, high = row["interval"]
        name = f"{row['name']} {row['source']}"
        lines.append(
            f"{name:<{width}}  {row['parameters']:>10,}  {row['f1']:.3f}   {low:.3f} to {high:.3f}"
            f"      {row['precision']:.3f}   {row['recall']:.3f}  {row['seconds']:>7.0f}"
        )
    return "\n".join(lines)


def _encoders(sources: Sequence[str]) -> Iterator[tuple[str, str, Any, Any]]:
    """Name, source, model and tokenizer, one after the other: each may be large."""
    teachers = set()
    for source in sources:
        if not ((Path(source) / "config.json").exists() and runs.is_run(source)):
            model, tokenizer, _ = masked_lm.load(source)
            yield "model", source, model, tokenizer
            continue
        directory = RunDirectory(Path(source))
        recipe = load_config(directory).recipe
        if tasks.of(recipe).name != "fill-mask":
            raise UsageError(
                f"{source} is a run of {recipe}; expected one of a recipe that tells hidden words, "
                "such as compactbiobert"
            )
        config, shop = runs.open_finished(directory, Silent())
        if config.teacher not in teachers:
            teachers.add(config.teacher)
            yield "teacher", config.teacher, shop.teacher_model, shop.tokenizer
        for name, distiller in (("student", shop.student), ("baseline", shop.baseline)):
            model = distiller.accelerator.unwrap_model(distiller.student).eval()
            yield name, source, model, shop.tokenizer
