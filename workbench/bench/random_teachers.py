"""Teachers in the published shapes with random weights: everything but what they have learned.

A run at paper scale can so be tried whole, its memory and its speed measured, without the weights
themselves. Each comes as the directory that `--teacher` takes, with a tokenizer that has the
published number of tokens, made by rule from amino acids or letters.
"""

from __future__ import annotations

import itertools
import string
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import export, models, recipes
from workbench.classifying import classifiers
from workbench.hidden_words import masked_lm
from workbench.recipes.recipe import Shape
from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Letters of proteins beyond the twenty, which TAPE's table of 30 tokens has besides.
OTHER_LETTERS = "XBUZO"


def save(recipe: str, directory: Path, *, seed: int = 0) -> int:
    """Write a recipe's paper-scale teacher with random weights; its number of parameters.

    Args:
        recipe: its name.
        directory: to make or replace; 0.4 to 3.1 GB.
        seed: of the weights.

    Raises:
        WorkbenchError: if the disk refuses.
    """
    task, shape = recipes.get(recipe).task, recipes.get(recipe).scale("paper").teacher
    if task == "text-generation":
        tokenizer = protein_pieces(shape.vocabulary)
        model = models.build_causal_lm(shape, activation="gelu_new", seed=seed)
    elif task == "fill-mask":
        tokenizer = word_pieces(shape.vocabulary)
        model = masked_lm.build(shape, activation="gelu", seed=seed)
    else:
        tokenizer = classifiers.residue_tokenizer()
        tokenizer.add_tokens(list(OTHER_LETTERS))
        model = classifiers.build(shape, activation="gelu", seed=seed)
    check_tokens(tokenizer, shape)
    export.save_model(directory, model, tokenizer)
    return models.parameters(model)


def check_tokens(tokenizer: PreTrainedTokenizerBase, shape: Shape) -> None:
    """Raise ValueError unless a tokenizer has a token for each row of a model's table."""
    if len(tokenizer) != shape.vocabulary:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, not {shape.vocabulary}")


def protein_pieces(size: int) -> PreTrainedTokenizerBase:
    """A byte-pair tokenizer as ProtGPT2's, some four residues a token.

    Its pieces are the end-of-text token, the 256 bytes, and pairs, triples and quadruples of amino
    acids in alphabetical order until there are ``size``.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    letters = sorted(AMINO_ACIDS)
    pieces = [models.END_OF_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    longer = letters
    while len(pieces) + len(longer) * len(letters) <= size:
        pairs = [(start, end) for start in longer for end in letters]
        merges += pairs
        longer = [start + end for start, end in pairs]
        pieces += longer
    rest = itertools.islice(((s, e) for s in longer for e in letters), size - len(pieces))
    for start, end in rest:
        merges.append((start, end))
        pieces.append(start + end)
    tokenizer = Tokenizer(BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end_of_text = models.END_OF_TEXT
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end_of_text, eos_token=end_of_text,
        unk_token=end_of_text,
    )  # fmt: skip


def word_pieces(size: int) -> PreTrainedTokenizerBase:
    """A tokenizer of word pieces as BERT's: characters, then pieces of two and three letters."""
    characters = list(string.ascii_letters + string.digits + string.punctuation)
    pieces = [*classifiers.SPECIAL, *characters, *(f"##{c}" for c in characters)]
    for length in (2, 3):
        words = ["".join(w) for w in itertools.product(string.ascii_lowercase, repeat=length)]
        pieces += [*words, *(f"##{word}" for word in words)]
    return masked_lm.tokenizer_of({piece: i for i, piece in enumerate(pieces[:size])})
