"""The T/α explorer without a browser: state strings, figures, picture, and what the kernel does."""

from __future__ import annotations

import math
import re
import threading
from dataclasses import replace
from xml.etree import ElementTree

import ipywidgets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import UsageError, WorkbenchError
from workbench.lab import Explorer, registry
from workbench.lab.explore import examples, explorer, explorer_svg, presets
from workbench.lab.explore.presets import PRESETS, State, change_state, format_state, parse_state
from workbench.objective import Counts, Objective, SoftTerm, TeacherSignal
from workbench.worlds import proteins

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'text' \x00"
NAMESPACE = {"svg": "http://www.w3.org/2000/svg"}
#: Nothing here takes that long; only a broken explorer waits so many seconds.
PATIENCE = 30.0
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def nothing_left():
    """After every test: close what is open; no thread and no widget may stay."""
    widgets = set(all_widgets())
    yield
    for name in registry.open_names():
        registry.claim(name, ClosedAtOnce())
    assert lab_threads() == []
    assert set(all_widgets()) <= widgets


class ClosedAtOnce:
    def close(self) -> None:
        pass


def all_widgets() -> dict:
    return ipywidgets.widgets.widget._instances


def lab_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("workbench")]


@pytest.fixture
def open_explorer(tiny_teacher):
    """An explorer with small random models; ``open_explorer("T=4")``."""
    return lambda state="", **options: Explorer(
        state, teacher=str(tiny_teacher), student=str(tiny_teacher), **options
    )


def small(state: str = "", **options) -> Explorer:
    """Four symbols, one position."""
    given_ = {"oracle": [0.5, 0.25, 0.25, 0.0], "tokens": 6, **options}
    return Explorer.from_logits("abcd", [2, 1, 0, -1], [0, 1, 1, 0], 1, state=state, **given_)


# ---------------------------------------------------------------------- state strings

NUMBERS = st.integers(-1_000_000, 1_000_000).map(lambda n: n / 10_000)
EDITS = st.dictionaries(st.integers(0, 20), NUMBERS, max_size=4).map(
    lambda found: tuple(sorted(found.items()))
)
STATES = st.builds(
    State,
    temperature=st.integers(2_500, 500_000).map(lambda n: n / 10_000),
    alpha=st.integers(0, 10_000).map(lambda n: n / 10_000),
    temperature_squared=st.booleans(),
    direction=st.sampled_from(["forward", "reverse", "jensen-shannon"]),
    reduction=st.sampled_from(["token-mean", "batchmean", "element-mean", "sum"]),
    protein=st.integers(0, 999_999),
    position=st.integers(0, 200),
    teacher=EDITS,
    student=EDITS,
)


@settings(max_examples=200)
@given(STATES, st.text(proteins.AMINO_ACIDS, max_size=30))
def test_what_is_written_can_be_read(state, sequence):
    if sequence:
        state = replace(state, sequence=sequence, protein=0)
    text = format_state(state)
    assert parse_state(text) == state
    assert format_state(parse_state(text)) == text
    assert "\n" not in text


