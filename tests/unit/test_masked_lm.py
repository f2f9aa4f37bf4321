"""Masked language models: published sizes, fresh weights, loading, and word pieces."""

from __future__ import annotations

import json
import shutil
import string

import pytest
import torch

from workbench import export, models, recipes
from workbench.errors import WorkbenchError
from workbench.hidden_words import masked_lm
from workbench.hidden_words.masked_words import word_ids
from workbench.recipes import Shape, biobert
from workbench.teaching import masked_teachers
from workbench.worlds import biomedical

TINY = Shape(layers=2, heads=2, width=16, positions=24, vocabulary=240)
TEXTS = ["Erlotinib inhibits EGFR .", "mutations in TP53"]


@pytest.fixture(scope="module")
def tokenizer():
    return masked_lm.word_pieces(TEXTS, size=TINY.vocabulary)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    """A directory with a masked language model."""
    place = tmp_path_factory.mktemp("models") / "masked"
    model = masked_lm.build(TINY, activation="gelu", seed=1)
    export.save_model(place, model, tokenizer)
    return place


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("recipe", "teacher", "student"),
    [
        # BERT's encoder with the head of a masked language model, tied weights once.
        ("distilbiobert", 108_340_804, 65_813_572),
        ("compactbiobert", 108_340_804, 65_813_572),
        ("tinybiobert", 108_340_804, 13_903_756),
    ],
)
def test_paper_scale_has_the_published_sizes(recipe, teacher, student):
    scale = recipes.get(recipe).scale("paper")
    assert masked_lm.count_parameters(scale.teacher) == teacher
    assert masked_lm.count_parameters(scale.student) == student


def by_hand(shape: Shape) -> int:
    inner = shape.feed_forward or 4 * shape.width
    w = shape.width
    norm = 2 * w
    embeddings = (shape.vocabulary + shape.positions + 2) * w + norm
    layer = 4 * (w * w + w) + norm + (w * inner + inner) + (inner * w + w) + norm
    head = w * w + w + norm + shape.vocabulary  # the decoder's weight is the embedding's
    return embeddings + shape.layers * layer + head


@pytest.mark.parametrize("recipe", ["distilbiobert", "tinybiobert", "compactbiobert"])
@pytest.mark.parametrize("scale", ["classroom", "paper"])
def test_sizes_by_hand(recipe, scale):
    found = recipes.get(recipe).scale(scale)
    for shape in (found.teacher, found.student):
        assert masked_lm.count_parameters(shape) == by_hand(shape)
    if scale == "classroom":
        assert found.teacher == biobert.TEACHER


def test_counting_and_building_agree_and_counting_allocates_nothing():
    model = masked_lm.build(TINY, activation="gelu", seed=0)
    assert models.parameters(model) == masked_lm.count_parameters(TINY) == by_hand(TINY)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


# ---------------------------------------------------------------------- fresh weights


def test_the_same_seed_gives_the_same_weights_and_no_other_draw_is_disturbed():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    prints = [
        models.fingerprint(masked_lm.build(TINY, activation="gelu", seed=s)) for s in (5, 5, 6)
    ]
    assert torch.random.get_rng_state().equal(before)
    assert prints[0] == prints[1] != prints[2]
    torch.manual_seed(4)
    assert prints[0] == models.fingerprint(masked_lm.build(TINY, activation="gelu", seed=5))


def test_fresh_weights_have_the_spread_asked_for_and_answers_do_not_vary():
    shape = Shape(layers=1, heads=2, width=96, positions=24, vocabulary=400)
    for spread in (0.02, 0.05):
        model = masked_lm.build(shape, activation="gelu", seed=0, initial_spread=spread, pad=7)
        weight = model.get_input_embeddings().weight
        assert weight[8:].std().item() == pytest.approx(spread, rel=0.02)  # of 37,632 draws
        assert model.config.pad_token_id == 7
    assert not model.training
    ids = torch.arange(10)[None]
    model.train()  # without dropout, as a run in training mode must be repeatable
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


# ---------------------------------------------------------------------- loading


def test_what_was_saved_is_loaded(saved, tokenizer):
    model, loaded, place = masked_lm.load(saved)
    assert place == str(saved)
    assert models.fingerprint(model) == models.fingerprint(
        masked_lm.build(TINY, activation="gelu", seed=1)
    )
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.dtype == torch.float32
    assert loaded.get_vocab() == tokenizer.get_vocab()
    text = "Erlotinib inhibits [MASK] ."
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]


