"""Runs on large sources: the student of the same file in memory, and a teacher that is not kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench import corpora, models, storage, teacher_cache, workshop
from workbench.config import RunConfig
from workbench.on_disk import large_corpora
from workbench.on_disk.stored_rows import StoredBatches
from workbench.progress import Silent
from workbench.records import streams
from workbench.teacher_cache import CachedTeacher, LiveTeacher
from workbench.worlds import biomedical, proteins


class Heard(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def stage(self, text: str) -> None:
        self.told.append(text)

    def note(self, text: str) -> None:
        self.told.append(text)


def trained(config: RunConfig, progress, steps: int = 3) -> tuple[workshop.Workshop, str]:
    """A workshop after some steps, and the bytes of its student."""
    shop = workshop.prepare(config, progress)
    order = corpora.endless_order(len(shop.train_batches), config.seed)
    for step in range(1, steps + 1):
        shop.student.step(shop.batch(next(order), step))
    return shop, models.fingerprint(shop.student.student)


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Makes any file large, and keeps what is made of it here."""

    def switch() -> None:
        monkeypatch.setattr(streams, "LARGE", 1)

    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return switch


def test_a_run_on_a_large_file_makes_the_student_of_the_same_file_in_memory(
    large, tiny_teacher, tmp_path, monkeypatch
):
    path = tmp_path / "a.fasta"
    sequences = [*proteins.sample(120, seed=8), "12"]
    path.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(sequences)))
    config = RunConfig.from_recipe(
        "protgpt2-tiny", teacher=str(tiny_teacher), data=str(path), steps=3, batch_size=8
    )
    small, wanted = trained(config, Silent())
    assert isinstance(small.train_batches, list) and isinstance(small.teacher, CachedTeacher)
    large()
    # With the teacher's answers kept, and not kept.
    for limit, kind in ((teacher_cache.LARGEST, CachedTeacher), (10**5, LiveTeacher)):
        monkeypatch.setattr(teacher_cache, "LARGEST", limit)
        heard = Heard()
        shop, found = trained(config, heard)
        assert found == wanted
        assert isinstance(shop.train_batches, StoredBatches) and isinstance(shop.teacher, kind)
        assert isinstance(shop.corpus, large_corpora.LargeCorpus)
        assert shop.validation.residues == small.validation.residues
        quality = [s.student.evaluate(s.validation_batches, s.validation.residues)
                   for s in (shop, small)]  # fmt: skip
        assert quality[0] == quality[1]
        assert sum("1 records left out" in text for text in heard.told) == 1
        asked = [text for text in heard.told if "asked at every step" in text]
        assert bool(asked) == (kind is LiveTeacher)
    tokens = sum(batch.tokens for batch in small.train_batches)
    assert teacher_cache.answer_bytes(shop.teacher, shop.train_batches) == tokens * 16 * 4
    assert asked[0].endswith("its answers would take 371 kB")


def test_hidden_words_of_a_large_file_are_those_of_the_same_file_in_memory(large, tmp_path):
    path = Path(tmp_path / "a.txt")
    path.write_text("\n".join(s.text for s in biomedical.sample(150, seed=8)))
    config = RunConfig.from_recipe("distilbiobert", data=str(path), steps=2, batch_size=8)
    small, wanted = trained(config, Silent(), 2)
    large()
    shop, found = trained(config, Silent(), 2)
    assert found == wanted
    assert isinstance(shop.train_batches, StoredBatches)
    for index, step in ((0, 1), (3, 7)):
        one, other = shop.batch(index, step), small.batch(index, step)
        assert one.labels.tolist() == other.labels.tolist()
        assert one.input_ids.tolist() == other.input_ids.tolist()


def test_answers_that_the_disk_has_no_room_for_are_not_kept(tiny_teacher, tmp_path, monkeypatch):
    model, tokenizer, _ = models.load_causal_lm(str(tiny_teacher))
    rows = corpora.tokenise(proteins.sample(20, seed=1), tokenizer, "plain", 64)
    batches = corpora.make_batches(rows, 8, tokenizer.eos_token_id)
    live, told = LiveTeacher(model), []
    size = teacher_cache.answer_bytes(live, batches)
    assert size == sum(batch.tokens for batch in batches) * 16 * 4  # 16 wide, 21 tokens: states

    def decided() -> object:
        return teacher_cache.kept_or_live(live, batches, directory=tmp_path / "a", note=told.append)

    monkeypatch.setattr(teacher_cache, "LARGEST", size)
    monkeypatch.setattr(storage, "free_bytes", lambda _: size - 1)
    assert decided() is live and not (tmp_path / "a").exists() and len(told) == 1
    monkeypatch.setattr(storage, "free_bytes", lambda _: size)
    assert isinstance(decided(), CachedTeacher) and len(told) == 1
    monkeypatch.setattr(teacher_cache, "LARGEST", size - 1)
    assert decided() is live
