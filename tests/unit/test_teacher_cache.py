"""The teacher cache: the same bytes as the live teacher, and never those of another one."""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from workbench import corpora, models, teacher_cache
from workbench.corpora import Batch
from workbench.distiller import Distiller, Schedule
from workbench.errors import WorkbenchError
from workbench.objective import Objective, TeacherSignal
from workbench.recipes import Shape
from workbench.teacher_cache import CachedTeacher, LiveTeacher, cache_key, open_cache

SEQUENCES = ["ACDEFGHIK", "MKV", "WWYYTTSSRRQQPPNN", "LL", "GAVLIMFYW", "KRKRKR", "C", "HHHHH"]


@pytest.fixture(scope="module")
def live(tiny_teacher) -> LiveTeacher:
    return LiveTeacher(models.load_causal_lm(tiny_teacher)[0])


@pytest.fixture(scope="module")
def wide() -> LiveTeacher:
    """A teacher whose hidden states are wider than its vocabulary: its logits are kept."""
    shape = Shape(2, 2, 32, 64, len(models.residue_tokenizer()))
    model = models.build_causal_lm(shape, activation="gelu_new", seed=3)
    return LiveTeacher(model.requires_grad_(False))


def batches_of(sequences: list[str], size: int = 3, block: int = 128) -> list[Batch]:
    rows = corpora.tokenise(sequences, models.residue_tokenizer(), "plain", block)
    return corpora.make_batches(rows, size, pad=0)


@pytest.fixture
def batches() -> list[Batch]:
    return batches_of(SEQUENCES)


@pytest.fixture
def large() -> LiveTeacher:
    """A teacher whose vocabulary is much larger than its hidden states are wide."""
    shape = Shape(2, 2, 8, 64, 3000)
    model = models.build_causal_lm(shape, activation="gelu_new", seed=3)
    return LiveTeacher(model.requires_grad_(False))


def same_logits(a: TeacherSignal, b: TeacherSignal) -> bool:
    everything = slice(0, None)
    return a.logits(everything).equal(b.logits(everything))


def scored(batch: Batch, objective: Objective | None = None) -> torch.Tensor:
    return (objective or Objective()).scored(batch.lengths, batch.input_ids.shape[1])[0]


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


class Deaf(LiveTeacher):
    """A teacher that must not be asked."""

    def states(self, batch: Batch) -> torch.Tensor:
        raise AssertionError("the teacher was asked again")


def deaf(teacher: LiveTeacher) -> Deaf:
    return Deaf(teacher.model)


# ---------------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize(("kind", "width"), [("live", 16), ("wide", 21)])
def test_cached_signals_are_the_live_ones_bit_by_bit(
    kind, width, shifted, batches, tmp_path, request
):
    live = request.getfixturevalue(kind)
    assert live.vocabulary == 21  # kept are hidden states of 16 numbers, or logits
    objective = dataclasses.replace(
        Objective(), hard=dataclasses.replace(Objective().hard, shifted=shifted)
    )
    made = open_cache(live, batches, directory=tmp_path)
    found = open_cache(deaf(live), batches, directory=tmp_path)
    for batch in batches:
        mask = scored(batch, objective)
        signal = live.signal(batch, mask)
        assert signal.stored.shape == (int(mask.sum()), width)
        assert same_logits(signal, made.signal(batch, mask))
        assert same_logits(signal, found.signal(batch, mask))


def test_signals_are_the_teachers_logits_at_the_scored_positions(live, batches):
    for batch in batches:
        mask = scored(batch)
        with torch.no_grad():
            logits = live.model(input_ids=batch.input_ids).logits[mask]
        torch.testing.assert_close(live.signal(batch, mask).logits(slice(0, None)), logits)


def test_of_a_large_vocabulary_hidden_states_are_kept_and_give_the_same_logits(
    large, batches, tmp_path
):
    made = open_cache(large, batches, directory=tmp_path)
    found = open_cache(deaf(large), batches, directory=tmp_path)
    tokens = sum(b.tokens for b in batches)
    assert made.all_states.shape == found.all_states.shape == (tokens, 8)
    assert only_file(tmp_path).stat().st_size < 4 * tokens * 8 + 1000
    for batch in batches:
        signal = large.signal(batch, scored(batch))
        assert signal.logits(slice(0, None)).shape[1] == large.vocabulary
        assert same_logits(signal, made.signal(batch, scored(batch)))
        assert same_logits(signal, found.signal(batch, scored(batch)))
        assert not found.signal(batch, scored(batch)).logits(slice(0, None)).requires_grad


