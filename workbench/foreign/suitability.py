"""Whether a model can be a teacher here, from its configuration and tokenizer alone.

Weights are the heavy part of a model. What cannot work is refused before any of them is read:
another task, another vocabulary, code of its own, more layers asked for than there are. Shapes are
tried on models without memory (PyTorch's meta device), so that no list of architectures is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench import inner, layer_maps, models
from workbench.classifying import classifiers, labelled_texts, text_classifiers
from workbench.errors import UsageError, WorkbenchError
from workbench.hidden_words import masked_lm
from workbench.records import hub

if TYPE_CHECKING:
    from workbench.config import RunConfig
    from workbench.models import Kind


@dataclass(frozen=True)
class Facts:
    """What is known of a model before its weights are read.

    Attributes:
        source: what was given.
        config: of ``transformers``.
        tokenizer: the model's own.
    """

    source: str
    config: Any
    tokenizer: Any


def examine(place: Path | str, kind: Kind) -> Facts:
    """Read configuration and tokenizer of a model, and refuse what is not of a kind.

    Args:
        place: of `models.resolve_model`.
        kind: what is expected.

    Raises:
        WorkbenchError: one line that says what is there, what was expected and what to do.
    """
    if isinstance(place, Path):
        values = models.stated(place)
        _check_code(values, str(place))
        _check_single(values, kind, str(place))
        models.check_directory(place, kind)
    else:
        at = hub.locate(place)
        if at.reached:
            hub.weights_revision(at)
    config, tokenizer = models.load_facts(place)
    _check_single(config.to_dict(), kind, str(place))
    _check_kind(config, kind, str(place))
    check_tokenizer(config, tokenizer, kind, str(place))
    return Facts(str(place), config, tokenizer)


def check_tokenizer(config, tokenizer, kind: Kind, source: str) -> None:
    """Raise WorkbenchError unless a tokenizer belongs to a model and has the tokens of its kind."""
    check_vocabulary(config.vocab_size, tokenizer, source)
    if kind is models.CAUSAL:
        models.check_end(tokenizer, source)
    elif kind is models.MASKED:
        masked_lm.check_tokens(tokenizer, source)


def check_vocabulary(rows: int, tokenizer, source: str) -> None:
    """Raise WorkbenchError unless a tokenizer belongs to a model with so many rows of embedding."""
    tokens = len(tokenizer)
    # A fiftieth: large vocabularies are padded by more (Phi's 50,295 tokens to 51,200 rows).
    padding = max(models.EMBEDDING_PADDING, rows // 50)
    if tokens > rows or rows - tokens >= padding:
        raise WorkbenchError(
            f"the vocabulary of {source} does not match: its tokenizer has {tokens} tokens, its "
            f"model {rows}; give the tokenizer that the model was trained with"
        )


def check_same_vocabulary(student: Facts, teacher: Facts) -> None:
    """Raise WorkbenchError unless two models read and tell the same tokens."""
    own, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if own != theirs:
        shared = len(own.items() & theirs.items())
        raise WorkbenchError(
            f"{student.source} and {teacher.source} have different vocabularies ({len(own)} and "
            f"{len(theirs)} tokens, {shared} of them the same with the same number), so that their "
            "answers cannot be compared; expected a student made from that teacher, or leave "
            "--teacher away"
        )


def check_run(config: RunConfig) -> None:
    """Refuse a run whose student cannot be made from its teacher; no weights are read.

    Args:
        config: of the run. A built-in teacher suits by construction, and is not looked at.

    Raises:
        UsageError: if a layer map asks for layers that the teacher has not, or texts and classes
            come with the built-in teacher.
        WorkbenchError: if the teacher is not of the recipe's task, or widths, heads or layers
            cannot be copied or compared as the recipe asks.
    """
    from workbench import recipes, tasks, workshop

    task, recipe = tasks.of_run(config), recipes.get(config.recipe)
    place = models.resolve_model(config.teacher)
    built_in = isinstance(place, Path) and place.parent == models.BUILT_IN_TEACHERS
    check_own_teacher(config, built_in=built_in)
    if built_in:
        return
    facts = examine(place, task.kind)
    if config.label is not None:
        check_texts(config, facts)
    elif task.kind is models.CLASSIFIER:
        classifiers.check_answers(facts.config, facts.tokenizer, facts.source)
    layer_map = layer_maps.parse(config.start, facts.config.num_hidden_layers)
    with torch.device("meta"):
        teacher = _empty(facts, task.kind)
        shape = workshop.student_shape(config, teacher, len(facts.tokenizer), layer_map)
        if layer_map is None:
            student = task.build(shape, recipe.scale(config.scale), seed=0,
                                 tokenizer=facts.tokenizer, like=teacher)  # fmt: skip
        else:
            student = models.build_like(teacher, shape.layers, seed=0, layer_map=layer_map)
            models.initialise(
                student, teacher, layer_map if layer_maps.copies(config.init) else None
            )
        objective = workshop.matched(recipe.variant(config.variant).objective, config.match)
        objective.check_widths(shape.width, teacher.config.hidden_size)
        if objective.looks_inside:
            inner.Matcher(objective, student.config, teacher.config)


def check_texts(config: RunConfig, facts: Facts) -> None:
    """Refuse a table of texts and a teacher that do not fit each other; no weights are read.

    Args:
        config: of the run, with a label.
        facts: of its teacher.

    Raises:
        UsageError: if what is given is no table.
        WorkbenchError: if the table cannot be learned from, or the teacher cannot classify texts,
            cannot be taken apart, or does not know a class of the table.
    """
    from workbench import tasks

    corpus = tasks.of_run(config).load_corpus(config)
    text_classifiers.check(facts.config, facts.tokenizer, facts.source)
    names = text_classifiers.classes(facts.config)
    labelled_texts.class_numbers([*corpus.train, *corpus.validation], names, corpus.source)
    text_classifiers.check_parts(facts.config, facts.source)


def check_own_teacher(config: RunConfig, *, built_in: bool) -> None:
    """Raise UsageError if texts are to be learned from a teacher of the course."""
    if config.label is not None and built_in:
        raise UsageError(
            f"the built-in teacher {config.teacher} knows peptides and HLA only; give a "
            f"classifier that knows the classes of {config.data} with --teacher DIR"
        )


def _empty(facts: Facts, kind: Kind):
    """The model that a configuration describes, without numbers in it."""
    import transformers

    try:
        with models.quiet_transformers():
            return getattr(transformers, kind.auto_class).from_config(facts.config)
    except Exception as error:
        # Whatever a family's own code raises is about the configuration that was given.
        raise WorkbenchError(
            f"{facts.source}: no model can be made of its config.json "
            f"({' '.join(str(error).split())}); expected a complete configuration"
        ) from error


def _check_code(values: dict[str, Any], source: str) -> None:
    """Raise WorkbenchError if only code that comes with the model could load it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if values.get("auto_map") and values.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise WorkbenchError(
            f"{source} brings code of its own (auto_map: {', '.join(values['auto_map'])}), which "
            "is never run here; expected an architecture that transformers knows"
        )


