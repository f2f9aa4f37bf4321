"""A real Chromium on a real JupyterLab, which serves a copy of the notebooks.

    lab = lab_page("00_start_here.ipynb")
    lab.run_all()
    assert "oracle" in lab.output_text()
    assert lab.external_requests == []

A test fails by itself if the page threw an error that nothing caught. Screenshots go to
the directory in ``WORKBENCH_SCREENSHOTS``, where there is one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, WebSocket, sync_playwright

from workbench.bench import browser as browsers
from workbench.web import server

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 90  # s; for JupyterLab on a busy machine with cold files
#: What the page must show before it can be worked with, ms.
PAGE_TIMEOUT = 60_000

#: JavaScript: the numbers of the cells that have run, or null while anything is running.
NUMBERS = """() => {
  const notebook = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)');
  const status = notebook.querySelector('.jp-Notebook-ExecutionIndicator');
  const prompts = [...notebook.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
    .map(prompt => prompt.textContent);
  if (status?.getAttribute('data-status') !== 'idle' || prompts.some(p => p.includes('*')))
    return null;
  return prompts.filter(p => /\\d/.test(p)).map(p => Number(p.replace(/\\D/g, '')));
}"""
#: That many cells have a number above a given one.
ALL_RUN = (
    f"([cells, last]) => {{ const numbers = ({NUMBERS})(); "
    "return numbers !== null && numbers.filter(n => n > last).length >= cells; }"
)


@dataclass(frozen=True)
class Jupyter:
    """A running JupyterLab.

    Attributes:
        address: such as ``http://127.0.0.1:8888``.
        token: lets a browser in.
        notebooks: the directory that it serves; tests may put notebooks of their own there.
        complaints: what stood on standard error when the address was printed.
    """

    address: str
    token: str
    notebooks: Path
    complaints: str

    def url(self, notebook: str) -> str:
        """Address of a notebook in a workspace with nothing else open."""
        return f"{self.address}/lab/workspaces/test/tree/{notebook}?reset&token={self.token}"

    def request(self, method: str, path: str) -> list | dict | None:
        """Ask Jupyter's REST API; the parsed answer, None if it is empty."""
        request = urllib.request.Request(
            f"{self.address}/api/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def stop_kernels(self) -> None:
        """End every kernel, so that no test meets what another has left."""
        for session in self.request("GET", "sessions"):
            self.request("DELETE", f"sessions/{session['id']}")


class LabPage:
    """One notebook open in JupyterLab.

    Attributes:
        page: Playwright's page, for what is not here.
        external_requests: every address outside 127.0.0.1 that the page asked for.
        page_errors: JavaScript errors that nothing caught.
    """

    def __init__(self, page: Page, jupyter: Jupyter, notebook: str) -> None:
        self.page = page
        self.notebook = notebook
        self.file = jupyter.notebooks / notebook
        self.external_requests: list[str] = []
        self.page_errors: list[str] = []
        self._kernel_speaks = False
        page.set_default_timeout(PAGE_TIMEOUT)
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", self._listen)
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.goto(jupyter.url(notebook))
        self.cells.first.wait_for()
        self._wait_for_kernel()

    @property
    def panel(self) -> Locator:
        """The notebook with its toolbar."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    @property
    def cells(self) -> Locator:
        """All cells, in order."""
        return self.panel.locator(".jp-Notebook .jp-Cell")

    @property
    def outputs(self) -> Locator:
        """The output area of every code cell that has one."""
        return self.panel.locator(".jp-CodeCell .jp-OutputArea-output")

    def run_all(self, timeout: float = 300) -> None:
        """Press Run > Run All Cells, wait for the end, and check that no cell failed.

        Args:
            timeout: seconds until all cells have to have run.
        """
        last = max(self.page.evaluate(NUMBERS) or [0])
        self.press("Run", "Run All Cells")
        self.wait_until_run(timeout, after=last)
        self.assert_no_errors()

    def press(self, menu: str, item: str) -> None:
        """Choose an item of a menu of JupyterLab, by its whole label."""
        self.page.locator("#jp-MainMenu").get_by_text(menu, exact=True).click()
        self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()

    def wait_until_run(self, timeout: float = 300, after: int = 0) -> None:
        """Wait until the kernel is idle and each cell of the file has run.

        Args:
            timeout: in seconds.
            after: every cell's number has to be larger than this one.
        """
        cells = nbformat.read(self.file, as_version=4).cells
        code = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)
        self.page.wait_for_function(ALL_RUN, arg=[code, after], timeout=timeout * 1000, polling=200)

    def wait_for_text(self, text: str | re.Pattern[str], timeout: float = 30) -> None:
        """Wait until the outputs show a text; timeout in seconds."""
        self.outputs.filter(has_text=text).first.wait_for(timeout=timeout * 1000)

    def output_text(self) -> str:
        """What all outputs say, widgets included, a line an output."""
        return "\n".join(text.rstrip("\n") for text in self.outputs.all_inner_texts())

    def assert_no_errors(self) -> None:
        """No traceback, no widget that failed to load."""
        errors = self.panel.locator('[data-mime-type="application/vnd.jupyter.error"]')
        assert errors.all_inner_texts() == []
        stderr = self.panel.locator('[data-mime-type="application/vnd.jupyter.stderr"]')
        assert [text for text in stderr.all_inner_texts() if "Traceback" in text] == []
        broken = re.compile(r"Error displaying widget|Failed to load model|Loading widget\.\.\.")
        assert self.outputs.filter(has_text=broken).all_inner_texts() == []

    def screenshot(self, name: str) -> Path | None:
        """Picture of the whole notebook, where ``WORKBENCH_SCREENSHOTS`` names a directory."""
        directory = os.environ.get("WORKBENCH_SCREENSHOTS")
        if not directory:
            return None
        path = Path(directory) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # The notebook scrolls inside the page, so the window is made as long as it is.
        size = self.page.viewport_size
        scrolling = self.panel.locator(".jp-WindowedPanel-outer")
        height = scrolling.evaluate("e => e.scrollHeight")
        self.page.set_viewport_size({**size, "height": min(int(height) + 150, 16_000)})
        # Run All has left the view at the last cell.
        scrolling.evaluate("e => { e.scrollTop = 0; }")
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=path)
        self.page.set_viewport_size(size)
        return path

    def _wait_for_kernel(self) -> None:
        # Run All pressed too early asks which kernel to take, or does nothing. The indicator
        # says "idle" before there is a kernel too, so it counts from the kernel's first word.
        deadline = time.monotonic() + PAGE_TIMEOUT / 1000
        while not self._kernel_speaks:
            assert time.monotonic() < deadline, f"no kernel for {self.notebook}"
            self.page.wait_for_timeout(50)
        self.panel.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()

    def _listen(self, socket: WebSocket) -> None:
        self._note(socket.url)
        if "/channels" in socket.url:
            socket.on("framereceived", lambda _: setattr(self, "_kernel_speaks", True))

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.external_requests.append(url)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser; `tests/browser/chromium.py` installs one."""
    path = browsers.find()
    if path is None:
        pytest.fail("there is no Chromium; run: python tests/browser/chromium.py")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**browsers.launch_options(path))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory) -> Iterator[Jupyter]:
    """JupyterLab as `workbench lab` starts it, on a copy of the notebooks."""
    home = tmp_path_factory.mktemp("jupyter")
    notebooks = home / "notebooks"
    shutil.copytree(
        ROOT / "notebooks",
        notebooks,
        ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"),
    )
    command = [sys.executable, "-m", "workbench", "lab", "--no-open", "--port", "0"]
    log = home / "jupyter.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--notebooks", str(notebooks)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=home,
            env=_environment(home),
        )
    try:
        yield _when_ready(process, notebooks, log)
    finally:
        _end(process)


@pytest.fixture
def lab_page(chromium: Browser, jupyter: Jupyter):
    """Opens a notebook by its name: ``lab_page("00_start_here.ipynb")`` is a `LabPage`.

    ``lab_page("04_protgpt2.ipynb", STEPS=300)`` first changes the cell ``STEPS = …``.
    """
    opened: list[LabPage] = []
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})

    def open_notebook(notebook: str, **numbers: int) -> LabPage:
        set_numbers(jupyter.notebooks / notebook, numbers)
        opened.append(LabPage(context.new_page(), jupyter, notebook))
        return opened[-1]

    yield open_notebook
    context.close()
    jupyter.stop_kernels()
    assert [error for lab in opened for error in lab.page_errors] == []


class VoilaPage:
    """One notebook as Voilà shows it: run, and without its code.

    Attributes:
        page: Playwright's page.
        external_requests: every address outside 127.0.0.1 that the page asked for; none was
            let through.
        page_errors: JavaScript errors that nothing caught.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.external_requests: list[str] = []
        self.page_errors: list[str] = []
        page.set_default_timeout(PAGE_TIMEOUT)
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.route(re.compile("^(?!data:|blob:)"), self._only_here)
        page.goto(address)

    def _only_here(self, route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            self.external_requests.append(route.request.url)
            route.abort()


@pytest.fixture
def voila(chromium: Browser, tmp_path: Path):
    """Opens a notebook of ``tmp_path`` by its name: ``voila("demo.ipynb")`` is a `VoilaPage`.

    Voilà on a free port of 127.0.0.1, with a token of its own; the page reaches nothing else.
    """
    home = tmp_path / "voila-home"
    home.mkdir()
    token = secrets.token_hex(16)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", str(tmp_path), "--no-browser", f"--port={port}"]
    environment = _environment(home)
    server.prefer_this_environment(environment)
    log = home / "voila.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--Voila.ip=127.0.0.1", f"--token={token}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            cwd=home,
            env=environment,
        )
    opened: list[VoilaPage] = []
    context = chromium.new_context(viewport={"width": 1200, "height": 1000})

    def open_notebook(notebook: str) -> VoilaPage:
        address = f"http://127.0.0.1:{port}/voila/render/{notebook}?token={token}"
        _wait_for_answer(f"http://127.0.0.1:{port}/", process, log)
        opened.append(VoilaPage(context.new_page(), address))
        return opened[-1]

    try:
        yield open_notebook
    finally:
        context.close()
        _end(process)
    assert [error for page in opened for error in page.page_errors] == []


@dataclass(frozen=True)
class Show:
    """A running `workbench show`.

    Attributes:
        url: what it printed, with the token.
        process: the server; kernels are its children.
        temporary: the directory for its temporary files.
    """

    url: str
    process: subprocess.Popen[str]
    temporary: Path

    def kernels(self) -> list[psutil.Process]:
        """The processes of the visitors' kernels."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())]


