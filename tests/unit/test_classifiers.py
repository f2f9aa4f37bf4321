"""Classifiers of residues: weights, tokens, head and padding; saved, used elsewhere, refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from workbench import corpora, export, models
from workbench.classifying import classifiers
from workbench.errors import WorkbenchError
from workbench.foreign import heads
from workbench.recipes import Shape
from workbench.worlds.proteins import AMINO_ACIDS

SHAPE = Shape(layers=2, heads=2, width=16, positions=64, vocabulary=25)
PAPER = Shape(layers=12, heads=12, width=768, positions=8192, vocabulary=30)
TEXTS = ("YFAMYQENSLYNTVATL", "ACDEFG", "WYVTSRQPNMLKIHGFEDCAW")


def build(seed: int = 0, shape: Shape = SHAPE):
    """With large weights: fresh ones of the usual size answer one half, whatever is asked."""
    return classifiers.build(shape, activation="gelu", seed=seed, initial_spread=0.4)


@pytest.fixture
def save(tmp_path):
    def make(model, tokenizer=None, name: str = "model"):
        export.save_model(tmp_path / name, model, tokenizer or classifiers.residue_tokenizer())
        return tmp_path / name

    return make


@pytest.fixture
def padded():
    """`TEXTS` as padded ids and the mask of what is real."""
    tokens = classifiers.residue_tokenizer()(list(TEXTS), padding=True, return_tensors="pt")
    return tokens["input_ids"], tokens["attention_mask"].bool()


def refused(function, *arguments, **options) -> str:
    with pytest.raises(WorkbenchError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------------- weights


def test_a_seed_decides_all_weights_and_draws_nothing_from_the_process():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, again, other = (build(seed).state_dict() for seed in (1, 1, 2))
    assert torch.rand(3).equal(expected)
    assert all(first[name].equal(again[name]) for name in first)
    matrices = [n for n in first if first[n].ndim == 2 and "token_type" not in n]
    assert len(matrices) == 2 + 2 * 6 + 2
    assert not any(first[name].equal(other[name]) for name in matrices)


def test_a_built_classifier_has_the_shape_asked_for_and_no_dropout():
    model = build()
    assert not model.training
    config = model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (2, 2, 16)
    assert (config.max_position_embeddings, config.vocab_size) == (64, 25)
    assert config.id2label == {0: "non-binder", 1: "binder"}
    assert config.label2id == {"non-binder": 0, "binder": 1}
    assert all(m.p == 0 for m in model.modules() if isinstance(m, nn.Dropout))
    embedding = model.get_input_embeddings().weight.detach()
    assert float(embedding[1:].std()) == pytest.approx(0.4, rel=0.15)


def test_parameters_of_the_paper_and_of_its_half():
    half = Shape(layers=6, heads=12, width=768, positions=8192, vocabulary=30)
    assert classifiers.count_parameters(PAPER) == 91_963_394
    assert classifiers.count_parameters(half) == 49_436_162


def test_counted_parameters_are_those_of_the_built_model_and_of_arithmetic():
    d, inner = SHAPE.width, 4 * SHAPE.width
    embeddings = (SHAPE.vocabulary + SHAPE.positions + 1) * d + 2 * d
    layer = 4 * (d * d + d) + (d * inner + inner) + (inner * d + d) + 4 * d
    head = (d * d + d) + (2 * d + 2)
    expected = embeddings + SHAPE.layers * layer + head
    assert classifiers.count_parameters(SHAPE) == models.parameters(build()) == expected


# ---------------------------------------------------------------------- tokens


def test_the_tokens_are_five_marks_and_twenty_residues():
    tokenizer = classifiers.residue_tokenizer()
    assert len(tokenizer) == 25
    assert tokenizer.pad_token_id == 0
    assert tokenizer("")["input_ids"] == [2, 3]
    ids = tokenizer(AMINO_ACIDS)["input_ids"]
    assert ids == [2, *range(5, 25), 3]
    assert tokenizer.convert_ids_to_tokens(ids)[1:-1] == list(AMINO_ACIDS)


@pytest.mark.parametrize("spaced", ["Y F A M", "YF AM", " Y  F\tA\nM ", classifiers.write("YFAM")])
def test_spaces_change_no_token(spaced):
    tokenizer = classifiers.residue_tokenizer()
    assert tokenizer(spaced)["input_ids"] == tokenizer("YFAM")["input_ids"]
    assert len(tokenizer("YFAM")["input_ids"]) == 6


@pytest.mark.parametrize("letter", ["B", "J", "X", "a", "*", "é", "1"])
def test_another_letter_is_unknown_and_its_neighbours_are_not(letter):
    tokenizer = classifiers.residue_tokenizer()
    for text in (f"A{letter}C", f"A {letter} C"):
        found = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        assert found == ["[CLS]", "A", "[UNK]", "C", "[SEP]"]


# ---------------------------------------------------------------------- head and padding


def test_what_a_classifier_is_and_how_many_answers_it_has(tiny_teacher):
    causal, _, _ = models.load_causal_lm(tiny_teacher)
    assert not models.is_classifier(causal) and models.answers(causal) == causal.config.vocab_size
    model = build()
    assert models.is_classifier(model) and models.answers(model) == 2
    assert not models.is_classifier(model.bert)


def test_the_head_on_first_tokens_gives_the_logits(padded):
    ids, real = padded
    model = build(3)
    backbone, head = models.split_head(model)
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=real.long()).logits
        hidden = models.last_hidden(backbone, ids, real)
        assert hidden.shape == (3, 23, 16)
        torch.testing.assert_close(head(hidden[:, 0]), whole, rtol=0, atol=1e-6)
        # Row by row in any number, and not from another token.
        torch.testing.assert_close(head(hidden[1:2, 0]), whole[1:2], rtol=0, atol=1e-6)
        assert (head(hidden[:, 1]) - whole).abs().max() > 0.01
    assert (whole[0] - whole[1]).abs().max() > 0.01  # it has opinions


def test_padding_changes_no_state_and_no_logit(padded):
    ids, real = padded
    backbone, head = models.split_head(build(4))
    tokenizer = classifiers.residue_tokenizer()
    with torch.no_grad():
        together = models.last_hidden(backbone, ids, real)
        # Longer, with other tokens than [PAD] where nothing is real.
        longer = nn.functional.pad(ids.masked_fill(~real, 7), (0, 9), value=11)
        padded_more = models.last_hidden(backbone, longer, nn.functional.pad(real, (0, 9)))
        torch.testing.assert_close(
            padded_more[:, : ids.shape[1]][real], together[real], rtol=0, atol=1e-5
        )
        for row, text in enumerate(TEXTS):
            alone = tokenizer(text, return_tensors="pt")["input_ids"]
            hidden = models.last_hidden(backbone, alone, torch.ones_like(alone).bool())
            torch.testing.assert_close(together[row][real[row]], hidden[0], rtol=0, atol=1e-5)
            torch.testing.assert_close(
                head(together[row : row + 1, 0]), head(hidden[:, 0]), rtol=0, atol=1e-5
            )
        # The test would see it if the mask were left out.
        unmasked = models.last_hidden(backbone, ids, torch.ones_like(real))
        assert (unmasked[1, 0] - together[1, 0]).abs().max() > 0.01


def test_batches_of_any_size_hold_the_same_rows():
    tokenizer = classifiers.residue_tokenizer()
    rows = corpora.Rows([_ids(tokenizer, t) for t in TEXTS], 0)
    for size in (1, 2, 3):
        seen = {}
        for batch in corpora.make_batches(rows, size, tokenizer.pad_token_id):
            for ids, real, row in zip(batch.input_ids, batch.real(), batch.members, strict=True):
                seen[int(row)] = tokenizer.decode(ids[real]).split()
                assert (ids[~real] == tokenizer.pad_token_id).all()
        assert seen == {i: ["[CLS]", *text, "[SEP]"] for i, text in enumerate(TEXTS)}


def _ids(tokenizer, text: str):
    import numpy as np

    return np.array(tokenizer(text)["input_ids"], dtype=np.int64)


def test_a_classifier_that_reads_another_token_needs_one_for_padding():
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(vocab_size=25, n_embd=16, n_layer=1, n_head=2, pad_token_id=0)
    model = GPT2ForSequenceClassification(config).eval()
    assert type(models.split_head(model)[1]) is heads.Whole
    model.config.pad_token_id = None
    message = refused(models.split_head, model)
    assert "does not read its answer from the first token" in message
    assert "pad_token_id is null" in message


# ---------------------------------------------------------------------- saved and used elsewhere


def test_a_saved_classifier_answers_in_a_plain_pipeline_and_is_loaded_frozen(save):
    from transformers import pipeline

    model = build(5)
    place = save(model)
    assert not list(place.glob("*.bin"))
    ask = pipeline("text-classification", model=str(place), device="cpu")
    loaded, tokenizer, name = classifiers.load(place)
    assert name == str(place)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.dtype == torch.float32
    labels = set()
    for text in [classifiers.write(t) for t in (*TEXTS, "A A", "W W W W", "K R K", "L L", "C")]:
        found = {a["label"]: a["score"] for a in ask(text, top_k=None)}
        assert set(found) == {"non-binder", "binder"}
        with torch.no_grad():
            logits = loaded(**tokenizer(text, return_tensors="pt")).logits[0]
            assert logits.equal(model(**tokenizer(text, return_tensors="pt")).logits[0])
        assert found["binder"] == pytest.approx(float(logits.softmax(-1)[1]), abs=1e-6)
        (best,) = ask(text)
        assert best["label"] == max(found, key=found.get)
        labels.add(best["label"])
    assert labels == {"non-binder", "binder"}


# ---------------------------------------------------------------------- refused


def test_a_causal_model_is_no_classifier(tiny_teacher):
    message = refused(classifiers.load, tiny_teacher)
    assert "GPT2LMHeadModel; expected a classifier (…ForSequenceClassification)" in message


def test_three_classes_are_refused(save):
    from transformers import BertForSequenceClassification

    config = classifiers.config(SHAPE)
    config.num_labels = 3
    message = refused(classifiers.load, save(BertForSequenceClassification(config)))
    assert "sorts into 3 classes; expected two, non-binder and binder" in message


def test_pickles_are_refused_before_they_are_opened(save):
    place = save(build())
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(b"not to be opened")
    message = refused(classifiers.load, place)
    assert "holds its weights as a pickle (pytorch_model.bin)" in message
    (place / "pytorch_model.bin").unlink()
    assert "has no weights; expected model.safetensors" in refused(classifiers.load, place)


def test_a_tokenizer_that_gives_no_residue_a_token_is_refused(save, byte_pairs):
    wide = Shape(layers=1, heads=2, width=16, positions=64, vocabulary=len(byte_pairs))
    marks_missing = classifiers.residue_tokenizer()
    marks_missing.backend_tokenizer.post_processor = _no_marks()
    no_padding = classifiers.residue_tokenizer()
    no_padding.pad_token = None
    for tokenizer, shape in (
        (byte_pairs, wide),
        (models.residue_tokenizer(), SHAPE),  # no first and last token, spaces are tokens
        (marks_missing, SHAPE),
        (no_padding, SHAPE),
    ):
        message = refused(classifiers.load, save(build(shape=shape), tokenizer))
        assert "of 'A C D'; expected the three residues between a first and a last" in message


def _no_marks():
    from tokenizers import processors

    return processors.TemplateProcessing(single="$A", special_tokens=[])


def test_a_tokenizer_of_another_vocabulary_is_refused(save):
    small = Shape(layers=1, heads=2, width=16, positions=64, vocabulary=24)
    message = refused(classifiers.load, save(build(shape=small)))
    assert "its tokenizer has 25 tokens, its model 24" in message


# ---------------------------------------------------------------------- a fresh head


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
def test_an_encoder_gets_a_fresh_head_and_keeps_its_weights(kind, save):
    import transformers

    config = classifiers.config(SHAPE, initial_spread=0.4)
    config.id2label, config.label2id = {0: "a", 1: "b"}, {"a": 0, "b": 1}
    with torch.random.fork_rng():
        torch.manual_seed(6)
        encoder = getattr(transformers, kind)(config)
    place = save(encoder)
    before = torch.get_rng_state()
    one, again, other = (classifiers.load_base(place, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(before)
    assert one.classifier.weight.shape == (2, 16)
    assert models.fingerprint(one) == models.fingerprint(again)
    assert not one.classifier.weight.equal(other.classifier.weight)
    own = encoder.base_model.state_dict()
    for name, tensor in one.bert.state_dict().items():
        if name in own:
            assert tensor.equal(own[name]), name
            assert tensor.equal(other.bert.state_dict()[name])
    lacking = set(one.bert.state_dict()) - set(own)
    expected = set() if kind == "BertModel" else {"pooler.dense.weight", "pooler.dense.bias"}
    assert lacking == expected
    assert one.config.id2label == {0: "non-binder", 1: "binder"}
    assert one.config.label2id == {"non-binder": 0, "binder": 1}
    assert models.is_classifier(one) and models.answers(one) == 2


def test_an_encoder_with_its_head_on_is_a_classifier_when_saved(save):
    model, tokenizer = classifiers.load_base(save(build(7).bert), seed=3)
    loaded, _, _ = classifiers.load(save(model, tokenizer, "headed"))
    assert models.fingerprint(loaded) == models.fingerprint(model)


def test_an_encoder_without_some_of_its_weights_is_refused(save):
    place = save(build(8).bert)
    weights = load_file(place / "model.safetensors")
    gone = [n for n in weights if "layer.1.output.dense" in n]
    assert len(gone) == 2
    kept = {n: t for n, t in weights.items() if n not in gone}
    save_file(kept, place / "model.safetensors", metadata={"format": "pt"})
    message = refused(classifiers.load_base, place, seed=0)
    assert "lacks weights for 2 parameters" in message and "layer.1.output.dense" in message


def test_an_encoder_is_not_loaded_as_a_classifier_and_a_causal_model_gets_no_head(
    save, tiny_teacher
):
    message = refused(classifiers.load, save(build().bert))
    assert "BertModel; expected a classifier" in message
    assert "lacks weights" in refused(classifiers.load_base, tiny_teacher, seed=0)


def test_an_encoder_with_a_head_of_three_classes_is_refused(save):
    from transformers import BertForSequenceClassification

    config = classifiers.config(SHAPE)
    config.num_labels = 3
    place = save(BertForSequenceClassification(config))
    assert "sorts into 3 classes; expected two" in refused(classifiers.load_base, place, seed=0)
