"""Weights of the terms without a browser: norms measured, shares, the state's way in, the picture.

The teacher is a small random BERT with the world's tokenizer.
"""

from __future__ import annotations

import logging
import threading
from xml.etree import ElementTree

import ipywidgets
import pytest

from workbench import export, recipes, workshop
from workbench.config import RunConfig
from workbench.errors import UsageError
from workbench.hidden_words import masked_lm
from workbench.lab import registry, weigh_terms
from workbench.lab.terms import term_weights
from workbench.lab.terms.term_weights import TermWeights, shares
from workbench.progress import Silent
from workbench.recipes import Shape
from workbench.teaching import masked_teachers

RECIPES = ("distilbiobert", "tinybiobert", "compactbiobert")
VARIANTS = ("corrected", "as-published", "as-coded")
#: Norms as they might be, so that what follows from them needs no model.
NORMS = {
    "corrected": {t: {"hard": 2.0, "soft": 0.5 * t, "hidden": 1.0, "attention": 0.4}
                  for t in (1.0, 2.0, 4.0, 10.0)},
    "as-coded": {t: {"hard": 2.0, "soft": 0.5 * t, "hidden": 1.0, "attention": 0.02}
                 for t in (1.0, 2.0, 4.0, 10.0)},
}  # fmt: skip


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
def teacher(tmp_path_factory) -> str:
    tokenizer = masked_teachers.built_in_tokenizer()
    shape = Shape(layers=4, heads=4, width=16, positions=64, vocabulary=len(tokenizer))
    place = tmp_path_factory.mktemp("teacher") / "bert"
    model = masked_lm.build(shape, activation="gelu", seed=1, initial_spread=0.3)
    export.save_model(place, model, tokenizer)
    return str(place)


def compact(variant: str = "corrected") -> TermWeights:
    return TermWeights("compactbiobert", NORMS, variant, name="weights")


# ---------------------------------------------------------------------- what is measured


@pytest.mark.parametrize("recipe", RECIPES)
def test_shares_at_the_recipes_own_weights_are_those_of_the_distillers_ledger(recipe, teacher):
    lab = weigh_terms(recipe, teacher, sentences=6, seed=3, name="weights")
    for variant in VARIANTS:
        lab.set(variant=variant)
        config = RunConfig.from_recipe(
            recipe, variant=variant, teacher=teacher, seed=3, batch_size=6, train_sequences=6,
            validation_sequences=1,
        )  # fmt: skip
        assert lab.state["temperature"] == config.temperature
        shop = workshop.prepare(config, Silent())
        ledger = shop.student.ledger(shop.batch(0, 1))
        assert {n: p.share for n, p in lab.pulls().items()} == pytest.approx(
            {n: e.share for n, e in ledger.items()}, rel=1e-4
        )
        assert {n: p.weight for n, p in lab.pulls().items()} == pytest.approx(
            {n: e.weight for n, e in ledger.items()}
        )
        # At another T the first step of a run with that T.
        shop.student.temperature = 10.0
        lab.set(T=10)
        assert {n: p.weight * p.norm for n, p in lab.pulls().items()} == pytest.approx(
            {n: e.gradient_norm for n, e in shop.student.ledger(shop.batch(0, 1)).items()},
            rel=1e-4,
        )


def test_readings_that_are_the_same_are_measured_once(monkeypatch):
    asked = []

    def measure(recipe, variant, *_):
        asked.append(variant)
        return NORMS["corrected"]

    monkeypatch.setattr(term_weights, "measure", measure)
    weigh_terms("compactbiobert", "no teacher is needed", name="weights")
    assert asked == ["corrected", "as-coded"]


def test_attention_averaged_over_keys_is_weaker_by_the_number_of_keys(teacher):
    lab = weigh_terms("compactbiobert", teacher, sentences=6, name="weights")
    ratio = (
        lab._measured["corrected"][2.0]["attention"] / lab._measured["as-coded"][2.0]["attention"]
    )
    assert 10 < ratio < 40  # sentences of this world have some 10 to 30 tokens


# ---------------------------------------------------------------------- shares


