"""The student leaves: a plain transformers directory with a model card."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench import evaluation, models, storage, tables
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
    speed = evaluation.speed_ratio(results)
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [knowledge-distillation, protein]",
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
        f"Against its teacher: {speed['parameters']:.1f} × fewer parameters, "
        f"{speed['latency']:.1f} × shorter latency, {speed['throughput']:.1f} × more tokens/s, "
        f"{speed['generation']:.1f} × faster generation.",
        "",
    ]
    storage.write_bytes(path / "README.md", "\n".join(lines).encode())
