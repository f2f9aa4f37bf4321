"""The student leaves: a plain transformers directory with a model card."""

from __future__ import annotations

import copy
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from workbench import events, models, storage
from workbench.cards import model_card
from workbench.cards.publishing import push as push
from workbench.config import RunConfig
from workbench.devices import machine
from workbench.run_directory import RunDirectory
from workbench.workshop import Workshop

#: Files of a saved model, this package's or one of the hub's.
_OF_A_MODEL = re.compile(
    r"(generation_|tokenizer_|preprocessor_)?config\.json|README\.md|\.gitattributes|merges\.txt|"
    r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|vocab\.(txt|json)|"
    r"tokenizer\.(json|model)|special_tokens_map\.json|added_tokens\.json|chat_template\.jinja"
)


def save_student(path: Path, shop: Workshop) -> None:
    """Save weights (safetensors), configuration and tokenizer; whole or not at all.

    Args:
        path: the directory to make or replace.
        shop: with the trained student.
    """
    student = shop.student.accelerator.unwrap_model(shop.student.student)
    save_model(path, student, shop.tokenizer)


def is_model(path: Path) -> bool:
    """Whether a directory holds a saved model and nothing else."""
    names = {p.name for p in path.iterdir()}
    # A run that has only begun has a config.json, too.
    has_weights = any(name.endswith(".safetensors") for name in names)
    return "config.json" in names and has_weights and all(map(_OF_A_MODEL.fullmatch, names))


def save_model(path: Path, model, tokenizer) -> None:
    """Save a model and its tokenizer as a directory that replaces any earlier one.

    Raises:
        WorkbenchError: if the disk refuses.
    """
    from safetensors import SafetensorError

    temporary = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        with models.quiet_transformers():
            _ready(model, tokenizer).save_pretrained(temporary)
            model.save_pretrained(temporary)
        storage.replace_directory(temporary, path)
    except (OSError, SafetensorError) as error:
        raise storage.disk_error(error, path, "the model") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_card(
    directory: RunDirectory,
    config: RunConfig,
    shop: Workshop,
    results: dict[str, Any],
    formula: str,
) -> None:
    """Write the model card of a finished run beside its student; see `workbench.cards.model_card`.

    Args:
        directory: of the run; says with which versions it was made and what was changed by hand.
        config: of the run.
        shop: with its data and its student.
        results: contents of ``results.json``.
        formula: the loss with its numbers.

    Raises:
        WorkbenchError: if the disk refuses.
    """
    student = shop.student.accelerator.unwrap_model(shop.student.student)
    made = model_card.Made(
        config=config,
        results=results,
        formula=formula,
        trained_on=len(shop.train),
        held_out=len(shop.validation),
        tokenizer=shop.tokenizer,
        positions=models.context(student, 0) or None,
        versions=storage.read_json(directory.config)["versions"],
        machine=_measured_on(next(student.parameters()).device),
        changes=events.effective(events.read(directory.events)),
    )
    storage.write_bytes(directory.student / "README.md", model_card.text(made).encode())


def _measured_on(device: torch.device) -> str:
    """In words, what latency was measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    own = f"{machine.name()}, {torch.get_num_threads()} in use"
    return own if device.type == "cpu" else f"{device.type} of {own}"


def _ready(model, tokenizer) -> Any:
    """Let `pipeline` do the right thing without being told; the tokenizer to save.

    A pipeline would write up to 256 new tokens, beyond the positions of a small model, and at a
    temperature of 0.7.
    """
    # Not every architecture has a table of positions; where there is none, there is no end.
    positions = models.context(model, 0)
    if model.can_generate():
        own = model.generation_config
        own.do_sample, own.temperature, own.top_k = True, 1.0, 0
        if positions:
            own.max_length = positions
    # The same tokenizer may serve a model with more positions.
    ready = copy.deepcopy(tokenizer)
    if positions:
        ready.model_max_length = min(ready.model_max_length, positions)
    return ready
