"""Masked language models: BERT with the head that tells a hidden word."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from workbench import models
from workbench.classifying.classifiers import EXPANSION, SPECIAL
from workbench.errors import WorkbenchError
from workbench.hidden_words.masking import CONTINUATION
from workbench.recipes.recipe import Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Letters that real abstracts have besides those of a keyboard.
GREEK = "αβγδεκλμσω±°"
#: Sentence types that a BERT knows; a row here is always of the first.
SENTENCE_TYPES = 2


def config(shape: Shape, *, activation: str, initial_spread: float = 0.02, pad: int = 0):
    """A BERT configuration of that shape without dropout.

    Args:
        shape: layers, heads, width, positions, vocabulary, inner width.
        activation: as transformers names it.
        initial_spread: standard deviation of fresh weights.
        pad: id of the token that fills rows up.
    """
    from transformers import BertConfig

    return BertConfig(
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.positions,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward or EXPANSION * shape.width,
        hidden_act=activation,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        type_vocab_size=SENTENCE_TYPES,
        initializer_range=initial_spread,
        pad_token_id=pad,
    )


def build(
    shape: Shape, *, activation: str, seed: int, initial_spread: float = 0.02, pad: int = 0
) -> PreTrainedModel:
    """A freshly initialised BERT with its head; the same seed gives the same weights.

    The process-wide random state is left as it was.
    """
    from transformers import BertForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForMaskedLM(
            config(shape, activation=activation, initial_spread=initial_spread, pad=pad)
        )
    return model.eval()


def count_parameters(shape: Shape, *, activation: str = "gelu") -> int:
    """Parameters of a BERT with its head of that shape, tied weights once; none is allocated."""
    from transformers import BertForMaskedLM

    with torch.device("meta"):
        return models.parameters(BertForMaskedLM(config(shape, activation=activation)))


def load(source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Load a masked language model and its tokenizer, from safetensors only.

    Args:
        source: name of a built-in teacher, a directory, or an id on the Hugging Face hub.

    Returns:
        Model (float32, eval mode, gradients off), tokenizer, and where they came from.

    Raises:
        WorkbenchError: as `models.load_causal_lm`; and if the tokenizer has no ``[MASK]``.
    """
    place = models.resolve_model(source)
    model, tokenizer = models.load_pretrained(place, models.MASKED)
    model.eval().requires_grad_(False)
    return model, tokenizer, str(place)


def check_tokens(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raise WorkbenchError unless a tokenizer can hide a token and fill up a row."""
    lacking = [name for name in ("mask", "pad") if getattr(tokenizer, f"{name}_token_id") is None]
    if lacking:
        raise WorkbenchError(
            f"the tokenizer of {source} has no token for {', '.join(lacking)}; expected [MASK], "
            "[PAD], [CLS] and [SEP], or others named in tokenizer_config.json"
        )


def word_pieces(texts: Sequence[str], *, size: int) -> PreTrainedTokenizerBase:
    """A cased tokenizer of word pieces, trained on some texts.

    Pieces are joined until there are ``size`` of them or every word of the texts is one. All
    characters of a keyboard and some Greek letters are pieces of their own, so that hardly
    anything in a text of biomedicine is unknown.

    Args:
        texts: to learn from.
        size: most pieces.
    """
    from tokenizers.models import WordPiece
    from tokenizers.trainers import WordPieceTrainer

    letters = string.ascii_letters + string.digits + string.punctuation + GREEK
    seen = sorted({letter for text in texts for letter in text if not letter.isspace()})
    # The trainer numbers pieces that continue a word as a hash map gives them out, another way
    # each time, and breaks ties by number. Named beforehand, their numbers are always the same.
    continued = [f"{CONTINUATION}{letter}" for letter in dict.fromkeys([*letters, *seen])]
    tokenizer = _bare(WordPiece(unk_token="[UNK]"))
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=0,
        special_tokens=[*SPECIAL, *continued],
        initial_alphabet=list(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Made anew, so that only special tokens are special.
    return tokenizer_of(tokenizer.get_vocab())


def tokenizer_of(pieces: dict[str, int]) -> PreTrainedTokenizerBase:
    """A cased tokenizer of word pieces with their numbers; the first ones are `SPECIAL`."""
    from tokenizers import processors
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    tokenizer = _bare(WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _bare(model):
    """A tokenizer around a model of pieces that reads and writes text as BERT does, cased."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
