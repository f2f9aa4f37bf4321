"""Files of tags line by line, rows that lose no word, entities counted whole, and learning them."""

from __future__ import annotations

import itertools
import random
import string
import subprocess
import sys
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench import models
from workbench.errors import NonFiniteLoss, UsageError, WorkbenchError
from workbench.named_entities import entities
from workbench.named_entities.entities import Tagged

REAL = Path(__file__).parents[3] / "shared" / "data" / "biomedical"
TRAIN, DEVEL = (REAL / f"ncbi_disease_{part}.tsv" for part in ("train", "devel"))
real = pytest.mark.skipif(not TRAIN.exists(), reason=f"the NCBI disease corpus is not at {REAL}")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: A piece a letter, so that a word of n letters makes n pieces.
PIECES = (*SPECIAL, *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), *".-")


@pytest.fixture
def write(tmp_path):
    def make(text: str | bytes) -> Path:
        path = tmp_path / "tags.tsv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    made = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {f"{s[1:-1].lower()}_token": s for s in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def bert(positions: int = 40, **options):
    from transformers import BertConfig, BertForMaskedLM

    settings = {
        "vocab_size": len(PIECES),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        **options,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return BertForMaskedLM(BertConfig(**settings)).eval()


def distilbert():
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    config = DistilBertConfig(
        vocab_size=len(PIECES), dim=32, n_layers=2, n_heads=2, hidden_dim=64,
        max_position_embeddings=40,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return DistilBertForMaskedLM(config).eval()


def toy(count: int, seed: int, longest: int = 7) -> list[Tagged]:
    """Sentences in which every word that begins with an x is an entity.

    Up to seven words go into one row of the models here, as no word has over five letters.
    """
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        words = tuple(
            rng.choice("xxabcd") + "".join(rng.choices(string.ascii_lowercase, k=rng.randint(0, 4)))
            for _ in range(rng.randint(1, longest))
        )
        found.append(Tagged(words, tuple("B-X" if w[0] == "x" else "O" for w in words)))
    return found


def refused(function, *arguments, kind=WorkbenchError, **options) -> str:
    """The one line with which something is refused."""
    with pytest.raises(kind) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def same(scores: entities.Scores) -> dict:
    """Scores without the time they took."""
    return {name: value for name, value in vars(scores).items() if name != "seconds"}


# ---------------------------------------------------------------------- files


PLAIN = "Colon\tB-Disease\ncancer\tI-Disease\n.\tO\n\nAPC\tI-Gene\n"
READ = [
    Tagged(("Colon", "cancer", "."), ("B-Disease", "I-Disease", "O")),
    Tagged(("APC",), ("I-Gene",)),
]


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.removesuffix("\n"),
        PLAIN.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        "\n\n" + PLAIN.replace("\n\n", "\n\n \n\t\n\n") + "\n\n",
        "-DOCSTART-\tO\n\n" + PLAIN,
        "-DOCSTART- -X- O O\n\n" + PLAIN.replace("\n\n", "\n\n-DOCSTART-\n\n"),
        PLAIN.replace("\n\n", "\n-DOCSTART-\tO\n"),
    ],
)
def test_sentences_are_read_however_lines_end(write, text):
    assert entities.read_tags(write(text)) == READ
    assert entities.read_tags(str(write(text))) == READ


