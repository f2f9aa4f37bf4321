"""The figure of a run while it learns: where its points lie, what it says, what it escapes."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from workbench import plots
from workbench.lab import svg

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'text' \x00"
NAMESPACE = {"svg": "http://www.w3.org/2000/svg"}
CURVE = [(0, 22.0), (50, 12.0), (100, 9.0)]


def chart(**given) -> ElementTree.Element:
    return ElementTree.fromstring(svg.learning_chart(**given))


def visible(text: str) -> str:
    """What a chart shows, without its description."""
    root = ElementTree.fromstring(text)
    return " | ".join("".join(t.itertext()) for t in root.iterfind(".//svg:text", NAMESPACE))


def test_a_chart_is_well_formed_and_says_what_it_shows():
    text = svg.learning_chart(
        student=CURVE, baseline=CURVE, references={"oracle": 6.2, "teacher": 6.8}, steps=100,
        step=50, running="T=10 α=0.1 corrected", ghosts=[svg.Ghost("T=1 α=0 corrected: 9", CURVE)],
    )  # fmt: skip
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert root.find("svg:title", NAMESPACE).text == "Held-out perplexity while learning"
    assert root.find("svg:desc", NAMESPACE).text == (
        "This run: T=10 α=0.1 corrected. student, distilled: 9.00 at step 100 of 100. "
        "baseline, labels only: 9.00 at step 100 of 100. teacher: 6.80. oracle (the truth): 6.20. "
        "Earlier run T=1 α=0 corrected: 9."
    )
    assert len(root.findall(".//svg:polyline", NAMESPACE)) == 3
    assert "id=" not in text  # several charts share a page


def test_points_lie_where_their_numbers_say():
    frame = svg._Frame(100, 5.0, 20.0)
    left, right = svg.LEFT, svg.LEFT + svg.PLOT_WIDTH
    top, bottom = svg.TOP, svg.TOP + svg.PLOT_HEIGHT
    assert frame.place((0, 5.0)) == (left, bottom)
    assert frame.place((100, 20.0)) == (right, top)
    assert frame.place((50, 10.0)) == pytest.approx(((left + right) / 2, (top + bottom) / 2))


def test_the_untrained_beginning_is_cut_off_and_named():
    shown = visible(svg.learning_chart(student=CURVE, baseline=CURVE, steps=100))
    assert "↑ the untrained student: 22.0" in shown
    frame = svg._Frame.around([CURVE], [], 100)
    assert frame.low < 9.0 < 12.0 < frame.high < 22.0


@pytest.mark.parametrize("steps", [1, 3, 20, 400, 1200, 100_000])
def test_axis_ticks_are_few_and_inside(steps):
    frame = svg._Frame.around([CURVE], [], steps)
    ticks = frame.round_steps()
    assert ticks[0] == 0 and ticks[-1] <= max(steps, 100) and 2 <= len(ticks) <= 8
    assert 2 <= len(frame.values()) <= 8


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, 1e300])
def test_numbers_that_cannot_be_drawn_do_no_harm(value):
    root = chart(student=[(0, value), *CURVE[1:]], baseline=[(0, value)], steps=100)
    for line in root.iterfind(".//svg:polyline", NAMESPACE):
        assert "nan" not in line.get("points") and "inf" not in line.get("points")


def test_labels_keep_their_order_and_distance():
    wanted = sorted([60, 61, 61, 62, 200, 205, 330, 331, 332.0])
    heights = svg.spread(wanted)
    gaps = [b - a for a, b in pairwise(heights)]
    assert min(gaps) >= svg.LABEL_GAP - 1e-6
    assert heights[0] >= svg.TOP and heights[-1] <= svg.TOP + svg.PLOT_HEIGHT
    assert svg.spread([100.0, 200.0]) == [100.0, 200.0]


def test_many_ghosts_are_drawn_and_the_newest_named():
    ghosts = [svg.Ghost(f"T={i} α=0.1 corrected: 9.00", CURVE) for i in range(1, 13)]
    root = chart(student=CURVE, baseline=CURVE, ghosts=ghosts, steps=100)
    assert len(root.findall(".//svg:polyline", NAMESPACE)) == 14
    words = " ".join("".join(t.itertext()) for t in root.iterfind(".//svg:text", NAMESPACE))
    assert "T=12 " in words and "T=5 " in words and "T=4 " not in words


def test_hostile_text_stays_text():
    text = svg.learning_chart(
        student=CURVE, steps=100, running=HOSTILE, ghosts=[svg.Ghost(HOSTILE, CURVE)]
    )
    assert "<img" not in text and "<img" in "".join(ElementTree.fromstring(text).itertext())


@pytest.mark.parametrize("background", [1.0, 0.0056])  # white, and the dark theme's #111111
@pytest.mark.parametrize("name", ["student", "baseline", "teacher"])
def test_lines_stand_out_on_light_and_dark(name, background):
    """WCAG 2.1, 1.4.11: at least 3 to 1."""
    channels = [int(plots.COLOURS[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    high, low = max(luminance, background), min(luminance, background)
    assert (high + 0.05) / (low + 0.05) >= 3