def test_only_what_differs_from_the_defaults_is_written():
    assert format_state(State()) == ""
    assert parse_state("") == State()
    whole = "T=10;alpha=0.1;T2=off;direction=forward;reduction=token-mean;protein=3;position=14"
    assert format_state(parse_state(whole)) == "T=10;alpha=0.1;T2=off;protein=3;position=14"
    assert parse_state(" T = 1e1 ; sequence = mkr ") == State(temperature=10.0, sequence="MKR")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("T=0", r"T is 0; expected 0\.25 to 50"),
        ("T=abc", r"T is abc; expected a number from 0\.25 to 50, such as T=10"),
        ("T=", r"T is empty; expected a number"),
        ("T=nan", r"T is nan; expected a number"),
        ("T=1e999", r"T is 1e999; expected 0\.25 to 50"),
        ("alpha=2", r"alpha is 2; expected 0 to 1.*0 is teacher only"),
        ("T2=maybe", r"T2 is maybe; expected on or off"),
        ("direction=up", r"direction is up; expected one of forward, reverse, jensen-shannon"),
        ("reduction=mean", r"reduction is mean; expected one of token-mean"),
        ("protein=-1", r"protein is -1; expected a whole number from 0 to"),
        ("protein=1;sequence=MK", r"both protein and sequence"),
        ("sequence=", r"the sequence is empty; expected amino acids"),
        ("sequence=MKB", r"letter 3 of the sequence is B; expected amino acids"),
        ("sequence=<script>", r"letter 1 of the sequence is <; expected amino acids"),
        ("position=0", r"position is 0; expected a whole number from 1"),
        ("teacher=3", r"the logit 3 in teacher is empty"),
        ("teacher=a:1", r"a:1 in teacher is no logit; expected index:value"),
        ("student=3:1,3:2", r"student sets the logit 3 twice"),
        ("student=3:1000", r"the logit 3 in student is 1000; expected -100 to 100"),
        ("temperature=3", r"temperature is no key of a state; expected one of T, alpha, T2"),
        ("T", r"T is no part of a state; expected such as T=10"),
        ("T=1;T=2", r"T is given twice"),
        ("T=" + "9" * 500 + "\nx", r"T is 9{39}…; expected a number"),
    ],
)
def test_what_is_wrong_in_a_state_is_said_in_one_line(text, line):
    with pytest.raises(UsageError, match=line) as caught:
        parse_state(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_state_that_is_no_text():
    with pytest.raises(UsageError, match="the state is 3; expected a text"):
        parse_state(3)


def test_another_example_or_position_lets_hand_set_logits_go():
    state = parse_state("T=4;protein=3;position=9;teacher=1:2")
    assert change_state(state, {"T": 5, "T2": False}) == replace(
        state, temperature=5.0, temperature_squared=False
    )
    assert format_state(change_state(state, {"position": 4})) == "T=4;protein=3;position=4"
    assert format_state(change_state(state, {"sequence": "mk"})) == "T=4;sequence=MK"
    assert format_state(change_state(state, {"student": {2: -1.5}})).endswith(
        "teacher=1:2;student=2:-1.5"
    )
    assert change_state(state, {"teacher": {}}).teacher == ()
    with pytest.raises(UsageError, match="there is no part tau; expected one of T, alpha"):
        change_state(state, {"tau": 1})


def test_eight_presets_tell_a_story_each():
    assert len(PRESETS) == 8
    assert len({p.name for p in PRESETS}) == len({p.state for p in PRESETS}) == 8
    for preset in PRESETS:
        state = parse_state(preset.state)
        assert format_state(state) == preset.state
        assert (state.source, state.position) == ("protein=0", 0)  # they fit every example
        assert len(preset.story) > 60


def test_what_the_presets_say_is_so(open_explorer):
    """On the built-in models, at the position that is shown first."""
    lab = Explorer(name="stories")
    shares, found = {}, {}
    for preset in PRESETS:
        lab.state = preset.state
        found[preset.name] = lab.numbers()
        shares[preset.name] = found[preset.name]["share"]["soft"]
    assert shares["as published: T = 10, no T²"] < 0.05
    assert shares["corrected: T = 10 with T²"] > 0.5
    assert (shares["labels only"], shares["teacher only"]) == (0.0, 1.0)
    assert found["T too high"]["perplexity"]["teacher"] > 20.8
    assert max(found["T too low: nearly one-hot"]["probabilities"]["teacher"]) > 0.95
    assert shares["batchmean by accident"] > 20 * shares["as published: T = 10, no T²"]
    one_mode = np.array(found["reverse KL picks one mode"]["gradient"]["soft"])
    symbols = proteins.SYMBOLS
    assert abs(one_mode[symbols.index("S")]) < 0.02
    lab.set(direction="forward")
    spread = np.array(lab.numbers()["gradient"]["soft"])
    assert spread[symbols.index("S")] < -0.4 < 0.4 < spread[symbols.index("L")]


# ---------------------------------------------------------------------- figures


def test_figures_in_closed_form():
    lab = small("T=4;alpha=0.25")
    found = lab.numbers()
    teacher, student = np.array([2.0, 1, 0, -1]), np.array([0.0, 1, 1, 0])
    p, q = (np.exp(v / 4) / np.exp(v / 4).sum() for v in (teacher, student))
    sharp = np.exp(student) / np.exp(student).sum()
    kl = (p * np.log(p / q)).sum()
    assert found["divergence"]["forward"] == pytest.approx(kl, rel=1e-12)
    assert found["hard"] == pytest.approx(-np.log(sharp[1]), rel=1e-12)
    assert found["soft"] == pytest.approx(16 * kl, rel=1e-12)
    assert found["loss"] == pytest.approx(0.25 * found["hard"] + 0.75 * 16 * kl, rel=1e-12)
    assert found["gradient"]["hard"] == pytest.approx(0.25 * (sharp - [0, 1, 0, 0]), rel=1e-12)
    assert found["gradient"]["soft"] == pytest.approx(0.75 * 16 * (q - p) / 4, rel=1e-12)
    assert found["entropy"]["teacher"] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-12)
    # The oracle gives d no chance at all: nothing comes of 0·log 0, at any temperature.
    truth = np.array([0.5, 0.25, 0.25]) ** 0.25
    truth /= truth.sum()
    assert found["probabilities"]["oracle"] == pytest.approx([*truth, 0.0], rel=1e-12)
    assert found["entropy"]["oracle"] == pytest.approx(-(truth * np.log(truth)).sum(), rel=1e-12)
    expected = (truth * np.log(truth / q[:3])).sum()
    assert found["kl_from_oracle"]["student"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("direction", ["forward", "reverse", "jensen-shannon"])
def test_shares_are_those_of_the_ledger(direction):
    lab = small(f"T=3;alpha=0.3;direction={direction}")
    teacher, student = torch.tensor([[2.0, 1, 0, -1]]), torch.tensor([[0.0, 1, 1, 0]])
    book = Objective(soft=SoftTerm(direction=direction)).ledger(
        student, lambda h: h, torch.tensor([1]), TeacherSignal(teacher),
        temperature=3.0, alpha=0.3, counts=Counts(rows=1, sequences=1), vocabulary=4,
    )  # fmt: skip
    found = lab.numbers()
    for part in ("hard", "soft"):
        assert found[part] == pytest.approx(book[part].value, rel=1e-5)
        assert found["norm"][part] == pytest.approx(book[part].gradient_norm, rel=1e-5)
        assert found["share"][part] == pytest.approx(book[part].share, rel=1e-5)


@pytest.mark.parametrize(
    ("reduction", "factor"),
    [("token-mean", 1), ("batchmean", 6), ("element-mean", 1 / 4), ("sum", 6 * 32)],
)
def test_reductions_weigh_the_soft_loss_only(reduction, factor):
    plain = small("T2=off", name="plain").numbers()
    found = small(f"T2=off;reduction={reduction}", name="reduced").numbers()
    assert found["factor"] == pytest.approx(factor)
    assert found["soft"] == pytest.approx(factor * plain["soft"])
    assert found["norm"]["soft"] == pytest.approx(factor * plain["norm"]["soft"])
    assert found["hard"] == plain["hard"]
    assert found["norm"]["hard"] == plain["norm"]["hard"]


@pytest.mark.parametrize("direction", ["forward", "reverse", "jensen-shannon"])
def test_nothing_overflows(direction):
    lab = Explorer.from_logits(
        "abc", [80, -80, 0], [-80, 80, 0], 0, state=f"T=0.25;direction={direction}"
    )
    found = lab.numbers()
    values = [found["loss"], *found["gradient"]["soft"], *found["entropy"].values()]
    assert all(math.isfinite(v) for v in values if v is not None)
    assert found["entropy"]["oracle"] is None


def test_hand_set_logits_are_what_is_computed_with():
    lab = small("teacher=0:0,1:1,2:1,3:0")
    assert lab.numbers()["divergence"]["forward"] == pytest.approx(0, abs=1e-12)
    assert lab.numbers()["share"] == pytest.approx({"hard": 1.0, "soft": 0.0}, abs=1e-12)


# ---------------------------------------------------------------------- examples


def test_every_position_of_a_protein(open_explorer):
    lab = open_explorer("protein=3;position=14")
    sequence = proteins.default_world().sample(1, seed=3)[0]
    packed = lab._example
    assert packed["symbols"] == list(proteins.SYMBOLS)
    assert packed["letters"] == [*sequence, "END"]
    assert packed["tokens"] == len(sequence) + 1
    oracle = np.frombuffer(packed["oracle"], dtype="<f8").reshape(-1, 21)
    assert np.exp(oracle) == pytest.approx(proteins.default_world().oracle(sequence))
    teacher = np.frombuffer(packed["teacher"], dtype="<f8").reshape(-1, 21)
    assert teacher.shape == oracle.shape
    assert teacher.mean(axis=1) == pytest.approx(0, abs=1e-12)
    # The same as asking for one residue after a prefix.
    from workbench import metrics, models

    model, tokenizer, _ = models.load_causal_lm(lab_teacher(lab))
    expected = metrics.next_residue(model, tokenizer, sequence[:13])
    chances = np.exp(teacher[13]) / np.exp(teacher[13]).sum()
    assert dict(zip(proteins.SYMBOLS, chances, strict=True)) == pytest.approx(expected, abs=1e-5)


def lab_teacher(lab: Explorer) -> str:
    return lab._pair._models[0][0].config._name_or_path


def test_a_typed_sequence_and_its_end(open_explorer):
    lab = open_explorer("sequence=MKRILV;position=7")
    assert lab.state == "sequence=MKRILV"  # the first position shown is the last one here
    lab.set(position=6)
    assert lab.state == "sequence=MKRILV;position=6"
    assert lab._example["letters"] == [*"MKRILV", "END"]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("sequence=MKRILV;position=8", "position is 8; expected 1 to 7 in this example"),
        ("teacher=21:1", "teacher sets the logit 21; expected 0 to 20"),
        ("sequence=" + "M" * 128, "the sequence has 128 letters; expected at most 127"),
    ],
)
def test_what_does_not_fit_the_example_is_said(open_explorer, state, line):
    with pytest.raises(UsageError, match=line):
        open_explorer(state)
    assert registry.open_names() == []