def test_a_word_may_hold_what_elsewhere_breaks_lines(write):
    # str.splitlines breaks at each of these, and str.split at the last.
    for odd in ("\x0b", "\x1c", "\x85", "\u2028", "\xa0"):
        word = f"a{odd}b"
        assert entities.read_tags(write(f"{word}\tB-X\n"))[0].words == (word,)
    found = entities.read_tags(write("β-catenin\tB-cell-line\n\xa0\tO\n"))
    assert found == [Tagged(("β-catenin", "\xa0"), ("B-cell-line", "O"))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cancer", "line 4, has 1 column; expected a word and its tag with one tab between"),
        ("cancer B-Disease", "line 4, has 1 column"),
        ("cancer\tNN\tB-Disease", "line 4, has 3 columns"),
        ("cancer\tO\t", "line 4, has 3 columns"),
        ("\tO", "line 4, has no word before its tab"),
        ("cancer\t", "line 4, has the tag ''; expected O, or B- or I- and a type"),
        ("cancer\tDisease", "line 4, has the tag 'Disease'"),
        ("cancer\tB-", "line 4, has the tag 'B-'"),
        ("cancer\tB", "line 4, has the tag 'B'"),
        ("cancer\to", "line 4, has the tag 'o'"),
        ("cancer\tE-Disease", "line 4, has the tag 'E-Disease'"),
        ("cancer\tb-Disease", "line 4, has the tag 'b-Disease'"),
        ("cancer\tB-Disease x", "line 4, has the tag 'B-Disease x'"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(write, line, said):
    path = write(f"APC\tB-Gene\n\nthe\tO\n{line}\n.\tO\n")
    message = refused(entities.read_tags, path)
    assert message.startswith(f"{path}, ") and said in message
    # The number counts lines of the file, blank and left-out ones among them.
    windows = path.read_bytes().replace(b"\n", b"\r\n")
    assert "line 5, has" in refused(entities.read_tags, write(b"-DOCSTART-\tO\r\n" + windows))


def test_a_file_that_is_none_is_refused(write, tmp_path):
    message = refused(entities.read_tags, tmp_path / "none.tsv")
    assert "there is no file" in message and "none.tsv" in message
    assert "is a directory; expected a file with a word" in refused(entities.read_tags, tmp_path)
    for empty in ("", "\n \n\r\n", "\ufeff", "-DOCSTART-\tO\n\n"):
        assert "is empty; expected a word and its tag" in refused(entities.read_tags, write(empty))
    latin = write("the\tO\ncafé\tO\n".encode("latin-1"))
    assert "line 2, is not UTF-8 text" in refused(entities.read_tags, latin)
    assert "binary" in refused(entities.read_tags, write(PLAIN.encode("utf-16")))


def test_a_file_without_entities_is_refused(write):
    path = write("no\tO\ndisease\tO\n\nhere\tO\n")
    message = refused(entities.read_tags, path)
    assert message.startswith(f"no entity in {path} (2 sentences, all tags O)")


@real
@pytest.mark.parametrize(
    ("path", "sentences", "words", "begins", "inside"),
    # Counted with awk, sentences as runs of lines that are not blank.
    [(TRAIN, 5424, 135_701, 5134, 6115), (DEVEL, 923, 23_969, 787, 1090)],
)
def test_the_disease_corpus_is_read_whole(path, sentences, words, begins, inside):
    found = entities.read_tags(path)
    tags = Counter(tag for sentence in found for tag in sentence.tags)
    assert len(found) == sentences
    assert tags == {"B-Disease": begins, "I-Disease": inside, "O": words - begins - inside}
    # No I- stands without its B- there: an entity for every B-.
    truth = [s.tags for s in found]
    assert entities.count(truth, truth).sum(axis=0).tolist() == [begins] * 3


# ---------------------------------------------------------------------- rows of word pieces


LABELS = ("O", "B-X", "I-X")


def test_labels_are_in_order_whatever_the_order_of_sentences():
    found = [Tagged(("a", "b"), ("I-gene", "O")), Tagged(("c",), ("B-Disease",))]
    expected = ("O", "B-Disease", "I-Disease", "B-gene", "I-gene")
    assert entities.labels_of(found) == entities.labels_of(found[::-1]) == expected
    # So many that no order but the alphabet's gives it by chance.
    many = [Tagged((c,), (f"B-{c}",)) for c in "hgfedcba"]
    assert entities.labels_of(many) == ("O", *(f"{p}-{c}" for c in "abcdefgh" for p in "BI"))


def test_the_first_piece_of_a_word_has_its_label_and_no_other_piece(tokenizer):
    sentence = Tagged(("the", "X-ray", "a"), ("O", "B-X", "I-X"))
    (row,) = entities.encode([sentence], tokenizer, LABELS, 40)
    pieces = tokenizer.convert_ids_to_tokens(row.input_ids.tolist())
    expected = "[CLS] t ##h ##e x - r ##a ##y a [SEP]"
    assert pieces == expected.split()
    assert row.labels.tolist() == [-100, 0, -100, -100, 1, -100, -100, -100, -100, 2, -100]
    assert row.first_pieces.tolist() == [1, 4, 9]


@pytest.mark.parametrize("positions", [3, 4, 7, 12, 40])
def test_splitting_loses_no_word_and_cuts_none(tokenizer, positions):
    sentences = toy(60, seed=1, longest=30)
    rows = entities.encode(sentences, tokenizer, LABELS, positions)
    words = [[] for _ in sentences]
    tags = [[] for _ in sentences]
    for row in rows:
        assert len(row.input_ids) <= positions
        assert [row.input_ids[0], row.input_ids[-1]] == [2, 3]
        assert row.first_word == len(words[row.sentence])
        pieces = tokenizer.convert_ids_to_tokens(row.input_ids.tolist())
        ends = [*row.first_pieces[1:], len(pieces) - 1]
        for first, end in zip(row.first_pieces, ends, strict=True):
            words[row.sentence].append("".join(p.removeprefix("##") for p in pieces[first:end]))
            tags[row.sentence].append(LABELS[row.labels[first]])
        # Nothing is labelled but first pieces.
        assert np.flatnonzero(row.labels != -100).tolist() == row.first_pieces.tolist()
    # Only a word that is longer than a whole row is shortened, and its beginning stays.
    assert words == [[w[: positions - 2] for w in s.words] for s in sentences]
    assert tags == [list(s.tags) for s in sentences]
    # Rows are as full as they can be: the next word would not have gone in.
    for row, after in itertools.pairwise(rows):
        if row.sentence == after.sentence:
            word = sentences[after.sentence].words[after.first_word]
            assert len(row.input_ids) + min(len(word), positions - 2) > positions


def test_a_word_without_pieces_keeps_its_place(tokenizer):
    # A soft hyphen, a control character and nothing at all: the tokenizer makes nothing of them.
    words = ("a", "\u00ad", "x", "\x01", "", "b")
    sentence = Tagged(words, ("O", "I-X", "B-X", "I-X", "I-X", "O"))
    (row,) = entities.encode([sentence], tokenizer, LABELS, 40)
    pieces = tokenizer.convert_ids_to_tokens(row.input_ids.tolist())
    assert pieces == ["[CLS]", "a", "[UNK]", "x", "[UNK]", "[UNK]", "b", "[SEP]"]
    assert row.labels[1:-1].tolist() == [0, 2, 1, 2, 2, 0]


def test_any_objects_with_words_and_tags_will_do(tokenizer):
    Other = namedtuple("Other", "text words tags")
    ours = toy(5, seed=2)
    theirs = [Other("", list(s.words), list(s.tags)) for s in ours]
    assert entities.labels_of(theirs) == entities.labels_of(ours)
    for a, b in zip(
        entities.encode(ours, tokenizer, LABELS, 40),
        entities.encode(theirs, tokenizer, LABELS, 40),
        strict=True,
    ):
        assert np.array_equal(a.input_ids, b.input_ids) and np.array_equal(a.labels, b.labels)


def test_a_sentence_without_words_is_no_trouble(tokenizer):
    sentences = [Tagged((), ()), *toy(2, seed=1), Tagged((), ())]
    rows = entities.encode(sentences, tokenizer, LABELS, 40)
    assert {row.sentence for row in rows} == {1, 2}
    assert entities.encode([Tagged((), ())], tokenizer, LABELS, 40) == []
    model = entities.build(bert(), LABELS, seed=0)
    found = entities.predict(model, tokenizer, sentences)
    assert [len(tags) for tags in found] == [len(s.words) for s in sentences]


def test_what_cannot_be_encoded_is_refused(tokenizer):
    sentences = toy(3, seed=1)
    message = refused(entities.encode, sentences, tokenizer, ("O",), 40)
    assert "has the tag 'B-X'; expected one of the labels O" in message
    assert "a row of 2 positions" in refused(entities.encode, sentences, tokenizer, LABELS, 2)
    from workbench.classifying.classifiers import residue_tokenizer

    other = residue_tokenizer()
    other.pad_token = None
    message = refused(entities.encode, sentences, other, LABELS, 40)
    assert "the tokenizer has no pad_token" in message


# ---------------------------------------------------------------------- counting entities


def tags(text: str) -> list[str]:
    """``B I O`` stand for type X, ``b i`` for type Y."""
    short = {"B": "B-X", "I": "I-X", "b": "B-Y", "i": "I-Y", "O": "O"}
    return [short[letter] for letter in text]


@pytest.mark.parametrize(
    ("truth", "guess", "right", "found", "there"),
    [
        ("BIO", "BIO", 1, 1, 1),
        ("BIIO", "BIOO", 0, 1, 1),  # a word too few: wrong, and one missed
        ("BIOO", "BIIO", 0, 1, 1),  # a word too many
        ("OBIO", "BIIO", 0, 1, 1),  # begins too early
        ("BIO", "biO", 0, 1, 1),  # the wrong type
        ("BIO", "BiO", 0, 2, 1),  # two types: two entities
        ("BIBI", "BIII", 0, 1, 2),  # two neighbours taken for one
        ("BIII", "BIBI", 0, 2, 1),
        ("BOBO", "BOOO", 1, 1, 2),
        ("BOOO", "BOBO", 1, 2, 1),
        ("BIO", "IIO", 1, 1, 1),  # CoNLL lets an entity begin with I
        ("OBO", "OOO", 0, 0, 1),
        ("OOO", "OBO", 0, 1, 0),
        ("BbBi", "BbBi", 4, 4, 4),
    ],
)
def test_entities_count_whole(truth, guess, right, found, there):
    assert entities.count([tags(truth)], [tags(guess)]).tolist() == [[right, found, there]]
    # An entity elsewhere: F1 has to be defined.
    scores = entities.score([tags(truth), tags("B")], [tags(guess), tags("O")])
    assert scores.f1 == pytest.approx(2 * right / (found + there + 1), abs=1e-15)
    assert scores.precision == pytest.approx(right / found if found else 0)
    assert scores.recall == pytest.approx(right / (there + 1))
    assert (scores.entities, scores.sentences) == (there + 1, 2)


def test_an_entity_ends_with_its_sentence():
    # Joined, "B" and "I" would be one entity; also where sentences are tuples.
    for kind in (list, tuple):
        truth = [kind(["O", "B-X"]), kind(["I-X", "O"])]
        assert entities.count(truth, truth).tolist() == [[1, 1, 1]] * 2
        scores = entities.score(truth, truth)
        assert (scores.f1, scores.entities, scores.sentences) == (1.0, 2, 2)


def test_types_are_judged_apart():
    scores = entities.score([tags("BObibO"), tags("OB")], [tags("BObibb"), tags("bO")])
    assert scores.by_type == {
        "X": {"f1": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5, "entities": 2},
        "Y": {"f1": pytest.approx(2 / 3), "precision": 0.5, "recall": 1.0, "entities": 2},
    }
    assert scores.f1 == pytest.approx(2 * 3 / (5 + 4))


def test_a_guess_for_each_word_or_none():
    with pytest.raises(ValueError, match="sentence 1 has 2 words and 1 guesses"):
        entities.score([["B-X"], ["O", "O"]], [["B-X"], ["O"]])
    with pytest.raises(ValueError):
        entities.score([["B-X"], ["O"]], [["B-X"]])


@given(
    st.lists(
        st.lists(st.tuples(*(st.sampled_from("OBIbi"),) * 2), min_size=1, max_size=8), min_size=1
    )
)
def test_counts_say_the_same_as_seqeval(sentences):
    from seqeval.metrics import f1_score

    truth = [tags("B"), *(tags("".join(a for a, _ in s)) for s in sentences)]
    guess = [tags("B"), *(tags("".join(b for _, b in s)) for s in sentences)]
    right, found, there = entities.count(truth, guess).sum(axis=0)
    f1 = f1_score(truth, guess)
    assert 2 * right / (found + there) == pytest.approx(f1, abs=1e-12)
    assert entities.score(truth, guess).f1 == f1


# ---------------------------------------------------------------------- interval


def test_the_interval_is_that_of_sentences_drawn_one_by_one():
    rng = np.random.default_rng(8)
    there = rng.integers(0, 4, 200)
    right = rng.binomial(there, 0.8)
    counts = np.stack([right, right + rng.integers(0, 2, 200), there], axis=1)
    drawn = counts[rng.integers(0, 200, (20_000, 200))].sum(axis=1)
    slow = np.percentile(2 * drawn[:, 0] / (drawn[:, 1] + drawn[:, 2]), [2.5, 97.5])
    fast = entities.interval(counts, resamples=20_000)
    # A percentile of 20,000 draws wanders by about 0.0005 here.
    assert fast == pytest.approx(slow, abs=0.002)
    right, found, there = counts.sum(axis=0)
    assert fast[0] < 2 * right / (found + there) < fast[1]
    wide, narrow = (np.ptp(entities.interval(counts, level=level)) for level in (0.99, 0.5))
    assert narrow < np.ptp(fast) < wide


def test_the_interval_is_repeatable_and_knows_its_ends():
    counts = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 0], [2, 2, 3]] * 10)
    assert entities.interval(counts) == entities.interval(counts)
    assert entities.interval(counts) != entities.interval(counts, seed=1)
    assert entities.interval(np.array([[2, 2, 2], [1, 1, 1]])) == (1.0, 1.0)
    assert entities.interval(np.array([[0, 1, 1]])) == (0.0, 0.0)
    # Most resamples of these hold no entity and are left out; F1 of the others is one.
    assert entities.interval(np.array([[1, 1, 1]] + [[0, 0, 0]] * 99)) == (1.0, 1.0)


