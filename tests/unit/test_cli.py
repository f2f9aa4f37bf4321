"""The command line: exit codes, one JSON object, one clear line for everything that is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import cli, models

GOOD = ">one\nMKVLAAGIV\n"


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command, in this process."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def fails(capsys, status: int, *arguments: str) -> str:
    """The one line that a failing command ends with."""
    code, out, err = run(capsys, *arguments)
    assert code == status, err
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("workbench: ")]
    assert len(lines) == 1, err
    assert err.rstrip().endswith(lines[0])
    return lines[0]


# ---------------------------------------------------------------------- what is printed


def test_recipes_json_is_one_object_with_computed_counts(capsys):
    code, out, _ = run(capsys, "recipes", "--json")
    recipes = {r["name"]: r for r in json.loads(out)["recipes"]}
    assert code == 0
    counts = {n: r["parameters"]["paper"]["student"] for n, r in recipes.items()}
    assert counts == {
        "protgpt2-tiny": 38_866_432,
        "protgpt2-small": 81_912_576,
        "protgpt2-medium": 203_668_480,
        "distilbert-pmhc": 49_436_162,
        "distilbiobert": 65_813_572,
        "tinybiobert": 13_903_756,
        "compactbiobert": 65_813_572,
    }
    teachers = {"protgpt2": 774_030_080, "distilbert": 91_963_394}
    for name, recipe in recipes.items():
        expected = teachers.get(name.partition("-")[0], 108_340_804)
        assert recipe["parameters"]["paper"]["teacher"] == expected
    code, out, _ = run(capsys, "recipes", "protgpt2-tiny", "--json")
    assert json.loads(out)["name"] == "protgpt2-tiny"


def test_recipes_text_shows_the_formula_of_each_variant(capsys):
    code, out, _ = run(capsys, "recipes", "protgpt2-tiny")
    assert code == 0
    for part in ("corrected", "as-published", "as-coded", "T = 10, α = 0.1", "38,866,432"):
        assert part in out


def test_distill_resume_and_evaluate_print_one_json_object(tiny_teacher, tmp_path):
    """In a process of its own: everything else must be on standard error."""

    def workbench(*arguments: str) -> dict:
        answer = subprocess.run(
            [sys.executable, "-m", "workbench", *arguments, "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert answer.stdout.count("\n") == 1
        return json.loads(answer.stdout)

    run_directory = tmp_path / "run"
    made = workbench(
        "distill", "protgpt2-tiny", "--run", str(run_directory), "--steps", "6", "--teacher",
        str(tiny_teacher), "--temperature", "2", "--alpha", "0.5", "--seed", "3",
    )  # fmt: skip
    assert (made["temperature"], made["alpha"], made["seed"], made["steps"]) == (2.0, 0.5, 3, 6)
    assert made == workbench("resume", str(run_directory))
    again = workbench("evaluate", str(run_directory))
    assert again["student"]["perplexity"] == made["student"]["perplexity"]
    model = workbench("evaluate", str(run_directory / "student"), "--teacher", str(tiny_teacher))
    assert model["student"]["perplexity"] == pytest.approx(made["student"]["perplexity"])
    assert model["student"]["kl_to_teacher"] == pytest.approx(made["student"]["kl_to_teacher"])
    assert model["baseline"]["perplexity"] is None
    assert model["temperature"] is None
    assert set(model) == set(made)


def test_readme_and_help_name_every_measurement(capsys):
    from workbench.bench.command import BENCHMARKS

    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in readme.splitlines() if line.startswith("| `workbench bench WHAT`")]
    said = run(capsys, "bench", "--help")[1]
    for name in BENCHMARKS:
        assert re.search(rf"[ :]{name}[,;]", row), name
        assert re.search(rf"\b{name}\b", said), name


def test_help_lists_the_commands(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in ("doctor", "recipes", "distill", "resume", "evaluate", "teach", "bench", "lab"):
        assert command in out


# ---------------------------------------------------------------------- wrong usage: 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["distill", "protgpt2-huge"], "there is no recipe 'protgpt2-huge'; the recipes are"),
        (["distill", "protgpt2-tiny", "--temperature", "0"], "temperature is 0.0; expected"),
        (["distill", "protgpt2-tiny", "--temperature", "-1"], "temperature is -1.0; expected"),
        (["distill", "protgpt2-tiny", "--temperature", "nan"], "temperature is nan; expected"),
        (["distill", "protgpt2-tiny", "--temperature", "inf"], "temperature is inf; expected"),
        (["distill", "protgpt2-tiny", "--temperature", "warm"], "valid number"),
        (["distill", "protgpt2-tiny", "--alpha", "1.5"], "alpha is 1.5; expected a number from 0"),
        (["distill", "protgpt2-tiny", "--alpha", "-0.1"], "alpha is -0.1; expected"),
        (["distill", "protgpt2-tiny", "--alpha", "nan"], "alpha is nan; expected"),
        (["distill", "protgpt2-tiny", "--steps", "0"], "steps is 0; expected at least 1"),
        (["distill", "protgpt2-tiny", "--seed", "-1"], "seed is -1; expected"),
        (["distill", "protgpt2-tiny", "--variant", "fixed"], "no variant of protgpt2-tiny called"),
        (["distill", "protgpt2-tiny", "--scale", "huge"], "no scale of protgpt2-tiny called"),
        (["distill", "protgpt2-tiny", "--init", "even"], "there is no layer map 'even'; expected"),
        (["distill", "protgpt2-tiny", "--learning-rate", "0"], "learning_rate is 0.0; expected"),
        (["distill", "protgpt2-tiny", "--batch-size", "0"], "batch_size is 0; expected"),
        (["distill", "protgpt2-tiny", "--tempo", "2"], "o such option"),
        (["distill"], "issing argument"),
        (["brew"], "o such command"),
        (["recipes", "nothing"], "there is no recipe 'nothing'"),
        (["teach", "nobody"], "there is no teacher 'nobody'"),
        (["teach", "protgpt2", "--data", "x.fasta"], "needs --out DIR"),
        (["teach", "protgpt2", "--steps", "0"], "steps is 0; expected at least 1"),
        (["bench", "patience"], "there is no benchmark 'patience'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in fails(capsys, 2, *arguments)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- bad input: 1


def bad_files(where: Path) -> dict[str, tuple[Path, str]]:
    """Files that cannot be used, and a part of the line that says so."""
    content = {
        "empty.fasta": (b"", "is empty; expected protein sequences"),
        "binary.fasta": (b">a\nMK\0\x01\x02", "is a binary file"),
        "prose.fasta": (b"dear reader\n", "is not FASTA: its first line does not begin with '>'"),
        "nothing.fasta": (b">a\n12345\n>b\n\n", "holds no protein sequence (2 records read)"),
        "unknown.fasta": (b">a\nXXXX\n", "holds no protein sequence"),
        "mixed.fasta": (">ä\nMK\n".encode() + b">\xe9\nMK\n", "line 3, is not UTF-8 text"),
        "columns.csv": (b"name,letters\na,MK\n", "has the columns name, letters; expected"),
        "broken.parquet": (b"PAR1 this is not parquet", "cannot read"),
        "one.fasta": (b">a\nMKV\n", "makes one block"),
    }
    made = {}
    for name, (data, expected) in content.items():
        (where / name).write_bytes(data)
        made[name] = (where / name, expected)
    made["missing"] = (where / "missing.fasta", "there is no file")
    made["directory"] = (where, "is a directory; expected a FASTA")
    return made


def test_bad_data_is_one_line_and_status_1_and_leaves_the_file_alone(
    capsys, tmp_path, tiny_teacher
):
    (tmp_path / "data").mkdir()
    for number, (path, expected) in enumerate(bad_files(tmp_path / "data").values()):
        before = path.read_bytes() if path.is_file() else None
        line = fails(
            capsys, 1, "distill", "protgpt2-tiny", "--data", str(path), "--teacher",
            str(tiny_teacher), "--steps", "2", "--run", str(tmp_path / f"run{number}"),
        )  # fmt: skip
        assert expected in line
        assert (path.read_bytes() if path.is_file() else None) == before


def test_a_failed_start_leaves_no_run_behind(capsys, tmp_path, tiny_teacher):
    arguments = [
        "distill", "protgpt2-tiny", "--data", str(tmp_path / "missing.fasta"), "--teacher",
        str(tiny_teacher), "--steps", "2", "--run", str(tmp_path / "run"),
    ]  # fmt: skip
    fails(capsys, 1, *arguments)
    fails(capsys, 1, *arguments)
    assert not (tmp_path / "run").exists()


def test_named_column_that_is_missing(capsys, tmp_path, tiny_teacher):
    table = tmp_path / "t.csv"
    table.write_text("sequence,label\nMKV,1\n")
    line = fails(
        capsys, 1, "distill", "protgpt2-tiny", "--data", str(table), "--column", "peptide",
        "--teacher", str(tiny_teacher), "--run", str(tmp_path / "run"),
    )  # fmt: skip
    assert "has the columns sequence, label; expected one called peptide" in line


def test_bad_teachers_are_one_line_and_status_1(capsys, tmp_path, tiny_shape):
    from transformers import BertConfig, BertForSequenceClassification

    def teacher(name: str) -> Path:
        path = tmp_path / name
        model = models.build_causal_lm(tiny_shape, activation="gelu_new", seed=0)
        model.save_pretrained(path)
        models.residue_tokenizer().save_pretrained(path)
        return path

    no_weights = teacher("no-weights")
    (no_weights / "model.safetensors").unlink()
    pickle = teacher("pickle")
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    truncated = teacher("truncated")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    foreign = teacher("foreign")
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps({**config, "vocab_size": 900}))
    larger = models.build_causal_lm(
        type(tiny_shape)(**{**tiny_shape.__dict__, "vocabulary": 900}),
        activation="gelu_new", seed=0,
    )  # fmt: skip
    larger.save_pretrained(foreign)
    task = tmp_path / "task"
    BertForSequenceClassification(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, vocab_size=21,
                   intermediate_size=16)
    ).save_pretrained(task)  # fmt: skip
    models.residue_tokenizer().save_pretrained(task)
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        str(no_weights): "has no weights; expected model.safetensors",
        str(pickle): "holds its weights as a pickle (pytorch_model.bin)",
        str(truncated): "cannot load the model",
        str(foreign): "its tokenizer has 21 tokens, its model 900",
        str(task): "holds BertForSequenceClassification; expected a causal language model",
        str(empty): "has no config.json",
        str(tmp_path / "nowhere"): "there is no model directory",
        str(no_weights / "config.json"): "is a file; expected a model directory",
    }
    for source, expected in cases.items():
        line = fails(
            capsys, 1, "distill", "protgpt2-tiny", "--teacher", source, "--steps", "2", "--run",
            str(tmp_path / "run"),
        )  # fmt: skip
        assert expected in line


def test_no_network_says_how_to_work_offline(capsys, tmp_path, tiny_teacher):
    line = fails(
        capsys, 1, "distill", "protgpt2-tiny", "--teacher", "nferruz/ProtGPT2", "--run",
        str(tmp_path / "a"),
    )  # fmt: skip
    assert "cannot load the model nferruz/ProtGPT2 from the hub" in line
    assert "--teacher DIR" in line
    line = fails(
        capsys, 1, "distill", "protgpt2-tiny", "--data", "nferruz/UR50_2021_04", "--teacher",
        str(tiny_teacher), "--run", str(tmp_path / "b"),
    )  # fmt: skip
    assert "cannot load the data set nferruz/UR50_2021_04 from the hub" in line
    assert "--data FILE" in line


def test_resume_and_evaluate_of_nothing(capsys, tmp_path):
    assert "there is no run directory" in fails(capsys, 1, "resume", str(tmp_path / "nowhere"))
    assert "holds no run" in fails(capsys, 1, "resume", str(tmp_path))
    assert "no model directory" in fails(capsys, 1, "evaluate", str(tmp_path / "nowhere"))
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "thesis.txt").write_text("keep")
    assert "holds something else" in fails(
        capsys, 1, "teach", "protgpt2", "--out", str(tmp_path / "teacher"), "--steps", "1"
    )


def test_keyboard_interrupt_leaves_with_130_and_a_resumable_run(
    capsys, tmp_path, tiny_teacher, monkeypatch
):
    from workbench.distiller import Distiller

    step = Distiller.step

    def impatient(self, batch):
        if self.teacher is not None and self.step_number == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    path = tmp_path / "run"
    # Tests in the background of a shell are begun without ears for Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(Distiller, "step", impatient)
        line = fails(
            capsys, 130, "distill", "protgpt2-tiny", "--teacher", str(tiny_teacher), "--steps",
            "6", "--run", str(path),
        )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    assert f"interrupted at step 3 of 6; go on with `workbench resume {path}`" in line
    code, out, _ = run(capsys, "resume", str(path), "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 6
