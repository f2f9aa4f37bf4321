"""The terms' shares of the gradient without JavaScript: a picture of one state, as SVG markup."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.lab.svg import FAINT_INK, FONT, INK, draw_text, escape
from workbench.plots import COLOURS

if TYPE_CHECKING:
    from workbench.lab.terms.term_weights import Pull

WIDTH, LEFT = 920, 150
BAR = WIDTH - LEFT - 4
#: What a segment must be wide to hold its name, px a letter; else it says its share, or nothing.
LETTER = 8.4
LINE = 112


def picture(title: str, rows: Mapping[str, Mapping[str, Pull]], formula: str, remark: str) -> str:
    """One ``<svg>`` element: a stacked bar for each row, the numbers of the first, the formula.

    Args:
        title: what is shown.
        rows: by name; the present state first, then others to compare it with.
        formula: of the first.
        remark: a sentence; empty for none.
    """
    first, *_ = rows.values()
    parts = [
        draw_text(2, 20, title, size=16, weight=700),
        draw_text(2, 42, "Share of the gradient on the student’s parameters, at its start",
                  size=13.5, colour=FAINT_INK),
    ]  # fmt: skip
    y = 56.0
    for number, (name, pulls) in enumerate(rows.items()):
        height = 20 if number else 34
        parts += _bar(y, height, name, pulls, weight=400 if number else 700)
        y += height + (8 if number else 14)
    y += 22
    columns = (LEFT + 70, LEFT + 210, LEFT + 340, LEFT + 440)
    for x, head in zip(columns, ("weight", "× norm of gradient", "= pull", "share"), strict=True):
        parts.append(draw_text(x, y, head, size=13, anchor="end", colour=FAINT_INK))
    for name, pull in first.items():
        y += 24
        parts.append(
            f'<rect x="2" y="{y - 12:.1f}" width="14" height="14" style="fill:{COLOURS[name]}"/>'
        )
        parts.append(draw_text(24, y, name, size=14, weight=600))
        cells = (
            f"{pull.weight:.3g}", f"{pull.norm:.3g}", f"{pull.weight * pull.norm:.3g}",
            f"{pull.share:.1%}",
        )  # fmt: skip
        for x, cell in zip(columns, cells, strict=True):
            parts.append(draw_text(x, y, cell, size=14, anchor="end"))
    y += 14
    # A line a term.
    for line in [*formula.replace(" + ", "\n+ ").split("\n"), *textwrap.wrap(remark, LINE)]:
        y += 20
        parts.append(draw_text(2, y, line, size=14))
    said = f"{title}. " + ", ".join(f"{n} {p.share:.1%}" for n, p in first.items())
    height = y + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" preserveAspectRatio="xMinYMin meet" '
        f'style="max-width:100%;height:auto;display:block;color:{INK};font-family:{FONT}">'
        f"<title>Each term’s share of the gradient</title><desc>{escape(said)}. {escape(remark)}"
        f"</desc>{''.join(parts)}</svg>"
    )


def _bar(y: float, height: float, name: str, pulls: Mapping[str, Pull], weight: int) -> list[str]:
    parts = [draw_text(2, y + height / 2 + 5, name, size=14, weight=weight)]
    x = float(LEFT)
    for term, pull in pulls.items():
        width = BAR * pull.share
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" '
            f'style="fill:{COLOURS[term]}"/>'
        )
        said = (f"{term} {pull.share:.0%}", f"{pull.share:.0%}")
        text = next((t for t in said if width > LETTER * len(t) + 8), "")
        if text:
            # Dark on every one of the colours, whatever the page's theme.
            parts.append(draw_text(x + 6, y + height / 2 + 5, text, size=13.5, colour="#111"))
        x += width
    return parts