def test_a_student_gets_the_same_bytes_from_the_cache(live, batches, tiny_shape, tmp_path):
    def train(teacher) -> str:
        student = models.build_causal_lm(tiny_shape, activation="gelu_pytorch_tanh", seed=1)
        distiller = Distiller(
            student, Objective(), teacher,
            temperature=10.0, alpha=0.1, learning_rate=1e-2, schedule=Schedule(9, 2),
        )  # fmt: skip
        for index in (0, 2, 1, 1, 0, 2):
            distiller.step(batches[index])
        return models.fingerprint(student)

    open_cache(live, batches, directory=tmp_path)
    assert train(live) == train(open_cache(deaf(live), batches, directory=tmp_path))


@pytest.mark.parametrize("kind", ["live", "wide"])
def test_in_half_precision_too_what_is_kept_is_what_a_run_would_hear(
    kind, batches, tiny_shape, tmp_path, request
):
    teacher = request.getfixturevalue(kind)
    made = open_cache(teacher, batches, directory=tmp_path, reads_in="bfloat16")
    assert made.all_states.dtype == torch.float32
    whole = open_cache(teacher, batches, directory=tmp_path)
    assert 0 < (made.all_states - whole.all_states).abs().max() < 0.1 * whole.all_states.abs().max()

    def train(source) -> tuple[str, dict]:
        student = models.build_causal_lm(tiny_shape, activation="gelu_pytorch_tanh", seed=1)
        distiller = Distiller(
            student, Objective(), source, temperature=4.0, alpha=0.1, learning_rate=1e-2,
            schedule=Schedule(9, 2), reads_in="bfloat16",
        )  # fmt: skip
        for batch in batches:
            distiller.step(batch)
        return models.fingerprint(student), distiller.ledger(batches[0])

    kept = open_cache(deaf(teacher), batches, directory=tmp_path, reads_in="bfloat16")
    assert train(teacher) == train(kept) != train(whole)


def test_temperature_and_alpha_do_not_enter(live, batches, tiny_shape, tmp_path):
    cached = open_cache(live, batches, directory=tmp_path)
    student = models.build_causal_lm(tiny_shape, activation="gelu_pytorch_tanh", seed=1)
    losses = set()
    for temperature, alpha in ((1.0, 0.0), (4.0, 0.5), (10.0, 0.1)):
        distiller = Distiller(
            student, Objective(), open_cache(deaf(live), batches, directory=tmp_path),
            temperature=temperature, alpha=alpha, learning_rate=1e-9, schedule=Schedule(9, 2),
        )  # fmt: skip
        losses.add(distiller.step(batches[0]).numbers()["total"])
    assert len(losses) == 3
    assert only_file(tmp_path).stem == cache_key(live, batches)
    assert isinstance(cached, CachedTeacher)


def test_progress_is_told_of_every_token(live, batches, tmp_path):
    told = []
    open_cache(live, batches, directory=tmp_path, progress=lambda *n: told.append(n))
    total = sum(b.tokens for b in batches)
    assert told[-1] == (total, total)
    assert len(told) == len(batches)


