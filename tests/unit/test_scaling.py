"""The cost model on points whose truth is known, and the whole measurement on small models."""

from __future__ import annotations

import json

import pytest

from workbench.bench import command, fits, scaling, scaling_points

POINTS = [[1e6, 2e3, 5e2], [4e6, 5e3, 1e4], [2e7, 1e4, 3e2], [9e7, 3e4, 5e4], [4e8, 5e4, 2e4]]


def test_a_fit_finds_the_prices_that_made_the_points():
    prices = (2e-11, 3e-9, 7e-10)
    seconds = [sum(p * a for p, a in zip(prices, point, strict=True)) for point in POINTS]
    found = fits.fit(POINTS, seconds)
    assert found.prices == pytest.approx(prices, rel=1e-6)
    assert found.worst_error < 1e-6 and max(map(abs, found.residuals)) < 1e-6
    assert found.predict([1e9, 1e5, 1e3]) == pytest.approx(2e-2 + 3e-4 + 7e-7)


def test_a_point_is_left_out_where_its_error_is_asked():
    """One price: the relative fit of others is Σ r/Σ r², r = amount/seconds, by hand."""
    amounts, seconds = [[1.0], [2.0], [4.0]], [1.0, 2.0, 8.0]
    found = fits.fit(amounts, seconds)
    # r = 1, 1, ½: all, price 2.5/2.25; without the last 2/2; without one of the others 1.5/1.25.
    assert found.prices[0] == pytest.approx(2.5 / 2.25)
    assert found.left_out == pytest.approx((1.5 / 1.25 - 1, 1.5 / 1.25 - 1, 4 / 8 - 1))
    assert found.typical_error == pytest.approx(((0.2**2 + 0.2**2 + 0.5**2) / 3) ** 0.5)
    assert found.worst_error == pytest.approx(0.5)
    assert abs(found.residuals[2]) < 0.5


def test_no_price_is_below_zero():
    # The second amount explains nothing; least squares alone would give it a negative price.
    found = fits.fit([[1.0, 4.0], [2.0, 3.0], [4.0, 9.0], [8.0, 2.0]], [1.0, 2.1, 3.8, 8.4])
    assert min(found.prices) >= 0


def test_a_fit_needs_more_points_than_prices():
    with pytest.raises(ValueError, match="more points than prices"):
        fits.fit(POINTS[:3], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="above 0"):
        fits.fit(POINTS, [1.0, 2.0, 0.0, 3.0, 4.0])


def test_from_which_pass_on_keeping_pays():
    """n·10 against 10 + 5 + n·4: at n = 2 it is 20 against 23, at 3 30 against 27."""
    assert fits.passes_until_worth(ask=10, write=5, read=4) == 3
    # n·10 = 10 + 6 + n·2 at n = 2 exactly.
    assert fits.passes_until_worth(ask=10, write=6, read=2) == 2
    # Asking is as fast as reading: never.
    assert fits.passes_until_worth(ask=4, write=1, read=4) is None
    assert fits.passes_until_worth(ask=3, write=0, read=4) is None


def test_the_published_pairs_have_their_published_sizes():
    sizes = {pair.student: pair.student_size.parameters for pair in scaling.pairs()}
    assert sizes["protgpt2-medium"] == 203_668_480
    assert sizes["tinybiobert"] == 13_903_756
    teachers = {pair.teacher: pair.teacher_size.parameters for pair in scaling.pairs()}
    assert teachers["ProtGPT2"] == 774_030_080
    assert teachers["BioBERT"] == 108_340_804
    # With a head of two classes; 419,933,214 with that for hidden residues.
    assert teachers["ProtBert"] == pytest.approx(419_933_214, rel=0.01)


def test_caching_is_computed_from_bytes_and_rates():
    fit = fits.Fit((1e-12, 0.0), (0.0,), (0.0,))
    disk = {"write_bytes_per_second": 1e9, "read_bytes_per_second": 2e9}
    rows = {row["teacher"]: row for row in scaling.caching(fit, disk, 1e14)}
    whole = rows["ProtGPT2"]["float32"]
    assert whole["bytes_per_token"] == 4 * 1280
    assert whole["bytes_for_1e9_tokens"] == pytest.approx(5.12e12)
    assert whole["read_seconds_per_token"] == pytest.approx(5120 / 2e9)
    # 2·19,660,800·36 of the matrices and 4·512·1,280·36 of attention, at 10⁻¹² s each.
    flops = 36 * (2 * 19_660_800 + 4 * 512 * 1280)
    assert whole["ask_seconds_per_token_here"] == pytest.approx(flops * 1e-12)
    assert whole["ask_seconds_per_token_gpu_computed"] == pytest.approx(flops / 1e14)
    assert whole["passes_here"] == 2
    # 179 MFLOP take 1.79 µs, 3,072 bytes 3.07 µs to write and 1.54 µs to read: 4.87/0.26 = 18.9.
    assert rows["BioBERT"]["float32"]["passes_gpu_computed"] == 19
    faster = {row["teacher"]: row for row in scaling.caching(fit, disk, 2e14)}
    assert faster["BioBERT"]["float32"]["passes_gpu_computed"] is None
    assert rows["BioBERT"]["masks_drawn_anew"] and not rows["ProtGPT2"]["masks_drawn_anew"]


def test_the_whole_measurement_on_small_models(tmp_path, monkeypatch):
    gpt2, bert = scaling_points._gpt2, scaling_points._bert
    small = (
        gpt2(1, 2, 16, 100, 2), gpt2(2, 2, 32, 100, 2), gpt2(2, 4, 64, 500, 2),
        bert(2, 2, 32, 100, 2), bert(1, 2, 48, 300, 2),
    )  # fmt: skip
    monkeypatch.setattr(
        scaling, "measure", lambda real=scaling.measure: real(small, small, kept=2**20, repeats=1)
    )
    measured = command.run("scaling", tmp_path)
    stored = json.loads((tmp_path / "scaling.json").read_text())
    assert stored["command"] == "workbench bench scaling" and stored["machine"] and stored["date"]
    assert len(measured["teachers"]) == len(measured["forward"]["left_out"]) == 5
    assert min(p["seconds_per_token"] for p in measured["students"]) > 0
    assert measured["disk"]["read_bytes_per_second"] > 0
    text = command.text("scaling", measured)
    assert "not measured" in text and "left out" in text
    for name in ("ProtGPT2", "ProtBert", "BioBERT"):
        assert name in text
