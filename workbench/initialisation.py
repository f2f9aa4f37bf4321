"""A student's start: layers and tables copied from its teacher, and a report of each tensor.

Values are copied. Some released scripts assign whole modules instead; the student then
trains its teacher along with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from workbench import layer_maps
from workbench.errors import WorkbenchError
from workbench.layer_maps import LayerMap

Origin = Literal["copied", "reshaped", "random"]


@dataclass(frozen=True)
class TensorOrigin:
    """Where one tensor of the student comes from.

    Attributes:
        name: in the student.
        shape: of the student's tensor.
        origin: copied; reshaped, if only its first rows are the teacher's first; or random.
        source: name in the teacher; empty if random.
    """

    name: str
    shape: tuple[int, ...]
    origin: Origin
    source: str = ""

    @property
    def parameters(self) -> int:
        """Numbers in it."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Initialisation:
    """What `initialise` did.

    Attributes:
        layer_map: that was asked for; None if nothing was to be copied.
        tensors: every parameter of the student, tied ones once.
    """

    layer_map: LayerMap | None
    tensors: tuple[TensorOrigin, ...]

    def count(self, origin: Origin) -> int:
        """Tensors of that origin."""
        return sum(t.origin == origin for t in self.tensors)

    def parameters(self, origin: Origin) -> int:
        """Parameters in tensors of that origin."""
        return sum(t.parameters for t in self.tensors if t.origin == origin)

    def __str__(self) -> str:
        """One line with the counts."""
        total = sum(t.parameters for t in self.tensors)
        parts = [
            f"{self.count(origin)} tensors {origin} ({self.parameters(origin) / total:.1%} of "
            f"{total:,} parameters)"
            for origin in ("copied", "reshaped", "random")
            if self.count(origin)
        ]
        return f"layer map {layer_maps.write(self.layer_map)}: {', '.join(parts)}"

    def table(self) -> str:
        """A line a tensor: origin, name, shape, source."""
        width = max(len(t.name) for t in self.tensors)
        return "\n".join(
            f"{t.origin:<8}  {t.name:<{width}}  {'×'.join(map(str, t.shape)):<12}  {t.source}"
            for t in self.tensors
        )


@torch.no_grad()
def initialise(
    student: nn.Module,
    teacher: nn.Module,
    layer_map: Sequence[int | None] | None,
    *,
    copies_head: bool = True,
) -> Initialisation:
    """Copy a teacher's layers into a student; embeddings, final norm and head where they fit.

    Works for model families of ``transformers`` that keep their layers in one list, such as
    GPT-2 and BERT; teacher and student may have different heads.

    Args:
        student: changed in place; what is not copied stays as it is.
        teacher: not changed; shares no storage with the student afterwards.
        layer_map: teacher layer for each student layer, None for a layer that stays random;
            None instead of a map copies nothing at all.
        copies_head: False leaves what is above the base model random, as where a start was saved
            without its head; what is tied to a table of the base model comes with it.

    Returns:
        The origin of every tensor.

    Raises:
        WorkbenchError: if the map does not fit the two models. Nothing has been copied then.
    """
    own = dict(student.named_parameters())
    if layer_map is None:
        return Initialisation(None, tuple(_random(name, p) for name, p in own.items()))
    layer_map = tuple(layer_map)
    theirs = {_bare(teacher, name): (name, p) for name, p in teacher.named_parameters()}
    # A tied head has no name of its own among the parameters, and may be untied in the student.
    for name, tensor in teacher.state_dict(keep_vars=True).items():
        if isinstance(tensor, nn.Parameter):
            theirs.setdefault(_bare(teacher, name), (name, tensor))
    teacher_place, place = layer_list(teacher), layer_list(student)
    layers, teacher_layers = len(_module(student, place)), len(_module(teacher, teacher_place))
    layer_maps.check_range(layer_map, teacher_layers)
    if len(layer_map) != layers:
        raise WorkbenchError(
            f"the layer map {layer_maps.write(layer_map)} has {len(layer_map)} entries and the "
            f"student {layers} layers; expected one entry a layer"
        )
    plan: list[tuple[Tensor, Tensor | None, TensorOrigin]] = []
    for name, parameter in own.items():
        source = _source(name, place, teacher_place, layer_map, student, teacher)
        if not copies_head and not name.startswith(f"{student.base_model_prefix}."):
            source = None
        found = None if source is None else theirs.get(source)
        in_layer = name.startswith(f"{place}.")
        if in_layer and source is not None and found is None:
            raise WorkbenchError(
                f"the layers of {type(teacher).__name__} have no {source}, which the student's "
                f"{type(student).__name__} needs; expected two models of the same family"
            )
        plan.append(_plan(name, parameter, found, in_layer=in_layer))
    for parameter, values, _ in plan:
        if values is not None:
            parameter.copy_(values)
    return Initialisation(layer_map, tuple(origin for *_, origin in plan))


def layer_list(model: nn.Module) -> str:
    """Name of the module that holds a model's layers, such as ``transformer.h``.

    Raises:
        WorkbenchError: if there is no list of as many layers as the configuration says.
    """
    wanted = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return name
    raise WorkbenchError(
        f"{type(model).__name__} has no list of {wanted} layers; expected a model such as GPT-2 or "
        "BERT, which keeps its layers in one list, each with weights of its own"
    )


def _module(model: nn.Module, name: str) -> nn.ModuleList:
    return model.get_submodule(name)  # type: ignore[return-value]


def _bare(model: nn.Module, name: str) -> str:
    """A name without the prefix that heads put before the base model's: ``bert.``, say."""
    return name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def _source(
    name: str,
    place: str,
    teacher_place: str,
    layer_map: LayerMap,
    student: nn.Module,
    teacher: nn.Module,
) -> str | None:
    """Bare name of the teacher's tensor that belongs into a student's; None for a random layer."""
    if not name.startswith(f"{place}."):
        return _bare(student, name)
    number, _, rest = name.removeprefix(f"{place}.").partition(".")
    layer = layer_map[int(number)]
    return None if layer is None else f"{_bare(teacher, teacher_place)}.{layer}.{rest}"


def _plan(
    name: str, parameter: Tensor, found: tuple[str, Tensor] | None, in_layer: bool
) -> tuple[Tensor, Tensor | None, TensorOrigin]:
    shape = tuple(parameter.shape)
    if found is None:
        return parameter, None, _random(name, parameter)
    source, values = found
    if values.shape == parameter.shape:
        return parameter, values, TensorOrigin(name, shape, "copied", source)
    if in_layer:
        raise WorkbenchError(
            f"the student's {name} is {_size(parameter)} and the teacher's {source} "
            f"{_size(values)}; layers can be copied only into a student as wide as its teacher"
        )
    fewer_rows = ("position" in name or name.endswith("wpe.weight")) and values.shape[
        1:
    ] == parameter.shape[1:]
    if fewer_rows and len(values) > len(parameter):
        return parameter, values[: len(parameter)], TensorOrigin(name, shape, "reshaped", source)
    return parameter, None, _random(name, parameter)


def _random(name: str, parameter: Tensor) -> TensorOrigin:
    return TensorOrigin(name, tuple(parameter.shape), "random")


def _size(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
