"""Figures of classifiers, and the panel's chart of F1: what stands in them."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from workbench import plots
from workbench.comparisons.headline import F1, PERPLEXITY
from workbench.config import RunConfig
from workbench.lab import svg
from workbench.lab.live import wording
from workbench.lab.live.engine import Course, Moment
from workbench.plots import binding

SCORES = {"accuracy": 0.8, "f1": 0.8, "auc": 0.9, "matthews": 0.6, "calibration_error": 0.02}


def scores(shift: float = 0.0) -> dict:
    values = {name: value + shift for name, value in SCORES.items()}
    intervals = {name: [value - 0.01, value + 0.02] for name, value in values.items()}
    return {**values, "examples": 100, "intervals": intervals}


def row(shift: float, groups: tuple[str, ...]) -> dict:
    return {
        **scores(shift),
        "groups": {group: scores(shift) for group in groups},
        "alleles": {"HLA-A*02:01": scores(shift), "HLA-B*07:02": scores(shift - 0.1)},
        "reliability": {"counts": [5, 0, 5], "predicted": [0.1, None, 0.9],
                        "observed": [0.2, None, 0.8]},
    }  # fmt: skip


@pytest.fixture
def results() -> dict:
    groups = ("all", "random", "swap", "unseen", "unseen_swap")
    return {
        "oracle": row(0.05, groups), "teacher": row(0.0, groups),
        "student": row(-0.02, groups), "baseline": row(-0.05, groups),
        "without_hla": {"groups": {group: scores(-0.3) for group in groups}},
    }  # fmt: skip


@pytest.fixture
def table_results() -> dict:
    """Of a user's table: no oracle, one group."""
    nothing = {**dict.fromkeys(SCORES), "groups": None, "alleles": None, "reliability": None}
    return {
        "oracle": nothing, "teacher": row(0.0, ("all",)), "student": row(-0.02, ("all",)),
        "baseline": row(-0.05, ("all",)), "without_hla": None,
    }  # fmt: skip


def text_of(figure) -> str:
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return "\n".join(t.get_text() for t in figure.findobj(Text))


def test_information_of_a_column():
    columns = np.stack([np.full(20, 0.05), np.eye(20)[3], np.repeat([0.5, 0.0], [2, 18])])
    assert np.allclose(binding.information(columns), [0, np.log2(20), np.log2(10)])


def test_groups_have_four_marks_with_intervals_and_the_blind_line(results):
    figure = plots.groups_figure(results)
    axes = figure.axes[0]
    assert len(axes.containers) == 4
    for container, name in zip(axes.containers, binding.ROWS, strict=True):
        _, y = container.lines[0].get_data()
        assert np.allclose(y, results[name]["auc"])
        for low, high in [segment[:, 1] for segment in container.lines[2][0].get_segments()]:
            assert (low, high) == pytest.approx(results[name]["intervals"]["auc"])
    assert "best without a look at the HLA" in text_of(figure)


def test_figures_of_a_table_do_without_an_oracle(table_results):
    for figure in (
        plots.groups_figure(table_results), plots.alleles_figure(table_results),
        plots.reliability_figure(table_results),
    ):  # fmt: skip
        assert "oracle" not in text_of(figure) and "teacher" in text_of(figure)


def test_alleles_are_sorted_by_the_first_row_with_their_number_of_pairs(results):
    figure = plots.alleles_figure(results)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["A*02:01  (100)", "B*07:02  (100)"]


def test_reliability_leaves_empty_bins_out(results):
    lines = plots.reliability_figure(results).axes[0].get_lines()[1:]
    assert [list(line.get_xdata()) for line in lines] == [[0.1, 0.9]] * 4


def test_logos_stand_in_a_grid_of_alleles_and_rows():
    motif = np.full((9, 20), 0.05).tolist()
    sharp = np.eye(20)[[3] * 9].tolist()
    motifs = {"oracle": {"a": motif, "b": sharp}, "teacher": {"a": sharp, "b": motif}}
    figure = plots.motifs_figure(motifs)
    assert len(figure.axes) == 4
    assert "measured" in text_of(figure) and "teacher believes" in text_of(figure)
    heights = [max((p.get_extents().y1 for p in axes.patches), default=0) for axes in figure.axes]
    assert heights[1] > 100 * max(heights[0], 1e-9)


def test_sizes_show_where_97_per_cent_are(results):
    point = {"label": "2i", "init": "2i", "interval": [0.7, 0.9], "auc": 0.9}
    points = [
        {**point, "layers": n, "parameters": 50_000 * n, "latency_ms": n, "f1": 0.7 + 0.03 * n}
        for n in (4, 3, 2, 1)
    ]
    teacher = {"layers": 8, "parameters": 410_000, "latency_ms": 3.0, "f1": 0.85}
    figure = plots.sizes_figure(points, teacher)
    levels = [line.get_ydata()[0] for line in figure.axes[0].get_lines()[:2]]
    assert levels == pytest.approx([0.85, 0.97 * 0.85])
    assert "97 % of the teacher" in text_of(figure)


def test_the_double_softmax_figure_shows_the_bounds():
    figure = plots.double_softmax_figure()
    wrong = figure.axes[0].get_lines()[1].get_ydata()
    assert 0.3133 < wrong.min() < 0.32 and 1.30 < wrong.max() < 1.3133


# ---------------------------------------------------------------------- the panel


CURVE = [(0, 0.5), (50, 0.8), (100, 0.85)]


def test_a_chart_of_f1_is_linear_and_says_that_higher_is_better():
    root = ElementTree.fromstring(
        svg.learning_chart(student=CURVE, references={"teacher": 0.9}, steps=100, headline=F1)
    )
    words = " ".join(root.itertext())
    assert "Held-out F1 while learning" in words and "higher is better" in words
    assert "0.850" in words and "0.900" in words and "perplexity" not in words
    frame = svg._Frame.around([CURVE], [0.9], 100, F1)
    heights = [frame.place((0, value))[1] for value in (0.5, 0.6, 0.7, 0.8)]
    assert np.allclose(np.diff(heights), np.diff(heights)[0])
    assert all(frame.low <= tick <= frame.high for tick in frame.values())


@pytest.mark.parametrize(
    ("headline", "word", "best"), [(F1, "highest", 0.9), (PERPLEXITY, "lowest", 0.8)]
)
def test_the_best_of_finished_runs_is_bold(headline, word, best):
    finished = tuple(
        Course(i, RunConfig.from_recipe("protgpt2-tiny", seed=i), results={
            "student": {headline.key: value, "kl_to_teacher": None, "agreement": None},
            "baseline": {headline.key: 0.85}, "seconds": 1.0,
        })
        for i, value in enumerate((0.8, 0.9), start=1)
    )  # fmt: skip
    page = wording.table(Moment(earlier=finished), headline)
    assert f"the {word} {headline.name} is bold" in page
    bold = [cell for cell in page.split("<td")[1:] if "<strong>" in cell]
    assert len(bold) == 1 and headline.write(best) in bold[0]
    assert page.count(">–<") == 4
    assert page.count('scope="row"') == 2
