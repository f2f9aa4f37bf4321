"""Small models of architectures that no recipe names, with tokenizers of their own, untrained."""

from __future__ import annotations

from pathlib import Path

import torch

#: Of every small model here.
WIDTH, HEADS, LAYERS, POSITIONS = 16, 2, 4, 96


def sizes(**more):
    """What nearly all configurations call by these names."""
    return {
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH, "max_position_embeddings": POSITIONS, **more,
    }  # fmt: skip


def residue_decoder_tokenizer():
    """One token a residue; a token that begins and another that ends a sequence."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from workbench.worlds.proteins import AMINO_ACIDS

    tokens = ["<pad>", "<bos>", "<eos>", "X", *AMINO_ACIDS]
    tokenizer = Tokenizer(WordLevel({t: i for i, t in enumerate(tokens)}, "X"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        unk_token="X",
    )  # fmt: skip


def esm_tokenizer(directory: Path):
    """ESM's own class: a token a residue between <cls> and <eos>, no <sep>; in Python, not fast."""
    from transformers import EsmTokenizer

    tokens = [
        "<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", ".", "-", "<null_1>",
        "<mask>",
    ]  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(tokens))
    return EsmTokenizer(str(vocabulary))


def save(directory: Path, config, tokenizer, auto_class: str, seed: int = 0) -> Path:
    """A fresh model of a configuration with opinions (fresh weights answer nearly uniformly)."""
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, auto_class).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
