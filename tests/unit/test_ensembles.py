"""Ensembles: what is averaged, by hand; how many fit; and the students that are stored."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest
import torch

from workbench import corpora, export, metrics, models, plots
from workbench.at_work import ensemble_students, ensembles
from workbench.bench import command
from workbench.classifying import classification, classifiers
from workbench.errors import UsageError, WorkbenchError
from workbench.objective import Objective
from workbench.recipes import Shape

VALIDATION = {"train_sequences": 20, "validation_sequences": 30}


def test_the_average_is_of_probabilities():
    members = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.3, 0.7], [1.0, 0.0]]])
    found = ensembles.average(members.log()).exp()
    assert torch.allclose(found, torch.tensor([[0.6, 0.4], [0.75, 0.25]]))
    # Not what a mean of logarithms says: that is a geometric mean.
    assert not torch.allclose(found[0], members.log().mean(0).softmax(-1)[0], atol=0.01)


def test_a_single_member_is_itself():
    said = torch.randn(1, 4, 7).log_softmax(-1)
    assert torch.equal(ensembles.average(said), said[0])


@pytest.mark.parametrize(
    ("students", "expected"),
    [([2.0, 4.0, 6.0], 2), ([2.0, 5.0, 4.9], 3), ([6.0], 0), ([5.0], 1), ([], 0)],
)
def test_as_many_fit_as_take_no_more_time(students, expected):
    assert ensembles.fitting(5.0, students) == expected


# ---------------------------------------------------------------------- generators


@pytest.fixture(scope="module")
def students(tmp_path_factory, tiny_shape):
    """Three untrained students with opinions, saved."""
    found = []
    for seed in (1, 2, 3):
        directory = tmp_path_factory.mktemp("students") / str(seed)
        model = models.build_causal_lm(tiny_shape, activation="gelu_pytorch_tanh", seed=seed)
        model.get_input_embeddings().weight.data.mul_(6)
        model.config.sequence_format = "plain"
        export.save_model(directory, model, models.residue_tokenizer())
        found.append(directory)
    return found


@pytest.fixture(scope="module")
def compared(students, tiny_teacher):
    return ensembles.compare(
        "protgpt2-tiny", students, teacher=str(tiny_teacher), rounds=2, batches=(1, 4), **VALIDATION
    )


def held_out(tokenizer):
    corpus = corpora.load("world:proteins", train_sequences=20, validation_sequences=30)
    rows = corpora.tokenise(corpus.validation["sequence"][:], tokenizer, "plain", 128)
    return corpora.make_batches(rows, 8, tokenizer.eos_token_id)


def test_every_ensemble_is_scored_as_by_hand(compared, students):
    loaded = [models.load_causal_lm(path)[0].double() for path in students]
    losses: dict[tuple[int, ...], list[float]] = {}
    for batch in held_out(models.residue_tokenizer()):
        said = torch.stack([m(input_ids=batch.input_ids).logits.softmax(-1) for m in loaded])
        for row, length in enumerate(batch.lengths.tolist()):
            for place in range(length - 1):
                own = said[:, row, place, batch.input_ids[row, place + 1]]
                for crowd in ((0,), (1,), (2,), (0, 1), (1, 2), (2, 0), (0, 1, 2)):
                    mean = float(own[list(crowd)].mean())
                    losses.setdefault(crowd, []).append(-math.log(mean))
    by_hand = {crowd: math.exp(statistics.fmean(found)) for crowd, found in losses.items()}
    for row, crowds in zip(
        compared["ensembles"],
        (((0,), (1,), (2,)), ((0, 1), (1, 2), (2, 0)), ((0, 1, 2),)),
        strict=True,
    ):
        assert row["perplexity"] == pytest.approx([by_hand[crowd] for crowd in crowds], rel=1e-5)
    single = compared["ensembles"][0]["negative_log_likelihood"]
    assert compared["ensembles"][2]["negative_log_likelihood"][0] < statistics.fmean(single)


def test_one_student_is_what_the_evaluation_of_models_says(compared, students, tiny_teacher):
    for path, place in ((students[1], 1), (tiny_teacher, None)):
        model, tokenizer, _ = models.load_causal_lm(path)
        quality = metrics.evaluate(model, held_out(tokenizer), None)
        found = compared["teacher"] if place is None else compared["ensembles"][0]
        for key in ("perplexity", "negative_log_likelihood", "calibration_error"):
            value = found[key] if place is None else found[key][place]
            assert value == pytest.approx(getattr(quality, key), rel=1e-5), key
        right = found["right"] if place is None else found["right"][place]
        assert right == pytest.approx(quality.top1)


def test_how_sure_an_ensemble_is_is_the_mean_of_its_best_answers(compared, students):
    loaded = [models.load_causal_lm(path)[0].double() for path in students]
    best = []
    for batch in held_out(models.residue_tokenizer()):
        said = sum(m(input_ids=batch.input_ids).logits.softmax(-1) for m in loaded) / 3
        scored, _ = Objective().rows(batch)
        best += said.max(-1)[0][scored].tolist()
    assert compared["ensembles"][2]["sure"][0] == pytest.approx(statistics.fmean(best), rel=1e-5)


def test_what_is_compared_can_be_read_and_drawn(compared):
    assert compared["headline"] == "perplexity" and compared["better"] == "lower"
    assert compared["oracle"]["perplexity"] < compared["teacher"]["perplexity"]
    assert [row["k"] for row in compared["ensembles"]] == [1, 2, 3]
    assert [entry["batch"] for entry in compared["times"]] == [1, 4]
    for entry in compared["times"]:
        assert len(entry["students_ms"]) == 3 and min(entry["students_ms"]) > 0
        assert entry["fitting"] == ensembles.fitting(entry["teacher_ms"], entry["students_ms"])
    json.dumps(compared, allow_nan=False)
    said = ensembles.table(compared)
    assert command.text("ensemble", compared) == said
    assert "one student" in said and "3 students" in said and "batch of 4 fit" in said
    figure = plots.ensemble_figure(compared, batch=4)
    left = figure.axes[0]
    drawn = next(line for line in left.lines if line.get_label() == "students, averaged")
    assert drawn.get_ydata() == pytest.approx(
        [statistics.fmean(row["perplexity"]) for row in compared["ensembles"]]
    )
    with pytest.raises(ValueError, match="there are 1, 4"):
        plots.ensemble_figure(compared, batch=9)


def test_time_grows_with_the_crowd(monkeypatch):
    """On a clock that every answer of a member moves by a second."""
    clock = [0.0]
    monkeypatch.setattr("workbench.at_work.ensembles.time.perf_counter", lambda: clock[0])

    def answers(members, batch, objective):
        clock[0] += len(members)
        return torch.zeros(len(members), 1, 2)

    monkeypatch.setattr(ensembles, "log_probabilities", answers)
    found = ensembles.in_turn(["teacher"] * 3, ["a", "b", "c", "d"], [None, None], Objective())
    assert found == {"teacher_ms": 3000, "students_ms": [1000, 2000, 3000, 4000], "fitting": 3}


# ---------------------------------------------------------------------- classifiers


def test_classifiers_average_their_classes(tmp_path):
    shape = Shape(layers=1, heads=2, width=16, positions=64, vocabulary=len(
        classifiers.residue_tokenizer()))  # fmt: skip
    paths = []
    for seed in (0, 1):
        model = classifiers.build(shape, activation="gelu", seed=seed, initial_spread=0.5)
        model.config.pad_token_id = classifiers.residue_tokenizer().pad_token_id
        export.save_model(tmp_path / str(seed), model, classifiers.residue_tokenizer())
        paths.append(tmp_path / str(seed))
    found = ensembles.compare(
        "distilbert-pmhc", paths, teacher=str(paths[0]), rounds=1, batches=(2,),
        train_sequences=20, validation_sequences=60,
    )  # fmt: skip
    from workbench.classifying import binding, pairs

    corpus = pairs.load("world:peptides", train_pairs=20, validation_pairs=60)
    said = [
        binding.score_pairs(*classifiers.load(path)[:2], corpus.validation, corpus.pseudo_sequences)
        for path in paths
    ]
    labels = np.array([record.label for record in corpus.validation])
    for probabilities, row, place in (
        (said[0], 0, 0), (said[1], 0, 1), (np.mean(said, axis=0), 1, 0),
    ):  # fmt: skip
        scores = classification.score(labels, probabilities)
        for key in ("f1", "auc", "calibration_error", "negative_log_likelihood"):
            value = found["ensembles"][row][key][place]
            assert value == pytest.approx(getattr(scores, key), rel=1e-4, abs=1e-6), key
        sure = np.maximum(probabilities, 1 - probabilities).mean()
        assert found["ensembles"][row]["sure"][place] == pytest.approx(sure, rel=1e-4)
        assert found["ensembles"][row]["right"][place] == scores.accuracy
    assert found["oracle"]["auc"] > 0.9 and found["headline"] == "f1"


# ---------------------------------------------------------------------- hidden words


def test_a_teacher_of_hidden_words_averaged_with_itself_is_itself():
    found = ensembles.compare(
        "distilbiobert", ["biobert"] * 2, rounds=1, batches=(1,), train_sequences=8,
        validation_sequences=40,
    )  # fmt: skip
    for key, value in found["teacher"].items():
        assert found["ensembles"][0][key] == pytest.approx([value, value], rel=1e-5), key
        assert found["ensembles"][1][key] == pytest.approx([value], rel=1e-4), key
    assert 1 < found["oracle"]["perplexity"] < 2 and 1 < found["teacher"]["perplexity"] < 2


# ---------------------------------------------------------------------- refused


def test_no_students_and_no_rounds_are_refused():
    with pytest.raises(UsageError, match="no students"):
        ensembles.compare("protgpt2-tiny", [])
    with pytest.raises(UsageError, match="expected 1 or more"):
        ensembles.compare("protgpt2-tiny", ["protgpt2-tiny"], batches=(0,))


def test_students_with_other_words_are_refused(tmp_path, byte_pairs, students, tiny_teacher):
    shape = Shape(layers=1, heads=2, width=16, positions=128, vocabulary=len(byte_pairs))
    export.save_model(
        tmp_path / "other", models.build_causal_lm(shape, activation="gelu_new", seed=0), byte_pairs
    )
    with pytest.raises(WorkbenchError, match="another vocabulary than the teacher"):
        ensembles.compare(
            "protgpt2-tiny", [*students, tmp_path / "other"], teacher=str(tiny_teacher)
        )


# ---------------------------------------------------------------------- what is stored


def finished(path, seed, **options):
    from workbench import storage
    from workbench.config import RunConfig
    from workbench.run_directory import described

    (path / "student").mkdir(parents=True)
    (path / "student" / "config.json").write_text(json.dumps({"seed": seed}))
    config = RunConfig.from_recipe("protgpt2-tiny", seed=seed, **options)
    storage.write_json(path / "config.json", described(config))
    return path


def full_disk(*_, **__):
    raise OSError(28, "No space left on device")


def test_runs_that_differ_in_their_seed_are_stored(tmp_path):
    runs = [finished(tmp_path / f"run-{seed}", seed) for seed in (4, 2)]
    place = tmp_path / "kept"
    kept = ensemble_students.store(runs, within=place)
    assert (
        [path.name for path in kept]
        == ["seed-2", "seed-4"]
        == [path.name for path in ensemble_students.stored(place)]
    )
    assert json.loads((kept[1] / "config.json").read_text()) == {"seed": 4}
    # A second time nothing of the first is left.
    assert [p.name for p in ensemble_students.store(runs[:1], within=place)] == ["seed-4"]
    other = finished(tmp_path / "hot", 7, temperature=9)
    with pytest.raises(UsageError, match="differ in more than their seed"):
        ensemble_students.store([*runs, other], within=place)
    again = finished(tmp_path / "again", 4)
    with pytest.raises(UsageError, match="there are no runs"):
        ensemble_students.store([], within=place)
    weighted = [finished(tmp_path / f"weighted-{s}", s, weights={"hard": 0.5}) for s in (0, 1)]
    assert len(ensemble_students.store(weighted, within=tmp_path / "weighted")) == 2
    with pytest.raises(UsageError, match="two runs have the same seed"):
        ensemble_students.store([*runs, again], within=place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble_students.shutil, "copytree", full_disk)
        with pytest.raises(WorkbenchError, match="cannot write the stored students"):
            ensemble_students.store(runs, within=place)
    (runs[0] / "student" / "config.json").unlink()
    with pytest.raises(WorkbenchError, match="has no student yet"):
        ensemble_students.store(runs, within=place)
    assert [p.name for p in ensemble_students.stored(place)] == ["seed-4"]


def test_the_command_prints_what_it_keeps_and_one_line_of_trouble(tmp_path, monkeypatch, capsys):
    assert ensemble_students.main([]) == 2
    assert ensemble_students.main([str(tmp_path / "none")]) == 1
    assert "there is no run directory" in capsys.readouterr().err


def test_the_course_s_students_are_alike_and_small():
    found = ensemble_students.stored()
    assert len(found) >= 5
    configs = [json.loads((path / "config.json").read_text()) for path in found]
    assert all(config == configs[0] for config in configs)
    weights = {(path / "model.safetensors").read_bytes() for path in found}
    assert len(weights) == len(found)
    size = sum(f.stat().st_size for path in found for f in path.iterdir())
    assert size <= ensemble_students.MOST_BYTES
