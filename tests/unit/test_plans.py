"""A dry run: exact where it can be, close where it estimates, and it leaves nothing behind."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

import workbench
from workbench import catalogue, cli, recipes, runs, storage
from workbench.errors import UsageError, WorkbenchError
from workbench.planning import places, plan_costs, plan_table, plans, rates
from workbench.planning.rates import Rates

QUICK = Rates("cpu", 1, 4e10, 2e10, 1e10, 8e9, 1e-8, 0.0)


@pytest.fixture
def quick(monkeypatch):
    """Plans without the two seconds of measuring."""
    monkeypatch.setattr(rates, "measure", lambda asked, device: QUICK)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """An empty directory, an empty hub cache, and no network."""
    from huggingface_hub import constants

    def refuse(*_args, **_kwargs):
        raise AssertionError("a dry run asked the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("scale", ["classroom", "paper"])
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_has_a_plan_and_nothing_is_left_behind(quick, tmp_path, cache, name, scale):
    before = sorted(cache.iterdir())
    found = plans.plan(name, scale=scale)
    json.dumps(found, allow_nan=False)
    counts = catalogue.describe(name)["parameters"][scale]
    assert found["teacher"]["parameters"] == counts["teacher"]
    # With a layer map the student has its teacher's vocabulary and positions, as the recipe's.
    assert found["student"]["parameters"] == counts["student"]
    assert found["total"]["steps"] == recipes.get(name).scale(scale).steps
    assert found["flops"]["total"] > found["flops"]["student"] > 0
    text = plan_table.text(found)
    assert f"{counts['teacher']:,} parameters" in text and "nothing was begun" in text
    assert list(tmp_path.iterdir()) == []
    assert sorted(cache.iterdir()) == before
    if scale == "paper":
        assert "is not here" in text


def test_what_is_asked_for_decides(quick):
    own = plans.plan("protgpt2-tiny")
    longer = plans.plan("protgpt2-tiny", steps=2400)
    assert longer["flops"]["student"] == pytest.approx(2 * own["flops"]["student"])
    # Answers are kept: twice the steps ask the teacher no more often.
    assert longer["flops"]["teacher"] == own["flops"]["teacher"]
    live = plans.plan("protgpt2-tiny", cached=False)
    assert live["flops"]["teacher"] > 5 * own["flops"]["teacher"]
    assert live["disk"]["cache"] < own["disk"]["cache"]
    wide = plans.plan("protgpt2-tiny", size="3x96")
    assert (wide["student"]["layers"], wide["student"]["width"]) == (3, 96)
    halved = plans.plan("protgpt2-tiny", init="2i")
    assert halved["student"]["width"] == halved["teacher"]["width"]
    larger = plans.plan("protgpt2-tiny", batch_size=64)
    assert larger["step"]["sequences"] > 1.5 * own["step"]["sequences"]
    assert larger["memory"]["step"] > 1.5 * own["memory"]["step"]


def test_the_data_of_the_classroom_are_counted_exactly(quick):
    from workbench import workshop
    from workbench.config import RunConfig
    from workbench.progress import Silent

    options = {"train_sequences": 90, "validation_sequences": 30}
    shop = workshop.prepare(RunConfig.from_recipe("protgpt2-tiny", **options), Silent())
    found = plans.plan("protgpt2-tiny", **options)
    assert found["reading"]["rows"] == len(shop.train)
    assert found["reading"]["tokens"] == sum(b.tokens for b in shop.train_batches)
    assert found["reading"]["held_out"]["tokens"] == sum(b.tokens for b in shop.validation_batches)
    states = shop.teacher.all_states, shop.validation_teacher.all_states
    assert found["disk"]["cache"] == sum(s.numel() * s.element_size() for s in states)


@pytest.mark.parametrize("name", ["protgpt2-tiny", "tinybiobert"])
def test_the_disk_is_that_of_a_real_run(quick, tmp_path, name):
    """Without figures, which take half a minute to draw; TinyBioBERT's checkpoint has more."""
    options = {"steps": 20, "train_sequences": 64, "validation_sequences": 40}
    found = plans.plan(name, tmp_path / "run", **options)["disk"]
    runs.distill(name, tmp_path / "run", brief=True, **options)

    def size(place: Path) -> int:
        return sum(p.stat().st_size for p in place.rglob("*") if p.is_file())

    assert found["checkpoint"] == pytest.approx(size(tmp_path / "run" / "checkpoint"), rel=0.01)
    weights = tmp_path / "run" / "student"
    assert found["student"] == pytest.approx(size(weights), rel=0.02)
    without = found["run"] - plan_costs.FIGURES[recipes.get(name).task]
    assert without == pytest.approx(size(tmp_path / "run"), rel=0.02)


