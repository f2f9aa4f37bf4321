"""The machine in words, beside everything that was measured on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def name() -> str:
    """Processor and number of cores, such as "Intel(R) Core(TM) i5-8250U CPU, 8 cores"."""
    cores = os.cpu_count() or 1
    return f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}"


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
