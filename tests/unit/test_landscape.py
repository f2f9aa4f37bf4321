"""The landscape of a sweep: reading it, storing it, drawing it, and what is no landscape."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from xml.etree import ElementTree

import landscape_made
import pytest

import workbench
from workbench import storage
from workbench.errors import UsageError, WorkbenchError
from workbench.lab.landscape import gathering, landscape_svg, shown, store

CONTENT = landscape_made.content()


@pytest.fixture
def stored(tmp_path):
    """Writes a content into a file and returns its path."""

    def write(content) -> str:
        path = tmp_path / "stored.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def landscape(stored):
    made = workbench.Landscape(stored(CONTENT), name="test")
    yield made
    made.close()


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_teacher):
    """Directory of a real sweep of two temperatures, two steps each."""
    place = tmp_path_factory.mktemp("sweeps") / "tiny"
    workbench.sweep(
        "protgpt2-tiny", directory=place, temperature=[1, 10], alpha=[0.1, 1], seeds=1, steps=2,
        workers=1, teacher=str(tiny_teacher), train_sequences=40, validation_sequences=12,
        size="1x8",
    )  # fmt: skip
    return place


# ---------------------------------------------------------------------- stored sweeps


def test_every_stored_sweep_can_be_shown_and_is_small():
    assert "protgpt2-tiny" in workbench.Landscape.stored()
    for name in workbench.Landscape.stored():
        path = store.PLACE / f"{name}.json"
        assert path.stat().st_size < store.MOST_BYTES
        made = workbench.Landscape(name, name="test")
        told = made.data["told"]
        assert told["command"].startswith("workbench") and told["machine"] and told["date"]
        assert all(point["state"] == "complete" for point in made.data["points"])
        assert "/tmp" not in path.read_text() and "/home" not in path.read_text()
        ElementTree.fromstring(made.svg())
        made.close()


def test_the_stored_sweep_holds_what_the_notebook_asks_about():
    made = workbench.Landscape("protgpt2-tiny", name="test")
    assert {"corrected", "as-published"} <= {v["name"] for v in made.data["variants"]}
    for variant in ("corrected", "as-published"):
        made.select(T=10, alpha=0.1, variant=variant)
        assert made.point["curve"] and made.point["ledger"] and made.point["answers"]
    # Where T² is 1 the variants are the same run; where α is 1, nobody asks the teacher.
    one, other = (made.measured(T=1, alpha=0.1, variant=v) for v in ("corrected", "as-published"))
    assert one["values"] == other["values"]
    alone = made.measured(alpha=1)
    assert alone["mean"] == pytest.approx(alone["baseline"], rel=1e-4)
    made.close()


def test_it_opens_without_torch_or_a_database():
    code = (
        "import sys, workbench; workbench.Landscape('protgpt2-tiny').svg(); "
        "print([m for m in ('torch', 'transformers', 'optuna', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------- gathering and storing


def test_a_sweep_becomes_a_file_that_is_read_again(swept, tmp_path):
    path = store.store(swept, "tiny", tmp_path)
    made = workbench.Landscape(path, name="test")
    found = storage.read_json(swept / "sweep.json")
    # T = 10 at α = 0.1, the published point, is chosen first.
    assert (made.state["temperature"], made.state["alpha"]) == (10.0, 0.1)
    [point] = [p for p in found["points"] if (p["temperature"], p["alpha"]) == (10.0, 0.1)]
    assert made.measured()["mean"] == pytest.approx(point["mean"], rel=1e-4)
    curve = made.point["curve"]
    assert curve["steps"][-1] == 2
    assert curve["figures"]["perplexity"][-1] == pytest.approx(point["mean"], rel=1e-4)
    assert sum(entry["share"] for entry in made.point["ledger"].values()) == pytest.approx(1, 1e-3)
    for row in (*made.point["answers"], *made.data["places"][0]["rows"].values()):
        assert sum(row) == pytest.approx(1, abs=1e-3)
        assert len(row) == len(made.data["places"][0]["words"])
    # Settings that no flag of the command line has: then it is told in Python.
    assert made.data["told"]["command"].startswith("workbench.sweep('protgpt2-tiny', temperature=")
    assert str(swept) not in path.read_text()
    made.close()


def test_what_a_sweep_returned_is_shown_and_its_cell_opens_the_lab(swept):
    made = workbench.Landscape({"sweep": str(swept)}, name="test")
    made.select(T=1, alpha=1)
    assert made.link == "protgpt2-tiny;T=1;alpha=1;variant=corrected;size=1x8;steps=2;seed=0"
    lab = made.lab()
    config = lab.settings.config()
    assert (config.temperature, config.alpha, config.size, config.steps) == (1.0, 1.0, "1x8", 2)
    # What has no knob comes along, so that the Lab trains the same student.
    assert (config.train_sequences, config.validation_sequences) == (40, 12)
    lab.close()
    made.close()


def test_the_command_is_one_that_can_be_typed():
    found = {**CONTENT["sweep"], "axes": {**CONTENT["sweep"]["axes"], "size": ["2x48"]}}
    assert gathering.command(found) == (
        "workbench sweep protgpt2-tiny --temperature 1 2 4 10 --alpha 0 0.1 0.5 1 "
        "--variant corrected as-published --size 2x48 --seeds 2 --steps 100"
    )
    found = {**found, "fixed": {"data": "my proteins.fasta", "weights": {"hidden": 0}}}
    assert "--data 'my proteins.fasta' --weight hidden=0 --steps 100" in gathering.command(found)


def test_storing_tells_what_is_wrong_in_one_line(tmp_path, swept, capsys, monkeypatch):
    assert store.main([str(tmp_path), "x"]) == 1
    assert "holds no sweep that can be shown" in capsys.readouterr().err
    assert store.main([str(swept), "../x"]) == 2
    assert "the name is '../x'" in capsys.readouterr().err
    assert store.main([]) == 2
    assert "usage" in capsys.readouterr().err
    monkeypatch.setattr(store, "MOST_BYTES", 1000)
    with pytest.raises(WorkbenchError, match="expected at most"):
        store.store(swept, "x", tmp_path)
    assert not (tmp_path / "x.json").exists()


def test_a_search_has_no_grid(tmp_path):
    found = {**CONTENT["sweep"], "search": "tpe", "points": []}
    (tmp_path / "sweep.json").write_text(json.dumps(found))
    with pytest.raises(WorkbenchError, match="is a search"):
        workbench.Landscape(tmp_path)


# ---------------------------------------------------------------------- wrong files


@pytest.mark.parametrize("source", ["protgpt3", "../protgpt2-tiny", "/nowhere/at/all"])
def test_an_unknown_sweep_names_those_there_are(source):
    with pytest.raises(UsageError, match="protgpt2-tiny"):
        workbench.Landscape(source)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', "\x00"])
def test_a_file_that_is_none_is_told_in_one_line(tmp_path, text):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(WorkbenchError, match=r"wrong\.json") as caught:
        workbench.Landscape(path)
    assert "\n" not in str(caught.value)


def _without(*keys):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def _with(value, *keys):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _without("points"), _without("sweep", "axes"), _without("points", 0, "figures"),
        _with("<b>", "points", 0, "figures", "perplexity", "mean"),
        _with(float("nan"), "points", 3, "figures", "perplexity", "mean"),
        _with(float("inf"), "sweep", "teacher", "perplexity"),
        _with([1.0], "points", 0, "figures", "perplexity", "interval"),
        _with(3.0, "points", 0, "temperature"), _with("other", "points", 0, "variant"),
        _with(None, "baselines"), _with(7, "points"), _with("no such recipe", "sweep", "recipe"),
        _with([["x"]], "points", 0, "answers"), _with({"hard": 1}, "points", 0, "ledger"),
    ],
)  # fmt: skip
def test_damaged_content_is_refused_in_one_line(stored, change):
    content = copy.deepcopy(CONTENT)
    change(content)
    with pytest.raises(WorkbenchError) as caught:
        workbench.Landscape(stored(content))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- the state


def test_parts_are_chosen_and_wrong_ones_are_refused(landscape):
    landscape.select(T=4, alpha=0.5, variant="as-published", student="1x24", figure="kl_to_teacher")
    assert landscape.point["at"] == [1, 0, 2, 2]
    assert landscape.link.startswith("protgpt2-tiny;T=4;alpha=0.5;variant=as-published;size=1x24")
    before = dict(landscape.state)
    for wrong in ({"T": 3}, {"alpha": True}, {"variant": "<b>"}, {"colour": 1}, {"figure": None}):
        with pytest.raises(UsageError):
            landscape.select(**wrong)
    assert landscape.state == before


def test_the_browser_can_change_the_state_and_nothing_else(landscape, caplog):
    landscape.set_state({"state": {"temperature": 1}})
    assert landscape.state["temperature"] == 1.0
    before, data = dict(landscape.state), landscape.data
    for sent in ({"state": {"temperature": 3}}, {"state": 7}, {"_data": {}}, {"state": {"x": []}}):
        landscape.set_state(sent)
    assert landscape.state == before and landscape._data == data
    assert caplog.text.count("a state that is none") == 4


def test_a_new_one_closes_the_one_of_the_same_name(stored):
    one = workbench.Landscape(stored(CONTENT), name="same")
    other = workbench.Landscape(stored(CONTENT), name="same")
    assert one._closed and not other._closed
    other.close()
    other.close()


# ---------------------------------------------------------------------- the picture


def test_the_picture_has_every_number_mark_and_star(landscape):
    svg = landscape.svg()
    texts = [e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")]
    for point in landscape.data["points"]:
        if point["at"][1] == 1:
            assert f"{point['figures']['perplexity']['mean']:.2f}" in texts
    assert sum("★" in text for text in texts) == 1 + 2  # two cells and the legend
    assert sum("✓" in text for text in texts) > 2 and "✗" in svg and "labels only 16" in svg
    landscape.select(figure="kl_to_teacher")
    assert "KL to the teacher" in landscape.svg()


def test_a_point_that_failed_says_so(stored):
    content = copy.deepcopy(CONTENT)
    content["points"][0] |= {
        "state": "failed", "figures": dict.fromkeys(content["points"][0]["figures"]),
        "curve": None, "ledger": None, "answers": [], "verdict": None, "seeds": [],
        "errors": ["the loss is no longer finite"], "seconds": None,
    }  # fmt: skip
    made = workbench.Landscape(stored(content), name="test")
    made.select(T=1, alpha=0, variant="corrected", student="1x24")
    assert "failed" in made.svg() and made.point["error"] == "the loss is no longer finite"
    with pytest.raises(UsageError, match="is not measured"):
        made.measured()
    made.close()


def test_words_from_a_file_are_escaped(stored):
    content = copy.deepcopy(CONTENT)
    content["sweep"] |= {"machine": "<script>alert(1)</script>", "date": "\x00\"'&<"}
    content["sweep"]["headline"]["name"] = "<img src=x onerror=alert(1)>"
    for point in content["points"]:
        point["state"] = "<b>"
    made = workbench.Landscape(stored(content), name="test")
    ElementTree.fromstring(made.svg())
    assert "<script" not in made.svg() and "<img" not in made.svg() and "<b>" not in made.svg()
    made.close()


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_good_end_is_bright_and_letters_can_be_read(better):
    figures = [{"mean": value} for value in (10.0, 20.0, 40.0)]
    scale = landscape_svg.Scale(figures, {"better": better}, shown.COLOURS)
    shares = [scale.share(one["mean"]) for one in figures]
    assert shares == sorted(shares, reverse=better == "lower")
    assert {min(shares), max(shares)} == {0.0, 1.0}
    for value in range(10, 41):
        paper, ink = (
            landscape_svg._luminance(landscape_svg._channels(c)) for c in scale.colours(value)
        )
        low, high = sorted((paper, ink))
        assert (high + 0.05) / (low + 0.05) > 4.5


@pytest.mark.parametrize("recipe", ["protgpt2-tiny", "distilbert-pmhc", "compactbiobert"])
def test_a_stored_sweep_has_the_published_point_of_each_variant(recipe):
    made = workbench.Landscape(recipe, name="test")
    for variant in made.data["variants"]:
        temperature, alpha = variant["published"]
        assert temperature in made.data["temperatures"] and alpha in made.data["alphas"]
        made.select(T=temperature, alpha=alpha, variant=variant["name"])
        assert made.point["curve"] and made.point["state"] == "complete"
    made.close()


def test_a_few_points_far_off_do_not_take_the_whole_scale():
    figures = [{"mean": mean} for mean in (10.0, 11.0, 12.0, 17.0, 3833.0)]
    scale = landscape_svg.Scale(figures, {"better": "lower"}, shown.COLOURS)
    assert (scale.low, scale.high) == (10.0, 24.0)
    assert scale.share(3833.0) == 0 < scale.share(17.0) < scale.share(11.0) < scale.share(10.0) == 1
    near = landscape_svg.Scale(figures[:-1], {"better": "lower"}, shown.COLOURS)
    assert near.high == 17.0


@pytest.mark.parametrize(
    ("recipe", "variant", "ends"),
    [
        ("protgpt2-tiny", "corrected", {"0": "teacher only", "1": "labels only"}),
        # Not what the baseline, also called labels only, learns from.
        ("protgpt2-tiny", "as-coded", {"0": "teacher only", "1": "labels not shifted"}),
        # Its teacher speaks through hidden states and attention whatever α is.
        ("compactbiobert", "corrected", {"0": "teacher only", "1": "no soft loss"}),
        ("distilbert-pmhc", "as-coded", {}),  # the mean of three terms: α is nowhere in it
    ],
)
def test_the_ends_of_alpha_are_named_for_what_they_are(recipe, variant, ends):
    variants = shown.pack(shown.read(recipe), recipe)["variants"]
    assert next(v["ends"] for v in variants if v["name"] == variant) == ends