def test_a_configuration_alone_is_enough_of_a_teacher(quick, tiny_teacher, tmp_path):
    alone = tmp_path / "teacher"
    alone.mkdir()
    shutil.copy(tiny_teacher / "config.json", alone)
    whole, bare = (
        plans.plan("protgpt2-tiny", teacher=str(place)) for place in (tiny_teacher, alone)
    )
    assert whole["teacher"]["parameters"] == bare["teacher"]["parameters"]
    assert "no weights" in " ".join(bare["warnings"])
    assert "no weights" not in " ".join(whole["warnings"])
    # Without a tokenizer rows are taken as full, which is more than they are.
    assert bare["step"]["tokens"] > whole["step"]["tokens"]
    assert bare["reading"]["rows"] is None


def test_a_model_in_the_hubs_cache_is_found_without_the_network(quick, tiny_teacher, tmp_path):
    assert not places.of_model("someone/model").here
    snapshot = tmp_path / "hub" / "models--someone--model" / "snapshots" / "abc"
    shutil.copytree(tiny_teacher, snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    found = plans.plan("protgpt2-tiny", teacher="someone/model")
    assert found["teacher"]["where"] == "hub cache" and found["disk"]["download"] == 0
    assert plans.plan("protgpt2-tiny", teacher="someone/model@abc")["teacher"]["here"]
    assert not places.of_model("someone/model@older").here
    assert found["teacher"]["bytes"] == (tiny_teacher / "model.safetensors").stat().st_size


def test_data_in_the_hubs_caches_are_found_without_the_network(monkeypatch, tmp_path):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    assert not places.of_data("some/MyProteins").here
    # As `datasets` names it.
    (tmp_path / "prepared" / "some___my_proteins").mkdir(parents=True)
    assert places.of_data("some/MyProteins@v1").where == "hub cache"
    (tmp_path / "hub" / "datasets--some--other").mkdir(parents=True)
    assert places.of_data("some/other").where == "hub cache"


def test_what_is_nowhere_is_refused_in_one_line(quick, tmp_path):
    with pytest.raises(WorkbenchError, match="shape of someone/else is not known here"):
        plans.plan("protgpt2-tiny", teacher="someone/else")
    with pytest.raises(WorkbenchError, match=r"no file .*missing\.fasta"):
        plans.plan("protgpt2-tiny", data="./missing.fasta")
    with pytest.raises(WorkbenchError, match=r"no file .*missing\.fasta"):
        plans.plan("protgpt2-tiny", data="folder/missing.fasta")
    with pytest.raises(UsageError, match="steps"):
        plans.plan("protgpt2-tiny", steps=0)
    with pytest.raises(WorkbenchError, match="expected a masked language model"):
        plans.plan("distilbiobert", teacher="protgpt2")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("x")
    with pytest.raises(WorkbenchError, match="something else"):
        plans.plan("protgpt2-tiny", tmp_path / "full")


def test_of_a_large_file_the_beginning_is_looked_at(quick, tmp_path, monkeypatch):
    from workbench.planning import reading
    from workbench.worlds import proteins

    drawn = proteins.sample(600, seed=5)
    file = tmp_path / "proteins.fasta"
    file.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(drawn)))
    whole = plans.plan("protgpt2-tiny", data=str(file))["reading"]
    monkeypatch.setattr(reading, "LOOKED_AT", file.stat().st_size // 3)
    part = plans.plan("protgpt2-tiny", data=str(file))["reading"]
    assert whole["basis"] == "all of the data" and part["basis"].startswith("the first 3")
    assert part["rows"] == pytest.approx(whole["rows"], rel=0.1)
    assert part["tokens"] == pytest.approx(whole["tokens"], rel=0.1)
    assert part["held_out"]["tokens"] == pytest.approx(whole["held_out"]["tokens"], rel=0.35)


def test_of_a_large_table_the_first_records_are_looked_at(quick, tmp_path, monkeypatch):
    from datasets import Dataset

    from workbench.planning import reading
    from workbench.worlds import proteins

    file = tmp_path / "proteins.parquet"
    Dataset.from_dict({"sequence": proteins.sample(600, seed=5)}).to_parquet(str(file))
    whole = plans.plan("protgpt2-tiny", data=str(file))["reading"]
    monkeypatch.setattr(reading, "LOOKED_AT", 1000)
    monkeypatch.setattr(reading, "RECORDS", 200)
    part = plans.plan("protgpt2-tiny", data=str(file))["reading"]
    assert part["basis"] == "the first 33.3% of the data"
    assert part["tokens"] == pytest.approx(whole["tokens"], rel=0.1)
    file.write_bytes(file.read_bytes()[:-100])  # a download that broke off
    with pytest.raises(WorkbenchError, match=r"cannot read .*proteins\.parquet: ") as refused:
        plans.plan("protgpt2-tiny", data=str(file))
    assert "\n" not in str(refused.value)


def test_a_packed_file_is_looked_into_and_nothing_is_tokenised_into_the_cache(
    quick, tmp_path, cache, monkeypatch
):
    from workbench.on_disk import large_corpora
    from workbench.planning import reading
    from workbench.worlds import proteins

    monkeypatch.setattr(large_corpora, "SMALL", 1)
    text = "".join(f">{i}\n{s}\n" for i, s in enumerate(proteins.sample(100, seed=5))).encode()
    plain, packed = tmp_path / "a.fasta", tmp_path / "a.fasta.gz"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    before = sorted(cache.rglob("*"))
    found = [plans.plan("protgpt2-tiny", data=str(file))["reading"] for file in (plain, packed)]
    assert found[0]["rows"] == found[1]["rows"] and found[0]["tokens"] == found[1]["tokens"]
    assert sorted(cache.rglob("*")) == before
    # Of a large one the beginning, unpacked; bytes that look random are packed alike throughout.
    lines = [random.Random(i).randbytes(40).hex().encode() for i in range(30_000)]
    packed.write_bytes(gzip.compress(b"\n".join(lines)))
    monkeypatch.setattr(reading, "LOOKED_AT", 800_000)
    assert reading._first_lines(packed, plain) == pytest.approx(3, rel=0.35)
    assert plain.read_bytes().splitlines() == lines[: len(plain.read_bytes().splitlines())]


def test_no_more_is_judged_or_taken_than_a_run_would(quick, tmp_path, monkeypatch):
    from workbench.planning import reading
    from workbench.records import streams
    from workbench.worlds import proteins

    file = tmp_path / "proteins.fasta"
    drawn = proteins.sample(600, seed=5)
    file.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(drawn)))
    monkeypatch.setattr(reading, "LOOKED_AT", file.stat().st_size // 3)

    def rows(**options):
        found = plans.plan("protgpt2-tiny", data=str(file), **options)["reading"]
        return found["rows"], found["held_out"]["sequences"]

    whole, all_held_out = rows()
    # A file that is read as a stream is judged by as many held-out records as asked for.
    monkeypatch.setattr(streams, "LARGE", file.stat().st_size)
    twenty, ten = rows(validation_sequences=20), rows(validation_sequences=10)
    assert twenty == (whole, pytest.approx(2 * ten[1])) and ten[1] < all_held_out / 3
    assert rows(validation_sequences=1000) == (whole, all_held_out)
    # Of 600 records, of which about 200 are looked at.
    for taken in (100, 300):
        some = rows(train_sequences=taken)
        assert sum(some) == pytest.approx(taken / 600 * (whole + all_held_out), rel=0.15)


@pytest.mark.parametrize("name", ["protgpt2-tiny", "distilbiobert"])
def test_the_files_of_tokens_that_a_large_source_leaves_are_counted(
    quick, tmp_path, monkeypatch, name
):
    from workbench import tasks, workshop
    from workbench.config import RunConfig
    from workbench.planning import reading
    from workbench.records import streams
    from workbench.worlds import biomedical, proteins

    if name == "protgpt2-tiny":
        file, drawn = tmp_path / "a.fasta", proteins.sample(600, seed=5)
        file.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(drawn)))
    else:
        file = tmp_path / "a.txt"
        sentences = biomedical.sample(600, seed=5)
        file.write_text("".join(f"{sentence.text}\n" for sentence in sentences))
    held = plans.plan(name, data=str(file))
    assert held["disk"]["token_files"] == 0
    assert "tokenising" not in plan_table.text(held)
    monkeypatch.setattr(reading, "LOOKED_AT", file.stat().st_size // 3)
    monkeypatch.setattr(streams, "LARGE", file.stat().st_size)
    found = plans.plan(name, data=str(file))
    assert "tokenising the data, teacher's loading" in plan_table.text(found)
    # What a run would write, by the run's own code.
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    config = RunConfig.from_recipe(name, data=str(file))
    task = tasks.of_run(config)
    teacher, tokenizer, _ = task.load_model(config.teacher)
    positions = workshop.row_length(config, teacher.config.max_position_embeddings)
    task.rows(task.load_corpus(config, tokenizer), tokenizer, teacher, positions)
    written = [p for p in (tmp_path / "cache" / "tokens").rglob("*.*") if p.suffix != ".json"]
    size = sum(p.stat().st_size for p in written if p.is_file())
    assert found["disk"]["token_files"] == pytest.approx(size, rel=0.05)
    # A disk that has no room for them.
    monkeypatch.setattr(storage, "free_bytes", lambda path: size // 2)
    assert any("disk will not do" in text for text in plans.plan(name, data=str(file))["warnings"])


def test_proteins_for_a_teacher_that_reads_residues_and_predicts_hidden_ones(quick, tmp_path):
    from workbench.teaching import strangers
    from workbench.worlds import proteins

    drawn = proteins.sample(80, seed=3)
    file = tmp_path / "mine.fasta"
    file.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(drawn)))
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
            "num_attention_heads": 2, "max_position_embeddings": 96}  # fmt: skip
    strangers.esm(tmp_path / "esm", drawn, steps=1, **size)
    found = plans.plan("compactbiobert", teacher=str(tmp_path / "esm"), data=str(file))
    assert found["reading"]["basis"] == "all of the data" and found["reading"]["rows"] > 40


