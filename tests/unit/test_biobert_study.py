"""The three biomedical students side by side: the study, entities compared, its figures."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from workbench import cli, export, plots, recipes, runs, runtime
from workbench.bench import biobert_study, command
from workbench.errors import UsageError, WorkbenchError
from workbench.hidden_words import masked_lm
from workbench.named_entities import entity_comparison
from workbench.progress import Silent
from workbench.recipes import Shape
from workbench.tasks import fill_mask
from workbench.teaching import masked_teachers

SMALL = {"train_sequences": 64, "validation_sequences": 40, "batch_size": 16}
NAMES = ("distilbiobert", "tinybiobert", "compactbiobert")


@pytest.fixture(scope="module", autouse=True)
def brief():
    """What is tested here is not how fast the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            runtime, "measure_reader",
            lambda *args, seconds=0.0, measure=runtime.measure_reader: measure(*args, seconds=0.0),
        )  # fmt: skip
        patch.setattr(runtime, "BATCH_SIZES", (1,))
        patch.setattr(fill_mask, "ENTITY_EPOCHS", 1)
        patch.setattr(fill_mask, "ENTITY_SENTENCES", 48)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """Four layers with four heads each, as the recipes' students have, and with opinions."""
    place = tmp_path_factory.mktemp("teachers") / "words"
    tokenizer = masked_teachers.built_in_tokenizer()
    shape = Shape(layers=8, heads=4, width=16, positions=64, vocabulary=len(tokenizer))
    model = masked_lm.build(shape, activation="gelu_pytorch_tanh", seed=3, initial_spread=0.1)
    export.save_model(place, model, tokenizer)
    return str(place)


@pytest.fixture(scope="module")
def measured(teacher):
    return biobert_study.measure(seeds=(0, 1), progress=Silent(), teacher=teacher, steps=4, **SMALL)


def test_every_recipe_is_measured_with_every_seed(measured):
    assert tuple(measured["students"]) == NAMES
    for lines in measured["students"].values():
        assert [line["seed"] for line in lines] == [0, 1]
        assert lines[0]["student"]["perplexity"] != lines[1]["student"]["perplexity"]
        for line in lines:
            for role in ("student", "baseline"):
                row = line[role]
                assert row["perplexity"] > 1 and 0 <= row["entity_f1"] <= 1
                assert row["latency_ms"] > 0 and row["parameters"] > 0
    assert measured["oracle"]["perplexity"] < 2
    assert measured["teacher"]["kl_to_teacher"] is None
    assert measured["steps"] == dict.fromkeys(NAMES, 4)
    json.dumps(measured, allow_nan=False)


def test_each_term_with_a_weight_is_taken_out_once(measured):
    labels = {
        name: set(settings) - {"all terms"} for name, settings in measured["ablation"].items()
    }
    assert labels == {
        "distilbiobert": {"without labels", "without soft targets", "without cosine"},
        # Its labels have no weight to lose.
        "tinybiobert": {"without soft targets", "without hidden states", "without attention"},
        "compactbiobert": {
            "without labels", "without soft targets", "without hidden states", "without attention",
        },
    }  # fmt: skip
    for settings in measured["ablation"].values():
        ends = {}
        for label, band in settings.items():
            assert band["steps"] == [0, 1, 2]  # half as many
            assert np.shape(band["perplexity"]) == (2, 3)
            ends[label] = tuple(run[-1] for run in band["perplexity"])
        # A term taken out changes what is learned.
        assert len(set(ends.values())) == len(ends)


def test_a_study_and_a_run_of_the_same_seed_teach_the_same_student(measured, teacher, tmp_path):
    found = runs.distill(
        "compactbiobert", tmp_path / "run", progress=Silent(), teacher=teacher, steps=4, seed=1,
        **SMALL,
    )  # fmt: skip
    line = measured["students"]["compactbiobert"][1]
    for role in ("student", "baseline"):
        assert found[role]["perplexity"] == line[role]["perplexity"]


def test_the_table_has_a_line_for_each_student_and_seed(measured):
    lines = biobert_study.table(measured).splitlines()
    assert len(lines) == 2 + 3 * 2
    assert lines[1].startswith("teacher")
    assert f"{measured['students']['tinybiobert'][1]['student']['perplexity']:.3f}" in lines[5]


def test_the_bench_is_stamped_with_machine_and_date(monkeypatch, tmp_path):
    monkeypatch.setattr(biobert_study, "measure", lambda: {"students": {}})
    found = command.run("biobert", tmp_path)
    assert found["students"] == {} and {"machine", "date", "versions"} <= set(found)


def test_published_figures_name_their_source_and_agree_with_the_recipes():
    import csv

    with biobert_study.PUBLISHED.open(newline="", encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"BioBERT", "DistilBioBERT", "CompactBioBERT"}
    assert all(row["source"] for row in rows.values())
    scale = recipes.get("compactbiobert").scale("paper")
    student = masked_lm.count_parameters(scale.student)
    assert int(rows["CompactBioBERT"]["parameters"]) == student
    assert int(rows["BioBERT"]["parameters"]) == masked_lm.count_parameters(scale.teacher)


