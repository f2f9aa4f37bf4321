"""In which precision models read. Weights, moments and losses are float32 always.

In bfloat16 (PyTorch's autocast) the matrix products of backbones and heads are made in half
precision, with the range of float32, so that no loss needs scaling. float16 is not offered: its
range is smaller than a gradient's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.inner import Seen
    from workbench.objective import TeacherSignal

PRECISIONS = ("float32", "bfloat16")

Head = Callable[["Tensor"], "Tensor"]


def reading(precision: str, device: torch.device) -> AbstractContextManager:
    """Within it, models read in that precision.

    Not `Accelerator.autocast`: an accelerator's precision is fixed for a process, and a notebook
    trains in several.
    """
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def head(own: Head | None, precision: str, device: torch.device) -> Head | None:
    """A head that reads in that precision."""
    if own is None or precision == "float32":
        return own

    def cast(rows: Tensor) -> Tensor:
        with reading(precision, device):
            return own(rows)

    return cast


def signal(given: TeacherSignal, precision: str) -> TeacherSignal:
    """What a teacher said, ready for the losses; its head is as it was, see `answering`."""
    if precision == "float32":
        return given
    return replace(
        given,
        states=None if given.states is None else full(given.states),
        seen=None if given.seen is None else seen(given.seen),
    )


def answering(
    given: TeacherSignal | None, precision: str, device: torch.device
) -> TeacherSignal | None:
    """What a teacher said, whose head reads in that precision."""
    if given is None or precision == "float32":
        return given
    return replace(given, head=head(given.head, precision, device))


def full(value: Tensor) -> Tensor:
    """Half precision as float32; all else as it is."""
    return value.float() if value.dtype == torch.bfloat16 else value


def exact(value: Tensor) -> Tensor:
    """In float64; on the CPU where the device has none, as Apple's GPUs."""
    return value.cpu().double() if value.device.type == "mps" else value.double()


def seen(held: Seen) -> Seen:
    """What a model held inside, for the losses."""
    return replace(
        held,
        hidden=tuple(full(h) for h in held.hidden),
        attention=tuple(full(a) for a in held.attention),
    )
