"""Figures of classifiers of texts: each class apart, and calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.plots import binding
from workbench.plots.style import COLOURS, LABELS, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = ("teacher", "student", "baseline")
#: Most classes in a figure, the most frequent ones; a name's most letters.
SHOWN, NAME = 30, 28


def classes_figure(results: dict[str, Any]) -> Figure:
    """F1 of each class of the held-out texts, the teacher's best at the top.

    Args:
        results: of results.json of a classifier of texts.
    """
    rows = [name for name in ROWS if results[name]["classes"]]
    first = results[rows[0]]["classes"]
    names = [name for name in first if first[name]["examples"]]
    names = sorted(names, key=lambda name: -first[name]["examples"])[:SHOWN]
    names.sort(key=lambda name: first[name]["f1"])
    figure, axes = new_figure(7.6, 1.4 + 0.32 * len(names))
    for row in rows:
        axes.scatter(
            [results[row]["classes"][name]["f1"] for name in names], range(len(names)), s=50,
            marker=binding.MARKS[row], color=COLOURS[row], label=LABELS[row],
        )  # fmt: skip
    axes.set_yticks(
        range(len(names)), [f"{_short(n)}  ({first[n]['examples']})" for n in names], fontsize=10
    )
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_xlabel("F1 (higher is better)")
    axes.set_ylabel("class (held-out texts)")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    set_title(figure, axes, "F1 by class")
    return figure


def reliability_figure(results: dict[str, Any]) -> Figure:
    """How often what was called p likely was so: of the second of two classes, else the likeliest.

    Args:
        results: of results.json of a classifier of texts.
    """
    names = results["classes"]
    if len(names) > 2:
        said, found = "probability of the likeliest class", "share that was right"
    else:
        said, found = f"probability of {_short(names[1])}", f"share of {_short(names[1])}"
    return binding.reliability_figure(results, said, found)


def _short(name: str) -> str:
    # A dollar would begin a formula.
    name = name.replace("$", "\\$")
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
