"""The layer-map editor: which layers of its teacher a student begins with, drawn and moved.

    >>> from workbench.lab import LayerMapEditor
    >>> editor = LayerMapEditor("protgpt2", "2i")
    >>> editor
    >>> editor.text                      # what `workbench distill --init` takes
    '0,2,4,6'

All of it happens in the browser (``layer_editor.js``); Python is told the map.
"""

from __future__ import annotations

import logging
import numbers
from collections.abc import Sequence
from typing import Any

import traitlets

from workbench import layer_maps
from workbench.errors import UsageError
from workbench.lab import registry
from workbench.lab.layers import layer_editor_svg
from workbench.lab.layers.anatomy import Anatomy, Share, account, describe, examine
from workbench.lab.pictured import Pictured, text_of
from workbench.layer_maps import LayerMap

#: Layers that a drawing has room for, of teacher and of student.
MOST_LAYERS = 64
#: What the menu says about each map, and the line below it. Sources: see `layer_maps`.
STORIES = {
    "2i": ("2i: every other layer, from layer 0", "DistilBioBERT begins with this map."),
    "2i+1": ("2i+1: every other layer, from layer 1", "CompactBioBERT begins with this map."),
    "distilbert": (
        "DistilBERT: 0,2,4,7,9,11",
        "DistilBERT’s script takes these six of twelve, not plainly every other one.",
    ),
    "first": ("first: the lowest layers", "The layers next to the embeddings."),
    "last": ("last: the highest layers", "The layers next to the head."),
    "spaced": ("spaced: evenly, from the first to the last", "Both ends are kept, at any ratio."),
    "uniform": (
        "uniform: the last of each equal stretch",
        "TinyBERT compares its layers with these.",
    ),
    "scratch": (
        "scratch: nothing copied",
        "As large as a copy, and random throughout: what copying is compared with.",
    ),
}
log = logging.getLogger(__name__)


class LayerMapEditor(Pictured):
    """Teacher's layers on the left, student's on the right, and arrows that can be moved.

    An editor made by a cell that is run again replaces the one that the cell made before.

    Args:
        teacher: name, directory or hub id, a model, its configuration, or a `Shape`; see
            `anatomy.examine`. No weights are loaded.
        layer_map: what to begin with: a text as `layer_maps.parse` reads it, or a sequence of
            teacher layers and None.
        name: a new editor closes the open one of the same name; by default the cell's.

    Raises:
        UsageError: if the map is none, or none of this teacher.
        WorkbenchError: if there is no such teacher.

    Attributes:
        text: the present map as ``workbench distill --init`` takes it; can be set (names too),
            and follows the browser. ``scratch:4`` where nothing is copied.
        teacher: the teacher's parts.
        name: name of the editor.
    """

    _esm = text_of("elements.js", "layers/layer_editor.js")
    _css = text_of("layers/layer_editor.css")

    text = traitlets.Unicode("").tag(sync=True)
    _teacher = traitlets.Dict().tag(sync=True)
    _named = traitlets.Dict().tag(sync=True)
    _presets = traitlets.List().tag(sync=True)
    _most = traitlets.Int(MOST_LAYERS).tag(sync=True)

    def __init__(
        self,
        teacher: Any = "protgpt2",
        layer_map: str | Sequence[int | None] = "2i",
        name: str | None = None,
    ) -> None:
        self.teacher = examine(teacher)
        if self.teacher.layers > MOST_LAYERS:
            raise UsageError(
                f"{self.teacher.title} has {self.teacher.layers} layers; this editor draws at most "
                f"{MOST_LAYERS}"
            )
        text = canonical(layer_map, self.teacher)
        named = _named(self.teacher.layers)
        super().__init__(
            text=text,
            _teacher=vars(self.teacher),
            _named=named,
            _presets=[[key, *STORIES[key]] for key in named],
        )
        self.observe(lambda _: self._publisher.poke(), names="text")
        self.name = name or "/".join(filter(None, (registry.cell(), "layer map editor")))
        registry.claim(self.name, self)

    @property
    def layer_map(self) -> LayerMap:
        """Teacher layer of each student layer, None where it is random; can be set."""
        return _map(self.text, self.teacher)

    @layer_map.setter
    def layer_map(self, layer_map: str | Sequence[int | None]) -> None:
        self.text = canonical(layer_map, self.teacher)

    def account(self) -> dict[str, Share]:
        """Parameters of the student by part, and those that are copied; see `anatomy.account`."""
        return account(self.teacher, self.layer_map, layer_maps.copies(self.text))

    def svg(self) -> str:
        """A picture of the present map, without JavaScript."""
        return layer_editor_svg.picture(self.teacher, self.layer_map, self.text)

    def __repr__(self) -> str:
        """One line, shown where there are no widgets."""
        return f"LayerMapEditor({self.text!r}) of {self.teacher.title}"

    def __str__(self) -> str:
        """The student in one sentence."""
        return describe(self.teacher, self.layer_map, layer_maps.copies(self.text))

    # -- the map's way in

    @traitlets.validate("text")
    def _validate(self, proposal: Any) -> str:
        return canonical(proposal["value"], self.teacher)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the browser has set; it may change the map and nothing else."""
        try:
            # Before it is set: a value that fails while it is being set would stay.
            text = canonical(str(sync_data["text"]), self.teacher)
        except (UsageError, KeyError):
            log.warning("the browser sent a layer map that is none: %.200r", sync_data.get("text"))
        else:
            super().set_state({"text": text})


def canonical(layer_map: str | Sequence[int | None], teacher: Anatomy) -> str:
    """The one text of a map of this teacher: ``0,2,4,6``, or ``scratch:4``.

    Raises:
        UsageError: if it is no map, or none that can be drawn for this teacher.
    """
    if not isinstance(layer_map, str):
        layer_map = _write(layer_map, teacher.layers)
    found = _map(layer_map, teacher)
    return layer_maps.write(found) if layer_maps.copies(layer_map) else f"scratch:{len(found)}"


def _write(layer_map: Any, teacher_layers: int) -> str:
    try:
        entries = tuple(layer_map)
    except TypeError:
        entries = (layer_map,)
    whole = (e is None or isinstance(e, numbers.Integral) for e in entries)
    if not entries or not all(whole) or any(isinstance(e, bool) for e in entries):
        raise UsageError(
            f"the layer map is {layer_map!r}; expected a text such as '0,2,4,6' or a list of "
            "teacher layers, with None for a random layer"
        )
    # A negative number would read as a random layer and a number.
    layer_maps.check_range(entries, teacher_layers)
    return layer_maps.write(entries)


def _map(text: str, teacher: Anatomy) -> LayerMap:
    found = layer_maps.parse(text, teacher.layers)
    if found is None:
        raise UsageError(
            "random is a recipe's own student, narrower than its teacher, which cannot be drawn "
            "here; take scratch:4 for four random layers as wide as the teacher's"
        )
    if len(found) > MOST_LAYERS:
        raise UsageError(
            f"the layer map has {len(found)} layers; this editor draws at most {MOST_LAYERS}"
        )
    return found


def _named(teacher_layers: int) -> dict[str, list[LayerMap]]:
    """Every named map of this teacher, shortest first; so the browser need not know the rules."""
    found: dict[str, list[LayerMap]] = {}
    for name in (*layer_maps.presets(teacher_layers), layer_maps.SCRATCH):
        default = len(layer_maps.named(name, teacher_layers))
        counts = [default] if name == "distilbert" else range(1, teacher_layers + 1)
        found[name] = []
        for count in counts:
            try:
                found[name].append(layer_maps.named(name, teacher_layers, count))
            except UsageError:
                break
    return found
