"""Runs of the three biomedical recipes: to the end, resumed, evaluated, from a text, refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from workbench import cli, evaluation, export, models, plots, runs, runtime
from workbench import workshop as workshops
from workbench.config import RunConfig
from workbench.errors import Interrupted
from workbench.hidden_words import masked_lm
from workbench.progress import Silent
from workbench.recipes import Shape
from workbench.recipes.recipe import VARIANTS
from workbench.tasks import fill_mask
from workbench.worlds import biomedical

NAMES = ("distilbiobert", "tinybiobert", "compactbiobert")
EVERY = [(name, variant) for name in NAMES for variant in VARIANTS]
TERMS = {
    "distilbiobert": ["hard", "soft", "cosine"],
    "tinybiobert": ["hard", "soft", "hidden", "attention"],
    "compactbiobert": ["hard", "soft", "hidden", "attention"],
}
STEPS = 3
SMALL = {
    "train_sequences": 64, "validation_sequences": 24, "batch_size": 16, "steps": STEPS,
    "checkpoint_every": 1,
}  # fmt: skip
ROW_KEYS = {
    "parameters", "perplexity", "perplexity_per_residue", "accuracy", "f1", "auc",
    "kl_to_teacher", "agreement", "latency_ms", "tokens_per_second", "top1", "top5", "entity_f1",
    "entity_interval",
}  # fmt: skip
QUALITY = (
    "parameters", "perplexity", "top1", "top5", "kl_to_teacher", "agreement", "calibration_error",
    "entity_f1", "entity_interval",
)  # fmt: skip
DRAWN = ("compactbiobert", "corrected")


@pytest.fixture(scope="module", autouse=True)
def brief():
    """What is tested here is neither how fast the machine is nor how a figure looks."""
    measure = runtime.measure_reader

    def measure_briefly(model, *arguments):
        # Attention maps are kept for training only.
        assert model.config._attn_implementation == "sdpa"
        return measure(model, *arguments, seconds=0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "measure_reader", measure_briefly)
        patch.setattr(runtime, "BATCH_SIZES", (1,))
        patch.setattr(plots, "run_figures", lambda *_: {})
        patch.setattr(fill_mask, "ENTITY_SENTENCES", 24)
        patch.setattr(fill_mask, "ENTITY_EPOCHS", 1)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """A small BERT with opinions, in whose tokenizer every word of the world is a piece."""
    words = biomedical.default_world().words
    tokenizer = masked_lm.word_pieces([" ".join(words)], size=4000)
    shape = Shape(layers=4, heads=4, width=16, positions=64, vocabulary=len(tokenizer))
    model = masked_lm.build(shape, activation="gelu_pytorch_tanh", seed=7, initial_spread=0.3)
    place = tmp_path_factory.mktemp("teachers") / "small"
    export.save_model(place, model, tokenizer)
    return str(place)


@pytest.fixture(scope="module")
def untouched(teacher) -> dict[str, bytes]:
    """The teacher's files as they were before any run."""
    return files_of(teacher)


def files_of(place) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(Path(place).iterdir())}


@pytest.fixture(scope="module")
def results(teacher, untouched, tmp_path_factory) -> dict[tuple[str, str], dict]:
    place = tmp_path_factory.mktemp("runs")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, variant in EVERY:
            patch.undo()
            if (name, variant) == DRAWN:
                patch.setattr(plots, "run_figures", run_figures)
            found[name, variant] = runs.distill(
                name, place / f"{name}-{variant}", progress=Silent(), teacher=teacher,
                variant=variant, **SMALL,
            )  # fmt: skip
    return found


run_figures = plots.run_figures


def path_of(results: dict, name: str, variant: str = "corrected") -> Path:
    return Path(results[name, variant]["run"])


def without_clock(run: Path) -> list[dict]:
    lines = runs.read_metrics(run)
    for line in lines:
        line.pop("seconds"), line.pop("tokens_per_second", None)
    return lines


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def same_run(a: Path, b: Path) -> bool:
    """Metrics, student, checkpoint (projections and moments with it) and quality, bit by bit."""
    one, other = (tensors_of(runs.RunDirectory(p).checkpoint) for p in (a, b))
    judged = [json.loads((p / "results.json").read_text()) for p in (a, b)]
    return (
        without_clock(a) == without_clock(b)
        and files_of(a / "student")["model.safetensors"]
        == files_of(b / "student")["model.safetensors"]
        and one.keys() == other.keys()
        and all(t.equal(other[n]) for n, t in one.items())
        and quality(judged[0]) == quality(judged[1])
    )


