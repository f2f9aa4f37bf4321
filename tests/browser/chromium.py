"""Find a Chromium for the browser tests, or install one.

    python tests/browser/chromium.py

In this order: one on the PATH; the one that Playwright installed before; Playwright's
download; Debian's package, which needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Seconds. A network that is not there takes minutes to be given up on.
DOWNLOAD_TIMEOUT, APT_TIMEOUT, START_TIMEOUT = 120, 600, 30


class NoBrowser(Exception):
    """There is no Chromium, and none can be installed; the message says what to do."""


def find() -> str | None:
    """Path of a Chromium that starts, None if there is none; installs nothing."""
    for path in [*map(shutil.which, ON_PATH), _of_playwright()]:
        if path and _starts(path):
            return path
    return None


def provide() -> str:
    """Path of a Chromium that starts, installed if need be; prints what it does.

    Raises:
        NoBrowser: if none can be had.
    """
    found = find()
    if found:
        return found
    failures = []
    for install in (_download, _install_package):
        failure = install()
        found = find()
        if found:
            return found
        failures.append(failure or "what was installed does not start")
        print(f"no browser from there: {failures[-1]}", flush=True)
    raise NoBrowser(
        "there is no Chromium for the browser tests: install chromium or google-chrome so that it "
        f"is on the PATH, then try again ({'; '.join(failures)})"
    )


def launch_options(path: str) -> dict:
    """What Playwright's ``chromium.launch`` takes: quiet, without traffic of its own."""
    arguments = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    if _is_root():
        arguments.append("--no-sandbox")  # Chromium's own does not work for root
    return {"executable_path": path, "args": arguments}


def _of_playwright() -> str | None:
    # In a process of its own: Playwright refuses to be started twice in one.
    code = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as playwright: print(playwright.chromium.executable_path)"
    )
    done = _run([sys.executable, "-c", code], timeout=START_TIMEOUT)
    path = done.stdout.strip()
    return path if done.returncode == 0 and Path(path).exists() else None


def _starts(path: str) -> bool:
    # Ubuntu's chromium-browser may be only a note that a snap is missing; a download
    # may lack libraries of the system.
    return _run([path, "--version"], timeout=START_TIMEOUT).returncode == 0


def _download() -> str | None:
    print("downloading Playwright's Chromium (playwright install chromium)", flush=True)
    done = _run(
        [sys.executable, "-m", "playwright", "install", "chromium"], timeout=DOWNLOAD_TIMEOUT
    )
    return _failure("Playwright's download", done)


def _install_package() -> str | None:
    if not shutil.which("apt-get"):
        return "this system has no apt-get for Debian's package"
    if not _is_root():
        return "only root can install Debian's package: sudo apt-get install chromium"
    print("installing Debian's package (apt-get install chromium)", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"],
    ):
        done = _run(command, timeout=APT_TIMEOUT, env=quiet)
        if done.returncode:
            return _failure(" ".join(command[:2]), done)
    return None


def _run(
    command: list[str], timeout: float, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
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


def _failure(what: str, done: subprocess.CompletedProcess[str]) -> str | None:
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    # The first line that says "error" tells more than the last, which is often a frame.
    told = next((line for line in lines if "error" in line.lower()), (lines or ["no output"])[-1])
    return f"{what} failed: {told[:160]}"


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


if __name__ == "__main__":
    try:
        print(provide())
    except NoBrowser as error:
        sys.exit(f"chromium.py: {error}")
