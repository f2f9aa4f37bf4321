"""A real kernel, spoken to as a browser does: with messages."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

#: The ipykernel of Python 3.10 in requirements.txt, and what it needs besides.
OLDER = ("ipykernel==6.31.0", "nest-asyncio==1.6.0")
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
AT_A_SIGNAL = """
import faulthandler, os, signal, sys
faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)
os.getpid()
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
        self.subshell = self._control("create_subshell_request")["subshell_id"]

    def leave_subshell(self) -> None:
        """As JupyterLab does when a page is closed."""
        self._control("delete_subshell_request", subshell_id=self.subshell)
        self.subshell = None

    def _control(self, kind: str, **content: object) -> dict:
        self.client.control_channel.send(self.client.session.msg(kind, content))
        reply = self.client.get_control_msg(timeout=PATIENCE)["content"]
        assert reply["status"] == "ok", reply
        return reply

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
        self.say(widget, event="click")

    def say(self, widget: str, **content: object) -> None:
        """A message of a widget's own."""
        self._tell(widget, {"method": "custom", "content": content})

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


@contextmanager
def _started(folder: Path, monkeypatch, *first: Path) -> Iterator[Page]:
    """A fresh kernel of the interpreter that runs the tests, which looks for modules here first."""
    specs = folder / "kernels" / "this"
    specs.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "this", "language": "python"}
    (specs / "kernel.json").write_text(json.dumps(spec))
    path = os.pathsep.join(map(str, (*first, Path(__file__).parents[2])))
    monkeypatch.setenv("WORKBENCH_CACHE", str(folder / "cache"))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    finder = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    manager = KernelManager(kernel_name="this", kernel_spec_manager=finder)
    manager.start_kernel(cwd=str(folder))
    page = Page(manager)
    try:
        yield page
    finally:
        page.client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A kernel of the installed ipykernel."""
    with _started(tmp_path, monkeypatch) as started:
        yield started


@pytest.fixture
def older_page(tmp_path, tmp_path_factory, monkeypatch):
    """A kernel of the last ipykernel without subshells, as many installations still have it."""
    place = tmp_path_factory.mktemp("ipykernel")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={place}")
    fetched = subprocess.run([*pip, *OLDER], capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"{OLDER[0]} cannot be had here: {fetched.stderr.strip()[-300:]}")
    with _started(tmp_path, monkeypatch, place) as started:
        yield started
