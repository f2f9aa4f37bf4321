"""What stands in the way of measuring sliders; the measurement is among the browser tests."""

from __future__ import annotations

import pytest

from workbench.bench import browser, sliders
from workbench.errors import WorkbenchError


def test_without_a_browser_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    monkeypatch.setattr(browser, "_of_playwright", lambda: None)
    with pytest.raises(WorkbenchError, match=r"no Chromium .* install one: python -m playwright"):
        sliders.measure()


def test_a_program_on_the_path_that_does_not_start_is_passed_over(monkeypatch, tmp_path):
    paths = {}
    for name, status in (("chromium", 1), ("google-chrome", 0)):
        paths[name] = str(tmp_path / name)
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(browser.shutil, "which", paths.get)
    monkeypatch.setattr(browser, "_of_playwright", lambda: None)
    assert browser.find() == paths["google-chrome"]
