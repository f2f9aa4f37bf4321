"""`workbench lab` and the fixtures themselves, on a notebook small enough to know by heart."""

from __future__ import annotations

import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

SLIDER = """
import ipywidgets as widgets

slider = widgets.IntSlider(value=3, min=0, max=10, description="T")
shown = widgets.HTML(value="T is 3")
slider.observe(lambda change: setattr(shown, "value", f"T is {change.new}"), names="value")
widgets.VBox([slider, shown])
"""


@pytest.fixture
def write(jupyter):
    """Puts a notebook with these cells of code among those that JupyterLab serves."""
    written = []

    def put(name: str, *sources: str) -> str:
        cells = [new_markdown_cell("# A test"), *map(new_code_cell, sources)]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        path = jupyter.notebooks / name
        nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
        written.append(path)
        return name

    yield put
    for path in written:
        path.unlink()


def test_runs_all_cells_offline_on_this_python(write, lab_page):
    filler = [f"print('cell {i} of many')" for i in range(20)]
    python = "import sys; print(sys.executable)"
    tool = "import shutil; print(shutil.which('workbench'))"
    lab = lab_page(write("tiny.ipynb", python, tool, *filler, "print(6 * 7)"))
    lab.run_all(timeout=60)

    said = lab.output_text().splitlines()
    assert said[0] == sys.executable
    assert said[1].startswith(sys.prefix)
    # Cells far below the window are in the page too.
    assert said[2:] == [f"cell {i} of many" for i in range(20)] + ["42"]
    assert lab.external_requests == []


def test_first_screen_asks_nothing(write, lab_page):
    lab = lab_page(write("quiet.ipynb", "1"))
    lab.run_all(timeout=60)
    # JupyterLab's own question about news would cover the notebook and need a network.
    assert lab.page.locator(".Toastify__toast").count() == 0
    assert lab.page.locator(".jp-Dialog").count() == 0
    assert lab.external_requests == []


def test_widget_answers_the_keyboard(write, lab_page):
    lab = lab_page(write("slider.ipynb", SLIDER))
    lab.run_all(timeout=60)
    lab.wait_for_text("T is 3")
    lab.panel.get_by_role("slider").press("ArrowRight")
    lab.wait_for_text("T is 4")
    lab.screenshot("slider")


def test_error_in_a_cell_is_seen(write, lab_page):
    lab = lab_page(write("broken.ipynb", "1 / 0"))
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        lab.run_all(timeout=60)


def test_traceback_on_standard_error_is_seen(write, lab_page):
    source = (
        "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()"
    )
    lab = lab_page(write("caught.ipynb", source))
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        lab.run_all(timeout=60)


def test_request_outside_is_seen(write, lab_page):
    source = "from IPython.display import HTML\nHTML('<img src=\"http://example.invalid/x.png\">')"
    lab = lab_page(write("outside.ipynb", source))
    lab.run_all(timeout=60)
    assert set(lab.external_requests) == {"http://example.invalid/x.png"}


def test_nothing_without_the_token(jupyter, chromium):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{jupyter.address}/lab")
    assert "/login" in page.url
    context.close()


def test_the_terminal_begins_with_the_address_and_no_warnings(jupyter):
    assert "Warning" not in jupyter.complaints
