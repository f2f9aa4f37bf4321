"""A directory that replaces another: there is one of the two at any time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench import export, models, storage
from workbench.errors import WorkbenchError


@pytest.fixture
def pair(tmp_path):
    """A directory, and one that is to take its place."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path / "old", tmp_path / "new"


def test_the_new_directory_takes_the_place_and_nothing_else_is_left(pair):
    old, new = pair
    storage.replace_directory(new, old)
    assert (old / "file").read_text() == "new"
    storage.replace_directory(old, old.with_name("elsewhere"))
    assert [path.name for path in old.parent.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()])
def test_where_the_new_one_cannot_come_the_old_one_is_back(pair, monkeypatch, error):
    old, new = pair

    def refuse(source, target, replace=os.replace):
        if Path(source) == new:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(type(error)):
        storage.replace_directory(new, old)
    assert (old / "file").read_text() == "old"
    assert {path.name for path in old.parent.iterdir()} == {"old", "new"}


@pytest.mark.parametrize(
    ("error", "seen"), [(OSError(28, "No space left on device"), WorkbenchError),
                        (KeyboardInterrupt(), KeyboardInterrupt)],
)  # fmt: skip
def test_a_model_that_cannot_be_saved_leaves_the_earlier_one(
    tmp_path, tiny_teacher, monkeypatch, error, seen
):
    model, tokenizer, _ = models.load_causal_lm(tiny_teacher)
    place = tmp_path / "student"
    export.save_model(place, model, tokenizer)
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(type(model), "save_pretrained", fail)
    with pytest.raises(seen) as said:
        export.save_model(place, model, tokenizer)
    assert "\n" not in str(said.value)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
