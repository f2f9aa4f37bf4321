"""What students cost: the Pareto front, speed in turn, and what is stored and drawn."""

from __future__ import annotations

import itertools
from functools import partial
from types import SimpleNamespace

import pytest

from workbench import models, plots
from workbench.bench import costs, speedups
from workbench.comparisons import tradeoff
from workbench.config import RunConfig
from workbench.errors import UsageError
from workbench.progress import Silent
from workbench.recipes.recipe import Shape


@pytest.fixture(scope="module")
def stored():
    return tradeoff.stored()


def readers():
    shape = Shape(layers=1, heads=2, width=16, positions=24, vocabulary=21)
    return models.build_causal_lm(shape, activation="gelu_pytorch_tanh", seed=0).eval()


# ---------------------------------------------------------------------- the front


@pytest.mark.parametrize(
    ("points", "better", "expected"),
    [
        ([(1, 9), (2, 5), (3, 7), (4, 2)], "lower", [0, 1, 3]),
        ([(4, 2), (3, 7), (2, 5), (1, 9)], "lower", [3, 2, 0]),
        ([(1, 0.6), (2, 0.8), (3, 0.7)], "higher", [0, 1]),
        ([(1, 5), (1, 4)], "lower", [1]),
        ([(1, 5), (1, 5), (2, 5)], "lower", [0]),
        ([], "lower", []),
    ],
)
def test_the_front_is_what_no_other_point_beats(points, better, expected):
    assert tradeoff.front(points, better) == expected


def test_the_front_agrees_with_its_definition():
    grid = [(a, b) for a, b in itertools.product(range(4), repeat=2) if (3 * a + b) % 4]
    sign = {"lower": 1, "higher": -1}
    for better, s in sign.items():
        beaten = {
            p for p in grid for q in grid
            if q[0] <= p[0] and s * q[1] <= s * p[1] and q != p
        }  # fmt: skip
        kept = {grid[i] for i in tradeoff.front(grid, better)}
        assert kept == set(grid) - beaten


# ---------------------------------------------------------------------- speed


def test_speed_is_measured_for_every_batch_length_and_mode():
    lines = speedups.measure(readers(), readers(), batches=(1, 3), lengths=(4, 24, 25), repeats=2)
    assert [(x["mode"], x["batch"], x["length"]) for x in lines] == [
        (mode, batch, length)
        for mode in ("scoring", "generating") for batch in (1, 3) for length in (4, 24)
    ]  # fmt: skip
    for line in lines:
        assert line["speedup"] == line["teacher_ms"] / line["student_ms"] > 0


def test_teacher_and_student_are_called_in_turn(monkeypatch):
    called = []
    one, other = readers(), readers()
    monkeypatch.setattr(
        "workbench.runtime.score", lambda model, ids: called.append((model is one, ids.shape))
    )
    monkeypatch.setattr("workbench.runtime.reads_both_ways", lambda model: True)
    speedups.measure(one, other, batches=(2,), lengths=(5,), repeats=2)
    assert called == [(first, (2, 5)) for first in (True, False)] * 3


def test_lengths_that_no_model_can_read_are_refused():
    with pytest.raises(UsageError, match="the models read at most 24"):
        speedups.measure(readers(), readers(), lengths=(25, 100))


# ---------------------------------------------------------------------- all of it


def test_students_are_trained_and_then_timed(monkeypatch):
    students = (("distilbert-pmhc", "1"), ("distilbert-pmhc", ""))
    monkeypatch.setattr(costs, "STUDENTS", {"pmhc": students})
    few = {"train_sequences": 96, "validation_sequences": 90, "batch_size": 32}
    configured = partial(RunConfig.from_recipe, **few)
    monkeypatch.setattr(costs, "RunConfig", SimpleNamespace(from_recipe=configured))
    found = costs.measure(("pmhc",), seeds=(3, 4), steps=2, progress=Silent())
    entry = found["teachers"]["pmhc"]
    assert (found["steps"], found["seeds"]) == (2, [3, 4])
    assert (entry["headline"], entry["better"]) == ("f1", "higher")
    assert [(row["recipe"], row["size"]) for row in entry["students"]] == list(students)
    assert [row["layers"] for row in entry["students"]] == [1, 4]
    assert entry["teacher"]["parameters"] > entry["students"][1]["parameters"]
    for row in entry["students"]:
        assert len(row["quality"]) == len(row["baseline"]) == 2
        assert {x["mode"] for x in row["speedups"]} == {"scoring"}
        assert row["latency_ms"] > 0 and row["peak_memory_mb"] > 0
    assert "distilbert-pmhc 1" in tradeoff.table(found)
    texts(plots.tradeoff_figure(found))


# ---------------------------------------------------------------------- what the course stores


def test_what_is_stored_is_of_every_student(stored):
    assert {
        name: [(row["recipe"], row["size"]) for row in entry["students"]]
        for name, entry in stored["teachers"].items()
    } == {name: list(students) for name, students in costs.STUDENTS.items()}
    assert stored["steps"] == costs.STEPS and stored["seeds"] == list(costs.SEEDS)
    assert stored["machine"] and stored["date"] and stored["versions"]
    assert len(tradeoff.table(stored).splitlines()) == 1 + 3 + 11


def texts(figure) -> str:
    from matplotlib.text import Text

    figure.canvas.draw()
    return " | ".join(t.get_text() for t in figure.findobj(Text) if t.get_text())


@pytest.mark.parametrize("cost", tradeoff.COSTS)
def test_every_student_has_its_name_beside_every_cost(stored, cost):
    said = texts(plots.tradeoff_figure(stored, cost))
    for name in ("tiny 1x32", "medium", "distilbert-pmhc 2", "compactbiobert", "Pareto front"):
        assert name in said
    assert tradeoff.COSTS[cost] in said


def test_published_speed_stands_beside_what_was_measured(stored):
    said = texts(plots.speedup_figure(stored, "generating"))
    for word in ("6.11 ×", "4.49 ×", "2.64 ×", "up to 6 ×", "128 tokens"):
        assert word in said
    assert "distilbert" not in said
    assert "compactbiobert" in texts(plots.speedup_figure(stored, "scoring"))


def test_figures_have_the_same_bytes(stored, tmp_path):
    for number in (1, 2):
        plots.save(plots.tradeoff_figure(stored), tmp_path / f"{number}.png")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
