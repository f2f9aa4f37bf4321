"""A student at work: latency under load, the queue before it, and several students together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.costs import _plain_ticks
from workbench.plots.layers import SIGNS
from workbench.plots.style import COLOURS, LABELS, STYLES, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Shares of a model's capacity whose queues are drawn.
SHOWN_LOADS = (0.6, 0.95, 1.25)
_LOAD_LINES = (":", "-.", "-", (0, (5, 1)), (0, (1, 1)))
_SIGNS = {"teacher": "s", "student": "o"}


def stream_figure(*measured: Mapping[str, Any]) -> Figure:
    """Latency from arrival to answer against the offered load, a panel for each measurement.

    Open signs are the median, filled ones the 99th percentile. An upright line stands at each
    model's capacity.

    Args:
        measured: of `open_load.measure`, which differ in ``max_batch``.
    """
    figure, found = new_figure(6.2 * len(measured), 5.0, columns=len(measured))
    panels = [found] if len(measured) == 1 else list(found)
    for axes, one in zip(panels, measured, strict=True):
        _latencies(axes, one)
    limits = [axes.get_ylim() for axes in panels]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    for axes in panels:
        axes.set_ylim(low, high)
        _plain_ticks(axes.yaxis, low, high)
    panels[0].set_ylabel("latency, arrival to answer (ms)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    return figure


def _latencies(axes: Axes, measured: Mapping[str, Any]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name, entry in measured["models"].items():
        colour = COLOURS.get(name, COLOURS["uniform"])
        sign = _SIGNS.get(name, "D")
        rates = [run["rate"] for run in entry["runs"]]
        lines = {p: [run["latency_ms"][p] for run in entry["runs"]] for p in ("p50", "p99")}
        axes.fill_between(rates, lines["p50"], lines["p99"], color=colour, alpha=0.10, linewidth=0)
        for percentile, width, filled in (("p50", 1.4, False), ("p99", 2.4, True)):
            axes.plot(
                rates, lines[percentile], linestyle=STYLES.get(name, "-"), color=colour,
                linewidth=width, marker=sign, markersize=7, markeredgewidth=1.5,
                markeredgecolor=colour, markerfacecolor=colour if filled else "white",
                label=f"{name}, {percentile}",
            )  # fmt: skip
        axes.axvline(entry["capacity"], color=colour, linewidth=1.2, linestyle=":")
        axes.annotate(
            f"{name}'s capacity\n{entry['capacity']:,.0f}/s", (entry["capacity"], 1.0), (-5, -4),
            xycoords=("data", "axes fraction"), textcoords="offset points", ha="right", va="top",
            fontsize=10, color=colour,
        )  # fmt: skip
    # Room above the curves for the words at the top.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.2)
    axes.margins(x=0.08)
    _plain_ticks(axes.xaxis, *axes.get_xlim())
    axes.set_xlabel("sequences arriving per second")
    most = measured["max_batch"]
    title = "one at a time" if most == 1 else f"up to {most} at a time"
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold")


def queue_figure(measured: Mapping[str, Any], loads: Sequence[float] = SHOWN_LOADS) -> Figure:
    """How many sequences wait, over time: below, near and beyond a model's capacity.

    The dashed line is what arithmetic expects beyond capacity: arrivals less answers, until the
    arrivals end.

    Args:
        measured: of `open_load.measure`.
        loads: shares of the capacity; the nearest that were measured are drawn.
    """
    entries = measured["models"]
    figure, found = new_figure(5.6 * len(entries), 4.4, columns=len(entries))
    panels = [found] if len(entries) == 1 else list(found)
    for axes, (name, entry) in zip(panels, entries.items(), strict=True):
        _queues(axes, name, entry, measured["seconds"], loads)
        axes.set_title(
            f"{name}, capacity {entry['capacity']:,.0f}/s", loc="left", fontsize=13,
            fontweight="bold", color=COLOURS.get(name, "black"),
        )  # fmt: skip
        axes.set_xlabel("time (s)")
    panels[0].set_ylabel("sequences that wait")
    from matplotlib.lines import Line2D

    # In grey: the colours are the models', the signs and styles say which load it is.
    handles = [
        Line2D([], [], **{**_look(line), "color": COLOURS["uniform"]}) for line in panels[0].lines
        if not line.get_label().startswith("_")
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    return figure


def _look(line) -> dict[str, Any]:
    return {
        "linestyle": line.get_linestyle(),
        "marker": line.get_marker(),
        "linewidth": line.get_linewidth(),
        "label": line.get_label(),
    }


def _queues(
    axes: Axes, name: str, entry: Mapping[str, Any], seconds: float, loads: Sequence[float]
) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.ticker import MaxNLocator

    own = np.array(to_rgb(COLOURS.get(name, "#000000")))
    for number, load in enumerate(loads):
        run = min(entry["runs"], key=lambda run: abs(run["load"] - load))
        # The heavier the load the fuller the colour.
        strength = 0.45 + 0.55 * number / max(1, len(loads) - 1)
        axes.plot(
            run["queue"]["seconds"], run["queue"]["waiting"], _LOAD_LINES[number],
            color=1 - strength * (1 - own), marker=SIGNS[number], markevery=6, markersize=5,
            linewidth=2, label=f"{run['load']:.0%} of capacity",
        )  # fmt: skip
        if run["load"] > 1:
            axes.plot(
                [0.0, seconds], [0.0, (run["rate"] - entry["capacity"]) * seconds], "--",
                color=COLOURS["oracle"], linewidth=1.2, label="arrivals less capacity",
            )  # fmt: skip
    axes.axvline(seconds, color=COLOURS["uniform"], linewidth=1.0, linestyle=":")
    axes.annotate(
        "arrivals end", (seconds, 1.0), (4, -2), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize=9, color="#555555",
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(axes.get_xlim()[1], 1.25 * seconds))


def ensemble_figure(measured: Mapping[str, Any], batch: int = 1) -> Figure:
    """Quality and calibration of 1 … K students against the time that they take.

    Time is a share of the teacher's. Bars reach from the lowest to the highest of the ensembles of
    that many students; the ring marks the largest that needs no more time than the teacher.

    Args:
        measured: of `ensembles.compare`.
        batch: for which of the measured batches.
    """
    times = next((entry for entry in measured["times"] if entry["batch"] == batch), None)
    if times is None:
        known = ", ".join(str(entry["batch"]) for entry in measured["times"])
        raise ValueError(f"no batch of {batch} was timed; there are {known}")
    shares = [ms / times["teacher_ms"] for ms in times["students_ms"]]
    figure, (left, right) = new_figure(11.5, 4.8, columns=2)
    words = f"{measured['name']} ({measured['better']} is better)"
    for axes, key, label in (
        (left, measured["headline"], words),
        (right, "calibration_error", "calibration error (lower is better)"),
    ):
        _crowd(axes, measured, key, shares, times["fitting"])
        axes.set_ylabel(label)
        size = "one sequence" if batch == 1 else f"{batch} sequences"
        axes.set_xlabel(f"time for {size}, as a share of the teacher's")
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    right.set_ylim(bottom=0)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    return figure


def _crowd(
    axes: Axes, measured: Mapping[str, Any], key: str, shares: Sequence[float], fitting: int
) -> None:
    rows = measured["ensembles"]
    means = [statistics.fmean(row[key]) for row in rows]
    ranges = np.array([[min(row[key]), max(row[key])] for row in rows])
    if measured["oracle"] is not None:
        axes.axhline(
            measured["oracle"][key], color=COLOURS["oracle"], linestyle=STYLES["oracle"],
            label=LABELS["oracle"],
        )  # fmt: skip
    axes.axvspan(0.0, 1.0, color="#f2f2f2", zorder=0, label="no more time than the teacher")
    axes.vlines(shares, *ranges.T, color=COLOURS["student"], linewidth=2.4, alpha=0.55)
    axes.plot(
        shares, means, "-o", color=COLOURS["student"], linewidth=1.8, markersize=7,
        label="students, averaged",
    )  # fmt: skip
    axes.plot(
        1.0, measured["teacher"][key], _SIGNS["teacher"], color=COLOURS["teacher"], markersize=11,
        label=LABELS["teacher"],
    )  # fmt: skip
    if fitting:
        axes.plot(
            shares[fitting - 1], means[fitting - 1], "o", markersize=16, markerfacecolor="none",
            markeredgecolor=COLOURS["student"], markeredgewidth=1.6,
        )  # fmt: skip
    for k, (share, top) in enumerate(zip(shares, ranges[:, 1], strict=True), start=1):
        axes.annotate(
            str(k), (share, top), (0, 11), textcoords="offset points", ha="center", fontsize=10,
            color=COLOURS["student"], fontweight="bold" if k == fitting else "normal",
        )  # fmt: skip
    axes.set_xlim(0.0, max(1.1, 1.08 * max(shares)))
    axes.margins(y=0.14)
