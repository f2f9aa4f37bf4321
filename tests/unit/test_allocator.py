"""Freed memory that stays with the process."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from workbench.devices import allocator

#: Trains the classroom's student on labels and prints the page faults of a step.
STEPS = """
import resource, sys
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
            [sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    # Some 4 against 600 to 900.
    assert faults("kept") < 50 < 200 < faults("as it is")


def test_a_system_without_the_setting_goes_on_without_it(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory.__wrapped__() is False
