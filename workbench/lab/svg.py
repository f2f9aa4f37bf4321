"""The live figure: perplexity curves as hand-written SVG, a pure function of numbers.

A drawing takes less than a millisecond and some kilobytes, needs no JavaScript,
and its text can be searched and read aloud. Colours come from the page's theme
where it has one, so that the same markup is readable on white and on black.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.comparisons.headline import PERPLEXITY, Headline
from workbench.plots import COLOURS, LABELS

WIDTH, HEIGHT = 910, 384
LEFT, RIGHT, TOP, BOTTOM = 46, 308, 52, 46
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
LABEL_GAP = 19.0
#: Older ghosts stay as lines; so many of the newest have their label.
LABELLED_GHOSTS = 8

INK = "var(--jp-ui-font-color1, currentColor)"
FAINT_INK = "var(--jp-ui-font-color2, #767676)"
GRID = "var(--jp-border-color2, #d9d9d9)"
FONT = "var(--jp-ui-font-family, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif)"
DASHES = {"oracle": "2 4", "teacher": "9 5"}
GHOST_DASHES = ("6 4", "2 3", "10 3 2 3", "14 5")

#: (step, perplexity)
Point = tuple[float, float]


@dataclass(frozen=True)
class Ghost:
    """The student's curve of an earlier run, with what to call it."""

    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Band:
    """From the lowest to the highest of several seeds: (step, lowest, highest) each."""

    label: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class _Label:
    """Text at the right, joined by a thin line to the place on the plot that it names."""

    x: float
    y: float
    name: str
    text: str
    dash: str = ""


def learning_chart(
    *,
    student: Sequence[Point] = (),
    baseline: Sequence[Point] = (),
    ghosts: Sequence[Ghost] = (),
    bands: Sequence[Band] = (),
    references: Mapping[str, float] | None = None,
    steps: int = 1,
    step: int | None = None,
    running: str = "",
    headline: Headline = PERPLEXITY,
) -> str:
    """The headline, such as held-out perplexity, against step, as one ``<svg>`` element.

    Args:
        student: curve of the present run.
        baseline: of the same student without a teacher.
        ghosts: earlier runs, oldest first.
        bands: of several seeds with the same settings.
        references: the headline of "oracle" and "teacher", where known.
        steps: length of the step axis, at least.
        step: how far the present run is.
        running: what the present run is called, such as ``T=10 α=0.1 corrected``.
        headline: what is drawn; where lower is better, on a logarithmic scale.
    """
    student, baseline = _finite(student), _finite(baseline)
    ghosts = [Ghost(g.label, points) for g in ghosts if len(points := _finite(g.points)) > 1]
    known = {n: v for n in ("teacher", "oracle") if _drawable(v := (references or {}).get(n))}
    bands = [band for band in bands if len(band.points) > 1]
    curves = [student, baseline, *(g.points for g in ghosts)]
    curves += [[(step, high) for step, _, high in band.points] for band in bands]
    frame = _Frame.around(curves, list(known.values()), steps, headline)

    parts = [*_axes(frame, step, headline)]
    lines, labels = [], []
    for band in bands:
        lines.append(_area(frame, band))
        x, y = frame.place((band.points[-1][0], sum(band.points[-1][1:]) / 2))
        labels.append(_Label(x, y, "ghost", band.label))
    for age, ghost in enumerate(reversed(ghosts)):
        dash = GHOST_DASHES[(len(ghosts) - 1 - age) % len(GHOST_DASHES)]
        labelled = age < LABELLED_GHOSTS
        lines.append(_curve(frame, ghost.points, FAINT_INK, 1.5, dash, 0.95 if labelled else 0.45))
        if labelled:
            labels.append(_end_label(frame, ghost.points, "ghost", ghost.label, dash))
    for name, value in known.items():
        lines.append(_level(frame, value, name))
        x, y = frame.place((frame.steps, value))
        labels.append(_Label(x, y, name, f"{LABELS[name]} {headline.write(value)}", DASHES[name]))
    for name, points in (("baseline", baseline), ("student", student)):
        if points:
            lines.append(_curve(frame, points, COLOURS[name], 2.6))
            lines += [_marker(name, *frame.place(p)) for p in points]
            text = f"{LABELS[name]} {headline.write(points[-1][1])}"
            labels.append(_end_label(frame, points, name, text))
    parts.append(_clipped(lines))
    parts += _beyond(frame, curves)
    parts += _draw_labels(labels)
    if not any(curves):
        parts.append(
            draw_text(LEFT + PLOT_WIDTH / 2, TOP + PLOT_HEIGHT / 2, "The curves appear here.",
                  anchor="middle", colour=FAINT_INK, size=15)
        )  # fmt: skip
    words = _in_words(student, baseline, ghosts, known, steps, running, headline)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" preserveAspectRatio="xMinYMin meet" '
        f'style="max-width:100%;height:auto;display:block;overflow:visible;color:{INK};font-family:{FONT}">'
        f"<title>{_title(headline)}</title><desc>{escape(words)}</desc>" + "".join(parts) + "</svg>"
    )


