"""Teachers: trained from nothing to the same bytes, from the world or from a file."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace

import pytest

from workbench import export, models, storage
from workbench.errors import UsageError, WorkbenchError
from workbench.progress import Silent
from workbench.teaching import teachers
from workbench.worlds import proteins


@pytest.fixture(autouse=True)
def brief_evaluation(monkeypatch):
    """Held-out perplexity once, of a hundred proteins: it would be most of a short training."""
    plans = {
        n: replace(plan, validation_sequences=100, evaluations=1)
        for n, plan in teachers.PLANS.items()
    }
    monkeypatch.setattr(teachers, "PLANS", plans)


def test_teaching_twice_gives_the_same_bytes_and_another_seed_others(tmp_path):
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        teachers.teach("protgpt2", out=tmp_path / name, steps=2, seed=seed, progress=Silent())
        made[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert made["a"] == made["b"]
    assert made["a"] != made["c"]


def test_teacher_learns_and_its_card_holds_the_figures_that_were_measured(tmp_path):
    figures = teachers.teach("protgpt2", out=tmp_path / "t", steps=30, progress=Silent())
    assert figures["perplexity"] < 20 < 21
    assert figures["ratio_to_oracle"] == figures["perplexity"] / figures["oracle_perplexity"]
    card = (tmp_path / "t" / "README.md").read_text()
    assert f"| held-out perplexity | {figures['perplexity']:.4f} |" in card
    assert "workbench teach protgpt2 --steps 30" in card
    assert figures["fingerprint"] in card
    model, tokenizer, _ = models.load_causal_lm(tmp_path / "t")
    assert models.fingerprint(model) == figures["fingerprint"]
    assert model.config.sequence_format == "plain"
    assert len(tokenizer) == len(proteins.SYMBOLS)


def test_teacher_from_a_file_and_a_student_of_it(tmp_path):
    from workbench import runs

    fasta = tmp_path / "some.fasta"
    fasta.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(proteins.sample(80, 5))))
    figures = teachers.teach(
        "protgpt2", data=str(fasta), out=tmp_path / "t", steps=3, progress=Silent()
    )
    assert figures["oracle_perplexity"] is None
    assert "some.fasta" in (tmp_path / "t" / "README.md").read_text()
    results = runs.distill(
        "protgpt2-tiny", tmp_path / "run", progress=Silent(), teacher=str(tmp_path / "t"),
        data=str(fasta), steps=3,
    )  # fmt: skip
    assert results["oracle"]["perplexity"] is None
    assert results["teacher"]["perplexity"] == pytest.approx(figures["perplexity"], rel=1e-4)
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results


def test_built_in_teacher_is_there_small_and_close_to_the_oracle():
    """Its card was written by the command; here the figure is measured again."""
    from workbench import corpora, metrics, tasks
    from workbench.config import RunConfig

    place = models.BUILT_IN_TEACHERS / "protgpt2"
    assert (place / "model.safetensors").stat().st_size <= 6_000_000
    assert (
        models.fingerprint(models.load_causal_lm("protgpt2")[0])
        in (place / "README.md").read_text()
    )
    model, tokenizer, _ = models.load_causal_lm("protgpt2")
    corpus = tasks.of("protgpt2-tiny").load_corpus(RunConfig.from_recipe("protgpt2-tiny"))
    _, held_out = corpora.tokenise_split(corpus, tokenizer, "plain", 128)
    batches = corpora.make_batches(held_out, 64, tokenizer.eos_token_id)
    quality = metrics.evaluate(model, batches, held_out.residues)
    oracle = metrics.oracle_quality(corpus.validation["sequence"][:])
    assert oracle.perplexity < quality.perplexity <= 1.10 * oracle.perplexity


def test_built_in_classifier_is_there_small_and_close_to_the_oracle():
    """Its card was written by the command; here the gap is measured again, on fewer pairs."""
    from workbench.classifying import binding, classification, classifiers, pairs

    place = models.BUILT_IN_TEACHERS / "pmhc"
    assert (place / "model.safetensors").stat().st_size <= 6_000_000
    model, tokenizer, _ = classifiers.load("pmhc")
    assert models.fingerprint(model) in (place / "README.md").read_text()
    assert model.config.num_hidden_layers == 8
    world = pairs.seen_world()
    records = world.sample(3000, seed=77)
    pseudo_sequences = {a.name: a.pseudo_sequence for a in world.alleles}
    answers = binding.score_pairs(model, tokenizer, records, pseudo_sequences)
    truth = world.oracle_batch([r.peptide for r in records], [r.allele for r in records])
    labels = [r.label for r in records]
    best = classification.roc_auc(labels, truth)
    # 0.0075 on the 6,000 pairs of the card.
    assert best - 0.012 < classification.roc_auc(labels, answers) < best


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(UsageError, match="there is no teacher 'x'"):
        teachers.teach("x")
    (tmp_path / "thesis.txt").write_text("keep")
    with pytest.raises(WorkbenchError, match="holds something else"):
        teachers.teach("protgpt2", out=tmp_path, steps=1, progress=Silent())
    with pytest.raises(WorkbenchError, match=r"thesis.txt is a file; expected a directory"):
        teachers.teach("protgpt2", out=tmp_path / "thesis.txt", steps=1, progress=Silent())


def test_a_run_is_never_replaced_by_a_teacher_and_a_teacher_is(tiny_teacher, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_teacher, run / "student")
    (run / "config.json").write_text('{"format": "workbench run 1"}')
    with pytest.raises(WorkbenchError, match=r"holds something else \(config.json\)"):
        teachers.teach("protgpt2", out=run, steps=1, progress=Silent())
    assert (run / "student" / "model.safetensors").exists()
    shutil.rmtree(run / "student")  # it has only begun
    with pytest.raises(WorkbenchError, match=r"holds something else \(config.json\)"):
        teachers.teach("protgpt2", out=run, steps=1, progress=Silent())
    # An earlier teacher may be replaced, one with a chapter of a thesis beside it not.
    place = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, place)
    storage.check_free(place, "teacher", export.is_model)
    (place / "chapter.txt").write_text("keep")
    with pytest.raises(WorkbenchError, match="holds something else"):
        teachers.teach("protgpt2", out=place, steps=1, progress=Silent())


def test_here_is_a_place_and_the_card_repeats_the_command(tmp_path, monkeypatch):
    """From a packed file, whose name needs quotes."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    file = tmp_path / "my `own` proteins.fasta.gz"
    text = "".join(f">{i}\n{s}\n" for i, s in enumerate(proteins.sample(60, seed=3)))
    file.write_bytes(gzip.compress(text.encode()))
    teachers.teach("protgpt2", data=str(file), out=".", steps=2, seed=5, progress=Silent())
    card = (here / "README.md").read_text()
    command = (
        "workbench teach protgpt2 --data 'my `own` proteins.fasta.gz' --seed 5 --steps 2 --out DIR"
    )
    assert f"```sh\n{command}\n```" in card
    assert "my \\`own\\` proteins.fasta.gz" in card
