"""Several processes at one run are one process on the same batches, and may die."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from launching import TORCHRUN, accelerate, end, environment, few_proteins, same, together
from safetensors.torch import load_file

from workbench import checkpoints, models, runs, workshop
from workbench.config import RunConfig
from workbench.devices import parts, processes
from workbench.errors import Interrupted, UsageError
from workbench.progress import Silent
from workbench.run_directory import RunDirectory

STEPS, STOP = 50, 20
#: Layers are compared, words hidden, and neither batches nor parts are of equal sizes.
BERT = {
    "train_sequences": 44, "validation_sequences": 8, "batch_size": 13, "micro_batch": 4,
    "steps": 4, "checkpoint_every": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def options(tiny_teacher, tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "proteins.fasta"
    return few_proteins(file, teacher=str(tiny_teacher), steps=STEPS, checkpoint_every=10)


def begin_and_stop(path: Path, options: dict, at: int) -> None:
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        runs.distill(
            "protgpt2-tiny", path, progress=Silent(), brief=True,
            should_stop=lambda: next(asked) >= at, **options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def alone(folder, options):
    """One process, undisturbed."""
    runs.distill("protgpt2-tiny", folder / "alone", progress=Silent(), brief=True, **options)
    return folder / "alone"


@pytest.fixture(scope="module")
def begun(folder, options):
    """One process, stopped on the way."""
    begin_and_stop(folder / "begun", options, STOP)
    return folder / "begun"


@pytest.fixture(scope="module")
def launched(folder, options):
    """`accelerate launch -m workbench distill …` in two processes."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    done = accelerate(["distill", "protgpt2-tiny", "--run", str(folder / "two"), "--json", *given])
    assert done.returncode == 0, done.stderr[-3000:]
    return done, folder / "two"


