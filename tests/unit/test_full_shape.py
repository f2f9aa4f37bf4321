"""The published shapes with random weights: counts of parameters, tokenizers, one whole step."""

from __future__ import annotations

import math
import shutil

import pytest

from workbench import recipes, tasks
from workbench.bench import command, full_shape, random_teachers
from workbench.classifying import classifiers
from workbench.errors import UsageError, WorkbenchError
from workbench.hidden_words import masked_lm
from workbench.recipes import Shape

#: Counted in the published models' files and configurations.
PUBLISHED = {
    "ProtGPT2": ("protgpt2-tiny", "teacher", 774_030_080),
    "protgpt2-distilled-tiny": ("protgpt2-tiny", "student", 38_866_432),
    "protgpt2-distilled-small": ("protgpt2-small", "student", 81_912_576),
    "protgpt2-distilled-medium": ("protgpt2-medium", "student", 203_668_480),
    "BioBERT": ("distilbiobert", "teacher", 108_340_804),
    "DistilBioBERT": ("distilbiobert", "student", 65_813_572),
    "TinyBioBERT": ("tinybiobert", "student", 13_903_756),
    "CompactBioBERT": ("compactbiobert", "student", 65_813_572),
}


@pytest.mark.parametrize("title", PUBLISHED)
def test_recipes_have_the_published_number_of_parameters(title):
    name, role, expected = PUBLISHED[title]
    scale = recipes.get(name).scale("paper")
    assert tasks.of(name).count_parameters(getattr(scale, role), scale) == expected


def test_protein_berts_have_the_published_number_of_parameters():
    # ProtBert with its masked head, DistilProtBert, TAPE's bert-base (92 M) and half of it.
    for layers, expected in ((30, 419_933_214), (15, 230_989_854)):
        shape = Shape(layers=layers, heads=16, width=1024, positions=40_000, vocabulary=30)
        assert masked_lm.count_parameters(shape) == expected
    paper = recipes.get("distilbert-pmhc").scale("paper")
    head = 2 * 768 + 2
    assert classifiers.count_parameters(paper.teacher) - head == 91_961_856
    assert round((classifiers.count_parameters(paper.student) - head) / 1e6, 1) == 49.4


def test_tokenizers_have_the_published_number_of_tokens():
    shapes = {n: recipes.get(n).scale("paper").teacher for n in ("protgpt2-tiny", "distilbiobert")}
    proteins = random_teachers.protein_pieces(shapes["protgpt2-tiny"].vocabulary)
    assert len(proteins) == 50_257 and proteins.eos_token_id == 0
    text = "\n" + "MKVLAAGTRWYC" * 5 + "\nACD\n"
    ids = proteins(text)["input_ids"]
    assert proteins.decode(ids) == text
    assert len(text) / len(ids) > 2
    words = random_teachers.word_pieces(shapes["distilbiobert"].vocabulary)
    assert len(words) == 28_996 and words.pad_token_id == 0
    assert words.decode(words("Gefitinib inhibits EGFR.")["input_ids"][1:-1]) == (
        "Gefitinib inhibits EGFR."
    )
    assert len(random_teachers.protein_pieces(300)) == len(random_teachers.word_pieces(300)) == 300


def test_a_whole_step_at_full_shape(tmp_path):
    """TinyBioBERT, whose student is the smallest: the ordinary command in its own process."""
    place = tmp_path / "full"
    try:
        made = full_shape._child("teacher", "tinybiobert", str(place / "teacher"))
        assert made["parameters"] == PUBLISHED["BioBERT"][2]
        sizes = full_shape.Sizes(rows=5, batch_size=4, length=24)
        found = full_shape.one("tinybiobert", place / "teacher", place / "run", sizes)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert found["teacher_parameters"] == PUBLISHED["BioBERT"][2]
    assert found["student_parameters"] == PUBLISHED["TinyBioBERT"][2]
    # The baseline's; the student's own soft term keeps the teacher's entropy.
    assert found["chunked_losses"] == 1
    assert math.isfinite(found["loss"])
    assert 0.8 < found["peak_memory_gb"] < 4


def test_a_run_that_fails_says_which_and_why(tmp_path):
    with pytest.raises(WorkbenchError, match=r"ended with 1: .*there is no model directory"):
        full_shape.one("tinybiobert", tmp_path / "no/such/teacher", tmp_path / "run")


def test_names_are_for_measurements_that_have_parts(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="bench step measures all of it; leave tinybiobert out"):
        command.run("step", tmp_path, names=["tinybiobert"])
    with pytest.raises(UsageError, match="no recipe 'tiny'; the recipes are protgpt2-tiny"):
        command.run("full-shape", tmp_path, names=["tiny"])
    row = {"peak_memory_gb": 21.0}
    monkeypatch.setattr(full_shape, "measure", lambda names=(): {"recipes": {"x": row}})
    assert command.run("full-shape", tmp_path, names=["x"])["command"].endswith("full-shape x")
    assert list(tmp_path.iterdir()) == []
    command.run("full-shape", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["full_shape.json"]
