"""Results as tables: text for a terminal, HTML for a notebook."""

from __future__ import annotations

from html import escape
from typing import Any

from workbench.evaluation import ROW_NAMES, speed_ratio

COLUMNS = (
    ("parameters", "parameters", "{:,}"),
    ("perplexity", "perplexity", "{:.3f}"),
    ("perplexity_per_residue", "per residue", "{:.3f}"),
    ("kl_to_teacher", "KL to teacher", "{:.4f}"),
    ("agreement", "agreement", "{:.3f}"),
    ("calibration_error", "calibration error", "{:.4f}"),
    ("latency_ms", "latency ms", "{:.2f}"),
    ("tokens_per_second", "tokens/s", "{:,.0f}"),
)
EXPLAINED = {
    "oracle": "oracle: the truth",
    "teacher": "teacher",
    "student": "student: distilled",
    "baseline": "baseline: same student, labels only",
}


def table(results: dict[str, Any]) -> str:
    """The four rows of ``results.json`` as aligned text."""
    lines = [["", *(title for _, title, _ in COLUMNS)]]
    lines += [[name, *_cells(results[name])] for name in ROW_NAMES]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    padded = (
        [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    )
    return "\n".join("  ".join(line) for line in padded)


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
        head = "".join(f"<th scope='col'>{escape(title)}</th>" for _, title, _ in COLUMNS)
        rows = "".join(
            f"<tr><th scope='row' style='text-align:left'>{escape(EXPLAINED[name])}</th>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(self.results[name]))
            + "</tr>"
            for name in ROW_NAMES
        )
        notes = "".join(f"<p>{escape(sentence)}</p>" for sentence in _sentences(self.results))
        return (
            "<div class='workbench-four-rows'><table><thead><tr><th></th>"
            f"{head}</tr></thead><tbody>{rows}</tbody></table>{notes}</div>"
        )


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        "–" if row[key] is None else form.format(row[key]) for key, _, form in COLUMNS
    ]  # fmt: skip


def _sentences(results: dict[str, Any]) -> list[str]:
    sentences = []
    student, baseline = results["student"], results["baseline"]
    if baseline["perplexity"]:
        gain = 1 - student["perplexity"] / baseline["perplexity"]
        sentences.append(
            f"With its teacher the student's perplexity is {abs(gain):.1%} "
            f"{'lower' if gain >= 0 else 'higher'} than without."
        )
    if results["teacher"]["latency_ms"]:
        speed = speed_ratio(results)
        sentences.append(
            f"Against its teacher the student has {speed['parameters']:.1f} × fewer parameters, "
            f"{speed['latency']:.1f} × shorter latency, {speed['throughput']:.1f} × more tokens/s, "
            f"generates {speed['generation']:.1f} × faster and takes "
            f"{speed['memory']:.1f} × less memory."
        )
    if results["steps"] is not None:
        sentences.append(
            f"{results['steps']} steps in {results['seconds']:.0f} s; "
            f"everything is in {results['run']}."
        )
    return sentences