def test_caches_live_where_the_environment_says(cache, monkeypatch, tmp_path):
    assert teacher_cache.cache_directory() == cache
    monkeypatch.delenv("WORKBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert teacher_cache.cache_directory() == tmp_path / "workbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert teacher_cache.cache_directory() == Path.home() / ".cache" / "workbench"


# ---------------------------------------------------------------------- the key


def test_the_key_is_the_same_for_the_same_teacher_and_data(live, tiny_teacher, batches):
    again = LiveTeacher(models.load_causal_lm(tiny_teacher)[0])
    assert cache_key(live, batches) == cache_key(again, batches_of(SEQUENCES))


def another_teacher(live: LiveTeacher, change) -> LiveTeacher:
    model = copy.deepcopy(live.model)
    change(model)
    return LiveTeacher(model)


@pytest.mark.parametrize("name", ["transformer.h.1.mlp.c_proj.bias", "transformer.wte.weight"])
def test_one_bit_of_the_teacher_changes_the_key(name, live, batches):
    def flip(model) -> None:
        bits = model.state_dict()[name].view(torch.int32)
        bits.view(-1)[3] ^= 1

    assert cache_key(another_teacher(live, flip), batches) != cache_key(live, batches)


def test_the_teachers_configuration_changes_the_key(live, batches):
    # The same weights, another function: attention is scaled otherwise.
    def change(model) -> None:
        model.config.scale_attn_by_inverse_layer_idx = True

    assert cache_key(another_teacher(live, change), batches) != cache_key(live, batches)


def test_where_the_teacher_was_loaded_from_does_not_change_the_key(live, batches):
    def move(model) -> None:
        model.config._name_or_path = "/somewhere/else"

    assert cache_key(another_teacher(live, move), batches) == cache_key(live, batches)


@pytest.mark.parametrize(
    "other",
    [
        lambda: batches_of([*SEQUENCES[:-1], "HHHHK"]),
        lambda: batches_of(SEQUENCES[:-1]),
        lambda: batches_of(SEQUENCES[::-1]),
        lambda: batches_of(SEQUENCES, size=4),
        lambda: batches_of(SEQUENCES, block=9),
    ],
    ids=["a residue", "a sequence", "the order", "the batch size", "the block"],
)
def test_data_and_batching_change_the_key(other, live, batches):
    assert cache_key(live, other()) != cache_key(live, batches)


def test_lengths_change_the_key(live):
    # The same padded tokens, but one of them is real here and padding there.
    (batch,) = batches_of(["ACD", "MK"])
    shorter = dataclasses.replace(batch, lengths=batch.lengths - torch.tensor([0, 1]))
    assert cache_key(live, [batch]) != cache_key(live, [shorter])


def test_another_teacher_does_not_meet_the_cache(live, batches, tmp_path):
    def change(model) -> None:
        model.transformer.ln_f.bias.data += 0.5

    other = another_teacher(live, change)
    open_cache(live, batches, directory=tmp_path)
    cached = open_cache(other, batches, directory=tmp_path)
    mask = scored(batches[0])
    assert same_logits(cached.signal(batches[0], mask), other.signal(batches[0], mask))
    assert not same_logits(cached.signal(batches[0], mask), live.signal(batches[0], mask))
    assert len(list(tmp_path.iterdir())) == 2


# ---------------------------------------------------------------------- damage


def check_rebuilt(live, batches, directory: Path, caplog, word: str) -> None:
    """The cache is made again with a warning, holds the right answers, and is whole then."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="workbench.teacher_cache"):
        cached = open_cache(live, batches, directory=directory)
    (record,) = caplog.records
    assert word in record.getMessage()
    assert "made again" in record.getMessage()
    for batch in batches:
        mask = scored(batch)
        assert same_logits(cached.signal(batch, mask), live.signal(batch, mask))
    caplog.clear()
    open_cache(deaf(live), batches, directory=directory)
    assert not caplog.records
    assert only_file(directory)  # and no temporary file is left


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, -1])
def test_a_truncated_file_is_made_again(kept, live, batches, tmp_path, caplog):
    open_cache(live, batches, directory=tmp_path)
    path = only_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else kept])
    check_rebuilt(live, batches, tmp_path, caplog, "damaged")


@pytest.mark.parametrize("place", [-1, -100, 0.5])
def test_a_flipped_bit_among_the_answers_is_found(place, live, batches, tmp_path, caplog):
    open_cache(live, batches, directory=tmp_path)
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if place == 0.5 else place] ^= 1
    path.write_bytes(content)
    check_rebuilt(live, batches, tmp_path, caplog, "something else")


def test_no_flipped_bit_of_the_header_changes_an_answer(live, tmp_path, caplog):
    batches = batches_of(["ACD"])
    states = open_cache(live, batches, directory=tmp_path).all_states
    path = only_file(tmp_path)
    whole = path.read_bytes()
    caplog.set_level(logging.CRITICAL)
    for place in range(8 + int.from_bytes(whole[:8], "little")):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        found = open_cache(live, batches, directory=tmp_path).all_states
        assert found.dtype == states.dtype
        assert found.equal(states)


def test_the_file_of_another_teacher_under_this_name_is_found(
    live, large, batches, tmp_path, caplog
):
    open_cache(large, batches, directory=tmp_path)
    foreign = only_file(tmp_path)
    foreign.rename(tmp_path / f"{cache_key(live, batches)}.safetensors")
    check_rebuilt(live, batches, tmp_path, caplog, "something else")


@pytest.mark.parametrize("content", [b"", b"not a cache at all, but long enough to be read as one"])
def test_a_file_that_is_no_cache_is_made_again(content, live, batches, tmp_path, caplog):
    (tmp_path / f"{cache_key(live, batches)}.safetensors").write_bytes(content)
    check_rebuilt(live, batches, tmp_path, caplog, "damaged")


def test_the_weights_of_a_model_under_this_name_are_found(live, batches, tmp_path, caplog):
    from safetensors.torch import save_file

    path = tmp_path / f"{cache_key(live, batches)}.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    check_rebuilt(live, batches, tmp_path, caplog, "damaged")


# ---------------------------------------------------------------------- the disk


def test_an_unwritable_place_is_said_before_the_teacher_is_asked(live, batches, tmp_path):
    (tmp_path / "file").write_text("here already")
    with pytest.raises(WorkbenchError, match="cannot write the teacher cache"):
        open_cache(deaf(live), batches, directory=tmp_path / "file" / "cache")


def test_a_full_disk_leaves_no_half_of_a_file(live, batches, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(WorkbenchError, match="No space left on device; free some space"):
        open_cache(live, batches, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_batches_is_a_mistake_of_the_caller(live, tmp_path):
    with pytest.raises(ValueError, match="no batches"):
        open_cache(live, [], directory=tmp_path)
