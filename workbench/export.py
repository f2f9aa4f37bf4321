"""The student leaves: a plain transformers directory with a model card."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench import evaluation, models, storage, tables, tasks
from workbench.workshop import Workshop


def save_student(path: Path, shop: Workshop) -> None:
    """Save weights (safetensors), configuration and tokenizer; whole or not at all.

    Args:
        path: the directory to make or replace.
        shop: with the trained student.
    """
    student = shop.student.accelerator.unwrap_model(shop.student.student)
    save_model(path, student, shop.tokenizer)


def save_model(path: Path, model, tokenizer) -> None:
    """Save a model and its tokenizer as a directory that replaces any earlier one.

    Raises:
        WorkbenchError: if the disk refuses.
    """
    from safetensors import SafetensorError

    temporary = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        with models.quiet_transformers():
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            shutil.rmtree(temporary)
        raise storage.disk_error(error, path, "the model") from error


def write_card(path: Path, results: dict[str, Any], formula: str) -> None:
    """Write the model card of a distilled student: what it is, how it was made, what it scored."""
    task = tasks.of(results["recipe"])
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {task.name}",
        f"tags: [{', '.join(task.tags)}]",
        "---",
        "",
        f"# Student of {results['recipe']} ({results['variant']})",
        "",
        f"Trained for {results['steps']} steps with seed {results['seed']}:",
        "",
        f"    {formula}",
        "",
        "Held-out figures, printed by `workbench distill`:",
        "",
        "```",
        tables.table(results),
        "```",
        "",
    ]
    if results["teacher"]["latency_ms"]:
        lines += [f"Against its teacher: {evaluation.speed_words(results)}.", ""]
    storage.write_bytes(path / "README.md", "\n".join(lines).encode())
