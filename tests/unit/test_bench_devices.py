"""What an accelerator is measured by, tried on the processor; without one it says so."""

from __future__ import annotations

import pytest
import torch

from workbench.bench import command, devices
from workbench.errors import WorkbenchError
from workbench.recipes import Shape


def test_without_an_accelerator_it_says_so_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_: False)
    with pytest.raises(WorkbenchError, match="no accelerator here") as caught:
        command.run("devices", tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_figures_of_a_recipe_and_of_a_published_shape(monkeypatch):
    # The published shapes themselves take minutes on a processor.
    small = Shape(layers=1, heads=2, width=16, positions=16, vocabulary=300)
    scale = devices.recipes.get("protgpt2-tiny").scale("paper")
    for role in ("teacher", "student"):
        monkeypatch.setitem(scale.__dict__, role, small)
    for figures in (
        devices.classroom("protgpt2-tiny", "bfloat16", warm=0, steps=2),
        devices.published_shape("protgpt2-tiny", "float32", warm=0, steps=2, length=16),
    ):
        assert figures["tokens_per_second"] > 0
        assert figures["step_ms"] > 0
        if not torch.cuda.is_available():
            assert figures["peak_memory_mb"] is None
