"""Hidden words: the oracle's answer to a masked batch, and how models' answers are measured."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from workbench import corpora, metrics
from workbench.corpora import Batch, Rows
from workbench.errors import UsageError
from workbench.hidden_words import masked_lm, masked_words, texts
from workbench.hidden_words.masking import Masker, Masking
from workbench.recipes import Shape
from workbench.teacher_cache import LiveTeacher
from workbench.worlds import biomedical
from workbench.worlds.biomedical import MASK, BiomedicalWorld

FACTS = {
    "drugs": [
        {"name": ("abol",), "class": ("blocker",), "target": ("EG", "ras"), "indication": ()},
        {"name": ("brin",), "class": ("statin",), "target": ("ras",), "indication": ()},
    ],
    "diseases": [],
    "genes": [{"name": ("EG",)}, {"name": ("ras",)}],
    "classes": [
        {"name": ("blocker",), "verb": ("blocks",)}, {"name": ("statin",), "verb": ("inhibits",)}
    ],
    "cells": [],
    "values": [],
}  # fmt: skip
PATTERNS = (
    "the drug {drug} {drug.class.verb} {drug.target} ( well | badly ) .",
    "we saw {gene} and {gene#2} of {drug} .",
)


@pytest.fixture(scope="module")
def tiny() -> BiomedicalWorld:
    """A world of few words, each of which can be told from the others by its place alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(biomedical, "LEADS", ("however ,",))
        return BiomedicalWorld(PATTERNS, FACTS)


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return masked_lm.word_pieces([" ".join(tiny.words)], size=1000)


@pytest.fixture(scope="module")
def ids(tokenizer, tiny):
    return masked_words.word_ids(tokenizer, tiny)


def batch_of(tokenizer, sentences: list) -> Batch:
    rows = texts.tokenise([s.text for s in sentences], tokenizer, 32)
    (batch,) = corpora.make_batches(rows, len(sentences), tokenizer.pad_token_id)
    return batch


def hidden(batch: Batch, changes: dict[tuple[int, int], int]) -> Batch:
    """The batch with other tokens at some places (row, column), which are to be told."""
    changed, masked = batch.input_ids.clone(), torch.zeros_like(batch.input_ids, dtype=torch.bool)
    for place, token in changes.items():
        changed[place] = token
        masked[place] = True
    return replace(batch, input_ids=changed, masked=masked, labels=batch.input_ids[masked])


# ---------------------------------------------------------------------- the oracle's answer


def test_hidden_swapped_and_kept_tokens_by_hand(tiny, tokenizer, ids):
    sentence = next(s for s in tiny.sample(200, 0) if "abol" in s.words and "well" in s.words
                    and s.words[0] == "The")  # fmt: skip
    # [CLS] The drug abol blocks EG well . [SEP]
    mask, brin = tokenizer.mask_token_id, tokenizer.convert_tokens_to_ids("brin")
    batch = batch_of(tokenizer, [sentence])
    batch = hidden(batch, {(0, 3): mask, (0, 5): brin, (0, 6): int(batch.input_ids[0, 6])})
    found = masked_words.oracle_targets(batch, [sentence], ids, len(tokenizer), mask, tiny)
    assert found.shape == (3, len(tokenizer)) and found.dtype == torch.float32
    assert found.sum(1).tolist() == pytest.approx([1, 1, 1])
    by_word = [
        {tokenizer.convert_ids_to_tokens(i): row[i].item() for i in row.nonzero()[:, 0].tolist()}
        for row in found
    ]
    # The drug: only abol blocks. Its target, replaced, says nothing: one of two. "well" stands.
    assert by_word == [{"abol": 1}, {"EG": 0.5, "ras": 0.5}, {"well": 1}]


