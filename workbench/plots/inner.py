"""Figures of what models hold inside: attention maps, which layers are compared, whose gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.plots.style import COLOURS, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TERMS = {
    "hard": "labels", "soft": "teacher's answers", "cosine": "last hidden states",
    "hidden": "hidden states", "attention": "attention",
}  # fmt: skip
#: A second cue beside the colour of each term.
TERM_HATCHES = {"hard": "", "soft": "//", "cosine": "..", "hidden": "\\\\", "attention": "xx"}


def attention_figure(
    maps: Mapping[str, Sequence[tuple[str, np.ndarray]]], words: Sequence[str], title: str
) -> Figure:
    """Attention maps, a row for each model: which token (down) looks at which (across).

    Args:
        maps: by the name of the model, "teacher" first: (what it is, ``[length, length]``
            probabilities of keys for each query) for each map; as many for every model.
        words: the sentence's tokens.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    columns = max(len(row) for row in maps.values())
    side = 1.0 + 0.16 * len(words)
    figure = Figure(
        figsize=(1.4 + side * columns, 0.9 + (side + 0.35) * len(maps)), layout="constrained",
        facecolor="white",
    )  # fmt: skip
    grid = figure.subplots(len(maps), columns, squeeze=False)
    # One scale for all of them, or they could not be compared.
    highest = max(float(values.max()) for row in maps.values() for _, values in row)
    for row, (name, own) in enumerate(maps.items()):
        for axes in grid[row][len(own) :]:
            axes.set_visible(False)
        for column, (label, values) in enumerate(own):
            axes = grid[row][column]
            image = axes.imshow(values, cmap="cividis", vmin=0, vmax=highest)
            _label_tokens(axes, words, left=column == 0, below=row == len(maps) - 1)
            axes.set_title(label, fontsize=11, color=COLOURS.get(name, "#000000"))
        grid[row][0].set_ylabel(name, fontsize=13, fontweight="bold",
                                color=COLOURS.get(name, "#000000"))  # fmt: skip
    figure.colorbar(image, ax=grid, shrink=0.6).set_label("share of a token's attention")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def layer_pairs_figure(
    teacher_layers: int,
    student_layers: int,
    *,
    copied: Sequence[tuple[int, int]] = (),
    hidden: Sequence[tuple[int, int]] = (),
    attention: Sequence[tuple[int, int]] = (),
    title: str = "",
) -> Figure:
    """Teacher and student as two rows of boxes, embeddings first, and which belong together.

    Args:
        teacher_layers: how many.
        student_layers: how many.
        copied: (student layer, teacher layer) from 0: where the student's weights come from.
        hidden: indices into hidden states (student's, teacher's); 0 is after the embeddings.
        attention: (student layer, teacher layer) from 0: whose attention is compared.
        title: of the figure.
    """
    figure, axes = new_figure(9.6, 3.4)
    widest = teacher_layers + 1
    places = {
        "teacher": [float(i) for i in range(widest)],
        "student": [i * teacher_layers / student_layers for i in range(student_layers + 1)],
    }
    for name, height in (("teacher", 1.0), ("student", 0.0)):
        for number, x in enumerate(places[name]):
            _box(axes, x, height, "emb." if number == 0 else str(number - 1), COLOURS[name])
        axes.text(-0.75, height, name, ha="right", va="center", fontsize=13, color=COLOURS[name])
    kinds = (
        ("copied", [(s + 1, t + 1) for s, t in copied], "-", "#000000", 0.0),
        ("hidden states compared", hidden, "-", "#E69F00", -0.09),
        ("attention compared", [(s + 1, t + 1) for s, t in attention], "--", "#CC79A7", 0.09),
    )
    for label, pairs, style, colour, aside in kinds:
        for number, (own, theirs) in enumerate(pairs):
            ends = [places["student"][own] + aside, places["teacher"][theirs] + aside]
            axes.plot(
                ends, [0.17, 0.83], style, color=colour, linewidth=2.4,
                label=label if number == 0 else None,
            )  # fmt: skip
    axes.set_xlim(-2.0, widest - 0.3)
    axes.set_ylim(-0.35, 1.35)
    axes.set_axis_off()
    axes.legend(frameon=False, ncols=3, loc="upper left", bbox_to_anchor=(0.0, 0.02), fontsize=11)
    set_title(figure, axes, title)
    return figure


def shares_figure(ledgers: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Whose gradient it is: the share of each term, a bar for each reading of a recipe.

    Args:
        ledgers: by label, share of the gradient by term.
        title: of the figure.
    """
    figure, axes = new_figure(9.2, 1.7 + 0.62 * len(ledgers))
    labels = list(ledgers)[::-1]
    left = np.zeros(len(labels))
    for term in [t for t in TERMS if any(t in ledger for ledger in ledgers.values())]:
        shares = np.array([ledgers[label].get(term, 0.0) for label in labels])
        axes.barh(
            labels, shares, left=left, height=0.62, color=COLOURS[term], edgecolor="white",
            hatch=TERM_HATCHES[term], label=TERMS[term],
        )  # fmt: skip
        for place, (start, share) in enumerate(zip(left, shares, strict=True)):
            if share > 0.045:
                axes.text(
                    start + share / 2, place, f"{share:.0%}", ha="center", va="center",
                    fontsize=11, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
                )  # fmt: skip
        left += shares
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("share of the gradient on the student's parameters")
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=11)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def _label_tokens(axes: Axes, words: Sequence[str], *, left: bool, below: bool) -> None:
    places = range(len(words))
    axes.set_xticks(places, words if below else [""] * len(words), rotation=90, fontsize=9)
    axes.set_yticks(places, words if left else [""] * len(words), fontsize=9)
    axes.tick_params(length=0)


def _box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.text(
        x, y, text, ha="center", va="center", fontsize=11, color=colour,
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour,
              "linewidth": 1.6},
    )  # fmt: skip
