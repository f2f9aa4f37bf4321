"""Figures: pure functions from results to matplotlib figures, without pyplot."""

from __future__ import annotations

from workbench.plots.binding import (
    alleles_figure,
    double_softmax_figure,
    groups_figure,
    learning_figure,
    motifs_figure,
    reliability_figure,
    sizes_figure,
)
from workbench.plots.costs import speedup_figure, tradeoff_figure
from workbench.plots.hidden_words import words_figure
from workbench.plots.inner import attention_figure, layer_pairs_figure, shares_figure
from workbench.plots.layers import bands_figure, parts_figure, similarity_figure, start_figure
from workbench.plots.run import (
    amino_acid_figure,
    ledger_figure,
    perplexity_figure,
    run_figures,
    runtime_figure,
    variants_figure,
)
from workbench.plots.serving import ensemble_figure, queue_figure, stream_figure
from workbench.plots.students import ablation_figure, students_figure
from workbench.plots.style import COLOURS, LABELS, save
from workbench.plots.temperature import (
    calibration_figure,
    entropy_figure,
    gradient_figure,
    substitution_figure,
    sweep_figure,
)
from workbench.plots.world import distribution_figure, profile_figure

__all__ = [
    "COLOURS",
    "LABELS",
    "ablation_figure",
    "alleles_figure",
    "amino_acid_figure",
    "attention_figure",
    "bands_figure",
    "calibration_figure",
    "distribution_figure",
    "double_softmax_figure",
    "ensemble_figure",
    "entropy_figure",
    "gradient_figure",
    "groups_figure",
    "layer_pairs_figure",
    "learning_figure",
    "ledger_figure",
    "motifs_figure",
    "parts_figure",
    "perplexity_figure",
    "profile_figure",
    "queue_figure",
    "reliability_figure",
    "run_figures",
    "runtime_figure",
    "save",
    "shares_figure",
    "similarity_figure",
    "sizes_figure",
    "speedup_figure",
    "start_figure",
    "stream_figure",
    "students_figure",
    "substitution_figure",
    "sweep_figure",
    "tradeoff_figure",
    "variants_figure",
    "words_figure",
]
