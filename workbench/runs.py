"""A run is a directory: `distill` makes one, `resume` goes on with one, `replay` repeats one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from workbench import checkpoints, shared_baseline, storage, workshop
from workbench import events as hand
from workbench.config import RunConfig
from workbench.devices import processes
from workbench.devices.processes import ProcessLost
from workbench.errors import Interrupted, UsageError, WorkbenchError
from workbench.events import END, Event
from workbench.progress import Progress, Silent, for_here
from workbench.run_directory import (
    RunDirectory,
    as_begun,
    check_free,
    check_teacher,
    described,
    is_run,
    load_config,
    lock,
    new_directory,
    new_name,
    read_metrics,
)
from workbench.session import Session, finish
from workbench.workshop import Workshop

__all__ = [
    "RunDirectory", "distill", "evaluate", "is_run", "load_config", "read_metrics",
    "replay", "resume",
]  # fmt: skip


def distill(
    recipe: str,
    run: str | Path | None = None,
    *,
    progress: Progress | None = None,
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    events: Sequence[Event | dict[str, Any]] = (),
    brief: bool = False,
    baselines: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """One full run: train student and baseline, evaluate, draw, save.

    Args:
        recipe: its name.
        run: directory to make; by default a new one under ``runs/``.
        progress: who is told how far it is; by default a bar or plain lines.
        on_metrics: called with every line of metrics.jsonl.
        should_stop: asked before every step; True interrupts the run, resumable.
        events: changes of T, α, the learning rate or the weights of terms on the way, such as
            ``{"step": 100, "name": "temperature", "new": 4}``; see `workbench.events`.
        brief: measure quality only at the end, and draw nothing; `evaluate` adds the rest.
        baselines: directory of baselines that runs share which differ in T, α and variant; see
            `workbench.shared_baseline`. By default each run trains its own, to the same bytes.
        options: see `RunConfig.from_recipe`.

    Returns:
        The contents of ``results.json``.

    Raises:
        UsageError: if an option is out of range.
        WorkbenchError: if data, teacher, disk or the run directory stand in the way.
        Interrupted: if the run was stopped.
    """
    config = RunConfig.from_recipe(recipe, **options)
    if events and baselines is not None:
        raise UsageError("a run that is changed on its way has a baseline of its own")
    scheduled = hand.scheduled(events)
    return _distill(config, run, progress, on_metrics, should_stop, scheduled, brief, baselines)


def _distill(
    config: RunConfig,
    run: str | Path | None,
    progress: Progress | None,
    on_metrics: Callable[[dict[str, Any]], None] | None,
    should_stop: Callable[[], bool] | None,
    scheduled: Sequence[Event],
    brief: bool,
    baselines: str | Path | None,
) -> dict[str, Any]:
    team = processes.join()
    directory = RunDirectory(Path(team.tell(str(run if run else new_name(config)))))
    if team.main:
        check_free(directory)
    progress = _heard(team, progress, config.precision)
    on_metrics = on_metrics if team.main else None
    inside = new_directory(directory) if team.main else nullcontext()
    with _leaving(directory), inside, _closing(progress):
        shop = workshop.prepare(config, progress)
        plan = [event.to_json() for event in scheduled]
        if team.main:
            storage.write_json(directory.config, described(config, plan, shop.origin))
        _share(shop, config, baselines, should_stop)
        session = Session(
            directory, config, shop, progress, on_metrics=on_metrics, scheduled=scheduled,
            brief=brief,
        )  # fmt: skip
        return _go(session, should_stop)


def resume(
    run: str | Path,
    *,
    progress: Progress | None = None,
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    brief: bool = False,
    baselines: str | Path | None = None,
) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, to the result of one never stopped.

    A finished run is only read. The other arguments are those of `distill`.

    Raises:
        WorkbenchError: if the directory holds no run, or another process works on it.
    """
    team = processes.join()
    directory = RunDirectory(Path(run))
    config = load_config(directory)
    if directory.results.exists():
        return storage.read_json(directory.results)
    # All have looked before one of them can have finished.
    team.wait()
    progress = _heard(team, progress, config.precision)
    on_metrics = on_metrics if team.main else None
    inside = lock(directory) if team.main else nullcontext()
    with _leaving(directory), inside, _closing(progress):
        shop = workshop.prepare(as_begun(directory, config), progress)
        check_teacher(directory, shop.origin)
        _share(shop, config, baselines, should_stop)
        session = Session(directory, config, shop, progress, on_metrics=on_metrics, brief=brief)
        session.restore()
        return _go(session, should_stop)


