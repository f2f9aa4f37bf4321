"""Sweeps: every trial once, whatever is killed; the bytes of single runs; one clear line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from sqlalchemy import exc as database

from workbench import checkpoints, cli, runs, storage, sweeps
from workbench.comparisons import verdicts
from workbench.distiller import Distiller, StepRecord
from workbench.errors import Interrupted, NonFiniteLoss, UsageError, WorkbenchError
from workbench.progress import Silent
from workbench.sweeps import plan as sweep_plan
from workbench.sweeps import study as sweep_study
from workbench.sweeps.crew import default_workers, threads_each
from workbench.sweeps.interruption import Interruption
from workbench.sweeps.plan import Plan
from workbench.sweeps.results import KILLED, collect, table
from workbench.sweeps.study import Study, sqlite_url
from workbench.sweeps.worker import Worker
from workbench.worlds import proteins

NAME = "protgpt2-tiny"
STEPS = 12
DEADLINE = 600.0


@pytest.fixture(scope="module")
def small(tiny_teacher):
    """Options of runs that take a second."""
    return {
        "teacher": str(tiny_teacher), "steps": STEPS, "train_sequences": 120,
        "validation_sequences": 30, "batch_size": 16,
    }  # fmt: skip


class Listener:
    """Stands for the process that started a worker."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.said: list[dict] = []

    def tell(self, **message) -> None:
        self.said.append(message)


def study_of(plan: Plan, directory: Path, name: str = "s") -> Study:
    directory.mkdir(parents=True, exist_ok=True)
    study = Study(plan, name, sqlite_url(directory / "study.db"))
    study.fill()
    return study


def worker_of(plan: Plan, directory: Path) -> Worker:
    return Worker(plan, study_of(plan, directory), directory, Listener())


def found_by(worker: Worker) -> dict:
    return json.loads(json.dumps(collect(worker.study, workers=1, threads=1), allow_nan=False))


# ---------------------------------------------------------------------- what is asked


def refused(**options) -> str:
    with pytest.raises(UsageError) as caught:
        sweep_plan.make(NAME, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "the grid has no point; give values to at least one of --temperature"),
        ({"temperature": []}, "the grid has no point: temperature has no values"),
        ({"temperature": [1], "seeds": []}, "the grid has no point: there are no seeds"),
        ({"temperature": [1, 0]}, "temperature is 0.0; expected"),
        ({"temperature": [1, -2]}, "temperature is -2.0; expected"),
        ({"temperature": [float("nan")]}, "temperature is nan; expected"),
        ({"temperature": ["warm"]}, "temperature is 'warm'; expected numbers"),
        ({"temperature": [1, 2, 1.0]}, "temperature has 1 twice; give every value once"),
        ({"alpha": [0, 1.5]}, "alpha is 1.5; expected a number from 0"),
        ({"alpha": [0.5, 0.50]}, "alpha has 0.5 twice"),
        ({"variant": ["corrected", "fixed"]}, "no variant of protgpt2-tiny called"),
        ({"size": ["2", "2"]}, "size has 2 twice"),
        ({"init": ["even"]}, "there is no layer map 'even'"),
        ({"alpha": [0], "seeds": 0}, "seeds is 0; expected at least 1"),
        ({"alpha": [0], "seeds": [1, 1]}, "hold one twice"),
        ({"alpha": [0], "seed": 3}, "give --seeds instead of a seed"),
        ({"alpha": [0], "trials": 3}, "--trials is for a search"),
        ({"alpha": [0, 1], "search": "magic"}, "there is no search 'magic'; expected tpe"),
        ({"alpha": [0.5], "search": "tpe"}, "the search has nothing to search"),
        ({"alpha": [0, 1], "search": "tpe", "trials": 0}, "trials is 0; expected at least 1"),
        ({"alpha": [0], "steps": 0}, "steps is 0; expected at least 1"),
    ],
)
def test_what_cannot_be_swept_is_one_line(options, expected):
    assert expected in refused(**options)


def test_a_plan_is_data_and_has_every_point_once():
    plan = sweep_plan.make(NAME, temperature=[1, 4], alpha=(0, 0.5), size=[1, "2"], seeds=3)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert len({json.dumps(p) for p in plan.points()}) == len(plan.points()) == 8
    assert plan.runs == 24
    assert plan.config(plan.points()[0], 2).seed == 2
    # What is not an axis is the recipe's own.
    single = sweep_plan.make(NAME, alpha=0.5)
    assert single.axes["temperature"] == (10.0,)


