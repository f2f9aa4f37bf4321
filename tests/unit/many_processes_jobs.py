"""Runs of several processes, one after the other: started by torchrun, told what by a JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from workbench import runs
from workbench.errors import Interrupted


def work(job: dict) -> None:
    if "resume" in job:
        runs.resume(job["resume"], brief=True)
        return
    stop = job.get("stop_at")
    asked = iter(range(10**6))
    try:
        runs.distill(
            job["recipe"], job["run"], brief=True,
            should_stop=None if stop is None else lambda: next(asked) >= stop, **job["options"],
        )  # fmt: skip
    except Interrupted:
        assert stop is not None


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        work(job)
