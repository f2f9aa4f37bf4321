"""What a file of `accelerate config` says counts, unless a flag says otherwise."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
import torch.distributed.run
from accelerate.commands import launch
from accelerate.commands.config.config_args import ClusterConfig
from launching import accelerate, given

from workbench import runs
from workbench.devices import processes
from workbench.run_directory import RunDirectory, load_config
from workbench.worlds import proteins

#: As the questions of `accelerate config` lead to for FSDP.
FSDP = {
    "fsdp_version": 2, "fsdp_reshard_after_forward": True, "fsdp_offload_params": False,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_activation_checkpointing": False,
    "fsdp_cpu_ram_efficient_loading": True, "fsdp_state_dict_type": "SHARDED_STATE_DICT",
}  # fmt: skip


def write(path: Path, kind: str, **more: object) -> list[str]:
    """A file as `accelerate config` writes it, for two processes; how to give it."""
    content = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": kind, "num_processes": 2,
        "mixed_precision": "bf16", "use_cpu": kind == "MULTI_CPU", "debug": False,
        "main_process_port": 0, **more,
    }  # fmt: skip
    ClusterConfig(**content).to_yaml_file(path)
    return ["--config_file", str(path)]


@pytest.fixture(scope="module")
def options(tiny_teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "proteins.fasta"
    drawn = proteins.sample(40, seed=3)
    path.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(drawn)))
    return {"teacher": str(tiny_teacher), "data": str(path), "steps": 4, "batch_size": 8}


def distilled(path: Path, how: list[str], options: dict) -> list[str]:
    arguments = ["distill", "protgpt2-tiny", "--run", str(path), "--brief", *given(options)]
    done = accelerate(arguments, how)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("kind", "flags", "seen"),
    [
        ("MULTI_GPU", [], [2, "bfloat16", False]),
        ("FSDP", [], [2, "bfloat16", True]),
        ("FSDP", ["--multi_gpu", "--mixed_precision", "no"], [2, None, False]),
        ("MULTI_CPU", [], [1, "bfloat16", False]),
        ("MULTI_CPU", ["--multi_gpu", "--num_processes", "3"], [3, "bfloat16", False]),
    ],
)
def test_flags_of_the_launcher_come_before_its_file(tmp_path, monkeypatch, kind, flags, seen):
    file = write(tmp_path / "file.yaml", kind, fsdp_config=FSDP if kind == "FSDP" else None)
    began: dict[str, str] = {}

    def several(args: argparse.Namespace) -> None:
        began.update(os.environ, WORLD_SIZE=str(args.nproc_per_node))

    def one(args: argparse.Namespace) -> None:
        began.update(launch.prepare_simple_launcher_cmd_env(args)[1])

    monkeypatch.setattr(torch.distributed.run, "run", several)
    monkeypatch.setattr(launch, "simple_launcher", one)
    parser = launch.launch_command_parser()
    launch.launch_command(parser.parse_args([*file, *flags, "-m", "workbench", "doctor"]))
    for name in ("WORLD_SIZE", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)
        if name in began:
            monkeypatch.setenv(name, began[name])
    assert [processes.count(), processes.precision(), processes.wants_shards()] == seen


def test_a_run_by_a_file_has_shards_and_bfloat16(options, tmp_path):
    said = distilled(
        tmp_path / "run", write(tmp_path / "file.yaml", "FSDP", fsdp_config=FSDP), options
    )
    assert load_config(RunDirectory(tmp_path / "run")).precision == "bfloat16"
    assert (tmp_path / "run" / "results.json").exists()
    # Of a student in shards there is no ledger.
    assert [line["ledger"] for line in runs.read_metrics(tmp_path / "run")[1:]] == [{}] * 4
    assert not [line for line in said if line.startswith("note:")]


def test_a_file_for_several_on_a_cpu_starts_one_and_is_told_so(options, tmp_path):
    how = write(tmp_path / "file.yaml", "MULTI_CPU")
    said = distilled(tmp_path / "run", how, {**options, "precision": "float32"})
    (alone,) = [line for line in said if "has started one process only" in line]
    assert "give --multi_gpu" in alone
    (other,) = [line for line in said if "mixed precision" in line]
    assert other.startswith("note: accelerate was given mixed precision bf16; models read in float")
    assert load_config(RunDirectory(tmp_path / "run")).precision == "float32"
    assert runs.read_metrics(tmp_path / "run")[-1]["ledger"]
