"""A workbench for learning and teaching knowledge distillation on the models of biology.

Importing this package is quick; torch and transformers are loaded when they are used.

    >>> import workbench
    >>> results = workbench.distill("protgpt2-tiny", temperature=2, steps=300)
    >>> print(workbench.table(results))
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Threads of torch that wait for one another spin for milliseconds by default (libgomp). Alone on
# a machine that is fastest (`workbench bench step`: 15.0 ms, against 17.6 to 19.0 ms with the
# setting below). Where a browser wants the other core they keep it from the very thread that
# they wait for, and a step can take several times as long; so not in a notebook. libgomp reads
# this when torch is loaded; what the user has set counts.
if "ipykernel" in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_EXPORTS = {
    "distill": "workbench.runs",
    "plan": "workbench.planning.plans",
    "resume": "workbench.runs",
    "read_metrics": "workbench.runs",
    "table": "workbench.comparisons.tables",
    "FourRows": "workbench.comparisons.tables",
    "speed_ratio": "workbench.evaluation",
    "teach": "workbench.teaching.teachers",
    "RunConfig": "workbench.config",
    "Distiller": "workbench.distiller",
    "Lab": "workbench.lab.live.lab",
    "Landscape": "workbench.lab.landscape.landscape",
    "replay": "workbench.runs",
    "sweep": "workbench.sweeps",
    "WorkbenchError": "workbench.errors",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
