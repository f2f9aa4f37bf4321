"""Students that differ only in their seed, stored for everybody: ``data/students/ensemble``.

They were made at one thread:

    OMP_NUM_THREADS=1 workbench sweep protgpt2-tiny --temperature 2 --alpha 0.1 --seeds 5 \\
        --workers 1 --dir A
    python -m workbench.at_work.ensemble_students A/runs/*

Each is a run's ``student/``, a plain transformers directory with its model card.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from workbench import storage
from workbench.errors import UsageError, WorkbenchError
from workbench.run_directory import RunDirectory, load_config

PLACE = Path(__file__).parents[2] / "data" / "students" / "ensemble"
#: Every copy of the repository carries these files.
MOST_BYTES = 2_500_000
#: How often a run writes something changes nothing in its student.
_HABITS = {"log_every": 1, "evaluate_every": 1, "checkpoint_every": 1}


def stored(within: Path = PLACE) -> list[Path]:
    """Directories of the students that come with the course, by seed.

    Raises:
        WorkbenchError: if they are missing.
    """
    found = [path.parent for path in within.glob("seed-*/config.json")]
    if not found:
        raise WorkbenchError(f"{within} holds no students; they come with the repository")
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed-")))


def store(runs: Sequence[str | Path], within: Path = PLACE) -> list[Path]:
    """Keep the students of finished runs that differ only in their seed, and no others.

    Args:
        runs: their directories.
        within: where they go, as ``seed-0`` and so on; what was there is replaced.

    Returns:
        The directories, by seed.

    Raises:
        UsageError: if there are no runs, or they differ in more than their seed.
        WorkbenchError: if a run is not finished, the students are too large, or the disk refuses.
    """
    configs = {Path(run): load_config(RunDirectory(Path(run))) for run in runs}
    if not configs:
        raise UsageError("there are no runs; name their directories")
    alike = [replace(config, seed=0, **_HABITS) for config in configs.values()]
    if any(config != alike[0] for config in alike):
        raise UsageError(
            f"the {len(configs)} runs differ in more than their seed; expected runs of one sweep "
            "over seeds"
        )
    if len({config.seed for config in configs.values()}) != len(configs):
        raise UsageError("two runs have the same seed; expected one run for each")
    for run in configs:
        if not (run / "student" / "config.json").exists():
            raise WorkbenchError(
                f"{run} has no student yet; finish it with `workbench resume {run}`"
            )
    size = sum(f.stat().st_size for run in configs for f in (run / "student").iterdir())
    if size > MOST_BYTES:
        raise WorkbenchError(
            f"{len(configs)} students take {size / 1e6:.1f} MB; expected at most "
            f"{MOST_BYTES / 1e6:.1f} MB: keep fewer of them"
        )
    temporary = within.with_name(f"{within.name}.part-{os.getpid()}")
    try:
        for run, config in configs.items():
            shutil.copytree(run / "student", temporary / f"seed-{config.seed}")
        storage.replace_directory(temporary, within)
    except OSError as error:
        raise storage.disk_error(error, within, "the stored students") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return stored(within)


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    if not arguments:
        print("usage: python -m workbench.at_work.ensemble_students RUN…", file=sys.stderr)
        return 2
    try:
        for path in store(arguments):
            print(path)
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
