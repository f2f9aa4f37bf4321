"""Small teachers of architectures that no recipe names: a Llama and two ESMs, all of proteins.

They are what a reader's own model is to the workbench: a directory that ``transformers`` loads,
with a tokenizer of its own. Nothing here is known to any other module of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench import corpora, export, models
from workbench.classifying import classifiers, labelled_texts
from workbench.classifying.labelled_texts import Example
from workbench.corpora import Batch
from workbench.distiller import Distiller, Schedule
from workbench.hidden_words import texts
from workbench.hidden_words.masking import Masker
from workbench.objective import Objective
from workbench.worlds.proteins import AMINO_ACIDS

WIDTH, HEADS, LAYERS, POSITIONS = 48, 4, 6, 128
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 32, 4e-3, 0.01
#: One batch in so many is held out to judge the teacher by.
HELD_OUT = 10
HELD_OUT_SEED = 13


def llama(
    directory: Path | str, sequences: Sequence[str], *, steps: int, seed: int = 0, **sizes: int
) -> dict[str, float]:
    """Train a small Llama on proteins and save it; its tokens for begin and end are two.

    Args:
        directory: to make.
        sequences: proteins.
        steps: optimiser steps of 32 sequences.
        seed: of weights and order.
        sizes: instead of the configuration's, by its names: ``num_hidden_layers=4``.

    Returns:
        ``{"parameters", "perplexity"}``, the latter on sequences held out.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = decoder_tokenizer()
    config = LlamaConfig(
        **_sizes(sizes), vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
    )  # fmt: skip
    model = _fresh(LlamaForCausalLM, config, seed)
    rows = corpora.tokenise(list(sequences), tokenizer, "plain", config.max_position_embeddings)
    return _train(directory, model, tokenizer, rows, Objective(), steps, seed)


def esm(
    directory: Path | str, sequences: Sequence[str], *, steps: int, seed: int = 0, **sizes: int
) -> dict[str, float]:
    """Train a small ESM to tell hidden residues, with rotary positions as ESM-2, and save it.

    Arguments and result as of `llama`; the perplexity is that of hidden residues.
    """
    from transformers import EsmConfig, EsmForMaskedLM

    tokenizer = encoder_tokenizer(Path(directory))
    config = EsmConfig(
        **_sizes(sizes), vocab_size=len(tokenizer), position_embedding_type="rotary",
        pad_token_id=tokenizer.pad_token_id, mask_token_id=tokenizer.mask_token_id,
        token_dropout=True, initializer_range=0.05,
    )  # fmt: skip
    model = _fresh(EsmForMaskedLM, config, seed)
    rows = texts.tokenise(sequences, tokenizer, config.max_position_embeddings)
    masker = Masker(tokenizer, len(tokenizer))
    objective = Objective(scores="masked")
    return _train(directory, model, tokenizer, rows, objective, steps, seed, masker)


def esm_classifier(
    directory: Path | str, sequences: Sequence[str], classes: Sequence[str], *, steps: int,
    seed: int = 0, **sizes: int,
) -> dict[str, float]:  # fmt: skip
    """Train a small ESM to put proteins into classes, and save it.

    Args:
        directory: to make.
        sequences: proteins.
        classes: the name of each protein's class.
        steps: optimiser steps of 32 sequences.
        seed: of weights and order.
        sizes: as of `llama`.

    Returns:
        ``{"parameters", "accuracy"}``, the latter on sequences held out.
    """
    from transformers import EsmConfig, EsmForSequenceClassification

    tokenizer = encoder_tokenizer(Path(directory))
    names = sorted(set(classes))
    config = EsmConfig(
        **_sizes(sizes), **classifiers.named(names), vocab_size=len(tokenizer),
        position_embedding_type="rotary", pad_token_id=tokenizer.pad_token_id,
        mask_token_id=tokenizer.mask_token_id, initializer_range=0.05,
    )  # fmt: skip
    model = _fresh(EsmForSequenceClassification, config, seed)
    pairs = zip(sequences, classes, strict=True)
    examples = [Example(text, label, line) for line, (text, label) in enumerate(pairs, start=1)]
    rows = labelled_texts.tokenise(
        examples, names, tokenizer, config.max_position_embeddings, "the list"
    )
    distiller, judged = _learn(model, tokenizer, rows, Objective(scores="example"), steps, seed)
    trained = distiller.accelerator.unwrap_model(distiller.student).eval()
    export.save_model(Path(directory), trained, tokenizer)
    return {"parameters": models.parameters(trained), "accuracy": _accuracy(trained, judged)}