def test_a_model_with_another_vocabulary(tmp_path, byte_pairs, tiny_shape, tiny_teacher):
    from workbench import export, models

    shape = replace(tiny_shape, vocabulary=len(byte_pairs))
    model = models.build_causal_lm(shape, activation="gelu_pytorch_tanh", seed=0)
    export.save_model(tmp_path / "pairs", model, byte_pairs)
    with pytest.raises(UsageError, match=r"vocabulary of 400 tokens; expected one token a residue"):
        Explorer(teacher=str(tmp_path / "pairs"), student=str(tiny_teacher))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"symbols": "a"}, "there are 1 symbols; expected at least two"),
        ({"teacher": [1, 2]}, r"the teacher's logits have the shape \[1, 2\]; expected \[3\]"),
        ({"student": [1, 2, math.nan]}, "the student's logits are not all finite"),
        ({"teacher": ["a", "b", "c"]}, "the teacher's logits are no numbers"),
        ({"label": 3}, "the label is 3; expected an index from 0 to 2"),
        ({"label": [0, 1]}, "there are 2 labels; expected the same positions"),
        ({"oracle": [1, -1, 1]}, "the oracle's probabilities are negative"),
        ({"tokens": 0}, "tokens is 0; expected a whole number above 0"),
        ({"state": "protein=2"}, "the state asks for protein=2, and this explorer shows logits"),
        ({"state": "teacher=3:1"}, "teacher sets the logit 3; expected 0 to 2"),
    ],
)
def test_wrong_numbers_are_refused(change, line):
    good = {"symbols": "abc", "teacher": [1, 2, 3], "student": [3, 2, 1], "label": 0, **change}
    symbols, teacher = good.pop("symbols"), good.pop("teacher")
    with pytest.raises(UsageError, match=line):
        Explorer.from_logits(symbols, teacher, good.pop("student"), good.pop("label"), **good)


