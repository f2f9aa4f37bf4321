"""The Lab in a real Voilà: played to the end, in the light and in the dark, reaching nobody."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

#: ms; Voilà shows the page when its cells have run, and the run imports torch.
PATIENCE = 180_000
CELL = """
from workbench import Lab

lab = Lab("protgpt2-tiny;steps=20", train_sequences=400, validation_sequences=100)
lab
"""
#: Voilà's own page asks for its icons there, whatever it shows, and is refused by the fixture;
#: the page of `workbench show` does not (test_show.py).
ICONS = "https://cdn.jsdelivr.net/npm/@fortawesome/"
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 17, 17)"}


@pytest.mark.parametrize("theme", GROUNDS)
def test_it_plays_to_its_end(tmp_path, voila, theme):
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = new_notebook(cells=[new_code_cell(CELL)], metadata=metadata)
    nbformat.write(notebook, tmp_path / "demo.ipynb")
    shown = voila("demo.ipynb")
    if theme == "dark":
        shown.page.goto(f"{shown.page.url}&theme=dark")
    panel = shown.page.locator(".wblab")
    expect(panel).to_be_visible(timeout=PATIENCE)
    expect(panel).to_have_css("background-color", GROUNDS[theme])
    expect(panel).to_have_css("color-scheme", theme)
    assert shown.page.locator("[data-workbench-picture]").is_hidden()
    expect(panel.locator(".wblab-curves svg").first).to_contain_text("student, distilled")
    screenshot(shown.page, f"lab_voila_{theme}_new")

    panel.get_by_role("button", name="Play", exact=True).click()
    expect(panel).to_have_attribute("data-state", "done", timeout=PATIENCE)
    expect(panel.get_by_role("status")).to_contain_text("All 20 steps are taken.")
    expect(panel.locator(".wblab-table")).to_contain_text("Finished runs")
    screenshot(shown.page, f"lab_voila_{theme}_done")
    assert [url for url in shown.external_requests if not url.startswith(ICONS)] == []


def screenshot(page, name: str) -> None:
    """Picture of the whole page, where ``WORKBENCH_SCREENSHOTS`` names a directory."""
    directory = os.environ.get("WORKBENCH_SCREENSHOTS")
    if directory:
        # Voilà's page scrolls inside the window, so the window is made as long as the panel.
        size, panel = page.viewport_size, page.locator(".wblab")
        page.set_viewport_size({**size, "height": int(panel.bounding_box()["height"]) + 60})
        panel.screenshot(path=Path(directory) / f"{name}.png")
        page.set_viewport_size(size)
