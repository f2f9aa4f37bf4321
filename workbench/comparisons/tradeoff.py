"""Quality against cost: what was measured of all students, and which of them are worth their cost.

What the course stores, as `workbench bench costs` wrote it, is in
``data/benchmarks/costs.json``; `workbench.bench.costs` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import storage

STORED = Path(__file__).parents[2] / "data" / "benchmarks" / "costs.json"
#: What is paid, in the words of an axis.
COSTS = {
    "latency_ms": "latency of one sequence (ms)",
    "parameters": "parameters",
    "peak_memory_mb": "memory while scoring 32 sequences (MB)",
}
#: Published for the ProtGPT2 students: 10 sequences generated, max_length 100, 5 repeats (the
#: released notebook's output), and what the model card says of all of them.
PUBLISHED = {"protgpt2-tiny": 6.11, "protgpt2-small": 4.49, "protgpt2-medium": 2.64}
CLAIM = 6.0


def label(recipe: str, size: str) -> str:
    """A student's name; of a size that is not the recipe's own, with it."""
    return f"{recipe} {size}" if size else recipe


def front(points: Sequence[tuple[float, float]], better: str) -> list[int]:
    """Numbers of the points that no other one beats at the same cost or less: the Pareto front.

    Args:
        points: cost and quality of each.
        better: "lower" or "higher", of quality; a cost is better if it is lower.

    Returns:
        By rising cost; of equal points the first.
    """
    sign = 1.0 if better == "lower" else -1.0
    best, found = float("inf"), []
    for number in sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1], i)):
        if sign * points[number][1] < best:
            best = sign * points[number][1]
            found.append(number)
    return found


def stored() -> dict[str, Any]:
    """What `workbench bench costs` wrote once: ``data/benchmarks/costs.json``.

    Raises:
        WorkbenchError: if the file is missing or damaged.
    """
    return storage.read_json(STORED)


def table(measured: Mapping[str, Any]) -> str:
    """Every student as a line: quality against teacher and baseline, and how much less it costs."""
    lines = [
        f"{'':<22}{'quality':>10}{'baseline':>10}{'parameters':>12}{'ms':>8}{'MB':>8}"
        f"{'faster scoring':>16}{'generating':>12}"
    ]
    for name, entry in measured["teachers"].items():
        teacher = entry["teacher"]
        lines.append(
            f"{name + ' (teacher)':<22}{teacher['quality']:>10.3f}{'':>10}"
            f"{teacher['parameters']:>12,}{teacher['latency_ms']:>8.2f}"
            f"{teacher['peak_memory_mb']:>8.1f}   {entry['name']}, {entry['better']} is better"
        )
        for row in entry["students"]:
            quality, baseline = (sum(row[k]) / len(row[k]) for k in ("quality", "baseline"))
            modes = [
                [x["speedup"] for x in row["speedups"] if x["mode"] == mode]
                for mode in ("scoring", "generating")
            ]
            ranges = [f"{min(m):.1f}–{max(m):.1f} ×" if m else "–" for m in modes]
            lines.append(
                f"  {label(row['recipe'], row['size']):<20}{quality:>10.3f}{baseline:>10.3f}"
                f"{row['parameters']:>12,}{row['latency_ms']:>8.2f}{row['peak_memory_mb']:>8.1f}"
                f"{ranges[0]:>16}{ranges[1]:>12}"
            )
    return "\n".join(lines)
