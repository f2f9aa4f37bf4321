"""A sweep's content as it is stored, of invented figures, without any training."""

from __future__ import annotations

import math
from typing import Any

from workbench.comparisons.verdicts import compare, mean_interval
from workbench.lab.landscape.gathering import FORMAT

TEMPERATURES, ALPHAS = (1.0, 2.0, 4.0, 10.0), (0.0, 0.1, 0.5, 1.0)
VARIANTS, SIZES, SEEDS = ("corrected", "as-published"), ("1x24", "2x48"), (0, 1)
WORDS = ["L", "K", "A", "end"]


def perplexity(point: dict[str, Any], seed: int) -> float:
    """An invented figure with a valley, worse for small students and without T²."""
    depth = 5.0 if point["variant"] == "corrected" else 5.0 / point["temperature"]
    depth *= 1 - point["alpha"]
    slope = 1.2 * math.log(point["temperature"])
    small = 3.0 if point["size"] == "1x24" else 0.0
    return 16.0 + small - depth + slope * (1 - point["alpha"]) + 0.05 * seed


def content(**changes: Any) -> dict[str, Any]:
    """Everything; ``changes`` replace entries of ``sweep``."""
    points = [
        made(dict(temperature=t, alpha=a, variant=v, init="random", size=s))
        for t in TEMPERATURES for a in ALPHAS for v in VARIANTS for s in SIZES
    ]  # fmt: skip
    row = {"perplexity": 7.6, "kl_to_teacher": None, "agreement": None, "calibration_error": 0.006}
    sweep = {
        "format": "workbench sweep 1", "recipe": "protgpt2-tiny", "search": None, "steps": 100,
        "axes": {"temperature": list(TEMPERATURES), "alpha": list(ALPHAS),
                 "variant": list(VARIANTS), "init": ["random"], "size": list(SIZES)},
        "seeds": list(SEEDS), "fixed": {"steps": 100},
        "headline": {"key": "perplexity", "name": "perplexity", "better": "lower"},
        "oracle": {**row, "perplexity": 7.1}, "teacher": row, "machine": "x86_64, 1 worker",
        "date": "2026-01-02",
    }  # fmt: skip
    place = {
        "title": "held-out sequence 1", "text": "MKV ?", "words": WORDS, "rest": "any other",
        "label": "K", "teacher": [0.3, 0.4, 0.1, 0.1, 0.1], "oracle": [0.2, 0.5, 0.1, 0.1, 0.1],
    }  # fmt: skip
    return {
        "format": FORMAT, "command": "workbench sweep protgpt2-tiny", "sweep": {**sweep, **changes},
        "points": points,
        "baselines": {"random|1x24": curve(19.0), "random|2x48": curve(16.0)},
        "places": [place, {**place, "title": "held-out sequence 2"}],
    }  # fmt: skip


def made(point: dict[str, Any]) -> dict[str, Any]:
    """One point of the content."""
    values = [perplexity(point, seed) for seed in SEEDS]
    alone = [perplexity({**point, "alpha": 1.0}, seed) + 0.3 * seed for seed in SEEDS]
    mean, interval = mean_interval(values)
    verdict = compare(values, alone, lower_is_better=True)
    figure = {"mean": mean, "interval": list(interval), "values": values, "baseline": alone[0]}
    other = {**figure, "mean": 0.1, "values": [0.1, 0.1], "interval": [0.05, 0.15]}
    return {
        **point, "state": "complete", "mean": mean, "interval": list(interval),
        "baseline": alone[0], "seconds": 3.0, "seeds": list(SEEDS), "errors": [],
        "verdict": {"word": verdict.word, "mean": verdict.mean,
                    "interval": [verdict.low, verdict.high]},
        "figures": {"perplexity": figure, "kl_to_teacher": {**other, "baseline": 0.4},
                    "calibration_error": {**other, "baseline": None}, "agreement": None},
        "curve": curve(mean),
        "ledger": {"hard": {"value": 2.5, "weight": point["alpha"], "share": point["alpha"]},
                   "soft": {"value": 0.1, "weight": 1 - point["alpha"],
                            "share": 1 - point["alpha"]}},
        "answers": [[0.25, 0.35, 0.2, 0.1, 0.1]] * 2,
    }  # fmt: skip


def curve(end: float) -> dict[str, Any]:
    """A curve that ends at a value."""
    steps = [0, 25, 50, 100]
    falling = [21.0, end + 3, end + 1, end]
    return {
        "steps": steps,
        "figures": {"perplexity": falling, "kl_to_teacher": [1.0, 0.5, 0.4, 0.3]},
        "loss_steps": steps[1:],
        "loss": [1.5, 1.2, 1.1],
    }