# ---------------------------------------------------------------------- picture


def text_of(picture: str) -> str:
    return " ".join("".join(ElementTree.fromstring(picture).itertext()).split())


def test_the_picture_shows_the_state_and_its_numbers():
    lab = small("T=10;alpha=0.1;T2=off;reduction=batchmean")
    root = ElementTree.fromstring(lab.svg())
    assert root.get("role") == "img"
    assert root.find("svg:title", NAMESPACE).text
    said = text_of(lab.svg())
    found = lab.numbers()
    assert "T = 10 · α = 0.1, ×T² off, KL(teacher‖student), batchmean" in said
    assert f"labels {found['share']['hard']:.1%}" in said
    assert f"teacher {found['share']['soft']:.1%}" in said
    assert f"= {found['loss']:.4g} nats" in said
    assert f"0.1·{found['hard']:.3f} + 0.9·6·" in said
    for name in ("oracle", "teacher", "student"):
        assert f"{found['entropy'][name]:.4g}" in said
    # Three bars a symbol for probabilities, two for logits, two for gradients, and no others
    # but swatches, the label's columns and who is teaching.
    assert len(root.findall(".//svg:rect", NAMESPACE)) == 4 * 7 + 7 + 3 + 3


def test_bars_have_the_heights_of_their_numbers():
    lab = small("T=1;alpha=1")
    rectangles = ElementTree.fromstring(lab.svg()).findall(".//svg:rect", NAMESPACE)
    oracle = [
        float(r.get("height")) for r in rectangles
        if "fill:none;stroke" in r.get("style") and r.get("rx") is None
    ]  # fmt: skip
    swatch, *bars = oracle
    assert swatch == 13
    assert bars == pytest.approx([2 * bars[1], bars[1], bars[1], 0.0], abs=0.2)
    shares = [float(r.get("width")) for r in rectangles if r.get("height") == "28"]
    assert shares[1] == 0.0 < shares[0]


