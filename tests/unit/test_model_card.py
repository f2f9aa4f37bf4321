"""The model card: written from the run, valid for the hub, and true in a plain environment."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from plain_environment import plain_environment, run_in

from workbench import export, models, recipes, runs, tasks
from workbench.cards import card_text, citations, model_card
from workbench.cards.model_card import Made
from workbench.config import RunConfig
from workbench.events import Event
from workbench.tasks.task import ROW_KEYS

RECIPES = ("protgpt2-tiny", "distilbert-pmhc", "compactbiobert")
NASTY = "a|b`c`<script>[x](y)*_# \n---\nlicense: mit\n.csv"


def made(name: str, **options) -> Made:
    """A card's contents with figures that are easy to recognise."""
    config = RunConfig.from_recipe(name, steps=40, **options)
    row = dict.fromkeys((*ROW_KEYS, "matthews", "top1", "top5", "entity_f1", "groups"))
    figures = {
        "parameters": 1000, "perplexity": 8.5, "accuracy": 0.75, "f1": 0.7, "auc": 0.8,
        "intervals": {"perplexity": [8.25, 8.75], "f1": [0.6, 0.8]}, "latency_ms": 2.0,
        "tokens_per_second": 10.0, "peak_memory_mb": 3.0,
    }  # fmt: skip
    rows = {name: {**row, **figures} for name in ("teacher", "student", "baseline")}
    results = {
        "recipe": name, "variant": config.variant, "run": "/home/somebody/secret/run", "steps": 40,
        "seconds": 1.0, "seed": config.seed, "oracle": row, **rows, "kept": None,
        "without_hla": None,
    }  # fmt: skip
    task = tasks.of(name)
    _, tokenizer, _ = task.load_model(recipes.get(name).scale("classroom").teacher_source)
    formula = recipes.get(name).variant(config.variant).objective
    return Made(
        config=config, results=results, formula=formula.formula(config.temperature, config.alpha),
        trained_on=100, held_out=20, tokenizer=tokenizer, positions=64,
        versions={"torch": "2.13.0+cpu"}, machine="a machine",
    )  # fmt: skip


