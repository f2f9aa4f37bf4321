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
    """Entity F1 against parameters and against latency, and the published figures beside them.

    Filled signs are students, open ones the same students trained without a teacher, a sign a
    seed; the square is the teacher.

    Args:
        measured: of `biobert_study.stored`.
    """
    figure, (size, speed, published) = new_figure(11.5, 4.2, columns=3)
    for axes, key, label in (
        (size, "parameters", "parameters (millions)"),
        (speed, "latency_ms", "latency of a sentence (ms)"),
    ):
        scale = 1e-6 if key == "parameters" else 1.0
        teacher = measured["teacher"]
        axes.plot(
            scale * teacher[key], teacher["entity_f1"], "s", color=COLOURS["teacher"],
            markersize=11, label="teacher" if axes is size else None,
        )  # fmt: skip
        for name, runs in measured["students"].items():
            for role, filled in (("student", True), ("baseline", False)):
                # A sign stands at the median latency of its seeds: the models are the same.
                place = scale * float(np.median([run[role][key] for run in runs]))
                axes.plot(
                    [place] * len(runs), [run[role]["entity_f1"] for run in runs],
                    _MARKERS[name], color=COLOURS[role], markersize=8, linestyle="none",
                    markerfacecolor=COLOURS[role] if filled else "none", markeredgewidth=1.6,
                    label=f"{TITLES[name]}{'' if filled else ', no teacher'}"
                    if axes is size else None,
                )  # fmt: skip
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
    size.set_ylabel("F1 of entities, classroom")
    speed.set_ylim(size.get_ylim())
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    _published(published, measured["published"])
    return figure


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