def quality(results: dict) -> dict:
    return {
        row: {key: results[row][key] for key in QUALITY}
        for row in ("oracle", "teacher", "student", "baseline")
    }


# ---------------------------------------------------------------------- to the end


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_every_variant_runs_to_the_end_in_the_shape_of_the_contract(name, variant, results):
    found = results[name, variant]
    json.dumps(found, allow_nan=False)
    assert (found["recipe"], found["variant"], found["steps"]) == (name, variant, STEPS)
    config = RunConfig.from_recipe(name, variant=variant)
    assert (found["temperature"], found["alpha"]) == (config.temperature, config.alpha)
    for row in ("oracle", "teacher", "student", "baseline"):
        values = found[row]
        assert set(values) >= ROW_KEYS
        for key in ("perplexity_per_residue", "accuracy", "f1", "auc"):
            assert values[key] is None
        assert values["perplexity"] > 1 and 0 <= values["top1"] <= values["top5"] <= 1
        learns = row in ("student", "baseline")
        assert (values["kl_to_teacher"] is not None) == learns
        assert (values["agreement"] is not None) == learns
        assert (values["latency_ms"] is not None) == (row in ("teacher", "student"))
        assert (values["tokens_per_second"] is not None) == (row in ("teacher", "student"))
        assert (values["parameters"] is None) == (row == "oracle")
        assert (values["entity_f1"] is None) == (row == "oracle")
        if row != "oracle":
            low, high = values["entity_interval"]
            assert 0 <= low <= values["entity_f1"] <= high <= 1
    assert found["oracle"]["perplexity"] < found["teacher"]["perplexity"]
    assert found["student"]["parameters"] == found["baseline"]["parameters"]
    lines = runs.read_metrics(found["run"])
    assert [line["step"] for line in lines] == list(range(STEPS + 1))
    for line in lines[1:]:
        assert list(line["ledger"]) == TERMS[name]
        assert sum(e["share"] for e in line["ledger"].values()) == pytest.approx(1)
        assert set(line["student"]) == {*TERMS[name], "total"}
        assert set(line["baseline"]) == {"hard", "total"}
    assert lines[0]["validation"]["student"]["perplexity"] is not None


def test_the_teacher_is_the_same_bytes_after_all_runs(results, teacher, untouched):
    assert files_of(teacher) == untouched


def test_the_same_teacher_and_truth_stand_beside_every_student(results):
    for row in ("oracle", "teacher"):
        assert len({json.dumps(quality(found)[row]) for found in results.values()}) == 1


def test_the_readings_differ_where_they_say_so_and_nowhere_else(results):
    def bytes_of(name, variant):
        return files_of(path_of(results, name, variant) / "student")["model.safetensors"]

    for name in NAMES:
        corrected, published, coded = (bytes_of(name, v) for v in VARIANTS)
        assert corrected == published != coded
        rows = [results[name, v]["baseline"] for v in VARIANTS]
        assert rows[0]["perplexity"] == rows[1]["perplexity"]
        # As coded two of them begin without a head, and so do their baselines.
        assert (rows[2]["perplexity"] == rows[0]["perplexity"]) == (name == "tinybiobert")


