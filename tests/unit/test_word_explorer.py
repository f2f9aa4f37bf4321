"""The T/α explorer on hidden words: the same numbers as the models', the truth, and what is wrong.

The built-in teacher is not needed: small random models answer as well.
"""

from __future__ import annotations

import threading

import ipywidgets
import numpy as np
import pytest
import torch

from workbench.errors import UsageError
from workbench.hidden_words import masked_lm, masked_words
from workbench.lab import Explorer, explore_words, registry
from workbench.recipes import Shape
from workbench.teaching import masked_teachers
from workbench.worlds import biomedical

SENTENCES = [
    ("[MASK] inhibits EGFR.", "Gefitinib"),
    ("DNA replication is regulated by [MASK].", "TOP1"),
    ("Pulmonary hypertension is a disease of the [MASK].", "lung"),
]


@pytest.fixture(autouse=True)
def nothing_left():
    """After every test: close what is open; no thread and no widget may stay."""
    widgets = set(ipywidgets.widgets.widget._instances)
    yield
    for name in registry.open_names():
        registry.claim(name, ClosedAtOnce())
    assert [t for t in threading.enumerate() if t.name.startswith("workbench")] == []
    assert set(ipywidgets.widgets.widget._instances) <= widgets


class ClosedAtOnce:
    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def tokenizer():
    return masked_teachers.built_in_tokenizer()


@pytest.fixture(scope="module")
def models(tokenizer):
    """Teacher and student; fresh weights are spread so that they have opinions."""
    shape = Shape(layers=2, heads=2, width=16, positions=32, vocabulary=len(tokenizer))
    return [
        masked_lm.build(shape, activation="gelu", seed=seed, initial_spread=0.5) for seed in (1, 2)
    ]


def test_each_sentence_is_a_position_with_the_models_answers(models, tokenizer):
    lab = explore_words(*models, tokenizer, SENTENCES, name="words")
    assert isinstance(lab, Explorer) and lab.state == "alpha=0.3;position=1"
    assert lab._loaded.contexts == tuple(text for text, _ in SENTENCES)
    for position, (text, word) in enumerate(SENTENCES, start=1):
        lab.set(position=position, T=1)
        found = lab.numbers()["probabilities"]
        assert lab._loaded.letters[position - 1] == word
        for who, model in zip(("teacher", "student"), models, strict=True):
            (said,) = masked_words.answer(model, tokenizer, text)
            shown = dict(zip(lab._loaded.symbols, found[who], strict=True))
            assert shown == pytest.approx(said, abs=1e-6)


@pytest.mark.parametrize("temperature", [1, 4])
def test_figures_are_those_of_the_whole_vocabulary_at_every_temperature(
    models, tokenizer, temperature
):
    lab = explore_words(*models, tokenizer, SENTENCES[:1], name="words")
    lab.set(T=temperature)
    ids = torch.tensor([tokenizer("[MASK] inhibits EGFR.")["input_ids"]])
    with torch.no_grad():
        p, q = (torch.log_softmax(m(ids).logits[0, 1].double() / temperature, -1) for m in models)
    kl = float((p.exp() * (p - q)).sum())
    assert lab.numbers()["divergence"]["forward"] == pytest.approx(kl, abs=1e-5)


def test_the_oracle_is_the_worlds(models, tokenizer):
    lab = explore_words(*models, tokenizer, SENTENCES, name="words")
    lab.set(T=1, position=1)
    found = lab.numbers()["probabilities"]["oracle"]
    truth = biomedical.oracle("[MASK] inhibits EGFR .", 0)
    shown = {s: p for s, p in zip(lab._loaded.symbols, found, strict=True) if p > 0}
    assert shown == pytest.approx(truth)
    assert sum(found) == pytest.approx(1)


def test_the_picture_shows_the_sentence_and_what_the_oracle_thinks_likely(models, tokenizer):
    lab = explore_words(*models, tokenizer, SENTENCES[:1], name="words")
    picture = lab.svg()
    assert lab._loaded.letters == ("Gefitinib",)
    assert "1 of 1: [MASK] inhibits EGFR. → Gefitinib" in picture
    for word in biomedical.oracle("[MASK] inhibits EGFR .", 0):
        assert word in picture
    assert f"of {len(tokenizer):,} symbols" in picture


def test_a_table_longer_than_the_tokenizer_is_shown_whole(tokenizer):
    shape = Shape(layers=1, heads=2, width=8, positions=32, vocabulary=len(tokenizer) + 4)
    model = masked_lm.build(shape, activation="gelu", seed=0)
    lab = explore_words(model, model, tokenizer, SENTENCES[:1], name="words")
    assert lab._loaded.symbols[-1] == f"unused {len(tokenizer) + 3}"
    assert np.isfinite(lab.numbers()["loss"])


@pytest.mark.parametrize(
    ("sentences", "line"),
    [
        ([], "there are no sentences"),
        ("[MASK] inhibits EGFR.", "there are no sentences"),
        (["[MASK] inhibits EGFR."], "expected a pair of a text with"),
        ([("[MASK]", 3)], "expected a pair of a text with"),
        ([("Gefitinib inhibits EGFR.", "EGFR")], r"hides 0 words; write \[MASK\] exactly once"),
        ([("[MASK] inhibits [MASK].", "EGFR")], "hides 2 words"),
        ([("[MASK] likes EGFR.", "Gefitinib")], "this world makes no sentence such as"),
        ([("[MASK] inhibits EGFR.", "Aspirin")], "'Aspirin' is never the hidden word"),
        ([("[MASK] inhibits EGFR. " + "EGFR " * 40, "Gefitinib")], "this world makes no sentence"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line(models, tokenizer, sentences, line):
    with pytest.raises(UsageError, match=line) as caught:
        explore_words(*models, tokenizer, sentences, name="words")
    assert "\n" not in str(caught.value)
    assert registry.open_names() == []


def test_a_tokenizer_that_cuts_words_is_refused(models):
    pieces = masked_lm.word_pieces(["EGFR inhibits the lung of"], size=200)
    with pytest.raises(UsageError):
        explore_words(*models, pieces, SENTENCES[:1], name="words")


def test_models_that_read_less_are_named(tokenizer):
    shape = Shape(layers=1, heads=2, width=8, positions=4, vocabulary=len(tokenizer))
    model = masked_lm.build(shape, activation="gelu", seed=0)
    with pytest.raises(UsageError, match="has 6 word pieces; these models read 4"):
        explore_words(model, model, tokenizer, SENTENCES[:1], name="words")


def test_contexts_need_one_for_each_position():
    with pytest.raises(UsageError, match="there are 2 contexts and 1 positions"):
        Explorer.from_logits("ab", [1, 2], [2, 1], 0, contexts=["one", "two"])
