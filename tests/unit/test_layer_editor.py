"""The layer-map editor without a browser: a teacher's parts, the map's way in, the picture."""

from __future__ import annotations

import json
import logging
import threading
from itertools import pairwise
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from workbench import layer_maps, models, recipes
from workbench.errors import UsageError, WorkbenchError
from workbench.lab import LayerMapEditor, registry
from workbench.lab.layers import anatomy, layer_editor, layer_editor_svg
from workbench.recipes import Shape

SVG = "{http://www.w3.org/2000/svg}"
NINE = Shape(layers=9, heads=2, width=16, positions=64, vocabulary=21)


@pytest.fixture(autouse=True)
def nothing_left():
    """After every test: close what is open; no thread and no widget may stay."""
    widgets = set(ipywidgets.widgets.widget._instances)
    yield
    for name in registry.open_names():
        registry.claim(name, ClosedAtOnce())
    assert [t for t in threading.enumerate() if t.name.startswith("workbench")] == []
    assert set(ipywidgets.widgets.widget._instances) <= widgets


class ClosedAtOnce:
    def close(self) -> None:
        pass


def bert(layers: int = 4) -> BertForMaskedLM:
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, num_hidden_layers=layers,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertForMaskedLM(config)


# ---------------------------------------------------------------------- anatomy


def test_parts_of_the_published_models():
    paper = recipes.get("protgpt2-tiny").scale("paper")
    found = anatomy.examine("nferruz/ProtGPT2")  # known here: no network is needed
    assert (found.title, found.layers, found.width) == ("ProtGPT2", 36, 1280)
    assert found.parameters == 774_030_080
    assert found == anatomy.Anatomy(**{**vars(anatomy.examine(paper.teacher)), "title": "ProtGPT2"})
    assert models.parts(paper.teacher) == {
        "embeddings": found.embeddings, "layers": 36 * found.per_layer, "norm and head": found.head,
    }  # fmt: skip
    biobert = BertConfig(vocab_size=28_996, architectures=["BertForMaskedLM"])
    assert anatomy.examine(biobert).parameters == 108_340_804


def test_a_directory_and_the_model_in_it_are_the_same(tiny_teacher):
    model, _, _ = models.load_causal_lm(tiny_teacher)
    one, other = anatomy.examine(tiny_teacher), anatomy.examine(model)
    assert (one.title, other.title) == (tiny_teacher.name, "GPT2LMHeadModel")
    assert {**vars(one), "title": ""} == {**vars(other), "title": ""}
    assert one.parameters == models.parameters(model)


@pytest.mark.parametrize("text", ["0,2,3", "0,-,-", "-", "3,3,3,3,0"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_account_is_what_initialise_reports(text, family):
    shape = Shape(layers=4, heads=2, width=16, positions=32, vocabulary=30)
    teacher = bert() if family == "bert" else models.build_causal_lm(
        shape, activation="gelu_new", seed=0
    )  # fmt: skip
    layer_map = layer_maps.parse(text, 4)
    student = models.build_like(teacher, len(layer_map), seed=1)
    report = models.initialise(student, teacher, layer_map)
    parts = anatomy.account(anatomy.examine(teacher), layer_map)
    assert sum(p.parameters for p in parts.values()) == models.parameters(student)
    assert sum(p.copied for p in parts.values()) == report.parameters("copied")


@pytest.mark.parametrize(
    ("teacher", "error", "line"),
    [
        (3, UsageError, "the teacher is a int; expected a name, a directory, a model"),
        ("/no/such", WorkbenchError, "there is no model directory"),
        ("some/where-else", WorkbenchError, "cannot read the configuration of some/where-else"),
        (BertConfig(), WorkbenchError, "names no architecture"),
        (torch.nn.Linear(2, 2), UsageError, "the teacher is a Linear; expected a name"),
        (Shape(65, 1, 4, 8, 9), UsageError, "has 65 layers; this editor draws at most 64"),
    ],
    ids=str,
)
def test_what_is_no_teacher_is_one_line(teacher, error, line):
    with pytest.raises(error, match=line) as caught:
        LayerMapEditor(teacher)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- the map


@pytest.mark.parametrize(
    ("given", "text", "layer_map"),
    [
        ("2i", "0,2,4,6", (0, 2, 4, 6)),
        ("first:2", "0,1", (0, 1)),
        ("0,-,4", "0,-,4", (0, None, 4)),
        ([8, None], "8,-", (8, None)),
        ((5,), "5", (5,)),
        ("scratch:3", "scratch:3", (None, None, None)),
    ],
)
def test_text_and_map_from_any_spelling(given, text, layer_map):
    editor = LayerMapEditor(NINE, given)
    assert (editor.text, editor.layer_map) == (text, layer_map)
    editor.text = "7"
    editor.layer_map = given
    assert (editor.text, editor.layer_map) == (text, layer_map)
    assert layer_maps.parse(editor.text, 9) == layer_map


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("0,9", "asks for layer 9"),
        ([0, -1], "asks for layer -1"),
        ("even", "there is no layer map 'even'"),
        ("", "there is no layer map ''"),
        ([], "the layer map is \\[\\]; expected a text"),
        (3, "asks for|there is no|expected"),
        ([1.5], "expected a text such as '0,2,4,6' or a list of teacher layers"),
        ([True], "expected a text"),
        ("random", "take scratch:4"),
        ("distilbert", "is 6 of 12 layers"),
        (",".join(["0"] * 65), "has 65 layers; this editor draws at most 64"),
    ],
)
def test_a_wrong_map_is_one_line_and_changes_nothing(wrong, line):
    editor = LayerMapEditor(NINE, "2i")
    if wrong == 3:
        editor.layer_map = wrong  # a single layer
        assert editor.text == "3"
        return
    with pytest.raises(UsageError, match=line) as caught:
        editor.layer_map = wrong
    assert "\n" not in str(caught.value)
    if isinstance(wrong, str):
        with pytest.raises(UsageError, match=line):
            editor.text = wrong
    assert editor.text == "0,2,4,6"


