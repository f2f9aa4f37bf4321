"""Freed memory that stays with the process."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from workbench.devices import allocator

#: What glibc begins with, in bytes. Left alone it adapts to what was freed before, so that a step
#: needs 4 or 900 new pages by chance.
AT_FIRST = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
#: Trains the classroom's student on labels and prints the page faults of a step. Pages are small
#: ones wherever this runs: one fault for 2 MB instead of 4 kB would hide them.
STEPS = """
import ctypes, resource, sys
PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
from workbench.devices import allocator
if sys.argv[1] != "kept":
    allocator.keep_freed_memory = lambda: False
from workbench import workshop
from workbench.config import RunConfig
from workbench.progress import Silent
config = RunConfig.from_recipe("protgpt2-tiny", size="2x64", cached=False, train_sequences=320)
shop = workshop.prepare(config, Silent())
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for batch in shop.train_batches[:4]:
    shop.baseline.step(batch)
before = faults()
for _ in range(10):
    for batch in shop.train_batches[:4]:
        shop.baseline.step(batch)
print((faults() - before) / 40)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_a_step_asks_the_system_for_no_new_pages():
    def faults(how: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", STEPS, how],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | AT_FIRST,
        )
        return float(done.stdout)

    # Some 20 against 8,600.
    assert faults("kept") < 100 < 1000 < faults("as it is")


def test_a_system_without_the_setting_goes_on_without_it(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory.__wrapped__() is False