def _check_single(values: dict[str, Any], kind: Kind, source: str) -> None:
    """Raise WorkbenchError if a model is an encoder and a decoder."""
    if values.get("is_encoder_decoder"):
        found = " ".join(values.get("architectures") or [f"a {values.get('model_type')} model"])
        raise WorkbenchError(
            f"{source} holds {found}, a sequence-to-sequence model: an encoder and a decoder, of "
            f"which recipes here know one at a time; expected {kind.name}"
        )


def _check_kind(config, kind: Kind, source: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    found = " ".join(config.architectures or ()) or f"a {config.model_type} model"
    if kind.endings and not any(a.endswith(kind.endings) for a in config.architectures or ()):
        raise WorkbenchError(models.wrong_kind(source, found, kind))
    may_read_both_ways = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if kind is models.CAUSAL and may_read_both_ways and not getattr(config, "is_decoder", True):
        raise WorkbenchError(
            f"{source} holds {found} that reads in both directions (is_decoder is false), so that "
            "it sees what it is to tell; expected a causal language model"
        )
    if getattr(config, "num_hidden_layers", None) is None or not hasattr(config, "vocab_size"):
        raise WorkbenchError(
            f"{source} holds {found}, whose configuration names no layers or no vocabulary; "
            f"expected {kind.name} that reads text"
        )
