"""The ledger, live: what each loss term contributes, and whose gradient reaches the student.

    >>> book = Ledger()
    >>> book
    >>> for batch in batches:
    ...     distiller.step(batch)
    ...     book.add("without T²", distiller, batch)

Several distillers can be kept in one ledger, a row each, under their labels.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ipywidgets as widgets

from workbench.lab import registry, svg
from workbench.lab.publisher import Publisher
from workbench.objective import LedgerEntry
from workbench.plots import COLOURS

if TYPE_CHECKING:
    from workbench.corpora import Batch
    from workbench.distiller import Distiller

TERMS = {"hard": "labels", "soft": "teacher"}


@dataclass(frozen=True)
class Page:
    """One distiller's entries.

    Attributes:
        label: what it is called.
        steps: at which they were made, ascending.
        entries: of each step, by term.
    """

    label: str
    steps: tuple[int, ...]
    entries: tuple[Mapping[str, LedgerEntry], ...]

    @property
    def share(self) -> float:
        """The teacher's share of the gradient at the last entry."""
        return self.entries[-1]["soft"].share


class Ledger(widgets.HTML):
    """A widget that shows the ledger of one or more distillers while they train.

    It is drawn at most ten times a second, whatever the speed of `add`. A ledger made
    by a cell that is run again replaces the one that the cell made before.

    Args:
        name: a new ledger closes the open one of the same name; by default the cell's.
    """

    def __init__(self, name: str | None = None) -> None:
        self._pages: dict[str, Page] = {}
        self._lock = threading.Lock()
        self._publisher = Publisher(self._draw)
        super().__init__(value=picture([]), layout=widgets.Layout(width="auto"))
        self.name = name or f"{registry.cell() or 'elsewhere'}/ledger"
        registry.claim(self.name, self)

    def add(self, label: str, distiller: Distiller, batch: Batch) -> dict[str, LedgerEntry]:
        """Ask a distiller what each term contributes on a batch, and enter it.

        Args:
            label: whose row; the first use of a label begins one.
            distiller: as it stands; it is not changed.
            batch: what it is asked about, usually the next or the last one trained on.

        Returns:
            The entries, by term.

        Raises:
            ValueError: if the distiller has no teacher.
        """
        entries = distiller.ledger(batch)
        with self._lock:
            before = self._pages.get(label, Page(label, (), ()))
            self._pages[label] = Page(
                label, (*before.steps, distiller.step_number), (*before.entries, entries)
            )
        self._publisher.poke()
        return entries

    @property
    def pages(self) -> dict[str, Page]:
        """All entries so far, by label."""
        with self._lock:
            return dict(self._pages)

    @property
    def shares(self) -> dict[str, float]:
        """The teacher's share of the gradient at the last entry, by label."""
        return {label: page.share for label, page in self.pages.items()}

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all entries are drawn; False after ``timeout`` seconds."""
        return self._publisher.flush(timeout)

    def close(self) -> None:
        """End the drawing thread and close the widget. Twice is once."""
        if "_publisher" in self.__dict__:
            registry.release(self)
            self._publisher.close()
        super().close()

    def __repr__(self) -> str:
        """One line, shown where there are no widgets."""
        words = ", ".join(f"{label}: teacher {share:.1%}" for label, share in self.shares.items())
        return f"Ledger({words})"

    def _draw(self) -> None:
        self.value = picture(list(self.pages.values()))


# ---------------------------------------------------------------------- the picture

WIDTH, ROW, HEAD = 910, 132, 34
BARS_LEFT, BARS_WIDTH = 84, 250
CURVE_LEFT, CURVE_WIDTH = 480, 250


def picture(pages: list[Page]) -> str:
    """A row for each page: its terms as bars, its gradient's shares over training.

    One ``<svg>``; pure. The bars of a row share a scale that begins at zero.
    """
    height = HEAD + ROW * max(1, len(pages))
    parts = [
        svg.draw_text(2, 20, "weight × loss", size=15, weight=600, after="nats, at the last step"),
        svg.draw_text(
            CURVE_LEFT, 20, "whose gradient", size=15, weight=600, after="on the student's logits"
        ),
    ]
    for number, page in enumerate(pages):
        parts += _row(page, HEAD + number * ROW)
    if not pages:
        parts.append(
            svg.draw_text(2, HEAD + ROW / 2, "The entries appear here.", colour=svg.FAINT_INK,
                          size=15)
        )  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" preserveAspectRatio="xMinYMin meet" '
        f'style="max-width:100%;height:auto;display:block;color:{svg.INK};'
        f'font-family:{svg.FONT}"><title>Loss ledger</title>'
        f"<desc>{svg.escape(_in_words(pages))}</desc>{''.join(parts)}</svg>"
    )


def _row(page: Page, top: float) -> list[str]:
    last = page.entries[-1]
    title = svg.draw_text(
        2, top + 16, page.label, size=14, weight=600, after=f"step {page.steps[-1]:,}"
    )
    parts = [svg.draw_line(2, top - 4, WIDTH - 2, top - 4, svg.GRID, 1), title]
    parts += _bars(last, top + 32)
    parts += _shares(page, top + 10)
    return parts


def _bars(entries: Mapping[str, LedgerEntry], top: float) -> list[str]:
    weighted = {name: entries[name].weight * entries[name].value for name in TERMS}
    longest = max(*weighted.values(), 1e-12)
    parts = []
    for number, (name, who) in enumerate(TERMS.items()):
        y = top + 38 * number
        width = BARS_WIDTH * max(0.0, weighted[name]) / longest
        parts.append(svg.draw_text(BARS_LEFT - 10, y + 17, who, anchor="end", size=13.5))
        parts.append(
            f'<rect x="{BARS_LEFT}" y="{y:.1f}" width="{width:.1f}" height="24" '
            f'style="fill:{COLOURS[name]}"/>'
        )
        parts.append(
            svg.draw_text(BARS_LEFT + width + 8, y + 17, f"{weighted[name]:.3g}", size=13.5,
                          weight=600,
                          after=f"{entries[name].weight:.3g} × {entries[name].value:.3g}")
        )  # fmt: skip
    return parts


def _shares(page: Page, top: float) -> list[str]:
    high = ROW - 34
    first, span = page.steps[0], max(1, page.steps[-1] - page.steps[0])
    shares = [entry["soft"].share for entry in page.entries]
    places = [
        (CURVE_LEFT + CURVE_WIDTH * (step - first) / span, top + high * (1 - share))
        for step, share in zip(page.steps, shares, strict=True)
    ]
    if len(places) == 1:
        places.append((CURVE_LEFT + CURVE_WIDTH, places[0][1]))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    right, bottom = CURVE_LEFT + CURVE_WIDTH, top + high
    corners = f"{right},{bottom:.1f} {CURVE_LEFT},{bottom:.1f}"
    teacher = shares[-1]
    middle = {"soft": bottom - high * teacher / 2, "hard": top + high * (1 - teacher) / 2}
    # Each name beside its area; they are kept a line apart where one area is thin.
    if middle["soft"] - middle["hard"] < 22:
        centre = (middle["soft"] + middle["hard"]) / 2
        middle = {"soft": centre + 11, "hard": centre - 11}
    share = {"soft": teacher, "hard": 1 - teacher}
    parts = [
        f'<rect x="{CURVE_LEFT}" y="{top:.1f}" width="{CURVE_WIDTH}" height="{high}" '
        f'style="fill:{COLOURS["hard"]}"/>',
        f'<polygon points="{line} {corners}" style="fill:{COLOURS["soft"]}"/>',
        f'<polyline points="{line}" style="fill:none;stroke:{svg.INK};stroke-width:1.5"/>',
        svg.draw_text(CURVE_LEFT, bottom + 16, f"step {first:,}", size=12, colour=svg.FAINT_INK),
        svg.draw_text(right, bottom + 16, f"{page.steps[-1]:,}", size=12, anchor="end",
                      colour=svg.FAINT_INK),
    ]  # fmt: skip
    for name, who in TERMS.items():
        parts.append(
            svg.draw_text(right + 10, middle[name] + 5, f"{who} {share[name]:.1%}", size=14.5,
                          weight=600)
        )  # fmt: skip
    return parts


def _in_words(pages: list[Page]) -> str:
    sentences = [
        f"{page.label}: at step {page.steps[-1]}, the teacher's share of the gradient is "
        f"{page.share:.1%}."
        for page in pages
    ]
    return " ".join(sentences) or "No entry yet."