# ---------------------------------------------------------------------- scale


@dataclass(frozen=True)
class _Frame:
    """Where steps and values lie on the paper, on a logarithmic scale or a linear one."""

    steps: float
    low: float
    high: float
    linear: bool = False

    @classmethod
    def around(
        cls,
        curves: Sequence[Sequence[Point]],
        levels: Sequence[float],
        steps: float,
        headline: Headline = PERPLEXITY,
    ) -> _Frame:
        """Room for the lowest value and somewhat more than twice of it.

        A fresh model guesses evenly; with its first points on the paper, the differences
        that matter would be squeezed into the lowest quarter. Where a curve ends is always
        on it.
        """
        values = [value for points in curves for _, value in points] + list(levels)
        last = max([steps, *(points[-1][0] for points in curves if points)])
        if headline.better == "higher":
            low = max(0.0, min(values, default=0.5) - 0.03)
            return cls(last, low, min(1.0, max(values, default=1.0) + 0.02), linear=True)
        if not values:
            return cls(last, 5.0, 22.0)
        ends = [points[-1][1] for points in curves if points]
        high = max(min(1.06 * max(values), 2.1 * min(values)), *(1.06 * end for end in ends), 0.0)
        return cls(last, min(0.93 * min(values), high / 2.25), high)

    def place(self, point: Point) -> tuple[float, float]:
        """Coordinates on the paper."""
        step, value = point
        if self.linear:
            share = (value - self.low) / (self.high - self.low)
        else:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        return LEFT + PLOT_WIDTH * step / self.steps, TOP + PLOT_HEIGHT * (1 - share)

    def values(self) -> list[float]:
        """Round values for the grid, at most eight."""
        if self.linear:
            unit = next(u for u in (0.01, 0.02, 0.05, 0.1, 0.2) if (self.high - self.low) / u < 8)
            first = math.ceil(self.low / unit - 1e-9)
            return [round(unit * i, 2) for i in range(first, int(self.high / unit + 1e-9) + 1)]
        for leading in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 3)):
            ticks = [m * 10**e for e in range(-1, 9) for m in leading]
            ticks = [t for t in ticks if self.low <= t <= self.high]
            if len(ticks) <= 8:
                return ticks
        return ticks[:: math.ceil(len(ticks) / 8)]

    def round_steps(self) -> list[int]:
        """Round steps for the axis, from 0, some four to eight."""
        raw = self.steps / 5
        size = 10 ** math.floor(math.log10(raw)) if raw >= 1 else 1
        unit = max(1, next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw))
        return [round(i * unit) for i in range(int(self.steps / unit + 1e-9) + 1)]


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(step, value) for step, value in points if _drawable(value)]


def _drawable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


# ---------------------------------------------------------------------- parts


def _title(headline: Headline) -> str:
    return f"Held-out {headline.name} while learning"


