"""Figures of hidden words, of attention, of pairs of layers and of gradients: what is in them."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import plots
from workbench.plots import hidden_words
from workbench.plots.style import COLOURS

ANSWERS = {
    "oracle": {"Gefitinib": 0.5, "Erlotinib": 0.3, "Afatinib": 0.2, "Aspirin": 0.0},
    "teacher": {"Gefitinib": 0.4, "Erlotinib": 0.3, "Imatinib": 0.25, "Afatinib": 0.05},
    "student": {"Gefitinib": 0.6, "Erlotinib": 0.4},
}


def text_of(figure) -> str:
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return "\n".join(t.get_text() for t in figure.findobj(Text))


def test_words_are_the_likeliest_of_the_first_and_whatever_another_is_sure_of():
    assert hidden_words.notable(ANSWERS, 2) == ["Gefitinib", "Erlotinib", "Imatinib"]
    assert hidden_words.notable(ANSWERS, 9) == ["Gefitinib", "Erlotinib", "Afatinib", "Imatinib"]


def test_bars_of_words_and_of_all_others_together_add_up_to_one():
    figure = plots.words_figure(ANSWERS, "[MASK] inhibits EGFR.", most=2)
    (axes,) = figure.axes
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ticks == ["Gefitinib", "Erlotinib", "Imatinib", hidden_words.REST]
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers]
    assert np.allclose(np.sum(widths, axis=1), 1)
    assert np.allclose(widths[1], [0.4, 0.3, 0.25, 0.05])
    colours = [bars[0].get_facecolor()[:3] for bars in axes.containers]
    expected = [COLOURS[name] for name in ANSWERS]
    assert [
        "#" + "".join(f"{round(255 * c):02X}" for c in colour) for colour in colours
    ] == expected
    assert "[MASK] inhibits EGFR." in text_of(figure)


def test_students_by_name_look_different_from_each_other_and_from_the_roles():
    names = ("oracle", "teacher", "DistilBioBERT", "TinyBioBERT", "CompactBioBERT", "baseline")
    figure = plots.words_figure({name: ANSWERS["oracle"] for name in names}, "x")
    bars = [container[0] for container in figure.axes[0].containers]
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == len(names)
    assert "TinyBioBERT" in text_of(figure)


def test_attention_has_a_row_for_each_model_and_a_map_for_each_layer():
    maps = np.full((3, 3), 1 / 3)
    rows = {
        "teacher": [("layer 2", maps), ("layer 5", maps)],
        "student": [("layer 0", maps), ("layer 1", np.eye(3))],
    }
    figure = plots.attention_figure(rows, ["[CLS]", "Gefitinib", "[SEP]"], "One head")
    shown = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in shown] == ["layer 2", "layer 5", "layer 0", "layer 1"]
    assert np.array_equal(shown[3].images[0].get_array(), np.eye(3))
    assert {axes.images[0].get_clim() for axes in shown} == {(0.0, 1.0)}
    text = text_of(figure)
    assert "Gefitinib" in text and "One head" in text and "student" in text


def test_a_model_with_fewer_maps_leaves_its_places_empty():
    maps = np.eye(2)
    rows = {"teacher": [("0", maps), ("1", maps)], "student": [("0", maps)]}
    figure = plots.attention_figure(rows, ["a", "b"], "t")
    assert [axes.get_visible() for axes in figure.axes[:4]] == [True, True, True, False]


@pytest.fixture
def pairs_figure():
    return plots.layer_pairs_figure(
        12, 4, hidden=[(m, 3 * m) for m in range(5)],
        attention=[(m, 3 * m + 2) for m in range(4)], title="TinyBioBERT",
    )  # fmt: skip


def test_pairs_of_layers_are_lines_between_the_right_boxes(pairs_figure):
    (axes,) = pairs_figure.axes
    boxes = {}
    for text in axes.texts:
        boxes.setdefault(text.get_position()[1], {})[text.get_text()] = text.get_position()[0]
    teacher, student = boxes[1.0], boxes[0.0]
    assert [n for n in teacher if n != "teacher"] == ["emb.", *map(str, range(12))]
    assert [n for n in student if n != "student"] == ["emb.", *map(str, range(4))]
    ends = [tuple(line.get_xdata()) for line in axes.lines]
    assert len(ends) == 9
    hidden, attention = ends[:5], ends[5:]
    for number, (low, high) in enumerate(hidden):
        own = "emb." if number == 0 else str(number - 1)
        theirs = "emb." if number == 0 else str(3 * number - 1)
        assert (low, high) == pytest.approx((student[own] - 0.09, teacher[theirs] - 0.09))
    for layer, (low, high) in enumerate(attention):
        at = student[str(layer)] + 0.09, teacher[str(3 * layer + 2)] + 0.09
        assert (low, high) == pytest.approx(at)


def test_what_is_not_compared_is_not_in_the_legend(pairs_figure):
    said = [text.get_text() for text in pairs_figure.axes[0].get_legend().get_texts()]
    assert said == ["hidden states compared", "attention compared"]
    copied = plots.layer_pairs_figure(12, 6, copied=[(i, 2 * i) for i in range(6)])
    assert [t.get_text() for t in copied.axes[0].get_legend().get_texts()] == ["copied"]


def test_shares_of_the_gradient_fill_each_bar():
    ledgers = {
        "corrected": {"hard": 0.14, "soft": 0.25, "hidden": 0.52, "attention": 0.09},
        "as-coded": {"hard": 0.3, "soft": 0.7},
    }
    figure = plots.shares_figure(ledgers, "Whose gradient")
    (axes,) = figure.axes
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    assert np.allclose(widths.sum(0), 1)
    # The first label stands at the top.
    assert [t.get_text() for t in axes.get_yticklabels()] == ["as-coded", "corrected"]
    assert np.allclose(widths[:, 1], [0.14, 0.25, 0.52, 0.09])
    assert len({(bars[0].get_facecolor(), bars[0].get_hatch()) for bars in axes.containers}) == 4
    text = text_of(figure)
    assert "52%" in text and "labels" in text and "Whose gradient" in text


def test_perplexity_shows_where_the_curves_begin():
    lines = [
        {"step": 0, "validation": {n: {"perplexity": 40.0} for n in ("student", "baseline")}},
        {"step": 9, "validation": {n: {"perplexity": 2.0} for n in ("student", "baseline")}},
    ]
    results = {name: {"perplexity": 1.5} for name in ("oracle", "teacher", "student", "baseline")}
    (axes,) = plots.perplexity_figure(lines, results).axes
    low, high = axes.get_ylim()
    assert low < 1.5 and high > 40
