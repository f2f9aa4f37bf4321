"""What the unit tests share: no network, no trace outside a temporary folder, a tiny teacher."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# The same examples every time: what failed once fails again.
settings.register_profile("unit", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("unit")

# The hub client, `datasets` and torch read these once, when they are first imported.
_home = tempfile.mkdtemp(prefix="workbench-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = os.path.join(_home, "datasets")
# One thread, here and in subprocesses: tiny tensors gain nothing from two, and lose a factor
# of five where the other core is busy. Equal numbers of threads also give equal bytes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Teacher caches go to a temporary folder, in subprocesses as well."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("cache")
        patch.setenv("WORKBENCH_CACHE", str(directory))
        yield directory


@pytest.fixture(scope="session")
def tiny_shape():
    """Shape of `tiny_teacher`: one token a residue, two layers, width 16."""
    from workbench import models
    from workbench.recipes import Shape

    return Shape(
        layers=2, heads=2, width=16, positions=128, vocabulary=len(models.residue_tokenizer())
    )


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory, tiny_shape):
    """Directory of a small, untrained GPT-2 with the residue tokenizer, as `teach` saves one.

    Its embedding is enlarged so that it has opinions: fresh weights answer nearly uniformly.
    """
    from workbench import export, models

    directory = tmp_path_factory.mktemp("teachers") / "tiny"
    model = models.build_causal_lm(tiny_shape, activation="gelu_pytorch_tanh", seed=42)
    model.get_input_embeddings().weight.data.mul_(6)
    model.config.sequence_format = "plain"
    export.save_model(directory, model, models.residue_tokenizer())
    return directory


@pytest.fixture(scope="session")
def byte_pairs():
    """A byte-pair tokenizer as ProtGPT2's: several residues a token, line breaks among them."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    from workbench import corpora, models
    from workbench.worlds import proteins

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[models.END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [corpora.write_sequence(s, "protgpt2") for s in proteins.sample(100, seed=0)]
    tokenizer.train_from_iterator(texts, trainer)
    end = models.END_OF_TEXT
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )
