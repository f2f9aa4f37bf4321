"""Freed memory that stays with the process."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from workbench.devices import allocator

#: Trains the classroom's student on labels and prints the page faults of a step: first with
#: glibc's own first thresholds (left alone it adapts to what was freed before, so that a step
#: needs 4 or 900 new pages by chance), then with memory kept. Pages are small ones wherever this
#: runs: one fault for 2 MB instead of 4 kB would hide them.
STEPS = """
import ctypes, resource
from workbench.devices import allocator
keep, allocator.keep_freed_memory = allocator.keep_freed_memory, lambda: False
from workbench import workshop
from workbench.config import RunConfig
from workbench.progress import Silent
config = RunConfig.from_recipe("protgpt2-tiny", size="2x64", cached=False, train_sequences=320)
shop = workshop.prepare(config, Silent())
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def of_a_step():
    for batch in shop.train_batches[:4]:
        shop.baseline.step(batch)
    before = faults()
    for _ in range(5):
        for batch in shop.train_batches[:4]:
            shop.baseline.step(batch)
    return (faults() - before) / 20
c, PR_SET_THP_DISABLE, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = ctypes.CDLL(None), 41, -1, -3
c.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
assert c.mallopt(M_TRIM_THRESHOLD, 131072) and c.mallopt(M_MMAP_THRESHOLD, 131072)
print(of_a_step())
assert keep()
print(of_a_step())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_a_step_asks_the_system_for_no_new_pages():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    at_first, kept = map(float, done.stdout.split())
    # Some 25 against 1,300.
    assert kept < 100 < 500 < at_first, (at_first, kept)


def test_a_system_without_the_setting_goes_on_without_it(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory.__wrapped__() is False