def _axes(frame: _Frame, step: int | None, headline: Headline) -> list[str]:
    bottom = TOP + PLOT_HEIGHT
    parts = [
        draw_text(2, 20, _title(headline), size=15, weight=600,
              after="higher is better" if frame.linear else "lower is better; logarithmic scale"),
        draw_text(LEFT + PLOT_WIDTH / 2, HEIGHT - 8, "step", anchor="middle", colour=FAINT_INK),
    ]  # fmt: skip
    for value in frame.values():
        y = frame.place((0, value))[1]
        parts.append(draw_line(LEFT, y, LEFT + PLOT_WIDTH, y, GRID, 1))
        parts.append(draw_text(LEFT - 8, y + 4, f"{value:g}", anchor="end", colour=FAINT_INK))
    for tick in frame.round_steps():
        x = frame.place((tick, frame.low))[0]
        parts.append(draw_line(x, bottom, x, bottom + 5, FAINT_INK, 1))
        parts.append(draw_text(x, bottom + 19, f"{tick:,}", anchor="middle", colour=FAINT_INK))
    parts.append(draw_line(LEFT, bottom, LEFT + PLOT_WIDTH, bottom, FAINT_INK, 1))
    if step:
        x = frame.place((min(step, frame.steps), frame.low))[0]
        parts.append(draw_line(LEFT, bottom, x, bottom, COLOURS["student"], 4))
    return parts


def _curve(
    frame: _Frame, points: Sequence[Point], colour: str, width: float, dash: str = "",
    opacity: float = 1.0,
) -> str:  # fmt: skip
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(frame.place, points))
    return (
        f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:{width:g};'
        f'stroke-linejoin:round;{_dashes(dash)}stroke-opacity:{opacity:g}"/>'
    )


def _area(frame: _Frame, band: Band) -> str:
    upper = [frame.place((step, high)) for step, _, high in band.points]
    lower = [frame.place((step, low)) for step, low, _ in reversed(band.points)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *lower))
    return (
        f'<polygon points="{points}" fill="{COLOURS["student"]}" fill-opacity="0.18" stroke="none">'
        f"<title>{escape(band.label)}</title></polygon>"
    )


def _level(frame: _Frame, value: float, name: str) -> str:
    y = frame.place((0, value))[1]
    return draw_line(LEFT, y, LEFT + PLOT_WIDTH, y, _colour(name), 2, DASHES[name])


def _clipped(lines: Sequence[str]) -> str:
    """What lies above the paper is cut off; markers on the left and right edges are not."""
    room = 8
    x, width = LEFT - room, PLOT_WIDTH + 2 * room
    box = f'x="{x}" y="{TOP}" width="{width}" height="{PLOT_HEIGHT}"'
    view = f'viewBox="{x} {TOP} {width} {PLOT_HEIGHT}"'
    return f'<svg {box} {view} style="overflow:hidden">{"".join(lines)}</svg>'


def _beyond(frame: _Frame, curves: Sequence[Sequence[Point]]) -> list[str]:
    """Says where the curves come from when their beginning is above the paper."""
    start = max((points[0][1] for points in curves if points), default=0.0)
    if start <= frame.high:
        return []
    text = f"↑ the untrained student: {start:.1f}"
    return [draw_text(LEFT, TOP - 9, text, colour=FAINT_INK, size=12)]


def _end_label(
    frame: _Frame, points: Sequence[Point], name: str, text: str, dash: str = ""
) -> _Label:
    x, y = frame.place(points[-1])
    return _Label(x, max(float(TOP), y), name, text if y >= TOP else f"{text} ↑", dash)


def _draw_labels(labels: Sequence[_Label]) -> list[str]:
    """Names at the right, moved apart where they would touch."""
    left = LEFT + PLOT_WIDTH
    parts = []
    ordered = sorted(labels, key=lambda label: label.y)
    for label, y in zip(ordered, spread([label.y for label in ordered]), strict=True):
        ghost, colour = label.name == "ghost", _colour(label.name)
        parts.append(
            draw_line(label.x + (0 if ghost else 5), label.y, left + 20, y, colour, 1, "", 0.45)
        )
        width = 1.5 if ghost else 2.6
        parts.append(draw_line(left + 20, y, left + 42, y, colour, width, label.dash))
        if label.name in _MARKERS:
            parts.append(_marker(label.name, left + 31, y))
        parts.append(
            draw_text(left + 48, y + 4, label.text, size=12 if ghost else 13.5,
                  weight=400 if ghost else 600, colour=FAINT_INK if ghost else INK)
        )  # fmt: skip
    return parts