def test_hostile_names_stay_text():
    lab = Explorer.from_logits([HOSTILE, "b"], [1, 0], [0, 1], 0)
    picture = lab.svg()
    ElementTree.fromstring(picture)
    assert "<img" not in picture
    assert "&lt;img" in picture


def test_a_large_vocabulary_shows_its_most_probable_symbols():
    rng = np.random.default_rng(0)
    names = [f"word{i}" for i in range(4000)]
    lab = Explorer.from_logits(names, rng.normal(size=4000), rng.normal(size=4000), 17)
    said = text_of(lab.svg())
    assert "word17" in said
    assert "the 25 most probable of 4,000 symbols" in said
    assert len(lab.numbers()["gradient"]["soft"]) == 4000
    assert len(lab.svg()) < 60_000


# ---------------------------------------------------------------------- shown


def displayed(lab, monkeypatch) -> list[tuple[dict, dict]]:
    import IPython.display

    shown = []

    class Handle:
        def update(self, data, **options):
            shown.append((data, {"update": True, **options}))

    def display(data, **options):
        shown.append((data, options))
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    lab._ipython_display_()
    return shown


def test_picture_and_widget_are_two_outputs(monkeypatch):
    """In one output nbconvert would show nothing where it finds the widget's state."""
    lab = small("T=4")
    (picture, _), (widget, _) = shown = displayed(lab, monkeypatch)
    assert WIDGET not in picture
    assert "<svg" in picture["text/html"]
    assert f'data-workbench-picture="{lab._picture}"' in picture["text/html"]
    assert picture["text/plain"] == "Explorer('T=4')"
    assert widget[WIDGET]["model_id"] == lab.model_id
    assert "text/html" not in widget
    # The picture follows, so that an export shows the state that was left.
    lab.set(T=8)
    assert lab.wait(PATIENCE)
    assert shown[-1][1]["update"] and "T = 8 ·" in shown[-1][0]["text/html"]


