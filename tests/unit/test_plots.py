"""Figures of the course: what stands in them, and that the same numbers give the same bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench import plots
from workbench.comparisons.answers import Calibration
from workbench.comparisons.studies import Band, Learned
from workbench.config import RunConfig
from workbench.metrics import Quality


def band(label: str, *runs: tuple[float, ...]) -> Band:
    quality = Quality(2.0, 8.0, 8.0, 0.1, 0.2, 0.7, 100)
    config = RunConfig.from_recipe("protgpt2-tiny")
    steps = tuple(range(0, 10 * len(runs[0]), 10))
    return Band(label, tuple(Learned(config, steps, r, quality, 1000, None) for r in runs))


def texts(figure) -> str:
    """Everything that is written in a figure."""
    from matplotlib.text import Text

    figure.canvas.draw()
    return " | ".join(t.get_text() for t in figure.findobj(Text) if t.get_text())


def figure_of(name: str):
    """The figure of that name, drawn from a few numbers."""
    several = {
        "2i": band("2i", (9.0, 8.0, 7.9), (9.1, 8.2, 8.1)),
        "last": band("last", (23, 12, 11)),
    }
    table = np.random.default_rng(0).dirichlet(np.ones(20), size=20)
    np.fill_diagonal(table, np.nan)
    curve = Calibration((0.2, 0.8), (0.1, 0.5), (10, 5), 0.25, 2.5)
    return {
        "entropy": lambda: plots.entropy_figure(
            (0.5, 1, 10), {"oracle": (1, 2, 3), "student": (2, 2.5, 3)}
        ),
        "gradient": lambda: plots.gradient_figure((1, 10), (0.3, 0.001), (0.3, 0.1), 0.9),
        "substitution": lambda: plots.substitution_figure({"oracle": table, "teacher": table}),
        "calibration": lambda: plots.calibration_figure({"alone": curve}, {"alone": "baseline"}),
        "sweep": lambda: plots.sweep_figure(
            {"tiny": {1: several["2i"], 10: several["last"]}}, {"tiny": band("x", (20, 10))}
        ),
        "start": lambda: plots.start_figure(several, {"teacher": 7.6, "uniform": 21.0}),
        "bands": lambda: plots.bands_figure(several, {"oracle": 7.1}, "Two starts"),
        "similarity": lambda: plots.similarity_figure(np.eye(3), "teacher", "student"),
        "parts": lambda: plots.parts_figure(
            {"tiny": {"embeddings": 68, "layers": 31, "norm and head": 1}}
        ),
    }[name]()


WRITTEN = {
    "entropy": ("ln 21", "oracle (the truth)", "student, distilled", "temperature T"),
    "gradient": ("labels 0.9", "teacher, times T²", "teacher, without T²"),
    "substitution": ("oracle", "teacher", "instead", "times its natural frequency", "W"),
    "calibration": ("alone: error 0.250", "honest"),
    "sweep": ("tiny", "labels only", "held-out perplexity"),
    "start": ("9.0", "23.0", "teacher 7.6", "uniform guess 21.0"),
    "bands": ("Two starts", "2i 8.00", "last 11.00", "oracle (the truth) 7.10", "step"),
    "similarity": ("emb.", "1.00", "after layer … of the teacher"),
    "parts": ("68%", "31%", "100", "embeddings", "layers"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_figure_names_what_it_shows(name):
    written = texts(figure_of(name))
    for text in WRITTEN[name]:
        assert text in written, written


@pytest.mark.parametrize("name", WRITTEN)
def test_same_numbers_same_bytes(name, tmp_path):
    for copy in ("a", "b"):
        plots.save(figure_of(name), tmp_path / f"{copy}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_bands_lie_between_lowest_and_highest():
    one = band("2i", (9.0, 8.0), (9.0, 8.2))
    figure = plots.bands_figure({"2i": one}, {}, "x")
    (area,) = figure.axes[0].collections
    heights = area.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((8.0, 8.2))
    line = figure.axes[0].lines[0]
    assert line.get_ydata()[-1] == pytest.approx(math.sqrt(8.0 * 8.2))


def test_the_best_temperature_is_circled():
    better, worse = band("a", (20, 8.0)), band("b", (20, 9.0))
    figure = plots.sweep_figure({"tiny": {1: worse, 4: better}}, {})
    (circle,) = [line for line in figure.axes[0].lines if line.get_fillstyle() == "none"]
    assert list(circle.get_xdata()) == [4]
