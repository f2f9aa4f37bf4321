"""Ids on the hub: revisions, the hub's own cache, no network, and a teacher that is another one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from workbench import catalogue, models, recipes, runs
from workbench.config import RunConfig
from workbench.errors import Interrupted, UsageError, WorkbenchError
from workbench.progress import Silent
from workbench.records import hub

FIRST, SECOND = "1" * 40, "2" * 40
NAME = "somebody/Tiny"


@pytest.fixture(autouse=True)
def forgotten():
    """Every test asks anew."""
    hub.locate.cache_clear()
    yield
    hub.locate.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    """A socket that is opened fails the call, at once."""

    def blocked(*arguments, **options):
        raise OSError("there is no network here")

    monkeypatch.setattr(socket.socket, "connect", blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch, tiny_teacher, no_network) -> Path:
    """The hub client's cache as it lays it out, with two commits of one model."""
    home = tmp_path / "home"
    place = home / "hub" / "models--somebody--Tiny"
    for commit in (FIRST, SECOND):
        shutil.copytree(tiny_teacher, place / "snapshots" / commit)
    change(place / "snapshots" / SECOND)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(FIRST)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    return home


def change(directory: Path) -> None:
    """Another weight in a model directory."""
    file = directory / "model.safetensors"
    tensors = load_file(file)
    tensors["transformer.ln_f.bias"] += 1
    save_file(tensors, file, {"format": "pt"})


def options(**more) -> dict:
    return {
        "steps": 4, "train_sequences": 32, "validation_sequences": 8, "batch_size": 8,
        "checkpoint_every": 1, "brief": True, "progress": Silent(), **more,
    }  # fmt: skip


def recorded(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


# ---------------------------------------------------------------------- names


def test_a_source_is_taken_apart_and_put_together():
    assert hub.split("a/b") == ("a/b", "main")
    assert hub.split("a/b@refs/pr/2") == ("a/b", "refs/pr/2")
    for no_id in ("a", "a/b/c", "./a", "/a/b", "world:proteins", "a/b@", "a b/c"):
        assert hub.split(no_id) is None
        assert hub.name(no_id) == no_id
    assert hub.pinned("a/b", "main") == hub.pinned("a/b", "") == "a/b"
    assert hub.name(hub.pinned("a/b", FIRST)) == "a/b"


@pytest.mark.parametrize("name", recipes.names())
def test_what_the_recipes_name_on_the_hub_is_pinned_and_can_be_overridden(name):
    paper = recipes.get(name).scale("paper")
    config = RunConfig.from_recipe(name, scale="paper")
    assert re.fullmatch("[0-9a-f]{40}", paper.teacher_revision)
    assert config.teacher == f"{paper.teacher_source}@{paper.teacher_revision}"
    assert hub.name(config.data) == paper.data_source
    assert config.train_sequences == paper.train_sequences
    described = catalogue.describe(name)["scales"]["paper"]["revisions"]
    assert described == {"teacher": paper.teacher_revision, "data": paper.data_revision}
    other = RunConfig.from_recipe(name, scale="paper", teacher="a/b@c", data="d/e")
    assert (other.teacher, other.data) == ("a/b@c", "d/e")
    assert (
        RunConfig.from_recipe(name).teacher == recipes.get(name).scale("classroom").teacher_source
    )


# ---------------------------------------------------------------------- the cache, without network


def test_the_hubs_cache_serves_without_network(hub_cache):
    model, _, _ = models.load_causal_lm(NAME)
    assert models.origin(model).commit == FIRST
    other, _, _ = models.load_causal_lm(f"{NAME}@{SECOND}")
    assert models.origin(other).commit == SECOND
    assert models.fingerprint(model) != models.fingerprint(other)


def test_a_whole_run_from_the_cache_with_sockets_blocked(hub_cache, tmp_path):
    """Neither the offline switch nor a network: the command line in a process of its own."""
    blocked = (
        "import socket, sys\n"
        "def no(*a, **k): raise OSError('there is no network here')\n"
        "socket.socket.connect = no; socket.getaddrinfo = no\n"
        "from workbench import cli\n"
        "cli.main(sys.argv[1:])\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}

    def workbench(*arguments: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", blocked, "distill", "protgpt2-tiny", "--steps", "1", "--brief",
             *arguments],
            env={**environment, "HF_HOME": str(hub_cache), **more}, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip

    done = workbench("--teacher", NAME, "--run", str(tmp_path / "run"), "--json")
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path / "run")["teacher"]["commit"] == FIRST
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        lost = workbench("--teacher", "somebody/Else", "--run", str(tmp_path / "lost"), **more)
        assert lost.returncode == 1
        (line,) = [x for x in lost.stderr.splitlines() if x.startswith("workbench: ")]
        assert "cannot load the model somebody/Else from the hub" in line
        assert "hf download somebody/Else" in line and "--teacher DIR" in line
        assert not (tmp_path / "lost").exists()


@pytest.mark.parametrize("source", [f"{NAME}@{'3' * 40}", f"{NAME}@v2", "somebody/Else"])
def test_what_the_cache_does_not_hold_is_one_line(source, hub_cache):
    with pytest.raises(WorkbenchError, match="cannot be reached and its cache has none") as error:
        models.load_causal_lm(source)
    assert "\n" not in str(error.value)
    revision = hub.split(source)[1]
    assert (f"--revision {revision}" in str(error.value)) == (revision != "main")


def test_a_cache_without_the_weights_is_one_line(hub_cache):
    place = hub_cache / "hub" / "models--somebody--Tiny"
    (place / "snapshots" / FIRST / "model.safetensors").unlink()
    with pytest.raises(WorkbenchError, match=r"has no weights; expected model\.safetensors"):
        models.load_causal_lm(NAME)
    shutil.rmtree(place / "snapshots" / FIRST)
    with pytest.raises(WorkbenchError, match=f"does not hold it.*--revision {FIRST}"):
        hub.locate.cache_clear()
        models.load_causal_lm(NAME)


def test_a_data_set_without_network_is_one_line(hub_cache, tmp_path, tiny_teacher):
    with pytest.raises(
        WorkbenchError, match="cannot load the data set a/b@c from the hub"
    ) as error:
        runs.distill(
            "protgpt2-tiny", tmp_path / "run", teacher=str(tiny_teacher), data="a/b@c", **options()
        )
    assert "--data FILE" in str(error.value) and "\n" not in str(error.value)


# ---------------------------------------------------------------------- the hub, when it answers


def answering(monkeypatch, commits: dict[str, str], files: dict[str, list[str]]) -> None:
    """A hub that knows some revisions and what is in them."""

    def repo_info(self, repository, *, revision="main", repo_type="model", timeout=None):
        commit = commits.get(revision, revision)
        siblings = [SimpleNamespace(rfilename=name) for name in files[commit]]
        return SimpleNamespace(sha=commit, siblings=siblings)

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)


