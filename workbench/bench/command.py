"""`workbench bench WHAT`: what can be measured, and the files that keep the figures."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from workbench.errors import UsageError

#: Where the figures are kept that README and notebooks quote.
KEPT = Path(__file__).parents[2] / "data" / "benchmarks"


@dataclass(frozen=True)
class Benchmark:
    """One measurement.

    Attributes:
        module: of `workbench.bench` that makes it; loaded when it is asked for.
        function: of that module; called without arguments, it returns what JSON can hold.
        file: in `KEPT`, without its ending.
    """

    module: str
    function: str
    file: str


BENCHMARKS: dict[str, Benchmark] = {
    "step": Benchmark("small", "step", "step"),
    "world": Benchmark("small", "world", "world"),
    "import": Benchmark("small", "import_time", "import"),
    "seeds": Benchmark("small", "seeds", "seeds"),
    "sizes": Benchmark("sizes", "measure", "pmhc_sizes"),
    "mlm-head": Benchmark("mlm_head", "measure", "mlm_head"),
    "biobert": Benchmark("biobert_study", "measure", "biobert"),
    "vocabulary-loss": Benchmark("vocabulary", "measure", "vocabulary_loss"),
    "costs": Benchmark("costs", "measure", "costs"),
    "sliders": Benchmark("sliders", "measure", "sliders"),
    "cache": Benchmark("cache", "measure", "cache"),
    "peers": Benchmark("peers.measure", "measure", "peers"),
    "stream": Benchmark("serving", "stream", "stream"),
    "ensemble": Benchmark("serving", "ensemble", "ensemble"),
    "grid": Benchmark("peers.grid", "measure_grid", "grid"),
    "portable": Benchmark("portable", "measure", "portable"),
}


def run(what: str, directory: Path = KEPT) -> dict[str, Any]:
    """Measure one thing and write its figures to a file, which replaces that of an earlier time.

    Args:
        what: of `BENCHMARKS`.
        directory: of the file.

    Returns:
        The figures, with the command, machine, versions and date.

    Raises:
        UsageError: if there is no such measurement.
        WorkbenchError: if it cannot be made, or its file not be written.
    """
    from workbench import storage

    if what not in BENCHMARKS:
        raise UsageError(f"there is no benchmark {what!r}; expected {' or '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[what]
    storage.make_directory(directory, "the measurements")
    module = import_module(f"workbench.bench.{benchmark.module}")
    measured = _stamped(what, getattr(module, benchmark.function)())
    storage.write_json(directory / f"{benchmark.file}.json", measured)
    return measured


def text(what: str, measured: dict[str, Any]) -> str:
    """What was measured, for people: the figures, then the goals."""
    from workbench.bench import goals, portable, serving
    from workbench.bench.peers import table

    if what == "peers":
        return table.text(measured)
    if what in ("stream", "ensemble"):
        return serving.text(measured)
    if what == "portable":
        return portable.text(measured)
    figures = {key: value for key, value in measured.items() if key != "goals"}
    return "\n".join([*goals.plain(figures), *goals.goals_text(measured.get("goals", []))])


def _stamped(what: str, measured: dict[str, Any]) -> dict[str, Any]:
    from datetime import date

    import torch

    from workbench import machine
    from workbench.run_directory import versions

    return {
        **measured,
        "command": f"workbench bench {what}",
        "threads": torch.get_num_threads(),
        "machine": machine.name(),
        "date": date.today().isoformat(),
        "versions": versions(),
    }
