"""How notebooks are kept: without outputs, with an opening that says what they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LONGEST_FUNCTION = 10  # lines; more belongs in the package

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_there_is_a_first_notebook():
    assert NOTEBOOKS and NOTEBOOKS[0].name == "00_start_here.ipynb"


@every_notebook
def test_is_valid(path):
    nbformat.validate(read(path))


@every_notebook
def test_holds_no_outputs(path):
    assert [cell.outputs for cell in code(path) if cell.outputs] == []
    assert {cell.execution_count for cell in code(path)} <= {None}


@every_notebook
def test_holds_no_widget_state(path):
    assert "widgets" not in read(path).metadata


@every_notebook
def test_runs_on_the_default_kernel(path):
    # Another name is that of somebody's own environment, which nobody else has.
    assert read(path).metadata.kernelspec.name == "python3"


@every_notebook
@pytest.mark.parametrize(
    "said", [r"\*\*goal", r"\bminutes?\b", r"\*\*(before you begin|prerequisites)"]
)
def test_opens_with_goal_minutes_and_prerequisites(path, said):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.search(said, first.source.lower())


@every_notebook
def test_functions_are_short(path):
    too_long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for cell in code(path)
        # Magics and shell lines become Python first, or they would not parse.
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert too_long == []