def test_targets_are_the_oracles_of_each_row_with_all_that_is_not_shown_hidden(
    tiny, tokenizer, ids
):
    sentences = tiny.sample(60, seed=1)
    masker = Masker(tokenizer, len(tokenizer), Masking(share=0.5, hidden=0.5, swapped=0.3))
    batch = masker.mask(batch_of(tokenizer, sentences), seed=0, draw=0)
    members = [sentences[i] for i in batch.members]
    mask = tokenizer.mask_token_id
    found = masked_words.oracle_targets(batch, members, ids, len(tokenizer), mask, tiny)
    kinds: Counter = Counter()
    at = 0
    for number, sentence in enumerate(members):
        columns = batch.masked[number].nonzero()[:, 0].tolist()
        shown = [tokenizer.convert_ids_to_tokens(int(batch.input_ids[number, c])) for c in columns]
        unknown = [c - 1 for c, w in zip(columns, shown, strict=True) if w != sentence.words[c - 1]]
        words = [MASK if i in unknown else w for i, w in enumerate(sentence.words)]
        for column, word in zip(columns, shown, strict=True):
            kind = "hidden" if word == MASK else "swapped" if column - 1 in unknown else "kept"
            kinds[kind] += 1
            expected = torch.zeros(len(tokenizer))
            truth = tiny.oracle(words, column - 1) if kind != "kept" else {word: 1.0}
            for w, p in truth.items():
                expected[tokenizer.convert_tokens_to_ids(w)] = p
            torch.testing.assert_close(found[at], expected, rtol=1e-6, atol=1e-7)
            at += 1
    assert at == len(found) and min(kinds.values()) > 20 and len(kinds) == 3


def everything(world: BiomedicalWorld) -> dict:
    """Every sentence of a small world, with its probability."""
    truth = {s: world.probability(s.words) for s in set(world.sample(4000, seed=0))}
    assert math.fsum(truth.values()) == pytest.approx(1, abs=1e-9)
    return truth


def test_on_average_targets_are_the_labels_for_every_input_that_a_model_can_see(
    tiny, tokenizer, ids
):
    """By enumeration of sentences, places and replacements: not a draw is left to chance.

    One place is told, and another is hidden beside it. What a model sees may come about in
    several ways (kept, or swapped from another word); the mean target over them is held against
    the mean label.
    """
    mask = tokenizer.mask_token_id
    shares = {"hidden": 0.8, "swapped": 0.1, "kept": 0.1}
    rows, weights, sentences, changes = [], [], [], {}
    for sentence, p in everything(tiny).items():
        if sentence.words[0] == "However":
            continue
        (row,) = texts.tokenise([sentence.text], tokenizer, 32).tokens
        for place, beside in itertools.permutations((3, 5, 6), 2):
            replacements = [(mask, shares["hidden"]), (int(row[place]), shares["kept"])]
            replacements += [(int(i), shares["swapped"] / len(ids)) for i in ids]
            for token, share in replacements:
                changes[len(rows), place] = token
                changes[len(rows), beside] = mask
                rows.append(row)
                sentences.append(sentence)
                weights.append((p * share, place))
    longest = max(map(len, rows))
    input_ids = torch.stack([
        functional.pad(torch.from_numpy(r), (0, longest - len(r))) for r in rows
    ])  # fmt: skip
    lengths = torch.tensor([len(r) for r in rows])
    batch = hidden(Batch(0, input_ids, lengths, 0, int(lengths.sum())), changes)
    found = masked_words.oracle_targets(batch, sentences, ids, len(tokenizer), mask, tiny).double()
    labels = functional.one_hot(batch.labels, len(tokenizer)).double()
    row_of, column_of = batch.masked.nonzero(as_tuple=True)
    mean: dict = defaultdict(lambda: [0.0, 0.0, 0.0])
    for i, (number, column) in enumerate(zip(row_of.tolist(), column_of.tolist(), strict=True)):
        weight, place = weights[number]
        if column == place:
            cell = mean[tuple(batch.input_ids[number].tolist()), place]
            cell[0] += weight
            cell[1] += weight * found[i]
            cell[2] += weight * labels[i]
    assert len(mean) > 300
    for (seen, place), (weight, target, label) in mean.items():
        apart = (target - label).abs().sum().item() / 2 / weight
        assert apart < 1e-6, (seen, place)