def test_the_bundle_holds_widget_and_picture():
    lab = small()
    data, _ = lab._repr_mimebundle_()
    assert data[WIDGET]["model_id"] == lab.model_id
    ElementTree.fromstring(data["image/svg+xml"])


def test_a_closed_explorer_says_so(monkeypatch, capsys):
    lab = small("T=4")
    lab.close()
    lab._ipython_display_()
    assert capsys.readouterr().out == "Explorer('T=4'), closed\n"


def test_the_script_is_one_text_that_asks_nobody():
    assert type(Explorer._esm) is str and type(Explorer._css) is str
    addresses = set(re.findall(r"\w+://[^\s\"'`]+", Explorer._esm + Explorer._css))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|eval\(|import |fetch\(", Explorer._esm
    )
    assert "@import" not in Explorer._css


# ---------------------------------------------------------------------- state, both ways


def test_the_state_can_be_set_and_is_kept_short():
    lab = small("T=4; alpha=0.50")
    assert lab.state == "T=4"
    lab.state = "alpha = 0.1;T=10"
    assert lab.state == "T=10;alpha=0.1"
    lab.set(T2=False, teacher={2: 1.5})
    assert lab.state == "T=10;alpha=0.1;T2=off;teacher=2:1.5"


@pytest.mark.parametrize(
    "parts", [{"T": 0}, {"T": "abc"}, {"alpha": 2}, {"tau": 1}, {"position": 2}, {"protein": 1}]
)
def test_a_wrong_value_changes_nothing(parts):
    lab = small("T=4")
    before = lab.numbers()
    with pytest.raises(UsageError):
        lab.set(**parts)
    assert lab.state == "T=4"
    assert lab.numbers() == before
    with pytest.raises(UsageError):
        lab.state = ";".join(f"{k}={v}" for k, v in parts.items())
    assert lab.state == "T=4"


def test_another_protein_from_a_cell_is_there_at_once(open_explorer):
    lab = open_explorer("T=4")
    before = lab._example
    lab.set(protein=5)
    assert lab.state == "T=4;protein=5"
    assert lab._example["source"] == "protein=5"
    assert lab._example["letters"] != before["letters"]


def test_a_slider_in_the_browser_moves_the_state(open_explorer):
    lab = open_explorer()
    lab.set_state({"state": "T=7"})
    assert lab.state == "T=7"
    # Nothing else can be set from there, and what is no state is not taken.
    lab.set_state({"_esm": "alert(1)", "_limits": {}, "state": "T=0"})
    assert lab.state == "T=7"
    assert lab._esm == explorer.MODULE


def test_a_state_of_an_example_that_is_gone_is_not_taken(open_explorer):
    lab = open_explorer("protein=1")
    lab.set(protein=2)
    lab.set_state({"state": "T=9;protein=1"})
    assert lab.state == "protein=2"
    assert lab._example["source"] == "protein=2"


def asks(lab: Explorer, wanted: object) -> None:
    lab._handle_custom_msg({"want": wanted}, [])


def test_the_browser_asks_for_an_example(open_explorer):
    lab = open_explorer("T=4")
    sent = []
    lab.send = sent.append
    asks(lab, "T=5;sequence=MKRILV")
    assert lab.wait(PATIENCE)
    assert lab.state == "T=5;sequence=MKRILV"
    assert lab._example["source"] == "sequence=MKRILV"
    assert sent == [{"asked": "T=5;sequence=MKRILV", "problem": ""}]


@pytest.mark.parametrize("wanted", ["sequence=" + "M" * 300, "T=0", "<script>"])
def test_a_wrong_wish_is_answered_and_changes_nothing(open_explorer, wanted):
    lab = open_explorer("T=4")
    before = lab._example
    sent = []
    lab.send = sent.append
    asks(lab, wanted)
    assert lab.wait(PATIENCE)
    assert lab.state == "T=4" and lab._example is before
    assert sent == [{"asked": wanted, "problem": lab.problem}]
    assert lab.problem and "\n" not in lab.problem


def test_whatever_the_browser_sends_is_no_error_here(open_explorer):
    lab = open_explorer()
    for content in (None, 3, "text", {}, {"want": 3}, {"want": None}):
        lab._handle_custom_msg(content, [])
    assert lab.state == ""
    assert lab_threads() == []


def test_callbacks_return_at_once_and_the_last_wish_counts(open_explorer, monkeypatch):
    lab = open_explorer()
    go, entered, loaded, waited = threading.Event(), threading.Event(), [], []
    load = lab._pair.example

    def slow(state):
        loaded.append((state.source, threading.current_thread().name))
        entered.set()
        waited.append(go.wait(PATIENCE))
        return load(state)

    monkeypatch.setattr(lab._pair, "example", slow)
    asks(lab, "protein=1")
    assert entered.wait(PATIENCE)
    asks(lab, "protein=2")  # returns, although the first is still being loaded
    asks(lab, "protein=3")
    lab.set_state({"state": "T=3"})
    assert lab.state == "T=3"  # at once, too: nothing has been loaded yet
    assert not go.is_set() and len(loaded) == 1
    go.set()
    assert lab.wait(PATIENCE)
    assert [source for source, _ in loaded] == ["protein=1", "protein=3"]
    assert {name for _, name in loaded} == {"workbench publisher"}
    assert all(waited)
    assert lab.state == "protein=3"
    # A wish is granted once.
    lab.set(T=6, protein=4)
    assert lab.wait(PATIENCE)
    assert lab.state == "T=6;protein=4"


def test_a_failure_while_loading_is_one_line(open_explorer, monkeypatch):
    lab = open_explorer()

    def broken(_state):
        raise WorkbenchError("the student is gone; run the cell again")

    monkeypatch.setattr(lab._pair, "example", broken)
    asks(lab, "protein=1")
    assert lab.wait(PATIENCE)
    assert lab.problem == "the student is gone; run the cell again"


# ---------------------------------------------------------------------- closing


def test_a_cell_that_runs_again_closes_what_it_made(monkeypatch):
    monkeypatch.setattr(registry, "cell", lambda: "cell-1")
    first = small()
    second = small()
    assert (first._closed, second._closed) == (True, False)
    assert registry.open_names() == ["cell-1/explorer"]


def test_closing_twice_is_closing_once_and_ends_the_thread():
    lab = small()
    lab.set(T=3)
    assert lab.wait(PATIENCE)
    assert len(lab_threads()) == 1
    lab.close()
    lab.close()
    assert lab_threads() == []
    assert registry.open_names() == []


def test_formula_and_limits_agree_with_the_package():
    lab = small()
    assert lab._limits["temperature"] == [presets.LOWEST_TEMPERATURE, presets.HIGHEST_TEMPERATURE]
    assert [p["name"] for p in lab._presets] == [p.name for p in PRESETS]
    state = lab._loaded.resolve(parse_state(lab.state))
    line = explorer_svg.formula(lab._loaded, state, examples.figures(lab._loaded, state))
    assert re.fullmatch(r"L = 0\.5·\d\.\d+ \+ 0\.5·4·0\.\d+ = \d\.\d+ nats", line)