def test_what_is_not_known_is_said_and_not_called_nothing(quick):
    found = plans.plan("protgpt2-tiny", scale="paper")
    assert found["flops"]["evaluations"] is None and found["seconds"]["evaluations"] is None
    assert "evaluations not known" in plan_table.text(found)
    assert "evaluations not known" not in plan_table.text(plans.plan("protgpt2-tiny"))


def test_a_tokenizer_that_the_run_would_refuse_is_refused(quick, tiny_teacher, tmp_path):
    from workbench.models import BUILT_IN_TEACHERS

    shutil.copytree(tiny_teacher, tmp_path / "teacher")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILT_IN_TEACHERS / "biobert" / name, tmp_path / "teacher")
    with pytest.raises(WorkbenchError, match=r"the vocabulary of .* does not match"):
        plans.plan("protgpt2-tiny", teacher=str(tmp_path / "teacher"))


def test_answers_that_the_disk_has_no_room_for_are_not_counted_as_kept(quick, monkeypatch):
    from workbench import teacher_cache

    kept = plans.plan("protgpt2-tiny")
    monkeypatch.setattr(teacher_cache, "LARGEST", int(kept["disk"]["cache"]))
    assert plans.plan("protgpt2-tiny")["disk"]["cache"] == kept["disk"]["cache"] > 0
    monkeypatch.setattr(storage, "free_bytes", lambda path: 0)
    live = plans.plan("protgpt2-tiny")
    assert live["disk"]["cache"] == 0
    assert live["flops"]["teacher"] > 2 * kept["flops"]["teacher"]


