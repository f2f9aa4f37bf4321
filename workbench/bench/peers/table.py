"""The step of all contestants as a table for people."""

from __future__ import annotations

from typing import Any

from workbench.bench.goals import goals_text
from workbench.columns import aligned


def text(found: dict[str, Any]) -> str:
    """The whole of `measure` for a terminal."""
    lines = [["", "ms a step", "10 to 90 %", "cpu ms", "of ours", "first loss"]]
    for name, one in found["contestants"].items():
        low, high = one["spread_ms"]
        lines.append([
            name, f"{one['step_ms']:.1f}", f"{low:.1f} to {high:.1f}", f"{one['cpu_ms']:.1f}",
            f"{one['times_ours']:.2f} ×", f"{one['first_loss']:.6f}",
        ])  # fmt: skip
    floor = [["floor", "GFLOP", "at GFLOP/s", "floor ms", "step ms", "share"]]
    for width, one in found["floor"].items():
        for rate in ("square", "own"):
            floor.append([
                f"width {width}, {'large' if rate == 'square' else 'own'} products",
                f"{one['gflop']:.3f}", f"{one[f'{rate}_gflops']:.0f}",
                f"{one[f'{rate}_floor_ms']:.2f}", f"{one['step_ms']:.1f}",
                f"{one[f'{rate}_share']:.0%}",
            ])  # fmt: skip
    notes = [found["textbrewer"]] if found["textbrewer"] else []
    return "\n".join([aligned(lines), "", aligned(floor), "", *goals_text(found["goals"]), *notes])
