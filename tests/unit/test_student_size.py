"""The size of a student as text, and what becomes of it."""

from __future__ import annotations

import pytest

from workbench import RunConfig, student_size
from workbench.errors import UsageError
from workbench.recipes.recipe import Shape

SHAPE = Shape(layers=2, heads=4, width=48, positions=128, vocabulary=21, feed_forward=100)


def test_layers_and_width():
    assert student_size.resize(SHAPE, "") == SHAPE
    assert student_size.resize(SHAPE, "3").layers == 3
    wide = student_size.resize(SHAPE, "3x96")
    assert (wide.layers, wide.width, wide.heads, wide.feed_forward) == (3, 96, 4, 200)
    assert student_size.resize(SHAPE, "3×96") == wide


@pytest.mark.parametrize("size", ["0", "3x", "x96", "-1", "3x0", "3 x 96", "three", "1000"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(UsageError, match="there is no size"):
        RunConfig.from_recipe("protgpt2-tiny", size=size)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "2x50"}, "multiple of the 4 heads"),
        ({"size": "2x96", "init": "2i"}, "as wide as its teacher"),
        ({"size": "2", "init": "first:4"}, "says how many layers"),
        ({"size": "2", "init": "0,2,4"}, "says how many layers"),
    ],
)
def test_a_size_that_cannot_be_is_one_line(options, said):
    with pytest.raises(UsageError, match=said):
        RunConfig.from_recipe("protgpt2-tiny", **options)


@pytest.mark.parametrize(
    ("init", "start"), [("2i", "2i:3"), ("scratch", "scratch:3"), ("random", "random")]
)
def test_a_map_has_as_many_layers(init, start):
    assert RunConfig.from_recipe("protgpt2-tiny", size=3, init=init).start == start


def test_a_run_of_an_earlier_day_has_its_recipes_size():
    config = RunConfig.from_recipe("protgpt2-tiny")
    before = {name: value for name, value in config.to_json().items() if name != "size"}
    assert RunConfig.from_json(before) == config


@pytest.mark.parametrize(("options", "layers", "width"), [
    ({"size": "1x24"}, 1, 24), ({"size": "1", "init": "first"}, 1, None),
])  # fmt: skip
def test_student_and_baseline_have_it(tiny_teacher, options, layers, width):
    from workbench import workshop
    from workbench.progress import Silent

    config = RunConfig.from_recipe(
        "protgpt2-tiny", teacher=str(tiny_teacher), train_sequences=20, validation_sequences=4,
        steps=1, batch_size=4, **options,
    )  # fmt: skip
    shop = workshop.prepare(config, Silent())
    for distiller in (shop.student, shop.baseline):
        own = distiller.student.config
        assert own.num_hidden_layers == layers
        assert own.hidden_size == (width or shop.teacher_model.config.hidden_size)