def test_a_branch_is_resolved_once_and_weights_come_from_that_commit(monkeypatch):
    answering(monkeypatch, {"main": FIRST}, {FIRST: ["config.json", "model.safetensors"]})
    at = hub.locate(NAME)
    assert (at.commit, at.reached, hub.weights_revision(at)) == (FIRST, True, FIRST)
    answering(monkeypatch, {"main": SECOND}, {SECOND: ["model.safetensors"]})
    assert hub.locate(NAME).commit == FIRST  # asked once in a process


def test_pickles_are_never_loaded(monkeypatch):
    pickled = {FIRST: ["pytorch_model.bin"], SECOND: ["model.safetensors"]}
    answering(monkeypatch, {"main": FIRST}, pickled)
    # What the hub has converted is found by the name of the branch, while it is what `main` holds.
    assert hub.weights_revision(hub.locate(f"{NAME}@{FIRST}")) == "main"
    answering(monkeypatch, {"main": SECOND}, pickled)
    hub.locate.cache_clear()
    with pytest.raises(WorkbenchError, match=r"no safetensors at commit 1{12}.*refs/pr/NUMBER"):
        models.load_causal_lm(f"{NAME}@{FIRST}")


# ---------------------------------------------------------------------- the same teacher


def interrupted(run: Path, teacher: str) -> None:
    seen = iter((False, False, True))
    with pytest.raises(Interrupted):
        runs.distill(
            "protgpt2-tiny", run, teacher=teacher, should_stop=lambda: next(seen), **options()
        )


def test_a_run_goes_on_with_the_commit_that_it_began_with(hub_cache, tmp_path):
    run = tmp_path / "run"
    interrupted(run, NAME)
    known = recorded(run)["teacher"]
    assert (known["source"], known["commit"]) == (NAME, FIRST)
    assert known["fingerprint"] == models.fingerprint(models.load_causal_lm(NAME)[0])
    (hub_cache / "hub" / "models--somebody--Tiny" / "refs" / "main").write_text(SECOND)
    hub.locate.cache_clear()
    assert models.origin(models.load_causal_lm(NAME)[0]).commit == SECOND
    assert runs.resume(run, brief=True, progress=Silent())["steps"] == 4
    shutil.rmtree(hub_cache / "hub" / "models--somebody--Tiny" / "snapshots" / FIRST)
    (run / "results.json").unlink()
    with pytest.raises(WorkbenchError, match=f"hf download {NAME} --revision {FIRST} brings"):
        runs.resume(run, progress=Silent())


