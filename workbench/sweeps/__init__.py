"""Sweeps: many runs over temperature, α and more, as a grid or a search, by several workers.

A sweep is a directory: `plan.json` (all of it), `study.db` (how every trial stands, unless another
storage is given), `runs/` (an ordinary run directory a run), `baselines/` (the students without a
teacher, which runs share), `sweep.json` (what was found). The same command, or ``--resume DIR``,
goes on with it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from workbench import storage as files
from workbench.errors import Interrupted, UsageError, WorkbenchError
from workbench.progress import Progress, for_here
from workbench.sweeps import plan as sweep_plan
from workbench.sweeps.crew import Crew, WorkersEnd
from workbench.sweeps.plan import Plan
from workbench.sweeps.results import collect, table
from workbench.sweeps.study import Study, shown, sqlite_url

__all__ = ["Plan", "resume", "sweep", "table"]

PLAN, RESULTS, DATABASE = "plan.json", "sweep.json", "study.db"
#: Where sweeps go unless a directory is given.
HOME = Path("sweeps")


def sweep(
    recipe: str,
    *,
    directory: str | Path | None = None,
    study: str | None = None,
    storage: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train a grid of students, or search for the best one; go on with a sweep that was stopped.

    Every point is trained with every seed, at the same budget as the student without a teacher
    that it is compared with.

    Args:
        recipe: its name.
        directory: of the sweep; by default one under ``sweeps/`` that the same arguments find
            again.
        study: name in the storage; by default the directory's.
        storage: URL of a database that Optuna takes, such as ``postgresql://user@host/database``;
            by default an SQLite file in the directory.
        workers: processes at a time, with their share of the cores; by default a worker for every
            core, as far as memory goes.
        progress: who is told how far it is; by default a bar or plain lines.
        options: see `workbench.sweeps.plan.make` (temperature, alpha, variant, init, size, seeds,
            search, trials, prune) and `RunConfig.from_recipe` (steps, data, teacher and so on).

    Returns:
        The contents of ``sweep.json``; see `workbench.sweeps.results.collect`.

    Raises:
        UsageError: if a value is out of range, twice there, or missing.
        WorkbenchError: if storage, data, teacher or disk stand in the way, or the study holds
            something else.
        Interrupted: if the sweep was stopped; it goes on from there.
    """
    plan = sweep_plan.make(recipe, **options)
    place = Path(directory) if directory else HOME / (study or plan.name)
    return _run(plan, place, study or place.name, storage, workers, progress)


def resume(
    directory: str | Path,
    *,
    storage: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Go on with a sweep from its directory; of a finished one the results are read again.

    Args:
        directory: of the sweep.
        storage: URL of its database, needed where the URL has a password, which is not kept.
        workers: see `sweep`.
        progress: see `sweep`.

    Raises:
        WorkbenchError: if there is no sweep in the directory.
    """
    place = Path(directory)
    if not (place / PLAN).exists():
        raise WorkbenchError(
            f"{place} holds no sweep (no {PLAN}); begin one with `workbench sweep NAME`"
        )
    content = files.read_json(place / PLAN)
    url = storage or content["storage"]
    if storage is None and url and "***" in url:
        raise UsageError(f"the password of {url} is not kept; give the URL again with --storage")
    plan = Plan.from_json(content["plan"])
    return _run(plan, place, content["study"], url, workers, progress, reread=True)


def _run(
    plan: Plan,
    place: Path,
    name: str,
    url: str | None,
    workers: int | None,
    progress: Progress | None,
    *,
    reread: bool = False,
) -> dict[str, Any]:
    progress = progress or for_here()
    with _new(place):
        with _alone(url or str(place.resolve())):
            study = _open(plan, place, name, url)
        counts = study.counts()
        if reread and (counts["waiting"] or counts["running"]):
            # Of a sweep that is over the results alone are read, whatever became of its data.
            difference = sweep_plan.as_of_now(plan).difference(plan)
            if difference:
                raise WorkbenchError(
                    f"{place} was begun with something else ({difference}); put it back, or begin "
                    "another sweep"
                )
        crew = Crew(plan, study, place, workers, progress)
        try:
            crew.work()
        except KeyboardInterrupt as error:
            over = study.counts()["over"]
            _write(study, place, crew)
            raise Interrupted(
                f"interrupted after {over} of {plan.runs} trials; go on with "
                f"`workbench sweep --resume {place}`"
            ) from error
        finally:
            progress.close()
        return _write(study, place, crew)


def _open(plan: Plan, place: Path, name: str, url: str | None) -> Study:
    """Directory and study of a sweep, new or known, with all of its trials in the queue."""
    known = place / PLAN
    if known.exists():
        difference = plan.difference(Plan.from_json(files.read_json(known)["plan"]))
        if difference:
            raise WorkbenchError(
                f"{place} holds a sweep of something else ({difference}); give another --dir or "
                "--study, or the same settings"
            )
    elif place.is_dir() and any(p.name != DATABASE for p in place.iterdir()):
        raise WorkbenchError(f"{place} holds something else; give an empty or new --dir")
    files.make_directory(place, "the sweep")
    study = Study(plan, name, url or sqlite_url(place / DATABASE))
    content = {"plan": plan.to_json(), "study": name, "storage": shown(url) if url else None}
    files.write_json(known, content)
    study.fill()
    return study


def _write(study: Study, place: Path, crew: Crew) -> dict[str, Any]:
    found = collect(study, workers=crew.workers, threads=crew.threads)
    found = {"sweep": str(place), **found}
    files.write_json(place / RESULTS, found)
    return found


@contextmanager
def _new(place: Path) -> Iterator[None]:
    """A sweep that cannot even begin leaves nothing behind."""
    made = [p for p in (place, *place.parents) if not p.exists()]
    try:
        yield
    except (Interrupted, WorkersEnd):
        raise  # it goes on from here, or the logs here say why it does not
    except WorkbenchError:
        if made and place.is_dir() and not (place / "runs").exists():
            shutil.rmtree(place, ignore_errors=True)
            for parent in made[1:]:
                with suppress(OSError):  # somebody else has put something there meanwhile
                    parent.rmdir()
        raise


@contextmanager
def _alone(what: str) -> Iterator[None]:
    """Two terminals that begin the same sweep at once fill its queue one after the other."""
    digest = hashlib.sha256(what.encode()).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"workbench-sweep-{digest}.lock"):
        yield
