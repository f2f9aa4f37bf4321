"""Notebooks with exercises, executed twice: as a learner finds them, and solved."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from workbench import lessons

ROOT = Path(__file__).parents[2]
#: What an outcome says first; see `workbench.lessons.Outcome`.
SIGN = re.compile(r"(Correct|Not right|Not attempted|Noted)\.")


def exercises(notebook: nbformat.NotebookNode) -> list[str]:
    return [c.metadata["exercise"] for c in notebook.cells if "exercise" in c.metadata]


NOTEBOOKS = {
    path.stem: notebook
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if exercises(notebook := nbformat.read(path, as_version=4))
}


def execute(notebook: nbformat.NotebookNode, directory: Path) -> list[str]:
    """Run a notebook with few steps; what its exercises said, in order."""
    for cell in notebook.cells:
        numbers = cell.metadata.get("nbmake", {}).get("mock", {})
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in numbers.items())
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": directory}}
    )
    client.execute()
    texts = [
        output["data"].get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    return [found[1] for text in texts if (found := SIGN.search(text[:40]))]


def test_the_course_has_exercises():
    assert {"01_soft_and_hard_loss", "02_temperature", "03_layer_halving"} <= set(NOTEBOOKS)
    told = [id for notebook in NOTEBOOKS.values() for id in exercises(notebook)]
    assert sorted(told) == sorted(lessons.questions())
    assert all(3 <= len(exercises(notebook)) <= 5 for notebook in NOTEBOOKS.values())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_as_found_nothing_is_attempted_and_nothing_raised(name, tmp_path):
    said = execute(nbformat.from_dict(NOTEBOOKS[name]), tmp_path)
    assert len(said) >= len(exercises(NOTEBOOKS[name]))
    assert set(said) == {"Not attempted"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solved_everything_is_right(name, tmp_path):
    said = execute(lessons.solved(NOTEBOOKS[name]), tmp_path)
    assert len(said) >= len(exercises(NOTEBOOKS[name]))
    assert set(said) <= {"Correct", "Noted"}
    assert "Correct" in said
