"""How long a move of the explorer's slider takes in a browser, without a kernel behind it."""

from __future__ import annotations

import base64
import statistics
from typing import Any

import numpy as np

from workbench.bench import browser
from workbench.bench.goals import Goal
from workbench.errors import WorkbenchError
from workbench.lab import Explorer
from workbench.lab.explore.explorer import MODULE

#: By number of symbols, ms of script that one move of a slider may take.
FRAMES = {25: 16, 4000: 50}

#: Renders the module with a stand-in for the widget's model, which keeps what is said to it.
RENDER = """async ({module, css, traits}) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  for (const key of ['teacher', 'student', 'oracle'])
    if (traits._example[key]) traits._example[key] = bytes(traits._example[key]);
  const listeners = {};
  const tell = (name, ...what) => (listeners[name] ?? []).forEach(f => f(...what));
  window.sent = [];
  window.saved = [];
  window.model = {
    get: (key) => traits[key],
    set: (key, value) => {
      if (traits[key] !== value) { traits[key] = value; tell(`change:${key}`); }
    },
    on: (name, f) => (listeners[name] ??= []).push(f),
    off: (name, f) => { listeners[name] = (listeners[name] ?? []).filter(g => g !== f); },
    save_changes: () => window.saved.push(traits.state),
    send: (content) => window.sent.push(content),
    answer: (content) => tell('msg:custom', content),
    decode: bytes,
    listeners: () => Object.values(listeners).flat().length,
  };
  const style = document.createElement('style');
  style.textContent = css;
  document.head.append(style);
  const address = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
  window.wbx = await import(address);
  const place = document.createElement('div');
  document.body.append(place);
  window.leave = wbx.default.render({model: window.model, el: place});
}"""

#: Moves the slider of T there and back; ms of script of each move, and with its layout.
MOVES = """(moves) => {
  const slider = document.querySelector('.wbx-knob input[type=range]');
  const script = [], whole = [];
  for (let i = 0; i < moves; i++) {
    slider.value = (i * 7) % 200;
    const began = performance.now();
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    script.push(performance.now() - began);
    document.body.getBoundingClientRect().height;
    document.querySelector('.wbx-readout').getBoundingClientRect().height;
    whole.push(performance.now() - began);
  }
  return {script, whole};
}"""


def measure() -> dict[str, Any]:
    """Move T a hundred times for each number of symbols in `FRAMES`.

    Returns:
        Under each number of symbols what `moves` gives, the browser's version, and the goals.

    Raises:
        WorkbenchError: if there is no Chromium, or what drives it is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise WorkbenchError(
            "the sliders are measured in a browser that Playwright drives; install it: "
            "pip install playwright"
        ) from error
    path = browser.find()
    if path is None:
        raise WorkbenchError(
            "there is no Chromium on the PATH and none of Playwright's; install one: "
            "python -m playwright install chromium"
        )
    found: dict[str, dict[str, float]] = {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**browser.launch_options(path))
        try:
            for symbols in FRAMES:
                page = chromium.new_page(viewport={"width": 1040, "height": 1100})
                page.set_content("<!doctype html><body></body>")
                explorer = with_symbols(symbols)
                render(page, explorer, "direction=jensen-shannon")
                found[str(symbols)] = moves(page)
                explorer.close()
                page.close()
            version = chromium.version
        finally:
            chromium.close()
    goals = [
        Goal(f"ms of script for a move at {n:,} symbols", found[str(n)]["script_ms"], most,
             "at most").to_json()
        for n, most in FRAMES.items()
    ]  # fmt: skip
    return {"symbols": found, "browser": f"Chromium {version}", "goals": goals}


def with_symbols(count: int) -> Explorer:
    """An explorer on random logits of so many symbols."""
    rng = np.random.default_rng(1)
    return Explorer.from_logits(
        [f"w{i}" for i in range(count)], rng.normal(0, 3, count), rng.normal(0, 3, count), 7,
        oracle=rng.dirichlet(np.ones(count)), tokens=40, name="speed",
    )  # fmt: skip


def render(page, explorer: Explorer, state: str = "") -> None:
    """Put an explorer's view into an empty page of Playwright's, with no kernel behind it."""
    traits = {
        "state": state,
        "_example": packed(explorer._example),
        "_presets": explorer._presets,
        "_limits": explorer._limits,
        "_picture": explorer._picture,
    }
    page.evaluate(RENDER, {"module": MODULE, "css": explorer._css, "traits": traits})


def moves(page, count: int = 100) -> dict[str, float]:
    """Move T on a page of `render`; the first twenty moves, while code is compiled, do not count.

    Returns:
        ``first_ms`` of the very first move's script, and of the others ``script_ms`` (median),
        ``script_ms_95`` (95 % are faster) and ``layout_ms`` (script and layout, median).
    """
    first = page.evaluate(MOVES, 1)["script"][0]
    page.evaluate(MOVES, 20)
    times = page.evaluate(MOVES, count)
    return {
        "first_ms": first,
        "script_ms": statistics.median(times["script"]),
        "script_ms_95": statistics.quantiles(times["script"], n=20)[-1],
        "layout_ms": statistics.median(times["whole"]),
    }


def packed(example: dict[str, Any]) -> dict[str, Any]:
    """An example with its bytes as text."""
    return {
        key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for key, value in example.items()
    }
