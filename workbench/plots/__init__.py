"""Figures: pure functions from results to matplotlib figures, without pyplot."""

from __future__ import annotations

from workbench.plots.run import (
    amino_acid_figure,
    ledger_figure,
    perplexity_figure,
    run_figures,
    runtime_figure,
    variants_figure,
)
from workbench.plots.style import COLOURS, LABELS, save
from workbench.plots.world import distribution_figure, profile_figure

__all__ = [
    "COLOURS",
    "LABELS",
    "amino_acid_figure",
    "distribution_figure",
    "ledger_figure",
    "perplexity_figure",
    "profile_figure",
    "run_figures",
    "runtime_figure",
    "save",
    "variants_figure",
]
