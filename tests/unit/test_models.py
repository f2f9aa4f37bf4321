"""Models: counted, built from a seed, loaded with care, and proved to be frozen."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch

from workbench import models, recipes
from workbench.errors import WorkbenchError
from workbench.recipes import Shape
from workbench.worlds.proteins import AMINO_ACIDS

PAPER = {
    "protgpt2-tiny": 38_866_432,
    "protgpt2-small": 81_912_576,
    "protgpt2-medium": 203_668_480,
}
PROTGPT2 = 774_030_080


def formula(shape: Shape) -> int:
    """Parameters of a GPT-2 whose head is tied to its embedding."""
    width = shape.width
    embeddings = (shape.vocabulary + shape.positions) * width
    return embeddings + shape.layers * (12 * width**2 + 13 * width) + 2 * width


def build(shape: Shape, seed: int = 0):
    return models.build_causal_lm(shape, activation="gelu_pytorch_tanh", seed=seed)


# ---------------------------------------------------------------------- counting


@pytest.mark.parametrize("name", PAPER)
def test_parameters_of_the_published_models(name):
    paper = recipes.get(name).scale("paper")
    assert models.count_parameters(paper.student) == PAPER[name]
    assert models.count_parameters(paper.teacher) == PROTGPT2


@pytest.mark.parametrize("name", recipes.names("text-generation"))
@pytest.mark.parametrize("scale", ["classroom", "paper"])
def test_parameters_are_the_ones_of_the_formula(name, scale):
    chosen = recipes.get(name).scale(scale)
    for shape in (chosen.teacher, chosen.student):
        assert models.count_parameters(shape, activation=chosen.activation) == formula(shape)


def test_tied_weights_count_once(tiny_shape):
    model = build(tiny_shape)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert models.parameters(model) == formula(tiny_shape) == models.count_parameters(tiny_shape)
    every_entry = sum(t.numel() for t in model.state_dict().values())
    assert every_entry == formula(tiny_shape) + tiny_shape.vocabulary * tiny_shape.width


# ---------------------------------------------------------------------- building


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tiny_shape):
    first = models.fingerprint(build(tiny_shape, seed=1))
    assert models.fingerprint(build(tiny_shape, seed=1)) == first
    torch.manual_seed(99)
    assert models.fingerprint(build(tiny_shape, seed=1)) == first
    assert models.fingerprint(build(tiny_shape, seed=2)) != first


def test_building_leaves_the_global_random_state_alone(tiny_shape):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    build(tiny_shape, seed=1)
    assert torch.random.get_rng_state().equal(before)


def test_a_built_model_has_its_shape_and_no_dropout(tiny_shape):
    model = build(tiny_shape)
    config = model.config
    assert (config.n_layer, config.n_head, config.n_embd) == (2, 2, 16)
    assert (config.n_positions, config.vocab_size) == (128, tiny_shape.vocabulary)
    assert config.activation_function == "gelu_pytorch_tanh"
    assert not model.training
    ids = torch.arange(10)[None]
    with torch.no_grad():
        calm = model(input_ids=ids).logits
        assert model.train()(input_ids=ids).logits.equal(calm)


def test_padding_on_the_right_does_not_change_what_comes_before(tiny_shape):
    model = build(tiny_shape)
    ids = torch.arange(1, 9)[None]
    padded = torch.nn.functional.pad(ids, (0, 5), value=0)
    with torch.no_grad():
        torch.testing.assert_close(
            model(input_ids=padded).logits[:, :8], model(input_ids=ids).logits
        )


# ---------------------------------------------------------------------- loading


@pytest.fixture
def directory(tiny_teacher, tmp_path) -> Path:
    """A good model directory, to be spoilt."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))


def refused(source: str | Path) -> str:
    with pytest.raises(WorkbenchError) as error:
        models.load_causal_lm(source)
    (line,) = str(error.value).splitlines()
    assert str(source) in line
    return line


def test_a_teacher_is_loaded_frozen_in_eval_mode_and_full_precision(tiny_teacher, tiny_shape):
    model, tokenizer, place = models.load_causal_lm(tiny_teacher)
    assert place == str(tiny_teacher)
    assert len(tokenizer) == tiny_shape.vocabulary
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    again, _, _ = models.load_causal_lm(str(tiny_teacher))
    assert models.fingerprint(again) == models.fingerprint(model)
    models.check_frozen(model, build(tiny_shape))


def test_half_precision_weights_are_loaded_as_float32(directory):
    model, _, _ = models.load_causal_lm(directory)
    model.bfloat16().save_pretrained(directory)
    loaded, _, _ = models.load_causal_lm(directory)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_a_built_in_teacher_is_found_by_its_name(directory, monkeypatch):
    monkeypatch.setattr(models, "BUILT_IN_TEACHERS", directory.parent)
    assert models.resolve_model("teacher") == directory
    assert models.load_causal_lm("teacher")[2] == str(directory)


