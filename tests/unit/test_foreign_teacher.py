"""Somebody else's teacher: GPT-2 architecture, byte-pair tokenizer, ProtGPT2's format."""

from __future__ import annotations

import json
import math

import pytest

from workbench import corpora, models, runs
from workbench.progress import Silent
from workbench.recipes import Shape
from workbench.worlds import proteins

TOKENS = 300


@pytest.fixture(scope="module")
def byte_pair_teacher(tmp_path_factory):
    """As nferruz/ProtGPT2 is made: byte-level pairs, one special token, GPT-2 inside."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [corpora.write_sequence(s, "protgpt2") for s in proteins.sample(300, 8)]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=TOKENS,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    place = tmp_path_factory.mktemp("foreign") / "protgpt2-like"
    model = models.build_causal_lm(
        Shape(layers=2, heads=2, width=16, positions=48, vocabulary=len(tokenizer.get_vocab())),
        activation="gelu_new", seed=1,
    )  # fmt: skip
    model.save_pretrained(place)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    ).save_pretrained(place)  # fmt: skip
    return place


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mine.fasta"
    long = "".join(proteins.sample(40, 9))  # some 2,000 residues: many blocks of 48 tokens
    records = [*proteins.sample(60, 10), long]
    path.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(records)))
    return path


def test_distils_with_the_teachers_own_tokenizer_and_format(byte_pair_teacher, fasta, tmp_path):
    results = runs.distill(
        "protgpt2-tiny", tmp_path / "run", progress=Silent(), teacher=str(byte_pair_teacher),
        data=str(fasta), steps=3,
    )  # fmt: skip
    config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    teacher = json.loads((byte_pair_teacher / "config.json").read_text())
    assert config["vocab_size"] == teacher["vocab_size"]
    assert config["n_positions"] == 48
    assert config["sequence_format"] == "protgpt2"
    student_tokens = (tmp_path / "run" / "student" / "tokenizer.json").read_text()
    assert (
        json.loads(student_tokens)["model"]
        == json.loads((byte_pair_teacher / "tokenizer.json").read_text())["model"]
    )
    row = results["student"]
    assert row["perplexity"] != row["perplexity_per_residue"]
    assert results["oracle"]["perplexity"] is None
    assert row["kl_to_teacher"] > 0


def test_text_is_written_as_the_card_says_and_nothing_is_lost(byte_pair_teacher):
    model, tokenizer, _ = models.load_causal_lm(byte_pair_teacher)
    assert corpora.format_of(model.config) == "protgpt2"
    sequence = proteins.sample(1, 3)[0] * 4
    rows = corpora.tokenise([sequence], tokenizer, "protgpt2", 48)
    tokens = [*rows.tokens[0], *(t for r in rows.tokens[1:] for t in r[1:])]
    lines = [sequence[i : i + 60] for i in range(0, len(sequence), 60)]
    assert tokenizer.decode(tokens) == ("<|endoftext|>\n" + "\n".join(lines) + "\n<|endoftext|>")
    assert rows.residues == len(sequence)


def test_perplexity_per_residue_compares_tokenizers(byte_pair_teacher, tiny_teacher):
    """A model that guesses evenly over V tokens scores V per token, V^(tokens/residues) per one."""
    from workbench import metrics

    for place in (byte_pair_teacher, tiny_teacher):
        model, tokenizer, _ = models.load_causal_lm(place)
        for parameter in model.parameters():
            parameter.zero_()
        form = corpora.format_of(model.config)
        rows = corpora.tokenise(proteins.sample(5, 2), tokenizer, form, 48)
        batches = corpora.make_batches(rows, 4, tokenizer.eos_token_id)
        quality = metrics.evaluate(model, batches, rows.residues)
        size = model.config.vocab_size
        assert quality.perplexity == pytest.approx(size, rel=1e-4)
        assert quality.perplexity_per_residue == pytest.approx(
            math.exp(math.log(size) * quality.tokens / rows.residues), rel=1e-4
        )
