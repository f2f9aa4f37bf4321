"""What the runners of all peers share: the job from its folder, and batches handed out on command.

A runner is a script, run by an interpreter that has PyTorch and transformers and need not have
this package; so nothing of it is imported here. It speaks with its driver in lines of JSON:

    runner: {"ready": "tutorial loop", "threads": 2, "versions": {…}}
    driver: {"steps": 20}
    runner: {"seconds": [20 numbers], "cpu_seconds": …, "first_loss": …}
    driver: {"stop": true}                       the runner leaves; so does one whose input ends

The toolkits have training loops of their own that cannot be told to pause. They read batches,
though: between two rounds the reading of a batch waits for the driver. A step's time is that from
a batch's handing out until the next is asked for, so a loop that reads one batch ahead is
measured as well: in each such time it does one step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

#: Of positions that are not scored, as everywhere in transformers.
IGNORED = -100


class Wire:
    """Lines of JSON to and from the driver; all else that is printed goes to standard error."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(self, **message: Any) -> None:
        """Send one line."""
        print(json.dumps(message), file=self._out, flush=True)

    def hear(self) -> dict[str, Any]:
        """Wait for one line; an ended input counts as the order to stop."""
        line = sys.stdin.readline()
        return json.loads(line) if line else {"stop": True}


class Job:
    """The folder that `workbench.bench.peers.job` wrote, and the batches in their order.

    Args:
        directory: the folder.
        name: of the contestant.

    Iterating gives ``{"input_ids", "attention_mask", "labels"}`` again and again, each
    ``[batch, length]``, with labels `IGNORED` where a token is padding or the first of its row.
    It waits for the driver between rounds and ends the process when told to.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        stored = json.loads((directory / "job.json").read_text(encoding="utf-8"))
        self.config: dict[str, Any] = stored["config"]
        self.clip: float = stored["clip"]
        torch.set_num_threads(stored["threads"])
        self.order: list[int] = stored["order"]
        self._different = _read_batches(directory)
        self.batches = [self._different[i] for i in self.order]
        self.first_loss: torch.Tensor | None = None
        self._wire = Wire()

    def __len__(self) -> int:
        return len(self.batches)

    def different_batches(self) -> list[dict[str, torch.Tensor]]:
        """Each batch once."""
        return self._different

    def models(self):
        """Teacher, frozen and in eval mode, and student, in train mode."""
        from transformers import AutoModelForCausalLM

        teacher, student = (
            AutoModelForCausalLM.from_pretrained(self.directory / who, dtype=torch.float32)
            for who in ("teacher", "student")
        )
        return teacher.eval().requires_grad_(False), student.train()

    def optimizer(self, student) -> torch.optim.Optimizer:
        """AdamW as the workbench has it: fused, weight decay on matrices only."""
        parameters = list(student.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2],
             "weight_decay": self.config["weight_decay"]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]  # fmt: skip
        return torch.optim.AdamW(groups, lr=self.config["learning_rate"], fused=True)

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at ``step``, from 0: for ``LambdaLR``."""
        steps, warmup = self.config["steps"], self.config["warmup"]
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (steps - step) / max(1, steps - warmup))

    def note_loss(self, loss: torch.Tensor) -> None:
        """Keep the loss of the first step, for the check that all compute the same."""
        if self.first_loss is None:
            self.first_loss = loss.detach()

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for at, _ in enumerate(self.ticks()):
            yield self.batches[at % len(self.batches)]

    def ticks(self) -> Iterator[None]:
        """The pace without the batches: one tick a step, for loops that keep the batches."""
        self._wire.say(ready=self.name, threads=torch.get_num_threads(), versions=_versions())
        while True:
            message = self._wire.hear()
            if message.get("stop"):
                raise SystemExit(0)
            seconds = []
            processor = time.process_time()
            for _ in range(message["steps"]):
                started = time.perf_counter()
                yield
                seconds.append(time.perf_counter() - started)
            first = None if self.first_loss is None else float(self.first_loss)
            self._wire.say(
                seconds=seconds, cpu_seconds=time.process_time() - processor, first_loss=first
            )


def start(name: str) -> Job:
    """The job whose folder is the script's only argument."""
    return Job(Path(sys.argv[1]), name)


def _read_batches(directory: Path) -> list[dict[str, torch.Tensor]]:
    tensors = load_file(directory / "batches.safetensors")
    found = []
    for index in range(len(tensors) // 2):
        ids, lengths = tensors[f"ids.{index}"], tensors[f"lengths.{index}"]
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        labels = ids.masked_fill(mask == 0, IGNORED)
        labels[:, 0] = IGNORED
        found.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return found


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "accelerate", "textbrewer"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
