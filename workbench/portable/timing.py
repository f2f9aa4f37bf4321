"""Time of one call, again and again. Nothing is imported that a process has to be without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

#: Calls before the clock counts, and the fewest that are timed.
WARM_UP, LEAST = 5, 40


def latency(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Median, 5th and 95th percentile of a call's wall-clock time, ms.

    Args:
        call: what is timed.
        seconds: how long to repeat it; at least `LEAST` times in any case.
    """
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - began < seconds:
        before = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - before))
    twentieths = statistics.quantiles(times, n=20, method="inclusive")
    return {
        "latency_ms": statistics.median(times),
        "latency_p5_ms": twentieths[0],
        "latency_p95_ms": twentieths[-1],
    }