def test_another_teacher_in_the_same_directory_is_noticed(tiny_teacher, tmp_path):
    teacher, run = tmp_path / "teacher", tmp_path / "run"
    shutil.copytree(tiny_teacher, teacher)
    interrupted(run, str(teacher))
    assert recorded(run)["teacher"]["commit"] is None
    assert recorded(run)["data"] == {"source": "world:proteins", "commit": None}
    change(teacher)
    with pytest.raises(WorkbenchError, match="has other weights than when the run began") as error:
        runs.resume(run, progress=Silent())
    assert "\n" not in str(error.value) and "put them back" in str(error.value)
    shutil.copy(tiny_teacher / "model.safetensors", teacher)
    assert runs.resume(run, brief=True, progress=Silent())["steps"] == 4


# ---------------------------------------------------------------------- what can be overridden


def test_schedule_and_length_are_the_recipes_unless_given():
    paper = RunConfig.from_recipe("distilbiobert", scale="paper")
    assert (paper.warmup, paper.weight_decay, paper.length) == (5000, 0.0, 256)
    given = RunConfig.from_recipe(
        "distilbiobert", scale="paper", warmup=7, weight_decay=0.2, length=64
    )
    assert (given.warmup, given.weight_decay, given.length) == (7, 0.2, 64)
    values = given.to_json()
    assert RunConfig.from_json(values) == given
    del values["length"]  # a run of an earlier day
    assert RunConfig.from_json(values).length is None
    for bad in ({"warmup": -1}, {"weight_decay": float("nan")}, {"length": 2}):
        with pytest.raises(UsageError, match=f"{next(iter(bad))} is "):
            RunConfig.from_recipe("distilbiobert", **bad)


def test_rows_are_as_long_as_asked_for_and_no_longer_than_the_models_take(tiny_teacher):
    from workbench import workshop

    def longest(**more) -> int:
        config = RunConfig.from_recipe(
            "protgpt2-tiny", teacher=str(tiny_teacher), train_sequences=32,
            validation_sequences=8, **more,
        )  # fmt: skip
        return max(map(len, workshop.prepare(config, Silent()).train.tokens))

    assert longest() > 20
    assert longest(length=20) == 20
    with pytest.raises(UsageError, match="--length is 129 and the models take 128 tokens"):
        longest(length=129)
    # The recipe's own 512 give way to a teacher that takes less.
    published = RunConfig.from_recipe("protgpt2-tiny", scale="paper")
    assert workshop.row_length(published, 1024) == 512
    assert workshop.row_length(published, 128) == 128


# ---------------------------------------------------------------------- code of strangers


@pytest.mark.parametrize("kind", ["gpt2", "stranger"])
def test_code_that_comes_with_a_model_is_never_run(kind, tiny_teacher, tmp_path):
    place, trace = tmp_path / "model", tmp_path / "it_ran"
    shutil.copytree(tiny_teacher, place)
    (place / "strange.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    config = json.loads((place / "config.json").read_text())
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
    config |= {"model_type": kind, "auto_map": dict.fromkeys(names, "strange.Strange")}
    (place / "config.json").write_text(json.dumps(config))
    if kind == "gpt2":  # what transformers knows itself is loaded as it knows it
        assert type(models.load_causal_lm(place)[0]).__module__.startswith("transformers.")
    else:
        with pytest.raises(WorkbenchError, match="brings code of its own"):
            models.load_causal_lm(place)
    assert not trace.exists()


# ---------------------------------------------------------------------- exported


def test_a_commit_on_the_hub_is_exported_from_where_its_files_lie(hub_cache):
    from workbench.portable import subject

    found = subject.find(f"{NAME}@{SECOND}")
    assert found.default_out == Path("Tiny-onnx")
    found.load()
    snapshots = hub_cache / "hub" / "models--somebody--Tiny" / "snapshots"
    assert found.directory() == snapshots / SECOND
    assert list(found.directory().glob("*.safetensors"))
    with pytest.raises(WorkbenchError) as said:
        subject.find("nobody/nothing")
    assert "\n" not in str(said.value)


def test_a_model_of_the_hub_is_evaluated_by_its_own_kind(hub_cache, capsys, monkeypatch):
    """By its configuration there, as a directory is; nobody need name a recipe."""
    from workbench import cli, evaluation

    asked = []

    def evaluate_model(source, config):
        asked.append((source, config.recipe))
        raise WorkbenchError("enough was seen")

    monkeypatch.setattr(evaluation, "evaluate_model", evaluate_model)
    for name, built_in, recipe in (
        ("Masked", "biobert", "distilbiobert"), ("Pairs", "pmhc", "distilbert-pmhc"),
    ):  # fmt: skip
        place = hub_cache / "hub" / f"models--somebody--{name}"
        shutil.copytree(models.BUILT_IN_TEACHERS / built_in, place / "snapshots" / FIRST)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(FIRST)
        assert cli.status_of(["evaluate", f"somebody/{name}"]) == 1
        assert asked.pop() == (f"somebody/{name}", recipe)
    assert cli.status_of(["evaluate", NAME]) == 1
    assert asked == [(NAME, "protgpt2-tiny")]
    assert "enough was seen" in capsys.readouterr().err
