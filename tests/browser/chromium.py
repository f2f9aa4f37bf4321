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

from workbench.bench.browser import find, is_root, run

#: Seconds. A network that is not there takes minutes to be given up on.
DOWNLOAD_TIMEOUT, APT_TIMEOUT = 120, 600


class NoBrowser(Exception):
    """There is no Chromium, and none can be installed; the message says what to do."""


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


def _download() -> str | None:
    print("downloading Playwright's Chromium (playwright install chromium)", flush=True)
    done = run(
        [sys.executable, "-m", "playwright", "install", "chromium"], timeout=DOWNLOAD_TIMEOUT
    )
    return _failure("Playwright's download", done)


def _install_package() -> str | None:
    if not shutil.which("apt-get"):
        return "this system has no apt-get for Debian's package"
    if not is_root():
        return "only root can install Debian's package: sudo apt-get install chromium"
    print("installing Debian's package (apt-get install chromium)", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"],
    ):
        done = run(command, timeout=APT_TIMEOUT, env=quiet)
        if done.returncode:
            return _failure(" ".join(command[:2]), done)
    return None


def _failure(what: str, done: subprocess.CompletedProcess[str]) -> str | None:
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    # The first line that says "error" tells more than the last, which is often a frame.
    told = next((line for line in lines if "error" in line.lower()), (lines or ["no output"])[-1])
    return f"{what} failed: {told[:160]}"


if __name__ == "__main__":
    try:
        print(provide())
    except NoBrowser as error:
        sys.exit(f"chromium.py: {error}")
