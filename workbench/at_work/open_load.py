"""A model at work: sequences arrive at their own pace, and each one waits for its answer.

The load is *open*: when a sequence arrives is decided before the stream begins and does not depend
on how fast the answers come. A tester that asks, waits for the answer and then asks again slows
down with the model that it tests: while the model stands still, nothing is asked, and what would
have waited is missing from the figures (*coordinated omission*). Here latency runs from the moment
at which a sequence arrives to its answer, waiting included.

One worker scores what has arrived, several at a time if it may. Arrivals need no thread of their
own, which would take the worker's time: whenever the worker is free it looks at the clock and takes
what is due by then.

    arrivals → `serve` → `Served` → `report`;   `measure` does it for several models and rates
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from workbench.at_work.scoring import Score
from workbench.at_work.scoring import likelihoods as likelihoods
from workbench.errors import UsageError, WorkbenchError

Pattern = Literal["poisson", "even"]

#: Shares of a model's capacity at which it is measured.
LOADS = (0.3, 0.6, 0.8, 0.95, 1.25)
#: Seconds during which sequences arrive, at each rate.
SECONDS = 2.0
#: Points of time at which the queue is looked at.
QUEUE_POINTS = 60
#: A sleeping worker wakes up late; so long before the time it waits awake, s.
_AWAKE = 1e-3


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> float:
        """Seconds."""
        ...

    def wait_until(self, moment: float) -> None:
        """Return at that time, or at once if it is past."""
        ...


class WallClock:
    """The machine's."""

    def now(self) -> float:
        """Seconds from an arbitrary point."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Sleep, and be awake when it counts."""
        while (left := moment - time.perf_counter()) > 0:
            if left > _AWAKE:
                time.sleep(left - _AWAKE)


@dataclass(frozen=True)
class Served:
    """What happened to each sequence of a stream; seconds from the stream's beginning.

    Attributes:
        arrived: ``[n]``, rising.
        begun: ``[n]``, when the worker took it.
        answered: ``[n]``.
        calls: of the model; a call answers one sequence or several.
        busy: seconds in these calls.
    """

    arrived: np.ndarray
    begun: np.ndarray
    answered: np.ndarray
    calls: int
    busy: float

    @property
    def latency(self) -> np.ndarray:
        """``[n]``, from arrival to answer, s."""
        return self.answered - self.arrived

    @property
    def service(self) -> np.ndarray:
        """``[n]``, in the model only, s: what a tester sees who waits before asking again."""
        return self.answered - self.begun

    def waiting(self, moments: np.ndarray) -> np.ndarray:
        """Sequences that have arrived and are not begun yet, at each of these moments."""
        return np.searchsorted(self.arrived, moments, side="right") - np.searchsorted(
            np.sort(self.begun), moments, side="right"
        )


def arrivals(
    rate: float, seconds: float, *, pattern: Pattern = "poisson", seed: int = 0
) -> np.ndarray:
    """Moments at which sequences arrive, rising, s: ``[round(rate·seconds)]``, one at least.

    Args:
        rate: sequences/s.
        seconds: how long they arrive.
        pattern: "poisson", each at a random moment independently of all others, as from many
            people who do not know of one another (a Poisson process whose number is fixed, so that
            the rate is exactly the given one); or "even", at equal distances.
        seed: of the random moments; the same ones for the same seed and number.

    Raises:
        UsageError: if a value is out of range.
    """
    for name, value in (("rate", rate), ("seconds", seconds)):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value}; expected a finite number above 0")
    count = max(1, round(rate * seconds))
    if pattern == "even":
        return np.arange(count) * (seconds / count)
    if pattern != "poisson":
        raise UsageError(f"the pattern of arrivals is {pattern!r}; expected poisson or even")
    rng = np.random.default_rng([seed, 0x617272697665])
    return np.sort(rng.uniform(0.0, seconds, count))


