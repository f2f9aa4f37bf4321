"""The layer-map editor without JavaScript: a picture of one map, as SVG markup.

The places are those of ``layer_editor.js``; the conventions those of `workbench.lab.svg`.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench import layer_maps
from workbench.lab.layers.anatomy import Anatomy, account, compare, describe
from workbench.lab.svg import FAINT_INK, FONT, INK, draw_line, draw_text, escape
from workbench.layer_maps import LayerMap
from workbench.plots import COLOURS

WIDTH, SIDE = 940, 596
TOP, BOX = 34, 206
TEACHER_X, STUDENT_X = 2, 352
PAPER = "var(--jp-layout-color0, transparent)"


@dataclass(frozen=True)
class Places:
    """Heights on the paper; layer 0 is below, next to the embeddings."""

    teacher: int
    student: int

    @property
    def _most(self) -> int:
        return max(self.teacher, self.student)

    @property
    def pitch(self) -> float:
        """Height of a row."""
        return min(38.0, max(22.0, 440 / (self._most + 2)))

    @property
    def height(self) -> float:
        """Of the drawing."""
        return TOP + (self._most + 2) * self.pitch + 6

    @property
    def head(self) -> float:
        """Middle of norm and head."""
        return TOP + self.pitch / 2

    @property
    def embeddings(self) -> float:
        """Middle of the embeddings."""
        return TOP + (self._most + 1.5) * self.pitch

    def layer(self, number: int, layers: int) -> float:
        """Middle of a layer, among so many that share the height."""
        return TOP + self.pitch * (1 + self._most * (1 - (number + 0.5) / layers))


def picture(teacher: Anatomy, layer_map: LayerMap, text: str) -> str:
    """One ``<svg>`` element: both models, the arrows between them, and the account.

    Args:
        teacher: its parts.
        layer_map: an entry for each student layer.
        text: of the map; says whether the tables are copied.
    """
    copies = layer_maps.copies(text)
    places = Places(teacher.layers, len(layer_map))
    height = max(places.height, 330)
    student_title = f"Student: {len(layer_map)} layer{'s' * (len(layer_map) != 1)}"
    parts = [
        draw_text(TEACHER_X, 18, _short(teacher.title, teacher.layers), size=14, weight=700),
        draw_text(STUDENT_X, 18, student_title, size=14, weight=700),
    ]
    ends = {"norm and head": places.head, "embeddings": places.embeddings}
    for place, layer in enumerate(layer_map):
        if layer is not None:
            parts.append(
                _arrow(places.layer(layer, teacher.layers), places.layer(place, len(layer_map)))
            )
    if copies:
        parts += [_arrow(y, y, dash="5 4") for y in ends.values()]
    for name, y in ends.items():
        parts += _box(TEACHER_X, y, places.pitch, "teacher", name, "")
        said = "copied" if copies else "random"
        parts += _box(STUDENT_X, y, places.pitch, "student", name, said, copied=copies)
    for layer in range(teacher.layers):
        uses = layer_map.count(layer)
        said = "not used" if uses == 0 else "" if uses == 1 else f"{uses} times"
        y = places.layer(layer, teacher.layers)
        box = _box(TEACHER_X, y, places.pitch, "teacher", f"layer {layer}", said)
        parts += box if uses else ['<g style="opacity:0.6">', *box, "</g>"]
    for place, layer in enumerate(layer_map):
        said = "random" if layer is None else f"from layer {layer}"
        y = places.layer(place, len(layer_map))
        parts += _box(
            STUDENT_X, y, places.pitch, "student", f"layer {place}", said,
            copied=layer is not None,
        )  # fmt: skip
    parts += _account(teacher, layer_map, copies, text)
    said = f"Layer map {text}. {describe(teacher, layer_map, copies)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" preserveAspectRatio="xMinYMin meet" '
        f'style="max-width:100%;height:auto;display:block;color:{INK};font-family:{FONT}">'
        f"<title>Layers of the student and where they come from</title>"
        f"<desc>{escape(said)}</desc>" + "".join(parts) + "</svg>"
    )


def _box(
    x: float, y: float, pitch: float, who: str, name: str, said: str, *, copied: bool = True
) -> list[str]:
    """A part of a model; a dashed frame without a strip is one that starts at random."""
    height = pitch - 5
    colour = COLOURS[who]
    dash = "" if copied else "stroke-dasharray:5 4;"
    frame = (
        f'<rect x="{x + 1:g}" y="{y - height / 2:.1f}" width="{BOX - 2}" height="{height:.1f}" '
        f'rx="5" style="fill:{PAPER};stroke:{colour};stroke-width:2;{dash}"/>'
    )
    strip = (
        f'<rect x="{x + 6:g}" y="{y - height / 2 + 5:.1f}" width="7" height="{height - 10:.1f}" '
        f'style="fill:{COLOURS["teacher"]}"/>'
    )
    label = draw_text(x + 20, y + 4.8, name, size=14, weight=600)
    note = draw_text(x + BOX - 8, y + 4.8, said, size=13, anchor="end", colour=FAINT_INK)
    return [frame, strip if copied else "", label, note if said else ""]


def _arrow(start: float, end: float, dash: str = "") -> str:
    x1, x2 = TEACHER_X + BOX + 2, STUDENT_X - 10
    middle = (x1 + x2) / 2
    tip = STUDENT_X - 1
    look = f"fill:none;stroke:{COLOURS['teacher']};stroke-width:2.4;"
    look += f"stroke-dasharray:{dash};" if dash else ""
    return (
        f'<path d="M{x1:g},{start:.1f} C{middle:g},{start:.1f} {middle:g},{end:.1f} '
        f'{x2:g},{end:.1f}" style="{look}"/>'
        f'<path d="M{x2 - 1:g},{end - 6:.1f} L{tip:g},{end:.1f} L{x2 - 1:g},{end + 6:.1f} Z" '
        f'style="fill:{COLOURS["teacher"]}"/>'
    )


def _account(teacher: Anatomy, layer_map: LayerMap, copies: bool, text: str) -> list[str]:
    """The table at the right: parameters of each part, their share, and how many are copied."""
    found = account(teacher, layer_map, copies)
    total = sum(part.parameters for part in found.values())
    copied = sum(part.copied for part in found.values())
    columns = (SIDE + 210, SIDE + 276, SIDE + 342)
    rows = [
        (name, f"{part.parameters:,}", percent(part.parameters, total),
         percent(part.copied, part.parameters))
        for name, part in found.items()
    ]  # fmt: skip
    rows.append(("student", f"{total:,}", "100 %", percent(copied, total)))
    rows.append(("teacher", f"{teacher.parameters:,}", "", ""))
    parts = [draw_text(SIDE, 18, "Parameters of the student", size=14, weight=700)]
    for x, head in zip(columns, ("number", "share", "copied"), strict=True):
        parts.append(draw_text(x, 44, head, size=13, anchor="end", colour=FAINT_INK))
    y = 44.0
    for name, *cells in rows:
        y += 26
        weight = 700 if name == "student" else 400
        parts.append(draw_line(SIDE, y - 18, columns[-1], y - 18, FAINT_INK, 0.6))
        parts.append(draw_text(SIDE, y, name, size=14, weight=weight))
        for x, cell in zip(columns, cells, strict=True):
            parts.append(draw_text(x, y, cell, size=14, weight=weight, anchor="end"))
    size = f"The student is {compare(teacher.parameters, total)} than its teacher."
    parts.append(draw_text(SIDE, y + 34, size, size=14))
    command = f"--init {text}"
    parts.append(draw_text(SIDE, y + 64, _cut(command, 44), size=14, weight=700))
    return parts


def percent(part: int, whole: int) -> str:
    """Whole percents, with a decimal where they would read as nothing or all."""
    if whole == 0:
        return "–"
    value = 100 * part / whole
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.{int(0 < value < 1 or 99 < value < 100)}f} %"


def _short(title: str, layers: int) -> str:
    return f"Teacher {_cut(title, 18)}: {layers} layer{'s' * (layers != 1)}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
