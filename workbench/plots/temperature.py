"""Figures about temperature: entropy, gradients, substitutions, calibration, sweeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.plots.style import COLOURS, LABELS, MARKERS, STYLES, new_figure, set_title
from workbench.worlds.proteins import AMINO_ACIDS, background

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.comparisons.answers import Calibration
    from workbench.comparisons.studies import Band

#: Residues whose neighbours in this order are alike: small, acidic and amide, basic, aromatic, …
CHEMICAL_ORDER = "GPASTCNDEQKRHWYFMLIV"


def entropy_figure(
    temperatures: Sequence[float], entropies: Mapping[str, Sequence[float]]
) -> Figure:
    """Mean entropy of softened answers against T.

    Args:
        temperatures: T, ascending.
        entropies: by "oracle", "teacher", "student": mean over positions, nats.
    """
    figure, axes = new_figure(8.0, 4.0)
    for name, values in entropies.items():
        axes.plot(
            temperatures, values, STYLES.get(name, "-"), color=COLOURS[name], linewidth=2.4,
            marker=MARKERS.get(name), markersize=6, label=LABELS[name],
        )  # fmt: skip
    axes.axhline(math.log(21), color=COLOURS["uniform"], linestyle="-.", linewidth=1.5)
    axes.annotate(
        "ln 21: every symbol equally likely", (temperatures[0], math.log(21)), (0, 5),
        textcoords="offset points", color=COLOURS["uniform"], fontsize=11,
    )  # fmt: skip
    _temperature_axis(axes, temperatures)
    axes.set_ylim(0, 3.45)
    axes.set_ylabel("mean entropy (nats)")
    axes.legend(frameon=False, loc="lower right")
    set_title(figure, axes, "Softer answers say less")
    return figure


def gradient_figure(
    temperatures: Sequence[float], without: Sequence[float], squared: Sequence[float], hard: float
) -> Figure:
    """Size of the soft gradient against T, with and without T², beside the hard one.

    Args:
        temperatures: T, ascending.
        without: mean norm of a position's gradient on the logits, without T².
        squared: with T².
        hard: of the cross-entropy with the label.
    """
    figure, axes = new_figure(8.0, 4.2)
    axes.plot(
        temperatures, squared, "-", color=COLOURS["soft"], marker="o", linewidth=2.4,
        label="teacher, times T²",
    )  # fmt: skip
    axes.plot(
        temperatures, without, "--", color=COLOURS["teacher"], marker="^", linewidth=2.4,
        label="teacher, without T²",
    )  # fmt: skip
    axes.axhline(hard, color=COLOURS["hard"], linewidth=2.4)
    axes.annotate(
        f"labels {hard:.2g}", (temperatures[-1], hard), (0, 5), textcoords="offset points",
        ha="right", fontsize=12,
    )  # fmt: skip
    axes.set_yscale("log")
    _temperature_axis(axes, temperatures)
    axes.set_ylabel("gradient on the logits (mean norm)")
    axes.legend(frameon=False, loc="lower left")
    set_title(figure, axes, "How loud the teacher is")
    return figure


def substitution_figure(tables: Mapping[str, np.ndarray]) -> Figure:
    """Who else could stand there: each other residue against its natural frequency.

    Args:
        tables: by title, of `answers.substitutions`, ``[20, 20]``; at most three.
    """
    figure, all_axes = new_figure(4.6 * len(tables), 4.9, columns=len(tables))
    order = [AMINO_ACIDS.index(a) for a in CHEMICAL_ORDER]
    odds = {title: table / background()[None, :] for title, table in tables.items()}
    highest = max(np.nanquantile(table, 0.99) for table in odds.values())
    all_axes = [all_axes] if len(tables) == 1 else list(all_axes)
    for axes, (title, table) in zip(all_axes, odds.items(), strict=True):
        image = axes.imshow(table[np.ix_(order, order)], cmap="cividis", vmin=0, vmax=highest)
        axes.set_xticks(range(20), CHEMICAL_ORDER)
        axes.set_yticks(range(20), CHEMICAL_ORDER)
        axes.tick_params(labelsize=9, length=0)
        axes.set_xlabel("instead")
        axes.set_title(title, fontsize=13, fontweight="bold", loc="left")
    all_axes[0].set_ylabel("the residue that is asked for")
    bar = figure.colorbar(image, ax=all_axes, shrink=0.8)
    bar.set_label("times its natural frequency")
    return figure


def calibration_figure(curves: Mapping[str, Calibration], colours: Mapping[str, str]) -> Figure:
    """How often the first choice is right, against how sure the model was.

    Args:
        curves: by label.
        colours: by label, a name in `COLOURS`.
    """
    figure, axes = new_figure(6.4, 4.8)
    axes.plot([0, 1], [0, 1], color=COLOURS["uniform"], linestyle="-.", linewidth=1.5)
    axes.annotate("honest", (0.9, 0.95), color=COLOURS["uniform"], fontsize=11, ha="right")
    markers = "os^Dv"
    for number, (label, curve) in enumerate(curves.items()):
        axes.plot(
            curve.confidence, curve.accuracy, "-" if number % 2 == 0 else "--",
            color=COLOURS[colours[label]], marker=markers[number % 5], linewidth=2.2, markersize=7,
            label=f"{label}: error {curve.error:.3f}",
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("how sure the model says it is")
    axes.set_ylabel("how often it is right")
    axes.legend(frameon=False, loc="lower right")
    set_title(figure, axes, "Calibration of the first choice")
    return figure


def sweep_figure(groups: Mapping[str, Mapping[float, Band]], alone: Mapping[str, Band]) -> Figure:
    """Held-out perplexity against the T of training, a line a group.

    Args:
        groups: by label, for each T the trained students.
        alone: by the same labels, the same student from labels alone.
    """
    figure, axes = new_figure(8.4, 4.4)
    colours, markers = ("#D55E00", "#0072B2", "#CC79A7", "#009E73"), "os^D"
    for number, (label, bands) in enumerate(groups.items()):
        temperatures = list(bands)
        values = [band.mean() for band in bands.values()]
        axes.plot(
            temperatures, values, color=colours[number], marker=markers[number], linewidth=2.4,
            label=label,
        )  # fmt: skip
        if any(len(band.runs) > 1 for band in bands.values()):
            low = [band.lowest() for band in bands.values()]
            high = [band.highest() for band in bands.values()]
            axes.fill_between(temperatures, low, high, color=colours[number], alpha=0.2)
        best = min(bands, key=lambda T: bands[T].mean())
        axes.plot(
            [best], [bands[best].mean()], marker="o", markersize=17, fillstyle="none",
            color=colours[number], markeredgewidth=2,
        )  # fmt: skip
        if label in alone:
            axes.axhline(alone[label].mean(), color=colours[number], linestyle=":", linewidth=1.8)
            axes.annotate(
                "labels only", (temperatures[-1], alone[label].mean()), (0, 4),
                textcoords="offset points", ha="right", color=colours[number], fontsize=11,
            )  # fmt: skip
    _temperature_axis(axes, sorted({T for bands in groups.values() for T in bands}))
    axes.set_xlabel("temperature T of the training")
    axes.set_ylabel("held-out perplexity")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    set_title(figure, axes, "Which T teaches best? (circled)")
    return figure


def _temperature_axis(axes, temperatures: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(temperatures[0] * 0.95, temperatures[-1] * 1.05)
    ticks = [t for t in (0.25, 0.5, 1, 2, 4, 10, 20, 50) if temperatures[0] <= t]
    ticks = [t for t in ticks if t <= temperatures[-1]]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("temperature T")
