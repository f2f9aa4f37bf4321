"""The whole suite, in the order in which a failure is cheapest to find.

    python tests/all.py                 every step
    python tests/all.py ruff unit       only these

Every step runs even if one before it failed. The last line counts tests over all
steps (ruff and the browser's provision count as one each); the exit status is 1 if
any failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
#: Seconds that one cell may take: it is a machine's word that something hangs, not a goal.
CELL_TIMEOUT = 600
#: A test a core. Each then has torch on one thread: two that want all cores hinder each other.
PARALLEL = ("-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")


@dataclass(frozen=True)
class Outcome:
    """What a step counted."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )


class Suite:
    """The steps, with one temporary directory between them."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.steps: dict[str, tuple[str, Callable[[], Outcome]]] = {
            "chromium": ("a browser for the browser tests", self.chromium),
            "ruff": ("ruff", self.ruff),
            "unit": ("tests/unit and tests/kernel", self.unit),
            "notebooks": ("every notebook, and how it is stored", self.notebooks),
            "browser": ("tests/browser, in a real JupyterLab", self.browser),
        }
        self.environment = {
            **os.environ,
            # Nothing that an earlier run or another environment left behind counts.
            "WORKBENCH_CACHE": str(scratch / "cache"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": str(scratch / "ipython"),
        }

    def run(self, names: list[str]) -> bool:
        """Run these steps, print what each one counted, and tell whether all passed."""
        total = Outcome()
        began = time.monotonic()
        told = []
        for name in names:
            title, step = self.steps[name]
            print(f"\n==> {name}: {title}", flush=True)
            start = time.monotonic()
            outcome = step()
            told.append(f"{name:<10} {time.monotonic() - start:4.0f} s  {outcome}")
            print(f"==> {told[-1]}", flush=True)
            total += outcome
        print("\n" + "\n".join(told))
        print(f"{'all':<10} {time.monotonic() - began:4.0f} s  {total}\n")
        print(f"{total.passed} passed, {total.failed} failed", flush=True)
        return total.failed == 0

    def chromium(self) -> Outcome:
        return self._one("tests/browser/chromium.py")

    def ruff(self) -> Outcome:
        return self._one("-m", "ruff", "check", ".")

    def unit(self) -> Outcome:
        return self._pytest("unit", *PARALLEL, "tests/unit", "tests/kernel")

    def notebooks(self) -> Outcome:
        # In a copy: what notebooks write (runs, checkpoints) stays out of the checkout. Those
        # with exercises are run by tests/notebooks, both as they are and solved.
        copy = self.scratch / "notebooks"
        copy.mkdir()
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            if '"exercise"' not in path.read_text(encoding="utf-8"):
                shutil.copy(path, copy)
        timeout = f"--nbmake-timeout={CELL_TIMEOUT}"
        where = [str(copy), "tests/notebooks"]
        return self._pytest("notebooks", *PARALLEL, "--nbmake", timeout, *where, threads=1)

    def browser(self) -> Outcome:
        # The notebooks take longest, so they are begun first, and tests are dealt out singly.
        dealt = [*PARALLEL[:-1], "load", "--maxschedchunk", "1"]
        first = "tests/browser/test_notebooks.py"
        return self._pytest("browser", *dealt, first, "tests/browser", threads=1)

    def _one(self, *arguments: str) -> Outcome:
        return Outcome(failed=1) if self._python(*arguments) else Outcome(passed=1)

    def _pytest(self, name: str, *arguments: str, threads: int | None = None) -> Outcome:
        report = self.scratch / f"{name}.xml"
        options = ["-c", str(ROOT / "pyproject.toml"), f"--junitxml={report}", "--durations=5"]
        arguments = ("-m", "pytest", *options, "-p", "no:cacheprovider", *arguments)
        status = self._python(*arguments, threads=threads)
        outcome = count(report) if report.exists() else Outcome()
        for line in measured(report) if report.exists() else []:
            print(line, flush=True)
        if status and not outcome.failed:
            # Nothing was collected, or pytest itself came to grief.
            print(f"pytest left with status {status} and no failed test", flush=True)
            return outcome + Outcome(failed=1)
        return outcome

    def _python(self, *arguments: str, threads: int | None = None) -> int:
        more = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode


def count(report: Path) -> Outcome:
    """Tests in a JUnit file that pytest wrote; an error in a fixture is a failure."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(report).iter("testcase"):
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed += 1
        elif "skipped" in outcomes:
            skipped += 1
        else:
            passed += 1
    return Outcome(passed, failed, skipped)


def measured(report: Path) -> list[str]:
    """What tests have measured and recorded as a property of that name."""
    properties = ElementTree.parse(report).iter("property")
    return [p.get("value", "") for p in properties if p.get("name") == "measured"]


def main() -> int:
    """Run the steps that the command line names, all of them by default."""
    # A run that is called off ends its step and removes what it made, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="workbench-tests-") as scratch:
        suite = Suite(Path(scratch))
        parser = argparse.ArgumentParser(description="Run the whole test suite, or some steps.")
        parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(suite.steps))
        chosen = parser.parse_args().steps or list(suite.steps)
        unknown = [name for name in chosen if name not in suite.steps]
        if unknown:
            parser.error(f"no step {', '.join(unknown)}; there are {', '.join(suite.steps)}")
        try:
            return 0 if suite.run(chosen) else 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
