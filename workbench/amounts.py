"""Amounts for people: bytes, time and work in two digits and a unit."""

from __future__ import annotations

import math

PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def in_bytes(amount: float) -> str:
    """Bytes for people: ``3.1 GB``, with powers of 1,000."""
    return _scaled(amount, "B", "bytes")


def in_time(seconds: float) -> str:
    """Seconds for people: ``42 s``, ``3.5 h``, ``12 days``, ``8.1 years``."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def in_flops(amount: float) -> str:
    """FLOPs for people: ``1.3 PFLOP``."""
    return _scaled(amount, "FLOP", "FLOP")


def _scaled(amount: float, unit: str, plain: str) -> str:
    """With the largest prefix that leaves 1 or more; below the smallest as it is."""
    for prefix, size in PREFIXES:
        if amount >= size:
            return f"{_short(amount / size)} {prefix}{unit}"
    return f"{amount:.0f} {plain}"


def _short(value: float) -> str:
    """Two significant digits and all that stand before the point."""
    if value <= 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(value)))
    return f"{value:,.{min(digits, 6)}f}"
