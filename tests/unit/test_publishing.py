"""Publishing: only when asked, only student/, and one line where it cannot be. No network here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from workbench import cli, export, models, runs
from workbench.cards import publishing
from workbench.config import RunConfig
from workbench.errors import UsageError, WorkbenchError
from workbench.run_directory import described

STUDENT = [
    "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
]  # fmt: skip


class Hub:
    """Stands for the hub's client and writes down what it is asked."""

    calls: list[tuple] = []  # noqa: RUF012
    fails: Exception | None = None

    def create_repo(self, repository, *, private, repo_type, exist_ok):
        assert exist_ok and repo_type == "model"
        self.calls.append(("create", repository, private))
        return f"https://huggingface.co/{repository}"

    def create_commit(self, repository, operations, *, commit_message, repo_type):
        assert repo_type == "model" and commit_message
        if self.fails:
            raise self.fails
        sent = {o.path_in_repo: Path(o.path_or_fileobj).read_bytes() for o in operations}
        self.calls.append(("commit", repository, sent))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "calls", [])
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    return Hub


@pytest.fixture
def run(tmp_path):
    """A finished run as far as publishing looks, with things in it that are nobody's business."""
    place = tmp_path / "run"
    shutil.copytree(models.BUILT_IN_STUDENTS / "protgpt2-tiny", place / "student")
    config = RunConfig.from_recipe("protgpt2-tiny", steps=3)
    (place / "config.json").write_text(json.dumps(described(config)))
    (place / "results.json").write_text("{}")
    (place / "checkpoint").mkdir()
    (place / "checkpoint" / "last.safetensors").write_text("secret")
    (tmp_path / "secret.json").write_text("secret")
    (place / "student" / "link.json").symlink_to(tmp_path / "secret.json")
    (place / "student" / "training.bin").write_text("secret")
    (place / "student" / "more").mkdir()
    (place / "student" / "more" / "notes.txt").write_text("secret")
    return place


def test_student_and_nothing_else_leaves(hub, run):
    assert [file.name for file in publishing.leaving(run)] == STUDENT
    assert hub.calls == []
    page = export.push(run, "somebody/my-student")
    assert page == "https://huggingface.co/somebody/my-student"
    (made, (kind, repository, sent)) = hub.calls
    assert made == ("create", "somebody/my-student", True)
    assert (kind, repository, sorted(sent)) == ("commit", "somebody/my-student", STUDENT)
    assert all(sent[name] == (run / "student" / name).read_bytes() for name in STUDENT)
    assert all(content != b"secret" for content in sent.values())


def test_the_command_pushes_privately_unless_told_otherwise(hub, run, capsys):
    for flags, private in (([], True), (["--public"], False)):
        hub.calls.clear()
        assert cli.status_of(["push", str(run), "somebody/my-student", "--json", *flags]) == 0
        assert hub.calls[0] == ("create", "somebody/my-student", private)
        said = json.loads(capsys.readouterr().out)
        assert said["files"] == STUDENT and said["page"].endswith("somebody/my-student")


def test_a_run_pushes_nothing_by_itself(hub, tmp_path, tiny_teacher):
    runs.distill(
        "protgpt2-tiny", tmp_path / "r", teacher=str(tiny_teacher), steps=1, batch_size=8,
        train_sequences=16, validation_sequences=4, brief=True,
    )  # fmt: skip
    assert hub.calls == []
    assert [file.name for file in publishing.leaving(tmp_path / "r")] == STUDENT


@pytest.mark.parametrize("name", ["student", "a/b/c", "some body/x", "../x", "a/..", ""])
def test_a_repository_has_an_owner_and_a_name(hub, run, name):
    with pytest.raises(UsageError, match="expected OWNER/NAME"):
        publishing.push(run, name)
    assert hub.calls == []


def test_without_token_nothing_is_asked(hub, run, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(WorkbenchError, match=r"no token for the hub.*hf auth login"):
        publishing.push(run, "somebody/x")
    assert hub.calls == []


def test_offline_says_so_in_one_line(run, monkeypatch, capsys):
    # The client itself, which the tests have told to stay offline.
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    assert cli.status_of(["push", str(run), "somebody/x"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "HF_HUB_OFFLINE is set" in said and "somebody/x" in said


@pytest.mark.parametrize("refused", [True, False])
def test_a_failing_hub_is_one_line(hub, run, monkeypatch, refused):
    import httpx

    request = httpx.Request("POST", "https://huggingface.co/api")
    failure = (
        HfHubHTTPError("403 Forbidden\nmore", response=httpx.Response(403, request=request))
        if refused
        else httpx.ConnectError("Name or service not known", request=request)
    )
    monkeypatch.setattr(hub, "fails", failure)
    expected = "refused somebody/x: 403 Forbidden" if refused else "cannot be reached .Name or"
    with pytest.raises(WorkbenchError, match=expected) as raised:
        publishing.push(run, "somebody/x")
    assert "\n" not in str(raised.value)


def test_an_unfinished_run_is_not_published(hub, run):
    (run / "results.json").unlink()
    with pytest.raises(WorkbenchError, match=r"no finished student.*workbench resume"):
        publishing.push(run, "somebody/x")
    assert hub.calls == []
