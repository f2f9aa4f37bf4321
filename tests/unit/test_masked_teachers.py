"""Teachers that tell hidden words: trained from nothing, from the world or from a user's text."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench import corpora, models, recipes
from workbench.errors import UsageError, WorkbenchError
from workbench.hidden_words import masked_lm, masked_words, texts
from workbench.hidden_words.masking import Masker
from workbench.progress import Silent
from workbench.recipes import Shape
from workbench.teaching import masked_teachers, teachers
from workbench.worlds import biomedical

TINY = Shape(layers=2, heads=2, width=24, positions=64, vocabulary=1)


@pytest.fixture(scope="module")
def built_in():
    """A tokenizer with a piece for every word of the world, and few more."""
    return masked_lm.word_pieces([" ".join(biomedical.default_world().words)], size=4000)


@pytest.fixture(autouse=True)
def small_and_brief(monkeypatch, built_in):
    plan = teachers.PLANS["biobert"]
    plan = replace(plan, batch_size=16, validation_sequences=60, warmup=2, evaluations=1)
    monkeypatch.setitem(teachers.PLANS, "biobert", plan)
    recipe = copy.copy(recipes.get(masked_teachers.RECIPE))
    scale = replace(recipe.scale("classroom"), teacher=TINY)
    monkeypatch.setattr(
        masked_teachers.recipes, "get",
        lambda name, get=recipes.get: (
            replace(recipe, scales={**recipe.scales, "classroom": scale})
            if name == recipe.name else get(name)
        ),
    )  # fmt: skip
    monkeypatch.setattr(masked_teachers, "built_in_tokenizer", lambda: built_in)


def teach(place, **options) -> dict:
    return teachers.teach("biobert", out=place, progress=Silent(), **options)


# ---------------------------------------------------------------------- from the world


def test_teaching_twice_gives_the_same_bytes_and_another_seed_others(tmp_path):
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(made))
        teach(tmp_path / name, steps=3, seed=seed)
        made[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_a_teacher_learns_and_its_card_holds_the_figures_that_were_measured(tmp_path, built_in):
    figures = teach(tmp_path / "t", steps=40)
    before = teach(tmp_path / "u", steps=1)
    assert figures["perplexity"] < 0.7 * before["perplexity"]
    assert figures["steps"] == 40 and figures["teacher"] == str(tmp_path / "t")
    assert figures["oracle_perplexity"] == before["oracle_perplexity"]
    assert figures["ratio_to_oracle"] == figures["perplexity"] / figures["oracle_perplexity"] > 1
    assert 0 <= figures["top1"] <= figures["top5"] <= 1
    card = (tmp_path / "t" / "README.md").read_text()
    for part in (
        "# Classroom teacher: biobert",
        "pipeline_tag: fill-mask",
        "A cased BERT with 2 layers, 24 wide, and",
        "Trained on a world of this workbench",
        "workbench teach biobert --steps 40",
        f"| held-out perplexity | {figures['perplexity']:.4f} |",
        f"| hidden words that it puts first | {figures['top1']:.4f} |",
        f"| oracle's perplexity | {figures['oracle_perplexity']:.4f} |",
        figures["fingerprint"],
    ):
        assert part in card, part
    model, tokenizer, _ = masked_lm.load(tmp_path / "t")
    assert models.fingerprint(model) == figures["fingerprint"]
    assert models.parameters(model) == figures["parameters"]
    assert model.config.vocab_size == len(tokenizer) == len(built_in)
    assert tokenizer.get_vocab() == built_in.get_vocab()
    (answer,) = masked_words.answer(model, tokenizer, "[MASK] inhibits EGFR .")
    assert sum(answer.values()) == pytest.approx(1)


def test_held_out_figures_are_of_hidden_words_of_the_world(tmp_path):
    """Measured again, a sentence at a time."""
    figures = teach(tmp_path / "t", steps=2)
    model, tokenizer, _ = masked_lm.load(tmp_path / "t")
    corpus = texts.load("world:biomedical", train_sentences=1, validation_sentences=60)
    rows = texts.tokenise(corpus.validation, tokenizer, 64)
    masker = Masker(tokenizer, len(tokenizer))
    nll, right, told, truth = 0.0, 0, 0, 0.0
    world = biomedical.default_world()
    # Sixty sentences make one batch.
    for batch in corpora.make_batches(rows, masked_teachers.EVALUATION_BATCH, 0):
        batch = masker.hide(batch, seed=masked_teachers.HELD_OUT_SEED)
        at = 0
        for number, member in enumerate(batch.members):
            places = batch.masked[number].nonzero()[:, 0]
            row = batch.input_ids[number, : batch.lengths[number]]
            assert (row[places] == tokenizer.mask_token_id).all()
            labels = batch.labels[at : at + len(places)]
            at += len(places)
            logits = model(input_ids=row[None]).logits[0, places].double().log_softmax(-1)
            nll -= logits.gather(1, labels[:, None]).sum().item()
            right += (logits.argmax(-1) == labels).sum().item()
            words = corpus.tagged[1][member].words
            answer = world.oracle_masked(words, (places - 1).tolist())
            known = [world.index(words[i]) for i in (places - 1).tolist()]
            truth -= np.log(answer.probabilities[np.arange(len(known)), known]).sum()
            told += len(labels)
    assert figures["perplexity"] == pytest.approx(np.exp(nll / told), rel=1e-4)
    assert figures["oracle_perplexity"] == pytest.approx(np.exp(truth / told), rel=1e-5)
    assert figures["top1"] == pytest.approx(right / told)


def test_the_stream_never_repeats_and_its_signal_is_of_the_batch_last_given(built_in):
    masker = Masker(built_in, len(built_in))
    stream, again, other = (
        masked_teachers.Stream(built_in, masker, 8, 64, seed) for seed in (0, 0, 1)
    )
    seen = set()
    for draw in range(2 * corpora.POOL + 3):  # into the third pool
        batch = next(stream)
        same, different = next(again), next(other)
        assert torch.equal(batch.input_ids, same.input_ids)
        assert torch.equal(batch.labels, same.labels)
        assert not (
            batch.input_ids.shape == different.input_ids.shape
            and torch.equal(batch.input_ids, different.input_ids)
        )
        seen.add(tuple(batch.input_ids.flatten().tolist()))
        assert len(seen) == draw + 1
        if draw % 5 == 0 or draw >= corpora.POOL:
            answer = stream.signal(batch, batch.masked).stored
            assert answer.shape == (len(batch.labels), len(built_in))
            own = answer[torch.arange(len(batch.labels)), batch.labels]
            # What stood there was possible: the signal belongs to these sentences.
            assert (own > np.log(1e-6)).all()
            torch.testing.assert_close(
                answer.exp().sum(1), torch.ones(len(answer)), rtol=1e-4, atol=0
            )


def test_the_world_teaches_by_its_oracle_and_a_text_by_its_words(tmp_path, monkeypatch):
    class Told(Exception):
        pass

    def tell(model, objective, teacher, *, alpha, temperature, **rest):
        raise Told(type(teacher).__name__, alpha, temperature, objective.scores)

    monkeypatch.setattr(masked_teachers, "Distiller", tell)
    with pytest.raises(Told) as told:
        teach(tmp_path / "t", steps=1)
    assert told.value.args == ("Stream", 0.0, 1.0, "masked")
    file = tmp_path / "some.txt"
    file.write_text("\n".join(lines()), encoding="utf-8")
    with pytest.raises(Told) as told:
        teach(tmp_path / "t", data=str(file), steps=1)
    assert told.value.args == ("NoneType", 1.0, 1.0, "masked")


# ---------------------------------------------------------------------- from a text


def lines() -> list[str]:
    return [s.text for s in biomedical.sample(80, seed=21)]


def test_a_text_trains_a_teacher_with_a_tokenizer_of_its_own(tmp_path):
    file = tmp_path / "abstracts.txt"
    file.write_text("\n".join(["Zebrafish swim .", "Zebrafish glow .", *lines()]), encoding="utf-8")
    figures = teach(tmp_path / "t", data=str(file), steps=3)
    assert figures["steps"] == 3
    assert figures["oracle_perplexity"] is figures["ratio_to_oracle"] is None
    card = (tmp_path / "t" / "README.md").read_text()
    assert "Trained on abstracts.txt" in card and str(tmp_path) not in card
    assert "workbench teach biobert --data abstracts.txt --steps 3 --out DIR" in card
    assert "oracle" not in card
    model, tokenizer, _ = masked_lm.load(tmp_path / "t")
    assert models.fingerprint(model) == figures["fingerprint"]
    assert not corpora.held_out("Zebrafish swim .")
    assert tokenizer.tokenize("Zebrafish") == ["Zebrafish"]
    assert model.config.vocab_size == len(tokenizer)
    # A student's run may read the same file with the teacher's pieces.
    rows = texts.tokenise(lines(), tokenizer, model.config.max_position_embeddings)
    assert all(tokenizer.unk_token_id not in row for row in rows.tokens)


def test_a_text_is_gone_through_some_times_in_orders_and_masks_of_the_seed(tmp_path, monkeypatch):
    pieces = masked_lm.word_pieces(lines(), size=500)
    monkeypatch.setattr(masked_teachers, "_tokenizer_of", lambda lines: pieces)
    file = tmp_path / "some.txt"
    file.write_text("\n".join(lines()), encoding="utf-8")
    rows = len(texts.load(str(file)).train)
    figures = teach(tmp_path / "a", data=str(file))
    assert figures["steps"] == masked_teachers.FILE_EPOCHS * -(-rows // 16)
    made = {"a": (tmp_path / "a" / "model.safetensors").read_bytes()}
    for name, seed in (("b", 0), ("c", 1)):
        teach(tmp_path / name, data=str(file), seed=seed)
        made[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_a_column_and_notes_are_passed_on(tmp_path):
    class Heard(Silent):
        notes: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.notes.append(text)

    file = tmp_path / "some.csv"
    file.write_text("id,body\n" + "".join(f'{i},"{s}"\n' for i, s in enumerate(lines())) + "1,...")
    with pytest.raises(WorkbenchError, match="expected one called text or sentence"):
        teach(tmp_path / "t", data=str(file), steps=1)
    assert not (tmp_path / "t" / "config.json").exists()
    teachers.teach(
        "biobert", out=tmp_path / "t", data=str(file), column="body", steps=1, progress=Heard()
    )
    assert Heard.notes == [f"note: {file}: 1 line without a word left out"]


# ---------------------------------------------------------------------- what is refused


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("One line .\n")
    for options, kind, said in (
        ({"data": str(file)}, WorkbenchError, "makes one block of 64 tokens only"),
        ({"data": str(tmp_path / "none.txt")}, WorkbenchError, "there is no file"),
        ({"data": str(tmp_path)}, WorkbenchError, "is a directory"),
        ({"steps": 0}, UsageError, "steps is 0; expected at least 1"),
        ({"alleles": "a.csv"}, UsageError, "--alleles and --base are for the teacher pmhc"),
        ({"base": "some"}, UsageError, "--alleles and --base are for the teacher pmhc"),
    ):
        with pytest.raises(kind, match=said) as error:
            teach(tmp_path / "t", **options)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="needs --out DIR"):
        teachers.teach("biobert", data=str(file), progress=Silent())
    with pytest.raises(WorkbenchError, match=r"holds something else \(.*an earlier teacher"):
        teach(tmp_path, steps=1)


@pytest.mark.parametrize("seed", [-1, -5])
def test_a_seed_below_zero_is_refused_in_one_line(tmp_path, seed):
    with pytest.raises(UsageError, match=f"seed is {seed}; expected") as error:
        teach(tmp_path / "t", steps=1, seed=seed)
    assert "\n" not in str(error.value)
