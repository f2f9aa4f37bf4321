"""What students cost and what they are worth: the Pareto front, and how many times faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.comparisons.tradeoff import CLAIM, COSTS, PUBLISHED, front, label
from workbench.plots.layers import LINES, SERIES, SIGNS
from workbench.plots.style import COLOURS, LABELS, STYLES, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What the built-in teachers stand in for.
TITLES = {"protgpt2": "ProtGPT2", "pmhc": "protein BERT, peptide–HLA", "biobert": "BioBERT"}


def tradeoff_figure(measured: Mapping[str, Any], cost: str = "latency_ms") -> Figure:
    """Quality against one cost for all students, a panel a teacher, with the Pareto front.

    Filled signs are students, open ones the same students trained without a teacher, the square
    is the teacher. The line joins the models that no other one beats at the same cost or less.

    Args:
        measured: of `costs.measure` or `tradeoff.stored`.
        cost: of `tradeoff.COSTS`.
    """
    teachers = measured["teachers"]
    figure, found = new_figure(4.7 * len(teachers), 4.9, columns=len(teachers))
    panels = [found] if len(teachers) == 1 else list(found)
    for axes, (name, entry) in zip(panels, teachers.items(), strict=True):
        _tradeoff(axes, entry, cost)
        axes.set_title(TITLES.get(name, name), loc="left", fontsize=13, fontweight="bold")
        axes.set_xlabel(COSTS[cost])
        axes.set_ylabel(f"{entry['name']} ({entry['better']} is better)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=10)
    return figure


def _tradeoff(axes: Axes, entry: Mapping[str, Any], cost: str) -> None:
    teacher, students = entry["teacher"], entry["students"]
    points = [(teacher[cost], teacher["quality"])]
    points += [(row[cost], float(np.mean(row["quality"]))) for row in students]
    axes.set_xscale("log")
    if entry["better"] == "lower":
        axes.set_yscale("log")
    best = [points[i] for i in front(points, entry["better"])]
    axes.step(
        *np.array(best).T, where="post", color=COLOURS["uniform"], linewidth=1.4, zorder=1,
        label="Pareto front",
    )  # fmt: skip
    axes.axhline(
        entry["oracle"], color=COLOURS["oracle"], linestyle=STYLES["oracle"], linewidth=1.2,
        label=LABELS["oracle"],
    )  # fmt: skip
    axes.plot(*points[0], "s", color=COLOURS["teacher"], markersize=11, label=LABELS["teacher"])
    for number, (row, point) in enumerate(zip(students, points[1:], strict=True)):
        first = number == 0
        _seeds(axes, point, row["quality"], "student", first)
        _seeds(axes, (row[cost], float(np.mean(row["baseline"]))), row["baseline"], "baseline",
               first)  # fmt: skip
        # Names alternate between two sides, so that those of neighbours do not touch.
        above = number % 2 == 0
        axes.annotate(
            label(row["recipe"], row["size"]).removeprefix("protgpt2-"), point,
            (0, 11 if above else -11),
            textcoords="offset points", ha="center", va="bottom" if above else "top", fontsize=9,
        )  # fmt: skip
    axes.margins(x=0.16, y=0.12)
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if axis.get_scale() == "log":
            _plain_ticks(axis, *limits)


def _seeds(
    axes: Axes, point: tuple[float, float], values: list[float], role: str, named: bool
) -> None:
    """A sign at the mean of the seeds, and a line from the lowest to the highest."""
    colour = COLOURS[role]
    axes.plot([point[0]] * 2, [min(values), max(values)], color=colour, linewidth=1.6)
    axes.plot(
        *point, "o", color=colour, markersize=8, markeredgewidth=1.6,
        markerfacecolor=colour if role == "student" else "white",
        label=LABELS[role] if named else None,
    )  # fmt: skip


def speedup_figure(measured: Mapping[str, Any], mode: str = "scoring") -> Figure:
    """How many times faster than its teacher: by batch size and length, a panel a student.

    The grey band ends at what the model card claims for its students, "up to 6 times"; the line
    across is what was published for that very student.

    Args:
        measured: of `costs.measure` or `tradeoff.stored`.
        mode: "scoring" or "generating"; students that do not know it have no panel.
    """
    shown = [
        (row, [x for x in row["speedups"] if x["mode"] == mode])
        for entry in measured["teachers"].values()
        for row in entry["students"]
        if any(x["mode"] == mode for x in row["speedups"])
    ]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure, found = new_figure(3.4 * columns, 2.9 * rows + 0.7, columns=columns, rows=rows)
    panels = [found] if len(shown) == 1 else list(found)
    top = 1.15 * max(CLAIM, *(x["speedup"] for _, lines in shown for x in lines))
    for axes, (row, lines) in zip(panels, shown, strict=False):
        _speedup(axes, lines, PUBLISHED.get(row["recipe"]) if not row["size"] else None)
        axes.set_title(label(row["recipe"], row["size"]), loc="left", fontsize=11,
                       fontweight="bold")  # fmt: skip
        axes.set_ylim(min(0.8, *(x["speedup"] for x in lines)), top)
        axes.set_xlabel("sequences in a batch")
        _plain_ticks(axes.yaxis, *axes.get_ylim())
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes in panels[::columns]:
        axes.set_ylabel("times faster")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=10)
    return figure


def _speedup(axes: Axes, lines: list[Mapping[str, Any]], published: float | None) -> None:
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.axhspan(1.0, CLAIM, color="#eeeeee", zorder=0, label="claimed: up to 6 ×")
    axes.axhline(1.0, color="#777777", linewidth=1.0)
    if published is not None:
        axes.axhline(published, color=COLOURS["oracle"], linestyle=":", linewidth=1.6)
        axes.annotate(
            f"published {published:.2f} ×", (0.98, published), (0, 3),
            xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", fontsize=9,
        )  # fmt: skip
    for number, length in enumerate(sorted({x["length"] for x in lines})):
        mine = [x for x in lines if x["length"] == length]
        axes.plot(
            [x["batch"] for x in mine], [x["speedup"] for x in mine], LINES[number],
            color=SERIES[number], marker=SIGNS[number], linewidth=2, markersize=6,
            label=f"{length} tokens",
        )  # fmt: skip
    batches = sorted({x["batch"] for x in lines})
    axes.set_xticks(batches, [str(b) for b in batches])
    axes.minorticks_off()


def _plain_ticks(axis: Any, low: float, high: float) -> None:
    """Round numbers on a logarithmic axis, thousands and millions as words."""
    if high > 3 * low:
        steps = (1, 3) if high > 30 * low else (1, 2, 5)
        ticks = [m * 10.0**e for e in range(-2, 9) for m in steps if low <= m * 10.0**e <= high]
    else:
        from matplotlib.ticker import MaxNLocator

        ticks = [t for t in MaxNLocator(4).tick_values(low, high).tolist() if low <= t <= high]
    axis.set_ticks(ticks, [_plain(t) for t in ticks])
    axis.set_ticks([], minor=True)


def _plain(value: float) -> str:
    for size, word in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{word}"
    return f"{value:g}"
