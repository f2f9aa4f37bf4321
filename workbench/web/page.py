"""`workbench show`: a live panel as a web page, for a class.

Voilà runs in this very process, so the visitors' kernels are this Python with these
packages. The page is for this machine alone unless another address is given, and
always asks for a token.
"""

from __future__ import annotations

import html
import ipaddress
import math
import os
import secrets
import socket
import sys
import tempfile
import webbrowser
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from workbench import recipes, run_directory
from workbench.errors import UsageError, WorkbenchError
from workbench.web import server

PORT = 8866
#: Ports that are tried, one after the other, where the first is taken.
PORTS_TRIED = 50
VISITORS, MOST_VISITORS = 12, 500
IDLE_MINUTES, LONGEST_IDLE_MINUTES = 15.0, 24 * 60.0


@dataclass(frozen=True)
class Options:
    """How the page is served.

    Attributes:
        port: the next free one if it is taken, any free one if 0.
        address: to listen on; anything but this machine's own lets others in.
        visitors: at most so many at a time, each with a kernel of their own.
        idle: minutes without anything happening until a visitor's kernel is closed.
        open_browser: whether to open the page in the user's browser.

    Raises:
        UsageError: naming the first value that is out of range.
    """

    port: int = PORT
    address: str = server.ADDRESS
    visitors: int = VISITORS
    idle: float = IDLE_MINUTES
    open_browser: bool = True

    def __post_init__(self) -> None:
        server.check_port(self.port)
        if not self.address.strip():
            raise UsageError("the address is empty; expected one such as 127.0.0.1 or 0.0.0.0")
        if not 1 <= self.visitors <= MOST_VISITORS:
            raise UsageError(f"visitors is {self.visitors}; expected 1 to {MOST_VISITORS}")
        if not (math.isfinite(self.idle) and 0 < self.idle <= LONGEST_IDLE_MINUTES):
            raise UsageError(
                f"idle is {self.idle:g} minutes; expected more than 0, at most "
                f"{LONGEST_IDLE_MINUTES:g}"
            )

    @property
    def only_here(self) -> bool:
        """Whether nobody but this machine can open the page."""
        if self.address == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False  # another name


def show(name: str, options: Options) -> int:
    """Serve the page until Ctrl-C; print its address, with the token, on standard output.

    Args:
        name: a recipe's name, a permalink such as ``protgpt2-tiny;T=4``, or a run directory.
        options: how to serve it.

    Returns:
        0 after Ctrl-C.

    Raises:
        UsageError: if there is no such recipe or run, or a setting is out of range.
        WorkbenchError: if Voilà is missing, the kernel would be another Python, or nothing
            can listen on the address.
    """
    if find_spec("voila") is None:
        raise WorkbenchError(
            f"Voilà is not installed for {sys.executable}; "
            "run: python -m pip install -r requirements.txt -e ."
        )
    shown = resolve(name)
    server.prefer_this_environment(os.environ)
    server.check_kernel()

    from workbench.web import visitors

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workbench-show-")))
        sockets = _listen(options.address, options.port)
        for one in sockets:
            stack.callback(one.close)
        port = sockets[0].getsockname()[1]
        token = secrets.token_hex(24)
        if options.port not in (0, port):
            print(f"port {options.port} is taken; using {port}", flush=True)
        url = f"http://{_host(options.address)}:{port}/?token={token}"

        def announce() -> None:
            print(_announcement(url, options), flush=True)
            if options.open_browser:
                _open(url, directory)

        visitors.serve(
            write_notebook(directory, name, shown), sockets, token,
            most=options.visitors, idle=options.idle * 60, only_here=options.only_here,
            when_ready=announce,
        )  # fmt: skip
    return 0


def resolve(name: str) -> str:
    """What the page's cell is to show: a run's absolute path, or the recipe or permalink itself.

    Raises:
        UsageError: if it is none of them, or the run cannot be read.
    """
    from workbench.lab.live import knobs

    is_link = ";" in name or name in recipes.names()
    if not is_link and (Path(name).exists() or os.sep in name):
        directory = Path(name).resolve()
        try:
            run_directory.load_config(run_directory.RunDirectory(directory))
        except WorkbenchError as error:
            raise UsageError(str(error)) from error
        return str(directory)
    knobs.read(name)
    return name


def write_notebook(directory: Path, name: str, shown: str) -> Path:
    """Write the notebook of one cell that every visitor's kernel runs.

    Args:
        directory: to put it in.
        name: for the page's title.
        shown: see `resolve`.
    """
    import nbformat

    cell = nbformat.v4.new_code_cell(f"from workbench.lab.live import page\npage.show({shown!r})")
    kernel = {"name": server.KERNEL, "display_name": "Python 3", "language": "python"}
    title = f"Distillation workbench: {Path(name).name if Path(shown).is_absolute() else name}"
    metadata = {"kernelspec": kernel, "title": title}
    path = directory / "page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), path)
    return path


def _listen(address: str, port: int) -> list[socket.socket]:
    """Sockets on the port, or on the next free one."""
    import errno

    from tornado.netutil import bind_sockets

    tried = [0] if port == 0 else range(port, min(port + PORTS_TRIED, 65536))
    for candidate in tried:
        try:
            return bind_sockets(candidate, address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or error
                raise WorkbenchError(f"cannot listen on {address}:{candidate}: {reason}") from error
    raise WorkbenchError(
        f"the ports {tried[0]} to {tried[-1]} on {address} are all taken; choose one with --port, "
        "or --port 0 for any"
    )


def _host(address: str) -> str:
    """How a browser names the address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if ip.is_unspecified:
        return socket.gethostname()
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _announcement(url: str, options: Options) -> str:
    lines = [f"The page is at {url}"]
    if not options.only_here:
        lines.append(
            "Others on the network can open it with this address, token included; nothing on the "
            "way is encrypted."
        )
    lines.append(
        f"At most {options.visitors} visitors at a time; a kernel that is idle for "
        f"{options.idle:g} min is closed. Visitors' runs are not kept. Ctrl-C here stops it"
    )
    return "\n".join(lines)


def _open(url: str, directory: Path) -> None:
    # By way of a file that only this user can read: a browser's arguments, and so the token,
    # would be seen by every user of the machine.
    path = directory / "open.html"
    path.touch(mode=0o600)
    path.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">')
    if not webbrowser.open(path.as_uri()):
        print("no browser could be opened; open the address yourself", file=sys.stderr, flush=True)
