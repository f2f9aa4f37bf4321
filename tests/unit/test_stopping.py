"""Whoever is asked to stop, by Ctrl-C or SIGTERM, once or twice, leaves a run that goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from launching import (
    ACCELERATE,
    TORCHRUN,
    TWO,
    end,
    environment,
    few_proteins,
    given,
    same,
    together,
)

from workbench import checkpoints, runs
from workbench.devices.processes import Team
from workbench.errors import Interrupted
from workbench.progress import Silent
from workbench.run_directory import RunDirectory

#: So many that none is over before somebody has stopped it, and as few as `same` is meant for.
STEPS = 50
#: Seconds: on a slow machine that others use, too. A launcher itself kills after 30.
PATIENCE = 600


@pytest.fixture(autouse=True)
def heard():
    """Tests in the background of a shell are begun without ears for Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def options(tiny_teacher, tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "proteins.fasta"
    return few_proteins(file, teacher=str(tiny_teacher), steps=STEPS, checkpoint_every=10_000)


@pytest.fixture(scope="module")
def alone(options, tmp_path_factory):
    """One process, undisturbed."""
    path = tmp_path_factory.mktemp("runs") / "alone"
    runs.distill("protgpt2-tiny", path, progress=Silent(), brief=True, **options)
    return path


class Started:
    """A launcher and its workers, once they train."""

    def __init__(self, launcher: list[str], path: Path, options: dict, errors: Path) -> None:
        command = ["workbench", "distill", "protgpt2-tiny", "--run", str(path), "--brief"]
        self.path, self.errors = path, errors
        with errors.open("w") as file:
            # As a shell starts it: a test in the background may have been told to ignore Ctrl-C.
            self.process = subprocess.Popen(
                [*launcher, *command, *given(options)], env=environment(), stderr=file,
                stdout=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )  # fmt: skip
        try:
            self._wait(lambda: len(runs.read_metrics(path)) > 1)
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.workers = [p for p in family if "workbench" in p.cmdline()]
        except BaseException:
            self.kill()
            raise

    def _wait(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not there():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def said(self) -> str:
        return self.errors.read_text()[-6000:]

    def ended(self) -> int:
        """Exit status, once all processes have gone."""
        status = self.process.wait(PATIENCE)
        _, alive = psutil.wait_procs(self.workers, timeout=PATIENCE)
        assert not alive
        return status

    def kill(self) -> None:
        end(self.process)


def check_left(started: Started) -> int:
    """The run was kept at the moment that its one last line names; that step."""
    said = started.said()
    found = re.findall(
        r"^workbench: interrupted at step (\d+) of \d+; go on with (.*)$", said, re.M
    )
    assert len(found) == 1, said
    assert found[0][1] == f"`workbench resume {started.path}`"
    assert not (started.path / "results.json").exists()
    step = checkpoints.step_of(RunDirectory(started.path))
    assert step == int(found[0][0])
    assert 0 < step < STEPS
    return step


def from_workbench(said: str) -> bool:
    """Whether a traceback goes through this package, and is not the launcher's own."""
    return bool(re.search(r'File ".*[/\\]workbench[/\\]', said))


# ---------------------------------------------------------------------- several processes


def test_ctrl_c_twice_keeps_the_moment_and_one_or_two_go_on_from_it(alone, options, tmp_path):
    path = tmp_path / "run"
    started = Started([*TORCHRUN, "-m", "--"], path, options, tmp_path / "errors")
    try:
        # As a terminal does it: to the launcher's group. Workers have sessions of their own.
        os.killpg(started.process.pid, signal.SIGINT)
        time.sleep(0.1)
        if started.process.poll() is None:
            os.killpg(started.process.pid, signal.SIGINT)
        assert started.ended() == 1, started.said()
    finally:
        started.kill()
    check_left(started)
    assert not from_workbench(started.said()), started.said()
    shutil.copytree(path, tmp_path / "by-two")
    together([{"resume": str(tmp_path / "by-two")}], tmp_path / "jobs.json")
    runs.resume(path, progress=Silent(), brief=True)
    same(alone, path)
    same(alone, tmp_path / "by-two")


def test_sigterm_to_everybody_as_slurm_sends_it(options, tmp_path):
    launcher = [*ACCELERATE, *TWO, "-m"]
    started = Started(launcher, tmp_path / "run", options, tmp_path / "errors")
    try:
        for process in (started.process, *started.workers):
            process.send_signal(signal.SIGTERM)
        assert started.ended() == 1, started.said()
    finally:
        started.kill()
    check_left(started)
    assert not from_workbench(started.said()), started.said()


def test_one_worker_that_is_asked_stops_them_all(options, tmp_path):
    started = Started([*TORCHRUN, "-m", "--"], tmp_path / "run", options, tmp_path / "errors")
    try:
        worker = next(p for p in started.workers if p.environ()["RANK"] == "1")
        worker.send_signal(signal.SIGTERM)
        assert started.ended() == 1, started.said()
    finally:
        started.kill()
    check_left(started)
    # The launcher lists those that failed; it may end one that is on its way out.
    assert re.search(r"exitcode +: 130 ", started.said()), started.said()
    assert not from_workbench(started.said()), started.said()


# ---------------------------------------------------------------------- one process


def test_sigterm_to_a_process_alone_is_ctrl_c(options, tmp_path):
    started = Started([sys.executable, "-m"], tmp_path / "run", options, tmp_path / "errors")
    try:
        started.process.send_signal(signal.SIGTERM)
        assert started.ended() == 130, started.said()
    finally:
        started.kill()
    check_left(started)
    assert "Traceback" not in started.said()


def strike(at: int, *numbers: int) -> Callable[[dict], None]:
    """Send this process signals while it writes down a step: in the middle of it."""

    def on_metrics(line: dict) -> None:
        if line["step"] == at:
            for number in numbers:
                os.kill(os.getpid(), number)

    return on_metrics


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_step_is_finished_and_the_run_goes_on_to_the_same_bytes(alone, options, tmp_path, number):
    before = signal.getsignal(number)
    at = runs.read_metrics(alone)[2]["step"]
    with pytest.raises(Interrupted, match=f"interrupted at step {at} of {STEPS}; go on with"):
        runs.distill(
            "protgpt2-tiny", tmp_path / "run", progress=Silent(), brief=True,
            on_metrics=strike(at, number), **options,
        )  # fmt: skip
    assert signal.getsignal(number) is before
    assert checkpoints.step_of(RunDirectory(tmp_path / "run")) == at
    runs.resume(tmp_path / "run", progress=Silent(), brief=True)
    one, other = RunDirectory(alone), RunDirectory(tmp_path / "run")
    assert checkpoints.differences(one, other) == []


def test_a_second_ctrl_c_stops_at_once_at_the_last_checkpoint(options, tmp_path):
    few = {**options, "steps": 20, "checkpoint_every": 4}
    with pytest.raises(Interrupted, match="interrupted; the run goes on from its last checkpoint"):
        runs.distill(
            "protgpt2-tiny", tmp_path / "run", progress=Silent(), brief=True,
            on_metrics=strike(6, signal.SIGINT, signal.SIGINT), **few,
        )  # fmt: skip
    assert checkpoints.step_of(RunDirectory(tmp_path / "run")) == 4
    runs.resume(tmp_path / "run", progress=Silent(), brief=True)
    steps = [line["step"] for line in runs.read_metrics(tmp_path / "run")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 20


class Struck(Silent):
    """Gets a signal when a stage begins."""

    def __init__(self, name: str) -> None:
        self.name = name

    def stage(self, text: str) -> None:
        if text == self.name:
            os.kill(os.getpid(), signal.SIGTERM)


def test_before_the_first_step_nothing_is_left_and_after_the_last_one_all(options, tmp_path):
    few = {**options, "steps": 6}
    path = tmp_path / "run"
    with pytest.raises(Interrupted, match="interrupted; the run had not begun"):
        runs.distill("protgpt2-tiny", path, progress=Struck("asking the teacher"), **few)
    assert not path.exists()
    with pytest.raises(Interrupted, match="goes on from its last checkpoint by `workbench resume"):
        runs.distill(
            "protgpt2-tiny", path, progress=Struck("measuring quality and runtime"), brief=True,
            **few,
        )  # fmt: skip
    assert checkpoints.step_of(RunDirectory(path)) == 6
    assert runs.resume(path, progress=Silent(), brief=True)["steps"] == 6


# ---------------------------------------------------------------------- how signals are taken


def test_a_process_of_a_launcher_takes_a_second_signal_for_a_copy_of_the_first(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    team = Team(alone=True)
    try:
        with team.listening():
            with team.putting_off():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                assert team.stops()
            os.kill(os.getpid(), signal.SIGTERM)
        # On its way out it hears no more.
        assert {signal.getsignal(s) for s in before} == {signal.SIG_IGN}
        for number, handler in before.items():
            signal.signal(number, handler)
        with pytest.raises(KeyboardInterrupt), team.listening():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        team = Team(alone=True)
        with team.listening():
            os.kill(os.getpid(), signal.SIGINT)
            assert not team.stops()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
