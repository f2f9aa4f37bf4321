"""One step of every recipe at its published shape, with random weights in it.

`workbench bench full-shape [NAME…]` builds the teacher (`random_teachers`), writes some data, and
runs ``workbench distill NAME --scale paper --teacher DIR --data FILE --steps 1 --brief`` in a
process of its own, in float32: teacher, student and baseline in full width, their optimisers, the
checkpoint, the held-out figures. What it shows is that it runs, in which memory, and in what time;
what such a student answers is worth nothing.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import recipes
from workbench.bench.goals import Goal
from workbench.errors import UsageError, WorkbenchError

#: Peak resident memory of a run, GB (10⁹ bytes), so that it fits a machine with 24 GiB.
MEMORY_GOAL = 20.0


@dataclass(frozen=True)
class Sizes:
    """Of the data and the step.

    Attributes:
        rows: records written; a tenth is held out.
        batch_size: rows a step.
        length: longest row, tokens.
    """

    rows: int
    batch_size: int
    length: int


#: Enough rows for a step whose memory is that of the models and the loss, not of activations.
SIZES = {
    "text-generation": Sizes(rows=9, batch_size=4, length=128),
    "text-classification": Sizes(rows=64, batch_size=16, length=51),
    "fill-mask": Sizes(rows=9, batch_size=8, length=128),
}


def measure(names: Sequence[str] = ()) -> dict[str, Any]:
    """A step of each recipe, and the goals.

    Args:
        names: of recipes; none for all.

    Returns:
        Under ``recipes`` what `one` gives for each.

    Raises:
        UsageError: if there is no such recipe.
        WorkbenchError: if a run does not come to its end.
    """
    unknown = [name for name in names if name not in recipes.names()]
    if unknown:
        raise UsageError(
            f"there is no recipe {unknown[0]!r}; the recipes are {', '.join(recipes.names())}"
        )
    chosen = [name for name in recipes.names() if not names or name in names]
    found: dict[str, Any] = {}
    # Recipes of one teacher come one after the other, so that only one lies on the disk.
    for shape, group in _by_teacher(chosen).items():
        with tempfile.TemporaryDirectory(prefix="workbench-full-shape-") as scratch:
            place = Path(scratch)
            teacher, began = place / "teacher", time.perf_counter()
            made = _child("teacher", group[0], str(teacher))
            made["build_seconds"] = time.perf_counter() - began
            for name in group:
                found[name] = one(name, teacher, place / name)
                if found[name]["teacher_parameters"] != made["parameters"]:
                    raise WorkbenchError(f"the run of {name} had another teacher than {shape}")
                print(f"{name}: {_line(found[name])}", file=sys.stderr)
    goals = [
        Goal(f"GB of memory, {name}", row["peak_memory_gb"], MEMORY_GOAL, "at most").to_json()
        for name, row in found.items()
    ]
    return {"recipes": found, "goals": goals}


def one(name: str, teacher: Path, place: Path, sizes: Sizes | None = None) -> dict[str, Any]:
    """One step of a recipe at full shape, in a process of its own.

    Args:
        name: of the recipe.
        teacher: directory of `random_teachers.save`.
        place: directory to make, for data, run and the teacher's answers.
        sizes: of data and step; None for those in `SIZES`.

    Returns:
        Parameters of teacher and student; sizes; seconds of the whole command and of the step
        (student and baseline, with the ledger and the held-out figures); peak resident memory, GB;
        how often the loss over the vocabulary was made in chunks, and how many files of the
        teacher's answers were kept; the student's loss.

    Raises:
        WorkbenchError: if the run does not come to its end.
    """
    sizes = sizes or SIZES[recipes.get(name).task]
    place.mkdir(parents=True)
    data = write_data(recipes.get(name).task, place, sizes)
    began = time.perf_counter()
    found = _child(
        "step", "distill", name, "--scale", "paper", "--teacher", str(teacher), "--data",
        str(data), "--steps", "1", "--batch-size", str(sizes.batch_size), "--length",
        str(sizes.length), "--precision", "float32", "--brief",
        "--run", str(place / "run"), cache=place / "answers",
    )  # fmt: skip
    return {
        **found,
        "batch_size": sizes.batch_size,
        "length": sizes.length,
        "seconds": time.perf_counter() - began,
        "kept_answers": len(list((place / "answers").glob("*.safetensors"))),
    }


def write_data(task: str, place: Path, sizes: Sizes) -> Path:
    """Records of the built-in worlds, joined until they fill rows of ``length`` tokens."""
    if task == "text-classification":
        from workbench.worlds import peptides

        path = place / "pairs.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("peptide", "allele", "label"))
            rows.writerows((r.peptide, r.allele, r.label) for r in peptides.sample(sizes.rows, 1))
        return path
    if task == "fill-mask":
        from workbench.worlds import biomedical

        parts = [s.text for s in biomedical.sample(sizes.rows * sizes.length, 1)]
        path, between, each = place / "abstracts.txt", " ", sizes.length // 8
    else:
        from workbench.worlds import proteins

        parts = proteins.sample(sizes.rows * sizes.length, 1)
        path, between, each = place / "proteins.txt", "", sizes.length // 8
    records = [between.join(parts[i * each : (i + 1) * each]) for i in range(sizes.rows)]
    path.write_text("\n".join(records) + "\n", encoding="utf-8")
    return path


# ------------------------------------------------------------------ the parent's side


def _by_teacher(names: Sequence[str]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for name in names:
        groups.setdefault(recipes.get(name).scale("paper").teacher, []).append(name)
    return groups


def _child(*arguments: str, cache: Path | None = None) -> dict[str, Any]:
    """Run this module in a process of its own; what it prints."""
    import os

    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if cache is not None:
        environment["WORKBENCH_CACHE"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-m", "workbench.bench.full_shape", *arguments],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WorkbenchError(f"{' '.join(arguments[:3])} ended with {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _line(row: dict[str, Any]) -> str:
    return (
        f"teacher {row['teacher_parameters']:,} and student {row['student_parameters']:,} "
        f"parameters, step {row['step_seconds']:.1f} s of {row['seconds']:.0f} s, "
        f"{row['peak_memory_gb']:.1f} GB"
    )


# ------------------------------------------------------------------ the child's side


def _teacher(name: str, directory: str) -> dict[str, Any]:
    from workbench.bench import random_teachers

    return {"parameters": random_teachers.save(name, Path(directory))}


def _step(arguments: list[str]) -> dict[str, Any]:
    """The ordinary command, with an eye on the loss and on memory."""
    from workbench import cli, large_vocabulary, run_directory
    from workbench.devices import machine

    chunked, calls = large_vocabulary.vocabulary_loss, []

    def counted(*given, **options):
        calls.append(len(given[0]))
        return chunked(*given, **options)

    large_vocabulary.vocabulary_loss = counted
    status = cli.status_of(arguments)
    if status:
        raise SystemExit(status)
    run = run_directory.RunDirectory(Path(arguments[arguments.index("--run") + 1]))
    results = json.loads(run.results.read_text(encoding="utf-8"))
    (line,) = [x for x in run_directory.read_metrics(run.path) if x["step"] == 1]
    return {
        "teacher_parameters": results["teacher"]["parameters"],
        "student_parameters": results["student"]["parameters"],
        "step_seconds": line["seconds"],
        "peak_memory_gb": machine.resident_memory()[1] / 1e9,
        "chunked_losses": len(calls),
        "loss": line["student"]["total"],
    }


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    print(json.dumps(_teacher(*rest) if what == "teacher" else _step(rest)))
