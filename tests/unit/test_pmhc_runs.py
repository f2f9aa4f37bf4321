"""Runs of distilbert-pmhc: from pairs to four rows, resumed, from a table, evaluated, taught."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from workbench import cli, export, models, runs, runtime
from workbench.bench import sizes
from workbench.classifying import classifiers, pairs
from workbench.errors import Interrupted, UsageError, WorkbenchError
from workbench.progress import Silent
from workbench.recipes import Shape
from workbench.recipes.recipe import VARIANTS
from workbench.tasks import classification
from workbench.teaching import teachers
from workbench.worlds import peptides

SHAPE = Shape(layers=4, heads=2, width=16, positions=64, vocabulary=25)
SMALL = {"train_sequences": 96, "validation_sequences": 90, "batch_size": 32}


@pytest.fixture(scope="module", autouse=True)
def brief():
    """What is tested here is not how fast the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        measure = partial(runtime.measure_reader, seconds=0.0)
        patch.setattr(runtime, "measure_reader", measure)
        patch.setattr(runtime, "BATCH_SIZES", (1,))
        patch.setattr(classification, "SHOWN_PEPTIDES", 60)
        patch.setattr(
            teachers, "PLANS",
            {n: replace(p, validation_sequences=60, evaluations=1)
             for n, p in teachers.PLANS.items()},
        )  # fmt: skip
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """A small classifier with opinions: fresh weights answer ½."""
    place = tmp_path_factory.mktemp("teachers") / "pairs"
    model = classifiers.build(SHAPE, activation="gelu_pytorch_tanh", seed=7, initial_spread=0.4)
    export.save_model(place, model, classifiers.residue_tokenizer())
    return str(place)


@pytest.fixture(scope="module")
def results(teacher, tmp_path_factory) -> dict[str, dict]:
    place = tmp_path_factory.mktemp("runs")
    return {
        variant: runs.distill(
            "distilbert-pmhc", place / variant, progress=Silent(), teacher=teacher, steps=3,
            variant=variant, **SMALL,
        )
        for variant in VARIANTS
    }  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    """300 pairs of the world as a user's table, with three rows that are no good."""
    path = tmp_path_factory.mktemp("tables") / "binding.csv"
    records = pairs.seen_world().sample(300, seed=9)
    rows = [[r.peptide, r.allele, r.label] for r in records]
    rows[4] = ["SLYNTVATL", "HLA-A*99:99", 1]
    rows[7] = ["SLYNTV", "HLA-A*02:01", 1]
    rows[8] = ["SLYNTVATL", "HLA-A*02:01", "maybe"]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["peptide", "allele", "label"], *rows])
    return str(path)


def test_results_have_the_shape_of_the_contract(results):
    for variant, found in results.items():
        json.dumps(found, allow_nan=False)
        assert (found["recipe"], found["variant"]) == ("distilbert-pmhc", variant)
        assert (found["temperature"], found["alpha"], found["steps"]) == (2.0, 0.5, 3)
        for row in ("oracle", "teacher", "student", "baseline"):
            for metric in ("accuracy", "f1", "auc", "matthews"):
                low, high = found[row]["intervals"][metric]
                assert low <= found[row][metric] <= high
            assert found[row]["perplexity"] is found[row]["perplexity_per_residue"] is None
            assert set(found[row]["groups"]) == {"all", "random", "swap", "unseen", "unseen_swap"}
            assert set(peptides.HELD_OUT_ALLELES) <= set(found[row]["alleles"])
            assert (found[row]["parameters"] is None) == (row == "oracle")
            assert (found[row]["kl_to_teacher"] is None) == (row in ("oracle", "teacher"))
            assert (found[row]["latency_ms"] is None) == (row in ("oracle", "baseline"))
        assert found["teacher"]["generation_seconds"] is None
        assert found["student"]["parameters"] == found["baseline"]["parameters"]


def test_the_oracle_is_best_and_a_blind_one_tosses_a_coin_over_swaps(results):
    found = results["corrected"]
    oracle, blind = found["oracle"]["groups"], found["without_hla"]["groups"]
    assert oracle["swap"]["auc"] > 0.85
    assert abs(blind["swap"]["auc"] - 0.5) < 0.2 < blind["random"]["auc"] - 0.5
    assert found["oracle"]["auc"] > max(found[r]["auc"] for r in ("teacher", "student"))


def test_every_variant_is_another_loss_from_the_same_start(results):
    assert len({found["student"]["kl_to_teacher"] for found in results.values()}) == len(VARIANTS)
    baselines = {json.dumps(found["baseline"]["groups"]) for found in results.values()}
    assert len(baselines) == 1


