"""Figures of a world and of what models say about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workbench.plots.style import COLOURS, HATCHES, LABELS, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def distribution_figure(distributions: dict[str, dict[str, float]], title: str) -> Figure:
    """What comes next, according to several who were asked.

    Args:
        distributions: by "oracle", "teacher", …: probability of each symbol.
        title: what was asked.
    """
    figure, axes = new_figure(9.2, 3.6)
    names = list(distributions)
    first = distributions[names[0]]
    order = sorted(first, key=lambda symbol: -first[symbol])
    width = 0.84 / len(names)
    for i, name in enumerate(names):
        axes.bar(
            [x + (i - (len(names) - 1) / 2) * width for x in range(len(order))],
            [distributions[name][symbol] for symbol in order],
            width=width,
            color=COLOURS[name],
            hatch=HATCHES[name],
            edgecolor="white",
            linewidth=0.3,
            label=LABELS[name],
        )
    axes.set_xticks(range(len(order)), order)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylabel("probability")
    axes.legend(frameon=False)
    set_title(figure, axes, title)
    return figure


def profile_figure(emissions, consensus: str, motif: range, title: str) -> Figure:
    """Conservation along a family's profile: bits of information at each position.

    Args:
        emissions: ``[L, 20]``, a distribution over amino acids for each position.
        consensus: the most typical residue of each position.
        motif: positions (from 0) of the family's motif, drawn in another colour.
        title: name of the family and its motif.
    """
    figure, axes = new_figure(9.2, 3.0)
    bits = [math.log2(20) + sum(p * math.log2(p) for p in row if p > 0) for row in emissions]
    for inside, colour, label in (
        (False, COLOURS["uniform"], "other positions"),
        (True, COLOURS["student"], "motif"),
    ):
        where = [k for k in range(len(bits)) if (k in motif) == inside]
        axes.bar(where, [bits[k] for k in where], color=colour, width=0.85, label=label)
    for k, letter in enumerate(consensus):
        axes.annotate(
            letter, (k, bits[k]), (0, 2), textcoords="offset points", ha="center", fontsize=9
        )
    axes.set_xlim(-0.8, len(bits) - 0.2)
    axes.set_ylim(0, 1.15 * max(bits))
    axes.set_xlabel("position in the family")
    axes.set_ylabel("conservation (bits)")
    axes.legend(frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1.0, 1.12))
    set_title(figure, axes, title)
    return figure