def test_the_browser_may_set_the_map_and_nothing_else(caplog):
    editor = LayerMapEditor(NINE)
    teacher = editor._teacher
    editor.set_state({"text": "1,1", "_teacher": {"layers": 1}, "_esm": "alert(1)"})
    assert editor.layer_map == (1, 1)
    assert editor._teacher is teacher and editor._esm == layer_editor.LayerMapEditor._esm
    with caplog.at_level(logging.WARNING):
        for wrong in ("9", "<b>", "random", 70, None):
            editor.set_state({"text": wrong})
    assert len(caplog.records) == 5
    assert editor.layer_map == (1, 1)


def test_scratch_copies_nothing_and_random_layers_keep_the_tables():
    scratch = LayerMapEditor(NINE, "scratch:2", name="a").account()
    random = LayerMapEditor(NINE, "-,-", name="b").account()
    assert [p.copied for p in scratch.values()] == [0, 0, 0]
    assert [p.copied for p in random.values()] == [
        (21 + 64) * 16, 0, 2 * 16,
    ]  # fmt: skip


def test_named_maps_sent_to_the_browser_are_pythons():
    for layers in (1, 2, 9, 12):
        named = LayerMapEditor(Shape(layers, 1, 4, 8, 9))._named
        assert ("distilbert" in named) is (layers == 12)
        assert set(named) == {*layer_maps.presets(layers), "scratch"}
        for name, maps in named.items():
            for found in maps:
                assert layer_maps.named(name, layers, len(found)) == tuple(found)
            if name != "distilbert":
                assert [len(m) for m in maps] == list(range(1, len(maps) + 1))
                with pytest.raises(UsageError):
                    layer_maps.named(name, layers, len(maps) + 1)
        assert set(named) <= set(layer_editor.STORIES)


# ---------------------------------------------------------------------- life


def test_the_same_name_closes_the_one_before():
    first, second = LayerMapEditor(NINE, name="x"), LayerMapEditor(NINE, name="x")
    assert first.comm is None and second.comm is not None
    first.close()
    assert registry.open_names() == ["x"]
    second.close()
    second.close()
    assert registry.open_names() == []


def test_script_and_style_are_texts_without_addresses():
    for text in (LayerMapEditor._esm, LayerMapEditor._css):
        assert isinstance(text, str) and len(text) > 2000
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text and "import " not in text


# ---------------------------------------------------------------------- the picture


@pytest.mark.parametrize("text", ["2i", "0,-,8", "scratch:2", "3,3,3,3,3,3,3,3,3,3,3,3"])
def test_the_picture_shows_the_map(text):
    editor = LayerMapEditor(NINE, text)
    root = ElementTree.fromstring(editor.svg())
    words = [t.text for t in root.iter(f"{SVG}text")]
    for layer in editor.layer_map:
        assert ("random" if layer is None else f"from layer {layer}") in words
    copied = sum(layer is not None for layer in editor.layer_map)
    tables = 0 if text.startswith("scratch") else 2
    assert len(list(root.iter(f"{SVG}path"))) == 2 * (copied + tables)
    assert words.count("not used") == 9 - len(set(editor.layer_map) - {None})
    assert f"--init {editor.text}" in words
    assert editor.text in root.find(f"{SVG}desc").text
    _, _, width, height = map(float, root.get("viewBox").split())
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(k)) for k in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height


def test_a_student_with_more_layers_is_larger():
    assert "× smaller" in str(LayerMapEditor(NINE, "2i", name="a"))
    larger = LayerMapEditor(NINE, ",".join("012345678876543210"), name="b")
    assert "the student is 2.0 × larger." in str(larger)
    assert "2.0 × larger than its teacher" in larger.svg()


@pytest.mark.parametrize(("teacher", "student"), [(1, 1), (9, 4), (36, 18), (4, 12), (64, 64)])
def test_boxes_of_a_column_never_touch(teacher, student):
    places = layer_editor_svg.Places(teacher, student)
    for layers in (teacher, student):
        middles = [places.layer(i, layers) for i in range(layers)]
        column = [places.embeddings, *middles, places.head]
        assert column == sorted(column, reverse=True)
        gaps = [a - b for a, b in pairwise(column)]
        assert min(gaps) >= places.pitch - 1e-9 >= 22 - 1e-9


def test_hostile_names_are_text():
    shape = models.gpt2_config(NINE, activation="gelu_new")
    shape.architectures = ["GPT2LMHeadModel"]
    shape.model_type = "<script>alert(1)</script>"
    editor = LayerMapEditor(shape)
    assert "<script" not in editor.svg()
    assert ElementTree.fromstring(editor.svg()) is not None


def test_mimebundle_has_widget_and_picture():
    editor = LayerMapEditor(NINE)
    data, _ = editor._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["image/svg+xml"] == editor.svg()
    assert json.dumps(editor.get_state(["_teacher", "_named", "_presets"]))
    assert repr(editor).startswith("LayerMapEditor('0,2,4,6')")
    assert "The student has 4 layers" in str(editor)
