"""Runs that a launcher starts in several processes, for the tests of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from workbench import runs
from workbench.run_directory import RunDirectory
from workbench.worlds import proteins

JOBS = Path(__file__).with_name("many_processes_jobs.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
#: Two processes without a configuration file.
TWO = [
    "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0",
    "--mixed_precision", "no", "--dynamo_backend", "no",
]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Two processes and whatever else runs share the cores: none may keep one busy by waiting.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "GOMP_SPINCOUNT": "2000", **more}


def end(launcher: subprocess.Popen) -> None:
    """Kill a launcher with its workers, which live in sessions of their own."""
    if launcher.poll() is None:
        for process in psutil.Process(launcher.pid).children(recursive=True):
            process.kill()
    launcher.kill()
    launcher.wait()


def finished(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    launcher = subprocess.Popen(
        command, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = launcher.communicate(timeout=600)
    finally:
        end(launcher)
    return subprocess.CompletedProcess(command, launcher.returncode, *said)


def few_proteins(file: Path, **more: object) -> dict:
    """Options of a run on 70 proteins, written to a file, whose batches are not of equal sizes."""
    drawn = proteins.sample(70, seed=3)
    file.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(drawn)))
    return {"data": str(file), "batch_size": 15, **more}


def together(jobs: list[dict], file: Path, **more: str) -> None:
    file.write_text(json.dumps(jobs))
    done = finished([*TORCHRUN, str(JOBS), str(file)], **more)
    assert done.returncode == 0, done.stderr[-3000:]


def accelerate(
    arguments: list[str], how: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    return finished([*ACCELERATE, *(TWO if how is None else how), "-m", "workbench", *arguments])


def given(options: dict) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def same(one: Path, other: Path) -> None:
    """Losses to 1e-5 and weights to 1e-4, those of the keys' biases apart; the ledger to 1e-3.

    The bias of a key moves no loss, for a softmax does not feel what all its entries share. Its
    gradient is zero but for rounding, and Adam makes steps of that.
    """
    left, right = runs.read_metrics(one), runs.read_metrics(other)
    assert [line["step"] for line in left] == [line["step"] for line in right]
    assert len(left) > 2
    for a, b in zip(left, right, strict=True):
        for role in ("student", "baseline"):
            assert b.get(role, {}) == pytest.approx(a.get(role, {}), rel=1e-5, abs=1e-5), a["step"]
        # No process has a whole gradient of a student in shards.
        if b.get("ledger"):
            assert a["ledger"].keys() == b["ledger"].keys()
            for term, entry in a["ledger"].items():
                assert b["ledger"][term] == pytest.approx(entry, rel=1e-3), (a["step"], term)
    ours, theirs = (load_file(RunDirectory(p).checkpoint) for p in (one, other))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        far = (theirs[name] - value).abs()
        if name.endswith("c_attn.bias"):
            # GPT-2 keeps queries, keys and values in one.
            queries, keys, values = far.chunk(3)
            assert float(keys.max()) <= 1e-3, name
            far = torch.cat([queries, values])
        assert float(far.max()) <= (1e-3 if name.endswith("key.bias") else 1e-4), name
