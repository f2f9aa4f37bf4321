"""What moves in a notebook: panels with sliders, and the workers behind them.

    >>> from workbench.lab import RunPanel
    >>> panel = RunPanel("protgpt2-tiny", steps=400)
    >>> panel
"""

from __future__ import annotations

from workbench.lab.explorer import Explorer
from workbench.lab.layer_editor import LayerMapEditor
from workbench.lab.ledger import Ledger
from workbench.lab.pair_explorer import explore_pairs
from workbench.lab.panel import RunPanel
from workbench.lab.term_weights import weigh_terms
from workbench.lab.word_explorer import explore_words

__all__ = [
    "Explorer", "LayerMapEditor", "Ledger", "RunPanel", "explore_pairs", "explore_words",
    "weigh_terms",
]  # fmt: skip