@pytest.fixture(scope="module")
def worked(folder, options, begun):
    """Two processes: a run that one began; one that they leave to one; BERTs; bfloat16."""
    shutil.copytree(begun, folder / "begun-by-one")
    together(
        [
            {"resume": str(folder / "begun-by-one")},
            {"recipe": "protgpt2-tiny", "run": str(folder / "begun-by-two"), "stop_at": STOP,
             "options": options},
            {"recipe": "compactbiobert", "run": str(folder / "bert-two"), "options": BERT},
            {"recipe": "protgpt2-tiny", "run": str(folder / "bfloat16"),
             "options": {**options, "precision": "bfloat16"}},
        ],
        folder / "jobs.json",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def sharded(folder, begun):
    """Two processes with the student in shards, and a teacher that runs beside it."""
    shutil.copytree(begun, folder / "begun-then-sharded")
    together(
        [
            {"resume": str(folder / "begun-then-sharded")},
            {"recipe": "compactbiobert", "run": str(folder / "bert-sharded"), "options": BERT},
        ],
        folder / "sharded.json",
        ACCELERATE_USE_FSDP="true",
        FSDP_CPU_RAM_EFFICIENT_LOADING="true",
    )
    return folder


# ---------------------------------------------------------------------- as one


def test_two_processes_of_accelerate_are_one_and_speak_once(launched, alone):
    done, two = launched
    same(alone, two)
    results = json.loads(done.stdout)
    assert results["steps"] == STEPS
    assert results == json.loads((two / "results.json").read_text())
    said = done.stderr.splitlines()
    for stage in ("asking the teacher", "distilling", "measuring quality and runtime"):
        assert said.count(stage) == 1
    saved, checkpoint = load_file(two / "student" / "model.safetensors"), load_file(
        RunDirectory(two).checkpoint
    )  # fmt: skip
    name = "transformer.h.0.mlp.c_fc.weight"
    assert torch.equal(saved[name], checkpoint[f"student.model.{name}"])


def test_two_go_on_with_what_one_began_and_one_with_what_two_began(worked, alone):
    same(alone, worked / "begun-by-one")
    assert checkpoints.step_of(RunDirectory(worked / "begun-by-two")) == STOP
    runs.resume(worked / "begun-by-two", progress=Silent(), brief=True)
    same(alone, worked / "begun-by-two")


def test_hidden_words_and_layers_are_compared_by_two_as_by_one(worked, sharded):
    whole = {**BERT, "micro_batch": None}
    runs.distill("compactbiobert", worked / "bert-one", progress=Silent(), brief=True, **whole)
    same(worked / "bert-one", worked / "bert-two")
    same(worked / "bert-one", sharded / "bert-sharded")


def test_a_run_goes_on_with_its_student_in_shards_and_leaves_the_same_files(sharded, alone):
    same(alone, sharded / "begun-then-sharded")
    saved = models.load_causal_lm(sharded / "begun-then-sharded" / "student")[0]
    assert models.parameters(saved) == models.parameters(
        models.load_causal_lm(alone / "student")[0]
    )


def test_bfloat16_learns_nearly_the_same_and_keeps_float32(worked, alone):
    lines = [
        runs.read_metrics(path)[-1]["student"]["total"] for path in (alone, worked / "bfloat16")
    ]
    assert lines[0] != lines[1]
    assert lines[1] == pytest.approx(lines[0], rel=0.02)
    kept = load_file(RunDirectory(worked / "bfloat16").checkpoint)
    assert {t.dtype for t in kept.values()} == {torch.float32}


# ---------------------------------------------------------------------- one dies


def test_one_killed_ends_all_soon_and_the_run_goes_on(folder, options):
    path = folder / "killed"
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = ["-m", "--", "workbench", "distill", "protgpt2-tiny", "--run", str(path), *given]
    command = [*TORCHRUN, *command, "--steps=100000"]
    launcher = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while not (checkpoint := RunDirectory(path).checkpoint).exists():
            assert launcher.poll() is None, launcher.stderr.read()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        workers = [p for p in psutil.Process(launcher.pid).children() if "workbench" in p.cmdline()]
        victim = next(p for p in workers if p.environ()["RANK"] == "1")
        victim.send_signal(signal.SIGKILL)
        _, said = launcher.communicate(timeout=90)
    finally:
        end(launcher)
    assert launcher.returncode not in (0, None)
    assert f"workbench resume {path}" in said
    assert not [p for p in workers if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not (path / "results.json").exists()
    reached = checkpoints.step_of(RunDirectory(path))
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        runs.resume(path, progress=Silent(), should_stop=lambda: next(asked) >= 3)
    assert checkpoints.step_of(RunDirectory(path)) == reached + 3
    assert checkpoint.exists()


# ---------------------------------------------------------------------- parts of a step


@pytest.mark.parametrize("recipe", ["protgpt2-tiny", "distilbert-pmhc", "compactbiobert"])
def test_parts_hold_every_row_once_with_its_labels(recipe):
    config = RunConfig.from_recipe(
        recipe, train_sequences=60, validation_sequences=8, batch_size=11, cached=False
    )
    shop = workshop.prepare(config, Silent())
    objective = shop.student.objective
    for number in range(3):
        batch = shop.batch(number, 1)
        for count, most in ((1, 3), (2, None), (3, 2), (4, 1), (16, 1)):
            shares = [parts.of_process(batch, rank, count, most) for rank in range(count)]
            assert len({len(share) for share in shares}) == 1
            held = [part for share in shares for part, counted in share if counted]
            assert most is None or max(len(part.lengths) for part in held) <= most
            assert np.concatenate([p.members for p in held]).tolist() == batch.members.tolist()
            assert objective.counts(held) == objective.counts([batch])
            labels = [objective.rows(part)[1] for part in held]
            assert torch.equal(torch.cat(labels), objective.rows(batch)[1])
            places = [part.first_token for part in held]
            assert places == [
                batch.first_token + int(batch.lengths[: part.part].sum()) for part in held
            ]


@pytest.mark.parametrize("recipe", ["protgpt2-tiny", "tinybiobert"])
def test_a_step_in_parts_is_the_step_on_the_whole_batch(recipe):
    config = RunConfig.from_recipe(
        recipe, train_sequences=60, validation_sequences=8, batch_size=11, cached=False
    )
    steps = []
    for most in (None, 3):
        shop = workshop.prepare(replace(config, micro_batch=most), Silent())
        # In float64 rounding cannot hide a mistake.
        for model in (shop.student.student, shop.student.matcher, shop.teacher_model):
            model.double()
        ledger = {n: asdict(e) for n, e in shop.student.ledger(shop.batch(0, 1)).items()}
        record = shop.student.step(shop.batch(0, 1))
        tensors = shop.student.snapshot().tensors
        moments = {n: t for n, t in tensors.items() if "exp_avg" in n}
        steps.append((record.numbers(), moments, ledger))
    (losses, moments, ledger), (losses_in_parts, moments_in_parts, ledger_in_parts) = steps
    assert losses_in_parts == pytest.approx(losses, rel=1e-9)
    assert ledger.keys() == ledger_in_parts.keys()
    assert sum(entry["gradient_norm"] for entry in ledger.values()) > 0
    for name, entry in ledger.items():
        assert ledger_in_parts[name] == pytest.approx(entry, rel=1e-7), name
        assert entry["value"] == pytest.approx(losses[name], rel=1e-7)
    assert moments
    for name, value in moments.items():
        torch.testing.assert_close(moments_in_parts[name], value, rtol=1e-6, atol=1e-13)


# ---------------------------------------------------------------------- how it is asked for


def test_accumulation_and_precision_are_settings_of_a_run_and_old_runs_have_none(monkeypatch):
    config = RunConfig.from_recipe("protgpt2-tiny", batch_size=32, accumulate=5)
    assert config.micro_batch == 7
    assert RunConfig.from_json(config.to_json()) == config
    old = {k: v for k, v in config.to_json().items() if k not in ("micro_batch", "precision")}
    assert RunConfig.from_json(old) == replace(config, micro_batch=None)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert RunConfig.from_recipe("protgpt2-tiny", batch_size=32, accumulate=2).micro_batch == 4
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert RunConfig.from_recipe("protgpt2-tiny").precision == "bfloat16"
    assert RunConfig.from_recipe("protgpt2-tiny", precision="float32").precision == "float32"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UsageError, match="fp16; expected bf16"):
        RunConfig.from_recipe("protgpt2-tiny")
    with pytest.raises(UsageError, match="'float16'; expected float32 or bfloat16"):
        RunConfig.from_recipe("protgpt2-tiny", precision="float16")
    with pytest.raises(UsageError, match="say the same"):
        RunConfig.from_recipe("protgpt2-tiny", accumulate=2, micro_batch=2)


def test_commands_for_one_process_refuse_to_be_started_twice(monkeypatch, capsys):
    from workbench import cli

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="`workbench sweep` is for one process"):
        processes.refuse("sweep")
    with pytest.raises(SystemExit) as left:
        cli.main(["evaluate", "protgpt2"])
    assert left.value.code == 2
    assert "was started 2 times" in capsys.readouterr().err
