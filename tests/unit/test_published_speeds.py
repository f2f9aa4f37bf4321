"""The headline's measurement, on shapes small enough for a test: that it does what it says."""

from __future__ import annotations

import json

import pytest
import torch

from workbench import models
from workbench.bench import command, published_speeds
from workbench.bench.published_speeds import PROTOCOL, PUBLISHED, Family, Mode
from workbench.classifying import classifiers
from workbench.recipes import Shape

SMALL = Shape(layers=1, heads=2, width=16, positions=128, vocabulary=1200)
LARGE = Shape(layers=2, heads=2, width=32, positions=128, vocabulary=1200)
SHAPES = {"teacher": LARGE, "tiny": SMALL}


def family(kind="causal", modes=published_speeds.GENERATING, length=100, **more) -> Family:
    return Family("small", kind, SHAPES, "gelu_new", length, tuple(modes), **more)


@pytest.fixture
def asked(monkeypatch):
    """Every call of `generate`: the settings it had, and the tokens it gave."""
    calls = []
    original = models.build_causal_lm

    def build(*arguments, **options):
        model = original(*arguments, **options)
        generate = model.generate

        def spy(prompt, **settings):
            found = generate(prompt, **settings)
            calls.append((settings, tuple(prompt.shape), found))
            return found

        model.generate = spy
        return model

    monkeypatch.setattr(models, "build_causal_lm", build)
    return calls


def test_the_protocol_is_that_of_2024(asked):
    line = published_speeds.time_model(family(modes=[PROTOCOL]), "tiny", 1)
    assert len(line["modes"][PROTOCOL.name]["times"]) == 5
    warm_up, *counted = asked
    assert warm_up[2].shape == (10, 8) and len(counted) == 5
    for settings, prompt, tokens in counted:
        assert prompt == (10, 1) and tokens.shape == (10, 100)
        # Nobody stopped early: nothing after the prompt is the end-of-text token.
        assert (tokens[:, 1:] != 0).all()
        for name, value in (("do_sample", True), ("top_k", 950), ("repetition_penalty", 1.2),
                            ("max_length", 100), ("use_cache", True)):  # fmt: skip
            assert settings[name] == value, name


@pytest.mark.parametrize("batch", [1, 3])
def test_the_cache_saves_time_and_changes_no_token(batch):
    model = published_speeds.build(family(), "teacher")
    with_cache = published_speeds.generate(model, batch, 40, cache=True)
    without = published_speeds.generate(model, batch, 40, cache=False)
    assert torch.equal(with_cache, without) and with_cache.shape == (batch, 40)
    assert not torch.equal(with_cache, published_speeds.generate(model, batch, 40, cache=True,
                                                                 seed=1))  # fmt: skip


def test_int8_computes_nearly_the_same_with_8_bit_weights():
    model = published_speeds.build(family(), "teacher")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        quantised = published_speeds.to_int8(model)
        after = quantised(input_ids=ids).logits
    assert torch.nn.functional.cosine_similarity(before, after, dim=-1).min() > 0.99
    assert not torch.equal(before, after)
    kinds = {type(module).__name__ for module in quantised.modules()}
    assert "Conv1D" not in kinds
    heavy = [m for m in quantised.modules() if type(m).__name__ == "Linear"]
    # Four products a layer and the head.
    assert len(heavy) == 4 * LARGE.layers + 1
    assert all(m.weight().dtype == torch.qint8 for m in heavy)


def test_time_that_runs_out_leaves_one_call():
    modes = [Mode("short", 2, repeats=9, seconds=0.0), Mode("long", 2, repeats=3, seconds=60.0)]
    found = published_speeds.time_model(family("encoder", modes, 16), "tiny", 1)["modes"]
    assert [len(found[mode]["times"]) for mode in ("short", "long")] == [1, 3]
    assert found["long"]["tokens_per_second"] == pytest.approx(
        2 * 16 / found["long"]["seconds"], rel=1e-9
    )


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_readers_are_read_in_every_precision(kind):
    found = published_speeds.time_model(
        family(kind, [Mode(p, 2, repeats=1, precision=p) for p in ("int8", "float32", "bfloat16")],
               16), "tiny", 1,
    )  # fmt: skip
    assert list(found["modes"]) == ["int8", "float32", "bfloat16"]
    assert {mode["precision"] for mode in found["modes"].values()} == set(found["modes"])
    assert all(mode["cache"] is None for mode in found["modes"].values())
    model = published_speeds.build(family(kind), "tiny")
    answer = published_speeds.read(model, 2, 16)
    wide = len(classifiers.CLASSES) if kind == "classifier" else SMALL.width
    assert answer.shape == ((2, wide) if kind == "classifier" else (2, 16, wide))


def test_the_published_figures_and_shapes():
    generating, reading, halved = published_speeds.families()
    teacher = sum(PUBLISHED["teacher"]) / 5
    ratios = [round(teacher / (sum(PUBLISHED[n]) / 5), 2) for n in ("tiny", "small", "medium")]
    assert ratios == [6.11, 4.49, 2.64]
    assert all(len(times) == 5 for times in PUBLISHED.values())
    counts = {n: models.count_parameters(shape) for n, shape in generating.shapes.items()}
    assert counts == {
        "teacher": 774_030_080, "tiny": 38_866_432, "small": 81_912_576, "medium": 203_668_480,
    }  # fmt: skip
    assert [s.layers for s in reading.shapes.values()] == [12, 6, 4]
    assert [s.layers for s in halved.shapes.values()] == [12, 6]
    assert "c6743f6" in generating.note and reading.published is halved.published is None


def test_a_family_is_measured_in_processes_of_its_own_and_told(monkeypatch, tmp_path):
    small = family(
        modes=[Mode(PROTOCOL.name, 10, 2), Mode("int8", 1, 1, precision="int8")], length=12,
        published=PUBLISHED, note="Of a test.",
    )  # fmt: skip
    monkeypatch.setattr(published_speeds, "families", lambda: (small,))
    measured = command.run("headline", tmp_path)
    assert json.loads((tmp_path / "headline.json").read_text()) == measured
    assert {"machine", "date", "versions", "threads", "command"} <= set(measured)
    teacher, tiny = measured["families"][0]["models"]
    for mode in (PROTOCOL.name, "int8"):
        assert tiny["modes"][mode]["speedup"] == pytest.approx(
            teacher["modes"][mode]["seconds"] / tiny["modes"][mode]["seconds"]
        )
    assert tiny["modes"][PROTOCOL.name]["published_speedup"] == pytest.approx(6.11, abs=0.005)
    assert tiny["modes"]["int8"]["published_seconds"] is None
    told = command.text("headline", measured)
    assert "2024 protocol, published" in told and "0.466 (6.11)" in told and "2/2" in told


def test_of_the_protocol_alone_all_five_calls_are_made(monkeypatch, tmp_path):
    small = family(modes=[Mode("another", 1)], length=12, published=PUBLISHED, note="Of a test.")
    monkeypatch.setattr(published_speeds, "families", lambda: (small,))
    measured = command.run("protocol", tmp_path)
    assert (tmp_path / "protocol.json").exists()
    for model in measured["families"][0]["models"]:
        assert list(model["modes"]) == [PROTOCOL.name]
        assert len(model["modes"][PROTOCOL.name]["times"]) == 5
