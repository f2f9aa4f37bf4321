"""Classifiers of single texts, of any architecture: what they must have, how they are loaded."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench import models
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Tokens that a model on trial knows: enough for any marks, few enough to be made at once.
_TRIAL_TOKENS = 64
#: By how much a fresh model's matrices are multiplied: as they are, it answers nearly evenly.
_LOUDER = 4.0


def classes(config) -> tuple[str, ...]:
    """Names of a classifier's classes, in its order: ``id2label`` of its configuration."""
    return tuple(str(config.id2label[number]) for number in range(config.num_labels))


def load(source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Load a classifier of texts and its tokenizer, from safetensors only.

    Args:
        source: name of a built-in teacher, a directory, or an id on the Hugging Face hub.

    Returns:
        Model (float32, eval mode, gradients off), tokenizer, and where they came from.

    Raises:
        WorkbenchError: as `models.load_causal_lm` and `check`.
    """
    from workbench.foreign import suitability

    place = models.resolve_model(source)
    facts = suitability.examine(place, models.CLASSIFIER)
    check(facts.config, facts.tokenizer, str(source))
    model, tokenizer = models.load_pretrained(place, models.CLASSIFIER)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.eval().requires_grad_(False)
    return model, tokenizer, str(place)


def check(config, tokenizer, source: str) -> None:
    """Refuse what cannot teach classes of single texts, from configuration and tokenizer alone.

    Raises:
        WorkbenchError: if it has fewer than two classes or two of one name, gives several at once,
            or its tokenizer cannot fill rows up or numbers the parts of a text.
    """
    if config.num_labels < 2:
        raise WorkbenchError(
            f"{source} tells a number, as in a regression (num_labels is {config.num_labels}); "
            "expected a classifier with two classes at least"
        )
    problem = getattr(config, "problem_type", None)
    if problem not in (None, "single_label_classification"):
        raise WorkbenchError(
            f"{source} was trained for {problem}; expected a classifier that puts each text into "
            "one class (single_label_classification)"
        )
    names = classes(config)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WorkbenchError(
            f"{source} calls several classes {twice[0]!r} (id2label in its config.json); expected "
            "a name for each"
        )
    if tokenizer.pad_token_id is None:
        raise WorkbenchError(
            f"the tokenizer of {source} has no token for padding; set one (pad_token of the "
            "tokenizer, and pad_token_id of the model's configuration) and save both again"
        )
    if config.pad_token_id not in (None, tokenizer.pad_token_id):
        raise WorkbenchError(
            f"the padding of {source} does not match: its tokenizer fills rows up with token "
            f"{tokenizer.pad_token_id}, its configuration names {config.pad_token_id}; give the "
            "tokenizer that the model was trained with"
        )
    if any(tokenizer("A").get("token_type_ids", ())):
        raise WorkbenchError(
            f"the tokenizer of {source} numbers the parts of a single text (token_type_ids), as "
            "XLNet's does, which is not read here; expected one that numbers all of it 0"
        )


def check_parts(config, source: str) -> None:
    """Refuse an architecture that cannot be taken apart into layers and a head.

    Tried on a model like it with one layer, few tokens and fresh numbers; no weights are read.

    Args:
        config: of the model, whose tokenizer has a token for padding.
        source: for the message.

    Raises:
        WorkbenchError: naming the architecture and the reason.
    """
    models.split_head(_trial(config, source))


def _trial(config, source: str) -> Any:
    import transformers

    try:
        small = models.other_depth(config, (0,))
    except WorkbenchError:
        # Layers in blocks, say. Whether a student can be made of them is another question.
        small = copy.deepcopy(config)
    small.vocab_size = min(config.vocab_size, _TRIAL_TOKENS)
    # Of the tokens that there are; which one it is does not matter.
    if config.pad_token_id is None or config.pad_token_id >= small.vocab_size:
        small.pad_token_id = 0
    for name in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        # One, none, or several.
        if np.max(getattr(small, name, None) or 0) >= small.vocab_size:
            setattr(small, name, 1)
    try:
        with models.quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            auto = getattr(transformers, models.CLASSIFIER.auto_class)
            model = auto.from_config(small, dtype=torch.float32).eval().requires_grad_(False)
    except Exception as error:
        # Whatever a family's own code raises is about the configuration that was given.
        raise WorkbenchError(
            f"{source}: no model can be made of its config.json "
            f"({' '.join(str(error).split())}); expected a complete configuration"
        ) from error
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.mul_(_LOUDER)
    return model
