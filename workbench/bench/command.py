"""`workbench bench WHAT`: what can be measured, and the files that keep the figures."""

from __future__ import annotations

from collections.abc import Sequence
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
        parts: key of the figures that it has by name, and can make for some names only.
        table: module of `workbench.bench` whose ``text`` writes the figures for people; without
            one they are written line by line.
    """

    module: str
    function: str
    file: str
    parts: str = ""
    table: str = ""


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
    "streaming": Benchmark("streaming", "measure", "streaming"),
    "scaling": Benchmark("scaling", "measure", "scaling", table="scaling"),
    "full-shape": Benchmark("full_shape", "measure", "full_shape", parts="recipes"),
    "headline": Benchmark("published_speeds", "measure", "headline", table="published_speeds"),
    "protocol": Benchmark("published_speeds", "protocol", "protocol", table="published_speeds"),
    "devices": Benchmark("devices", "measure", "devices"),
    "stream": Benchmark("serving", "stream", "stream", table="serving"),
    "ensemble": Benchmark("serving", "ensemble", "ensemble", table="serving"),
    "strangers": Benchmark("strangers", "measure", "strangers", table="strangers"),
    "portable": Benchmark("portable", "measure", "portable", table="portable"),
    "peers": Benchmark("peers.measure", "measure", "peers", table="peers.table"),
    "grid": Benchmark("peers.grid", "measure_grid", "grid"),
}


def run(what: str, directory: Path = KEPT, names: Sequence[str] = ()) -> dict[str, Any]:
    """Measure one thing and write its figures to a file, which replaces that of an earlier time.

    Args:
        what: of `BENCHMARKS`.
        directory: of the file.
        names: what to measure of it, where it has parts; then nothing is written.

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
    if names and not benchmark.parts:
        raise UsageError(f"bench {what} measures all of it; leave {' '.join(names)} out")
    module = import_module(f"workbench.bench.{benchmark.module}")
    if names:
        made = getattr(module, benchmark.function)(names)
        return _stamped(" ".join((what, *names)), made)
    storage.make_directory(directory, "the measurements")
    measured = _stamped(what, getattr(module, benchmark.function)())
    storage.write_json(directory / f"{benchmark.file}.json", measured)
    return measured


def text(what: str, measured: dict[str, Any]) -> str:
    """What was measured, for people: the figures, then the goals."""
    from workbench.bench import goals

    table = BENCHMARKS[what].table
    if table:
        return import_module(f"workbench.bench.{table}").text(measured)
    figures = {key: value for key, value in measured.items() if key != "goals"}
    return "\n".join([*goals.plain(figures), *goals.goals_text(measured.get("goals", []))])


def _stamped(what: str, measured: dict[str, Any]) -> dict[str, Any]:
    from datetime import date

    import torch

    from workbench.devices import machine
    from workbench.run_directory import versions

    return {
        **measured,
        "command": f"workbench bench {what}",
        "threads": torch.get_num_threads(),
        "machine": machine.name(),
        "date": date.today().isoformat(),
        "versions": versions(),
    }