# ---------------------------------------------------------------------- learning


FAST = {"epochs": 3, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def trained(tokenizer):
    return entities.train_classifier(bert(), tokenizer, toy(400, seed=1), **FAST)


@pytest.mark.parametrize("make", [bert, distilbert])
def test_it_learns(tokenizer, make):
    # Sentences of the test are of other words, and some are longer than the model.
    train, held_out = toy(400, seed=1), toy(100, seed=2, longest=30)
    before = entities.evaluate(entities.build(make(), LABELS, seed=0), tokenizer, held_out)
    after = entities.fine_tune(make(), tokenizer, train, held_out, **FAST)
    assert before.f1 < 0.6 and after.f1 > 0.95
    assert after.interval[0] <= after.f1 <= after.interval[1] and after.interval[0] > 0.9
    assert (after.sentences, after.steps, before.steps) == (100, 3 * 25, 0)
    assert after.entities == sum(s.tags.count("B-X") for s in held_out)
    assert after.seconds > 0


@pytest.mark.parametrize("make", [bert, distilbert])
def test_the_same_seed_gives_the_same_bytes(tokenizer, make):
    train = toy(100, seed=1)

    def run(seed: int, disturbance: int):
        torch.manual_seed(disturbance)
        np.random.seed(disturbance)
        random.seed(disturbance)
        states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        found = entities.train_classifier(make(), tokenizer, train, seed=seed, epochs=2)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.random.get_state()[1].tolist() == states[1]
        assert random.getstate() == states[2]
        return found.classifier

    first, second, other = run(5, 0), run(5, 1), run(6, 0)
    assert models.fingerprint(first) == models.fingerprint(second) != models.fingerprint(other)
    held_out = toy(30, seed=2)
    scores = [same(entities.evaluate(m, tokenizer, held_out)) for m in (first, second)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("make", [bert, distilbert])
def test_the_encoder_stays_as_it_is(tokenizer, make):
    encoder = make().train()
    before, settings = models.fingerprint(encoder), encoder.config.to_dict()
    entities.train_classifier(encoder, tokenizer, toy(50, seed=1), **FAST)
    assert models.fingerprint(encoder) == before and encoder.config.to_dict() == settings
    assert encoder.training and all(p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize("make", [bert, distilbert])
def test_the_copy_has_the_encoders_weights_and_no_dropout(make):
    encoder = make()
    assert any(m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout))
    copies = [entities.build(encoder, LABELS, seed=seed) for seed in (0, 0, 1)]
    own = dict(encoder.base_model.named_parameters())
    for model in copies:
        assert not any(m.p for m in model.modules() if isinstance(m, torch.nn.Dropout))
        for name, weight in model.base_model.named_parameters():
            assert torch.equal(weight, own[name]) and weight.data_ptr() != own[name].data_ptr()
        assert model.config.id2label == dict(enumerate(LABELS)) and not model.training
    heads = [model.classifier.weight for model in copies]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_an_encoder_may_be_frozen_of_half_precision_or_without_head():
    encoder = bert().half().requires_grad_(False)
    encoder.config.dtype = torch.float16
    for given_one in (encoder, encoder.base_model):
        model = entities.build(given_one, LABELS, seed=0)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert all(p.requires_grad for p in model.parameters())
        weight = model.base_model.embeddings.word_embeddings.weight
        assert torch.equal(weight, encoder.base_model.embeddings.word_embeddings.weight.float())


def test_an_encoder_without_its_weights_is_refused(tokenizer):
    encoder = bert()
    del encoder.bert.encoder.layer[1]
    message = refused(entities.build, encoder, LABELS, seed=0)
    assert "16 of 37 weights of the encoder in BertForMaskedLM are missing" in message
    assert "encoder.layer.1." in message
    other = bert()
    other.bert = distilbert().distilbert
    # Those of the two kinds' embeddings that have the same names, and nothing of the layers.
    assert "33 of 37 weights" in refused(entities.build, other, LABELS, seed=0)
    narrow = bert(vocab_size=20)
    message = refused(entities.train_classifier, narrow, tokenizer, toy(9, seed=1))
    assert f"the tokenizer has {len(PIECES)} tokens, the encoder 20" in message
    from transformers import ViTConfig, ViTModel

    pictures = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    assert "ViTModel has no relative that labels words" in refused(
        entities.build, pictures, LABELS, seed=0
    )


def test_every_epoch_has_every_row_once_in_another_order(tokenizer):
    rows = entities.encode(toy(700, seed=1), tokenizer, LABELS, 40)
    lengths = np.array([len(row.input_ids) for row in rows])
    orders = [
        np.concatenate(entities._batches(rows, 16, seed, epoch)).tolist()
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert all(sorted(order) == list(range(len(rows))) for order in orders)
    assert orders[0] == orders[1] != orders[2] and orders[0] != orders[3] != orders[2]
    # Batches are of neighbouring lengths: little of them is padding, and short ones do not
    # all come first.
    batches = entities._batches(rows, 16, 0, 0)
    filled = sum(lengths[b].max() * len(b) for b in batches)
    unsorted = sum(lengths[at : at + 16].max() * 16 for at in range(0, len(rows), 16))
    assert lengths.sum() / filled > 0.9 > lengths.sum() / unsorted
    # These all come from one pool, which is sorted.
    longest = [lengths[b].max() for b in entities._batches(rows[:256], 16, 0, 0)]
    assert len(longest) == 16 and longest != sorted(longest)


def test_the_number_of_steps_is_that_of_epochs_or_fewer(tokenizer):
    seen = []

    class Watcher:
        def stage(self, text):
            seen.append(text)

        def advance(self, done, total, numbers):
            seen.append((done, total, sorted(numbers)))

    options = {"batch_size": 8, "epochs": 2, "progress": Watcher()}
    # 20 rows of 8: three steps an epoch, the last of them of 4 rows.
    train = toy(20, seed=1, longest=5)
    assert entities.train_classifier(bert(), tokenizer, train, **options).steps == 6
    assert seen[1:] == [(step, 6, ["loss"]) for step in range(1, 7)]
    short = entities.train_classifier(bert(), tokenizer, train, max_steps=4, **options)
    assert (short.steps, seen[-1]) == (4, (4, 4, ["loss"]))
    more = entities.train_classifier(bert(), tokenizer, train, max_steps=99, **options)
    assert more.steps == 6


def test_the_rate_rises_over_a_tenth_and_falls_to_zero(tokenizer, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def watched(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        norm = torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]).norm()
        assert norm <= 1.0001
        return step(self, *arguments, **options)

    loss = entities._loss

    def from_nothing(model, *arguments):
        assert all(p.grad is None for p in model.parameters())
        return loss(model, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    monkeypatch.setattr(entities, "_loss", from_nothing)
    entities.train_classifier(
        bert(initializer_range=1.0), tokenizer, toy(160, seed=1), epochs=4, learning_rate=1e-3
    )
    assert len(rates) == 40 and np.argmax(rates) == 4
    assert rates[:5] == pytest.approx([1e-3 * k / 5 for k in range(1, 6)])
    assert np.diff(rates[4:]) == pytest.approx([-1e-3 / 36] * 35)


def test_what_cannot_be_learned_or_judged_is_refused(tokenizer, trained):
    train = toy(10, seed=1)
    plain = [Tagged(("a", "b"), ("O", "O"))]
    uneven = [*train, Tagged(("a", "b"), ("O",))]
    odd = [*train, Tagged(("a",), ("X",))]
    for part, name in ((0, "the training sentences"), (1, "the held-out sentences")):
        for sentences, said in (
            (plain, f"no entity in {name} ("),
            ([], f"no entity in {name} (0 sentences"),
            (uneven, f"sentence 11 of {name} has 2 words and 1 tags"),
            (odd, f"sentence 11 of {name} has the tag 'X'"),
        ):
            both = [train, train]
            both[part] = sentences
            # A watcher that cannot be told anything: it is said before the training begins.
            options = {"progress": object()}
            assert said in refused(entities.fine_tune, bert(), tokenizer, *both, **options)
    message = refused(entities.evaluate, trained.classifier, tokenizer, plain)
    assert "no entity in the held-out sentences" in message
    for name, value in (
        ("seed", -1), ("epochs", 0), ("batch_size", 0), ("max_steps", 0),
        ("learning_rate", 0.0), ("learning_rate", float("nan")),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=name.replace("_rate", " rate")):
            entities.train_classifier(bert(), tokenizer, train, **{name: value})
    unnamed = entities.build(bert(), ("LABEL_0", "LABEL_1"), seed=0)
    message = refused(entities.evaluate, unnamed, tokenizer, train)
    assert "the model has the label 'LABEL_0'" in message
    broken = bert()
    broken.bert.embeddings.word_embeddings.weight.data.fill_(float("nan"))
    message = refused(entities.train_classifier, broken, tokenizer, train, kind=NonFiniteLoss)
    assert "the loss is nan at step 1" in message


# ---------------------------------------------------------------------- judging a model


def test_padding_changes_no_answer(tokenizer, trained):
    sentences = toy(60, seed=4, longest=30)
    alone = entities.word_logits(trained.classifier, tokenizer, sentences, batch_size=1)
    together = entities.word_logits(trained.classifier, tokenizer, sentences, batch_size=60)
    rows = entities.encode(sentences, tokenizer, None, 40)
    assert len({len(row.input_ids) for row in rows}) > 5  # there is padding
    for a, b in zip(alone, together, strict=True):
        assert np.abs(a - b).max() < 1e-4  # float32 in another order of summing
    # The same of the loss: rows padded further give the same one.
    pad, device = tokenizer.pad_token_id, torch.device("cpu")
    labelled = sorted(
        entities.encode(toy(40, seed=5), tokenizer, LABELS, 40), key=lambda row: len(row.input_ids)
    )
    short, words = labelled[:8], sum(len(row.first_pieces) for row in labelled[:8])
    assert len(short[-1].input_ids) < len(labelled[-1].input_ids)
    with torch.no_grad():
        whole = float(entities._loss(trained.classifier, [*short, labelled[-1]], pad, device))
        apart = [float(entities._loss(trained.classifier, [r], pad, device)) for r in short]
        last = float(entities._loss(trained.classifier, [labelled[-1]], pad, device))
    weights = [len(row.first_pieces) for row in short]
    more = len(labelled[-1].first_pieces)
    total = sum(loss * n for loss, n in zip(apart, weights, strict=True)) + last * more
    assert whole == pytest.approx(total / (words + more), rel=1e-4)


def test_every_held_out_word_is_judged_once(tokenizer):
    # A model of 12 positions: most sentences are cut, and some words are longer than a row.
    model = entities.build(bert(positions=12), LABELS, seed=0)
    sentences = [*toy(50, seed=6, longest=30), Tagged(("x" * 30, "\u00ad", "b"), tuple(LABELS))]
    logits = entities.word_logits(model, tokenizer, sentences)
    assert [len(numbers) for numbers in logits] == [len(s.words) for s in sentences]
    assert not any(np.isnan(numbers).any() for numbers in logits)
    found = entities.predict(model, tokenizer, sentences)
    assert sum(map(len, found)) == sum(len(s.words) for s in sentences)
    # Word by word the answer is that of the row the word stands in.
    for row in entities.encode(sentences, tokenizer, None, 12):
        with torch.no_grad():
            own = model(input_ids=torch.from_numpy(row.input_ids)[None]).logits[0]
        words = slice(row.first_word, row.first_word + len(row.first_pieces))
        assert np.abs(logits[row.sentence][words] - own[row.first_pieces].numpy()).max() < 1e-4


def test_rows_are_no_longer_than_tokenizer_and_model_take(tokenizer, trained, monkeypatch):
    lengths = []
    embed = type(trained.classifier.bert.embeddings).forward

    def watched(self, input_ids=None, **options):
        lengths.append(input_ids.shape[1])
        return embed(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(trained.classifier.bert.embeddings), "forward", watched)
    sentences = toy(50, seed=6, longest=30)
    entities.word_logits(trained.classifier, tokenizer, sentences)
    assert 35 < max(lengths) <= 40  # the model has 40 positions
    lengths.clear()
    monkeypatch.setattr(tokenizer, "model_max_length", 20)
    entities.word_logits(trained.classifier, tokenizer, sentences)
    assert 15 < max(lengths) <= 20


def test_an_entity_across_a_cut_is_one_entity(tokenizer):
    # Knows the truth by the letter: b begins an entity, i goes on with it.
    model = entities.build(bert(positions=5, hidden_size=32), LABELS, seed=0)
    letters = {"o": 0, "b": 1, "i": 2}

    def answer(input_ids, attention_mask):
        logits = torch.zeros((*input_ids.shape, 3))
        for letter, label in letters.items():
            place = tokenizer.convert_tokens_to_ids(letter)
            logits[..., label] += 5.0 * (input_ids == place)
        return namedtuple("Output", "logits")(logits)

    model.forward = answer
    names = dict(zip("obi", LABELS, strict=True))
    sentences = [Tagged(tuple(t), tuple(names[c] for c in t)) for t in ("obiiiiiobio", "biiibi")]
    assert len(entities.encode(sentences, tokenizer, LABELS, 5)) == 4 + 2
    scores = entities.evaluate(model, tokenizer, sentences)
    assert (scores.f1, scores.entities, scores.sentences) == (1.0, 4, 2)


def test_a_type_that_the_model_does_not_know_is_missed(tokenizer, trained):
    held_out = [*toy(30, seed=7), Tagged(("abc", "bcd"), ("B-Y", "I-Y"))]
    scores = entities.evaluate(trained.classifier, tokenizer, held_out)
    assert scores.by_type["Y"] == {"f1": 0, "precision": 0, "recall": 0, "entities": 1}
    assert scores.recall == pytest.approx(
        scores.by_type["X"]["recall"] * (scores.entities - 1) / scores.entities
    )


def test_a_saved_classifier_is_judged_alike(tokenizer, trained, tmp_path):
    from transformers import AutoModelForTokenClassification

    assert not trained.classifier.training
    trained.classifier.save_pretrained(tmp_path)
    again = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    held_out = toy(30, seed=8)
    scores = [same(entities.evaluate(m, tokenizer, held_out)) for m in (trained.classifier, again)]
    assert scores[0] == scores[1]


@real
def test_the_disease_corpus_goes_through(tokenizer):
    train, devel = entities.read_tags(TRAIN), entities.read_tags(DEVEL)
    # Letters for pieces: only a model of few positions cuts more sentences than this one.
    rows = entities.encode(devel, tokenizer, entities.labels_of(train), 64)
    labelled = np.concatenate([row.labels[row.labels != -100] for row in rows])
    assert len(rows) > 2 * len(devel)
    assert np.bincount(labelled).tolist() == [23_969 - 787 - 1090, 787, 1090]
    scores = entities.fine_tune(
        bert(positions=64), tokenizer, train[:200], devel, max_steps=2, batch_size=4
    )
    assert (scores.sentences, scores.entities, scores.steps) == (923, 787, 2)


def test_nothing_heavy_is_loaded_before_it_is_used():
    code = (
        "import sys, workbench.named_entities.entities; "
        "assert not {'transformers', 'seqeval', 'sklearn'} & set(sys.modules), 'loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
