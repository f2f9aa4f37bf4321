"""What cannot be distilled is refused in one line, before a weight is read.

The weights of every model here are no weights but a text: whoever opened the file would fail, in
other words. One file is 20 GB long (and holds nothing): whoever read it would run out of memory.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench import cli, models, runs
from workbench.config import RunConfig
from workbench.errors import UsageError, WorkbenchError
from workbench.foreign import suitability
from workbench.progress import Silent
from workbench.teaching import strangers
from workbench.worlds import proteins

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 6,
         "num_attention_heads": 2, "max_position_embeddings": 96}  # fmt: skip


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "mine.fasta"
    path.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(proteins.sample(30, 3))))
    return path


def described(place: Path, config, tokenizer, architecture: str, **more) -> Path:
    """A model directory with everything but weights."""
    config.architectures = [architecture]
    config.save_pretrained(place)
    tokenizer.save_pretrained(place)
    if more:
        path = place / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    (place / "model.safetensors").write_text("no weights")
    return place


def llama(place: Path, **sizes) -> Path:
    from transformers import LlamaConfig

    tokenizer = strangers.decoder_tokenizer()
    config = LlamaConfig(**{**SMALL, "vocab_size": len(tokenizer), **sizes})
    return described(place, config, tokenizer, "LlamaForCausalLM")


def esm(place: Path, **sizes) -> Path:
    from transformers import EsmConfig

    tokenizer = strangers.encoder_tokenizer(place)
    config = EsmConfig(**{**SMALL, "vocab_size": len(tokenizer), "pad_token_id": 1, **sizes})
    return described(place, config, tokenizer, "EsmForMaskedLM")


def refused(teacher: Path, data: Path, recipe: str = "protgpt2-tiny", **options) -> str:
    with pytest.raises(WorkbenchError) as error:
        runs.distill(recipe, data.parent / "run", progress=Silent(), teacher=str(teacher),
                     data=str(data), steps=1, **options)  # fmt: skip
    assert not (data.parent / "run").exists()
    message = str(error.value)
    assert "\n" not in message and "safetensors" not in message
    return message


def test_only_when_all_suits_the_weights_are_opened(tmp_path, fasta):
    teacher = str(llama(tmp_path / "llama"))
    with pytest.raises(WorkbenchError, match="cannot load the model"):
        runs.distill("protgpt2-tiny", tmp_path / "run", progress=Silent(), teacher=teacher,
                     data=str(fasta), init="2i")  # fmt: skip


@pytest.mark.parametrize(
    ("init", "said"),
    [
        ("first:12", "first:12 asks for 12 layers; of a teacher with 6, first can give 1 to 6"),
        ("2i:4", "2i can give 1 to 3"),
        ("0,2,6", "asks for layer 6 (student layer 2); the teacher has 6, numbered 0 to 5"),
        ("distilbert", "the map distilbert is 6 of 12 layers"),
    ],
)
def test_layers_that_the_teacher_has_not(tmp_path, fasta, init, said):
    teacher = llama(tmp_path / "llama")
    with open(teacher / "model.safetensors", "wb") as file:
        file.truncate(20 * 10**9)
    assert said in refused(teacher, fasta, init=init)
    with pytest.raises(UsageError):
        suitability.check_run(RunConfig.from_recipe(
            "protgpt2-tiny", teacher=str(teacher), init=init))  # fmt: skip


def test_more_layers_by_size_and_maps_of_terms_that_do_not_fit(tmp_path, fasta):
    teacher = esm(tmp_path / "esm")
    assert "can give 1 to 6" in refused(teacher, fasta, "distilbiobert", init="first", size=8)
    said = refused(teacher, fasta, "compactbiobert", init="2i", match="0,2,9")
    assert "asks for layer 9" in said
    said = refused(teacher, fasta, "tinybiobert", init="random", size="8x16")
    assert "uniform:8 asks for 8 layers; of a teacher with 6" in said
    said = refused(teacher, fasta, "distilbiobert", init="random")
    assert "96 wide and the teacher's 16" in said


def test_another_vocabulary(tmp_path, fasta):
    message = refused(llama(tmp_path / "llama", vocab_size=500), fasta)
    assert "its tokenizer has 24 tokens, its model 500" in message
    message = refused(llama(tmp_path / "small", vocab_size=20), fasta)
    assert "its tokenizer has 24 tokens, its model 20" in message


def test_a_large_vocabulary_may_be_padded_by_a_fiftieth():
    class Tokenizer:
        def __len__(self):
            return 50_295

    suitability.check_vocabulary(51_200, Tokenizer(), "phi")
    with pytest.raises(WorkbenchError):
        suitability.check_vocabulary(52_000, Tokenizer(), "another")


def test_sequence_to_sequence(tmp_path, fasta):
    from transformers import BartConfig, T5Config

    tokenizer = strangers.decoder_tokenizer()
    t5 = T5Config(vocab_size=24, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    for architecture in ("T5ForConditionalGeneration", "T5ForSequenceClassification"):
        place = described(tmp_path / architecture, t5, tokenizer, architecture)
        recipe = "distilbert-pmhc" if "Sequence" in architecture else "protgpt2-tiny"
        assert f"{architecture}, a sequence-to-sequence model" in refused(place, fasta, recipe)
    bart = BartConfig(vocab_size=24, d_model=16, encoder_layers=2, decoder_layers=2,
                      encoder_attention_heads=2, decoder_attention_heads=2)  # fmt: skip
    said = refused(
        described(tmp_path / "bart", bart, tokenizer, "BartForConditionalGeneration"), fasta
    )
    assert "a sequence-to-sequence model" in said


def test_another_task_an_image_model_and_a_reader_of_both_directions(tmp_path, fasta):
    from transformers import BertConfig, ViTConfig

    said = refused(esm(tmp_path / "esm"), fasta)
    assert "EsmForMaskedLM; expected a causal language model" in said
    said = refused(llama(tmp_path / "llama"), fasta, "distilbiobert")
    assert "LlamaForCausalLM; expected a masked language model" in said
    tokenizer = strangers.decoder_tokenizer()
    vit = described(tmp_path / "vit", ViTConfig(hidden_size=16), tokenizer,
                    "ViTForImageClassification")  # fmt: skip
    assert "ViTForImageClassification; expected" in refused(vit, fasta, "distilbert-pmhc")
    bert = described(tmp_path / "bert", BertConfig(**SMALL, vocab_size=24), tokenizer,
                     "BertLMHeadModel")  # fmt: skip
    assert "reads in both directions" in refused(bert, fasta)


def test_a_classifier_with_other_classes(tmp_path, fasta):
    from transformers import EsmConfig

    tokenizer = strangers.encoder_tokenizer(tmp_path / "esm")
    config = EsmConfig(**SMALL, vocab_size=len(tokenizer), pad_token_id=1, num_labels=5)
    place = described(tmp_path / "esm", config, tokenizer, "EsmForSequenceClassification")
    assert "sorts into 5 classes; expected two" in refused(place, fasta, "distilbert-pmhc")


def test_pickles_and_code_of_its_own(tmp_path, fasta):
    teacher = llama(tmp_path / "pickle")
    (teacher / "model.safetensors").rename(teacher / "pytorch_model.bin")
    with pytest.raises(WorkbenchError, match="holds its weights as a pickle"):
        runs.distill("protgpt2-tiny", tmp_path / "run", progress=Silent(), teacher=str(teacher),
                     data=str(fasta))  # fmt: skip
    own = llama(tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}
    (own / "config.json").write_text(json.dumps(config))
    (own / "modeling_mine.py").write_text("raise SystemExit('run')\n")
    assert "brings code of its own (auto_map: AutoModelForCausalLM)" in refused(own, fasta)


def test_two_models_with_different_vocabularies_are_not_compared(tmp_path, tiny_teacher, capsys):
    teacher = llama(tmp_path / "llama")
    status = cli.status_of(["evaluate", str(tiny_teacher), "--teacher", str(teacher)])
    said = capsys.readouterr().err
    assert status == 1
    assert "have different vocabularies (21 and 24 tokens" in said and said.count("\n") == 1


def test_exit_codes(tmp_path, fasta, capsys):
    teacher = str(llama(tmp_path / "llama"))
    common = ["distill", "protgpt2-tiny", "--teacher", teacher, "--data", str(fasta)]
    assert cli.status_of([*common, "--init", "first:12"]) == 2
    assert cli.status_of([*common, "--init", "2i"]) == 1
    assert capsys.readouterr().err.count("workbench: ") == 2


def test_a_built_in_teacher_is_not_examined_twice(monkeypatch):
    monkeypatch.setattr(models, "load_facts", lambda place: pytest.fail("looked at"))
    suitability.check_run(RunConfig.from_recipe("protgpt2-tiny"))
