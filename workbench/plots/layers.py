"""Figures about layers: which resemble which, what a start is worth, where the parameters are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.plots.style import (
    COLOURS,
    LABELS,
    STYLES,
    label_ends,
    new_figure,
    round_ticks,
    set_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.comparisons.studies import Band

#: Okabe & Ito's colours that no role in the course has, in the order in which they are given out.
SERIES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", "-", "--", "-.")
SIGNS = ("o", "s", "^", "D", "v", "P", "X")
PARTS = {"embeddings": COLOURS["hard"], "layers": COLOURS["soft"], "norm and head": "#999999"}


def similarity_figure(table: np.ndarray, rows: str, columns: str) -> Figure:
    """Linear CKA between the hidden states of two models, as a heat map with its numbers.

    Args:
        table: ``[rows, columns]``, from 0 to 1; row 0 and column 0 are the embeddings.
        rows: whose the rows are.
        columns: whose the columns are.
    """
    figure, axes = new_figure(1.6 + 0.52 * table.shape[1], 1.4 + 0.46 * table.shape[0])
    image = axes.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        axes.text(
            j, i, f"{value:.2f}".replace("0.", "."), ha="center", va="center", fontsize=9,
            color="black" if value > 0.55 else "white",
        )  # fmt: skip
    for axis, count, name in (
        (axes.xaxis, table.shape[1], columns),
        (axes.yaxis, table.shape[0], rows),
    ):
        axis.set_ticks(range(count), ["emb.", *map(str, range(count - 1))])
        axis.set_label_text(f"after layer … of the {name}")
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.9).set_label("linear CKA")
    set_title(figure, axes, "Which layers say the same")
    return figure


def start_figure(bands: Mapping[str, Band], references: Mapping[str, float]) -> Figure:
    """Held-out perplexity before any training, a dot for each start.

    Args:
        bands: by the name of the start; the first evaluation is shown.
        references: of "teacher" and "uniform".
    """
    figure, axes = new_figure(8.0, 1.2 + 0.46 * len(bands))
    names = list(bands)[::-1]
    values = [bands[name].mean(0) for name in names]
    # Dots, not bars: on a logarithmic axis a bar has no beginning.
    axes.scatter(values, range(len(names)), s=90, color=COLOURS["student"], zorder=3)
    axes.set_yticks(range(len(names)), names, fontsize=12)
    axes.grid(axis="y", color="#dddddd")
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:,.1f}", (value, place), (9, 0), textcoords="offset points", va="center",
            fontsize=11,
        )  # fmt: skip
    for name, value in references.items():
        axes.axvline(value, color=COLOURS[name], linestyle=STYLES[name], linewidth=1.8)
        axes.annotate(
            f"{LABELS[name]} {value:.1f}", (value, 1.0), (3, 4), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=COLOURS[name], fontsize=11,
        )  # fmt: skip
    axes.set_xscale("log")
    low, high = 0.9 * min([*values, *references.values()]), 1.6 * max(values)
    axes.set_xlim(low, high)
    axes.set_xticks(ticks := round_ticks(low, high), [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("held-out perplexity before training (lower is better)")
    return figure


def bands_figure(bands: Mapping[str, Band], references: Mapping[str, float], title: str) -> Figure:
    """Held-out perplexity against step: mean over seeds, and a band from lowest to highest.

    Args:
        bands: by label.
        references: of "teacher", "oracle".
        title: of the figure.
    """
    figure, axes = new_figure(9.0, 4.8)
    ends = []
    for number, (label, band) in enumerate(bands.items()):
        places = range(1, len(band.steps))  # before training is another figure
        steps = band.steps[1:]
        mean = [band.mean(i) for i in places]
        axes.plot(
            steps, mean, LINES[number % 7], color=SERIES[number % 7], marker=SIGNS[number % 7],
            linewidth=2.2, markersize=6,
        )  # fmt: skip
        low, high = [band.lowest(i) for i in places], [band.highest(i) for i in places]
        axes.fill_between(steps, low, high, color=SERIES[number % 7], alpha=0.18, linewidth=0)
        ends.append((mean[-1], label, SERIES[number % 7]))
    for name, value in references.items():
        axes.axhline(value, color=COLOURS[name], linestyle=STYLES[name], linewidth=1.8)
        ends.append((value, LABELS[name], COLOURS[name]))
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_yticks(ticks := round_ticks(low, high), [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(low, high)
    axes.set_xlabel("step")
    axes.set_ylabel("held-out perplexity (lower is better)")
    label_ends(axes, ends, low, high)
    set_title(figure, axes, title)
    return figure


def parts_figure(models: Mapping[str, Mapping[str, int]]) -> Figure:
    """Where a model's parameters are: embeddings, layers, the rest.

    Args:
        models: by name, parameters of each of `PARTS`.
    """
    figure, axes = new_figure(9.0, 1.3 + 0.52 * len(models))
    names = list(models)[::-1]
    left = np.zeros(len(names))
    for part, colour in PARTS.items():
        shares = np.array([models[n].get(part, 0) / sum(models[n].values()) for n in names])
        axes.barh(names, shares, left=left, color=colour, height=0.62, label=part,
                  edgecolor="white")  # fmt: skip
        for place, (start, share) in enumerate(zip(left, shares, strict=True)):
            if share > 0.06:
                axes.text(start + share / 2, place, f"{share:.0%}", ha="center", va="center",
                          fontsize=11)  # fmt: skip
        left += shares
    for place, name in enumerate(names):
        axes.annotate(
            f"{sum(models[name].values()):,}", (1.0, place), (6, 0), textcoords="offset points",
            va="center", fontsize=11, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("share of the parameters")
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure
