"""`workbench show` without a browser: what it takes, what it refuses, who finds a place."""

from __future__ import annotations

import ast
import asyncio
import re
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

import nbformat
import pytest
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from typer.testing import CliRunner

from workbench import cli, recipes, run_directory, storage
from workbench.config import RunConfig
from workbench.errors import UsageError, WorkbenchError
from workbench.lab import Lab
from workbench.lab.live import page as shown_page
from workbench.web import page, visitors

HOSTILE = "<img src=x onerror=alert(1)>"
PATIENCE = 30.0  # s; only something broken takes that long


def run(*arguments: str):
    return CliRunner().invoke(cli.app, ["show", *arguments])


@pytest.fixture
def served(monkeypatch):
    """Takes Voilà's place: keeps what it was given, and says that the page is ready."""
    calls = []

    def serve(notebook, sockets, token, *, when_ready, **options):
        cell = nbformat.read(notebook, as_version=4).cells[0].source
        call = {"notebook": notebook, "sockets": sockets, "token": token, "cell": cell, **options}
        call["names"] = [one.getsockname() for one in sockets]
        calls.append(call)
        when_ready()

    monkeypatch.setattr(visitors, "serve", serve)
    return calls


@pytest.fixture
def directory(tmp_path) -> Path:
    """A run directory as far as its configuration goes."""
    config = RunConfig.from_recipe(
        "distilbert-pmhc", temperature=3, alpha=0.25, steps=77, variant="as-coded", seed=5
    )
    path = tmp_path / "my run"
    path.mkdir()
    storage.write_json(run_directory.RunDirectory(path).config, run_directory.described(config))
    return path


# ---------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "there is no recipe 'nosuch'"),
        (["no/such/run"], "there is no run directory"),
        (["protgpt2-tiny;T=0.1"], "slider goes from 0.25 to 50"),
        (["protgpt2-tiny;T=nan"], "nan"),
        (["protgpt2-tiny;alpha=2"], "alpha"),
        (["protgpt2-tiny;T=warm"], "T is 'warm'; expected a number"),
        (["protgpt2-tiny;T=4;T=5"], "T is given twice"),
        (["protgpt2-tiny;beta=1"], "'beta=1' is no setting"),
        (["protgpt2-tiny;variant=nosuch"], "nosuch"),
        (["protgpt2-tiny;steps=0"], "steps is 0"),
        (["--port", "70000"], "port 70000 is not between"),
        (["--address", " "], "the address is empty"),
        (["--visitors", "0"], "visitors is 0; expected 1 to"),
        (["--visitors", "501"], "visitors is 501"),
        (["--idle", "0"], "idle is 0 minutes"),
        (["--idle", "nan"], "idle is nan minutes"),
        (["--idle", "1441"], "idle is 1441 minutes"),
    ],
)
def test_wrong_usage_is_one_line_and_starts_nothing(served, arguments, said):
    with pytest.raises(UsageError, match=re.escape(said)) as told:
        raise run(*arguments, "--no-open").exception
    assert "\n" not in str(told.value)
    assert served == []


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        page.resolve(str(tmp_path))


def test_an_address_of_another_machine(served):
    with pytest.raises(WorkbenchError, match=r"cannot listen on 192\.0\.2\.1:0"):
        page.show("protgpt2-tiny", page.Options(port=0, address="192.0.2.1"))
    assert served == []


def test_without_voila(monkeypatch):
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    with pytest.raises(WorkbenchError, match="Voilà is not installed"):
        page.show("protgpt2-tiny", page.Options())


def test_ports_that_are_taken(served, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = page.Options(port=port, open_browser=False)
        page.show("protgpt2-tiny", options)
        assert port < served[0]["names"][0][1] < port + page.PORTS_TRIED
        assert f"port {port} is taken; using {served[0]['names'][0][1]}" in capsys.readouterr().out
        monkeypatch.setattr(page, "PORTS_TRIED", 1)
        with pytest.raises(WorkbenchError, match="are all taken"):
            page.show("protgpt2-tiny", options)


# ---------------------------------------------------------------------- what it serves


def test_the_address_has_a_token_of_its_own_and_nothing_is_left(served, capsys):
    for _ in range(2):
        assert run("--no-open", "--port", "0", "--visitors", "3", "--idle", "2").exit_code == 0
    first, second = served
    assert first["token"] != second["token"] and re.fullmatch("[0-9a-f]{48}", first["token"])
    assert (first["most"], first["idle"], first["only_here"]) == (3, 120, True)
    assert [name[0] for name in first["names"]] == ["127.0.0.1"]
    assert not first["notebook"].parent.exists()
    assert all(one.fileno() == -1 for one in first["sockets"])


def test_what_is_printed(served, capsys):
    page.show("protgpt2-tiny", page.Options(port=0, open_browser=False))
    out = capsys.readouterr().out
    port, token = served[0]["names"][0][1], served[0]["token"]
    assert out.splitlines()[0] == f"The page is at http://127.0.0.1:{port}/?token={token}"
    assert "At most 12 visitors" in out and "15 min" in out and "network" not in out

    page.show("protgpt2-tiny", page.Options(port=0, address="0.0.0.0", open_browser=False))
    out = capsys.readouterr().out
    assert f"http://{socket.gethostname()}:" in out.splitlines()[0]
    assert "Others on the network can open it" in out and "token" in out.splitlines()[1]
    assert served[1]["only_here"] is False


@pytest.mark.parametrize(
    ("address", "only_here"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.0.7", False), ("localhost.example", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine_alone(address, only_here):
    assert page.Options(address=address).only_here is only_here


def test_an_ipv6_address_in_a_url():
    assert page._host("::1") == "[::1]"


def test_the_browser_is_opened_without_the_token_in_its_arguments(served, monkeypatch):
    opened = []

    def open_browser(uri: str) -> bool:
        path = Path(url2pathname(urlsplit(uri).path))
        opened.append((uri, path.read_text(), stat.S_IMODE(path.stat().st_mode)))
        return True

    monkeypatch.setattr(page.webbrowser, "open", open_browser)
    page.show("protgpt2-tiny", page.Options(port=0))
    (uri, content, mode) = opened[0]
    assert served[0]["token"] not in unquote(uri)
    assert served[0]["token"] in content and mode == 0o600


@pytest.mark.parametrize("name", [*recipes.names(), "protgpt2-tiny;T=4;alpha=0.5"])
def test_a_recipe_or_link_is_shown_as_it_is(name):
    assert page.resolve(name) == name


def test_a_run_is_shown_by_its_absolute_path(directory, monkeypatch, served):
    monkeypatch.chdir(directory.parent)
    assert page.resolve(directory.name) == str(directory)
    page.show(directory.name, page.Options(port=0, open_browser=False))
    assert repr(str(directory)) in served[0]["cell"]


def test_a_name_stays_a_name(tmp_path):
    hostile = '\'); import os  #\n"""'
    path = page.write_notebook(tmp_path, hostile, hostile)
    notebook = nbformat.read(path, as_version=4)
    statements = ast.parse(notebook.cells[0].source).body
    assert len(statements) == 2
    assert statements[1].value.args[0].value == hostile
    assert notebook.metadata.title == f"Distillation workbench: {hostile}"


# ---------------------------------------------------------------------- what the page's cell does


@pytest.fixture
def displayed(monkeypatch):
    """What `page.show` displays for a query string."""

    def show(text: str, query: str = ""):
        found = []
        monkeypatch.setenv("QUERY_STRING", query)
        monkeypatch.setattr(shown_page, "display", found.append)
        shown_page.show(text)
        (one,) = found
        if isinstance(one, Lab):
            one.close()
        return one

    return show


def temperature(panel: Lab) -> float:
    return panel.settings.values()["temperature"]


def test_the_panel_of_a_link(displayed):
    panel = displayed("protgpt2-tiny;T=4;alpha=0.5;variant=as-published;seed=3;steps=20")
    now = SimpleNamespace(**panel.settings.values())
    assert (panel.settings.recipe, now.temperature, now.alpha) == ("protgpt2-tiny", 4, 0.5)
    assert (now.variant, now.seed, now.steps) == ("as-published", 3, 20)


def test_the_panel_of_a_run(displayed, directory):
    panel = displayed(str(directory))
    now = SimpleNamespace(**panel.settings.values())
    assert (panel.settings.recipe, now.temperature, now.alpha) == ("distilbert-pmhc", 3, 0.25)
    assert (now.variant, now.seed, now.steps) == ("as-coded", 5, 77)


def test_a_visitor_may_ask_for_other_settings(displayed):
    query = "token=abc&link=" + quote("distilbert-pmhc;T=2")
    panel = displayed("protgpt2-tiny;T=4", query)
    assert (panel.settings.recipe, temperature(panel)) == ("distilbert-pmhc", 2)
    # A semicolon need not be quoted.
    assert temperature(displayed("protgpt2-tiny", "link=protgpt2-small;T=5")) == 5
    assert temperature(displayed("protgpt2-tiny;T=4", "token=abc&theme=dark")) == 4


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("link=nosuch", "there is no recipe"),
        ("link=", "there is no recipe"),
        ("link=protgpt2-tiny&link=protgpt2-tiny", "more than one link"),
        ("link=" + "x" * 501, "the link has 501 characters"),
        ("link=protgpt2-tiny;T=900", "slider goes from 0.25 to 50"),
    ],
)
def test_a_wrong_link_is_a_sentence(displayed, query, said):
    assert said in displayed("protgpt2-tiny", query).data


def test_a_hostile_link_is_text(displayed):
    data = displayed("protgpt2-tiny", f"link={quote(HOSTILE)}").data
    assert "<img" not in data and "&lt;img" in data


def test_a_visitor_opens_no_directory(displayed, directory):
    said = displayed("protgpt2-tiny", f"link={quote(str(directory))}").data
    assert "there is no recipe" in said


# ---------------------------------------------------------------------- who finds a place


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    """`VisitorKernels` for two, whose kernels are names: they start once ``go`` is set."""
    ended: list[str] = []

    async def start(self, *, kernel_id, path, **_):
        assert (tmp_path / path).is_dir()
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        self._kernel_connections[kernel_id] = 0
        self._kernels[kernel_id] = SimpleNamespace(last_activity=None)
        return kernel_id

    async def shutdown(self, kernel_id, now=False, restart=False):
        assert now
        ended.append(kernel_id)
        await self.gone.wait()
        self.remove_kernel(kernel_id)
        self.last.set()

    monkeypatch.setattr(AsyncMappingKernelManager, "start_kernel", start)
    monkeypatch.setattr(AsyncMappingKernelManager, "shutdown_kernel", shutdown)

    def make(**options):
        manager = visitors.VisitorKernels(root_dir=str(tmp_path), visitors=2, **options)
        manager.go, manager.gone, manager.last = asyncio.Event(), asyncio.Event(), asyncio.Event()
        manager.failure, manager.ended = None, ended
        manager.go.set()
        manager.gone.set()
        return manager

    return make


def play(scenario) -> None:
    """Run it to its end, which is now unless something is broken."""
    asyncio.run(asyncio.wait_for(scenario, PATIENCE))


def test_one_too_many_is_told_at_once(kernels):
    async def scenario():
        manager = kernels()
        manager.go.clear()
        starting = [asyncio.create_task(manager.start_kernel()) for _ in range(2)]
        await asyncio.sleep(0)
        # None has started yet, and both places are taken all the same.
        with pytest.raises(visitors.Full):
            await manager.start_kernel()
        manager.go.set()
        first, second = await asyncio.gather(*starting)
        assert first != second
        with pytest.raises(visitors.Full):
            await manager.start_kernel()
        assert len(manager.list_kernel_ids()) == 2

    play(scenario())


def test_a_visitor_who_leaves_makes_room_at_once(kernels, tmp_path):
    async def scenario():
        manager = kernels()
        first, _ = [await manager.start_kernel() for _ in range(2)]
        manager.gone.clear()
        leaving = asyncio.create_task(manager.shutdown_kernel(first))
        await asyncio.sleep(0)
        # A page that is loaded again finds its own place, though the old kernel still ends.
        third = await manager.start_kernel()
        await manager.shutdown_kernel(first)  # said twice
        manager.gone.set()
        await leaving
        assert manager.ended == [first]
        assert not (tmp_path / first).exists() and (tmp_path / third).is_dir()

    play(scenario())


def test_a_visitor_who_leaves_before_the_kernel_has_started(kernels):
    async def scenario():
        manager = kernels()
        manager.go.clear()
        page = SimpleNamespace(kernel_id=None)
        visitors.PAGE.set(page)
        starting = asyncio.create_task(manager.start_kernel())
        await asyncio.sleep(0)
        await manager.shutdown_kernel(page.kernel_id)
        assert manager.ended == []
        manager.go.set()
        with pytest.raises(visitors.Left):
            await starting
        assert manager.ended == [page.kernel_id]
        assert manager.list_kernel_ids() == []

    play(scenario())


def test_a_kernel_that_did_not_start_holds_no_place(kernels):
    async def scenario():
        manager = kernels()
        manager.failure = RuntimeError("no memory")
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await manager.start_kernel()
        manager.failure = None
        await manager.start_kernel()

    play(scenario())


def test_a_kernel_that_died_holds_no_place(kernels):
    async def scenario():
        manager = kernels()
        for _ in range(3):
            manager.remove_kernel(await manager.start_kernel())
        assert manager.ended == []

    play(scenario())


def test_a_lost_browser_is_waited_for_and_then_not(kernels):
    async def scenario():
        manager = kernels(patience=0.0)
        first, second = [await manager.start_kernel() for _ in range(2)]
        for kernel_id in (first, second):
            manager.notify_connect(kernel_id)
            manager.notify_disconnect(kernel_id)
        manager.notify_connect(first)  # and is back
        await manager.last.wait()
        assert manager.ended == [second]
        manager.last.clear()
        manager.notify_disconnect(first)
        await manager.last.wait()
        assert manager.ended == [second, first]

    play(scenario())


def test_a_kernel_that_no_browser_ever_reached_ends(kernels, monkeypatch):
    monkeypatch.setattr(visitors, "START_TIMEOUT", 0)

    async def scenario():
        manager = kernels()
        await manager.start_kernel()
        await manager.last.wait()

    play(scenario())


def test_a_kernel_that_works_is_not_idle(kernels, monkeypatch):
    looked_at = []
    monkeypatch.setattr(
        AsyncMappingKernelManager, "cull_kernel_if_idle", lambda self, id_: _note(looked_at, id_)
    )

    async def scenario():
        manager = kernels()
        working, waiting = [await manager.start_kernel() for _ in range(2)]
        await manager.cull_kernel_if_idle(working)
        assert looked_at == []  # no browser yet
        for kernel_id in (working, waiting):
            manager.notify_connect(kernel_id)
            manager._kernels[kernel_id].last_activity = None
        for now, used in (
            (100.0, {working: 5.0, waiting: 5.0}),
            (130.0, {working: 6.0, waiting: 5.3}),
        ):
            monkeypatch.setattr(visitors, "monotonic", lambda now=now: now)
            monkeypatch.setattr(manager, "_cpu_seconds", used.get)
            for kernel_id in (working, waiting):
                await manager.cull_kernel_if_idle(kernel_id)
        assert manager._kernels[working].last_activity is not None
        assert manager._kernels[waiting].last_activity is None
        assert looked_at == [working, waiting] * 2

    play(scenario())


async def _note(notes: list, value) -> None:
    notes.append(value)


def test_there_is_no_form_for_a_password():
    assert visitors.TokenOnly(token="x").get_handlers() == []


def test_no_template_names_another_machine():
    for path in visitors.TEMPLATES.iterdir():
        assert "://" not in path.read_text(encoding="utf-8"), path
