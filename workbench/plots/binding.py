"""Figures of peptide–HLA classifiers: groups, alleles, calibration, motifs, the double softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.style import (
    COLOURS,
    LABELS,
    MARKERS,
    STYLES,
    label_ends,
    new_figure,
    set_title,
)
from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = ("oracle", "teacher", "student", "baseline")
GROUP_TITLES = {
    "all": "all held-out\npairs",
    "random": "against random\npeptides",
    "swap": "against binders of\nanother allele",
    "unseen": "alleles never\nseen",
    "unseen_swap": "never seen, against\nanother's binders",
}
#: Colours of residues in logos: acidic, basic, hydrophobic, polar; Okabe–Ito.
RESIDUE_COLOURS = {
    **dict.fromkeys("DE", "#D55E00"),
    **dict.fromkeys("KRH", "#0072B2"),
    **dict.fromkeys("AVLIMFWYP", "#000000"),
    **dict.fromkeys("GSTCNQ", "#009E73"),
}


def learning_figure(
    lines: Sequence[dict[str, Any]], results: dict[str, Any], formula: str = ""
) -> Figure:
    """Held-out F1 against step, with oracle and teacher as lines.

    Args:
        lines: of metrics.jsonl.
        results: of results.json.
        formula: goes under the title.
    """
    figure, axes = new_figure(8.0, 4.6)
    measured = [line for line in lines if "validation" in line]
    steps = [line["step"] for line in measured]
    last = steps[-1] if steps else 1
    ends: list[tuple[float, str, str]] = []
    for name in ("oracle", "teacher"):
        value = results[name]["f1"]
        if value is not None:
            axes.axhline(value, color=COLOURS[name], linestyle=STYLES[name], linewidth=1.8)
            ends.append((value, LABELS[name], COLOURS[name]))
    for name in ("baseline", "student"):
        values = [line["validation"][name]["f1"] for line in measured]
        axes.plot(
            steps, values, color=COLOURS[name], linestyle=STYLES[name], marker=MARKERS[name],
            linewidth=2.2, markersize=6,
        )  # fmt: skip
        if values:
            ends.append((values[-1], LABELS[name], COLOURS[name]))
    shown = [value for value, *_ in ends]
    low, high = min(shown) - 0.06, max(shown) + 0.02
    axes.set_ylim(low, high)
    axes.set_xlim(0, last)
    axes.set_xlabel("step")
    axes.set_ylabel("held-out F1 (higher is better)")
    label_ends(axes, ends, low, high, linear=True, digits=3)
    set_title(figure, axes, "F1 while learning", formula)
    return figure


def groups_figure(results: dict[str, Any], metric: str = "auc") -> Figure:
    """A metric of the four rows in every group of held-out pairs, with 95 % intervals.

    Args:
        results: of results.json.
        metric: "auc", "f1", "accuracy" or "matthews".
    """
    rows = [name for name in ROWS if results[name]["groups"]]
    groups = [g for g in GROUP_TITLES if g in results[rows[-1]]["groups"]]
    figure, axes = new_figure(1.4 + 1.75 * len(groups), 4.4)
    for i, name in enumerate(rows):
        found = [results[name]["groups"].get(group) for group in groups]
        at = [g + (i - (len(rows) - 1) / 2) * 0.16 for g in range(len(groups))]
        points = [(x, f[metric], f["intervals"][metric]) for x, f in zip(at, found, strict=True)
                  if f and f[metric] is not None]  # fmt: skip
        values = np.array([value for _, value, _ in points])
        ends = np.array([[v - ci[0], ci[1] - v] for _, v, ci in points]).T
        axes.errorbar(
            [x for x, *_ in points], values, yerr=np.maximum(ends, 0), fmt=MARKS[name],
            color=COLOURS[name], markersize=8, capsize=4, linewidth=1.6, label=LABELS[name],
        )  # fmt: skip
    blind = results.get("without_hla")
    if blind:
        for g, group in enumerate(groups):
            axes.hlines(blind["groups"][group][metric], g - 0.4, g + 0.4, color="#777777",
                        linestyle="-.", linewidth=1.8,
                        label="best without a look at the HLA" if not g else None)  # fmt: skip
    axes.set_xticks(range(len(groups)), [GROUP_TITLES[g] for g in groups], fontsize=10)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylabel(f"{_NAMES[metric]} (higher is better)")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    set_title(figure, axes, f"{_NAMES[metric]} by kind of pair, with 95 % bootstrap intervals")
    return figure


def alleles_figure(results: dict[str, Any], metric: str = "auc") -> Figure:
    """A metric of the four rows for every allele, the hardest of the oracle's at the top.

    Args:
        results: of results.json.
        metric: as in `groups_figure`.
    """
    rows = [name for name in ROWS if results[name]["alleles"]]
    first = results[rows[0]]["alleles"]
    names = [a for a in first if first[a][metric] is not None]
    names.sort(key=lambda a: -first[a][metric])
    figure, axes = new_figure(7.6, 1.2 + 0.27 * len(names))
    for name in rows:
        alleles = results[name]["alleles"]
        values = [alleles[a][metric] if a in alleles else None for a in names]
        axes.scatter(
            [np.nan if v is None else v for v in values], range(len(names)), marker=MARKS[name],
            color=COLOURS[name], s=40, label=LABELS[name],
            facecolors="none" if name == "oracle" else COLOURS[name],
        )  # fmt: skip
    pairs = results[rows[-1]]["alleles"]
    axes.set_yticks(
        range(len(names)), [f"{a.removeprefix('HLA-')}  ({pairs[a]['examples']})" for a in names],
        fontsize=9,
    )  # fmt: skip
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{_NAMES[metric]} (higher is better)")
    axes.set_ylabel("allele (held-out pairs)")
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    set_title(figure, axes, f"{_NAMES[metric]} by allele")
    return figure


def reliability_figure(
    results: dict[str, Any],
    said: str = "probability of binding",
    found: str = "share of binders",
) -> Figure:
    """How often what was called p likely was so; on the diagonal a forecast is honest.

    Args:
        results: of results.json.
        said: what was forecast, in words.
        found: what came true, in words.
    """
    figure, axes = new_figure(5.6, 5.0)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    for name in ROWS:
        bins = results[name]["reliability"]
        if not bins:
            continue
        kept = [i for i, n in enumerate(bins["counts"]) if n]
        axes.plot(
            [bins["predicted"][i] for i in kept], [bins["observed"][i] for i in kept],
            color=COLOURS[name], linestyle=STYLES[name], marker=MARKS[name], markersize=6,
            linewidth=1.8, label=f"{LABELS[name]}: {results[name]['calibration_error']:.3f}",
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"said: {said}")
    axes.set_ylabel(f"found: {found}")
    axes.legend(frameon=False, fontsize=10, title="calibration error", alignment="left")
    set_title(figure, axes, "Reliability")
    return figure


def motifs_figure(motifs: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Sequence logos: the measured motif, and what models believe an allele likes.

    Args:
        motifs: by row ("oracle", "teacher", …), then by allele, ``[9, 20]`` shares of residues.
    """
    from logomaker import Logo
    from matplotlib.figure import Figure
    from pandas import DataFrame

    names = [name for name in ROWS if motifs.get(name)]
    alleles = list(motifs[names[-1]])
    figure = Figure(
        figsize=(3.5 * len(names), 0.5 + 1.75 * len(alleles)), layout="constrained",
        facecolor="white",
    )  # fmt: skip
    grid = figure.subplots(len(alleles), len(names), squeeze=False, sharey=True)
    for row, allele in zip(grid, alleles, strict=True):
        for axes, name in zip(row, names, strict=True):
            frequencies = np.asarray(motifs[name][allele])
            heights = frequencies * information(frequencies)[:, None]
            Logo(
                DataFrame(heights, columns=list(AMINO_ACIDS)), ax=axes, show_spines=False,
                color_scheme=RESIDUE_COLOURS, font_name="DejaVu Sans", font_weight="bold",
            )  # fmt: skip
            axes.set_xticks(range(len(heights)), [f"P{i + 1}" for i in range(len(heights))])
            axes.tick_params(labelsize=9, length=0)
            axes.spines[["left", "bottom"]].set_visible(True)
            if allele == alleles[0]:
                title = "measured" if name == "oracle" else f"{name} believes"
                axes.set_title(title, color=COLOURS[name], fontsize=12, fontweight="bold")
        row[0].set_ylabel(f"{allele}\nbits", fontsize=10)
        row[0].set_ylim(0, 4.4)
    return figure


