"""Find a Chromium, and start it without traffic of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Seconds to wait for a program that only says its version or a path.
START_TIMEOUT = 30


def find() -> str | None:
    """Path of a Chromium that starts, None if there is none; installs nothing.

    The first on the PATH, else the one that Playwright installed before.
    """
    for path in [*map(shutil.which, ON_PATH), _of_playwright()]:
        if path and _starts(path):
            return path
    return None


def launch_options(path: str) -> dict[str, Any]:
    """What Playwright's ``chromium.launch`` takes: quiet, without traffic of its own."""
    arguments = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    if is_root():
        arguments.append("--no-sandbox")  # Chromium's own does not work for root
    return {"executable_path": path, "args": arguments}


def is_root() -> bool:
    """Whether this is the administrator of a Unix system."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def run(
    command: list[str], timeout: float, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; one that cannot start or takes too long has failed like any other.

    Args:
        command: and its arguments.
        timeout: seconds.
        env: environment instead of this process's.

    Returns:
        Its status, and all that it printed as ``stdout``.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, f"gave up after {timeout:.0f} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 126, str(error))


def _of_playwright() -> str | None:
    # In a process of its own: Playwright refuses to be started twice in one.
    code = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as playwright: print(playwright.chromium.executable_path)"
    )
    done = run([sys.executable, "-c", code], timeout=START_TIMEOUT)
    path = done.stdout.strip()
    return path if done.returncode == 0 and Path(path).exists() else None


def _starts(path: str) -> bool:
    # Ubuntu's chromium-browser may be only a note that a snap is missing; a download
    # may lack libraries of the system.
    return run([path, "--version"], timeout=START_TIMEOUT).returncode == 0
