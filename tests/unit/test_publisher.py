"""The thread that draws: how often, what it joins, and that a failure does not end it."""

from __future__ import annotations

import threading
from itertools import pairwise

from workbench.lab.publisher import Publisher

PATIENCE = 30.0


def test_the_publisher_draws_at_most_ten_times_a_second():
    """The clock of this test moves only in the publisher's pauses; it is poked all the time."""
    clock, times, enough = [0.0], [], threading.Event()
    holder: list[Publisher] = []

    def draw() -> None:
        times.append(clock[0])
        holder[0].poke()

    def pause(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] >= 3.0:
            enough.set()
            holder[0].close()

    holder.append(Publisher(draw, pause=pause))
    holder[0].poke()
    assert enough.wait(PATIENCE)
    assert len(times) == 30
    assert min(b - a for a, b in pairwise(times)) >= 0.1 - 1e-9


def test_news_during_a_pause_is_drawn_once_and_all_of_it():
    state, seen = [0], []
    pausing, resume = threading.Event(), threading.Event()

    def pause(_: float) -> None:
        pausing.set()
        assert resume.wait(PATIENCE)

    publisher = Publisher(lambda: seen.append(state[0]), pause=pause)
    publisher.poke()
    assert pausing.wait(PATIENCE)
    for value in range(1, 50):
        state[0] = value
        publisher.poke()
    resume.set()
    assert publisher.flush(PATIENCE)
    publisher.close()
    assert seen == [0, 49]


def test_a_failing_drawing_does_not_end_the_later_ones(caplog):
    seen = []

    def draw() -> None:
        seen.append(len(seen))
        if len(seen) == 1:
            raise RuntimeError("first")

    publisher = Publisher(draw, interval=0.0)
    publisher.poke()
    assert publisher.flush(PATIENCE)
    publisher.poke()
    assert publisher.flush(PATIENCE)
    publisher.close()
    assert seen == [0, 1]
    assert "could not be drawn" in caplog.text
