"""The Lab in a real kernel: played, steered and interrupted by messages, without a browser."""

from __future__ import annotations

import os
import signal

import pytest
from kernel_page import TEACHER

LAB = """
from workbench import Lab
lab = Lab("protgpt2-tiny;steps=1000000", teacher="teacher", train_sequences=64,
          validation_sequences=16, checkpoint_every=1_000_000)
lab
"""
THREADS = """
import threading
sorted(t.name for t in threading.enumerate() if t.name.startswith("workbench"))
"""
#: Cells run again; resident memory is compared after the first ten.
AGAIN = 100
MEMORY = """
import gc, psutil
gc.collect()
psutil.Process().memory_info().rss
"""


def status(page, widget: str) -> dict:
    return page.widgets[widget]["_status"]


@pytest.mark.parametrize("front_end", ["one shell", "a subshell for widgets"])
def test_the_lab_lives_while_a_run_goes_on(page, front_end):
    if front_end != "one shell":
        page.use_subshell()
    live(page)


def test_the_lab_lives_in_an_older_kernel(older_page):
    assert older_page.run("import ipykernel; ipykernel.__version__") == "'6.31.0'"
    live(older_page)


def live(page) -> None:
    """Played, steered, interrupted, paused, made again: all of it by messages."""
    page.run(TEACHER)
    page.run(LAB, cell="lab-cell")
    lab = page.find(_link="protgpt2-tiny")
    assert status(page, lab)["state"] == "new"

    page.say(lab, n=1, do="play")
    page.until(lambda: status(page, lab)["state"] == "running" and status(page, lab)["step"] > 20)

    # A knob is answered, and a cell can be run, while the student learns.
    page.say(lab, n=2, set={"temperature": 4.0})
    page.until(lambda: "at T=4 " in page.widgets[lab]["_formula"])
    assert page.widgets[lab]["_values"]["heard"] == 2
    assert page.run("lab.state, lab.controls['temperature'].value") == "('running', 4.0)"
    page.until(lambda: "student, distilled" in page.widgets[lab]["_curves"])

    # A move made while a cell keeps the kernel busy is not lost.
    busy = page.send("import time; time.sleep(2)")
    page.say(lab, n=3, set={"temperature": 8.0})
    page.until(lambda: "at T=8 " in page.widgets[lab]["_formula"])
    page.until(lambda: busy in page.finished)

    # An interrupt is for the cell, not for the training.
    page.send("print('asleep', flush=True); time.sleep(60)")
    page.until(lambda: "stream" in page.outputs)
    del page.outputs["stream"]
    os.kill(page.kernel, signal.SIGINT)
    page.until(lambda: "error" in page.outputs)
    assert "KeyboardInterrupt" in page.outputs.pop("error")[0]
    step = status(page, lab)["step"]
    page.until(lambda: status(page, lab)["step"] > step)

    page.say(lab, n=4, do="pause")
    page.until(lambda: status(page, lab)["state"] == "paused")
    assert "paused by hand" in status(page, lab)["sentence"]

    # The cell again, while a run goes on: the first Lab leaves nothing behind.
    page.say(lab, n=5, do="play")
    page.until(lambda: status(page, lab)["state"] == "running")
    before = len(page.widgets)
    page.run("older = lab")
    page.run(LAB, cell="lab-cell")
    assert lab not in page.widgets
    assert len(page.widgets) == before
    page.run("older.join()")
    assert page.run(THREADS) == "[]"
    assert "stream" not in page.outputs


def test_a_page_hears_and_is_heard_when_another_is_gone(page):
    """A page has a subshell of its own, which ends with it, and the Lab talks on from there."""
    page.use_subshell()
    page.run(TEACHER)
    page.run(LAB, cell="lab-cell")
    lab = page.find(_link="protgpt2-tiny")
    page.say(lab, page="first", n=1, do="play")
    page.until(lambda: status(page, lab)["step"] > 5)
    page.leave_subshell()
    page.use_subshell()
    page.say(lab, page="second", n=2, do="pause")
    page.until(lambda: status(page, lab)["state"] == "paused")


def test_a_hundred_runs_of_the_cell_leave_nothing(page, capsys):
    page.run(TEACHER)
    page.run(LAB, cell="lab-cell")
    page.run("import torch")
    held = []
    for number in range(AGAIN):
        page.run(LAB, cell="lab-cell")
        if number in (9, AGAIN - 1):
            held.append(int(page.run(MEMORY)))
    assert len([w for w in page.widgets.values() if "_face" in w]) == 1
    assert page.run(THREADS) == "[]"
    growth = held[1] / held[0] - 1
    with capsys.disabled():
        print(f"\nthe cell {AGAIN} times: resident memory {held[0] / 2**20:.0f} MB after ten, "
              f"{growth:+.1%} at the end (goal 5 %)")  # fmt: skip
    assert growth <= 0.05
