"""A student for small devices: an ONNX file, on request also in int8, that runs without torch.

exporting.py       `export`: from a run or a model to a directory with everything in it
subject.py         what is exported: which model, of what kind, judged by what data
onnx_files.py      PyTorch to ONNX, and ONNX to int8
agreement.py       how far the answers of a file are from PyTorch's
quality.py         perplexity, or accuracy, F1 and AUC, of whatever gives logits
measure.py         size, load time, memory and latency, each in a process of its own
with_torch.py, without_torch.py
                   what runs in those processes; timing.py is common to both
card.py            the directory's README
table.py           the figures as text

>>> from workbench import portable
>>> portable.export("protgpt2-tiny", int8=True, out="small")["files"]["int8"]["size_mb"]
"""

from __future__ import annotations

from typing import Any

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    # On use: what runs in a process without torch is in this package, too.
    if name in __all__:
        from workbench.portable import exporting

        return getattr(exporting, name)
    raise AttributeError(f"module 'workbench.portable' has no attribute {name!r}")
