"""The workers of a sweep: how many, with how many threads each, and what becomes of them."""

from __future__ import annotations

import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from workbench import storage
from workbench.errors import UsageError, WorkbenchError
from workbench.progress import Progress
from workbench.sweeps.interruption import Interruption
from workbench.sweeps.plan import Plan
from workbench.sweeps.study import Study

#: Seconds until a worker that should stop, and does not, is ended.
PATIENCE = 30.0
#: Seconds between two looks at whether the workers of running trials still live.
ROUND = 5.0
#: Workers that may end one after another without having begun a trial.
FALSE_STARTS = 2
#: Bytes of memory that a worker may come to need: torch, a teacher, students, the cache's pages.
MEMORY_EACH = 3 * 2**29


class WorkersEnd(WorkbenchError):
    """Workers end before they have begun a trial; their logs say why."""


@dataclass
class _Hand:
    """One worker process."""

    process: subprocess.Popen
    log: Path
    ready: bool = False
    worked: bool = False


class Crew:
    """Processes that work on a study, until it is done.

    Args:
        plan: of the sweep.
        study: its trials.
        directory: of the sweep.
        workers: processes at a time; by default as `default_workers` says.
        progress: who is told how far the sweep is.

    Raises:
        UsageError: if there are fewer than one worker.
    """

    def __init__(
        self, plan: Plan, study: Study, directory: Path, workers: int | None, progress: Progress
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"workers is {workers}; expected at least 1")
        self.plan, self.study, self.directory = plan, study, directory
        self.workers = workers or default_workers(plan)
        self.threads = threads_each(self.workers)
        self.progress = progress
        self._hands: dict[int, _Hand] = {}
        self._said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._asked = False
        self._false_starts = 0
        self._shown = -1

    def work(self) -> None:
        """Until every trial is over, also those of workers elsewhere.

        Raises:
            WorkbenchError: if workers cannot work: the disk, the data, the teacher.
        """
        storage.make_directory(self.directory / "workers", "the workers' logs")
        try:
            looked = -math.inf
            with Interruption() as interruption:
                while True:
                    # Also of other terminals and machines: nobody else may be left to notice.
                    if time.monotonic() - looked > ROUND:
                        looked = time.monotonic()
                        for number in self.study.bury_dead(besides=self._hands):
                            self.progress.note(f"note: the worker of trial {number} was killed")
                    counts = self.study.counts()
                    self._show(counts["over"])
                    if not counts["waiting"] and not counts["running"]:
                        return
                    self._hire(counts["waiting"])
                    self._listen(interruption)
        finally:
            self._dismiss()

    # ------------------------------------------------------------------ inside

    def _hire(self, waiting: int) -> None:
        idle = sum(not hand.worked for hand in self._hands.values())
        while len(self._hands) < self.workers and idle < waiting:
            self._start(first=not self._asked and not self._hands)
            idle += 1

    def _start(self, first: bool) -> None:
        log = self.directory / "workers" / f"{os.getpid()}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if self.workers > 1:
            # Threads that wait must not keep the cores that the other workers need.
            environment.setdefault("GOMP_SPINCOUNT", "2000")
        try:
            with log.open("ab") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-m", "workbench.sweeps.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=environment,
                    text=True,
                    encoding="utf-8",
                    start_new_session=True,  # Ctrl-C reaches this process alone, which tells them
                )
        except OSError as error:
            raise storage.disk_error(error, log, "the workers' log") from error
        task = {
            "plan": self.plan.to_json(),
            "study": self.study.name,
            "storage": self.study.url,
            "directory": str(self.directory),
            "first": first,
        }
        if first:
            self.progress.stage("asking the teacher")
        self._hands[process.pid] = _Hand(process, log)
        self._send(process, json.dumps(task))
        if self._asked:
            self._send(process, "go")
        threading.Thread(target=self._hear, args=(process,), daemon=True).start()

    def _hear(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            with suppress(ValueError):  # half a line of one that was killed
                self._said.put((process.pid, json.loads(line)))
        process.wait()
        self._said.put((process.pid, None))

    def _listen(self, interruption: Interruption) -> None:
        """Wait for a message, and see to all that have come."""
        messages = []
        for _ in range(10):
            interruption.strike()
            with suppress(queue.Empty):
                messages.append(self._said.get(timeout=0.2))
                break
        if not messages:
            return
        with suppress(queue.Empty):
            while True:
                messages.append(self._said.get_nowait())
        for pid, message in messages:
            if message is None:
                self._left(self._hands.pop(pid))
            else:
                self._see_to(self._hands[pid], message)

    def _see_to(self, hand: _Hand, message: dict[str, Any]) -> None:
        if "problem" in message:
            kind = UsageError if message["usage"] else WorkbenchError
            raise kind(message["problem"])
        if "note" in message:
            self.progress.note(message["note"])
        if "asked" in message:
            self.progress.advance(message["asked"], message["tokens"], {})
        if "claimed" in message:
            hand.worked, self._false_starts = True, 0
        if "ready" in message:
            hand.ready = True
            if not self._asked:
                self._asked = True
                self.progress.stage("sweep")
                self._shown = -1
                for other in self._hands.values():
                    self._send(other.process, "go")

    def _left(self, hand: _Hand) -> None:
        status = hand.process.returncode
        if status == 0:
            return
        for number in self.study.bury(hand.process.pid):
            self.progress.note(
                f"note: the worker of trial {number} ended (status {status}, see {hand.log})"
            )
        if not hand.worked:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise WorkersEnd(
                    f"the sweep's workers end before their first trial (status {status}: "
                    f"{_last_line(hand.log)}); see {hand.log}"
                )

    def _show(self, over: int) -> None:
        if over == self._shown or not self._asked:
            return
        self._shown = over
        headline = self.plan.headline
        values = [t.value for t in self.study.latest().values() if t.value is not None]
        numbers = {f"best {headline.name}": headline.best(values)} if values else {}
        self.progress.advance(over, self.plan.runs, numbers)

    def _dismiss(self) -> None:
        """Let all workers stop where they are; one that does not in time is ended."""
        for hand in self._hands.values():
            with suppress(OSError):
                hand.process.stdin.close()
        for pid, hand in self._hands.items():
            try:
                hand.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                hand.process.kill()
                hand.process.wait()
                self.study.release(pid)
        self._hands.clear()

    @staticmethod
    def _send(process: subprocess.Popen, line: str) -> None:
        with suppress(BrokenPipeError):  # it has ended; that is heard of elsewhere
            process.stdin.write(line + "\n")
            process.stdin.flush()


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(plan: Plan) -> int:
    """A worker for every core, as far as memory and runs go; at paper scale one."""
    if plan.fixed.get("scale", "classroom") != "classroom":
        return 1  # a model of this size keeps all cores, or the accelerator, busy by itself
    # Two students with a thread each get further than one with two: their steps are short.
    memory = psutil.virtual_memory().available // MEMORY_EACH
    return max(1, min(cores(), memory, plan.runs))


def threads_each(workers: int) -> int:
    """Threads of each worker: its share of the cores, or what ``OMP_NUM_THREADS`` says."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else max(1, cores() // workers)


def _last_line(log: Path) -> str:
    lines = [x for x in log.read_text(encoding="utf-8", errors="replace").splitlines() if x.strip()]
    return lines[-1].strip() if lines else "nothing was said"