# ---------------------------------------------------------------------- where it is used


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the code of three cards prints where there is nothing but transformers and torch."""
    place = tmp_path_factory.mktemp("students")
    jobs = []
    for name in RECIPES:
        card = made(name)
        model, tokenizer, _ = tasks.of(name).load_model(card.config.teacher)
        export.save_model(place / name, model, tokenizer)
        (place / name / "README.md").write_text(model_card.text(card), encoding="utf-8")
        jobs.append(str(place / name))
    environment = plain_environment(place / "environment", "transformers", "torch")
    program = (
        "import contextlib, io, json, os, re, sys\n"
        "import torch\n"
        "absent = {}\n"
        "for name in ('workbench', 'sklearn', 'accelerate', 'datasets'):\n"
        "    try:\n"
        "        __import__(name)\n"
        "    except ImportError as error:\n"
        "        absent[name] = str(error)\n"
        "printed = {}\n"
        "for place in sys.argv[1:]:\n"
        "    os.chdir(place)\n"
        "    code = re.search(r'```python\\n(.*?)\\n```', open('README.md').read(), re.S)[1]\n"
        "    torch.manual_seed(0)\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        exec(code, {})\n"
        "    printed[os.path.basename(place)] = out.getvalue().splitlines()\n"
        "os.chdir(sys.argv[1])\n"
        "from transformers import pipeline\n"
        "write = pipeline('text-generation', model='.')\n"
        "longest = write('<|endoftext|>', min_length=128, num_return_sequences=2)\n"
        "lengths = [len(write.tokenizer(a['generated_text'])['input_ids']) for a in longest]\n"
        "print(json.dumps([sorted(absent), printed, lengths]))\n"
    )
    said = run_in(environment, program, *jobs)
    return json.loads(said.splitlines()[-1])


def test_the_environment_is_plain(answers):
    assert answers[0] == ["accelerate", "datasets", "sklearn", "workbench"]


def test_a_card_of_a_generator_writes_proteins(answers):
    lines = answers[1]["protgpt2-tiny"]
    assert len(lines) == 3 and len(set(lines)) == 3
    assert all(re.fullmatch("[ACDEFGHIKLMNPQRSTVWY]{5,}", line) for line in lines)


def test_a_generator_stops_where_its_positions_end(answers):
    # Told not to stop early, it fills its 128 positions instead of going on to the pipeline's 256.
    assert answers[2] == [128, 128]


def test_a_card_of_a_classifier_tells_a_binder_from_another(answers):
    first, second = answers[1]["distilbert-pmhc"]
    assert re.fullmatch(r"SPRWYFYYL binder 0\.\d+", first)
    assert re.fullmatch(r"SDRWYFYYD non-binder 0\.\d+", second)


def test_a_card_of_a_masked_model_fills_in_words(answers):
    lines = answers[1]["compactbiobert"]
    assert lines[0].split()[0] == "EGFR" and len(lines) == 3
    assert all(re.fullmatch(r"\S+ \d\.\d+(e-\d+)?", line) for line in lines)


# ---------------------------------------------------------------------- what it says


@pytest.mark.parametrize("name", RECIPES)
def test_the_card_holds_what_it_must_and_the_hub_reads_its_head(name):
    card = made(name)
    text = model_card.text(card)
    head = ModelCard(text).data
    assert (head.pipeline_tag, head.library_name) == (tasks.of(name).name, "transformers")
    assert name in head.tags and head.license is None and head.base_model is None
    assert head.eval_results[0].dataset_name == f"{card.config.data}, held out"
    sections = re.findall("^## (.*)$", text, re.M)
    assert sections == [
        "Use", "Recipe", "Data", "Results", "Limits", "How it was made", "Citation",
    ]  # fmt: skip
    recipe = recipes.get(name)
    for part in (
        card.formula, recipe.title, recipe.variant("corrected").source, "not on nature",
        "Not for clinical", "hinton2015distilling", "torch 2.13.0+cpu",
        "Trained on 100 rows", "judged on 20 held out", citations.bibtex(recipe.sources),
    ):  # fmt: skip
        assert part in text, part
    assert ("8.500 (8.250 to 8.750)" in text) == (name != "distilbert-pmhc")
    assert ("0.700 (0.600 to 0.800)" in text) == (name == "distilbert-pmhc")
    assert "secret" not in text


def test_ids_of_the_hub_are_linked_and_paths_are_not_told(tmp_path):
    data = tmp_path / "private" / "my proteins.fasta"
    data.parent.mkdir()
    data.write_text(">a\nACD\n")
    text = model_card.text(made("protgpt2-tiny", teacher="nferruz/ProtGPT2", data=str(data)))
    head = ModelCard(text).data
    assert head.base_model == "nferruz/ProtGPT2" and head.datasets is None
    assert "private" not in text and str(tmp_path) not in text
    assert "--data 'my proteins.fasta'" in text and "one sequence in ten" in text
    text = model_card.text(made("protgpt2-tiny", data="nferruz/UR50_2021_04"))
    assert ModelCard(text).data.datasets == ["nferruz/UR50_2021_04"]


def test_what_a_user_typed_changes_nothing_but_itself():
    plain = model_card.text(made("distilbert-pmhc", data="binding.csv"))
    nasty = model_card.text(made("distilbert-pmhc", data=NASTY, teacher=NASTY))
    for mark in ("^---$", "^#+ ", "^license", "^```"):
        assert len(re.findall(mark, plain, re.M)) == len(re.findall(mark, nasty, re.M)), mark
    assert ModelCard(nasty).data.license is None
    body = nasty.split("\n---\n", 1)[1]
    assert "<script>" not in re.sub(r"```.*?```", "", body, flags=re.S)
    rows = [line for line in body.splitlines() if line.startswith("| teacher | ")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 6) for line in rows) and rows


def test_code_cannot_leave_its_block():
    text = card_text.fenced("a\n````\nb")
    assert text.startswith("`````\n") and text.endswith("\n`````")


def test_a_student_slower_than_its_teacher_is_called_slower():
    card = made("protgpt2-tiny")
    assert "1.0 × shorter latency" in model_card.text(card)
    card.results["student"] |= {"latency_ms": 3.0, "tokens_per_second": 4.0}
    text = model_card.text(card)
    assert "1.5 × longer latency, 2.5 × fewer tokens/s" in text and "0.7 ×" not in text


def test_what_speed_was_measured_on_is_where_the_student_is(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert export._measured_on(torch.device("cuda", 1)) == "GPU 1"
    assert export._measured_on(torch.device("cpu")).endswith(" in use")


def test_changes_by_hand_are_told():
    card = replace(made("protgpt2-tiny"), changes=[Event(9, "temperature", 10.0, 4.0)])
    text = model_card.text(card)
    assert "- from step 10: temperature = 4" in text and "workbench replay" in text


@pytest.mark.parametrize("name", recipes.names())
def test_every_source_of_every_recipe_can_be_cited(name):
    found = citations.bibtex(recipes.get(name).sources)
    assert found.count("\n@") == len(recipes.get(name).sources)
    assert found.count("{") == found.count("}")


def test_the_command_repeats_the_run():
    config = RunConfig.from_recipe(
        "compactbiobert", variant="as-coded", temperature=3, alpha=1 / 6, steps=7, seed=2,
        teacher="/there/my teacher", match="-,2", weights={"hard": 0.1}, whole_words=True,
        batch_size=5, size="2",
    )  # fmt: skip
    assert model_card.command(config) == (
        "workbench distill compactbiobert --variant as-coded --temperature 3 "
        "--alpha 0.16666666666666666 --steps 7 --seed 2 --teacher 'my teacher' --size 2 "
        "--match -,2 --batch-size 5 --weight hard=0.1 --whole-words"
    )
    # A precision that came from a launcher: the next one may be without it.
    with pytest.MonkeyPatch.context() as launched:
        launched.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        half = RunConfig.from_recipe("protgpt2-tiny", steps=7)
        assert half.precision == "bfloat16"
        assert model_card.command(half).endswith("--precision bfloat16")
    config = RunConfig.from_recipe("protgpt2-tiny", steps=7, train_sequences=9)
    call = model_card.command(config)
    assert call.startswith("import workbench\n\nworkbench.distill(")
    called = eval(call.split("workbench.distill", 1)[1].replace("(", "RunConfig.from_recipe(", 1))
    assert called == config


def test_the_card_of_a_run_has_its_figures_and_no_path_leaves(tmp_path, tiny_teacher):
    found = runs.distill(
        "protgpt2-tiny", tmp_path / "run", teacher=str(tiny_teacher), steps=2, batch_size=8,
        train_sequences=24, validation_sequences=12, brief=True,
    )  # fmt: skip
    student = tmp_path / "run" / "student"
    text = (student / "README.md").read_text(encoding="utf-8")
    for row in ("oracle", "teacher", "student", "baseline"):
        low, high = found[row]["intervals"]["perplexity"]
        assert low < found[row]["perplexity"] < high
        assert f"{found[row]['perplexity']:.3f} ({low:.3f} to {high:.3f})" in text
    assert "Trained on 24 rows" in text and "judged on 12 held out" in text
    for file in student.iterdir():
        if file.suffix in (".json", ".md"):
            assert str(tmp_path.parent) not in file.read_text(encoding="utf-8"), file
    model, tokenizer, _ = models.load_causal_lm(student)
    assert tokenizer.model_max_length == model.config.max_position_embeddings