def test_plans_differ_in_words_and_grids_may_grow(tmp_path):
    data = tmp_path / "p.fasta"
    data.write_text(">a\nMKV\n")
    one = sweep_plan.make(NAME, temperature=[1, 2], steps=10, data=str(data))
    assert one.difference(sweep_plan.make(NAME, temperature=[4], steps=10, data=str(data))) == ""
    other = sweep_plan.make("protgpt2-small", temperature=[1, 2], steps=20, data=str(data))
    assert other.difference(one) == (
        "recipe: protgpt2-tiny there, protgpt2-small here; setting steps: 10 there, 20 here"
    )
    data.write_text(">a\nMKVA\n")
    changed = sweep_plan.make(NAME, temperature=[1, 2], steps=10, data=str(data))
    assert "content of data: SHA-256 " in changed.difference(one)
    assert changed.name != one.name
    search = sweep_plan.make(NAME, temperature=[1, 2], steps=10, data=str(data), search="tpe")
    assert "search: the recipe's own there, tpe here" in search.difference(changed)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "sweep protgpt2-tiny --temperature 1 2 -T 4 --alpha 0 0.5 --steps 3",
            "sweep protgpt2-tiny --temperature 1 --temperature 2 -T 4 --alpha 0 --alpha 0.5 "
            "--steps 3",
        ),
        ("sweep --alpha 0 1 protgpt2-tiny", "sweep --alpha 0 --alpha 1 protgpt2-tiny"),
        ("sweep x --temperature 1 -2 --json", "sweep x --temperature 1 --temperature -2 --json"),
        ("sweep x --init 2i 0,1 --size", "sweep x --init 2i --init 0,1 --size"),
        ("distill x --temperature 1 2", "distill x --temperature 1 2"),
    ],
)
def test_several_values_after_one_option(given, expected):
    assert cli._repeated(given.split()) == expected.split()


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr("workbench.sweeps.crew.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    grid = sweep_plan.make(NAME, temperature=[1, 2, 4], alpha=[0, 0.5, 1], seeds=2, steps=10)
    free = SimpleNamespace(available=64 * 2**30)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    assert default_workers(grid) == 8
    assert default_workers(sweep_plan.make(NAME, alpha=[0, 0.5, 1], seeds=1, steps=10)) == 3
    paper = sweep_plan.make(NAME, alpha=[0, 1], seeds=9, steps=10, scale="paper")
    assert default_workers(paper) == 1
    free.available = 4 * 2**30
    assert default_workers(grid) == 2
    free.available = 0
    assert default_workers(grid) == 1
    assert [threads_each(n) for n in (1, 3, 8, 20)] == [8, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(8) == 3


def test_an_interval_over_seeds_is_students():
    mean, interval = verdicts.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert verdicts.mean_interval([4.0]) == (4.0, None)


# ---------------------------------------------------------------------- the queue


@pytest.fixture
def plan():
    return sweep_plan.make(NAME, temperature=[1, 2], alpha=[0, 1], seeds=1, steps=STEPS)


def test_no_trial_is_granted_twice(plan, tmp_path):
    one, other = study_of(plan, tmp_path), study_of(plan, tmp_path)
    claimed = []
    while (a := one.claim()) is not None:
        claimed.append(a.number)
        if (b := other.claim()) is not None:
            claimed.append(b.number)
    assert sorted(claimed) == [0, 1, 2, 3]
    assert other.claim() is None


def test_two_machines_that_fill_the_queue_at_once_train_nothing_twice(plan, tmp_path):
    study = study_of(plan, tmp_path)
    point, seed = plan.points()[0], 0
    study.optuna.enqueue_trial({}, user_attrs={"point": point, "seed": seed})
    claimed = []
    while (trial := study.claim()) is not None:
        claimed.append(trial.number)
    assert claimed == [0, 1, 2, 3]
    assert study.counts() == {"waiting": 0, "running": 4, "over": 0}


def test_a_grid_grows_by_new_points_only(plan, tmp_path):
    study_of(plan, tmp_path)
    wider = sweep_plan.make(NAME, temperature=[1, 2, 4], alpha=[0, 1], seeds=2, steps=STEPS)
    study = study_of(wider, tmp_path)
    assert len(study.optuna.get_trials()) == wider.runs == 12
    assert study.counts()["waiting"] == 12


def test_another_sweep_under_the_same_name_is_refused_with_the_difference(plan, tmp_path):
    study_of(plan, tmp_path)
    other = sweep_plan.make(NAME, temperature=[1, 2], alpha=[0, 1], seeds=1, steps=99)
    with pytest.raises(WorkbenchError, match="setting steps: 12 there, 99 here"):
        study_of(other, tmp_path)
    (tmp_path / "foreign").mkdir()
    url = sqlite_url(tmp_path / "foreign" / "study.db")
    optuna.create_study(study_name="s", storage=url).enqueue_trial({"x": 1})
    with pytest.raises(WorkbenchError, match="holds trials of something else"):
        study_of(plan, tmp_path / "foreign")


def ended_process() -> dict:
    """A worker that was there and is no more."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    since = psutil.Process(process.pid).create_time()
    process.wait()
    return {"process": process.pid, "since": since}


def test_a_trial_whose_worker_was_killed_is_tried_once_more_and_then_marked(plan, tmp_path):
    study = study_of(plan, tmp_path)
    gone = ended_process()
    first = study.claim()
    assert study.bury() == []  # this process lives
    first.set_user_attr("worker", {**first.user_attrs["worker"], **gone})
    assert study.bury_dead(besides=[gone["process"]]) == []  # its own crew hears of it
    assert study.bury() == [first.number]
    assert study.bury() == []
    assert study.counts() == {"waiting": 4, "running": 0, "over": 0}
    again = [study.claim() for _ in range(4)][-1]
    assert again.user_attrs["retry_of"] == first.number
    assert sweep_study.first_number(again) == first.number
    again.set_user_attr("worker", {**again.user_attrs["worker"], **gone})
    assert study.bury() == [again.number]
    assert study.claim() is None
    assert study.counts() == {"waiting": 0, "running": 3, "over": 1}
    found = collect(study, workers=1, threads=1)
    (failed,) = [r for p in found["points"] for r in p["runs"] if r["state"] == "failed"]
    assert failed["error"] == KILLED
    assert "1 runs failed" in table(found)


def test_a_process_with_the_number_of_a_dead_worker_is_not_taken_for_it(plan, tmp_path):
    study = study_of(plan, tmp_path)
    trial = study.claim()
    mine = trial.user_attrs["worker"]
    trial.set_user_attr("worker", {**mine, "since": mine["since"] - 1000})
    assert study.bury() == [trial.number]


def test_a_worker_elsewhere_that_fell_silent_is_replaced(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_study, "GRACE", 1)
    monkeypatch.setattr(sweep_study, "HEARTBEAT", 1)
    study = study_of(plan, tmp_path)
    lost = study.claim()
    with study.alive(lost):
        pass
    lost.set_user_attr("worker", {"host": "elsewhere", "process": 1, "since": 0.0})
    assert study.bury() == []  # nobody here can know
    deadline = time.monotonic() + DEADLINE
    claimed = []
    while not any("retry_of" in t.user_attrs for t in claimed):
        assert time.monotonic() < deadline
        if (trial := study.claim()) is not None:
            claimed.append(trial)
    assert claimed[-1].user_attrs["retry_of"] == lost.number
    # Nobody need claim for that: a terminal that waits for the others' trials notices, too.
    with study.alive(claimed[-1]):
        pass
    claimed[-1].set_user_attr("worker", {"host": "elsewhere", "process": 1, "since": 0.0})
    while claimed[-1].number in [t.number for t in study._trials(TrialState.RUNNING)]:
        assert time.monotonic() < deadline
        assert study.bury_dead() == []
    # It was only asleep: what it brings now is not counted twice.
    study.done(lost, 3.0, [])
    assert study.latest()[study._key(study.optuna.trials[0])].number == claimed[-1].number


# ---------------------------------------------------------------------- storages


def test_a_storage_that_does_not_answer_is_one_line_without_the_password(plan):
    with pytest.raises(WorkbenchError) as caught:
        Study(plan, "s", "postgresql://me:secret@127.0.0.1:1/none")
    line = str(caught.value)
    assert "the storage postgresql" in line and "does not answer" in line
    assert "Finished trials are safe" in line
    assert "secret" not in line and "\n" not in line
    with pytest.raises(WorkbenchError, match="does not answer"):
        Study(plan, "s", "sqlite:////nowhere/at/all/study.db")
    with pytest.raises(UsageError, match="expected the URL of a database"):
        Study(plan, "s", "my database")
    with pytest.raises(WorkbenchError, match="there is no driver here for the storage odd"):
        Study(plan, "s", "odd://host/db")


def test_a_full_disk_under_the_study_says_so(tmp_path):
    full = database.OperationalError("INSERT", {}, sqlite3.OperationalError("disk is full"))
    with (
        pytest.raises(WorkbenchError, match=r"cannot write the study in .*No space left"),
        sweep_study.answering(sqlite_url(tmp_path / "study.db")),
    ):
        raise full


def test_a_sweep_that_cannot_begin_leaves_nothing(tmp_path, small):
    where = tmp_path / "s"
    with pytest.raises(WorkbenchError, match="does not answer"):
        sweeps.sweep(
            NAME, alpha=[0], directory=where, storage="postgresql://127.0.0.1:1/x",
            progress=Silent(), **small,
        )  # fmt: skip
    assert not where.exists()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    with pytest.raises(WorkbenchError, match="holds something else"):
        sweeps.sweep(NAME, alpha=[0], directory=tmp_path / "letters", progress=Silent(), **small)
    with pytest.raises(WorkbenchError, match="holds no sweep"):
        sweeps.resume(tmp_path / "letters")
    with pytest.raises(UsageError, match="workers is 0"):
        sweeps.sweep(NAME, alpha=[0], directory=where, workers=0, progress=Silent(), **small)
    assert not where.exists()


# ---------------------------------------------------------------------- one worker, in this process


def without_clock(path: Path) -> list[dict]:
    lines = runs.read_metrics(path)
    for line in lines:
        line.pop("seconds", None)
        line.pop("tokens_per_second", None)
    return lines


@pytest.fixture(scope="module")
def swept(tmp_path_factory, small):
    """A grid of four points with two seeds, worked off."""
    directory = tmp_path_factory.mktemp("swept")
    plan = sweep_plan.make(NAME, temperature=[1, 4], alpha=[0, 0.5], seeds=2, **small)
    worker = worker_of(plan, directory)
    worker.work()
    return worker


def test_every_trial_has_the_bytes_of_a_run_by_itself(swept, small, tmp_path):
    run = swept.directory / "runs" / "0005-T4-a0-s1"
    runs.distill(
        NAME, tmp_path / "alone", progress=Silent(), temperature=4, alpha=0, seed=1,
        checkpoint_every=STEPS, brief=True, **small,
    )  # fmt: skip
    same = "student/model.safetensors"
    assert (run / same).read_bytes() == (tmp_path / "alone" / same).read_bytes()
    both = [runs.RunDirectory(place) for place in (run, tmp_path / "alone")]
    assert checkpoints.differences(*both) == []
    assert without_clock(run) == without_clock(tmp_path / "alone")
    mine, alone = (json.loads((p / "results.json").read_text()) for p in (run, tmp_path / "alone"))
    for name in ("oracle", "teacher", "student", "baseline"):
        assert mine[name] == alone[name]
        assert mine[name]["latency_ms"] is None
    assert not (run / "figures").exists()


def test_a_brief_run_is_completed_by_evaluate(swept, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(swept.directory / "runs" / "0000-T1-a0-s0", run)
    before = json.loads((run / "results.json").read_text())
    after = runs.evaluate(run, progress=Silent())
    assert after["student"]["perplexity"] == before["student"]["perplexity"]
    assert after["student"]["latency_ms"] > 0
    assert (run / "figures" / "perplexity.png").exists()


def test_the_baseline_is_trained_once_for_each_seed(small, tmp_path, monkeypatch):
    steps: list[bool] = []
    step = Distiller.step

    def counted(self, batch) -> StepRecord:
        steps.append(self.teacher is None)
        return step(self, batch)

    monkeypatch.setattr(Distiller, "step", counted)
    plan = sweep_plan.make(
        NAME, temperature=[1, 4], variant=["corrected", "as-coded"], seeds=2, **small
    )
    worker = worker_of(plan, tmp_path)
    worker.work()
    assert worker.study.counts()["over"] == 8
    assert steps.count(False) == 8 * STEPS
    assert steps.count(True) == 2 * STEPS
    assert len(list((tmp_path / "baselines").iterdir())) == 2


def test_what_a_sweep_found(swept):
    found = found_by(swept)
    assert (found["recipe"], found["steps"], found["seeds"]) == (NAME, STEPS, [0, 1])
    assert found["headline"]["key"] == "perplexity"
    assert found["teacher"]["perplexity"] > 1 and found["oracle"]["perplexity"] > 1
    points = found["points"]
    assert [(p["temperature"], p["alpha"]) for p in points] == [(1, 0), (1, 0.5), (4, 0), (4, 0.5)]
    for point in points:
        assert point["state"] == "complete"
        values = [r["figures"]["student"]["perplexity"] for r in point["runs"]]
        baselines = [r["figures"]["baseline"]["perplexity"] for r in point["runs"]]
        mean, interval = verdicts.mean_interval(values)
        assert (point["mean"], tuple(point["interval"])) == (mean, interval)
        expected = verdicts.compare(values, baselines, lower_is_better=True)
        assert point["verdict"]["word"] == expected.word
        assert point["baseline"] == pytest.approx(sum(baselines) / 2)
        for key in ("kl_to_teacher", "agreement", "calibration_error", "seconds"):
            assert point[key] >= 0
        for run in point["runs"]:
            assert runs.is_run(swept.directory / run["run"])
    best = min(points, key=lambda p: p["mean"])
    assert points[found["best"]] == best
    text = table(found)
    (marked,) = [line for line in text.splitlines() if line.startswith("*")]
    assert f"{best['mean']:.2f}" in marked
    assert all(line == line.rstrip() for line in text.splitlines())


def test_one_seed_has_no_interval_and_no_verdict_is_made_up(small, tmp_path):
    worker = worker_of(sweep_plan.make(NAME, alpha=[0], seeds=1, **small), tmp_path)
    worker.work()
    (point,) = found_by(worker)["points"]
    assert point["interval"] is None
    assert point["verdict"]["word"] == "inconclusive" and point["verdict"]["interval"] is None


def test_a_worker_that_is_stopped_puts_its_trial_back_and_goes_on_to_the_same_bytes(
    swept, small, tmp_path
):
    plan = sweep_plan.make(NAME, temperature=[1, 4], alpha=[0, 0.5], seeds=2, **small)
    worker = worker_of(plan, tmp_path)
    asked = iter(range(10_000))
    stop = worker.channel.stop

    class AfterSome(threading.Event):
        def is_set(self) -> bool:
            # In the shared baseline, in the student, and between two runs.
            return next(asked) in (5, 60, 90) or stop.is_set()

    worker.channel.stop = AfterSome()
    for _ in range(10):
        worker.work()
        if worker.study.counts()["over"] == 8:
            break
    assert worker.study.counts() == {"waiting": 0, "running": 0, "over": 8}
    assert len(worker.study.optuna.trials) == 8
    for run in sorted((swept.directory / "runs").iterdir()):
        mine = tmp_path / "runs" / run.name / "student" / "model.safetensors"
        assert mine.read_bytes() == (run / "student" / "model.safetensors").read_bytes()


def test_a_point_that_cannot_be_trained_is_marked_and_the_others_go_on(
    small, tmp_path, monkeypatch
):
    step = Distiller.step

    def touchy(self, batch) -> StepRecord:
        record = step(self, batch)
        if self.temperature == 4 and self.teacher is not None:
            raise NonFiniteLoss(f"the soft loss is nan at step {record.step}")
        return record

    monkeypatch.setattr(Distiller, "step", touchy)
    worker = worker_of(
        sweep_plan.make(NAME, temperature=[4, 1], alpha=[0], seeds=1, **small), tmp_path
    )
    worker.work()
    bad, good = found_by(worker)["points"]
    assert (bad["state"], good["state"]) == ("failed", "complete")
    assert bad["runs"][0]["error"] == "the soft loss is nan at step 1"
    assert found_by(worker)["best"] == 1


def test_a_full_disk_stops_the_worker_and_finished_trials_are_safe(small, tmp_path, monkeypatch):
    worker = worker_of(
        sweep_plan.make(NAME, temperature=[1, 4], alpha=[0], seeds=1, **small), tmp_path
    )
    write = storage.write_safetensors

    def full(path, tensors, metadata) -> None:
        if "0001-" in str(path):
            raise storage.disk_error(OSError(28, "No space left on device"), path, path.name)
        write(path, tensors, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_safetensors", full)
        with pytest.raises(WorkbenchError, match="No space left on device; free some space"):
            worker.work()
    first = tmp_path / "runs" / "0000-T1-a0-s0" / "results.json"
    before = first.stat().st_mtime_ns
    assert worker.study.counts() == {"waiting": 1, "running": 0, "over": 1}
    worker.work()
    assert worker.study.counts()["over"] == 2
    assert first.stat().st_mtime_ns == before


def test_a_search_stays_in_its_ranges_and_draws_each_point_anew(small, tmp_path):
    plan = sweep_plan.make(
        NAME, temperature=[1, 10], alpha=[0.2, 0.8], search="tpe", trials=6, seeds=2,
        **{**small, "steps": 4},
    )  # fmt: skip
    worker = worker_of(plan, tmp_path)
    worker.work()
    found = found_by(worker)
    assert found["search"] == "tpe"
    assert len(found["points"]) == 6
    assert all(1 <= p["temperature"] <= 10 and 0.2 <= p["alpha"] <= 0.8 for p in found["points"])
    assert len({p["temperature"] for p in found["points"]}) == 6
    assert [len(p["runs"]) for p in found["points"]] == [2] * 6
    values = [t.value for t in worker.study.optuna.trials]
    assert values == [p["mean"] for p in found["points"]]


def test_runs_that_do_worse_than_the_median_are_stopped_and_can_be_resumed(small, tmp_path):
    # A student taught at T = 1000 without T² learns next to nothing.
    plan = sweep_plan.make(
        NAME, temperature=[1, 1.1, 1.2, 1.3, 1000], alpha=[0], variant=["as-published"], seeds=1,
        prune=True, **{**small, "steps": 24, "learning_rate": 0.02},
    )  # fmt: skip
    worker = worker_of(plan, tmp_path)
    worker.work()
    points = found_by(worker)["points"]
    assert points[-1]["state"] == "pruned"
    assert [t.state for t in worker.study.optuna.trials][-1] == TrialState.PRUNED
    stopped = tmp_path / points[-1]["runs"][0]["run"]
    assert not (stopped / "results.json").exists()
    assert runs.read_metrics(stopped)[-1]["step"] < 24
    assert runs.resume(stopped, progress=Silent(), brief=True)["steps"] == 24


# ---------------------------------------------------------------------- real processes


def until(holds: Callable[[], object], what: str) -> object:
    deadline = time.monotonic() + DEADLINE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


def start(code: str, *arguments: str) -> subprocess.Popen:
    """A Python process that Ctrl-C reaches, however the tests were started."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


SWEEP = (
    "import json, sys, workbench\n"
    "from workbench.progress import Lines\n"
    "print(json.dumps(workbench.sweep(progress=Lines(), **json.loads(sys.argv[1]))))"
)


def test_killed_workers_and_a_killed_sweep_go_on_and_repeat_nothing(small, tmp_path):
    where = tmp_path / "sweep"
    options = {**small, "steps": 150}
    asked = {
        "recipe": NAME, "temperature": [1, 4], "alpha": [0.5], "seeds": 2, "workers": 1,
        "directory": str(where), **options,
    }  # fmt: skip
    main = start(SWEEP, json.dumps(asked))
    url = sqlite_url(where / "study.db")
    until((where / "plan.json").exists, "the study")
    study = Study(sweep_plan.make(NAME, temperature=[1, 4], alpha=[0.5], seeds=2, **options),
                  "sweep", url)  # fmt: skip

    def running(number: int) -> dict | None:
        """The worker of an attempt at a trial, once it has learned something."""
        for trial in study.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if sweep_study.first_number(trial) == number and "worker" in trial.user_attrs:
                (run,) = (where / "runs").glob(f"{number:04}-*") or [None]
                if run and len(runs.read_metrics(run)) > 1:
                    return trial.user_attrs["worker"]
        return None

    def waits_for(number: int) -> dict:
        def look():
            assert main.poll() is None, main.stderr.read()
            return (where / "runs").exists() and list(
                (where / "runs").glob(f"{number:04}-*")
            ) and running(number)  # fmt: skip

        return until(look, f"trial {number}")

    # A worker is killed; the sweep itself tries again.
    worker = waits_for(1)
    os.kill(worker["process"], signal.SIGKILL)
    # Then all is killed.
    worker = waits_for(2)
    os.kill(main.pid, signal.SIGKILL)
    os.kill(worker["process"], signal.SIGKILL)
    main.communicate()
    finished = {p: p.stat().st_mtime_ns for p in (where / "runs").glob("*/results.json")}
    assert len(finished) == 1

    found = sweeps.sweep(**{**asked, "progress": Silent()})
    assert [p["state"] for p in found["points"]] == ["complete"] * 2
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    attempts = [t.user_attrs.get("retry_of") for t in study.optuna.get_trials(deepcopy=False)]
    assert sorted(a for a in attempts if a is not None) == [1, 2]
    killed = where / found["points"][1]["runs"][0]["run"]
    assert killed.name == "0002-T4-a0.5-s0"
    runs.distill(
        NAME, tmp_path / "alone", progress=Silent(), temperature=4, alpha=0.5, brief=True,
        **options,
    )  # fmt: skip
    same = "student/model.safetensors"
    assert (killed / same).read_bytes() == (tmp_path / "alone" / same).read_bytes()
    assert json.loads((where / "sweep.json").read_text()) == found


@pytest.fixture
def on_ctrl_c():
    """Sets what Ctrl-C does; a test run in the background would have it ignored."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_an_interruption_waits_for_its_place_and_a_second_one_does_not(on_ctrl_c):
    on_ctrl_c(signal.default_int_handler)
    with Interruption() as interruption:
        interruption.strike()
        signal.raise_signal(signal.SIGINT)
        noted = True  # a query that Ctrl-C must not tear apart
        with pytest.raises(KeyboardInterrupt):
            interruption.strike()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert noted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_ctrl_c_is_ignored_it_stays_so(on_ctrl_c):
    on_ctrl_c(signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        interruption.strike()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_command_is_interrupted_resumed_and_prints_one_object(tiny_teacher, tmp_path):
    where = tmp_path / "sweep"
    code = "from workbench.cli import main; main()"
    command = [
        "sweep", NAME, "--temperature", "1", "4", "--alpha", "0.5", "1", "--seeds", "1",
        "--steps", "60", "--teacher", str(tiny_teacher), "--dir", str(where), "--workers", "2",
        "--json",
    ]  # fmt: skip
    main = start(code, *command)
    until(lambda: main.poll() is not None or list(where.glob("runs/*/metrics.jsonl")), "a run")
    main.send_signal(signal.SIGINT)
    out, err = main.communicate(timeout=DEADLINE)
    assert main.returncode == 130, err
    assert out == ""
    assert f"of 4 trials; go on with `workbench sweep --resume {where}`" in err.splitlines()[-1]
    assert json.loads((where / "sweep.json").read_text())["points"]
    again = start(code, "sweep", "--resume", str(where), "--json")
    out, err = again.communicate(timeout=DEADLINE)
    assert again.returncode == 0, err
    assert out.count("\n") == 1
    found = json.loads(out)
    assert [p["state"] for p in found["points"]] == ["complete"] * 4
    assert not [p for p in psutil.process_iter() if _is_worker_of(p, again.pid)]


def _is_worker_of(process: psutil.Process, parent: int) -> bool:
    try:
        return process.ppid() == parent
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([NAME], "the grid has no point"),
        ([], "name a recipe, or go on with a sweep by --resume DIR"),
        ([NAME, "--temperature", "1", "0"], "temperature is 0.0; expected"),
        ([NAME, "--temperature", "2", "2"], "temperature has 2 twice"),
        ([NAME, "--temperature", "1", "warm"], "valid"),
        ([NAME, "--alpha", "0", "-1"], "alpha is -1.0; expected"),
        ([NAME, "--alpha", "0", "--resume", "x"], "--resume knows its sweep"),
        (["--resume", "x", "--seeds", "5"], "--resume knows its sweep"),
        (["--resume", "x", "--prune"], "--resume knows its sweep"),
        ([NAME, "--alpha", "0", "--storage", "here"], "expected the URL of a database"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(["sweep", *arguments])
    said = capsys.readouterr()
    assert left.value.code == 2, said.err
    assert expected in said.err and said.err.count("workbench: ") == 1 and said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_data_that_cannot_be_used_is_one_line_and_leaves_nothing(small, tmp_path):
    with pytest.raises(WorkbenchError, match="there is no file"):
        sweeps.sweep(
            NAME, alpha=[0], directory=tmp_path / "s", progress=Silent(), workers=1,
            **{**small, "data": str(tmp_path / "missing.fasta")},
        )  # fmt: skip
    assert not (tmp_path / "s").exists()


# ---------------------------------------------------------------------- PostgreSQL


def _server_binary(name: str) -> str | None:
    found = shutil.which(name)
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(installed[-1]) if installed else None)


@pytest.fixture
def postgres(tmp_path_factory):
    """URL of a database of a server of our own, on 127.0.0.1 with a free port."""
    import socket
    import tempfile

    initdb, control = _server_binary("initdb"), _server_binary("pg_ctl")
    if not (initdb and control):
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    place = Path(tempfile.mkdtemp(prefix="workbench-postgres-"))
    who = {}
    if os.geteuid() == 0:
        # The server refuses to run as root.
        shutil.chown(place, "postgres")
        who = {"user": "postgres"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = place / "data"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": place, **who}
    subprocess.run([initdb, "-D", data, "-U", "me", "-A", "trust", "--no-sync"], **quiet)
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    subprocess.run([control, "-D", data, "-o", options, "-l", place / "log", "-w", "start"],
                   **quiet)  # fmt: skip
    try:
        yield f"postgresql://me@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([control, "-D", data, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(place, ignore_errors=True)


def test_two_sweeps_on_one_postgresql_share_the_work(postgres, small, tmp_path):
    asked = {
        "recipe": NAME, "temperature": [1, 4], "alpha": [0, 1], "seeds": 2, "workers": 1,
        "storage": postgres, "study": "shared", **small,
    }  # fmt: skip
    both = [
        start(SWEEP, json.dumps({**asked, "directory": str(tmp_path / name)}))
        for name in ("one", "other")
    ]
    told = [process.communicate(timeout=DEADLINE) for process in both]
    assert [process.returncode for process in both] == [0, 0], [err for _, err in told]
    one, other = (json.loads(out) for out, _ in told)
    assert one["points"] == other["points"]
    assert [p["state"] for p in one["points"]] == ["complete"] * 4
    made = {p.parent.name for name in ("one", "other")
            for p in (tmp_path / name).glob("runs/*/results.json")}  # fmt: skip
    assert len(made) == 8
    with pytest.raises(WorkbenchError, match="setting steps: 12 there, 13 here"):
        sweeps.sweep(
            **{**asked, "steps": 13, "directory": str(tmp_path / "third"), "progress": Silent()}
        )
    assert not (tmp_path / "third").exists()


def test_an_interrupted_sweep_says_how_to_go_on(small, tmp_path, monkeypatch):
    def impatient(crew) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workbench.sweeps.crew.Crew.work", impatient)
    where = tmp_path / "s"
    with pytest.raises(Interrupted, match=f"after 0 of 2 trials; go on with .*--resume {where}"):
        sweeps.sweep(NAME, alpha=[0], directory=where, progress=Silent(), **small)
    # And so one can: what was begun is still there.
    with pytest.raises(Interrupted, match="after 0 of 2 trials"):
        sweeps.resume(where, progress=Silent())


def test_a_sweep_does_not_go_on_with_other_data(small, tmp_path, monkeypatch):
    def impatient(crew) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "proteins.fasta"
    drawn = "".join(f">{i}\n{s}\n" for i, s in enumerate(proteins.sample(60, seed=3)))
    file.write_text(drawn)
    monkeypatch.setattr("workbench.sweeps.crew.Crew.work", impatient)
    where = tmp_path / "s"
    options = {**small, "data": str(file)}
    with pytest.raises(Interrupted):
        sweeps.sweep(NAME, alpha=[0], directory=where, progress=Silent(), **options)
    file.write_text(drawn + ">another\nMKVLAT\n")
    with pytest.raises(WorkbenchError, match=r"begun with something else \(content of data: SHA"):
        sweeps.resume(where, progress=Silent())
    file.write_text(drawn)
    with pytest.raises(Interrupted):
        sweeps.resume(where, progress=Silent())
