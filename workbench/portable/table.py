"""The figures of an export as text."""

from __future__ import annotations

from typing import Any

from workbench.columns import aligned
from workbench.portable.quality import KEYS

_TITLES = {"perplexity": "perplexity", "accuracy": "accuracy", "f1": "F1", "auc": "AUC"}


def text(found: dict[str, Any]) -> str:
    """A line for PyTorch and for each file, and what was measured.

    Args:
        found: figures of `exporting.export`.
    """
    rows = {"PyTorch": found["pytorch"], "ONNX float32": found["files"]["float32"]}
    if found["files"]["int8"]:
        rows["ONNX int8"] = found["files"]["int8"]
    judged = [key for key in KEYS if found["pytorch"][key] is not None]
    titles = ["", "size MB", "load ms", "peak memory MB", "latency ms (p5–p95)", "differs by"]
    lines = [[*titles, *(_TITLES[key] for key in judged)]]
    for name, row in rows.items():
        differs = row["largest_difference"]
        lines.append([
            name, f"{row['size_mb']:.2f}", f"{row['load_ms']:.0f}", f"{row['peak_memory_mb']:.0f}",
            f"{row['latency_ms']:.2f} ({row['latency_p5_ms']:.2f}–{row['latency_p95_ms']:.2f})",
            "–" if differs is None else f"{differs:.1e}",
            *(f"{row[key]:.4f}" for key in judged),
        ])  # fmt: skip
    said = (
        f"Latency of one input of {found['typical_tokens']} tokens on one thread.\n"
        "Memory of the whole process, of which the libraries take "
        f"{rows['PyTorch']['libraries_memory_mb']:.0f} MB with PyTorch and "
        f"{rows['ONNX float32']['libraries_memory_mb']:.0f} MB with onnxruntime."
    )
    return f"{aligned(lines)}\n{said}"
