"""The size of a student as text: ``3``, three layers, or ``3x96``, three layers 96 wide.

An empty text is the recipe's own size. A width is for students that begin from random numbers;
one that is made of its teacher's layers is as wide as its teacher.
"""

from __future__ import annotations

import re
from dataclasses import replace

from workbench import layer_maps
from workbench.errors import UsageError
from workbench.recipes.recipe import Shape


def parse(text: str) -> tuple[int | None, int | None]:
    """Number of layers, and width; None for the recipe's own.

    Raises:
        UsageError: if it is no size.
    """
    if not text:
        return None, None
    found = re.fullmatch(r"([1-9]\d{0,2})(?:[x×]([1-9]\d{0,4}))?", text)
    if found is None:
        raise UsageError(
            f"there is no size {text!r}; expected a number of layers, such as 3, or layers and "
            "width, such as 3x96"
        )
    layers, width = found.groups()
    return int(layers), None if width is None else int(width)


def start(init: str, size: str) -> str:
    """How a student of that size starts: the layer map with its number of layers.

    Raises:
        UsageError: if the map has a number of layers already, or sets the width.
    """
    layers, width = parse(size)
    if layers is None or init == layer_maps.RANDOM:
        return init
    if width is not None:
        raise UsageError(
            f"a student that starts as {init} is as wide as its teacher; expected a number of "
            f"layers alone, such as {layers}, or --init random"
        )
    if init not in (*layer_maps.NAMES, layer_maps.SCRATCH):
        raise UsageError(f"the layer map {init} says how many layers there are; leave out the size")
    return f"{init}:{layers}"


def resize(shape: Shape, size: str) -> Shape:
    """A shape with other layers and width; heads stay, so that attention can be compared.

    Raises:
        UsageError: if the heads do not share the width evenly.
    """
    layers, width = parse(size)
    if layers is None:
        return shape
    if width is None:
        return replace(shape, layers=layers)
    if width % shape.heads:
        raise UsageError(
            f"the size {size} is {width} wide; expected a multiple of the {shape.heads} heads"
        )
    inner = shape.feed_forward
    if inner is not None:
        inner = max(1, round(inner * width / shape.width))
    return replace(shape, layers=layers, width=width, feed_forward=inner)