def information(frequencies: np.ndarray) -> np.ndarray:
    """Information content of each column, log₂20 − H, ``[W]`` bits.

    As in sequence logos (Schneider & Stephens, NAR 18:6097, 1990), without their correction for
    small samples.
    """
    logs = np.log2(np.where(frequencies > 0, frequencies, 1.0))
    return np.log2(20) + (frequencies * logs).sum(axis=1)


def double_softmax_figure() -> Figure:
    """What softmax before CrossEntropyLoss does: to the loss, its gradient and its optimum."""
    from workbench import double_softmax

    figure, (left, middle, right) = new_figure(12.0, 3.9, columns=3)
    z = np.linspace(-8, 8, 321)
    curves = double_softmax.hard_loss(z)
    for axes, wrong, good in (
        (left, curves.loss_twice, curves.loss_once),
        (middle, curves.slope_twice, curves.slope_once),
    ):
        axes.plot(z, good, color=COLOURS["hard"], linestyle="--", linewidth=2.2)
        axes.plot(z, wrong, color=COLOURS["student"], linewidth=2.2)
        axes.set_xlabel("student's logit for the right class,\nless that for the wrong one")
    left.set_ylim(0, 5)
    left.set_ylabel("hard loss (nats)")
    left.text(-3.6, 4.4, "softmax once", color=COLOURS["hard"], fontsize=11)
    left.text(0.4, 0.75, "softmax twice:\n0.3133 to 1.3133", color=COLOURS["student"], fontsize=11)
    left.set_title("The loss is confined", loc="left", fontsize=13, fontweight="bold")
    middle.set_ylabel("pull of the gradient on that difference")
    middle.set_title("Wrong and sure: no pull", loc="left", fontsize=13, fontweight="bold")
    p = np.linspace(0.02, 0.98, 193)
    right.plot([0, 1], [0, 1], color=COLOURS["hard"], linestyle="--", linewidth=2.2)
    right.plot(p, double_softmax.optimum(p), color=COLOURS["student"], linewidth=2.2)
    right.set_xlabel("teacher's probability of binding")
    right.set_ylabel("where the soft loss is smallest:\nstudent's probability")
    right.set_title("The optimum is pushed aside", loc="left", fontsize=13, fontweight="bold")
    return figure


