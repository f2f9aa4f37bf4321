"""The panel in a real kernel, spoken to as a browser does: with messages."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import time
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

#: Only a broken kernel takes so many seconds.
PATIENCE = 60.0

TEACHER = """
from workbench import models
from workbench.recipes import Shape
tokenizer = models.residue_tokenizer()
model = models.build_causal_lm(
    Shape(layers=1, heads=1, width=16, positions=128, vocabulary=len(tokenizer)),
    activation="gelu_pytorch_tanh", seed=0)
model.config.sequence_format = "plain"
with models.quiet_transformers():
    model.save_pretrained("teacher")
    tokenizer.save_pretrained("teacher")
"""
PANEL = """
from workbench.lab import RunPanel
panel = RunPanel("protgpt2-tiny", steps=1_000_000, teacher="teacher", train_sequences=64,
                 validation_sequences=16, checkpoint_every=1_000_000)
panel
"""
AT_A_SIGNAL = """
import faulthandler, os, signal, sys
faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)
os.getpid()
"""
THREADS = """
import threading
[t.name for t in threading.enumerate() if t.name.startswith("workbench")]
"""


class Page:
    """A front end without a browser: runs cells, keeps the state of every widget."""

    def __init__(self, manager: KernelManager) -> None:
        self.client = manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.widgets: dict[str, dict] = {}
        self.outputs: dict[str, list[str]] = {}
        self.results: dict[str, str] = {}
        self.finished: set[str] = set()
        self.subshell: str | None = None
        self.kernel = int(self.run(AT_A_SIGNAL))

    def use_subshell(self) -> None:
        """As JupyterLab does: messages of widgets go to a thread of their own."""
        message = self.client.session.msg("create_subshell_request")
        self.client.control_channel.send(message)
        reply = self.client.get_control_msg(timeout=PATIENCE)
        self.subshell = reply["content"]["subshell_id"]

    def run(self, code: str, cell: str = "elsewhere") -> str:
        """Run a cell to its end; its result as text."""
        cell_run = self.send(code, cell)
        self.until(lambda: cell_run in self.finished)
        assert "error" not in self.outputs, self.outputs["error"]
        return self.results.get(cell_run, "")

    def send(self, code: str, cell: str = "elsewhere") -> str:
        """Begin a cell and do not wait."""
        content = {
            "code": code, "silent": False, "store_history": False, "user_expressions": {},
            "allow_stdin": False, "stop_on_error": True,
        }  # fmt: skip
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell})
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def move(self, widget: str, **state: object) -> None:
        """What the user did to a widget."""
        self._tell(widget, {"method": "update", "state": state, "buffer_paths": []})

    def click(self, widget: str) -> None:
        """Press a button."""
        self._tell(widget, {"method": "custom", "content": {"event": "click"}})

    def find(self, **state: str) -> str:
        """The one open widget whose state contains these texts."""
        (found,) = [
            name
            for name, held in self.widgets.items()
            if all(text in str(held.get(key, "")) for key, text in state.items())
        ]
        return found

    def until(self, condition) -> None:
        """Read messages until something is so."""
        end = time.monotonic() + PATIENCE
        while not condition():
            try:
                self._read(self.client.get_iopub_msg(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                # The kernel's threads say on standard error where they stand.
                os.kill(self.kernel, signal.SIGUSR1)
                time.sleep(1.0)
                raise AssertionError(f"nothing came of it: {json.dumps(self.outputs)}") from None

    def _tell(self, widget: str, data: dict) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": widget, "data": data})
        if self.subshell:
            message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)

    def _read(self, message: dict) -> None:
        kind, content = message["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id", "")
        if kind == "comm_open":
            self.widgets[content["comm_id"]] = dict(content["data"]["state"])
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.widgets[content["comm_id"]].update(content["data"]["state"])
        elif kind == "comm_close":
            self.widgets.pop(content["comm_id"], None)
        elif kind == "status" and content["execution_state"] == "idle":
            self.finished.add(parent)
        elif kind == "execute_result":
            self.results[parent] = content["data"]["text/plain"]
        elif kind in ("stream", "display_data", "error"):
            self.outputs.setdefault(kind, []).append(str(content)[:2000])


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A fresh kernel of the interpreter that runs the tests, in a folder of its own."""
    specs = tmp_path / "kernels" / "this"
    specs.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "this", "language": "python"}
    (specs / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    finder = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])
    manager = KernelManager(kernel_name="this", kernel_spec_manager=finder)
    manager.start_kernel(cwd=str(tmp_path))
    page = Page(manager)
    try:
        yield page
    finally:
        page.client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


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
