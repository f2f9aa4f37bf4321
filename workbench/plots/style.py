"""How every figure of the course looks.

Colours are Okabe & Ito's, which people with any colour vision can tell apart;
line style and marker say the same a second time. Oracle, teacher, student and
baseline look the same in every figure.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "oracle": "#000000",
    "teacher": "#0072B2",
    "student": "#D55E00",
    "baseline": "#009E73",
    "uniform": "#777777",
    "hard": "#E69F00",
    "soft": "#56B4E9",
    "cosine": "#CC79A7",
    "hidden": "#F0E442",
    "attention": "#009E73",
}
STYLES = {"oracle": ":", "teacher": "--", "student": "-", "baseline": "-", "uniform": "-."}
MARKERS = {"student": "o", "baseline": "s"}
HATCHES = {"oracle": "...", "teacher": "//", "student": "", "baseline": "\\\\"}
LABELS = {
    "oracle": "oracle (the truth)",
    "teacher": "teacher",
    "student": "student, distilled",
    "baseline": "baseline, labels only",
    "uniform": "uniform guess",
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, the same bytes for the same figure."""
    import matplotlib

    buffer = io.BytesIO()
    suffix = path.suffix.lstrip(".")
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "workbench"}):
        figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
    storage.write_bytes(path, buffer.getvalue())


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1):
    """A white figure, inches, and its axes row by row; no pyplot, so nothing is kept alive."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns)
    axes = axes if rows * columns == 1 else axes.ravel()
    for one in [axes] if rows * columns == 1 else axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=11)
        one.xaxis.label.set_size(12)
        one.yaxis.label.set_size(12)
    return figure, axes


def set_title(figure: Figure, axes: Axes, title: str, below: str = "") -> None:
    """Bold title at the left; a small line under the figure."""
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
    if below:
        lines = textwrap.fill(below, int(14 * figure.get_figwidth()))
        figure.supxlabel(lines, fontsize=9, color="#444444")


def label_ends(
    axes: Axes,
    ends: Sequence[tuple[float, str, str]],
    low: float,
    high: float,
    *,
    linear: bool = False,
    digits: int = 2,
) -> None:
    """Names and values at the right-hand end of lines, moved apart where they would touch.

    Args:
        axes: with a scale from ``low`` to ``high``.
        ends: value, label and colour of each.
        low: lower end of the scale.
        high: upper end.
        linear: whether the scale is linear, not logarithmic.
        digits: after the point.
    """
    least = 0.062
    placed: list[float] = []
    for value, label, colour in sorted(ends):
        if linear:
            at = (value - low) / (high - low)
        else:
            at = math.log(value / low) / math.log(high / low)
        at = max(at, placed[-1] + least) if placed else max(at, 0.0)
        placed.append(at)
        axes.annotate(
            f"{label} {value:.{digits}f}", (1.0, at), (8, 0), xycoords="axes fraction",
            textcoords="offset points", color=colour, va="center", fontsize=11,
            annotation_clip=False,
        )  # fmt: skip


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis, nine at most."""
    candidates = [m * 10**e for e in range(-1, 7) for m in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)]
    ticks = [c for c in candidates if low <= c <= high]
    return ticks if len(ticks) <= 9 else ticks[:: math.ceil(len(ticks) / 8)]
