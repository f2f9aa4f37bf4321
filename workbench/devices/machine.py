"""The machine in words, beside everything that was measured on it; and a process's memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def name() -> str:
    """Processor and number of cores, such as "Intel(R) Core(TM) i5-8250U CPU, 8 cores"."""
    cores = os.cpu_count() or 1
    return f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}"


def resident_memory() -> tuple[int, int]:
    """Memory of this process that lies in RAM, bytes: now, and the most that it ever was."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        import resource

        import psutil

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return psutil.Process().memory_info().rss, most * (1 if sys.platform == "darwin" else 1024)
    # Not ru_maxrss here: a new process inherits that of the one which started it.
    stated = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
    now, most = (1024 * int(stated[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    return now, most


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