# ---------------------------------------------------------------------- figures


def test_the_figure_of_students_has_a_sign_for_each_seed(measured):
    with biobert_study.PUBLISHED.open() as file:
        import csv

        published = list(csv.DictReader(file))
    figure = plots.students_figure({**measured, "published": published})
    by_size, by_speed, size, real = figure.axes
    for axes, key, scale, quality in (
        (by_size, "parameters", 1e-6, "perplexity"),
        (by_speed, "latency_ms", 1.0, "perplexity"),
        (size, "parameters", 1e-6, "entity_f1"),
    ):
        signs = {tuple(line.get_ydata()): line.get_xdata() for line in axes.get_lines()}
        for lines in measured["students"].values():
            for role in ("student", "baseline"):
                values = tuple(line[role][quality] for line in lines)
                if quality == "perplexity":
                    values = tuple(v / measured["oracle"][quality] - 1 for v in values)
                places = scale * np.median([line[role][key] for line in lines])
                assert values in signs
                if key == "parameters":
                    assert signs[values][0] == pytest.approx(places)
    shown = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in real.get_lines()}
    assert (65.813572, 88.67) in shown
    assert {text.get_text() for text in real.texts} == {
        "BioBERT", "CompactBioBERT", "DistilBioBERT",
    }  # fmt: skip


def test_the_figure_of_terms_has_means_and_ranges(measured):
    figure = plots.ablation_figure(measured["ablation"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "DistilBioBERT", "TinyBioBERT", "CompactBioBERT",
    ]  # fmt: skip
    axes, settings = figure.axes[2], measured["ablation"]["compactbiobert"]
    for line, (label, band) in zip(axes.get_lines(), settings.items(), strict=True):
        values = np.exp(np.log(np.array(band["perplexity"])[:, 1:]).mean(0))
        assert line.get_ydata() == pytest.approx(values)
        assert f"{label} {values[-1]:.2f}" in {text.get_text() for text in axes.texts}
    one = plots.ablation_figure({"tinybiobert": measured["ablation"]["tinybiobert"]})
    assert len(one.axes) == 1


# ---------------------------------------------------------------------- entities


@pytest.fixture(scope="module")
def tag_files(tmp_path_factory):
    place = tmp_path_factory.mktemp("tags")
    sentence = "Loss\tO\nof\tO\nEGFR\tB-Gene\n.\tO\n\nlung\tB-Disease\ncancer\tI-Disease\n\n"
    for name in ("train", "held-out"):
        (place / f"{name}.tsv").write_text(sentence * 8)
    return place / "train.tsv", place / "held-out.tsv"


@pytest.fixture(scope="module")
def run(teacher, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "tiny"
    runs.distill("tinybiobert", place, progress=Silent(), teacher=teacher, steps=2, **SMALL)
    return place


def test_teacher_student_and_baseline_of_a_run_learn_to_find_entities(run, teacher, tag_files):
    train, held_out = tag_files
    compare = partial(
        entity_comparison.compare,
        train=train,
        held_out=held_out,
        epochs=40,
        learning_rate=5e-3,
        progress=Silent(),
    )
    found = compare([str(run), str(run / "student")])
    assert [row["name"] for row in found["rows"]] == ["teacher", "student", "baseline", "model"]
    assert found["train"] == found["held_out"] == 16
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["teacher"]["source"] == teacher
    # What was saved is what was trained.
    assert rows["model"]["f1"] == rows["student"]["f1"]
    assert rows["model"]["parameters"] == rows["baseline"]["parameters"]
    # Sixteen copies of two sentences can be learned by heart.
    assert rows["teacher"]["f1"] > 0.9
    assert set(rows["teacher"]["by_type"]) == {"Disease", "Gene"}
    # A teacher of several runs is compared once.
    assert [row["name"] for row in compare([str(run), str(run)])["rows"]].count("teacher") == 1
    text = entity_comparison.table(found)
    assert f"teacher {teacher}" in text and "16 sentences" in text


def test_the_command_prints_one_object(run, tag_files, capsys):
    train, held_out = (str(path) for path in tag_files)
    arguments = ["entities", str(run / "student"), "--train", train, "--held-out", held_out]
    assert cli.status_of([*arguments, "--epochs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["epochs"] == 1 and len(found["rows"]) == 1
    assert cli.status_of([*arguments, "--epochs", "1"]) == 0
    assert "passes over" in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_line(run, tag_files, tmp_path):
    train, held_out = tag_files
    with pytest.raises(UsageError, match="belong together"):
        entity_comparison.compare([str(run)], train=train)
    with pytest.raises(WorkbenchError, match="expected"):
        entity_comparison.compare([str(tmp_path / "none")], train=train, held_out=held_out)
    with pytest.raises(UsageError, match="tells hidden words"):
        other = tmp_path / "protein"
        runs.distill(
            "protgpt2-tiny", other, progress=Silent(), steps=1, train_sequences=40,
            validation_sequences=10,
        )  # fmt: skip
        entity_comparison.compare([str(other)], train=train, held_out=held_out)
