"""What exported models cost and lose: `workbench bench portable`.

Every built-in teacher and a student of each kind, in PyTorch, as ONNX, and as ONNX in int8. The
student of ProtGPT2 is the built-in one; the others are trained here, each by its own recipe.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.bench.goals import Goal, goals_text
from workbench.columns import aligned
from workbench.progress import Progress, Silent, for_here

#: Built-in models, and recipes whose students are trained first.
MODELS = ("protgpt2", "protgpt2-tiny", "pmhc", "biobert")
TRAINED = ("distilbert-pmhc", "distilbiobert", "tinybiobert")
#: Processes in which each file is measured.
ROUNDS = 5
WAYS = ("PyTorch", "ONNX float32", "ONNX int8")
#: What a table shows of the figures of `portable.export`.
_COLUMNS = (
    ("size_mb", "size MB", "{:.2f}"), ("load_ms", "load ms", "{:.0f}"),
    ("libraries_memory_mb", "libraries MB", "{:.0f}"),
    ("peak_memory_mb", "peak memory MB", "{:.0f}"), ("latency_ms", "latency ms", "{:.2f}"),
    ("latency_p5_ms", "p5", "{:.2f}"), ("latency_p95_ms", "p95", "{:.2f}"),
    ("largest_difference", "differs by", "{:.1e}"), ("perplexity", "perplexity", "{:.4f}"),
    ("accuracy", "accuracy", "{:.4f}"), ("f1", "F1", "{:.4f}"), ("auc", "AUC", "{:.4f}"),
)  # fmt: skip


def measure(
    built_in: Sequence[str] = MODELS,
    trained: Sequence[str] = TRAINED,
    *,
    steps: int | None = None,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Export every model and collect the figures.

    Args:
        built_in: names of built-in models.
        trained: recipes whose students are trained first.
        steps: of their training; None for the recipe's.
        rounds: processes in which each file is measured.
        progress: who is told; a bar by default.

    Returns:
        ``models``: by name ``{"task", "typical_tokens", "rows": {way: figures}, "int8_loss"}``
        with the figures of `portable.export`; ``rounds``; and the goal, how near float32 is to
        PyTorch.
    """
    from workbench import portable, runs
    from workbench.portable.agreement import TOLERANCE

    progress = progress or for_here()
    found: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as place:
            for number, name in enumerate((*built_in, *trained)):
                progress.stage(name)
                what = name
                if number >= len(built_in):
                    what = str(Path(place, "runs", name))
                    runs.distill(name, what, steps=steps, brief=True, progress=Silent())
                made = portable.export(
                    what, int8=True, out=Path(place, name), rounds=rounds, progress=Silent()
                )
                ways = (made["pytorch"], made["files"]["float32"], made["files"]["int8"])
                found[name] = {
                    "task": made["task"],
                    "typical_tokens": made["typical_tokens"],
                    "rows": {
                        way: {key: row[key] for key in row if key != "path"}
                        for way, row in zip(WAYS, ways, strict=True)
                    },
                    "int8_loss": made["int8_loss"],
                }
    finally:
        progress.close()
    furthest = max(model["rows"][WAYS[1]]["largest_difference"] for model in found.values())
    goal = Goal("largest difference of a float32 logit", furthest, TOLERANCE, "at most")
    return {"models": found, "rounds": rounds, "goals": [goal.to_json()]}


def text(measured: dict[str, Any]) -> str:
    """A table with three lines a model, and the goal."""
    lines = [["", *(title for _, title, _ in _COLUMNS)]]
    for name, model in measured["models"].items():
        for way, row in model["rows"].items():
            cells = ("–" if row[k] is None else form.format(row[k]) for k, _, form in _COLUMNS)
            lines.append([f"{name}, {way}", *cells])
    return "\n".join([aligned(lines), *goals_text(measured["goals"])])
