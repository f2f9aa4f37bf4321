"""Layer maps: names, maps by hand, and one clear line for everything else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import layer_maps
from workbench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "layers", "expected"),
    [
        ("2i", 12, (0, 2, 4, 6, 8, 10)),
        ("2i+1", 12, (1, 3, 5, 7, 9, 11)),
        ("distilbert", 12, (0, 2, 4, 7, 9, 11)),
        ("first", 12, (0, 1, 2, 3, 4, 5)),
        ("last", 12, (6, 7, 8, 9, 10, 11)),
        ("spaced", 12, (0, 2, 4, 7, 9, 11)),
        ("2i", 9, (0, 2, 4, 6)),
        ("2i+1", 9, (1, 3, 5, 7)),
        ("2i:5", 9, (0, 2, 4, 6, 8)),
        ("spaced:4", 9, (0, 3, 5, 8)),
        ("spaced:1", 9, (8,)),
        ("spaced:9", 9, tuple(range(9))),
        ("first:2", 9, (0, 1)),
        ("last:2", 9, (7, 8)),
        ("2i", 1, (0,)),
        ("0,2,4,6", 9, (0, 2, 4, 6)),
        ("3,1,1", 9, (3, 1, 1)),
        ("0,-,4,-", 9, (0, None, 4, None)),
        ("-", 9, (None,)),
        ("random", 9, None),
        ("scratch", 9, (None,) * 4),
        ("scratch:3", 9, (None,) * 3),
    ],
)
def test_parse(text, layers, expected):
    layer_maps.check(text)
    assert layer_maps.parse(text, layers) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "there is no layer map ''; expected random, a name"),
        ("even", "there is no layer map 'even'"),
        ("0, 2", "there is no layer map"),
        ("0,,2", "there is no layer map"),
        ("-1", "there is no layer map"),
        ("first:x", "there is no layer map"),
        ("first:0", "has no layers"),
        ("random:4", "there is no layer map"),
    ],
)
def test_what_is_no_map_is_refused_before_a_teacher_is_loaded(text, line):
    with pytest.raises(UsageError, match=line):
        layer_maps.check(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0,9", "asks for layer 9 .student layer 1.; the teacher has 9, numbered 0 to 8"),
        ("2i:6", "asks for 6 layers; of a teacher with 9, 2i can give 1 to 5"),
        ("2i[+]1:5", "2i[+]1 can give 1 to 4"),
        ("first:10", "can give 1 to 9"),
        ("distilbert", "is 6 of 12 layers .0,2,4,7,9,11.; this teacher has 9"),
    ],
)
def test_what_this_teacher_has_not_is_refused(text, line):
    with pytest.raises(UsageError, match=line):
        layer_maps.parse(text.replace("[+]", "+"), 9)


def test_presets_are_those_that_fit():
    assert list(layer_maps.presets(12)) == list(layer_maps.NAMES)
    assert "distilbert" not in layer_maps.presets(9)
    assert "2i+1" not in layer_maps.presets(1)


@given(st.integers(1, 40), st.data())
def test_spaced_keeps_both_ends_and_alike_steps(layers, data):
    count = data.draw(st.integers(1, layers))
    found = layer_maps.named("spaced", layers, count)
    assert len(found) == count
    assert found[-1] == layers - 1
    if count > 1:
        assert found[0] == 0
        steps = {b - a for a, b in pairwise(found)}
        assert max(steps) - min(steps) <= 1


@given(st.lists(st.one_of(st.none(), st.integers(0, 11)), min_size=1, max_size=12))
def test_text_and_map_are_the_same_thing(layer_map):
    assert layer_maps.parse(layer_maps.write(layer_map), 12) == tuple(layer_map)


def test_only_random_and_scratch_copy_nothing():
    texts = ("random", "scratch", "scratch:4", "2i", "first:4", "-,-", "0,2")
    assert [layer_maps.copies(t) for t in texts] == [False] * 3 + [True] * 4


def test_random_is_no_map():
    assert layer_maps.parse(layer_maps.write(None), 12) is None
