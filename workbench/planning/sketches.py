"""Teacher and student without their weights: every shape, no memory, no network.

A model made on PyTorch's meta device has all its tensors and none of their numbers. What a run
would build from a configuration is built here in the same way, from the recipe's shapes or from
the ``config.json`` of a teacher that is on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench import layer_maps, models, recipes, tasks, workshop
from workbench.classifying import classifiers, text_classifiers
from workbench.config import RunConfig
from workbench.errors import WorkbenchError, first_line
from workbench.hidden_words import masked_lm
from workbench.initialisation import layer_list
from workbench.planning.arithmetic import Size
from workbench.recipes import Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: What makes a model of a shape, by task.
BUILDERS = {
    "text-generation": models.build_causal_lm,
    "text-classification": classifiers.build,
    "fill-mask": masked_lm.build,
}
#: Activation functions that transformers writes out in Python, a tensor an operation.
_WRITTEN_OUT = {"gelu_new", "gelu_fast", "quick_gelu", "gelu_accurate"}


def of_shape(task: str, shape: Shape, activation: str, **options: Any) -> PreTrainedModel:
    """A model of a recipe's task and shape; of a classifier of texts ``classes`` are its names."""
    with torch.device("meta"):
        return BUILDERS[task](shape, activation=activation, seed=0, **options)


def of_directory(path: Path, kind: models.Kind) -> PreTrainedModel:
    """The model that a directory describes.

    Raises:
        WorkbenchError: if it has no configuration, or one of another kind of model.
    """
    import transformers

    found = models.architectures(path)
    if kind.endings and not any(a.endswith(kind.endings) for a in found):
        raise WorkbenchError(
            f"{path} holds {' '.join(found) or 'a model of unnamed architecture'}; expected "
            f"{kind.name} ({' or '.join('…' + e for e in kind.endings)})"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
        with torch.device("meta"), models.quiet_transformers():
            return getattr(transformers, kind.auto_class).from_config(
                config, trust_remote_code=False, dtype=torch.float32
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise WorkbenchError(
            f"cannot read the configuration in {path}: {first_line(error)}"
        ) from error


def student(config: RunConfig, teacher: PreTrainedModel, tokens: int) -> PreTrainedModel:
    """The student that a run would train.

    Args:
        config: of the run.
        teacher: sketched.
        tokens: of its tokenizer.

    Raises:
        UsageError: if its layer map asks for layers that the teacher has not.
    """
    layer_map = layer_maps.parse(config.start, teacher.config.num_hidden_layers)
    shape = workshop.student_shape(config, teacher, tokens, layer_map)
    if layer_map is not None:
        with torch.device("meta"):
            return models.build_like(teacher, shape.layers, seed=0, layer_map=layer_map)
    activation = recipes.get(config.recipe).scale(config.scale).activation
    classes = {}
    if config.label is not None:
        classes = {"classes": text_classifiers.classes(teacher.config)}
    return of_shape(tasks.of_run(config).name, shape, activation, **classes)


def size_of(model: PreTrainedModel) -> Size:
    """What a model's costs follow from."""
    config = model.config
    layers = [model.get_submodule(layer_list(model))[i] for i in range(config.num_hidden_layers)]
    return Size(
        parameters=models.parameters(model),
        tensors=sum(1 for _ in model.parameters()),
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        width=config.hidden_size,
        inner=_inner(config),
        matrices=round(sum(_matrices(layer) for layer in layers) / len(layers)),
        head=sum(_matrices(part) for part in _above(model)),
        answers=models.answers(model),
        positions=getattr(config, "max_position_embeddings", 0),
        written_out=_activation(config) in _WRITTEN_OUT,
    )


def _above(model: PreTrainedModel) -> list[torch.nn.Module]:
    """What a scored row passes through above the layers."""
    if models.is_classifier(model):
        pooler = getattr(model.base_model, "pooler", None)
        above = [child for child in model.children() if child is not model.base_model]
        return above if pooler is None else [pooler, *above]
    if models.is_masked(model):
        return [child for child in model.children() if child is not model.base_model]
    return [model.get_output_embeddings()]


def _matrices(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.ndim >= 2)


def _inner(config: Any) -> int:
    for name in ("intermediate_size", "n_inner", "ffn_dim"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return classifiers.EXPANSION * config.hidden_size


def _activation(config: Any) -> str:
    for name in ("activation_function", "hidden_act"):
        if getattr(config, name, None):
            return str(getattr(config, name))
    return ""
