"""What a file costs where it runs: size, load time, memory, latency, each in a new process.

A process of its own, because memory that one model took is not given back to the next, and
because a file that is to run without torch has to be measured without it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

#: Figures of `cost`, in the order in which they are shown.
KEYS = (
    "size_mb", "import_ms", "load_ms", "libraries_memory_mb", "peak_memory_mb", "latency_ms",
    "latency_p5_ms", "latency_p95_ms",
)  # fmt: skip
#: Seconds that latency is measured for in each process.
SECONDS = 0.5


def cost(
    program: str, request: dict[str, Any], files: Sequence[Path], *, rounds: int = 1
) -> dict[str, float]:
    """Measure a model in new processes with one thread.

    Args:
        program: ``with_torch`` or ``without_torch``.
        request: what it is told, see there.
        files: of the weights.
        rounds: processes; every figure is the median over them.

    Returns:
        ``size_mb`` (of the files), ``import_ms`` (the libraries), ``load_ms`` (from the file to a
        model that can answer), ``libraries_memory_mb`` (resident before the model is loaded),
        ``peak_memory_mb`` (the most that the process ever had resident, libraries included), and
        the latency of one input: ``latency_ms`` (median), ``latency_p5_ms``,
        ``latency_p95_ms``. MB are 10⁶ bytes.

    Raises:
        WorkbenchError: if a process does not come to its end.
    """
    found = [_in_a_process(program, {"seconds": SECONDS, **request}) for _ in range(rounds)]
    figures = {key: statistics.median(f[key] for f in found) for key in KEYS if key != "size_mb"}
    return {"size_mb": sum(f.stat().st_size for f in files) / 1e6, **figures}


def _in_a_process(program: str, request: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", f"workbench.portable.{program}"],
        input=json.dumps(request), capture_output=True, text=True, check=False,
        # Before any library starts its threads.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it left with {done.returncode}"])[-1]
        raise WorkbenchError(f"{request['model']} could not be measured ({program}): {last}")
    return json.loads(done.stdout.splitlines()[-1])
