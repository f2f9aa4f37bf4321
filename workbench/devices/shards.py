"""A model cut into shards: every process holds a part of each weight (PyTorch's FSDP2).

For models that, with gradients and moments, are too large for one device. A layer's weights are
gathered while it is at work and dropped afterwards; each process adds up the gradients of its own
parts and steps them. What is written, evaluated and shown is a whole copy, which the main process
keeps and `fill` brings up to date.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from workbench.devices import processes
from workbench.initialisation import layer_list


class Learner(nn.Module):
    """Student and projections as one module, whose forward pass is whatever needs their weights.

    FSDP gathers weights when a module's forward pass begins. A step reads the backbone and the
    head separately, so the pass that counts is the one around both.
    """

    def __init__(self, student: nn.Module, matcher: nn.Module) -> None:
        super().__init__()
        self.student, self.matcher = student, matcher

    def forward(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``work`` with weights that are there."""
        return work(*arguments)


def learner(student: nn.Module, matcher: nn.Module, device: torch.device) -> Learner:
    """Cut a student and its projections into shards, in place; gradients are sums."""
    made = Learner(student, matcher)
    _cut(made, student, device)
    for module in made.modules():
        if isinstance(module, FSDPModule):
            # A sum and not a mean: parts are divided by the counts of the whole batch.
            module.set_gradient_divide_factor(1.0)
            # Gloo, unlike NCCL, knows sums only.
            module.set_force_sum_reduction_for_comms(True)
    return made


def backbone(model: nn.Module, device: torch.device) -> tuple[nn.Module, Learner]:
    """A copy of a frozen backbone in shards, and the module to call it through.

    The copy itself stays of its class: transformers knows by the class what a model can show of
    its inside.
    """
    made = copy.deepcopy(model).requires_grad_(False).eval()
    root = Learner(made, nn.Module())
    # No backward pass comes, after which the outermost weights would else be dropped.
    _cut(root, made, device, reshard_after_forward=True)
    return made, root


def spare(student: nn.Module) -> nn.Module:
    """A whole copy of a student on the main process; elsewhere its shape without numbers."""
    return copy.deepcopy(student) if processes.join().main else copy.deepcopy(student).to("meta")


def fill(whole: nn.Module, cut: nn.Module) -> None:
    """Bring a whole copy up to date with its shards; all processes together."""
    targets = dict(whole.named_parameters())
    with torch.no_grad():
        for name, parameter in cut.named_parameters():
            value = gathered(parameter)
            if processes.join().main:
                targets[name].copy_(value)


def gathered(value: Tensor) -> Tensor:
    """All of a tensor that may be in shards; then all processes together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy of a tensor where a parameter is, cut as it is if they have the same shape.

    Every process has all of ``value``, so nothing is sent.
    """
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def _cut(root: nn.Module, model: nn.Module, device: torch.device, **options: bool) -> None:
    mesh = _mesh(device.type, processes.count())
    for layer in model.get_submodule(layer_list(model)):
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh, **options)


_MESHES: dict[tuple[str, int], DeviceMesh] = {}


def _mesh(kind: str, size: int) -> DeviceMesh:
    # One for all models: each mesh would bring a group of processes of its own.
    if (kind, size) not in _MESHES:
        _MESHES[kind, size] = init_device_mesh(kind, (size,))
    return _MESHES[kind, size]