def refused(place) -> str:
    with pytest.raises(WorkbenchError) as error:
        masked_lm.load(place)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_of_another_kind_is_refused_in_one_line(copy, tiny_teacher):
    assert f"{tiny_teacher} holds GPT2LMHeadModel; expected a masked language model" in refused(
        tiny_teacher
    )
    config = json.loads((copy / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (copy / "config.json").write_text(json.dumps(config))
    assert "holds BertForSequenceClassification; expected a masked" in refused(copy)
    config["architectures"] = ["BertModel"]
    (copy / "config.json").write_text(json.dumps(config))
    assert "holds BertModel; expected a masked language model (…ForMaskedLM)" in refused(copy)


def test_weights_without_the_head_are_refused(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    kept = {k: v for k, v in weights.items() if not k.startswith("cls.predictions.transform")}
    assert 0 < len(kept) < len(weights)
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    message = refused(copy)
    assert "lacks weights for 4 parameters, the first is cls.predictions.transform" in message
    assert "the head that tells hidden words" in message


def test_pickles_and_places_without_weights_or_tokenizer_are_refused(copy, tmp_path):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "holds its weights as a pickle (pytorch_model.bin)" in refused(copy)
    (copy / "pytorch_model.bin").unlink()
    assert "has no weights; expected model.safetensors" in refused(copy)
    (copy / "model.safetensors").touch()
    for file in copy.glob("tokenizer*"):
        file.unlink()
    assert "has no tokenizer" in refused(copy)
    assert "has no config.json" in refused(tmp_path)
    assert "there is no model directory ./none" in refused("./none")


def test_a_tokenizer_of_another_model_is_refused(copy):
    masked_lm.word_pieces(TEXTS, size=TINY.vocabulary + 1).save_pretrained(copy)
    message = refused(copy)
    assert "its tokenizer has 241 tokens, its model 240" in message


@pytest.mark.parametrize("name", ["mask", "pad"])
def test_a_tokenizer_without_a_token_that_is_needed_is_refused(copy, name):
    config = json.loads((copy / "tokenizer_config.json").read_text())
    assert config.pop(f"{name}_token") == f"[{name.upper()}]"
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    assert f"has no token for {name}; expected [MASK], [PAD], [CLS] and [SEP]" in refused(copy)


# ---------------------------------------------------------------------- word pieces


def test_characters_of_a_keyboard_and_greek_letters_are_known(tokenizer):
    for letter in string.ascii_letters + string.digits + string.punctuation + masked_lm.GREEK:
        assert tokenizer.tokenize(letter) == [letter]
    assert tokenizer.tokenize("日") == ["[UNK]"]


def test_special_tokens_have_their_places(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == (
        list(range(5))
    )
    ids = tokenizer("EGFR [MASK] .")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "[CLS]"
    assert (ids[-1], tokenizer.mask_token_id in ids) == (tokenizer.sep_token_id, True)


def test_cases_are_kept_and_what_is_cut_is_put_together_again(tokenizer):
    assert tokenizer.tokenize("erlotinib") != tokenizer.tokenize("Erlotinib")
    # No word of its own text is unknown, however few pieces there are.
    small = masked_lm.word_pieces(TEXTS, size=10)
    for text in TEXTS:
        ids = small(text, add_special_tokens=False)["input_ids"]
        assert small.unk_token_id not in ids
        assert small.decode(ids) == text.replace(" .", ".")
        assert len(tokenizer(text)["input_ids"]) <= len(small(text)["input_ids"])


def test_training_again_gives_the_same_pieces():
    assert masked_lm.word_pieces(TEXTS, size=300).get_vocab() == (
        masked_lm.word_pieces(TEXTS, size=300).get_vocab()
    )


def test_every_word_of_the_world_is_one_piece_of_the_built_in_tokenizer():
    tokenizer = masked_teachers.built_in_tokenizer()
    assert 1500 <= len(tokenizer) <= 4000
    assert len(tokenizer) == biobert.VOCABULARY == biobert.TEACHER.vocabulary
    world = biomedical.default_world()
    ids = word_ids(tokenizer, world)
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == list(world.words)
    assert len(set(ids.tolist())) == len(world.words)
    # And a sentence as written is cut into just its words, within the teacher's positions.
    for sentence in world.sample(1500, seed=9):
        assert tuple(tokenizer.tokenize(sentence.text)) == sentence.words
    assert max(len(r.fixed) for r in world._readings) + 2 <= biobert.TEACHER.positions
