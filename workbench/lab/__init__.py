"""What moves in a notebook: panels with sliders, and the workers behind them.

    >>> from workbench import Lab
    >>> lab = Lab("protgpt2-tiny")
    >>> lab
"""

from __future__ import annotations

from workbench.lab.explorer import Explorer
from workbench.lab.lab import Lab, Question
from workbench.lab.layer_editor import LayerMapEditor
from workbench.lab.ledger import Ledger
from workbench.lab.pair_explorer import explore_pairs
from workbench.lab.panel import RunPanel
from workbench.lab.term_weights import weigh_terms
from workbench.lab.word_explorer import explore_words

__all__ = [
    "Explorer", "Lab", "LayerMapEditor", "Ledger", "Question", "RunPanel", "explore_pairs",
    "explore_words", "weigh_terms",
]  # fmt: skip
