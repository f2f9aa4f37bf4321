"""Weights of terms in the run panel: their sliders, the formula, and the run that gets them."""

from __future__ import annotations

import threading
from xml.etree import ElementTree

import ipywidgets
import pytest

from workbench import runs
from workbench.config import RunConfig
from workbench.errors import UsageError
from workbench.lab import RunPanel, markup, registry
from workbench.lab.worker import Run, Settings

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def nothing_left():
    """After every test: close what is open; no thread and no widget may stay."""
    widgets = set(ipywidgets.widgets.widget._instances)
    yield
    for name in registry.open_names():
        registry.claim(name, ClosedAtOnce())
    threads = [t for t in threading.enumerate() if t.name.startswith("workbench")]
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert set(ipywidgets.widgets.widget._instances) <= widgets


class ClosedAtOnce:
    def close(self) -> None:
        pass


@pytest.fixture
def calls(monkeypatch):
    """What `runs.distill` was asked for; it does nothing."""
    found: list[dict] = []

    def distill(recipe, run=None, *, progress, on_metrics, should_stop, **options):
        found.append({"recipe": recipe, **options})
        RunConfig.from_recipe(recipe, **options)
        row = {"perplexity": 3.0, "kl_to_teacher": 0.1, "agreement": 0.5}
        return {"oracle": row, "teacher": row, "student": row, "baseline": row,
                "steps": 1, "seconds": 1.0}  # fmt: skip

    monkeypatch.setattr(runs, "distill", distill)
    return found


def drawn(panel: RunPanel) -> None:
    assert panel._publisher.flush(PATIENCE)


def formula(panel: RunPanel) -> str:
    return "".join(ElementTree.fromstring(panel.formula_view.value).itertext())


@pytest.mark.parametrize(
    ("recipe", "terms"),
    [
        ("protgpt2-tiny", {}),
        ("distilbiobert", {"cosine": 1}),
        ("tinybiobert", {"hidden": 1, "attention": 1}),
        ("compactbiobert", {"hidden": 3, "attention": 3}),
    ],
)
def test_a_slider_for_each_term_of_its_own_stands_at_the_published_weight(recipe, terms):
    panel = RunPanel(recipe)
    assert {n: s.value for n, s in panel.weight_sliders.items()} == terms
    assert {n: b.value for n, b in panel.weight_boxes.items()} == terms
    assert panel.settings.weights is None
    for name, slider in panel.weight_sliders.items():
        assert (slider.min, slider.max) == (0, 10)
        assert slider.description == f"Weight of {name}"
        assert slider.tooltip == f"weight of the {name} term in the loss"
        assert panel.weight_boxes[name].tooltip == f"weight of {name} as a number"
        assert f"▲ {terms[name]}, published" in panel._weight_ends[name].value
        assert f"left:calc({10 * terms[name]:.1f}%" in panel._weight_ends[name].value


def test_a_slider_moves_its_box_and_the_formula():
    panel = RunPanel("compactbiobert")
    assert "+ 3·ΣKL(teacher‖student attention)" in formula(panel)
    panel.weight_sliders["attention"].value = 0.5
    drawn(panel)
    assert panel.weight_boxes["attention"].value == 0.5
    assert "+ 0.5·ΣKL(teacher‖student attention)" in formula(panel)
    assert "+ 3·Σ(1−cos(" in formula(panel)
    assert panel.settings.weights == {"attention": 0.5}
    panel.weight_boxes["attention"].value = 3
    drawn(panel)
    assert panel.weight_sliders["attention"].value == 3
    assert panel.settings.weights is None  # the recipe's again


def test_the_run_gets_the_weights_that_were_changed(calls):
    panel = RunPanel("compactbiobert", steps=1)
    panel.start()
    assert panel.wait(PATIENCE)
    panel.set(weights={"hidden": 0})
    panel.start()
    assert panel.wait(PATIENCE)
    assert panel.state == "done", panel.message
    assert [call["weights"] for call in calls] == [None, {"hidden": 0}]
    assert panel.settings.label() == "T=2 α=0.167 corrected hidden=0"
    assert "corrected hidden=0</td>" in panel.table_view.value
    assert "corrected, weight of hidden 0, seed 0" in panel.status_view.value
    earlier = Run(1, Settings(2.0, 0.5, "corrected", 0, 5, {"hidden": 0.25}))
    assert markup.ghost_label(earlier).startswith("T=2 α=0.5 corrected hidden=0.25: ")


def test_set_changes_the_named_weights_alone_and_refuses_what_is_none():
    panel = RunPanel("compactbiobert", weights={"attention": 1})
    assert panel.weight_sliders["attention"].value == 1
    panel.set(weights={"hidden": 0}, T=4)
    drawn(panel)
    expected = Settings(4, 1 / 6, "corrected", 0, 600, {"hidden": 0, "attention": 1})
    assert panel.settings == expected
    assert panel.weight_boxes["hidden"].value == 0
    for wrong, line in (
        ({"cosine": 1}, "has no term 'cosine'"),
        ({"hidden": -1}, "the weight of hidden is -1"),
        ({"hidden": 11}, "the panel's weight of hidden is 11; expected 0 to 10"),
        ({"hidden": "much"}, "expected a number for each name"),
        ([1], "expected a number for each name"),
    ):
        with pytest.raises(UsageError, match=line):
            panel.set(weights=wrong)
    assert panel.settings == expected
    with pytest.raises(UsageError, match="has no term 'hidden'"):
        RunPanel("protgpt2-tiny", weights={"hidden": 1})


def test_another_variant_keeps_what_was_set_by_hand():
    panel = RunPanel("compactbiobert")
    panel.weight_sliders["hidden"].value = 2
    panel.variant_menu.value = "as-coded"
    drawn(panel)
    assert panel.settings.weights == {"hidden": 2}
    assert "queries and keys" in formula(panel)
    assert panel.weight_sliders["attention"].value == 3


def test_the_hand_on_a_slider_is_left_alone():
    panel = RunPanel("distilbiobert")
    panel.weight_sliders["cosine"].value = 2.004
    drawn(panel)
    assert panel.weight_sliders["cosine"].value == 2.004
    assert panel.weight_boxes["cosine"].value == 2.0


def test_what_a_slider_in_the_browser_makes_of_a_value_changes_nothing():
    """It answers with the step next to what it was set to."""
    panel = RunPanel("compactbiobert")
    assert panel.alpha_box.value == 0.1667
    panel.alpha_slider.value = 0.17
    panel.alpha_box.value = 0.16671
    panel.weight_boxes["hidden"].value = 2.04
    panel.weight_sliders["hidden"].value = 2.0
    drawn(panel)
    assert panel.settings.alpha == 1 / 6
    assert panel.settings.weights == {"hidden": 2.04}
    assert "L = 1·CE(" in formula(panel)
    panel.alpha_slider.value = 0.18
    drawn(panel)
    assert panel.settings.alpha == panel.alpha_box.value == 0.18
