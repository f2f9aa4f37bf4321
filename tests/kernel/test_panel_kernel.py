"""The panel in a real kernel, spoken to as a browser does: with messages."""

from __future__ import annotations

import pytest
from kernel_page import TEACHER

PANEL = """
from workbench.lab import RunPanel
panel = RunPanel("protgpt2-tiny", steps=1_000_000, teacher="teacher", train_sequences=64,
                 validation_sequences=16, checkpoint_every=1_000_000)
panel
"""
THREADS = """
import threading
[t.name for t in threading.enumerate() if t.name.startswith("workbench")]
"""


@pytest.mark.parametrize("front_end", ["one shell", "a subshell for widgets"])
def test_the_panel_lives_while_a_run_goes_on(page, front_end):
    if front_end != "one shell":
        page.use_subshell()
    page.run(TEACHER)
    page.run(PANEL, cell="panel-cell")
    slider = page.find(_model_name="FloatLogSliderModel")
    box = page.find(_model_name="BoundedFloatTextModel", description="T =")
    formula = page.find(value="The next run minimises")
    status = page.find(value="aria-live")
    numbers = page.find(value="tabular-nums")
    chart = page.find(value="<svg")

    def shown(widget: str) -> str:
        return page.widgets[widget]["value"]

    page.click(page.find(description="Start"))
    page.until(lambda: "Training" in shown(status) and "tokens/s" in shown(numbers))

    # A slider is answered, and a cell can be run, while the student learns.
    page.move(slider, value=4.0)
    page.until(lambda: "at T=4 " in shown(formula))
    page.until(lambda: page.widgets[box]["value"] == 4.0)
    assert page.run("panel.state, panel.settings.temperature") == "('training', 4.0)"
    assert "student, distilled" in shown(chart)
    page.click(page.find(description="Start"))
    page.until(lambda: "A run is going on" in shown(status))

    # A move made while a cell keeps the kernel busy is not lost. When it is answered, at once or
    # after the cell, is up to the kernel: ipykernel 7.4 sends what is meant for a widget to the
    # shell that last spoke for it, earlier ones to the thread for widgets.
    busy = page.send("panel.wait(2)")
    page.move(slider, value=8.0)
    page.until(lambda: "at T=8 " in shown(formula))
    page.until(lambda: busy in page.finished)

    page.click(page.find(description="Stop"))
    page.until(lambda: "Stopped" in shown(status))

    # The cell again, while the second run goes on: the first panel leaves nothing behind.
    page.click(page.find(description="Start"))
    page.until(lambda: "Training" in shown(status))
    before = len(page.widgets)
    page.run("older = panel")
    page.run(PANEL, cell="panel-cell")
    assert slider not in page.widgets
    assert len(page.widgets) == before
    page.run("older.join()")
    assert page.run(THREADS) == "[]"
    assert page.outputs == {}