def test_the_mean_of_targets_is_the_mean_of_labels(tiny, tokenizer, ids):
    sentences = tiny.sample(3000, seed=3)
    batch = Masker(tokenizer, len(tokenizer)).mask(batch_of(tokenizer, sentences), seed=1, draw=0)
    members = [sentences[i] for i in batch.members]
    mask = tokenizer.mask_token_id
    found = masked_words.oracle_targets(batch, members, ids, len(tokenizer), mask, tiny).double()
    labels = functional.one_hot(batch.labels, len(tokenizer)).double()
    # Given what is seen, a label is one draw from its target.
    spread = (found * (1 - found)).sum(0).sqrt()
    assert ((found - labels).sum(0).abs() <= 4 * spread + 1e-6).all()
    assert (spread > 3).sum() >= 5


def test_words_of_another_tokenizer_cannot_be_compared(tiny, tokenizer, ids):
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == list(tiny.words)
    other = masked_lm.word_pieces(["abol blocks EG"], size=130)
    assert masked_words.word_ids(other, tiny) is None
    assert masked_words.oracle_quality([], [], other) is None


# ---------------------------------------------------------------------- its quality


def test_oracle_quality_is_a_direct_sum():
    world = biomedical.default_world()
    everything_said = masked_lm.word_pieces([" ".join(world.words)], size=4000)
    sentences = world.sample(60, seed=11)
    rows = texts.tokenise([s.text for s in sentences], everything_said, 64)
    masker = Masker(everything_said, len(everything_said))
    batches = [masker.hide(b, seed=2) for b in corpora.make_batches(rows, 16, 0)]
    nll, first, fifth, told = 0.0, 0, 0, 0
    for batch in batches:
        for number, member in enumerate(batch.members):
            sentence = sentences[member]
            places = (batch.masked[number].nonzero()[:, 0] - 1).tolist()
            words = [MASK if i in places else w for i, w in enumerate(sentence.words)]
            for place in places:
                answer = world.oracle(words, place)
                word = sentence.words[place]
                nll -= math.log(answer[word])
                above = sum(p > answer[word] * (1 + 1e-6) for p in answer.values())
                first += above == 0
                fifth += above < 5
                told += 1
    quality = masked_words.oracle_quality(sentences, batches, everything_said)
    assert quality.tokens == told == sum(max(1, round(0.15 * len(s.words))) for s in sentences)
    # Its probabilities are float32.
    assert quality.negative_log_likelihood == pytest.approx(nll / told, rel=1e-6)
    assert quality.perplexity == pytest.approx(math.exp(nll / told), rel=1e-6)
    assert quality.perplexity_per_residue is None
    assert quality.top5 == pytest.approx(fifth / told, abs=0.05)  # where six and more are equal
    # Of equally likely words top1 takes one.
    assert 0 < quality.top1 <= first / told


# ---------------------------------------------------------------------- models


def opinionated(vocabulary: int, seed: int):
    """An untrained model whose answers are far from uniform."""
    shape = Shape(layers=2, heads=2, width=16, positions=32, vocabulary=vocabulary)
    model = masked_lm.build(shape, activation="gelu", seed=seed, initial_spread=0.3)
    return model.requires_grad_(False)


@pytest.fixture
def masked_batches(tiny, tokenizer) -> list[Batch]:
    rows = texts.tokenise([s.text for s in tiny.sample(150, seed=5)], tokenizer, 32)
    masker = Masker(tokenizer, len(tokenizer))
    return [masker.mask(b, seed=3, draw=1) for b in corpora.make_batches(rows, 12, 0)]


def plain_quality(model, teacher, batches) -> dict[str, float]:
    """A row at a time, without padding, in plain torch."""
    nll = kl = first = fifth = agreed = told = 0.0
    for batch in batches:
        at = 0
        for row, length, masked in zip(batch.input_ids, batch.lengths, batch.masked, strict=True):
            ids, masked = row[:length][None], masked[:length]
            labels = batch.labels[at : at + int(masked.sum())]
            at += len(labels)
            logits = model(input_ids=ids).logits[0, masked].double()
            nll += functional.cross_entropy(logits, labels, reduction="sum").item()
            order = logits.argsort(descending=True)
            first += (order[:, 0] == labels).sum().item()
            fifth += (order[:, :5] == labels[:, None]).any(1).sum().item()
            says = teacher(input_ids=ids).logits[0, masked].double()
            kl += functional.kl_div(
                logits.log_softmax(-1), says.log_softmax(-1), log_target=True, reduction="sum"
            ).item()
            agreed += (says.argmax(-1) == order[:, 0]).sum().item()
            told += len(labels)
    return {
        "negative_log_likelihood": nll / told, "perplexity": math.exp(nll / told),
        "top1": first / told, "top5": fifth / told, "kl_to_teacher": kl / told,
        "agreement": agreed / told, "tokens": told,
    }  # fmt: skip