def test_a_pair_is_no_longer_than_a_groove_and_a_peptide(quick):
    found = plans.plan("distilbert-pmhc", scale="paper")
    assert found["step"]["length"] == 51
    assert found["reading"]["rows"] == 100_000
    assert any("workbench teach pmhc --base" in warning for warning in found["warnings"])


def test_memory_and_disk_that_will_not_do_are_said_in_plain_words(quick, monkeypatch):
    import psutil

    small = psutil.virtual_memory()._replace(available=100_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: small)
    with monkeypatch.context() as full:
        full.setattr(storage, "free_bytes", lambda path: 1000)
        warnings = " ".join(plans.plan("protgpt2-tiny")["warnings"])
    assert "memory will not do" in warnings and "the disk will not do" in warnings
    options = {"scale": "paper", "length": 50, "batch_size": 16}
    kept = plans.plan("distilbert-pmhc", train_sequences=24_000, **options)["warnings"]
    assert "--no-cache" in kept[0]
    lost = plans.plan("distilbert-pmhc", train_sequences=48_000, **options)["warnings"]
    assert "--no-cache" not in lost[0]
    assert any("asked at every step" in warning for warning in lost)


def test_run_and_cache_on_one_disk_are_added_up(quick, monkeypatch):
    disk = plans.plan("protgpt2-tiny")["disk"]
    assert disk["run_place"] != disk["cache_place"]  # two directories of one disk
    enough_for_each = max(disk["run_at_most"], disk["cache"])
    assert enough_for_each < disk["run_at_most"] + disk["cache"]
    monkeypatch.setattr(storage, "free_bytes", lambda path: enough_for_each)
    assert any(
        "run and cache take up to" in line for line in plans.plan("protgpt2-tiny")["warnings"]
    )
    stat = os.stat
    elsewhere = disk["cache_place"]

    def other(path, *args, **kwargs):
        found = stat(path, *args, **kwargs)
        if str(path) != elsewhere:
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))

    monkeypatch.setattr(plans.os, "stat", other)
    assert not any("the disk" in line for line in plans.plan("protgpt2-tiny")["warnings"])