def test_shares_in_closed_form():
    assert shares({"hard": 2.0, "soft": 3.0}, {"hard": 0.5, "soft": 1.0}) == {
        "hard": 0.25, "soft": 0.75,
    }  # fmt: skip
    assert shares({"hard": 2.0, "soft": 0.0}, {"hard": 0.0, "soft": 1.0}) == {
        "hard": 0.0, "soft": 0.0,
    }  # fmt: skip
    lab = compact()
    lab.set(alpha=0.25, T=4, weights={"hidden": 2, "attention": 0})
    # 6·0.25·2 = 3, 6·0.75·2 = 9, 2·1 = 2, 0·0.4 = 0
    found = {name: pull.share for name, pull in lab.pulls().items()}
    expected = {"hard": 3 / 14, "soft": 9 / 14, "hidden": 2 / 14, "attention": 0}
    assert found == pytest.approx(expected)


def test_a_variant_comes_with_its_own_numbers():
    lab = compact()
    lab.set(alpha=0.9, weights={"hidden": 0})
    lab.set(variant="as-coded")
    assert lab.state == {
        "variant": "as-coded", "temperature": 1.0, "alpha": 1 / 6,
        "weights": {"hidden": 3.0, "attention": 3.0},
    }  # fmt: skip
    assert "queries and keys" in lab.formula()
    assert lab._remark("as-coded", 2.0).endswith("at this T: attention 20 times weaker.")
    assert lab._remark("corrected", 2.0) == ""


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("temperature", [1, 2, 10])
def test_the_template_makes_the_formula(recipe, variant, temperature):
    objective = recipes.get(recipe).variant(variant).objective
    weights = objective.weights(0.25)
    line = "".join(
        text + (f"{weights[term]:.3g}" if term else "")
        for text, term in term_weights._template(objective, temperature)
    )
    assert line == objective.formula(temperature, 0.25)


# ---------------------------------------------------------------------- the state's way in


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"T": 3}, "T is 3; the gradients were measured at 1, 2, 4, 10"),
        ({"T": [1]}, "T is"),
        ({"alpha": 1.5}, "the weight of α is 1.5; expected 0 to 1"),
        ({"weights": {"hidden": 11}}, "the weight of hidden is 11; expected 0 to 10"),
        ({"weights": {"hidden": float("nan")}}, "the weight of hidden is nan"),
        ({"weights": {"cosine": 1}}, "expected some for hidden, attention"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_one_line_and_changes_nothing(change, line):
    lab = compact()
    before = lab.state
    with pytest.raises(UsageError, match=line) as caught:
        lab.set(**change)
    assert "\n" not in str(caught.value)
    assert lab.state == before


def test_the_browser_changes_the_state_and_nothing_else(caplog):
    lab = compact()
    state = {**lab.state, "alpha": 0.5, "weights": {"attention": 1, "hidden": 2}}
    lab.set_state({"state": state, "_title": "<b>"})
    assert lab.state == state and lab._title == "CompactBioBERT"
    with caplog.at_level(logging.WARNING):
        for wrong in (3, {}, {**state, "variant": ["<b>"]}, {**state, "temperature": {}},
                      {**state, "alpha": "0.5"}, {**state, "weights": 1}):  # fmt: skip
            lab.set_state({"state": wrong})
    assert lab.state == state
    assert len(caplog.records) == 6


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("protgpt2-tiny",), "protgpt2-tiny has no terms to weigh"),
        (("distilbert-pmhc",), "distilbert-pmhc has no terms to weigh"),
        (("compactbiobert", "x", "best"), "no variant of compactbiobert called 'best'"),
    ],
)
def test_what_cannot_be_weighed_is_said_before_a_model_is_loaded(arguments, line):
    with pytest.raises(UsageError, match=line):
        weigh_terms(*arguments)
    with pytest.raises(UsageError, match="sentences is 0"):
        weigh_terms("compactbiobert", sentences=0)


# ---------------------------------------------------------------------- the picture


def test_the_picture_says_shares_formula_and_remark():
    lab = compact("as-coded")
    root = ElementTree.fromstring(lab.svg())
    said = " ".join("".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "CompactBioBERT, as-coded, T = 1, α = 0.167" in said
    for pull in lab.pulls().values():
        assert f"{pull.share:.1%}" in said
    assert "attention 20 times weaker" in said
    assert "ΣKL(teacher‖student attention)" in said
    lab._title = "<script>&"
    ElementTree.fromstring(lab.svg())
    assert "<script>" not in lab.svg()
    assert repr(lab).startswith("TermWeights('compactbiobert', as-coded): hard ")


def test_a_new_one_closes_the_one_before():
    one = compact()
    other = compact()
    assert one.comm is None and other.comm is not None
    other.close()
    other.close()
    assert registry.open_names() == []