def serve(
    score: Score,
    items: Sequence[str],
    arrived: np.ndarray,
    *,
    max_batch: int = 1,
    clock: Clock | None = None,
) -> Served:
    """Answer a stream with one worker, first come first served, until nothing waits.

    Nothing is thrown away: also what arrives faster than it is answered gets its answer, late, and
    its latency counts.

    Args:
        score: the model.
        items: sequences, taken in this order and from the beginning again.
        arrived: ``[n]``, rising, s; see `arrivals`.
        max_batch: most sequences in a call. The worker never waits for a batch to fill.
        clock: the machine's by default.

    Raises:
        UsageError: if there are no sequences, no arrivals, or ``max_batch`` is below 1.
    """
    _check(items, max_batch)
    if not len(arrived):
        raise UsageError("nothing arrives; expected at least one moment")
    clock = clock or WallClock()
    begun, answered = np.empty(len(arrived)), np.empty(len(arrived))
    busy, calls, first = 0.0, 0, 0
    start = clock.now()
    while first < len(arrived):
        clock.wait_until(start + arrived[first])
        now = max(clock.now() - start, arrived[first])
        due = int(np.searchsorted(arrived, now, side="right"))
        last = min(due, first + max_batch)
        score([items[i % len(items)] for i in range(first, last)])
        done = clock.now() - start
        begun[first:last], answered[first:last] = now, done
        busy, calls, first = busy + done - now, calls + 1, last
    return Served(np.asarray(arrived, dtype=float), begun, answered, calls, busy)


def latencies(arrived: np.ndarray, service: np.ndarray) -> np.ndarray:
    """A stream on paper: what one worker that takes these times would make of it, one at a time.

    Lindley's recursion: each begins when it has arrived and the one before it is answered.

    Args:
        arrived: ``[n]``, rising, s.
        service: ``[n]``, times in the model, s.

    Returns:
        ``[n]``, from arrival to answer, s.
    """
    free, found = 0.0, np.empty(len(arrived))
    for i, (moment, seconds) in enumerate(zip(arrived, service, strict=True)):
        free = max(free, moment) + seconds
        found[i] = free - moment
    return found


def capacity(
    score: Score,
    items: Sequence[str],
    *,
    max_batch: int = 1,
    seconds: float = 1.0,
    clock: Clock | None = None,
) -> float:
    """Sequences/s of a worker that never has to wait for one: measured, after a warm-up.

    Args:
        score: the model.
        items: sequences; whole rounds through all of them are timed, so that each counts alike.
        max_batch: sequences in a call.
        seconds: for how long, at least.
        clock: the machine's by default.
    """
    _check(items, max_batch)
    clock = clock or WallClock()
    backlog = np.zeros(len(items))
    serve(score, items, np.zeros(min(len(items), 4 * max_batch)), max_batch=max_batch, clock=clock)
    busy, count = 0.0, 0
    while busy < seconds:
        busy += serve(score, items, backlog, max_batch=max_batch, clock=clock).busy
        count += len(items)
        if busy <= 0:
            raise WorkbenchError("the model answers in no time at all; nothing can be measured")
    return count / busy


def report(served: Served, *, rate: float, capacity: float) -> dict[str, Any]:
    """What users and operators ask about one stream.

    Args:
        served: the stream.
        rate: offered, sequences/s.
        capacity: of the model, sequences/s.

    Returns:
        ``rate``, ``load`` (rate over capacity), ``requests``, ``latency_ms`` and ``service_ms``
        (each ``{"p50", "p99", "mean", "max"}``; a percentile is the smallest measured value that
        so many of a hundred do not exceed; of fewer than 100 the 99th is the largest),
        ``throughput`` (answers/s until the last answer), ``utilisation`` (share of that time in
        the model), ``mean_batch``, ``most_waiting``, and ``queue``: ``{"seconds", "waiting"}``,
        how many had arrived and were not begun at moments from the beginning to the last answer.
    """
    end = float(served.answered[-1])
    moments = np.linspace(0.0, end, QUEUE_POINTS)
    return {
        "rate": rate,
        "load": rate / capacity,
        "requests": len(served.arrived),
        "latency_ms": _summary(served.latency),
        "service_ms": _summary(served.service),
        "throughput": len(served.arrived) / end,
        "utilisation": served.busy / end,
        "mean_batch": len(served.arrived) / served.calls,
        "most_waiting": int(served.waiting(served.arrived).max()),
        "queue": {"seconds": moments.tolist(), "waiting": served.waiting(moments).tolist()},
    }


