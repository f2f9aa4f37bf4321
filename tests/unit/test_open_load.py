"""Streams: a model whose times are known, on a clock that only it and waiting move."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench import models, plots
from workbench.at_work import open_load
from workbench.errors import UsageError, WorkbenchError
from workbench.worlds import proteins

ITEMS = ["A", "CC", "DDD"]


class Known:
    """A clock, and a model that takes known times on it: seconds of a call by its size."""

    def __init__(self, seconds=lambda size: 0.01) -> None:
        self.time = 100.0
        self.seconds = seconds
        self.calls: list[list[str]] = []

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def score(self, items: list[str]) -> None:
        self.calls.append(items)
        self.time += self.seconds(len(items))


def lindley(arrived, service):
    """Latencies by the recursion of a single server, one after another."""
    free, found = 0.0, []
    for moment, seconds in zip(arrived, service, strict=True):
        free = max(free, moment) + seconds
        found.append(free - moment)
    return found


# ---------------------------------------------------------------------- arrivals


def test_arrivals_have_the_rate_and_are_the_seed_s():
    one = open_load.arrivals(50.0, 4.0, seed=3)
    assert len(one) == 200 and (np.diff(one) >= 0).all() and one[0] >= 0 and one[-1] < 4
    assert np.array_equal(one, open_load.arrivals(50.0, 4.0, seed=3))
    assert not np.array_equal(one, open_load.arrivals(50.0, 4.0, seed=4))
    assert np.allclose(np.diff(open_load.arrivals(50.0, 4.0, pattern="even")), 0.02)


def test_random_arrivals_are_as_uneven_as_a_poisson_process():
    gaps = np.diff(open_load.arrivals(100.0, 200.0, seed=1))
    # Exponential gaps: the standard deviation is the mean, and a share of 1/e is longer than it.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert (gaps > gaps.mean()).mean() == pytest.approx(math.exp(-1), abs=0.01)


@pytest.mark.parametrize(
    "given",
    [{"rate": 0.0}, {"rate": math.nan}, {"seconds": -1.0}, {"pattern": "bursts"}],
)
def test_arrivals_that_cannot_be_are_refused(given):
    with pytest.raises(UsageError):
        open_load.arrivals(**{"rate": 1.0, "seconds": 1.0, **given})


def test_the_machine_s_clock_waits_until_the_moment_and_not_for_one_past():
    clock = open_load.WallClock()
    for wait in (-1.0, 0.0005, 0.003):
        moment = clock.now() + wait
        clock.wait_until(moment)
        assert clock.now() >= moment


# ---------------------------------------------------------------------- one worker


def test_latencies_are_those_of_the_recursion():
    times = iter(np.random.default_rng(0).uniform(0.001, 0.03, 300))
    taken = []

    def seconds(_: int) -> float:
        taken.append(next(times))
        return taken[-1]

    known = Known(seconds)
    arrived = open_load.arrivals(60.0, 5.0, seed=2)
    served = open_load.serve(known.score, ITEMS, arrived, clock=known)
    assert np.allclose(served.latency, lindley(arrived, taken), atol=1e-9)
    assert np.allclose(open_load.latencies(arrived, np.array(taken)), served.latency, atol=1e-9)
    assert np.allclose(served.service, taken, atol=1e-9)
    assert served.busy == pytest.approx(sum(taken)) and served.calls == 300
    assert [items[0] for items in known.calls[:4]] == ["A", "CC", "DDD", "A"]


def test_below_capacity_even_arrivals_never_wait():
    known = Known()
    served = open_load.serve(
        known.score, ITEMS, open_load.arrivals(50, 2, pattern="even"), clock=known
    )
    found = open_load.report(served, rate=50, capacity=100)
    assert found["latency_ms"]["p50"] == pytest.approx(10) == found["latency_ms"]["max"]
    assert found["utilisation"] == pytest.approx(0.5, abs=0.01)
    assert found["throughput"] == pytest.approx(50, rel=0.01) and found["load"] == 0.5
    assert set(found["queue"]["waiting"]) == {0}


def test_beyond_capacity_the_queue_grows_by_the_difference():
    known = Known()
    arrived = open_load.arrivals(150, 4, pattern="even")
    served = open_load.serve(known.score, ITEMS, arrived, clock=known)
    moments = np.array([1.0, 2.0, 3.0, 4.0])
    # 150 come and 100 go each second; one of those that have come is in the model.
    assert np.abs(served.waiting(moments) - 50 * moments).max() <= 2
    found = open_load.report(served, rate=150, capacity=100)
    assert found["throughput"] == pytest.approx(100) and found["utilisation"] == pytest.approx(1)
    assert abs(found["most_waiting"] - 200) <= 2
    # The last one waited for 200 that were before it.
    assert found["latency_ms"]["max"] == pytest.approx(1e3 * (600 * 0.01 - arrived[-1]))
    assert found["service_ms"]["max"] == pytest.approx(10)


def test_the_mean_wait_of_random_arrivals_is_pollaczek_and_khinchine_s():
    known = Known()
    arrived = open_load.arrivals(80, 1000, seed=5)
    waited = open_load.serve(known.score, ITEMS, arrived, clock=known).latency.mean() - 0.01
    # One worker, service of constant length s, load ρ: ρ·s / (2·(1 − ρ)).
    assert waited == pytest.approx(0.8 * 0.01 / (2 * 0.2), rel=0.05)


def test_what_waits_while_the_model_stands_still_is_counted():
    stalls = {50: 1.0}  # the 50th call takes a second instead of 10 ms
    known = Known(lambda _: stalls.get(len(known.calls), 0.01))
    served = open_load.serve(
        known.score, ITEMS, open_load.arrivals(50, 4, pattern="even"), clock=known
    )
    found = open_load.report(served, rate=50, capacity=100)
    # Asked one after another, one answer in 200 was slow, and the 99th percentile is blind to it.
    assert found["service_ms"]["p99"] == pytest.approx(10)
    # Those that arrived meanwhile waited, and so did those behind them.
    assert found["latency_ms"]["p99"] > 900
    assert (served.latency > 0.1).sum() == pytest.approx(90, abs=2)


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (99, 50, 99), (100, 50, 99), (1000, 500, 990)]
)
def test_percentiles_are_measured_values_that_so_many_do_not_exceed(count, p50, p99):
    arrived = np.zeros(count)
    answered = np.arange(1, count + 1) / 1e3  # 1 ms, 2 ms, …
    served = open_load.Served(arrived, arrived, answered, calls=count, busy=answered[-1])
    found = open_load.report(served, rate=1, capacity=1)["latency_ms"]
    assert (found["p50"], found["p99"]) == pytest.approx((p50, p99))


def test_a_worker_takes_what_waits_and_never_waits_for_more():
    known = Known(lambda size: 0.01 + 0.001 * size)
    arrived = np.array([0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 1.0])
    served = open_load.serve(known.score, ITEMS, arrived, max_batch=4, clock=known)
    assert [len(items) for items in known.calls] == [1, 4, 1, 1]
    assert served.answered[1:5] == pytest.approx(0.011 + 0.014) and served.calls == 4
    assert served.latency[-1] == pytest.approx(0.011)
    assert open_load.report(served, rate=7, capacity=1)["mean_batch"] == 7 / 4


def test_capacity_is_of_a_worker_that_never_waits():
    known = Known(lambda size: 0.01 + 0.001 * size)
    one = open_load.capacity(known.score, ITEMS * 4, clock=known)
    many = open_load.capacity(known.score, ITEMS * 4, max_batch=4, clock=known)
    assert one == pytest.approx(1 / 0.011) and many == pytest.approx(4 / 0.014)


def test_a_model_that_takes_no_time_cannot_be_measured():
    known = Known(lambda _: 0.0)
    with pytest.raises(WorkbenchError, match="no time at all"):
        open_load.capacity(known.score, ITEMS, clock=known)


@pytest.mark.parametrize(
    "given", [{"items": []}, {"max_batch": 0}, {"arrived": np.array([])}]
)  # fmt: skip
def test_streams_that_cannot_be_are_refused(given):
    known = Known()
    options = {"items": ITEMS, "arrived": np.zeros(2), "max_batch": 1, "clock": known, **given}
    with pytest.raises(UsageError):
        open_load.serve(known.score, options.pop("items"), options.pop("arrived"), **options)


# ---------------------------------------------------------------------- several models


@pytest.fixture(scope="module")
def measured():
    known = Known()

    def slow(items):
        known.time += 0.02

    def fast(items):
        known.time += 0.002

    return open_load.measure(
        {"teacher": slow, "student": fast}, ITEMS, loads=(0.5, 1.2), seconds=2, seed=7, clock=known
    )


def test_each_model_is_measured_around_its_capacity_and_at_the_rates_of_the_slower(measured):
    teacher, student = measured["models"]["teacher"], measured["models"]["student"]
    assert teacher["capacity"] == pytest.approx(50) and student["capacity"] == pytest.approx(500)
    assert [run["rate"] for run in teacher["runs"]] == pytest.approx([25, 60])
    assert [run["rate"] for run in student["runs"]] == pytest.approx([25, 60, 250, 600])
    assert [run["requests"] for run in student["runs"]] == [50, 120, 500, 1200]
    # The same arrivals: a tenth of the service time, and less than a tenth of the waiting.
    for slow, fast in zip(teacher["runs"], student["runs"], strict=False):
        assert fast["latency_ms"]["p99"] < 0.1 * slow["latency_ms"]["p99"]
    assert open_load.at_rate(measured, "student", 62) is student["runs"][1]
    lines = open_load.table(measured).splitlines()
    assert len(lines) == 7 and lines[2].split()[:3] == ["teacher", "60", "120%"]


def test_the_benchmark_keeps_and_prints_every_rate(monkeypatch):
    from workbench.bench import command, serving

    # Students in place of the teacher: what is measured is tested above, this is its shape.
    monkeypatch.setattr(
        models, "load_causal_lm", lambda name, load=models.load_causal_lm: load("protgpt2-tiny")
    )
    found = serving.stream(seconds=0.02)
    assert [one["max_batch"] for one in found["streams"]] == [1, 16]
    assert all("queue" not in r for r in found["streams"][0]["models"]["student"]["runs"])
    assert "at most 16 in a call" in command.text("stream", found)


def test_no_models_or_loads_are_refused():
    for scorers, loads in (({}, (1.0,)), ({"student": len}, ()), ({"student": len}, (0.0,))):
        with pytest.raises(UsageError, match="at least one model"):
            open_load.measure(scorers, ITEMS, loads=loads)


def test_the_figures_mark_capacity_and_growth(measured):
    from matplotlib.text import Text

    def said(figure):
        return " ".join(t.get_text() for t in figure.findobj(Text))

    latency = plots.stream_figure(measured, {**measured, "max_batch": 16})
    assert "teacher's capacity\n50/s" in said(latency) and "up to 16 at a time" in said(latency)
    queue = plots.queue_figure(measured, loads=(0.5, 1.2))
    assert "120% of capacity" in said(queue) and "arrivals less capacity" in said(queue)
    heights = [line.get_ydata().max() for line in queue.axes[0].lines if len(line.get_xdata()) > 2]
    assert heights == [
        max(run["queue"]["waiting"]) for run in measured["models"]["teacher"]["runs"]
    ]


# ---------------------------------------------------------------------- a real model


def test_scores_are_log_likelihoods_whatever_stands_beside_them():
    import torch

    student, tokenizer, _ = models.load_causal_lm("protgpt2-tiny")
    score = open_load.likelihoods(student, tokenizer)
    sequences = list(proteins.sample(5, seed=1))
    together = score(sequences)
    end = tokenizer.eos_token_id
    for sequence, found in zip(sequences, together, strict=True):
        ids = torch.tensor([[end, *tokenizer(sequence)["input_ids"], end]])
        said = torch.log_softmax(student(input_ids=ids).logits[0, :-1].double(), -1)
        by_hand = said.gather(1, ids[0, 1:, None]).sum()
        assert found == pytest.approx(float(by_hand), rel=1e-5)
        assert score([sequence]) == pytest.approx([found], rel=1e-5)
