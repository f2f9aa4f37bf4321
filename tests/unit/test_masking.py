"""Masking: how many tokens, which, what stands in their place, and that it can be replayed."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from workbench.corpora import Batch, Rows, make_batches
from workbench.errors import UsageError, WorkbenchError
from workbench.hidden_words.masking import HELD_OUT_DRAW, Masker, Masking

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "drug", "of", "a", "in", "and", "phil", "carb", "para", "met")
PIECES = ("##am", "##mon", "##ol", "##cet", "##for", "##min", "##azine")
#: The model's embedding has rows that no token uses, as BERT's with its padding to a multiple.
VOCABULARY = 32
PAD, UNK, CLS, SEP, MASK = range(5)


def word_pieces(**names):
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    vocabulary = {piece: i for i, piece in enumerate((*SPECIAL, *WORDS, *PIECES))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = names or {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", **names
    )


TOKENIZER = word_pieces()
WORD_IDS = np.array(TOKENIZER.convert_tokens_to_ids(list(WORDS)))
PIECE_IDS = np.array(TOKENIZER.convert_tokens_to_ids(list(PIECES)))
ORDINARY = set(WORD_IDS) | set(PIECE_IDS)


def sentences(lengths, seed: int = 0, whole: bool = True) -> Batch:
    """A batch of random words between [CLS] and [SEP], with this many pieces in each row."""
    generator = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        is_piece = generator.random(length) < 0.4
        if whole and length:
            is_piece[0] = False
        inner = np.where(
            is_piece, generator.choice(PIECE_IDS, length), generator.choice(WORD_IDS, length)
        )
        rows.append(np.array([CLS, *inner, SEP]))
    return make_batches(Rows(rows, 0), max(1, len(rows)), PAD)[0]


def padded(batch: Batch, columns: int) -> Batch:
    return replace(batch, input_ids=functional.pad(batch.input_ids, (0, columns), value=PAD))


def masker(**fields) -> Masker:
    return Masker(TOKENIZER, VOCABULARY, Masking(**fields))


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("input_ids", "masked", "labels")
    )


def words_of(ids: list[int]) -> list[list[int]]:
    """Positions of each word of a row, one position after the other."""
    words: list[list[int]] = []
    for at, token in enumerate(ids):
        if token < len(SPECIAL):
            continue
        if token in PIECE_IDS and words and words[-1][-1] == at - 1:
            words[-1].append(at)
        else:
            words.append([at])
    return words


@pytest.mark.parametrize("mark", ["Ġ", "▁"])
def test_words_are_known_by_how_they_begin_where_the_vocabulary_marks_that(mark):
    """Byte pairs and SentencePiece; the first word of a text may have no mark."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {"protein": ["prote", "in"], "kinase": [f"{mark}kin", "ase"], "a": [f"{mark}a"]}
    pieces = [piece for word in words.values() for piece in word]
    vocabulary = {piece: i for i, piece in enumerate((*SPECIAL, *pieces))}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")), mask_token="[MASK]",
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    ids = [vocabulary[piece] for piece in pieces]
    rows = Rows([np.array([vocabulary["[CLS]"], *ids, vocabulary["[SEP]"]])], 0)
    batch = make_batches(rows, 1, vocabulary["[PAD]"])[0]
    found = Masker(tokenizer, len(vocabulary), Masking(share=0.3, whole_words=True))
    seen = set()
    for draw in range(30):
        hidden = found.mask(batch, seed=1, draw=draw).masked[0, 1:-1].tolist()
        assert hidden[0] == hidden[1] and hidden[2] == hidden[3]
        seen.add(tuple(hidden))
    assert len(seen) > 1


