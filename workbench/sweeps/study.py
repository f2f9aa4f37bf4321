"""The study of a sweep: Optuna's storage as a queue of trials that several workers share.

All trials stand in the storage from the start, waiting: the runs of a grid with their values, the
points of a search without. A worker claims the next one, which the storage grants to one of them
only; it says every few seconds that it is alive, and of a trial whose worker has died a second
one is put in the queue, once.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc as database
from sqlalchemy.engine import URL, make_url

from workbench.errors import UsageError, WorkbenchError
from workbench.recipes.recipe import VARIANTS
from workbench.storage import disk_error
from workbench.sweeps.plan import Plan

#: Seconds between two signs of life, and after how many a worker counts as dead.
HEARTBEAT, GRACE = 15, 120
#: Seconds to wait for a database that does not answer, and for a lock of SQLite.
PATIENCE, LOCKED = 10, 60
#: A grid's numbers have no ends of their own.
_ANY = 1e12
_PLAN = "plan"


class Study:
    """A sweep's trials in a storage.

    Args:
        plan: of the sweep.
        name: of the study.
        url: of the storage.

    Raises:
        WorkbenchError: if the storage does not answer, or holds another sweep of that name.
    """

    def __init__(self, plan: Plan, name: str, url: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan, self.name, self.url = plan, name, url
        with answering(url):
            self.storage = _connect(url)
            direction = "minimize" if plan.headline.better == "lower" else "maximize"
            self.optuna = optuna.create_study(
                study_name=name,
                storage=self.storage,
                direction=direction,
                load_if_exists=True,
                pruner=_pruner(plan),
            )
            self._agree()

    def _agree(self) -> None:
        known = self.optuna.user_attrs.get(_PLAN)
        if known is None:
            if self.optuna.get_trials(deepcopy=False):
                raise WorkbenchError(
                    f"the study {self.name} holds trials of something else; give another --study"
                )
            self.optuna.set_user_attr(_PLAN, self.plan.to_json())
            return
        difference = self.plan.difference(Plan.from_json(known))
        if difference:
            raise WorkbenchError(
                f"the study {self.name} was made with something else ({difference}); give another "
                "--study, or the same settings"
            )

    # ------------------------------------------------------------------ the queue

    def fill(self) -> None:
        """Put in the queue what the plan asks for and the study does not hold yet."""
        with answering(self.url):
            trials = self._own()
            if self.plan.search:
                for _ in range(self.plan.trials - len(trials)):
                    self.optuna.enqueue_trial({})
                return
            known = {self._key(trial) for trial in trials}
            for point in self.plan.points():
                for seed in self.plan.seeds:
                    if _text(point, seed) not in known:
                        self.optuna.enqueue_trial(
                            {**point, "seed": seed}, user_attrs={"point": point, "seed": seed}
                        )

    def claim(self) -> optuna.Trial | None:
        """The next trial, for this process alone; None if none waits."""
        with answering(self.url), _quiet():
            optuna.storages.fail_stale_trials(self.optuna)
            for waiting in self._trials(TrialState.WAITING):
                if not self._granted(waiting):
                    continue
                if self._surplus(waiting):
                    self.storage.set_trial_system_attr(waiting._trial_id, "surplus", True)
                    self.storage.set_trial_state_values(waiting._trial_id, TrialState.FAIL)
                    continue
                self.optuna.sampler = _sampler(self.plan, waiting.number)
                trial = optuna.Trial(self.optuna, waiting._trial_id)
                trial.set_user_attr("worker", _me())
                return trial
        return None

    def _granted(self, waiting: FrozenTrial) -> bool:
        try:
            return self.storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _surplus(self, waiting: FrozenTrial) -> bool:
        """Whether two machines that began at once have both put this into the queue."""
        if "retry_of" in waiting.user_attrs:
            return False
        if self.plan.search:
            return sum(t.number < waiting.number for t in self._own()) >= self.plan.trials
        mine = self._key(waiting)
        return any(t.number < waiting.number and self._key(t) == mine for t in self._own())

    def suggest(self, trial: optuna.Trial) -> tuple[dict[str, Any], list[int]]:
        """Point and seeds of a claimed trial: those of the grid, or what the search draws."""
        with answering(self.url):
            axes, ranges = self.plan.axes, self.plan.ranges()
            if not self.plan.search:
                point, seed = trial.user_attrs["point"], trial.user_attrs["seed"]
                trial.suggest_float("temperature", 0.0, _ANY)
                trial.suggest_float("alpha", 0.0, 1.0)
                trial.suggest_categorical("variant", VARIANTS)
                for axis in ("init", "size"):
                    trial.suggest_categorical(axis, axes[axis])
                trial.suggest_int("seed", 0, 2**32 - 1)
                return dict(point), [seed]
            point = {}
            for axis, values in axes.items():
                if axis in ranges:
                    logarithmic = axis == "temperature"
                    point[axis] = trial.suggest_float(axis, *ranges[axis], log=logarithmic)
                elif len(values) > 1:
                    point[axis] = trial.suggest_categorical(axis, values)
                else:
                    point[axis] = values[0]
            trial.set_user_attr("point", point)
            return point, list(self.plan.seeds)

    @contextmanager
    def alive(self, trial: optuna.Trial) -> Iterator[None]:
        """Say now and then that this trial's worker lives."""
        over = threading.Event()

        def tell() -> None:
            while True:
                # A database that is away for a moment is told at the next beat; one that stays
                # away is noticed where the trial ends.
                with suppress(database.SQLAlchemyError, optuna.exceptions.StorageInternalError):
                    self.storage.record_heartbeat(trial._trial_id)
                if over.wait(HEARTBEAT):
                    return

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # ------------------------------------------------------------------ how trials end

    def done(self, trial: optuna.Trial, value: float, runs: list[dict[str, Any]]) -> None:
        """A trial is complete."""
        self._end(trial, TrialState.COMPLETE, value, runs=runs)

    def pruned(self, trial: optuna.Trial, runs: list[dict[str, Any]]) -> None:
        """A trial was stopped because others did better."""
        self._end(trial, TrialState.PRUNED, None, runs=runs)

    def failed(self, trial: optuna.Trial, reason: str, runs: list[dict[str, Any]]) -> None:
        """A trial cannot be trained to its end."""
        self._end(trial, TrialState.FAIL, None, runs=runs, error=reason)

    def put_back(self, trial_id: int) -> None:
        """A trial that was interrupted waits again."""
        with answering(self.url):
            if self.storage.get_trial(trial_id).state == TrialState.RUNNING:
                self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _end(
        self, trial: optuna.Trial, state: TrialState, value: float | None, **attributes: Any
    ) -> None:
        with answering(self.url), _quiet():
            try:
                for name, content in attributes.items():
                    trial.set_user_attr(name, content)
                self.optuna.tell(trial, value, state=state)
            except optuna.exceptions.UpdateFinishedTrialError:
                # It was taken for dead, perhaps while the machine slept; another one does it again.
                return

    def bury_dead(self, besides: Collection[int] = ()) -> list[int]:
        """`bury` on this machine; elsewhere, mark those failed that gave no sign of life for long.

        Args:
            besides: processes whose end is heard of otherwise.

        Returns:
            Numbers of the trials that were found dead here.
        """
        with answering(self.url), _quiet():
            optuna.storages.fail_stale_trials(self.optuna)
        return self.bury(besides=besides)

    def bury(self, process: int | None = None, besides: Collection[int] = ()) -> list[int]:
        """Mark as failed the running trials whose worker, on this machine, is no more; retry once.

        Args:
            process: only those of this process, which has ended; by default of all that have.
            besides: processes that are left alone.

        Returns:
            Numbers of these trials.
        """
        found = []
        with answering(self.url):
            for trial in self._trials(TrialState.RUNNING):
                worker = trial.user_attrs.get("worker") or {}
                if worker.get("process") in besides or not _dead(trial, process):
                    continue
                try:
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                except optuna.exceptions.UpdateFinishedTrialError:
                    continue
                retry(self.optuna, trial)
                found.append(trial.number)
        return found

    def release(self, process: int) -> None:
        """Let the trials of a process of this machine, which was stopped on purpose, wait again."""
        with answering(self.url):
            for trial in self._trials(TrialState.RUNNING):
                worker = trial.user_attrs.get("worker") or {}
                if (worker.get("host"), worker.get("process")) == (platform.node(), process):
                    self.put_back(trial._trial_id)

    # ------------------------------------------------------------------ how it stands

    def counts(self) -> dict[str, int]:
        """Number of trials that are waiting, running and over (each counted once)."""
        with answering(self.url):
            last = list(self.latest().values())
        waiting = sum(t.state == TrialState.WAITING for t in last)
        running = sum(t.state == TrialState.RUNNING for t in last)
        return {"waiting": waiting, "running": running, "over": len(last) - waiting - running}

    def latest(self) -> dict[str, FrozenTrial]:
        """What the plan asks for and how it stands: by key the last of each trial's attempts."""
        with answering(self.url):
            own = self._own()
            if self.plan.search:
                firsts = {str(t.number): t for t in own[: self.plan.trials]}
            else:
                wanted = {_text(p, s) for p in self.plan.points() for s in self.plan.seeds}
                firsts = {}
                for trial in own:
                    if self._key(trial) in wanted:
                        firsts.setdefault(self._key(trial), trial)
            again = {
                t.user_attrs["retry_of"]: t
                for t in self.optuna.get_trials(deepcopy=False)
                if "retry_of" in t.user_attrs
            }
        return {key: again.get(t.number, t) for key, t in firsts.items()}

    def _own(self) -> list[FrozenTrial]:
        """All trials but second attempts and surplus ones, by number."""
        return [
            t
            for t in self.optuna.get_trials(deepcopy=False)
            if "retry_of" not in t.user_attrs and not t.system_attrs.get("surplus")
        ]

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False, states=(state,))

    def _key(self, trial: FrozenTrial) -> str:
        if "point" not in trial.user_attrs or self.plan.search:
            return str(trial.number)
        return _text(trial.user_attrs["point"], trial.user_attrs["seed"])