def spread(wanted: Sequence[float]) -> list[float]:
    """Heights as near to the wanted ones as a least distance allows, in the same order.

    Args:
        wanted: ascending.
    """
    top, bottom = float(TOP), float(TOP + PLOT_HEIGHT)
    # Neighbours that touch become one block, which stands where its members are best served.
    blocks: list[list[float]] = []  # centre, members
    for height in wanted:
        blocks.append([min(max(height, top), bottom), 1.0])
        while len(blocks) > 1 and _touch(blocks[-2], blocks[-1]):
            (one, n), (other, m) = blocks[-2:]
            centre = (one * n + other * m) / (n + m)
            half = (n + m - 1) * LABEL_GAP / 2
            blocks[-2:] = [[max(top + half, min(centre, bottom - half)), n + m]]
    return [centre + (i - (n - 1) / 2) * LABEL_GAP for centre, n in blocks for i in range(int(n))]


def _touch(upper: list[float], lower: list[float]) -> bool:
    return lower[0] - upper[0] < (upper[1] + lower[1]) / 2 * LABEL_GAP - 1e-9


_MARKERS = ("student", "baseline")


def _marker(name: str, x: float, y: float) -> str:
    colour = COLOURS[name]
    if name == "student":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" style="fill:{colour}"/>'
    return (
        f'<rect x="{x - 3.8:.1f}" y="{y - 3.8:.1f}" width="7.6" height="7.6" '
        f'style="fill:{colour}"/>'
    )


def draw_line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = "",
    opacity: float = 1.0,
) -> str:  # fmt: skip
    """A straight line between two points."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{colour};'
        f'stroke-width:{width:g};{_dashes(dash)}stroke-opacity:{opacity:g}"/>'
    )


def _dashes(dash: str) -> str:
    return f"stroke-dasharray:{dash};" if dash else ""


def draw_text(
    x: float, y: float, text: str, *, anchor: str = "start", size: float = 12.5,
    weight: int = 400, colour: str = INK, after: str = "",
) -> str:  # fmt: skip
    """Escaped text at a point; ``after`` follows it, smaller and fainter."""
    if after:
        look = f"fill:{FAINT_INK};font-size:12px;font-weight:400"
        after = f'<tspan dx="12" style="{look}">{escape(after)}</tspan>'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" style="fill:{colour};font-size:{size:g}px;'
        f'font-weight:{weight};text-anchor:{anchor}">{escape(text)}{after}</text>'
    )


def _colour(name: str) -> str:
    """A series' colour; the oracle's black is the page's ink, which is white in the dark."""
    return {"oracle": INK, "ghost": FAINT_INK}.get(name) or COLOURS[name]


def escape(text: str) -> str:
    """Text that is safe in HTML and XML, which know no control characters."""
    return html.escape("".join(c if c.isprintable() else " " for c in text))


def _in_words(
    student: Sequence[Point],
    baseline: Sequence[Point],
    ghosts: Sequence[Ghost],
    known: Mapping[str, float],
    steps: int,
    running: str,
    headline: Headline,
) -> str:
    sentences = []
    for name, points in (("student", student), ("baseline", baseline)):
        if points:
            step, value = points[-1]
            reached = headline.write(value)
            sentences.append(f"{LABELS[name]}: {reached} at step {step:,} of {steps:,}.")
    if running and sentences:
        sentences.insert(0, f"This run: {running}.")
    sentences += [f"{LABELS[name]}: {headline.write(value)}." for name, value in known.items()]
    sentences += [f"Earlier run {ghost.label}." for ghost in ghosts]
    return " ".join(sentences) or "No run yet."