def test_of_several_processes_the_main_one_plans_for_all(quick, capsys, monkeypatch):
    alone = plans.plan("protgpt2-tiny", batch_size=32, micro_batch=24)
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    # Each of them has two rows of a batch, however many it might read at once.
    shared = plans.plan("protgpt2-tiny", batch_size=32, micro_batch=24)
    assert shared["memory"]["step"] < alone["memory"]["step"] / 4
    arguments = ["distill", "protgpt2-tiny", "--dry-run", "--json"]
    assert cli.status_of(arguments) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "protgpt2-tiny"
    monkeypatch.setenv("RANK", "3")
    assert cli.status_of(arguments) == 0
    assert capsys.readouterr().out == ""


def test_a_classifier_of_five_classes_is_no_teacher_of_pairs(quick, tmp_path):
    """Refused as the run refuses it; its weights are not needed for that."""
    from workbench import models

    shutil.copytree(models.BUILT_IN_TEACHERS / "pmhc", tmp_path / "five")
    stated = json.loads((tmp_path / "five" / "config.json").read_text())
    names = {str(i): str(i) for i in range(5)}
    stated |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
    (tmp_path / "five" / "config.json").write_text(json.dumps(stated))
    for begin in (plans.plan, runs.distill):
        with pytest.raises(WorkbenchError, match="sorts into 5 classes; expected two"):
            begin("distilbert-pmhc", teacher=str(tmp_path / "five"))


def test_the_rates_are_measured_on_layers_of_these_widths(monkeypatch):
    """Of this test only the numbers' sense is asked, never their size."""
    seen = {}
    real = rates.measure

    def measure(asked, device):
        seen["asked"] = asked
        seen["rates"] = real(asked, device)
        return seen["rates"]

    monkeypatch.setattr(rates, "measure", measure)
    monkeypatch.setattr(rates, "SECONDS", 0.02)
    found = workbench.plan("tinybiobert")
    measured = seen["rates"]
    assert seen["asked"].sizes[0].width == 96
    assert min(measured.products, measured.teacher, measured.student, measured.loss) > 0
    assert measured.optimiser > 0
    seconds = found["seconds"]
    assert seconds["student"] == pytest.approx(found["flops"]["student"] / measured.student)
    assert seconds["total"] == pytest.approx(sum(v for k, v in seconds.items() if k != "total"))
    assert found["machine"]["efficiency"]["teacher"] == measured.teacher / measured.products


def test_the_command_prints_one_object_or_a_table(quick, capsys, tmp_path):
    arguments = ["distill", "protgpt2-tiny", "--dry-run", "--steps", "7", "--run", "somewhere"]
    assert cli.status_of([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["steps"] == 7
    assert cli.status_of(arguments) == 0
    printed = capsys.readouterr().out
    for word in ("teacher", "student", "FLOPs", "efficiency", "time", "memory", "disk", "cache"):
        assert f"\n  {word} " in printed
    assert list(tmp_path.iterdir()) == []


def test_a_faster_machine_needs_less_time(monkeypatch):
    times = []
    for factor in (1, 4):
        fast = replace(
            QUICK, teacher=factor * QUICK.teacher, student=factor * QUICK.student,
            loss=factor * QUICK.loss, optimiser=QUICK.optimiser / factor,
        )  # fmt: skip
        monkeypatch.setattr(rates, "measure", lambda asked, device, fast=fast: fast)
        times.append(plans.plan("protgpt2-tiny")["seconds"]["total"])
    assert times[0] == pytest.approx(4 * times[1])
