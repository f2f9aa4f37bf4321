"""A workbench for learning and teaching knowledge distillation on the models of biology.

Importing this package is quick; torch and transformers are loaded when they are used.

    >>> import workbench
    >>> results = workbench.distill("protgpt2-tiny", temperature=2, steps=300)
    >>> print(workbench.table(results))
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Threads of torch that wait for one another spin for milliseconds by default (libgomp). On a
# machine that does anything else they keep the core from the very thread that they wait for: a
# step was seen to take 7 times as long beside a test run (`workbench bench step`). libgomp reads
# this when torch is loaded; what the user has set counts.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_EXPORTS = {
    "distill": "workbench.runs",
    "resume": "workbench.runs",
    "read_metrics": "workbench.runs",
    "table": "workbench.tables",
    "FourRows": "workbench.tables",
    "speed_ratio": "workbench.evaluation",
    "teach": "workbench.teachers",
    "RunConfig": "workbench.config",
    "Distiller": "workbench.distiller",
    "WorkbenchError": "workbench.errors",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