def first_number(trial: optuna.Trial | FrozenTrial) -> int:
    """Number of a trial's first attempt: both work in the same run directory."""
    return trial.user_attrs.get("retry_of", trial.number)


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put a second attempt of a trial whose worker died in the queue; of a second one none."""
    if "retry_of" in trial.user_attrs:
        return
    attributes = {k: v for k, v in trial.user_attrs.items() if k != "worker"}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**attributes, "retry_of": trial.number},
            system_attrs={k: v for k, v in trial.system_attrs.items() if k == "fixed_params"},
        )
    )


def sqlite_url(path: Path) -> str:
    """URL of an SQLite file."""
    return URL.create("sqlite", database=str(path.resolve())).render_as_string()


def shown(url: str) -> str:
    """A storage's URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except database.ArgumentError:
        return url


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turn what a database has to complain about into one line."""
    try:
        yield
    except (database.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _complaint(url, error) from error


def _complaint(url: str, error: Exception) -> WorkbenchError:
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0].rstrip(".")
    if make_url(url).get_backend_name() == "sqlite" and "full" in reason:
        path = Path(make_url(url).database or "study.db")
        return disk_error(OSError(28, "No space left on device"), path, "the study")
    return WorkbenchError(
        f"the storage {shown(url)} does not answer: {reason}; start the database, or leave out "
        "--storage to keep the study in a file. Finished trials are safe"
    )


def _connect(url: str) -> optuna.storages.RDBStorage:
    try:
        parsed = make_url(url)
    except database.ArgumentError as error:
        raise UsageError(
            f"--storage is {url!r}; expected the URL of a database, such as "
            "sqlite:///study.db or postgresql://user@host/database"
        ) from error
    backend = parsed.get_backend_name()
    connect: dict[str, Any] = {}
    if backend == "sqlite":
        connect = {"timeout": LOCKED}
    elif backend == "postgresql":
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        connect = {"connect_timeout": PATIENCE}
    open_storage = partial(
        optuna.storages.RDBStorage,
        parsed.render_as_string(hide_password=False),
        engine_kwargs={"connect_args": connect, "pool_pre_ping": True},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=retry,
    )
    try:
        with _quiet():
            try:
                return open_storage()
            except (database.IntegrityError, database.ProgrammingError):
                # Two machines made the tables at once; now they are there.
                return open_storage()
    except (ImportError, database.NoSuchModuleError) as error:
        raise WorkbenchError(
            f"there is no driver here for the storage {shown(url)}; install the Python package "
            f"for {backend} (psycopg[binary] for PostgreSQL)"
        ) from error


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    if not plan.prune:
        return optuna.pruners.NopPruner()
    steps = plan.config(plan.points()[0], plan.seeds[0]).steps
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=steps // 4)


def _sampler(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """A seed of its own for every trial: workers that begin together do not draw the same."""
    if not plan.search:
        return optuna.samplers.RandomSampler(seed=number)
    with _quiet():
        return optuna.samplers.TPESampler(
            seed=number, n_startup_trials=min(10, max(1, plan.trials // 3)), constant_liar=True
        )


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def _text(point: dict[str, Any], seed: int) -> str:
    return json.dumps([point, seed], sort_keys=True)


def _me() -> dict[str, Any]:
    process = psutil.Process()
    return {"host": platform.node(), "process": os.getpid(), "since": process.create_time()}


def _dead(trial: FrozenTrial, process: int | None) -> bool:
    """Whether a running trial's worker, on this machine, has ended."""
    worker = trial.user_attrs.get("worker")
    if worker is None:
        # Killed between claiming and saying so.
        began = trial.datetime_start or datetime.now()
        return (datetime.now() - began).total_seconds() > GRACE
    if process is not None and worker["process"] != process:
        return False
    return worker["host"] == platform.node() and not _lives(worker)


def _lives(worker: dict[str, Any]) -> bool:
    """Whether the very process is there still, and not another one with its number."""
    try:
        process = psutil.Process(worker["process"])
        ended = process.status() == psutil.STATUS_ZOMBIE
        return not ended and abs(process.create_time() - worker["since"]) < 1
    except psutil.NoSuchProcess:
        return False