def replay(
    run: str | Path,
    target: str | Path | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Repeat a run from its configuration and its events, up to its checkpoint, and compare.

    Args:
        run: directory of a run, steered by hand or not, finished or not.
        target: directory of the repetition; by default a new one under ``runs/``.
        progress: who is told how far it is; by default a bar or plain lines.

    Returns:
        ``{"run", "replayed", "steps", "same", "differs"}``: whether the checkpoints of both,
        weights, moments and knobs, are the same bytes, and which of their tensors are not.

    Raises:
        WorkbenchError: if the run has no checkpoint yet, or the disk is in the way.
    """
    source = RunDirectory(Path(run))
    config = load_config(source)
    steps = checkpoints.step_of(source)
    if steps is None:
        raise WorkbenchError(f"{source.path} has no checkpoint yet; there is nothing to repeat")
    happened = [e for e in hand.effective(hand.read(source.events)) if e.step <= steps]
    directory = RunDirectory(Path(target) if target else new_name(config))
    check_free(directory)
    progress = progress or for_here()
    with _leaving(directory), new_directory(directory), _closing(progress):
        shop = workshop.prepare(as_begun(source, config), progress)
        check_teacher(source, shop.origin)
        planned = [event.to_json() for event in happened]
        storage.write_json(directory.config, described(config, planned, shop.origin))
        session = Session(directory, config, shop, progress, scheduled=happened)
        session.begin()
        progress.stage("repeating the run")
        while session.step < steps:
            session.advance()
        session.settle()
        session.save()
        if source.results.exists():
            session.finish()
    differs = checkpoints.differences(source, directory)
    return {
        "run": str(source.path),
        "replayed": str(directory.path),
        "steps": steps,
        "same": not differs,
        "differs": differs,
    }


def evaluate(run: str | Path, progress: Progress | None = None) -> dict[str, Any]:
    """Evaluate a finished run again, from what it stored, and rewrite its results.

    Raises:
        WorkbenchError: if the run has no final checkpoint yet.
    """
    directory = RunDirectory(Path(run))
    progress = progress or for_here()
    with lock(directory), _closing(progress):
        config, shop = open_finished(directory, progress)
        return finish(directory, config, shop, progress)


def open_finished(directory: RunDirectory, progress: Progress) -> tuple[RunConfig, Workshop]:
    """Configuration, models and data of a finished run, the students as they were at its end.

    Raises:
        WorkbenchError: if the run has no final checkpoint yet.
    """
    config = load_config(directory)
    shop = workshop.prepare(as_begun(directory, config), progress)
    check_teacher(directory, shop.origin)
    checkpoints.restore(directory, shop)
    ended = any(e.name == END for e in hand.effective(hand.read(directory.events)))
    if shop.student.step_number < config.steps and not ended:
        raise WorkbenchError(
            f"{directory.path} is at step {shop.student.step_number} of {config.steps}; "
            f"finish it with `workbench resume {directory.path}`"
        )
    return config, shop


# ---------------------------------------------------------------------- the loop


def _share(
    shop: Workshop,
    config: RunConfig,
    baselines: str | Path | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    """Give the run the shared baseline, where there are any."""
    if baselines is None:
        return
    if processes.count() > 1:
        raise UsageError("a run of several processes has a baseline of its own")
    shop.baseline = shared_baseline.share(shop, config, Path(baselines), should_stop)


def _go(session: Session, should_stop: Callable[[], bool] | None) -> dict[str, Any]:
    """Drive a session to its end."""
    team = processes.join()
    session.progress.stage("distilling")
    with team.putting_off():
        session.begin()
        while not (stops := _is_to_stop(session, should_stop)) and not session.over:
            session.advance()
        if stops:
            session.save()
    if stops:
        raise Interrupted(
            f"interrupted at step {session.step} of {session.config.steps}; go on with "
            f"`workbench resume {session.directory.path}`"
        )
    if team.main:
        # It alone has work left, which it can leave at any moment.
        if team.interrupted:
            raise KeyboardInterrupt
        return session.finish()
    with team.putting_off():
        try:
            return session.finish()
        except ProcessLost:
            if team.interrupted:
                raise KeyboardInterrupt from None  # the main process was, too, and has left
            raise


def _is_to_stop(session: Session, should_stop: Callable[[], bool] | None) -> bool:
    """Whether a run is to end here, between two steps; all processes get the same answer."""
    if processes.join().stops():
        return True
    return not session.over and should_stop is not None and should_stop()


@contextmanager
def _leaving(directory: RunDirectory) -> Iterator[None]:
    """Listen to requests to stop; say how the run goes on if one comes, or a process is lost."""
    team = processes.join()
    try:
        with team.listening():
            yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {_how_on(directory)}") from error
    except (ProcessLost, RuntimeError) as error:
        if team.count == 1 or not processes.is_loss_of_a_process(error):
            raise
        raise ProcessLost(
            f"another process of this run has ended or cannot be reached; {_how_on(directory)}"
        ) from error


def _how_on(directory: RunDirectory) -> str:
    """What becomes of a run that is left now."""
    if not directory.config.exists():
        return "the run had not begun"
    start = "last checkpoint" if directory.checkpoint.exists() else "start"
    many = ", with any number of processes," if processes.count() > 1 else ""
    return f"the run goes on from its {start}{many} by `workbench resume {directory.path}`"


def _heard(team: processes.Team, progress: Progress | None, reads_in: str) -> Progress:
    """Who is told how far a run is: of several processes the main one's watcher."""
    progress = (progress or for_here()) if team.main else Silent()
    for note in processes.notes(reads_in):
        progress.note(note)
    return progress


@contextmanager
def _closing(progress: Progress) -> Iterator[None]:
    try:
        yield
    finally:
        progress.close()
