"""Layer maps: which layer of the teacher each layer of the student is copied from.

A map is a tuple with an entry for each student layer: the number of a teacher layer,
from 0, or None for a layer that starts from random numbers. As text, which is what
``workbench distill --init`` takes: ``0,2,4,6`` or ``0,-,4,-``, or a name. A name may
be followed by the number of student layers, ``first:4``; without it the student has
half of the teacher's layers, rounded down.

Where the names come from: ``uniform`` is TinyBERT's g(m) = m·L/N, the last layer of each of N equal
stretches; ``2i`` is DistilBioBERT's and the common reading of
DistilBERT's every other layer, ``2i+1`` CompactBioBERT's, ``distilbert`` the map that
DistilBERT's released script really uses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from workbench.errors import UsageError

LayerMap = tuple[int | None, ...]

RANDOM = "random"
#: ``scratch:4``: as many layers, as wide as the teacher, and nothing copied, tables included.
SCRATCH = "scratch"
DISTILBERT = (0, 2, 4, 7, 9, 11)
NAMES = ("2i", "2i+1", "distilbert", "first", "last", "spaced", "uniform")
EXPECTED = (
    f"expected random, a name ({', '.join(NAMES)}; 'first:4' asks for four layers), scratch:4 for "
    "as many layers with nothing copied, or a map by hand such as 0,2,4,6 ('-' is a random layer)"
)


def check(text: str) -> None:
    """Raise UsageError unless this can be a layer map of some teacher, or ``random``."""
    if text != RANDOM:
        _split(text)


def parse(text: str, teacher_layers: int) -> LayerMap | None:
    """The map that a text means for a teacher of so many layers; None for ``random``.

    For ``scratch`` the map has random layers only; see `copies`.

    Raises:
        UsageError: if it is no map, or not one of this teacher.
    """
    if text == RANDOM:
        return None
    name, count = _split(text)
    layer_map = _by_hand(text) if name is None else named(name, teacher_layers, count)
    check_range(layer_map, teacher_layers)
    return layer_map


def copies(text: str) -> bool:
    """Whether anything is copied from the teacher: not for ``random`` and ``scratch``."""
    return text.partition(":")[0] not in (RANDOM, SCRATCH)


def named(name: str, teacher_layers: int, count: int | None = None) -> LayerMap:
    """The map of that name with ``count`` student layers, by default half of the teacher's.

    ``spaced`` puts the student's first and last layer on the teacher's and rounds the
    others to the nearest place between, ``round(i·(L−1)/(N−1))``; a single layer is the last.

    Raises:
        UsageError: if the teacher has too few layers for it.
    """
    if name == "distilbert":
        if teacher_layers != 12 or count not in (None, 6):
            raise UsageError(
                f"the map distilbert is 6 of 12 layers ({write(DISTILBERT)}); this teacher has "
                f"{teacher_layers}{'' if count is None else f', and {count} were asked for'}; "
                "take 2i or spaced"
            )
        return DISTILBERT
    wanted = max(1, teacher_layers // 2) if count is None else count
    first = 1 if name == "2i+1" else 0
    most = len(range(first, teacher_layers, 2)) if name in ("2i", "2i+1") else teacher_layers
    if not 1 <= wanted <= most:
        raise UsageError(
            f"{name}:{wanted} asks for {wanted} layers; of a teacher with {teacher_layers}, "
            f"{name} can give 1 to {most}"
        )
    if name == SCRATCH:
        return (None,) * wanted
    if name in ("2i", "2i+1"):
        return tuple(range(first, teacher_layers, 2))[:wanted]
    if name == "first":
        return tuple(range(wanted))
    if name == "last":
        return tuple(range(teacher_layers - wanted, teacher_layers))
    if name == "uniform":
        return tuple((i + 1) * teacher_layers // wanted - 1 for i in range(wanted))
    if wanted == 1:
        return (teacher_layers - 1,)
    # Half a step is rounded up, not to even as round() does, so that the steps stay alike.
    return tuple((2 * i * (teacher_layers - 1) + wanted - 1) // (2 * (wanted - 1))
                 for i in range(wanted))  # fmt: skip


def presets(teacher_layers: int) -> dict[str, LayerMap]:
    """The named maps that this teacher has layers for, by name."""
    found = {}
    for name in NAMES:
        if name == "distilbert" and teacher_layers != 12:
            continue
        if name == "2i+1" and teacher_layers < 2:
            continue
        found[name] = named(name, teacher_layers)
    return found


def write(layer_map: Sequence[int | None] | None) -> str:
    """The text of a map: ``0,2,-,6``; ``random`` for None. `parse` reads it."""
    if layer_map is None:
        return RANDOM
    return ",".join("-" if layer is None else str(layer) for layer in layer_map)


def check_range(layer_map: Sequence[int | None], teacher_layers: int) -> None:
    """Raise UsageError unless every entry is a layer of the teacher or None, and there is one."""
    if not layer_map:
        raise UsageError(f"the layer map is empty; {EXPECTED}")
    for place, layer in enumerate(layer_map):
        if layer is not None and not 0 <= layer < teacher_layers:
            raise UsageError(
                f"the layer map {write(layer_map)} asks for layer {layer} (student layer {place}); "
                f"the teacher has {teacher_layers}, numbered 0 to {teacher_layers - 1}"
            )


def _split(text: str) -> tuple[str | None, int | None]:
    """Name and number of layers; no name for a map by hand."""
    name, colon, count = text.partition(":")
    if name in (*NAMES, SCRATCH) and (not colon or re.fullmatch(r"\d{1,4}", count)):
        if colon and int(count) == 0:
            raise UsageError(f"the layer map {text} has no layers; expected at least 1")
        return name, int(count) if colon else None
    if re.fullmatch(r"(\d{1,4}|-)(,(\d{1,4}|-))*", text):
        return None, None
    raise UsageError(f"there is no layer map {text!r}; {EXPECTED}")


def _by_hand(text: str) -> LayerMap:
    return tuple(None if part == "-" else int(part) for part in text.split(","))