# ------------------------------------------------------------------ how many, and which


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    share=st.sampled_from([0.01, 0.15, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_each_sequence_gets_exactly_its_share(lengths, share, seed):
    batch = sentences(lengths, seed)
    found = masker(share=share).mask(batch, seed=seed, draw=3)
    available = (batch.lengths - 2).tolist()
    expected = [max(1, round(share * n)) if n else 0 for n in available]
    assert found.masked.sum(1).tolist() == expected


def test_halves_are_rounded_to_the_even_neighbour():
    found = masker(share=0.5).mask(sentences([3, 5, 7]), seed=0, draw=0)
    assert sorted(found.masked.sum(1).tolist()) == [2, 2, 4]


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_and_padding_are_never_masked_nor_drawn(whole_words):
    batch = sentences([40, 3, 1, 0, 17])
    batch.input_ids[:, 1][batch.lengths > 10] = UNK
    for draw in range(200):
        found = masker(share=0.6, hidden=0.2, swapped=0.8, whole_words=whole_words).mask(
            batch, seed=1, draw=draw
        )
        assert not found.masked[batch.input_ids < len(SPECIAL)].any()
        unchanged = ~found.masked
        assert torch.equal(found.input_ids[unchanged], batch.input_ids[unchanged])
        assert set(found.input_ids[found.masked].tolist()) <= ORDINARY | {MASK}


def test_every_token_is_masked_about_as_often_as_any_other():
    batch, draws = sentences([20, 20]), 4000
    counts = sum(masker().mask(batch, seed=0, draw=d).masked.int() for d in range(draws))
    inner = counts[:, 1:-1].double() / draws
    # 3 of 20 each time; five standard deviations of a binomial share.
    assert (inner - 0.15).abs().max() < 5 * (0.15 * 0.85 / draws) ** 0.5
    assert counts[:, [0, -1]].sum() == 0


def test_nothing_to_mask_gives_nothing():
    found = masker().mask(sentences([0, 0]), seed=0, draw=0)
    assert not found.masked.any()
    assert found.labels.shape == (0,) and found.labels.dtype == torch.int64
    assert torch.equal(found.input_ids, sentences([0, 0]).input_ids)


# ------------------------------------------------------------------ what stands there


@pytest.mark.parametrize(("hidden", "swapped"), [(0.8, 0.1), (0.5, 0.3), (1.0, 0.0), (0.0, 1.0)])
def test_the_shares_of_hidden_swapped_and_kept_are_those_asked_for(hidden, swapped):
    batch, told, found = sentences([50] * 8), 0, dict.fromkeys(("hidden", "same"), 0)
    for draw in range(400):
        one = masker(hidden=hidden, swapped=swapped).mask(batch, seed=5, draw=draw)
        now = one.input_ids[one.masked]
        told += len(now)
        found["hidden"] += int((now == MASK).sum())
        found["same"] += int((now == one.labels).sum())
    # A token drawn at random is the one that stood there once in as many as there are.
    kept = 1 - hidden - swapped + swapped / len(ORDINARY)
    for name, expected in {"hidden": hidden, "same": kept}.items():
        spread = (expected * (1 - expected) / told) ** 0.5
        assert abs(found[name] / told - expected) <= 5 * spread + 1e-12, name


def test_tokens_drawn_at_random_are_all_ordinary_ones_alike():
    batch, found = sentences([60] * 8), []
    for draw in range(200):
        one = masker(share=1.0, hidden=0.0, swapped=1.0).mask(batch, seed=2, draw=draw)
        found.append(one.input_ids[one.masked].numpy())
    ids, counts = np.unique(np.concatenate(found), return_counts=True)
    assert set(ids) == ORDINARY
    total, expected = counts.sum(), 1 / len(ORDINARY)
    spread = (expected * (1 - expected) / total) ** 0.5
    assert np.abs(counts / total - expected).max() < 5 * spread


@given(seed=st.integers(0, 2**31), whole_words=st.booleans())
def test_labels_restore_the_original(seed, whole_words):
    batch = sentences([30, 9, 14, 2], seed)
    before = batch.input_ids.clone()
    found = masker(share=0.4, whole_words=whole_words).mask(batch, seed=seed, draw=9)
    assert torch.equal(batch.input_ids, before) and batch.masked is None
    restored = found.input_ids.clone()
    restored[found.masked] = found.labels
    assert torch.equal(restored, before)
    assert not torch.equal(found.input_ids, before)
    for name in ("index", "first_token", "tokens"):
        assert getattr(found, name) == getattr(batch, name)
    assert found.lengths is batch.lengths and found.members is batch.members


def test_hide_hides_the_same_tokens_every_time():
    batch = sentences([25, 40])
    found, drawn = masker().hide(batch, seed=7), masker().mask(batch, seed=7, draw=HELD_OUT_DRAW)
    assert torch.equal(found.masked, drawn.masked) and torch.equal(found.labels, drawn.labels)
    assert (found.input_ids[found.masked] == MASK).all()
    assert torch.equal(found.input_ids[~found.masked], batch.input_ids[~found.masked])
    assert same(found, masker().hide(batch, seed=7))
    assert not torch.equal(found.masked, masker().hide(batch, seed=8).masked)


# ------------------------------------------------------------------ whole words


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    share=st.sampled_from([0.05, 0.15, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_words_are_masked_whole_until_there_are_enough(lengths, share, seed):
    # Not `whole`: rows may begin with a piece that continues a word cut off before.
    batch = sentences(lengths, seed, whole=False)
    if seed % 2:  # a special token within a word ends it
        batch.input_ids[batch.lengths > 6, 3:4] = UNK
    found = masker(share=share, whole_words=True).mask(batch, seed=seed, draw=0)
    for ids, masked in zip(batch.input_ids.tolist(), found.masked.tolist(), strict=True):
        words = words_of(ids)
        taken = [w for w in words if all(masked[i] for i in w)]
        assert sum(map(len, taken)) == sum(masked)
        available = sum(map(len, words))
        wanted = max(1, round(share * available)) if available else 0
        assert sum(masked) >= wanted
        # Some word of those taken came last, and without it there were too few.
        assert not taken or sum(masked) - max(map(len, taken)) < wanted


def test_a_word_ends_with_its_row():
    # No special tokens: the second row begins with a piece right after the first one's last.
    rows = [np.array([WORD_IDS[0]] * 9 + [PIECE_IDS[0]] * row) for row in (0, 1)]
    rows[1] = rows[1][::-1].copy()
    batch = make_batches(Rows(rows, 0), 2, PAD)[0]
    assert batch.input_ids[:, 0].tolist() == [WORD_IDS[0], PIECE_IDS[0]]
    for draw in range(50):
        found = masker(share=0.1, whole_words=True).mask(batch, seed=0, draw=draw)
        assert found.masked.sum(1).tolist() == [1, 1]


def test_without_whole_words_words_are_broken():
    batch = sentences([60])
    ids = batch.input_ids[0].tolist()
    masked = masker().mask(batch, seed=0, draw=0).masked[0].tolist()
    assert any(0 < sum(masked[i] for i in w) < len(w) for w in words_of(ids))


def test_each_piece_of_a_word_is_hidden_swapped_or_kept_by_itself():
    batch = sentences([60] * 4)
    mixed = 0
    for draw in range(20):
        found = masker(hidden=0.5, whole_words=True).mask(batch, seed=0, draw=draw)
        for ids, now, masked in zip(
            batch.input_ids.tolist(), found.input_ids.tolist(), found.masked.tolist(), strict=True
        ):
            taken = [w for w in words_of(ids) if masked[w[0]] and len(w) > 1]
            mixed += sum(len({now[i] == MASK for i in w}) > 1 for w in taken)
    assert mixed > 0


# ------------------------------------------------------------------ replay


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_are_a_function_of_seed_draw_and_batch(whole_words):
    batch, one = sentences([30, 45, 12]), masker(whole_words=whole_words)
    found = one.mask(batch, seed=3, draw=11)
    one.mask(batch, seed=3, draw=12)
    assert same(found, one.mask(batch, seed=3, draw=11))
    assert same(found, masker(whole_words=whole_words).mask(batch, seed=3, draw=11))
    for other in (
        one.mask(batch, seed=3, draw=12),
        one.mask(batch, seed=4, draw=11),
        one.mask(replace(batch, index=1), seed=3, draw=11),
    ):
        assert not torch.equal(found.masked, other.masked)


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("columns", [1, 64])
def test_padding_changes_nothing(whole_words, columns):
    batch = sentences([30, 5, 18, 30])
    one = masker(share=0.3, whole_words=whole_words)
    for narrow, wide in (
        (one.mask(batch, seed=1, draw=2), one.mask(padded(batch, columns), seed=1, draw=2)),
        (one.hide(batch, seed=1), one.hide(padded(batch, columns), seed=1)),
    ):
        assert same(padded(narrow, columns), replace(wide, masked=narrow.masked))
        assert torch.equal(functional.pad(narrow.masked, (0, columns)), wide.masked)


def test_the_random_state_of_the_process_is_untouched():
    states = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    masker().mask(sentences([30]), seed=0, draw=0)
    masker().hide(sentences([30]), seed=0)
    assert random.getstate() == states[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[1], strict=True))
    assert torch.equal(torch.get_rng_state(), states[2])


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "fields",
    [
        {"share": 0},
        {"share": 1.2},
        {"share": -0.1},
        {"share": float("nan")},
        {"share": "0.15"},
        {"hidden": -0.1},
        {"swapped": 1.5},
        {"hidden": 0.9, "swapped": 0.2},
    ],
)
def test_shares_out_of_range_are_refused(fields):
    with pytest.raises(UsageError, match=next(iter(fields))) as error:
        Masking(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("hidden", [0.7, 0.9, 0.6, 0.8])
def test_shares_that_make_up_one_are_accepted(hidden):
    assert Masking(hidden=hidden, swapped=round(1 - hidden, 1)).hidden == hidden
    assert Masking(hidden=hidden, swapped=1 - hidden + 1e-12).hidden == hidden


def test_tokenizers_that_cannot_mask_are_refused():
    with pytest.raises(WorkbenchError, match="no mask token"):
        Masker(word_pieces(cls_token="[CLS]"), VOCABULARY)
    with pytest.raises(WorkbenchError, match=r"go up to 21 and the model knows 21 tokens"):
        Masker(TOKENIZER, 21)


def test_a_tokenizer_of_special_tokens_only_is_refused():
    everything = word_pieces(
        mask_token="[MASK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        additional_special_tokens=[*WORDS, *PIECES],
    )
    with pytest.raises(WorkbenchError, match="special tokens only"):
        Masker(everything, VOCABULARY)


def test_a_batch_is_not_masked_twice():
    once = masker().mask(sentences([30]), seed=0, draw=0)
    with pytest.raises(ValueError, match="masked already"):
        masker().mask(once, seed=0, draw=1)
    with pytest.raises(ValueError, match="masked already"):
        masker().hide(once, seed=0)