@pytest.fixture(scope="session")
def show(tmp_path_factory):
    """Starts `workbench show` with these arguments, on a free port."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> Show:
        home = tmp_path_factory.mktemp("show")
        temporary = home / "tmp"
        temporary.mkdir()
        log = home / "show.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "workbench", "show", "--no-open", "--port=0", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=home,
                env={**_environment(home), "TMPDIR": str(temporary)},
            )
        started.append(process)
        return Show(_address(process, "workbench show", log), process, temporary)

    yield start
    for process in started:
        _end(process)


def _wait_for_answer(address: str, process: subprocess.Popen[str], log: Path) -> None:
    """Until a server says anything at all, were it that a token is missing."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"Voilà did not start:\n{log.read_text()[-2000:]}")


def set_numbers(notebook: Path, numbers: dict[str, int]) -> None:
    """Give other values to names that a notebook sets to a number, each in one place."""
    if not numbers:
        return
    text = notebook.read_text(encoding="utf-8")
    for name, number in numbers.items():
        text, found = re.subn(rf"(?<=\b{name} = )\d+", str(number), text)
        assert found == 1, f"{notebook.name} sets {name} {found} times"
    notebook.write_text(text, encoding="utf-8")


def _environment(home: Path) -> dict[str, str]:
    """Settings of their own, so that neither the user's nor a former run's count."""
    # JupyterLab takes cells that cannot be seen out of the page; tests want them all.
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
    }


def _when_ready(process: subprocess.Popen[str], notebooks: Path, log: Path) -> Jupyter:
    url = urlsplit(_address(process, "JupyterLab", log))
    token = parse_qs(url.query)["token"][0]
    server = Jupyter(f"http://{url.netloc}", token, notebooks, log.read_text())
    server.request("GET", "status")  # an address that is printed can be opened
    return server


def _address(process: subprocess.Popen[str], what: str, log: Path) -> str:
    """The first address that a process prints."""
    # A server that hangs is killed, which ends its output and so the loop.
    clock = threading.Timer(START_TIMEOUT, process.kill)
    clock.start()
    try:
        for line in process.stdout:
            found = re.search(r"http://\S+", line)
            if found:
                return found.group()
    finally:
        clock.cancel()
    pytest.fail(f"{what} did not start:\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[str]) -> None:
    # Kernels lead sessions of their own; they are found now, while they have a parent.
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    # The server ends its kernels itself, if it can.
    for survivor in psutil.wait_procs(family, timeout=10)[1]:
        survivor.kill()
    if process.poll() is None:
        process.kill()
    process.wait(timeout=10)
    if process.stdout is not None:
        process.stdout.close()
