"""Several students of one teacher: what they cost and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.layers import LINES, SERIES, SIGNS
from workbench.plots.style import COLOURS, label_ends, new_figure, round_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Published names of the recipes.
TITLES = {
    "distilbiobert": "DistilBioBERT",
    "tinybiobert": "TinyBioBERT",
    "compactbiobert": "CompactBioBERT",
}
_MARKERS = {"distilbiobert": "o", "tinybiobert": "^", "compactbiobert": "D"}


def students_figure(measured: Mapping[str, Any]) -> Figure:
    """Quality against parameters and against latency, and the published figures beside them.

    In the upper row by how much the perplexity of hidden words lies above the oracle's, below the
    F1 of entities. Filled signs are students, open ones the same students trained without a
    teacher, a sign a seed; the square is the teacher.

    Args:
        measured: of `biobert_study.stored`.
    """
    figure, (by_size, by_speed, size, published) = new_figure(11.5, 8.2, columns=2, rows=2)
    for axes, cost, quality, label in (
        (by_size, "parameters", "perplexity", "parameters (millions)"),
        (by_speed, "latency_ms", "perplexity", "latency of a sentence (ms)"),
        (size, "parameters", "entity_f1", "parameters (millions)"),
    ):
        _signs(axes, measured, cost, quality, named=axes is by_size)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
    for axes in (by_size, by_speed):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_yticks(ticks := round_ticks(low, high), [f"{100 * t:g} %" for t in ticks])
        axes.minorticks_off()
    by_size.set_ylabel("perplexity above the oracle's")
    size.set_ylabel("F1 of entities, classroom")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    _published(published, measured["published"])
    return figure


def _signs(
    axes: Axes, measured: Mapping[str, Any], cost: str, quality: str, *, named: bool
) -> None:
    """Teacher, students and baselines; ``named`` puts them in the legend."""
    scale = 1e-6 if cost == "parameters" else 1.0
    teacher, oracle = measured["teacher"], measured["oracle"]["perplexity"]

    def height(row: Mapping[str, Any]) -> float:
        return row[quality] / oracle - 1 if quality == "perplexity" else row[quality]

    axes.plot(
        scale * teacher[cost], height(teacher), "s", color=COLOURS["teacher"], markersize=11,
        label="teacher" if named else None,
    )  # fmt: skip
    for name, runs in measured["students"].items():
        for role, filled in (("student", True), ("baseline", False)):
            # A sign stands at the median latency of its seeds: the models are the same.
            place = scale * float(np.median([run[role][cost] for run in runs]))
            axes.plot(
                [place] * len(runs), [height(run[role]) for run in runs],
                _MARKERS[name], color=COLOURS[role], markersize=8, linestyle="none",
                markerfacecolor=COLOURS[role] if filled else "none", markeredgewidth=1.6,
                label=f"{TITLES[name]}{'' if filled else ', no teacher'}" if named else None,
            )  # fmt: skip


def ablation_figure(ablation: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Held-out perplexity while learning with each term taken out: mean and range of the seeds.

    Args:
        ablation: of `biobert_study.stored`, or of `biobert_study.ablate` by recipe.
    """
    figure, found = new_figure(4.2 * len(ablation), 4.4, columns=len(ablation))
    all_axes = [found] if len(ablation) == 1 else list(found)
    for axes, (name, settings) in zip(all_axes, ablation.items(), strict=True):
        ends = []
        for number, (label, band) in enumerate(settings.items()):
            # Before training is far above and says nothing about the terms.
            curves = np.array(band["perplexity"])[:, 1:]
            steps = band["steps"][1:]
            mean = np.exp(np.log(curves).mean(0))
            axes.plot(
                steps, mean, LINES[number % 7], color=SERIES[number % 7],
                marker=SIGNS[number % 7], linewidth=2.2, markersize=6,
            )  # fmt: skip
            axes.fill_between(
                steps, curves.min(0), curves.max(0), color=SERIES[number % 7], alpha=0.18,
                linewidth=0,
            )  # fmt: skip
            ends.append((float(mean[-1]), label, SERIES[number % 7]))
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_yticks(ticks := _ticks(low, high), [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set_xlabel("step")
        axes.set_title(TITLES.get(name, name), loc="left", fontsize=13, fontweight="bold")
        label_ends(axes, ends, low, high)
    all_axes[0].set_ylabel("held-out perplexity of hidden words")
    return figure


def _ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis, also of one that spans less than a factor of three."""
    from matplotlib.ticker import MaxNLocator

    if high > 3 * low:
        return round_ticks(low, high)
    return [t for t in MaxNLocator(5).tick_values(low, high).tolist() if low <= t <= high]


def _published(axes: Axes, rows: Sequence[Mapping[str, str]]) -> None:
    for row in rows:
        size, f1 = float(row["parameters"]) / 1e6, float(row["ncbi_disease_f1"])
        role = "teacher" if row["model"] == "BioBERT" else "student"
        axes.plot(size, f1, "s" if role == "teacher" else "o", color=COLOURS[role], markersize=9)
        axes.annotate(
            row["model"], (size, f1), (-8 if role == "teacher" else 8, -4),
            textcoords="offset points", ha="right" if role == "teacher" else "left", fontsize=11,
        )  # fmt: skip
    axes.set_xlim(0, 125)
    axes.set_xlabel("parameters (millions)")
    axes.set_ylabel("F1 of diseases (NCBI), published")
    axes.margins(y=0.25)