def test_the_run_directory_holds_what_the_contract_names(results):
    from pathlib import Path

    run = Path(results["corrected"]["run"])
    assert json.loads((run / "results.json").read_text()) == results["corrected"]
    lines = runs.read_metrics(run)
    assert lines[0]["validation"]["student"]["f1"] is not None
    assert set(lines[-1]["ledger"]) == {"hard", "soft", "cosine"}
    shares = [entry["share"] for entry in lines[-1]["ledger"].values()]
    assert sum(shares) == pytest.approx(1)
    names = {"f1", "groups", "alleles", "reliability", "motifs", "ledger", "runtime"}
    assert {p.stem for p in (run / "figures").glob("*.png")} == names
    card = (run / "student" / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card


def test_the_student_begins_with_every_other_layer_of_its_teacher(results, teacher):
    student, *_ = classifiers.load(f"{results['corrected']['run']}/student")
    whole, *_ = classifiers.load(teacher)
    assert student.config.num_hidden_layers == 2
    assert results["corrected"]["student"]["parameters"] == models.parameters(student)
    # Three steps at a tenth of a small learning rate leave the copy recognisable.
    for mine, theirs in zip(student.bert.encoder.layer, whole.bert.encoder.layer[::2], strict=True):
        gap = mine.output.dense.weight - theirs.output.dense.weight
        assert gap.abs().max() < 0.01 * theirs.output.dense.weight.abs().max()


def test_the_student_answers_in_a_plain_pipeline(results):
    from transformers import pipeline

    ask = pipeline("text-classification", model=f"{results['corrected']['run']}/student")
    groove = peptides.default_world().alleles[0].pseudo_sequence
    answer = ask(" ".join(groove + "SLYNTVATL"))[0]
    assert answer["label"] in classifiers.CLASSES
    assert 0.5 <= answer["score"] <= 1


def test_interrupted_and_resumed_or_without_a_cache_it_is_the_same_bytes(teacher, tmp_path):
    options = {"teacher": teacher, "steps": 4, "checkpoint_every": 1, "brief": True, **SMALL}
    runs.distill("distilbert-pmhc", tmp_path / "whole", progress=Silent(), **options)
    calls = iter([False, False, True])
    with pytest.raises(Interrupted):
        runs.distill(
            "distilbert-pmhc", tmp_path / "cut", progress=Silent(),
            should_stop=lambda: next(calls), **options,
        )  # fmt: skip
    runs.resume(tmp_path / "cut", progress=Silent(), brief=True)
    runs.distill("distilbert-pmhc", tmp_path / "live", progress=Silent(), cached=False, **options)
    weights = {
        name: (tmp_path / name / "student" / "model.safetensors").read_bytes()
        for name in ("whole", "cut", "live")
    }
    assert weights["whole"] == weights["cut"] == weights["live"]


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_a_table_is_taught_distilled_and_evaluated_to_the_end(table, tmp_path, capsys):
    made = str(tmp_path / "teacher")
    code, out, err = run(
        capsys, "teach", "pmhc", "--data", table, "--out", made, "--steps", "3", "--json"
    )
    assert code == 0
    figures = json.loads(out)
    assert figures["oracle_auc"] is None and 0 <= figures["auc"] <= 1
    for fault, line in (("allele is not in the table", 6), ("fewer than 8", 9), ("label is", 10)):
        assert any(fault in note and f"line {line}" in note for note in err.splitlines())
    assert "Trained on binding.csv" in (tmp_path / "teacher" / "README.md").read_text()
    code, out, _ = run(
        capsys, "distill", "distilbert-pmhc", "--data", table, "--teacher", made, "--steps", "2",
        "--run", str(tmp_path / "run"), "--json",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert found["oracle"]["auc"] is None and found["without_hla"] is None
    assert found["teacher"]["auc"] == pytest.approx(figures["auc"], abs=1e-6)
    assert set(found["student"]["groups"]) == {"all"}
    code, out, _ = run(
        capsys, "evaluate", f"{tmp_path}/run/student", "--data", table, "--teacher", made, "--json"
    )
    again = json.loads(out)
    assert code == 0
    assert again["student"]["f1"] == pytest.approx(found["student"]["f1"])
    assert again["baseline"]["f1"] is None and again["kept"] == found["kept"]


def test_a_teacher_that_calls_nothing_a_binder_has_no_f1_to_keep(teacher, tmp_path):
    model, tokenizer, _ = classifiers.load(teacher)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([50.0, -50.0]))
    export.save_model(tmp_path / "never", model, tokenizer)
    found = runs.distill(
        "distilbert-pmhc", tmp_path / "run", progress=Silent(), teacher=str(tmp_path / "never"),
        steps=2, brief=True, **SMALL,
    )  # fmt: skip
    assert found["teacher"]["f1"] == 0 and found["kept"] is None
    assert runs.evaluate(tmp_path / "run", Silent())["kept"] is None
    assert "teacher's F1 (95" not in (tmp_path / "run" / "student" / "README.md").read_text()


def test_what_is_wrong_is_one_line(teacher, table, tiny_teacher, tmp_path, capsys):
    for arguments, said in (
        (["distill", "distilbert-pmhc", "--data", "nowhere.csv", "--teacher", teacher],
         "there is no file nowhere.csv"),
        (["distill", "distilbert-pmhc", "--teacher", str(tiny_teacher)], "expected a classifier"),
        (["distill", "distilbert-pmhc", "--data", table, "--alleles", table,
          "--teacher", teacher], "no column pseudosequence"),
        (["distill", "distilbert-pmhc", "--column", "peptide", "--teacher", teacher],
         "--column is about a file of data"),
        (["teach", "pmhc", "--column", "peptide", "--data", table, "--out", str(tmp_path / "t")],
         "has the columns peptide, allele, label"),
        (["distill", "protgpt2-tiny", "--alleles", table], "--alleles is for peptides and HLA"),
        (["distill", "distilbert-pmhc", "--alleles", table], "--alleles is about a file of data"),
        (["distill", "protgpt2-tiny", "--column", "sequence"], "--column is about a file of data"),
        (["teach", "pmhc", "--alleles", table, "--out", str(tmp_path / "t")],
         "give it with --data FILE"),
        (["evaluate", teacher, "--recipe", "protgpt2-tiny"], "expected a causal language model"),
        (["teach", "protgpt2", "--base", teacher, "--out", str(tmp_path / "x")], "for the teacher"),
        (["teach", "pmhc", "--base", teacher], "needs --out"),
    ):  # fmt: skip
        code, out, err = run(capsys, *arguments, "--json")
        assert code in (1, 2) and out == ""
        assert said in err.splitlines()[-1], err


def test_teaching_twice_gives_the_same_bytes_and_learns_from_the_oracle(tmp_path):
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        figures = teachers.teach("pmhc", out=tmp_path / name, steps=2, seed=seed, progress=Silent())
        made[name] = (tmp_path / name / "model.safetensors").read_bytes()
        assert 0.9 < figures["oracle_auc"] < 1
    assert made["a"] == made["b"] != made["c"]
    card = (tmp_path / "c" / "README.md").read_text()
    assert "workbench teach pmhc --seed 1 --steps 2" in card
    assert f"| oracle's AUC | {figures['oracle_auc']:.4f} |" in card


def test_an_encoder_is_fine_tuned_with_a_new_head(teacher, table, tmp_path):
    whole, tokenizer, _ = classifiers.load(teacher)
    export.save_model(tmp_path / "encoder", whole.bert, tokenizer)
    with pytest.raises(WorkbenchError, match="expected a classifier"):
        classifiers.load(tmp_path / "encoder")
    figures = teachers.teach(
        "pmhc", base=str(tmp_path / "encoder"), data=table, out=tmp_path / "t", steps=2,
        progress=Silent(),
    )  # fmt: skip
    tuned, *_ = classifiers.load(tmp_path / "t")
    assert figures["parameters"] == models.parameters(whole)
    mine, theirs = (m.get_input_embeddings().weight for m in (tuned, whole))
    assert (mine - theirs).abs().max() < 1e-3


def test_sizes_are_measured_against_the_teacher(teacher, monkeypatch):
    found = sizes.measure(
        ("2i", "last", "2i:1"), progress=Silent(), teacher=teacher, steps=2, **SMALL
    )
    assert [s["layers"] for s in found["students"]] == [2, 2, 1]
    counts = [s["parameters"] for s in found["students"]]
    assert counts[2] < counts[0] == counts[1] < found["teacher"]["parameters"]
    for student in found["students"]:
        assert student["kept"] == pytest.approx(student["f1"] / found["teacher"]["f1"])
    lines = sizes.table(found).splitlines()
    assert len(lines) == 4
    f1 = [float(line.split()[4]) for line in lines[1:]]
    assert f1 == sorted(f1, reverse=True)


def test_a_student_of_another_width_is_refused_in_one_line(teacher, tmp_path):
    with pytest.raises(WorkbenchError, match=r"64 wide and the teacher's 16.*--init"):
        runs.distill(
            "distilbert-pmhc", tmp_path / "r", progress=Silent(), teacher=teacher, init="random",
            steps=2, **SMALL,
        )  # fmt: skip
    with pytest.raises(UsageError, match="there is no layer map"):
        runs.distill("distilbert-pmhc", tmp_path / "s", init="every", progress=Silent())
