"""Figures of a run: pure functions from results to matplotlib figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.plots import binding, texts
from workbench.plots.style import (
    COLOURS,
    HATCHES,
    LABELS,
    MARKERS,
    STYLES,
    label_ends,
    new_figure,
    round_ticks,
    set_title,
)
from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_figures(
    lines: Sequence[dict[str, Any]], results: dict[str, Any], formula: str
) -> dict[str, Figure]:
    """The figures of a run, by the name of their file.

    Args:
        lines: of metrics.jsonl.
        results: of results.json.
        formula: the loss with its numbers, for captions.
    """
    figures = {"runtime": runtime_figure(results), "ledger": ledger_figure(lines, formula)}
    if results.get("classes"):
        figures["f1"] = binding.learning_figure(lines, results, formula)
        figures["classes"] = texts.classes_figure(results)
        figures["reliability"] = texts.reliability_figure(results)
        return figures
    if "groups" in results["student"]:
        figures["f1"] = binding.learning_figure(lines, results, formula)
        figures["groups"] = binding.groups_figure(results)
        figures["alleles"] = binding.alleles_figure(results)
        figures["reliability"] = binding.reliability_figure(results)
        motifs = {name: results[name]["motifs"] for name in ("oracle", "teacher", "student")}
        if motifs["student"]:
            figures["motifs"] = binding.motifs_figure(motifs)
        return figures
    figures["perplexity"] = perplexity_figure(lines, results, formula)
    if results["student"].get("amino_acids"):
        figures["amino_acids"] = amino_acid_figure(results)
    return figures


def perplexity_figure(
    lines: Sequence[dict[str, Any]], results: dict[str, Any], formula: str = ""
) -> Figure:
    """Held-out perplexity against step, between uniform guess and oracle.

    Args:
        lines: of metrics.jsonl.
        results: of results.json.
        formula: goes under the title.
    """
    figure, axes = new_figure(8.0, 4.8)
    measured = [line for line in lines if "validation" in line]
    steps = [line["step"] for line in measured]
    last = steps[-1] if steps else 1
    ends: list[tuple[float, str, str]] = []
    for name in ("uniform", "teacher", "oracle"):
        value = _reference(name, results)
        if value is not None:
            axes.axhline(value, color=COLOURS[name], linestyle=STYLES[name], linewidth=1.8)
            ends.append((value, LABELS[name], COLOURS[name]))
    for name in ("baseline", "student"):
        values = [line["validation"][name]["perplexity"] for line in measured]
        axes.plot(
            steps,
            values,
            color=COLOURS[name],
            linestyle=STYLES[name],
            marker=MARKERS[name],
            linewidth=2.2,
            markersize=6,
        )
        if values:
            ends.append((values[-1], LABELS[name], COLOURS[name]))
    axes.set_yscale("log")
    shown = [value for value, *_ in ends]
    if _reference("uniform", results) is None:
        # Nothing else says how high the curves begin.
        rows = [line["validation"][name] for line in measured for name in ("student", "baseline")]
        shown += [row["perplexity"] for row in rows]
    lowest, highest = 0.9 * min(shown), 1.12 * max(shown)
    axes.set_ylim(lowest, highest)
    axes.set_yticks(ticks := round_ticks(lowest, highest), [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlim(0, last)
    axes.set_xlabel("step")
    axes.set_ylabel("held-out perplexity (lower is better)")
    label_ends(axes, ends, lowest, highest)
    set_title(figure, axes, "Perplexity while learning", formula)
    return figure


def runtime_figure(results: dict[str, Any]) -> Figure:
    """Teacher and student side by side: latency, throughput, generation, memory."""
    panels: tuple[tuple[str, str, str], ...] = (
        ("latency_ms", "score one sequence\n(ms, lower is better)", "lower"),
        ("tokens_per_second", "score a batch of 32\n(tokens/s, higher is better)", "higher"),
        ("generation_seconds", "generate 10 × 100 tokens\n(s, lower is better)", "lower"),
        ("peak_memory_mb", "peak memory, batch of 32\n(MB, lower is better)", "lower"),
    )
    panels = tuple(p for p in panels if results["student"][p[0]] is not None)
    figure, all_axes = new_figure(2.3 * len(panels), 3.6, columns=len(panels))
    for axes, (key, title, better) in zip(all_axes, panels, strict=True):
        names = [n for n in ("teacher", "student") if results[n][key] is not None]
        values = [results[n][key] for n in names]
        bars = axes.bar(
            names,
            values,
            color=[COLOURS[n] for n in names],
            hatch=[HATCHES[n] for n in names],
            edgecolor="white",
            width=0.65,
        )
        axes.bar_label(bars, [_short(v) for v in values], padding=2, fontsize=10)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylim(0, 1.3 * max(values))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        if len(values) == 2:
            ratio = values[0] / values[1] if better == "lower" else values[1] / values[0]
            axes.text(
                0.98, 0.97, f"× {ratio:.1f}", transform=axes.transAxes, ha="right", va="top",
                fontsize=13, fontweight="bold", color=COLOURS["student"],
            )  # fmt: skip
    return figure


def ledger_figure(lines: Sequence[dict[str, Any]], formula: str = "") -> Figure:
    """Who is teaching: each term's value × weight, and the teacher's share of the gradient."""
    below = textwrap.fill(formula, 128)
    figure, (left, right) = new_figure(9.2, 4.0 + 0.16 * below.count("\n"), columns=2)
    logged = [line for line in lines if line.get("ledger")]
    steps = [line["step"] for line in logged]
    names = {
        "hard": "labels (hard loss)", "soft": "teacher (soft loss)",
        "cosine": "teacher (cosine)", "hidden": "teacher (hidden states)",
        "attention": "teacher (attention)",
    }  # fmt: skip
    terms = [name for name in names if logged and name in logged[0]["ledger"]]
    for name in terms:
        style, marker = _TERM_STYLES[name]
        entries = [line["ledger"][name] for line in logged]
        if not any(entry["weight"] for entry in entries):
            continue
        every = max(1, len(steps) // 8)
        left.plot(
            steps, [e["value"] * e["weight"] for e in entries], style, color=COLOURS[name],
            linewidth=2.2, marker=marker, markevery=every, label=names[name],
        )  # fmt: skip
    left.set_yscale("log")
    left.set_xlabel("step")
    left.set_ylabel("weight × loss (nats)")
    left.legend(frameon=False)
    shares = [1 - line["ledger"]["hard"]["share"] for line in logged]
    if steps:
        right.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    right.set_ylim(0, 1)
    low = [0.0] * len(logged)
    # What comes from the teacher below, labels on top.
    for name in (*terms[1:], *terms[:1]):
        entries = [line["ledger"][name]["share"] for line in logged]
        high = [a + b for a, b in zip(low, entries, strict=True)]
        right.fill_between(steps, high, low, color=COLOURS[name], alpha=0.9, linewidth=0)
        middle = len(steps) // 2
        if high[middle] - low[middle] > 0.1:
            right.text(
                (steps[0] + steps[-1]) / 2, (low[middle] + high[middle]) / 2, _SHORT_NAMES[name],
                ha="center", va="center", fontsize=13,
            )  # fmt: skip
        low = high
    right.set_xlabel("step")
    by_parameters = "last hidden" in formula or "[layers" in formula
    reach = "parameters" if by_parameters else "logits"
    right.set_ylabel(f"share of the gradient on the {reach}")
    set_title(figure, left, "Loss ledger")
    right.set_title(
        f"Teacher's share at the end: {shares[-1]:.1%}" if shares else "",
        loc="left",
        fontsize=13,
        fontweight="bold",
    )
    figure.supxlabel(below, fontsize=9, color="#444444")
    return figure


def amino_acid_figure(results: dict[str, Any]) -> Figure:
    """Composition of generated sequences beside the truth, where it is known."""
    figure, axes = new_figure(9.2, 3.8)
    names = [n for n in ("oracle", "teacher", "student", "baseline") if results[n]["amino_acids"]]
    width = 0.84 / len(names)
    reference = results[names[0]]["amino_acids"]
    order = sorted(AMINO_ACIDS, key=lambda a: -reference[a])
    for i, name in enumerate(names):
        axes.bar(
            [x + (i - (len(names) - 1) / 2) * width for x in range(len(order))],
            [100 * results[name]["amino_acids"][a] for a in order],
            width=width,
            color=COLOURS[name],
            hatch=HATCHES[name],
            edgecolor="white",
            linewidth=0.3,
            label="the world (exact)" if name == "oracle" else LABELS[name],
        )
    axes.set_xticks(range(len(order)), order)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylabel("share of residues (%)")
    axes.legend(frameon=False, ncols=2)
    set_title(figure, axes, "Amino acids in 200 generated sequences")
    return figure


def variants_figure(results: dict[str, dict[str, Any]]) -> Figure:
    """Held-out perplexity of the same student under several variants of a recipe.

    Args:
        results: of results.json, by the label to show.
    """
    figure, axes = new_figure(8.0, 1.4 + 0.62 * len(results))
    labels = list(results)
    any_result = results[labels[0]]
    ends = []
    for name in ("oracle", "teacher", "baseline"):
        value = _reference(name, any_result)
        if value is not None:
            axes.axvline(
                value, color=COLOURS[name], linestyle="--" if name == "baseline" else STYLES[name],
                linewidth=2,
            )  # fmt: skip
            ends.append((name, value))
    values = [results[label]["student"]["perplexity"] for label in labels]
    positions = list(range(len(labels)))[::-1]
    axes.scatter(values, positions, s=90, color=COLOURS["student"], zorder=3)
    for value, position in zip(values, positions, strict=True):
        axes.annotate(
            f"{value:.2f}",
            (value, position),
            (0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=11,
        )
    # Oracle and teacher may stand close together: their names lean away from each other.
    sides = {"oracle": "right", "teacher": "left", "baseline": "center"}
    for name, value in ends:
        axes.annotate(
            f"{name} {value:.2f}", (value, 1.0), (0, 4), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha=sides[name], color=COLOURS[name], fontsize=11,
        )  # fmt: skip
    axes.set_yticks(positions, labels, fontsize=12)
    axes.set_ylim(-0.6, len(labels) - 0.2)
    axes.set_xlabel("held-out perplexity of the student (lower is better)")
    return figure


# ---------------------------------------------------------------------- parts

_TERM_STYLES = {
    "hard": ("--", "s"), "soft": ("-", "o"), "cosine": (":", "^"), "hidden": ("-.", "D"),
    "attention": ("-", "v"),
}  # fmt: skip
_SHORT_NAMES = {
    "hard": "labels", "soft": "teacher", "cosine": "cosine", "hidden": "hidden states",
    "attention": "attention",
}  # fmt: skip


def _reference(name: str, results: dict[str, Any]) -> float | None:
    if name == "uniform":
        return results.get("uniform") or _uniform(results)
    return results[name]["perplexity"]


def _uniform(results: dict[str, Any]) -> float | None:
    """Perplexity of guessing evenly over the oracle's symbols; unknown without one."""
    if results["oracle"].get("amino_acids") is None:
        return None
    return len(AMINO_ACIDS) + 1.0


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
