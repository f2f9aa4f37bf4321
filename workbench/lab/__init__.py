"""What moves in a notebook: panels with sliders, and the workers behind them.

Each is loaded when it is asked for: the Lab shows a stored run before torch is there.

    >>> from workbench.lab import Lab
    >>> lab = Lab("protgpt2-tiny")
    >>> lab
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "Explorer": "explore.explorer",
    "explore_pairs": "explore.pair_explorer",
    "explore_words": "explore.word_explorer",
    "Landscape": "landscape.landscape",
    "LayerMapEditor": "layers.layer_editor",
    "Lab": "live.lab",
    "Question": "live.controls",
    "Ledger": "terms.ledger",
    "weigh_terms": "terms.term_weights",
}

__all__ = [*_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"workbench.lab.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'workbench.lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
