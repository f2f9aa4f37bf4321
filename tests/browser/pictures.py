"""The pictures of the panel that the README shows, taken in a browser while a student learns.

    python tests/browser/pictures.py

`workbench show` serves the panel, as it would to a class; one picture for each theme goes to
``data/pictures/``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import chromium
from playwright.sync_api import Browser, expect, sync_playwright

from workbench.bench.browser import launch_options

PLACE = Path(__file__).parents[2] / "data" / "pictures"
#: The run of which a picture is taken when half of it is over.
LINK = "protgpt2-tiny;T=2;steps=600"
#: CSS px; as high as the panel, which would be cut off where the page scrolls.
WIDTH, HEIGHT = 1460, 1640
PATIENCE = 300_000  # ms


def take(browser: Browser, address: str, scheme: str) -> Path:
    """A picture of the panel in the middle of a run, in the light or the dark theme."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    panel = page.locator(".wblab")
    panel.get_by_role("button", name="Play", exact=True).click()
    expect(panel.get_by_role("button", name="Pause", exact=True)).to_be_visible(timeout=PATIENCE)
    far_enough = re.compile(r"step [3-5]\d\d of")
    expect(panel.locator(".wblab-numbers")).to_contain_text(far_enough, timeout=PATIENCE)
    path = PLACE / f"lab_{scheme}.png"
    panel.screenshot(path=path)
    context.close()
    return path


def main() -> None:
    """Serve, take both pictures, and say where they are."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        served = subprocess.Popen(
            [sys.executable, "-m", "workbench", "show", "--no-open", "--port=0", LINK],
            stdout=subprocess.PIPE, text=True, cwd=directory,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        try:
            address = next(
                found[0] for line in served.stdout if (found := re.search(r"http://\S+", line))
            )
            browser = playwright.chromium.launch(**launch_options(chromium.provide()))
            for scheme in ("light", "dark"):
                print(take(browser, address, scheme))
            browser.close()
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(60)


if __name__ == "__main__":
    main()
