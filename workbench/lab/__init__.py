"""What moves in a notebook: panels with sliders, and the workers behind them.

    >>> from workbench import Lab
    >>> lab = Lab("protgpt2-tiny")
    >>> lab
"""

from __future__ import annotations

from workbench.lab.explore.explorer import Explorer
from workbench.lab.explore.pair_explorer import explore_pairs
from workbench.lab.explore.word_explorer import explore_words
from workbench.lab.layers.layer_editor import LayerMapEditor
from workbench.lab.live.lab import Lab, Question
from workbench.lab.terms.ledger import Ledger
from workbench.lab.terms.term_weights import weigh_terms

__all__ = [
    "Explorer", "Lab", "LayerMapEditor", "Ledger", "Question", "explore_pairs",
    "explore_words", "weigh_terms",
]  # fmt: skip
