"""A landscape without JavaScript: the heat maps of one state, as SVG markup."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.lab.svg import FAINT_INK, FONT, INK, draw_text, escape

WIDTH, LEFT, TOP, GAP = 940, 52, 62, 26
ROW, HIGHEST_COLUMN = 46, 92
MARKS = {"better": "✓", "not better": "✗", "inconclusive": "?"}
#: Relative luminance at which black and white letters are equally clear.
BRIGHT = 0.179
#: Times the median: a point beyond is drawn as the end of the scale.
FAR = 2


def picture(data: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """One ``<svg>`` element: a heat map for each variant, side by side.

    Args:
        data: as `shown.pack` returns it.
        state: of the widget.
    """
    figure = next(f for f in data["figures"] if f["key"] == state["figure"])
    student = data["students"].index(state["student"])
    mine = [p for p in data["points"] if p["at"][1] == student]
    scale = Scale([p["figures"][figure["key"]] for p in mine], figure, data["colours"])
    temperatures, alphas, count = data["temperatures"], data["alphas"], len(data["variants"])
    room = (WIDTH - count * LEFT - (count - 1) * GAP) / (count * len(temperatures))
    column = min(HIGHEST_COLUMN, max(30.0, room))
    wide = LEFT + column * len(temperatures) + GAP
    parts = [
        draw_text(2, 20, f"{data['title']}: {figure['name']}", size=16, weight=700,
                  after=f"student {state['student']}, {data['steps']:,} steps, "
                        f"mean of {data['seeds']} seeds")
    ]  # fmt: skip
    for number, variant in enumerate(data["variants"]):
        left = number * wide + LEFT
        parts.append(draw_text(left, TOP - 12, variant["words"], size=14, weight=600))
        for row, alpha in enumerate(reversed(alphas)):
            y = TOP + row * ROW
            parts.append(
                draw_text(left - 6, y + ROW / 2 + 5, f"α={alpha:g}", size=12.5, anchor="end")
            )
            for place, temperature in enumerate(temperatures):
                at = [number, student, place, alphas.index(alpha)]
                point = next((p for p in mine if p["at"] == at), None)
                published = variant["published"] == [temperature, alpha]
                parts.append(
                    _cell(left + place * column, y, column, point, figure, scale, published)
                )
        bottom = TOP + ROW * len(alphas) + 18
        parts += [
            draw_text(left + (place + 0.5) * column, bottom, f"T={t:g}", size=12.5, anchor="middle")
            for place, t in enumerate(temperatures)
        ]
    bottom = TOP + ROW * len(alphas) + 44
    told = data["told"]
    notes = [
        "★ published point; against labels alone, 95 % over seeds: ✓ better  ✗ not better  "
        "? inconclusive",
        levels(data, figure, mine),
        f"{told['date']}, {told['machine']}",
    ]
    parts += [
        draw_text(2, bottom + 20 * i, note, size=13, colour=FAINT_INK if i == 2 else INK)
        for i, note in enumerate(notes)
    ]
    height = bottom + 50
    width = max(WIDTH, count * wide - GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" preserveAspectRatio="xMinYMin meet" '
        f'style="max-width:100%;height:auto;display:block;color:{INK};font-family:{FONT}">'
        f"<title>{escape(data['title'])}: {escape(figure['name'])} over T and α</title>"
        f"<desc>{escape(_in_words(data, figure, mine))}</desc>{''.join(parts)}</svg>"
    )


def levels(
    data: Mapping[str, Any], figure: Mapping[str, Any], mine: Sequence[Mapping[str, Any]]
) -> str:
    """Teacher, oracle and labels alone, in words."""
    digits, key = figure["digits"], figure["key"]
    alone = next(
        (f["baseline"] for p in mine if (f := p["figures"][key]) and f["baseline"] is not None),
        None,
    )
    known = {
        "labels only": alone,
        "teacher": data["levels"]["teacher"][key],
        "oracle": data["levels"]["oracle"][key],
    }
    said = [f"{name} {v:.{digits}f}" for name, v in known.items() if v is not None]
    return f"{figure['name']}: {' · '.join(said)}" if said else ""


class Scale:
    """From a value to a colour; the good end is the bright one, whichever it is.

    Args:
        figures: of the points that share the scale; None where there is none.
        figure: which one.
        colours: dark to bright.
    """

    def __init__(
        self,
        figures: Sequence[Mapping[str, Any] | None],
        figure: Mapping[str, Any],
        colours: Sequence[str],
    ) -> None:
        means = [one["mean"] for one in figures if one]
        self.low, self.high = min(means, default=0.0), max(means, default=1.0)
        self._lower, self._colours = figure["better"] == "lower", colours
        # A figure without an upper end is told apart by its ratios.
        self._logarithmic = self._lower and self.low > 0
        if means and self._logarithmic:
            # A few points far off must not leave all others one colour.
            self.high = min(self.high, FAR * statistics.median(means))

    def share(self, value: float) -> float:
        """0 at the bad end, 1 at the good one."""
        if self.high <= self.low:
            return 0.5
        if self._logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, 1 - share if self._lower else share))

    def colours(self, value: float) -> tuple[str, str]:
        """Of the cell and of the letters on it."""
        place = self.share(value) * (len(self._colours) - 1)
        first = min(int(place), len(self._colours) - 2)
        one, other = (_channels(c) for c in self._colours[first : first + 2])
        mixed = [round(a + (b - a) * (place - first)) for a, b in zip(one, other, strict=True)]
        ink = "#000000" if _luminance(mixed) > BRIGHT else "#ffffff"
        return "#" + "".join(f"{c:02x}" for c in mixed), ink


def _written(value: float, figure: Mapping[str, Any]) -> str:
    return f"{value:.{figure['digits'] if abs(value) < 1000 else 0}f}"


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _luminance(channels: Sequence[int]) -> float:
    """WCAG's relative luminance; letters need a contrast of 4.5 to 1."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in channels)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _cell(
    x: float, y: float, width: float, point: Mapping[str, Any] | None, figure: Mapping[str, Any],
    scale: Scale, published: bool,
) -> str:  # fmt: skip
    value = point and point["figures"][figure["key"]]
    box = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{width - 2:.1f}" height="{ROW - 2}"'
    if not value:
        state = point["state"] if point else "missing"
        return (
            f'<rect {box} style="fill:none;stroke:{FAINT_INK};stroke-dasharray:3 3"/>'
            + draw_text(x + width / 2, y + ROW / 2 + 4, state, size=11, anchor="middle")
        )
    colour, ink = scale.colours(value["mean"])
    mark = ""
    if figure["headline"] and point["state"] == "complete" and point["verdict"]:
        mark = MARKS[point["verdict"]["word"]]
    ring = f"stroke:{INK};stroke-width:3" if published else "stroke:none"
    parts = [
        f'<rect {box} style="fill:{colour};{ring}"/>',
        draw_text(x + width / 2, y + 21, _written(value["mean"], figure), size=13.5,
                  weight=600, anchor="middle", colour=ink),
        draw_text(x + width / 2, y + 38, f"{'★ ' if published else ''}{mark}".strip(), size=13,
                  anchor="middle", colour=ink),
    ]  # fmt: skip
    return "".join(parts)


def _in_words(
    data: Mapping[str, Any], figure: Mapping[str, Any], mine: Sequence[Mapping[str, Any]]
) -> str:
    said = []
    for number, variant in enumerate(data["variants"]):
        cells = [p for p in mine if p["at"][0] == number and p["figures"][figure["key"]]]
        if not cells:
            continue
        pick = min if figure["better"] == "lower" else max
        best = pick(cells, key=lambda p: p["figures"][figure["key"]]["mean"])
        value = _written(best["figures"][figure["key"]]["mean"], figure)
        at = data["temperatures"][best["at"][2]], data["alphas"][best["at"][3]]
        said.append(f"{variant['words']}: best {value} at T = {at[0]:g}, α = {at[1]:g}.")
    return " ".join([*said, levels(data, figure, mine)])