def measure(
    scorers: Mapping[str, Score],
    items: Sequence[str],
    *,
    loads: Sequence[float] = LOADS,
    seconds: float = SECONDS,
    max_batch: int = 1,
    pattern: Pattern = "poisson",
    seed: int = 0,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Streams for several models at rates below, at and beyond the capacity of each.

    All models get the same sequences in the same order, and at the same rate the same moments of
    arrival. A model also gets the rates of the others, as long as these are no more than the
    largest of ``loads`` for itself.

    Args:
        scorers: models by name, such as "teacher" and "student".
        items: sequences.
        loads: shares of a model's capacity.
        seconds: during which sequences arrive, at each rate.
        max_batch: most sequences in a call.
        pattern: see `arrivals`.
        seed: of the arrivals.
        clock: the machine's by default.

    Returns:
        ``max_batch``, ``seconds``, ``pattern``, ``seed`` and ``models``: by name ``{"capacity",
        "runs": [see `report`, by rising rate]}``.

    Raises:
        UsageError: if a value is out of range.
    """
    if not scorers or not loads or not all(math.isfinite(x) and x > 0 for x in loads):
        raise UsageError(
            f"given are {len(scorers)} models and the loads {list(loads)}; expected at least one "
            "model, and shares of its capacity above 0"
        )
    capacities = {
        name: capacity(score, items, max_batch=max_batch, clock=clock, seconds=min(1.0, seconds))
        for name, score in scorers.items()
    }
    rates = sorted({load * most for load in loads for most in capacities.values()})
    found = {}
    for name, score in scorers.items():
        most = capacities[name]
        runs = []
        for rate in rates:
            # Rounding must not take away the largest of its own.
            if rate <= max(loads) * most * (1 + 1e-9):
                arrived = arrivals(rate, seconds, pattern=pattern, seed=seed)
                served = serve(score, items, arrived, max_batch=max_batch, clock=clock)
                runs.append(report(served, rate=rate, capacity=most))
        found[name] = {"capacity": most, "runs": runs}
    return {
        "max_batch": max_batch,
        "seconds": seconds,
        "pattern": pattern,
        "seed": seed,
        "models": found,
    }


def at_rate(measured: Mapping[str, Any], name: str, rate: float) -> dict[str, Any]:
    """The run of a model whose offered rate is nearest to the given one (ratio, not difference).

    Args:
        measured: of `measure`.
        name: of the model.
        rate: sequences/s.
    """
    runs = measured["models"][name]["runs"]
    return min(runs, key=lambda run: abs(math.log(run["rate"] / rate)))


def table(measured: Mapping[str, Any]) -> str:
    """A line for each model and rate."""
    lines = [
        f"{'':<10}{'offered/s':>10}{'load':>7}{'answered/s':>12}{'busy':>7}{'p50 ms':>10}"
        f"{'p99 ms':>10}{'in the model, p99':>19}{'batch':>7}{'most waiting':>14}"
    ]
    for name, entry in measured["models"].items():
        for run in entry["runs"]:
            latency, service = run["latency_ms"], run["service_ms"]
            lines.append(
                f"{name:<10}{run['rate']:>10,.0f}{run['load']:>7.0%}{run['throughput']:>12,.0f}"
                f"{run['utilisation']:>7.0%}{latency['p50']:>10.2f}{latency['p99']:>10.2f}"
                f"{service['p99']:>19.2f}{run['mean_batch']:>7.1f}"
                f"{run['most_waiting']:>14,}"
            )
    return "\n".join(lines)


def _summary(seconds: np.ndarray) -> dict[str, float]:
    milliseconds = 1e3 * seconds
    p50, p99 = np.percentile(milliseconds, (50, 99), method="inverted_cdf").tolist()
    return {
        "p50": p50,
        "p99": p99,
        "mean": float(milliseconds.mean()),
        "max": float(milliseconds.max()),
    }


def _check(items: Sequence[str], max_batch: int) -> None:
    if not len(items):
        raise UsageError("there are no sequences to score; expected at least one")
    if max_batch < 1:
        raise UsageError(f"max_batch is {max_batch}; expected at least 1")
