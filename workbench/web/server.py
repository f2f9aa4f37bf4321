"""JupyterLab on the notebooks, for this machine alone and with nothing fetched from elsewhere.

The server runs in this very process, so the kernels that it starts are this Python
with these packages, whatever other environments the machine has.
"""

from __future__ import annotations

import os
import secrets
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.errors import UsageError, WorkbenchError

ADDRESS = "127.0.0.1"
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FIRST_NOTEBOOK = "00_start_here.ipynb"
KERNEL = "python3"
ANNOUNCEMENTS = "@jupyterlab/apputils-extension:announcements"


def jupyter_lab(port: int, open_browser: bool, notebooks: str | Path | None = None) -> int:
    """Serve JupyterLab until Ctrl-C; print its address, with the token, on standard output.

    Args:
        port: on 127.0.0.1; the next free one if it is taken, any free one if 0.
        open_browser: whether to open the address in the user's browser.
        notebooks: directory to serve; by default the notebooks of the course.

    Returns:
        0 after Ctrl-C or a shutdown from the menu.

    Raises:
        UsageError: if the port is outside 0 to 65535.
        WorkbenchError: if JupyterLab or the notebooks are missing, or if the kernel
            would be another Python.
    """
    check_port(port)
    directory = _directory(notebooks)
    if find_spec("jupyterlab") is None:
        raise WorkbenchError(
            f"JupyterLab is not installed for {sys.executable}; "
            "run: python -m pip install -r requirements.txt -e ."
        )
    prefer_this_environment(os.environ)
    check_kernel()

    from jupyterlab.labapp import LabApp

    _quieten()
    token = secrets.token_hex(24)
    opened = f"/lab/tree/{FIRST_NOTEBOOK}" if (directory / FIRST_NOTEBOOK).exists() else "/lab"
    server = LabApp.initialize_server(_options(directory, port, token, opened, open_browser))
    server.web_app.settings["page_config_hook"] = _without_announcements
    if port not in (0, server.port):
        print(f"port {port} is taken; using {server.port}", flush=True)
    address = f"{server.connection_url.rstrip('/')}{opened}?token={token}"
    said = f"JupyterLab is at {address}\nCtrl-C here stops it"
    # The loop binds the port first, so whoever reads the address can open it.
    server.io_loop.add_callback(lambda: print(said, flush=True))
    server.start()
    return 0


def check_port(port: int) -> None:
    """UsageError if there is no such port."""
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port} is not between 0 and 65535")


def prefer_this_environment(variables) -> None:
    """Put this environment's kernels, settings and programs before all others.

    Args:
        variables: the environment to change, such as ``os.environ``.
    """
    variables["JUPYTER_PREFER_ENV_PATH"] = "1"
    ours = {
        "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
        # so that `!workbench …` and `!python …` in a cell mean this environment's
        "PATH": str(Path(sys.executable).parent),
    }
    for name, place in ours.items():
        others = [p for p in variables.get(name, "").split(os.pathsep) if p and p != place]
        variables[name] = os.pathsep.join([place, *others])


def check_kernel() -> list[str]:
    """The command that starts the notebooks' kernel, ``[python, arguments…]``.

    Raises:
        WorkbenchError: if ipykernel is missing or the command is another Python's.
    """
    if find_spec("ipykernel") is None:
        raise WorkbenchError(
            f"ipykernel is not installed for {sys.executable}; "
            "run: python -m pip install -r requirements.txt -e ."
        )
    from jupyter_client.kernelspec import KernelSpecManager

    command = KernelSpecManager().get_kernel_spec(KERNEL).argv
    # Jupyter itself replaces a bare "python" by the interpreter that the server runs on.
    bare = {"python", "python3", f"python{sys.version_info.major}.{sys.version_info.minor}"}
    if command[0] not in bare and not _same_file(command[0], sys.executable):
        raise WorkbenchError(
            f"the notebooks' kernel would run {command[0]}, which is not {sys.executable}; "
            "run: python -m ipykernel install --sys-prefix"
        )
    return command


def _directory(notebooks: str | Path | None) -> Path:
    directory = Path(notebooks) if notebooks is not None else NOTEBOOKS
    if not directory.is_dir():
        raise WorkbenchError(f"there is no directory of notebooks at {directory}")
    if notebooks is None and not (directory / FIRST_NOTEBOOK).exists():
        raise WorkbenchError(
            f"{directory / FIRST_NOTEBOOK} is missing; install the workbench from a full clone "
            "(pip install -e .), its notebooks/ folder is the course"
        )
    return directory.resolve()


def _options(directory: Path, port: int, token: str, opened: str, open_browser: bool) -> list[str]:
    options = {
        "ServerApp.ip": ADDRESS,
        "ServerApp.port": port,
        "ServerApp.base_url": "/",
        "ServerApp.root_dir": directory,
        "ServerApp.open_browser": open_browser,
        "ServerApp.answer_yes": True,  # Ctrl-C stops at once
        "Application.log_level": "WARN",
        "IdentityProvider.token": token,
        "LabApp.default_url": opened,
        "LabApp.extension_manager": "readonly",  # looks for nothing on the network
    }
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options["ServerApp.allow_root"] = True
    return [f"--{name}={value}" for name, value in options.items()]


def _quieten() -> None:
    """Keep warnings that concern no user away from the terminal's first lines.

    Voilà, which the server imports as an extension, has all deprecations in traitlets shown from
    then on. Imported here, what it changes in the filters is taken back.
    """
    if find_spec("voila") is not None:
        with warnings.catch_warnings(record=True):
            import voila  # noqa: F401


def _without_announcements(_handler, page_config: dict[str, Any]) -> dict[str, Any]:
    """Leave out the plugin that asks about news, and then looks for news and new versions."""
    disabled = [*page_config.get("disabledExtensions", []), ANNOUNCEMENTS]
    return {**page_config, "disabledExtensions": disabled}


def _same_file(one: str, other: str) -> bool:
    # Not resolved: in every .venv, python is a link to the same system Python.
    return Path(os.path.abspath(one)).parent == Path(os.path.abspath(other)).parent
