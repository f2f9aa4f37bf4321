"""The explorer without JavaScript: a picture of one state, as SVG markup.

It stands where the widget cannot: in exported pages, in a notebook that is only read, where
scripts are off. The conventions are those of `workbench.lab.svg`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.lab.explore.examples import Example
from workbench.lab.explore.presets import State
from workbench.lab.svg import FAINT_INK, FONT, GRID, INK, draw_line, draw_text, escape
from workbench.plots import COLOURS

WIDTH, HEIGHT = 960, 642
#: More height where the symbols are words, which stand slanted.
WORDS_HEIGHT = 56
LEFT, PLOT_WIDTH, SIDE = 54, 570, 672
#: Symbols with bars of their own; of a larger vocabulary, the most probable and the label.
SHOWN = 26
KL = {
    "forward": "KL(teacher‖student)",
    "reverse": "KL(student‖teacher)",
    "jensen-shannon": "JS(teacher, student)",
}
_LOOKS = {
    "oracle": f"fill:none;stroke:{INK};stroke-width:1.5",
    "teacher": f"fill:{COLOURS['teacher']}",
    "student": f"fill:{COLOURS['student']};fill-opacity:0.75;stroke:{COLOURS['student']}",
    "hard": f"fill:{COLOURS['hard']};stroke:{INK};stroke-width:0.8",
    "soft": f"fill:{COLOURS['soft']};stroke:{INK};stroke-width:0.8;stroke-dasharray:2 1.5",
}


@dataclass(frozen=True)
class _Scale:
    """Heights on the paper of one chart."""

    top: float
    bottom: float
    low: float
    high: float

    def y(self, value: float) -> float:
        held = max(self.low, min(self.high, value))
        return self.bottom - (held - self.low) / (self.high - self.low) * (self.bottom - self.top)


def picture(example: Example, state: State, numbers: dict[str, Any]) -> str:
    """One ``<svg>`` element: logits, probabilities, gradients and who is teaching.

    Args:
        example: what is explored.
        state: resolved, see `Example.resolve`.
        numbers: as `examples.figures` returns them.
    """
    shown = _most_probable(example, state)
    names = ["end" if (s := example.symbols[i]) == "END" else s for i in shown]
    label = shown.index(int(example.labels[state.position - 1]))
    words = _are_words(names)
    height = HEIGHT + (WORDS_HEIGHT if words else 0)
    parts = _heading(example, state)

    logits = {who: example.logits(state, who)[shown] for who in ("teacher", "student")}
    parts += _chart("Logits", 84, 120, logits, names, label, floor=None)
    chances = {
        who: np.array(numbers["probabilities"][who])[shown]
        for who in ("oracle", "teacher", "student")
        if numbers["probabilities"][who] is not None
    }
    title = f"Probabilities at T = {state.temperature:g}"
    parts += _chart(title, 262, 130, chances, names, label, floor=0.0)
    gradient = {part: np.array(numbers["gradient"][part])[shown] for part in ("hard", "soft")}
    title = "Gradient on the student’s logits"
    parts += _chart(title, 450, 140, gradient, names, label, floor=None, last=True)
    parts += _side(state, numbers)
    parts.append(draw_text(2, height - 8, formula(example, state, numbers), size=15, weight=600))
    if len(shown) < len(example.symbols):
        note = f"the {len(shown)} most probable of {len(example.symbols):,} symbols"
        parts.append(draw_text(SIDE, height - 8, note, size=13, colour=FAINT_INK))
    said = _in_words(example, state, numbers)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" preserveAspectRatio="xMinYMin meet" '
        f'style="max-width:100%;height:auto;display:block;color:{INK};font-family:{FONT}">'
        f"<title>Temperature and α at one position</title><desc>{escape(said)}</desc>"
        + "".join(parts)
        + "</svg>"
    )


def formula(example: Example, state: State, numbers: dict[str, Any]) -> str:
    """The loss of this position with its numbers, one line."""
    squared = f"{state.temperature**2:g}·" if state.temperature_squared else ""
    reduced = {
        "token-mean": "",
        "batchmean": f"{example.tokens}·",
        "element-mean": f"1/{len(example.symbols)}·",
        "sum": f"{example.tokens}·{example.sequences}·",
    }[state.reduction]
    divergence = numbers["divergence"][state.direction]
    return (
        f"L = {state.alpha:g}·{numbers['hard']:.3f} + {1 - state.alpha:g}·{squared}{reduced}"
        f"{divergence:.4g} = {numbers['loss']:.4g} nats"
    )


# ---------------------------------------------------------------------- parts


def _most_probable(example: Example, state: State) -> list[int]:
    vocabulary = len(example.symbols)
    if vocabulary <= SHOWN:
        return list(range(vocabulary))
    known = [getattr(example, who) for who in ("oracle", *_WHO)]
    weight = sum(_softmax(rows[state.position - 1]) for rows in known if rows is not None)
    first = {int(example.labels[state.position - 1])}
    first |= {index for who in _WHO for index, _ in getattr(state, who)}
    order = [int(i) for i in np.argsort(-weight, kind="stable")]
    for index in order:
        if len(first) >= SHOWN - 1:
            break
        first.add(index)
    return [index for index in order if index in first]


_WHO = ("teacher", "student")


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def _heading(example: Example, state: State) -> list[str]:
    letter = example.letters[state.position - 1]
    where = f"position {state.position} of {example.positions}: the next symbol is "
    where += "the end" if letter == "END" else letter
    if example.contexts:
        context = example.contexts[state.position - 1]
        where = f"{state.position} of {example.positions}: {context} → {letter}"
    about = f"{_shortened(example.source)}; {where}" if example.source else where
    knobs = (
        f"T = {state.temperature:g} · α = {state.alpha:g}, "
        f"×T² {'on' if state.temperature_squared else 'off'}, {KL[state.direction]}, "
        f"{state.reduction}"
    )
    return [
        draw_text(2, 20, knobs, size=16, weight=600),
        draw_text(2, 42, _shortened(about, 110), size=13.5, colour=FAINT_INK),
    ]


def _chart(
    title: str, top: float, height: float, series: dict[str, np.ndarray], names: Sequence[str],
    label: int, *, floor: float | None, last: bool = False,
) -> list[str]:  # fmt: skip
    values = np.concatenate(list(series.values()))
    low = min(0.0, float(values.min())) if floor is None else floor
    high = max(0.0, float(values.max()))
    unit = _round_up(max(high - low, 1e-12) / 4)
    low = math.floor(low / unit + 1e-9) * unit
    scale = _Scale(top, top + height, low, max(math.ceil(high / unit - 1e-9), 1) * unit)
    pitch = PLOT_WIDTH / len(names)
    parts = [draw_text(2, top - 12, title, size=14.5, weight=600)]
    parts += _legend(list(series), top - 12)
    # The label's column, behind everything.
    parts.append(
        f'<rect x="{LEFT + pitch * label:.1f}" y="{top}" width="{pitch:.1f}" height="{height}" '
        f'style="fill:{COLOURS["hard"]};fill-opacity:0.16;stroke:{INK};stroke-dasharray:4 3"/>'
    )
    for tick in range(round((scale.high - scale.low) / unit) + 1):
        value = scale.low + tick * unit
        y = scale.y(value)
        parts.append(draw_line(LEFT, y, LEFT + PLOT_WIDTH, y, GRID, 1))
        text = f"{float(f'{value:.3g}'):g}".replace("-", "−")
        parts.append(draw_text(LEFT - 7, y + 4.5, text, anchor="end", size=13, colour=FAINT_INK))
    share = 0.88 / len(series)
    for number, (name, column) in enumerate(series.items()):
        for slot, value in enumerate(column):
            x = LEFT + pitch * (slot + 0.06 + share * number)
            y, zero = scale.y(float(value)), scale.y(0.0)
            parts.append(
                f'<rect x="{x:.1f}" y="{min(y, zero):.1f}" width="{0.86 * pitch * share:.1f}" '
                f'height="{abs(y - zero):.1f}" style="{_LOOKS[name]}"/>'
            )
    parts.append(draw_line(LEFT, scale.y(0), LEFT + PLOT_WIDTH, scale.y(0), FAINT_INK, 1))
    for slot, name in enumerate(names):
        x, y, weight = LEFT + pitch * (slot + 0.5), top + height + 17, 800 if slot == label else 400
        if not _are_words(names):
            parts.append(draw_text(x, y, name, anchor="middle", size=13.5, weight=weight))
        elif last:  # under the lowest of the charts, which share their axis
            text = draw_text(
                x + 4, y - 4, _shortened(name, 12), anchor="end", size=13, weight=weight
            )
            parts.append(f'<g transform="rotate(-50 {x:.1f} {y - 6:.1f})">{text}</g>')
    return parts


def _are_words(names: Sequence[str]) -> bool:
    return max(map(len, names)) > 3


def _legend(names: Sequence[str], y: float) -> list[str]:
    said = {"hard": "from the label", "soft": "from the teacher"}
    parts, x = [], LEFT + PLOT_WIDTH
    for name in reversed(names):
        text = said.get(name, name)
        x -= 7.2 * len(text) + 34
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 11}" width="13" height="13" style="{_LOOKS[name]}"/>'
        )
        parts.append(draw_text(x + 19, y, text, size=13.5))
    return parts


def _side(state: State, numbers: dict[str, Any]) -> list[str]:
    share, width = numbers["share"], WIDTH - SIDE - 4
    labels = width * share["hard"]
    parts = [draw_text(SIDE, 72, "Who is teaching", size=14.5, weight=600)]
    for name, x, w in (("hard", SIDE, labels), ("soft", SIDE + labels, width * share["soft"])):
        look = f"fill:{COLOURS[name]}"
        parts.append(f'<rect x="{x:.1f}" y="82" width="{w:.1f}" height="28" style="{look}"/>')
    parts.append(
        f'<rect x="{SIDE}" y="82" width="{width}" height="28" rx="3" '
        f'style="fill:none;stroke:{INK};stroke-width:1.5"/>'
    )
    parts.append(draw_text(SIDE, 132, f"labels {share['hard']:.1%}", size=16, weight=600))
    parts.append(
        draw_text(
            SIDE + width, 132, f"teacher {share['soft']:.1%}", size=16, weight=600, anchor="end"
        )
    )
    rows: list[tuple[str, str, str]] = [("", "entropy", "perplexity")]
    rows += [
        (who, _figure(numbers["entropy"][who]), _figure(numbers["perplexity"][who]))
        for who in ("oracle", "teacher", "student")
    ]
    rows += [("", "", "")]
    rows += [
        (("▸ " if d == state.direction else "") + name, "", _figure(numbers["divergence"][d]))
        for d, name in KL.items()
    ]
    rows += [("", "", ""), ("", "labels", "teacher")]
    rows += [
        ("value, nats", _figure(numbers["hard"]), _figure(numbers["soft"])),
        ("weight", f"{state.alpha:g}", f"{1 - state.alpha:g}"),
        ("gradient’s norm", _figure(numbers["norm"]["hard"]), _figure(numbers["norm"]["soft"])),
        ("loss, nats", "", _figure(numbers["loss"])),
    ]
    y = 168
    for name, first, second in rows:
        look = {"size": 14, "colour": INK if name else FAINT_INK}
        parts.append(draw_text(SIDE, y, name, **look))
        parts.append(draw_text(SIDE + width - 92, y, first, anchor="end", **look))
        parts.append(draw_text(SIDE + width, y, second, anchor="end", **look))
        if name:
            parts.append(draw_line(SIDE, y + 6, SIDE + width, y + 6, GRID, 1))
        y += 23
    parts.append(draw_text(SIDE, y + 10, "α weighs the labels; nats, at T", size=13,
                           colour=FAINT_INK))  # fmt: skip
    return parts


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def _shortened(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9))


def _in_words(example: Example, state: State, numbers: dict[str, Any]) -> str:
    share = numbers["share"]
    return (
        f"{formula(example, state, numbers)}. Of the gradient, {share['hard']:.1%} come from the "
        f"label {example.letters[state.position - 1]} and {share['soft']:.1%} from the teacher. "
        f"{KL[state.direction]} at T = {state.temperature:g} is "
        f"{numbers['divergence'][state.direction]:.4g} nats."
    )
