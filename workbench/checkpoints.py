"""The checkpoint of a run: student, baseline and their optimisers in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from workbench import storage
from workbench.distiller import Snapshot
from workbench.errors import WorkbenchError
from workbench.run_directory import FORMAT, RunDirectory
from workbench.workshop import Workshop

#: Who is trained in a run, in the order in which both are always named.
ROLES = ("student", "baseline")


def write(directory: RunDirectory, snapshots: Sequence[Snapshot]) -> None:
    """Replace a run's checkpoint by snapshots of student and baseline.

    Raises:
        WorkbenchError: if the disk is in the way.
    """
    tensors = {
        f"{role}.{name}": tensor
        for role, snapshot in zip(ROLES, snapshots, strict=True)
        for name, tensor in snapshot.tensors.items()
    }
    knobs = {role: s.knobs for role, s in zip(ROLES, snapshots, strict=True)}
    metadata = {"format": FORMAT, "step": str(snapshots[0].step), "knobs": json.dumps(knobs)}
    storage.write_safetensors(directory.checkpoint, tensors, metadata)


def restore(directory: RunDirectory, shop: Workshop) -> None:
    """Put the students where the checkpoint says; without one they stay as they are.

    Raises:
        WorkbenchError: if the checkpoint is damaged or of another run.
    """
    if not directory.checkpoint.exists():
        return
    step, knobs, tensors = _read(directory)
    for role, distiller in zip(ROLES, (shop.student, shop.baseline), strict=True):
        mine = {
            n.removeprefix(f"{role}."): t for n, t in tensors.items() if n.startswith(f"{role}.")
        }
        try:
            distiller.restore(Snapshot(step, mine, knobs[role]))
        except ValueError as error:
            raise WorkbenchError(
                f"the checkpoint {directory.checkpoint} does not fit this run: {error}"
            ) from error


def step_of(directory: RunDirectory) -> int | None:
    """Step of a run's checkpoint; None without one.

    Raises:
        WorkbenchError: if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not directory.checkpoint.exists():
        return None
    try:
        with safe_open(directory.checkpoint, "pt") as file:
            return int(file.metadata()["step"])
    except (SafetensorError, OSError) as error:
        raise _damaged(directory, error) from error


def differences(one: RunDirectory, other: RunDirectory) -> list[str]:
    """What is not the same, bit by bit, in the checkpoints of two runs: names of tensors, or knobs.

    Raises:
        WorkbenchError: if there is no checkpoint, or it is damaged.
    """
    import torch

    (left_step, left_knobs, left), (right_step, right_knobs, right) = _read(one), _read(other)
    found = sorted(set(left) ^ set(right))
    for name in sorted(set(left) & set(right)):
        a, b = left[name].contiguous(), right[name].contiguous()
        same = a.dtype == b.dtype and a.shape == b.shape
        if not same or not torch.equal(
            a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)
        ):
            found.append(name)
    if left_step != right_step:
        found.append("step")
    return found + (["knobs"] if left_knobs != right_knobs else [])


def _damaged(directory: RunDirectory, error: Exception) -> WorkbenchError:
    return WorkbenchError(
        f"the checkpoint {directory.checkpoint} is damaged ({error}); remove it to begin "
        "this run again from its start"
    )


def _read(directory: RunDirectory) -> tuple[int, dict[str, dict[str, float]], dict[str, Any]]:
    """Step, knobs of each role, and tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory.checkpoint, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(directory, error) from error
    return int(metadata["step"]), json.loads(metadata["knobs"]), tensors