def test_evaluation_of_masked_words_against_plain_code(tokenizer, masked_batches, monkeypatch):
    model, teacher = opinionated(len(tokenizer), 1), opinionated(len(tokenizer), 2)
    expected = plain_quality(model, teacher, masked_batches)
    assert expected["kl_to_teacher"] > 0.1 and 0 < expected["top5"] < 1
    wide = [
        replace(
            b, input_ids=functional.pad(b.input_ids, (0, 5), value=tokenizer.pad_token_id),
            masked=functional.pad(b.masked, (0, 5)),
        )
        for b in masked_batches
    ]  # fmt: skip
    for batches, numbers in ((masked_batches, 2**26), (wide, 2**26), (masked_batches, 700)):
        monkeypatch.setattr(metrics, "EVALUATION_NUMBERS", numbers)
        quality = metrics.evaluate(
            model, batches, None, teacher=LiveTeacher(teacher), scores="masked"
        )
        for name, value in expected.items():
            assert getattr(quality, name) == pytest.approx(value, rel=1e-4), name
        assert quality.perplexity_per_residue is None
    same = metrics.evaluate(
        model, masked_batches, None, teacher=LiveTeacher(model), scores="masked"
    )
    assert same.kl_to_teacher == pytest.approx(0, abs=1e-6) and same.agreement == 1


def test_a_batch_that_hides_nothing_is_refused(tokenizer):
    model = opinionated(len(tokenizer), 1)
    batches = corpora.make_batches(Rows([np.array([2, 9, 3])], 0), 1, 0)
    with pytest.raises(ValueError, match="hides no tokens"):
        metrics.evaluate(model, batches, None, scores="masked")


# ---------------------------------------------------------------------- one sentence


def test_answer_is_the_models_distribution_at_each_mask(tokenizer):
    model = opinionated(len(tokenizer), 4)
    text = f"the {MASK} abol blocks {MASK} ."
    found = masked_words.answer(model, tokenizer, text)
    assert found == masked_words.answer(model, tokenizer, text.split())
    encoded = tokenizer(text, return_tensors="pt")["input_ids"]
    logits = model(input_ids=encoded).logits[0].double().softmax(-1)
    assert len(found) == 2
    for answer, column in zip(found, (2, 5), strict=True):
        assert encoded[0, column] == tokenizer.mask_token_id
        assert sum(answer.values()) == pytest.approx(1, abs=1e-9)
        assert list(answer.values()) == sorted(answer.values(), reverse=True)
        assert set(answer) == set(tokenizer.get_vocab())
        for piece, share in answer.items():
            place = tokenizer.convert_tokens_to_ids(piece)
            assert share == pytest.approx(logits[column, place].item(), rel=1e-6)


def test_rows_that_no_piece_uses_are_no_answer(tokenizer):
    """BERTs are padded to a round number of rows."""
    (found,) = masked_words.answer(opinionated(len(tokenizer) + 6, 4), tokenizer, f"the {MASK} .")
    assert set(found) == set(tokenizer.get_vocab())
    assert sum(found.values()) == pytest.approx(1, abs=1e-9)


def test_what_cannot_be_answered_is_said_in_one_line(tokenizer):
    model = opinionated(len(tokenizer), 4)
    with pytest.raises(UsageError, match=r"no word is hidden in 'the drug'; write \[MASK\]"):
        masked_words.answer(model, tokenizer, "the drug")
    with pytest.raises(UsageError, match=r"makes 43 tokens .* at most 32$"):
        masked_words.answer(model, tokenizer, [MASK, *["drug"] * 40])
