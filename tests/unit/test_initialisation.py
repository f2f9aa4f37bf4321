"""A student's start, tensor by tensor, for GPT-2 and BERT; and runs that begin with it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from workbench import models, plots, runs, runtime
from workbench.config import RunConfig
from workbench.errors import Interrupted, UsageError, WorkbenchError
from workbench.progress import Silent
from workbench.tasks import generation

LAYERS = 6


def gpt2(layers: int = LAYERS, seed: int = 0, **changes) -> GPT2LMHeadModel:
    settings = {"vocab_size": 30, "n_positions": 32, "n_embd": 16, "n_head": 2, "n_layer": layers}
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**(settings | changes))).eval()


def bert(kind=BertForMaskedLM, layers: int = LAYERS, seed: int = 0, **changes):
    settings = {
        "vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 24, "num_hidden_layers": layers,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = kind(BertConfig(**(settings | changes))).eval()
    with torch.no_grad():  # fresh biases and norms are constants: a copy could not be told apart
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


FAMILIES = {"gpt2": (gpt2, "transformer.h"), "bert": (bert, "bert.encoder.layer")}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer_map", [(0, 2, 4), (1, 3, 5), (5, 5, 0), (2, None, 4)], ids=str)
def test_each_tensor_is_the_one_that_the_map_says(family, layer_map):
    build, place = FAMILIES[family]
    teacher, student = build(seed=1), build(layers=3, seed=2)
    before = {name: p.clone() for name, p in student.named_parameters()}
    report = models.initialise(student, teacher, layer_map)
    theirs = teacher.state_dict()
    origins = {t.name: t for t in report.tensors}
    assert set(origins) == set(before)
    for name, parameter in student.named_parameters():
        source = name
        if name.startswith(f"{place}."):
            number, _, rest = name.removeprefix(f"{place}.").partition(".")
            layer = layer_map[int(number)]
            source = None if layer is None else f"{place}.{layer}.{rest}"
        if source is None:
            assert torch.equal(parameter, before[name])
            assert (origins[name].origin, origins[name].source) == ("random", "")
        else:
            assert torch.equal(parameter, theirs[source]), name
            assert (origins[name].origin, origins[name].source) == ("copied", source)


@pytest.mark.parametrize("family", FAMILIES)
def test_copies_share_nothing(family):
    build, _ = FAMILIES[family]
    teacher, student = build(seed=1), build(layers=3, seed=2)
    before = models.fingerprint(teacher)
    models.initialise(student, teacher, (0, 2, 4))
    teacher.requires_grad_(False)
    models.check_frozen(teacher, student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert models.fingerprint(teacher) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_copied_is_the_teacher(family):
    build, _ = FAMILIES[family]
    teacher, student = build(seed=1), build(seed=2)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        assert not torch.equal(student(input_ids=ids).logits, teacher(input_ids=ids).logits)
        models.initialise(student, teacher, tuple(range(LAYERS)))
        assert torch.equal(student(input_ids=ids).logits, teacher(input_ids=ids).logits)


def test_from_scratch_nothing_is_copied():
    teacher, student = gpt2(seed=1), gpt2(layers=3, seed=2)
    before = models.fingerprint(student)
    report = models.initialise(student, teacher, None)
    assert models.fingerprint(student) == before
    assert report.count("random") == len(report.tensors) == len(list(student.parameters()))
    assert str(report).startswith("layer map random: ")


def test_another_head_starts_from_random_numbers():
    teacher = bert(seed=1)
    student = bert(BertForSequenceClassification, layers=3, seed=2)
    report = models.initialise(student, teacher, (0, 2, 4))
    random = {t.name for t in report.tensors if t.origin == "random"}
    # A masked language model has no pooler.
    assert random == {
        "classifier.weight", "classifier.bias", "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }  # fmt: skip
    assert torch.equal(
        student.bert.embeddings.word_embeddings.weight,
        teacher.bert.embeddings.word_embeddings.weight,
    )


def test_the_whole_head_of_a_masked_language_model_is_copied():
    teacher, student = bert(seed=1), bert(layers=3, seed=2)
    models.initialise(student, teacher, (1, 3, 5))
    for name, parameter in student.cls.named_parameters():
        assert torch.equal(parameter, dict(teacher.cls.named_parameters())[name]), name


def test_fewer_positions_are_the_first_rows():
    teacher, student = gpt2(seed=1), gpt2(layers=2, seed=2, n_positions=20)
    report = models.initialise(student, teacher, (0, 5))
    assert torch.equal(student.transformer.wpe.weight, teacher.transformer.wpe.weight[:20])
    (reshaped,) = [t for t in report.tensors if t.origin == "reshaped"]
    assert (reshaped.name, reshaped.shape) == ("transformer.wpe.weight", (20, 16))


def test_another_vocabulary_stays_random():
    teacher, student = gpt2(seed=1), gpt2(layers=2, seed=2, vocab_size=31)
    report = models.initialise(student, teacher, (0, 5))
    random = [t.name for t in report.tensors if t.origin == "random"]
    assert random == ["transformer.wte.weight"]


def test_report_counts_and_tells():
    teacher, student = gpt2(seed=1), gpt2(layers=2, seed=2, n_positions=20)
    report = models.initialise(student, teacher, (None, 5))
    total = models.parameters(student)
    counts = [report.parameters(o) for o in ("copied", "reshaped", "random")]
    assert sum(counts) == total
    assert report.count("random") == 12  # tensors of one GPT-2 layer
    assert "layer map -,5: " in str(report) and f"of {total:,} parameters" in str(report)
    lines = report.table().splitlines()
    assert len(lines) == len(report.tensors)
    assert lines[1].split()[0] == "reshaped"


@pytest.mark.parametrize(
    ("student", "layer_map", "line"),
    [
        (lambda: gpt2(layers=3), (0, 2), "has 2 entries and the student 3 layers"),
        (lambda: gpt2(layers=2), (0, 6), "asks for layer 6 .* the teacher has 6"),
        (lambda: gpt2(layers=2), (-1, 0), "asks for layer -1"),
        (lambda: gpt2(layers=2), (), "the layer map is empty"),
        (lambda: gpt2(layers=2, n_embd=8), (0, 1), "only into a student as wide as its teacher"),
        (lambda: bert(layers=2), (0, 1), "layers of GPT2LMHeadModel have no .*of the same family"),
    ],
)
def test_impossible_maps_are_one_line_and_copy_nothing(student, layer_map, line):
    model = student()
    before = models.fingerprint(model)
    with pytest.raises(WorkbenchError, match=line) as caught:
        models.initialise(model, gpt2(seed=1), layer_map)
    assert "\n" not in str(caught.value)
    assert models.fingerprint(model) == before


# ---------------------------------------------------------------------- a model like the teacher


@pytest.mark.parametrize("family", FAMILIES)
def test_build_like_is_the_teacher_with_other_layers(family):
    build, place = FAMILIES[family]
    teacher = build(seed=1)
    state = torch.random.get_rng_state()
    student = models.build_like(teacher, 2, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(student) is type(teacher) and not student.training
    assert len(student.get_submodule(place)) == 2
    assert teacher.config.num_hidden_layers == LAYERS
    assert models.fingerprint(student) == models.fingerprint(models.build_like(teacher, 2, seed=5))
    assert models.fingerprint(student) != models.fingerprint(models.build_like(teacher, 2, seed=6))
    dropouts = [m.p for m in student.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(dropouts) == {0.0}


def test_parts_of_the_published_tiny_student():
    from workbench import recipes

    parts = models.parts(recipes.get("protgpt2-tiny").scale("paper").student)
    assert parts["embeddings"] == (50257 + 1024) * 512
    assert sum(parts.values()) == 38_866_432
    assert parts["norm and head"] == 2 * 512


# ---------------------------------------------------------------------- runs


@pytest.fixture
def options(tiny_teacher, monkeypatch):
    # What is tested here is not how fast the machine is.
    monkeypatch.setattr(generation, "GENERATED", 4)
    monkeypatch.setattr(runtime, "BATCH_SIZES", (1,))
    monkeypatch.setattr(runtime, "measure", partial(runtime.measure, seconds=0.0))
    monkeypatch.setattr(runtime, "generation_seconds", lambda model: 1.0)
    monkeypatch.setattr(plots, "run_figures", lambda lines, results, formula: {})
    return {
        "teacher": str(tiny_teacher), "train_sequences": 48, "validation_sequences": 8,
        "batch_size": 16, "steps": 6, "checkpoint_every": 2,
    }  # fmt: skip


def test_a_run_begins_with_the_teachers_layers(options, tmp_path, tiny_teacher, capsys):
    class Notes(Silent):
        said: tuple[str, ...] = ()

        def note(self, text):
            self.said = (*self.said, text)

    notes = Notes()
    results = runs.distill("protgpt2-tiny", tmp_path / "a", init="2i", progress=notes, **options)
    teacher, *_ = models.load_causal_lm(tiny_teacher)
    student, *_ = models.load_causal_lm(tmp_path / "a" / "student")
    assert student.config.num_hidden_layers == 1 == teacher.config.num_hidden_layers // 2
    assert student.config.hidden_size == teacher.config.hidden_size
    assert results["student"]["parameters"] == results["baseline"]["parameters"]
    assert any("layer map 0: " in note and "same start" in note for note in notes.said)
    first = runs.read_metrics(tmp_path / "a")[0]["validation"]
    assert first["student"] == first["baseline"]
    assert runs.load_config(runs.RunDirectory(tmp_path / "a")).init == "2i"


def test_a_run_with_a_map_resumes_to_the_same_bytes(options, tmp_path):
    def weights(name: str) -> bytes:
        return (tmp_path / name / "student" / "model.safetensors").read_bytes()

    runs.distill("protgpt2-tiny", tmp_path / "a", init="1", progress=Silent(), **options)
    count = iter(range(100))
    with pytest.raises(Interrupted):
        runs.distill(
            "protgpt2-tiny", tmp_path / "b", init="1", progress=Silent(),
            should_stop=lambda: next(count) >= 3, **options,
        )  # fmt: skip
    runs.resume(tmp_path / "b", progress=Silent())
    assert weights("a") == weights("b")
    runs.distill("protgpt2-tiny", tmp_path / "c", init="0", progress=Silent(), **options)
    assert weights("a") != weights("c")


def test_scratch_has_the_shape_of_a_copy_and_copies_nothing(options, tmp_path, tiny_teacher):
    for name in ("scratch:1", "-"):
        runs.distill(
            "protgpt2-tiny", tmp_path / name, init=name, progress=Silent(),
            **{**options, "steps": 1},
        )  # fmt: skip
    one, other = (models.load_causal_lm(tmp_path / n / "student")[0] for n in ("scratch:1", "-"))
    assert [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]
    starts = [runs.read_metrics(tmp_path / n)[0]["validation"] for n in ("scratch:1", "-")]
    # The map of one random layer copies the tables, which scratch does not.
    assert starts[0] != starts[1]


def test_a_map_that_the_teacher_has_not_is_one_line(options, tmp_path):
    with pytest.raises(UsageError, match=r"asks for layer 7 .* the teacher has 2, numbered 0 to 1"):
        runs.distill("protgpt2-tiny", tmp_path / "a", init="0,7", progress=Silent(), **options)
    with pytest.raises(UsageError, match="there is no layer map 'even'"):
        RunConfig.from_recipe("protgpt2-tiny", init="even")