def sizes_figure(points: Sequence[Mapping[str, Any]], teacher: Mapping[str, Any]) -> Figure:
    """Quality against size and against speed of students with fewer and fewer layers.

    Args:
        points: of each student ``label``, ``init``, ``layers``, ``parameters``, ``latency_ms``,
            ``f1`` and its ``interval``.
        teacher: the same of the teacher; 97 % of its F1 is drawn as a line.
    """
    figure, (left, right) = new_figure(10.4, 4.4, columns=2)
    for axes, key, title in (
        (left, "parameters", "parameters"), (right, "latency_ms", "latency of one pair (ms)"),
    ):  # fmt: skip
        axes.axhline(teacher["f1"], color=COLOURS["teacher"], linestyle="--", linewidth=1.6)
        axes.axhline(0.97 * teacher["f1"], color="#777777", linestyle="-.", linewidth=1.4)
        axes.plot(teacher[key], teacher["f1"], marker="D", color=COLOURS["teacher"], markersize=9)
        for init, (colour, mark) in _INITS.items():
            mine = [p for p in points if p["init"] == init]
            if not mine:
                continue
            values = [p["f1"] for p in mine]
            ends = np.array([[p["f1"] - p["interval"][0], p["interval"][1] - p["f1"]]
                             for p in mine]).T  # fmt: skip
            axes.errorbar(
                [p[key] for p in mine], values, yerr=np.maximum(ends, 0), fmt=mark, color=colour,
                markersize=7, capsize=3, linewidth=1.4, label=init,
                linestyle="-" if len(mine) > 1 else "none",
            )  # fmt: skip
            if len(mine) > 1:
                for p in mine:
                    axes.annotate(f"{p['layers']}", (p[key], p["f1"]), (6, 5), fontsize=10,
                                  textcoords="offset points", color=colour)  # fmt: skip
        axes.set_xlabel(title)
    left.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:,.0f} k")
    left.set_ylabel("held-out F1, with 95 % interval")
    left.text(0.99, 0.97 * teacher["f1"], "97 % of the teacher ", va="bottom", ha="right",
              transform=left.get_yaxis_transform(), fontsize=9, color="#555555")  # fmt: skip
    right.legend(frameon=False, fontsize=10, title="student's start", loc="lower right")
    set_title(figure, left, "Quality against size (numbers: layers)")
    right.set_title("Quality against speed", loc="left", fontsize=13, fontweight="bold")
    return figure


# ---------------------------------------------------------------------- parts

_NAMES = {"auc": "AUC", "f1": "F1", "accuracy": "accuracy", "matthews": "Matthews correlation"}
MARKS = {"oracle": "*", "teacher": "D", **MARKERS}
_INITS = {
    "2i": (COLOURS["student"], "o"),
    "2i+1": (COLOURS["hard"], "v"),
    "spaced": (COLOURS["student"], "o"),
    "first": (COLOURS["soft"], "^"),
    "last": ("#CC79A7", "<"),
    "random": (COLOURS["baseline"], "s"),
}