def decoder_tokenizer():
    """A token a residue; X for all else; one token that begins a sequence and one that ends it."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<bos>", "<eos>", "X", *AMINO_ACIDS]
    tokenizer = Tokenizer(WordLevel({t: i for i, t in enumerate(tokens)}, "X"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        unk_token="X",
    )  # fmt: skip


def encoder_tokenizer(directory: Path):
    """ESM's own class: a token a residue between ``<cls>`` and ``<eos>``; it knows no ``<sep>``.

    Args:
        directory: where its list of tokens is written.
    """
    from transformers import EsmTokenizer

    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *AMINO_ACIDS, *"XBUZO", "<mask>"]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(tokens), encoding="utf-8")
    return EsmTokenizer(str(vocabulary))


def _sizes(given: dict[str, int]) -> dict[str, Any]:
    """What both configurations call by these names."""
    own = {
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH, "max_position_embeddings": POSITIONS,
    }  # fmt: skip
    return {**own, **given}


def _fresh(family, config, seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family(config).eval()


def _train(
    directory: Path | str, model, tokenizer, rows, objective: Objective, steps: int, seed: int,
    masker: Masker | None = None,
) -> dict[str, float]:  # fmt: skip
    """Train and save a language model; its parameters and held-out perplexity."""
    distiller, judged = _learn(model, tokenizer, rows, objective, steps, seed, masker)
    if masker is not None:
        judged = [masker.hide(batch, seed=HELD_OUT_SEED) for batch in judged]
    quality = distiller.evaluate(judged, None)
    export.save_model(Path(directory), distiller.accelerator.unwrap_model(distiller.student),
                      tokenizer)  # fmt: skip
    return {"parameters": models.parameters(model), "perplexity": quality.perplexity}


def _learn(
    model, tokenizer, rows, objective: Objective, steps: int, seed: int,
    masker: Masker | None = None,
) -> tuple[Distiller, Sequence[Batch]]:  # fmt: skip
    """The distiller with labels alone, as for every teacher here; and the held-out batches."""
    batches = corpora.make_batches(rows, BATCH_SIZE, tokenizer.pad_token_id)
    # From everywhere: neighbours are of similar length, and the first ones short.
    judged = batches[::HELD_OUT]
    learned = [b for i, b in enumerate(batches) if i % HELD_OUT] or judged
    order = corpora.endless_order(len(learned), seed)
    distiller = Distiller(
        model, objective, None, temperature=1.0, alpha=1.0, learning_rate=LEARNING_RATE,
        schedule=Schedule(steps, min(30, steps // 5)), weight_decay=WEIGHT_DECAY,
    )  # fmt: skip
    for step in range(1, steps + 1):
        batch = learned[next(order)]
        if masker is not None:
            batch = masker.mask(batch, seed=seed, draw=step)
        record = distiller.step(batch)
    if steps:
        record.check_finite()
    return distiller, judged


@torch.no_grad()
def _accuracy(model, batches: Sequence[Batch]) -> float:
    """Share of rows whose likeliest class is theirs."""
    right = total = 0
    for batch in batches:
        logits = model(input_ids=batch.input_ids.to(model.device),
                       attention_mask=batch.real().to(model.device)).logits  # fmt: skip
        right += int((logits.argmax(-1).cpu() == batch.labels).sum())
        total += len(batch.labels)
    return right / total
