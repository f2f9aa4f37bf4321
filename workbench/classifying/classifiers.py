"""Classifiers of residues: BERT encoders with a head that sorts whole sequences into classes.

Input as in the source of DistilBERT-pMHC: the residues of one text after the other, a token a
residue, between ``[CLS]`` and ``[SEP]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from workbench import models
from workbench.errors import WorkbenchError
from workbench.recipes.recipe import Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Names of the two classes, as the saved model's configuration and `pipeline` give them.
CLASSES = ("non-binder", "binder")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Width of the inner layer of a BERT, in widths of the outer one.
EXPANSION = 4


def config(
    shape: Shape,
    *,
    activation: str = "gelu",
    initial_spread: float = 0.02,
    classes: Sequence[str] = CLASSES,
):
    """A BERT configuration of that shape without dropout.

    Args:
        shape: layers, heads, width, positions, vocabulary.
        activation: as transformers names it.
        initial_spread: standard deviation of fresh weights.
        classes: their names, in order.
    """
    from transformers import BertConfig

    return BertConfig(
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.positions,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=EXPANSION * shape.width,
        hidden_act=activation,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        type_vocab_size=1,
        initializer_range=initial_spread,
        **named(classes),
    )


def named(classes: Sequence[str] = CLASSES) -> dict[str, dict]:
    """What a configuration says of its classes: ``id2label`` and ``label2id``."""
    return {
        "id2label": dict(enumerate(classes)),
        "label2id": {name: i for i, name in enumerate(classes)},
    }


def build(
    shape: Shape,
    *,
    activation: str,
    seed: int,
    initial_spread: float = 0.02,
    classes: Sequence[str] = CLASSES,
):
    """A freshly initialised classifier; the same seed gives the same weights.

    The process-wide random state is left as it was.
    """
    from transformers import BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(
            config(shape, activation=activation, initial_spread=initial_spread, classes=classes)
        )
    return model.eval()


def count_parameters(shape: Shape, *, activation: str = "gelu") -> int:
    """Parameters of a classifier of that shape; nothing is allocated."""
    from transformers import BertForSequenceClassification

    with torch.device("meta"):
        return models.parameters(BertForSequenceClassification(config(shape)))


def load(source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Load a classifier with two classes and its tokenizer, from safetensors only.

    Args:
        source: name of a built-in teacher, a directory, or an id on the Hugging Face hub.

    Returns:
        Model (float32, eval mode, gradients off), tokenizer, and where they came from.

    Raises:
        WorkbenchError: as `models.load_causal_lm`; and if it has other than two classes, or its
            tokenizer does not give a residue a token.
    """
    from workbench.foreign import suitability

    place = models.resolve_model(source)
    facts = suitability.examine(place, models.CLASSIFIER)
    check_answers(facts.config, facts.tokenizer, str(source))
    model, tokenizer = models.load_pretrained(place, models.CLASSIFIER)
    check_fit(model, tokenizer, str(source))
    _name_classes(model)
    model.eval().requires_grad_(False)
    return model, tokenizer, str(place)


def load_base(source: str | Path, *, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A protein encoder with a head of two classes on it, to be trained.

    The head is fresh where the model has none; a classifier with two classes keeps its own.

    Args:
        source: a built-in teacher, or directory or hub id of an encoder, such as
            ``Rostlab/prot_bert``.
        seed: of a fresh head's weights.

    Raises:
        WorkbenchError: as `load`.
    """
    place = models.resolve_model(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer = models.load_pretrained(place, models.ENCODER)
    check_fit(model, tokenizer, str(source))
    _name_classes(model)
    return model, tokenizer


def _name_classes(model) -> None:
    """Call the two classes by their names, which a model of elsewhere calls LABEL_0 and LABEL_1."""
    for key, names in named().items():
        setattr(model.config, key, names)


def check_fit(model, tokenizer, source: str) -> None:
    """Raise WorkbenchError unless model and tokenizer fit each other and the task."""
    check_answers(model.config, tokenizer, source)
    rows, tokens = model.get_input_embeddings().num_embeddings, len(tokenizer)
    if tokens > rows:
        raise WorkbenchError(
            f"the vocabulary of {source} does not match: its tokenizer has {tokens} tokens, its "
            f"model {rows}; give the tokenizer that the model was trained with"
        )


def check_answers(config, tokenizer, source: str) -> None:
    """The same of a configuration and a tokenizer, before there is a model."""
    if config.num_labels != len(CLASSES):
        raise WorkbenchError(
            f"{source} sorts into {config.num_labels} classes; expected two, "
            f"{CLASSES[0]} and {CLASSES[1]}"
        )
    found = tokenizer(write("ACD"))["input_ids"]
    residues = tokenizer.convert_tokens_to_ids(list("ACD"))
    if len(found) != 5 or found[1:-1] != residues or tokenizer.pad_token_id is None:
        raise WorkbenchError(
            f"the tokenizer of {source} makes {' '.join(tokenizer.convert_ids_to_tokens(found))} "
            "of 'A C D'; expected the three residues between a first and a last token, and a "
            "token for padding"
        )


def write(residues: str) -> str:
    """Residues as protein BERTs want them: with a space between any two."""
    return " ".join(residues)


def residue_tokenizer() -> PreTrainedTokenizerBase:
    """One token a residue between ``[CLS]`` and ``[SEP]``; another letter becomes ``[UNK]``."""
    from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from workbench.worlds.proteins import AMINO_ACIDS

    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *AMINO_ACIDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