def test_no_weights(directory):
    (directory / "model.safetensors").unlink()
    assert "has no weights; expected model.safetensors" in refused(directory)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_a_pickle_is_refused_and_never_opened(name, directory, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it went off",)

    (directory / "model.safetensors").unlink()
    torch.save({"weight": Bomb()}, directory / name)
    line = refused(directory)
    assert f"as a pickle ({name})" in line
    assert "safetensors" in line
    assert not (tmp_path / "it went off").exists()


def test_a_pickle_is_refused_although_another_file_is_safe(directory):
    model, _, _ = models.load_causal_lm(directory)
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    (directory / "model.safetensors").rename(directory / "something_else.safetensors")
    assert "cannot load the model" in refused(directory)


def test_the_wrong_task(directory):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=21, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(directory)
    line = refused(directory)
    assert "holds BertForSequenceClassification; expected a causal language model" in line


def test_a_configuration_without_architecture(directory):
    config = json.loads((directory / "config.json").read_text())
    del config["architectures"]
    (directory / "config.json").write_text(json.dumps(config))
    assert "a model of unnamed architecture" in refused(directory)


@pytest.mark.parametrize("text", ["{", "[]", "null", '"gpt2"'])
def test_a_damaged_configuration(text, directory):
    (directory / "config.json").write_text(text)
    assert "is not a model configuration" in refused(directory)


@pytest.mark.parametrize("difference", [-1, models.EMBEDDING_PADDING])
def test_a_vocabulary_that_does_not_match(difference, directory, tiny_shape):
    tokens = tiny_shape.vocabulary
    build(Shape(1, 1, 8, 16, tokens + difference)).save_pretrained(directory)
    line = refused(directory)
    assert f"its tokenizer has {tokens} tokens, its model {tokens + difference}" in line


def test_an_embedding_padded_to_a_round_number_is_accepted(directory, tiny_shape):
    build(Shape(1, 1, 8, 16, 128)).save_pretrained(directory)
    model, tokenizer, _ = models.load_causal_lm(directory)
    assert (model.config.vocab_size, len(tokenizer)) == (128, tiny_shape.vocabulary)


def test_no_tokenizer(directory):
    for path in directory.glob("tokenizer*"):
        path.unlink()
    assert "has no tokenizer; expected tokenizer.json" in refused(directory)


def test_a_tokenizer_without_an_end(directory):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    for path in directory.glob("tokenizer*"):
        path.unlink()
    tokenizer.save_pretrained(directory)
    assert "has no end-of-sequence token" in refused(directory)


def test_truncated_weights(directory):
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "cannot load the model" in refused(directory)


def test_missing_weights(directory):
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    line = refused(directory)
    assert "lacks weights for 1 parameters, the first is transformer.h.0.mlp.c_fc.weight" in line


def test_weights_of_another_shape(directory, tiny_shape):
    other = Shape(2, 2, 8, 128, tiny_shape.vocabulary)
    build(other).save_pretrained(directory.parent / "other")
    shutil.copy(directory.parent / "other" / "model.safetensors", directory)
    assert "cannot load the model" in refused(directory)


def test_a_file_and_an_empty_directory(directory, tmp_path):
    assert "is a file; expected a model directory" in refused(directory / "model.safetensors")
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused(tmp_path / "empty")


@pytest.mark.parametrize("source", ["nosuch", "./nosuch", "/no/such", "~/nosuch", "a/b/c"])
def test_a_path_that_does_not_exist(source):
    assert "there is no model directory" in refused(source)


def test_a_hub_id_without_network_says_how_to_work_offline():
    line = refused("nferruz/NoSuchModel")
    assert "from the hub" in line
    assert "hf download nferruz/NoSuchModel" in line
    assert "--teacher DIR" in line


def test_loading_says_nothing_and_leaves_transformers_as_talkative_as_it_was(directory, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    models.load_causal_lm(directory)
    (directory / "model.safetensors").unlink()
    refused(directory)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert "".join(capfd.readouterr()) == ""


# ---------------------------------------------------------------------- looking inside


def test_backbone_and_head_make_the_logits_of_the_model(tiny_teacher):
    model, _, _ = models.load_causal_lm(tiny_teacher)
    backbone, head = models.split_head(model)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        assert head(backbone(input_ids=ids).last_hidden_state).equal(logits)


def test_the_head_of_a_model_that_scales_its_logits_scales_them():
    from transformers import CohereConfig, CohereForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CohereForCausalLM(
            CohereConfig(
                vocab_size=21, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, logit_scale=0.5, pad_token_id=0, bos_token_id=0,
                eos_token_id=0,
            )
        ).eval()  # fmt: skip
    tokens = torch.arange(12).view(2, 6)
    with torch.no_grad():
        backbone, head = models.split_head(model)
        hidden = backbone(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(head(hidden), model(input_ids=tokens).logits)
        assert not torch.allclose(model.lm_head(hidden), model(input_ids=tokens).logits)
    # The head is the model's own, and the model still has its backbone.
    assert model.model is backbone
    head(hidden[0]).sum().backward()
    assert model.lm_head.weight.grad is not None


# ---------------------------------------------------------------------- frozen


@pytest.fixture
def teacher(tiny_teacher):
    return models.load_causal_lm(tiny_teacher)[0]


def test_a_teacher_in_training_mode_is_found(teacher, tiny_shape):
    student = build(tiny_shape)
    models.check_frozen(teacher, student)
    teacher.transformer.h[1].mlp.dropout.train()
    with pytest.raises(WorkbenchError, match="the teacher is in training mode"):
        models.check_frozen(teacher, student)


def test_a_teacher_with_gradients_is_found(teacher, tiny_shape):
    teacher.transformer.ln_f.bias.requires_grad_(True)
    with pytest.raises(WorkbenchError, match="ask for gradients"):
        models.check_frozen(teacher, build(tiny_shape))


def test_shared_storage_is_found(teacher, tiny_shape):
    student = build(tiny_shape)
    student.transformer.ln_f.bias = torch.nn.Parameter(teacher.transformer.ln_f.bias)
    with pytest.raises(WorkbenchError, match=r"share the storage of transformer\.ln_f\.bias"):
        models.check_frozen(teacher, student)


def test_storage_shared_by_a_view_is_found(teacher, tiny_shape):
    student = build(tiny_shape)
    row = teacher.transformer.wte.weight.data[3]
    student.transformer.ln_f.bias = torch.nn.Parameter(row)
    with pytest.raises(WorkbenchError, match="share the storage of"):
        models.check_frozen(teacher, student)


# ---------------------------------------------------------------------- fingerprint


def test_one_bit_changes_the_fingerprint(tiny_shape):
    model = build(tiny_shape)
    before = models.fingerprint(model)
    assert models.fingerprint(copy.deepcopy(model)) == before
    for name, tensor in model.state_dict().items():
        bits = tensor.view(torch.int32).view(-1)
        bits[-1] ^= 1
        assert models.fingerprint(model) != before, name
        bits[-1] ^= 1
    assert models.fingerprint(model) == before


def test_the_sign_of_zero_changes_the_fingerprint(tiny_shape):
    model = build(tiny_shape)
    before = models.fingerprint(model)
    model.transformer.ln_f.bias.data[0] = -0.0
    assert models.fingerprint(model) != before


def test_type_and_names_are_part_of_the_fingerprint():
    zeros = torch.nn.Linear(2, 2)
    torch.nn.init.zeros_(zeros.weight)
    torch.nn.init.zeros_(zeros.bias)
    wrapped = torch.nn.Sequential(copy.deepcopy(zeros))
    integers = copy.deepcopy(zeros)
    integers.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int32), requires_grad=False)
    found = {models.fingerprint(m) for m in (zeros, wrapped, integers)}
    assert len(found) == 3


# ---------------------------------------------------------------------- the built-in tokenizer


@pytest.fixture(params=["fresh", "saved"])
def tokenizer(request, tmp_path):
    fresh = models.residue_tokenizer()
    if request.param == "fresh":
        return fresh
    from transformers import AutoTokenizer

    fresh.save_pretrained(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def test_the_tokenizer_is_one_token_a_residue_and_goes_both_ways(tokenizer):
    ids = tokenizer(AMINO_ACIDS)["input_ids"]
    assert len(ids) == len(set(ids)) == 20
    assert sorted([tokenizer.eos_token_id, *ids]) == list(range(len(tokenizer)))
    assert tokenizer.decode(ids) == AMINO_ACIDS
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == AMINO_ACIDS


def test_the_tokenizer_knows_the_symbols_of_the_oracle_and_no_more(tokenizer):
    from workbench.worlds import proteins

    assert len(tokenizer) == len(proteins.SYMBOLS)
    assert set(tokenizer.get_vocab()) == {models.END_OF_TEXT, *AMINO_ACIDS}


def test_beginning_end_padding_and_unknown_are_the_end_of_text(tokenizer):
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        assert getattr(tokenizer, name) == models.END_OF_TEXT
    text = f"{models.END_OF_TEXT}MKV{models.END_OF_TEXT}"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == ids[-1] == tokenizer.eos_token_id
    assert len(ids) == 5


@pytest.mark.parametrize("letter", ["X", "B", "a", "*", "-", " ", "é"])
def test_any_other_letter_is_one_unknown_token(letter, tokenizer):
    ids = tokenizer(f"M{letter}K")["input_ids"]
    assert len(ids) == 3
    assert ids[1] == tokenizer.unk_token_id
