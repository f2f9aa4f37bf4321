"""Results as tables: text for a terminal, HTML for a notebook."""

from __future__ import annotations

from html import escape
from typing import Any

from workbench import tasks
from workbench.columns import aligned
from workbench.evaluation import ROW_NAMES, speed_words

EXPLAINED = {
    "oracle": "oracle: the truth",
    "teacher": "teacher",
    "student": "student: distilled",
    "baseline": "baseline: same student, labels only",
}


def table(results: dict[str, Any]) -> str:
    """The four rows of ``results.json`` as aligned text."""
    task = tasks.of_results(results)
    columns = task.columns()
    lines = [["", *(title for _, title, _ in columns)]]
    lines += [[name, *_cells(results[name], task)] for name in ROW_NAMES]
    return aligned(lines)


def summary(results: dict[str, Any]) -> str:
    """The table, how much faster the student is, and what the teacher was worth."""
    return "\n".join([table(results), *_sentences(results)])


class FourRows:
    """The four rows for a notebook cell: shown as an HTML table, printed as text.

    Args:
        results: of `workbench.distill` or ``results.json``.
    """

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results

    def __str__(self) -> str:
        return summary(self.results)

    def _repr_html_(self) -> str:
        task = tasks.of_results(self.results)
        head = "".join(f"<th scope='col'>{escape(title)}</th>" for _, title, _ in task.columns())
        rows = "".join(
            f"<tr><th scope='row' style='text-align:left'>{escape(EXPLAINED[name])}</th>"
            + "".join(
                f"<td style='white-space:nowrap'>{escape(cell)}</td>"
                for cell in _cells(self.results[name], task)
            )
            + "</tr>"
            for name in ROW_NAMES
        )
        notes = "".join(f"<p>{escape(sentence)}</p>" for sentence in _sentences(self.results))
        return (
            "<div class='workbench-four-rows'><table><thead><tr><th></th>"
            f"{head}</tr></thead><tbody>{rows}</tbody></table>{notes}</div>"
        )


def _cells(row: dict[str, Any], task: tasks.Task) -> list[str]:
    """A row's cells; where the task says so, with half of the width of a figure's interval."""
    intervals = (row.get("intervals") or {}) if task.intervals_in_table else {}
    return [_cell(row[key], intervals.get(key), form) for key, _, form in task.columns()]


def _cell(value: float | None, interval: list[float] | None, form: str) -> str:
    if value is None:
        return "–"
    text = form.format(value)
    return text if interval is None else f"{text} ±{(interval[1] - interval[0]) / 2:.3f}"


def _sentences(results: dict[str, Any]) -> list[str]:
    sentences = tasks.of_results(results).sentences(results)
    if results["teacher"]["latency_ms"]:
        sentences.append(f"Against its teacher the student has {speed_words(results)}.")
    if results["steps"] is not None:
        sentences.append(
            f"{results['steps']} steps in {results['seconds']:.0f} s; "
            f"everything is in {results['run']}."
        )
    return sentences
