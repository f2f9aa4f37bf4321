"""Runs the contestants side by side: one process each, a few steps of each in turn.

While one works the others wait for their next line, so a busy moment of the machine falls on all
of them, round by round. See `runners/paced.py` for what is said.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from workbench.errors import WorkbenchError

RUNNERS = Path(__file__).parent / "runners"


@dataclass(frozen=True)
class Contestant:
    """One way to take a distillation step.

    Attributes:
        name: as the table has it.
        script: in `RUNNERS`.
        interpreter: of the Python environment that has what the script needs.
        options: after the folder of the job.
    """

    name: str
    script: str
    interpreter: str
    options: tuple[str, ...] = ()


@dataclass
class Measured:
    """What a contestant did in all rounds.

    Attributes:
        rounds: for each round the wall-clock time of each step, s.
        cpu_seconds: for each round the time of the processor for all its steps, s, summed over
            threads: it does not grow when other programs take their share.
        first_loss: of the first step, nats.
        versions: of what it ran with.
        threads: it ran with.
    """

    rounds: list[list[float]] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    first_loss: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    threads: int = 0

    @property
    def seconds(self) -> list[float]:
        """All steps of all rounds."""
        return [step for steps in self.rounds for step in steps]


class Runner:
    """A contestant's process.

    Args:
        contestant: who.
        job: folder of the job.
        log: file for all that it prints besides.

    Raises:
        WorkbenchError: as soon as it ends without being told to, with its last words.
    """

    def __init__(self, contestant: Contestant, job: Path, log: Path) -> None:
        self.contestant, self._log = contestant, log
        command = [contestant.interpreter, str(RUNNERS / contestant.script), str(job)]
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [*command, *contestant.options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=_environment(),
            )
        self.measured = Measured()

    def wait_until_ready(self) -> None:
        """Wait for its first line."""
        greeting = self._hear()
        self.measured.versions = greeting["versions"]
        self.measured.threads = greeting["threads"]

    def take(self, steps: int, *, keep: bool = True) -> None:
        """Let it take some steps; a warm-up's times are not kept."""
        self._say({"steps": steps})
        answer = self._hear()
        self.measured.first_loss = answer["first_loss"]
        if keep:
            self.measured.rounds.append(answer["seconds"])
            self.measured.cpu_seconds.append(answer["cpu_seconds"])

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                stream.close()
            except BrokenPipeError:  # a line was under way to a process that is gone
                continue

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._died() from error

    def _hear(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return json.loads(line)

    def _died(self) -> WorkbenchError:
        status = self._process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = said[-1] if said else f"it left with {status}"
        return WorkbenchError(f"{self.contestant.name} did not come to its end: {last}")


class Race:
    """Several runners at once; on leaving, every process is ended.

    Args:
        contestants: whom to start.
        jobs: folder of each one's job.
        logs: folder for what they print.
    """

    def __init__(self, contestants: Sequence[Contestant], jobs: Sequence[Path], logs: Path) -> None:
        self._entries = list(zip(contestants, jobs, strict=True))
        self._logs = logs
        self.runners: list[Runner] = []

    def __enter__(self) -> Race:
        try:
            for number, (contestant, job) in enumerate(self._entries):
                self.runners.append(Runner(contestant, job, self._logs / f"{number}.log"))
            for runner in self.runners:
                runner.wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for runner in self.runners:
            runner.close()

    def run(
        self, rounds: int, steps: int, warmup: int, between: Callable[[], None] | None = None
    ) -> list[Measured]:
        """Take turns.

        Args:
            rounds: how often each has its turn.
            steps: in a turn.
            warmup: steps of each beforehand, which do not count.
            between: called after each round.
        """
        for runner in self.runners:
            runner.take(warmup, keep=False)
        for number in range(rounds):
            # Every second round backwards: whoever always followed the same one would inherit
            # the same warm or cold caches.
            for runner in self.runners[:: 1 if number % 2 == 0 else -1]:
                runner.take(steps)
            if between:
                between()
        return [runner.measured for runner in self.runners]


def _environment() -> dict[str, str]:
    """Of the runners: nothing is fetched, and the workbench is found by those that need it."""
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **quiet, "PYTHONPATH": path}