def test_the_directory_holds_what_the_contract_names(results):
    run = path_of(results, *DRAWN)
    assert json.loads((run / "results.json").read_text()) == results[DRAWN]
    assert {p.name for p in run.iterdir()} >= {
        "config.json", "metrics.jsonl", "events.jsonl", "checkpoint", "student", "results.json",
        "figures",
    }  # fmt: skip
    figures = {p.stem for p in (run / "figures").glob("*.png")}
    assert {"perplexity", "ledger", "runtime"} <= figures
    assert figures == {p.stem for p in (run / "figures").glob("*.svg")}
    card = (run / "student" / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "biomedical" in card
    assert "3·ΣKL(teacher‖student attention)" in card and "perplexity" in card


@pytest.mark.parametrize("name", NAMES)
def test_the_student_fills_masks_in_a_plain_pipeline(name, results):
    from transformers import pipeline

    place = path_of(results, name, "as-coded") / "student"
    fill = pipeline("fill-mask", model=str(place))
    sentence = biomedical.sample(1, 3)[0].words
    answers = fill(" ".join(["[MASK]", *sentence[1:]]))
    assert len(answers) == 5
    assert 0 < sum(a["score"] for a in answers) <= 1
    model, tokenizer, _ = masked_lm.load(place)
    assert all(a["token_str"] in tokenizer.get_vocab() for a in answers)
    # Attention maps were kept for training only.
    assert "eager" not in (place / "config.json").read_text()
    assert fill.model.config._attn_implementation == "sdpa"
    assert results[name, "as-coded"]["student"]["parameters"] == models.parameters(model)


def test_projections_are_in_the_checkpoint_and_not_in_the_student(results):
    for variant, count in (("corrected", 5), ("as-coded", 1)):
        run = path_of(results, "tinybiobert", variant)
        kept = tensors_of(runs.RunDirectory(run).checkpoint)
        projections = {n for n in kept if n.startswith("student.model.matcher.projections.")}
        assert len(projections) == 2 * count
        assert kept["student.model.matcher.projections.0.weight"].shape == (16, 40)
        assert not any(n.startswith("baseline.") and "matcher" in n for n in kept)
        saved = set(tensors_of(run / "student" / "model.safetensors"))
        model, *_ = masked_lm.load(run / "student")
        assert {n for n in saved if "matcher" in n or "projection" in n} == set()
        assert saved <= set(model.state_dict())


# ---------------------------------------------------------------------- again, and resumed


@pytest.mark.parametrize(
    ("name", "variant"),
    [("distilbiobert", "corrected"), ("tinybiobert", "corrected"), ("compactbiobert", "as-coded")],
)
def test_interrupted_and_resumed_it_is_the_same_bytes(name, variant, results, teacher, tmp_path):
    calls = iter([False, False, True])
    with pytest.raises(Interrupted, match="interrupted at step 2 of 3"):
        runs.distill(
            name, tmp_path / "cut", progress=Silent(), should_stop=lambda: next(calls),
            teacher=teacher, variant=variant, **SMALL,
        )  # fmt: skip
    assert not (tmp_path / "cut" / "results.json").exists()
    runs.resume(tmp_path / "cut", progress=Silent())
    assert same_run(tmp_path / "cut", path_of(results, name, variant))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(results, teacher, tmp_path):
    name, variant = "compactbiobert", "as-coded"
    for seed in (0, 1):
        runs.distill(
            name, tmp_path / str(seed), progress=Silent(), teacher=teacher, variant=variant,
            seed=seed, **SMALL,
        )  # fmt: skip
    whole = path_of(results, name, variant)
    assert same_run(tmp_path / "0", whole)
    assert not same_run(tmp_path / "1", whole)


def open_shop(name: str, teacher: str, **options):
    config = RunConfig.from_recipe(name, teacher=teacher, **{**SMALL, **options})
    return workshops.prepare(config, Silent())


def test_what_is_hidden_is_a_function_of_seed_step_and_batch(teacher):
    shop, again = open_shop("distilbiobert", teacher), open_shop("distilbiobert", teacher)
    other = open_shop("distilbiobert", teacher, seed=1)

    def hidden(shop, index: int, step: int) -> tuple:
        batch = shop.batch(index, step)
        assert batch.draw == step
        assert len(batch.labels) == int(batch.masked.sum()) > 0
        return batch.masked.tolist(), batch.input_ids.tolist(), batch.labels.tolist()

    # Another order and other steps before do not change it.
    assert [hidden(shop, i, 5) for i in (0, 1)] == [hidden(again, i, 5) for i in (1, 0)][::-1]
    assert hidden(shop, 0, 5) != hidden(shop, 0, 6)
    assert hidden(shop, 0, 5) != hidden(other, 0, 5)
    # What is held out is the same for every run, and hidden behind [MASK] only.
    for mine, theirs in zip(shop.validation_batches, other.validation_batches, strict=True):
        assert mine.masked.equal(theirs.masked) and mine.input_ids.equal(theirs.input_ids)
        assert (mine.input_ids[mine.masked] == shop.tokenizer.mask_token_id).all()


@pytest.mark.parametrize(
    ("name", "layers"), [("distilbiobert", (0, 2)), ("compactbiobert", (1, 3))]
)
def test_student_and_baseline_have_the_start_that_the_recipe_says(name, layers, teacher):
    for variant in ("corrected", "as-coded"):
        shop = open_shop(name, teacher, variant=variant)
        student, baseline, whole = shop.student.student, shop.baseline.student, shop.teacher_model
        assert models.fingerprint(student) == models.fingerprint(baseline)
        assert student.config.num_hidden_layers == 2
        for mine, number in zip(student.bert.encoder.layer, layers, strict=True):
            for own, theirs in zip(
                mine.parameters(), whole.bert.encoder.layer[number].parameters(), strict=True
            ):
                assert own.equal(theirs)
        transform = student.cls.predictions.transform.dense.weight
        is_copied = transform.equal(whole.cls.predictions.transform.dense.weight)
        assert is_copied == (variant == "corrected")
        assert student.cls.predictions.decoder.weight.equal(whole.cls.predictions.decoder.weight)
        # Maps are asked of who is compared, and the baseline is not.
        maps = "eager" if name == "compactbiobert" else "sdpa"
        assert student.config._attn_implementation == maps
        assert whole.config._attn_implementation == maps
        assert baseline.config._attn_implementation == "sdpa"
        drops = (name, variant) == ("compactbiobert", "as-coded")
        assert shop.teacher.dropout == (0.1 if drops else 0.0)


def test_a_tiny_student_starts_from_nothing(teacher):
    shop = open_shop("tinybiobert", teacher)
    student = shop.student.student
    assert student.config.hidden_size == 40 and student.config.num_hidden_layers == 4
    assert models.fingerprint(student) == models.fingerprint(shop.baseline.student)
    assert shop.student.matcher.hidden_pairs == tuple((i, i) for i in range(5))
    assert [len(list(d.matcher.parameters())) for d in (shop.student, shop.baseline)] == [10, 0]


# ---------------------------------------------------------------------- evaluated again


@pytest.mark.parametrize(
    ("name", "variant"), [("tinybiobert", "as-coded"), ("compactbiobert", "as-coded")]
)
def test_a_run_evaluated_again_has_the_same_quality(name, variant, results):
    before = results[name, variant]
    again = runs.evaluate(path_of(results, name, variant), progress=Silent())
    assert quality(again) == quality(before)
    for key in ("recipe", "variant", "run", "steps", "seed", "temperature", "alpha"):
        assert again[key] == before[key]


def test_a_student_evaluated_as_a_model_has_the_quality_of_its_run(results, teacher):
    name, variant = "compactbiobert", "as-coded"
    config = RunConfig.from_recipe(name, teacher=teacher, **SMALL)
    place = path_of(results, name, variant) / "student"
    found = evaluation.evaluate_model(str(place), config)
    json.dumps(found, allow_nan=False)
    before, after = quality(results[name, variant]), quality(found)
    for row in ("oracle", "teacher", "student"):
        for key, value in before[row].items():
            # The last bits: an answer of the teacher is made anew, not read from the cache.
            expected = value if value is None else pytest.approx(value, rel=1e-5)
            assert after[row][key] == expected, (row, key)
    assert set(after["baseline"].values()) == {None}
    assert found["variant"] is found["steps"] is found["temperature"] is None


# ---------------------------------------------------------------------- the command line


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return left.value.code, out, err


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    """A user's sentences: of the world, so that the small teacher knows their words."""
    path = tmp_path_factory.mktemp("texts") / "abstracts.txt"
    lines = [s.text for s in biomedical.sample(60, seed=11)]
    lines[7] = " ".join(s.text for s in biomedical.sample(12, seed=12))  # longer than a row
    path.write_text("\n".join([*lines, "—", ""]))
    return str(path)


def test_options_of_these_recipes_reach_the_run(teacher, text, tmp_path, capsys):
    place = tmp_path / "run"
    code, out, _ = run(
        capsys, "distill", "compactbiobert", "--data", text, "--teacher", teacher, "--steps", "2",
        "--whole-words", "--weight", "attention=0", "--weight", "hard=0.5", "--match", "-,2",
        "--batch-size", "16", "--run", str(place), "--json",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0
    # Words of a text have no truth to compare with.
    assert set(found["oracle"].values()) == {None}
    for row in ("teacher", "student", "baseline"):
        assert math.isfinite(found[row]["perplexity"]) and found[row]["entity_f1"] is None
    config = runs.load_config(runs.RunDirectory(place))
    assert (config.whole_words, config.match) == (True, "-,2")
    assert config.weights == {"attention": 0.0, "hard": 0.5}
    ledger = runs.read_metrics(place)[-1]["ledger"]
    weights = {name: entry["weight"] for name, entry in ledger.items()}
    assert weights == pytest.approx({"hard": 0.5, "soft": 5, "hidden": 3, "attention": 0})
    assert ledger["attention"]["share"] == 0
    card = (place / "student" / "README.md").read_text()
    assert "0·ΣKL(teacher‖student attention) [layers -,2" in card
    # As a model, with the recipe found by what it is.
    code, out, _ = run(
        capsys, "evaluate", str(place / "student"), "--data", text, "--teacher", teacher, "--json"
    )
    again = json.loads(out)
    assert code == 0 and again["recipe"] == "distilbiobert"
    assert again["student"]["parameters"] == found["student"]["parameters"]
    assert 0 <= again["student"]["agreement"] <= 1 and again["baseline"]["perplexity"] is None


def test_whole_words_are_hidden_whole(teacher):
    shop = open_shop("distilbiobert", teacher, whole_words=True)
    plain = open_shop("distilbiobert", teacher)
    assert shop.masker.masking.whole_words and not plain.masker.masking.whole_words
    continues = torch.tensor([
        p.startswith("##") for p in shop.tokenizer.convert_ids_to_tokens(range(len(shop.tokenizer)))
    ])  # fmt: skip

    def torn(shop) -> int:
        """Pieces that are hidden without the piece before them of the same word, or vice versa."""
        found = 0
        for index, before in enumerate(shop.train_batches):
            batch = shop.batch(index, 1)
            joined = continues[before.input_ids[:, 1:]] & before.real()[:, 1:]
            found += int((joined & (batch.masked[:, 1:] != batch.masked[:, :-1])).sum())
        return found

    assert torn(shop) == 0


def test_a_text_is_taught_and_distilled_to_the_end(text, tmp_path, capsys):
    made = str(tmp_path / "teacher")
    code, out, err = run(
        capsys, "teach", "biobert", "--data", text, "--out", made, "--steps", "2", "--json"
    )
    assert code == 0
    figures = json.loads(out)
    assert figures["oracle_perplexity"] is None and math.isfinite(figures["perplexity"])
    assert any("without a word left out" in line for line in err.splitlines())
    kept = files_of(made)
    code, out, _ = run(
        capsys, "distill", "tinybiobert", "--data", text, "--teacher", made, "--steps", "2",
        "--run", str(tmp_path / "run"), "--json",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert found["teacher"]["perplexity"] == pytest.approx(figures["perplexity"], rel=1e-4)
    assert found["teacher"]["parameters"] > 5 * found["student"]["parameters"]
    assert found["oracle"]["perplexity"] is None
    assert files_of(made) == kept


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    teacher, text, tiny_teacher, tmp_path, capsys
):
    place = tmp_path / "run"
    given = ["--teacher", teacher, "--steps", "1"]
    for name, options, said in (
        ("distilbiobert", ["--alleles", text], "--alleles is for peptides and HLA"),
        ("distilbiobert", ["--match", "2i"], "--match is for recipes that compare layers"),
        ("protgpt2-tiny", ["--match", "2i"], "--match is for recipes that compare layers"),
        ("compactbiobert", ["--match", "0,1,2"], "each of the student's 2 layers"),
        ("compactbiobert", ["--match", "every"], "there is no layer map 'every'"),
        ("compactbiobert", ["--match", "0,4"], "layer 4"),
        ("compactbiobert", ["--weight", "cosine=1"],
         "no term 'cosine'; its terms are hard, soft, hidden, attention"),
        ("compactbiobert", ["--weight", "hidden=-1"], "expected 0 or more"),
        ("compactbiobert", ["--weight", "hidden=nan"], "expected 0 or more"),
        ("compactbiobert", ["--weight", "hidden=loud"], "hidden=loud"),
        ("compactbiobert", ["--weight", "hidden"], "--weight"),
        ("compactbiobert", ["--init", "random"], "2i+1:6 asks for 6 layers"),
        ("compactbiobert", ["--init", "random", "--match", "0,-,-,-,-,-"],
         "96 wide and the teacher's 16"),
        ("distilbiobert", ["--init", "random"], "96 wide and the teacher's 16"),
        ("tinybiobert", ["--variant", "as-read"], "no variant of tinybiobert called 'as-read'"),
        ("distilbiobert", ["--data", "nowhere.txt"], "there is no file nowhere.txt"),
        ("distilbiobert", ["--teacher", str(tiny_teacher)], "expected a masked language model"),
        ("protgpt2-tiny", ["--whole-words", "--teacher", str(tiny_teacher)], "--whole-words"),
    ):  # fmt: skip
        code, out, err = run(
            capsys, "distill", name, *given, *options, "--run", str(place), "--json"
        )
        assert code in (1, 2) and out == "", (name, options)
        assert said in err.splitlines()[-1], (name, options, err)
        assert not place.exists()


def test_a_map_that_does_not_fit_can_be_given_by_name_for_any_depth(teacher):
    options = {"init": "2i:1", "match": "last"}
    shop = open_shop("compactbiobert", teacher, **options)
    assert shop.student.matcher.attention_pairs == ((0, 3),)
    assert shop.student.matcher.hidden_pairs == ((1, 4),)


def test_a_configuration_with_these_options_comes_back_whole():
    config = RunConfig.from_recipe(
        "compactbiobert", match="uniform", weights={"hidden": 0.0}, whole_words=True
    )
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert replace(config, weights=None).to_json()["weights"] is None
