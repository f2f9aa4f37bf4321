"""Figures of hidden words: what the truth, a teacher and its students say stood there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.plots.style import COLOURS, HATCHES, LABELS, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Words that somebody gives this much are shown, even if others give them less.
NOTABLE = 0.1
#: Looks of those who have no role of their own, such as several students by name.
OTHERS = (("#D55E00", ""), ("#CC79A7", "xx"), ("#E69F00", "--"), ("#56B4E9", "++"))
REST = "any other word"


def words_figure(
    answers: Mapping[str, Mapping[str, float]], title: str, *, most: int = 6
) -> Figure:
    """The likeliest words for a hidden one, according to several who were asked.

    Args:
        answers: by "oracle", "teacher", "student", "baseline" or a name: the probability of each
            word; what is missing has none.
        title: what was asked.
        most: words to show of the first who was asked, likeliest first. Words to which somebody
            else gives `NOTABLE` or more follow, and in the last line all others together.
    """
    words = notable(answers, most)
    figure, axes = new_figure(9.2, 1.5 + 0.2 * (1 + len(words)) * (len(answers) + 0.8))
    height = 0.84 / len(answers)
    looks = iter(OTHERS)
    for number, (name, said) in enumerate(answers.items()):
        colour, hatch = (COLOURS[name], HATCHES[name]) if name in HATCHES else next(looks)
        values = [said.get(word, 0.0) for word in words]
        values.append(max(0.0, sum(said.values()) - sum(values)))
        middle = (number - (len(answers) - 1) / 2) * height
        bars = axes.barh(
            [place + middle for place in range(len(values))], values, height=height, color=colour,
            hatch=hatch, edgecolor="white", linewidth=0.3, label=LABELS.get(name, name),
        )  # fmt: skip
        axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=3, fontsize=9)
    axes.set_yticks(range(len(words) + 1), [*words, REST], fontsize=12)
    axes.get_yticklabels()[-1].set_style("italic")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(patch.get_width() for patch in axes.patches))
    axes.set_xlabel("probability")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    set_title(figure, axes, title)
    return figure


def notable(answers: Mapping[str, Mapping[str, float]], most: int) -> list[str]:
    """Words to show: the first answer's likeliest, then what others are fairly sure of."""
    order: list[str] = []
    for said in answers.values():
        ranked = sorted(said, key=lambda word, said=said: -said[word])
        if order:
            order += [word for word in ranked if said[word] >= NOTABLE and word not in order]
        else:
            order = [word for word in ranked[:most] if said[word] > 0]
    return order
