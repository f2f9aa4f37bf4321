"""What a model is made of, for drawing: embeddings, layers, norm and head, and their sizes.

Only the configuration is read; nothing is loaded or allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UsageError, WorkbenchError
from workbench.layer_maps import LayerMap
from workbench.recipes.recipe import Shape

PARTS = ("embeddings", "layers", "norm and head")


@dataclass(frozen=True)
class Anatomy:
    """A model's parts, in parameters.

    Attributes:
        title: what to call the model.
        layers: how many it has.
        width: of its hidden states.
        embeddings: parameters before the layers; tied weights count here.
        per_layer: parameters of each layer.
        head: parameters after the layers: final norm, and what the head has of its own.
    """

    title: str
    layers: int
    width: int
    embeddings: int
    per_layer: int
    head: int

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return self.embeddings + self.layers * self.per_layer + self.head


@dataclass(frozen=True)
class Share:
    """One part of a student.

    Attributes:
        parameters: in it.
        copied: those of them that are the teacher's.
    """

    parameters: int
    copied: int


def account(teacher: Anatomy, layer_map: LayerMap, copies: bool = True) -> dict[str, Share]:
    """What a student of that map has, by `PARTS`, and what of it is copied.

    Args:
        teacher: whose width the student has.
        layer_map: an entry for each student layer.
        copies: False for ``scratch``, where the tables, the norm and the head are random too.
    """
    taken = sum(layer is not None for layer in layer_map)
    layers = len(layer_map) * teacher.per_layer
    return {
        "embeddings": Share(teacher.embeddings, teacher.embeddings * copies),
        "layers": Share(layers, taken * teacher.per_layer),
        "norm and head": Share(teacher.head, teacher.head * copies),
    }


def examine(teacher: Any) -> Anatomy:
    """The parts of a model.

    Args:
        teacher: name of a built-in model, directory or hub id; a model; its configuration
            (of ``transformers``); or a `Shape`, which means a GPT-2.

    Raises:
        UsageError: if it is none of these.
        WorkbenchError: if there is no such model, it is on the hub and cannot be asked, or its
            layers are not in one list or not of one size.
    """
    from transformers import PretrainedConfig, PreTrainedModel

    if isinstance(teacher, PreTrainedModel):
        return _parts(teacher, type(teacher).__name__)
    if isinstance(teacher, Shape):
        return _of_shape(teacher, "GPT-2")
    if isinstance(teacher, PretrainedConfig):
        return _of_config(teacher, str(teacher.model_type))
    if isinstance(teacher, (str, Path)):
        return _of_source(teacher)
    raise UsageError(
        f"the teacher is a {type(teacher).__name__}; expected a name, a directory, a model "
        "of transformers, its configuration, or a Shape"
    )


def _of_source(source: str | Path) -> Anatomy:
    from transformers import AutoConfig

    from workbench import models, recipes
    from workbench.records import hub

    place, revision = models.resolve_model(source), {}
    if not isinstance(place, Path):
        place, revision["revision"] = hub.split(place)
        # The published teachers' shapes are known here; the hub need not be asked.
        for name in recipes.names("text-generation"):
            for scale in recipes.get(name).scales.values():
                if scale.teacher_source == place:
                    return _of_shape(scale.teacher, place.rpartition("/")[2])
    try:
        with models.quiet_transformers():
            config = AutoConfig.from_pretrained(place, trust_remote_code=False, **revision)
    except Exception as error:
        # Whatever the loader raises is about what was given; the line says which of it.
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise WorkbenchError(
            f"cannot read the configuration of {place} ({reason}); give the directory of a model, "
            "or a model"
        ) from error
    return _of_config(config, Path(str(source)).name)


def _of_shape(shape: Shape, title: str) -> Anatomy:
    from workbench import models

    config = models.gpt2_config(shape, activation="gelu_new")
    config.architectures = ["GPT2LMHeadModel"]
    return _of_config(config, title)


def _of_config(config: Any, title: str) -> Anatomy:
    import torch
    import transformers

    named = (config.architectures or [""])[0]
    kind = getattr(transformers, named, None)
    if kind is None:
        raise WorkbenchError(
            f"the configuration of {title} names {named or 'no architecture'}, which is not in "
            "transformers; give the model itself"
        )
    with torch.device("meta"):
        return _parts(kind(config), title)


def _parts(model: Any, title: str) -> Anatomy:
    from workbench.initialisation import layer_list

    place = layer_list(model)
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in model.get_submodule(place)]
    if len(set(sizes)) != 1:
        raise WorkbenchError(
            f"the layers of {title} have {min(sizes):,} to {max(sizes):,} parameters; expected "
            "layers of one size, any of which can be copied into any place"
        )
    # Parameters come in the order in which the model uses them.
    before = after = 0
    reached = False
    for name, parameter in model.named_parameters():
        if name.startswith(f"{place}."):
            reached = True
        elif reached:
            after += parameter.numel()
        else:
            before += parameter.numel()
    return Anatomy(
        title=title,
        layers=len(sizes),
        width=model.config.hidden_size,
        embeddings=before,
        per_layer=sizes[0],
        head=after,
    )


def describe(teacher: Anatomy, layer_map: Sequence[int | None], copies: bool = True) -> str:
    """The student of a map in one sentence."""
    parts = account(teacher, tuple(layer_map), copies)
    total = sum(part.parameters for part in parts.values())
    copied = sum(part.copied for part in parts.values())
    layers = "1 layer" if len(layer_map) == 1 else f"{len(layer_map)} layers"
    return (
        f"The student has {layers} and {total:,} parameters, {copied / total:.0%} of them copied; "
        f"its embeddings are {parts['embeddings'].parameters / total:.0%} of it. The teacher has "
        f"{teacher.layers} layers and {teacher.parameters:,} parameters; the student is "
        f"{compare(teacher.parameters, total)}."
    )


def compare(teacher: int, student: int) -> str:
    """How much smaller a student is, or larger: ``2.2 × smaller``."""
    if teacher >= student:
        return f"{teacher / student:.1f} × smaller"
    return f"{student / teacher:.1f} × larger"
