"""Sentences from a world or a file, what is left out and held out, and rows of word pieces."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from workbench.corpora import HELD_OUT, held_out
from workbench.errors import WorkbenchError
from workbench.hidden_words import masked_lm, texts
from workbench.hidden_words.texts import TextCorpus
from workbench.worlds import biomedical

LINES = [
    "Erlotinib inhibits EGFR in lung cancer.",
    "Mutations of BRCA1, BRCA2 and TP53 were found (P = 0.05).",
    "β-catenin binds to APC; 12 μM was enough.",
    "NA",  # an abbreviation, not a missing value
    '"Quoted", he said.',
    "> 50 % of patients responded",
]
REAL = Path(__file__).parents[3] / "shared/data/biomedical/sentences.txt"


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refused(function, *arguments, **options) -> str:
    """The one line with which something is refused."""
    with pytest.raises(WorkbenchError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def numbered(count: int) -> list[str]:
    return [f"Drug {i} inhibits gene {i * i} ." for i in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    """Knows some words whole and others in pieces."""
    return masked_lm.word_pieces([" ".join(LINES), "of the gene in mice"], size=300)


# ---------------------------------------------------------------------- the world


def test_the_world_is_the_same_every_time_and_its_sentences_stand_beside_their_tags():
    corpus = texts.load("world:biomedical", train_sentences=300, validation_sentences=200)
    assert corpus == texts.load("world:biomedical", train_sentences=300, validation_sentences=200)
    train, validation = corpus.tagged
    assert corpus.train == [s.text for s in train] and len(train) == 300
    assert corpus.validation == [s.text for s in validation] and len(validation) == 200
    assert train == biomedical.sample(300, texts.TRAIN_SEED)
    assert validation == biomedical.sample(200, texts.HELD_OUT_SEED)
    assert texts.TRAIN_SEED != texts.HELD_OUT_SEED
    assert corpus.has_oracle and corpus.notes == ()
    assert corpus.source == "world:biomedical"


def test_a_part_of_the_world_is_the_same_as_long_as_it_is_given():
    whole = texts.load("world:biomedical")
    assert (len(whole.train), len(whole.validation)) == (4000, 500)


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.rstrip("\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n \n\t\n\n"),
        lambda text: "\n\r\n" + text.replace(" ", "  \t"),
    ],
    ids=["plain", "no last end", "BOM", "Windows", "blank lines", "other spaces"],
)
@pytest.mark.parametrize("name", ["some.txt", "some", "some.fasta"])
def test_text_files_as_other_programs_write_them(name, change, tmp_path):
    corpus = texts.load(write(tmp_path / name, change("\n".join(LINES) + "\n")))
    assert corpus.train == LINES
    assert corpus.validation == [] and corpus.notes == ()
    assert not corpus.has_oracle and corpus.tagged is None


@pytest.mark.parametrize("column", ["text", "Sentence", "ABSTRACT", " content"])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_tables_find_the_column_by_its_usual_names(column, name, separator, tmp_path):
    quoted = ['"' + line.replace('"', '""') + '"' for line in LINES]
    rows = [f"{i}{separator}{line}" for i, line in enumerate(quoted)]
    path = write(tmp_path / name, "\n".join([f"id{separator}{column}", *rows]))
    assert texts.load(path).train == LINES


def test_a_cell_of_several_lines_is_one_text(tmp_path):
    path = write(tmp_path / "a.csv", 'text\n"One line,\r\nand another."\nShort .\n')
    assert texts.load(path).train == ["One line, and another.", "Short ."]


def test_parquet_and_a_column_that_is_named(tmp_path):
    table = Dataset.from_dict({"text": ["x"] * len(LINES), "body": [*LINES[:-1], None]})
    table.to_parquet(tmp_path / "a.parquet")
    assert texts.load(str(tmp_path / "a.parquet"), column="body").train == LINES[:-1]
    assert texts.load(str(tmp_path / "a.parquet"), column="Body").train == LINES[:-1]
    assert texts.load(str(tmp_path / "a.parquet")).train == ["x"] * len(LINES)
    path = write(tmp_path / "a.csv", "text,body\n1,Two\n3,Four\n")
    assert texts.load(path, column="body").train == ["Two", "Four"]
    assert refused(texts.load, path, column="title") == (
        f"{path} has the columns text, body; expected one called title (or name it with --column)"
    )
    path = write(tmp_path / "b.csv", "id,words\n1,Two\n")
    assert "expected one called text or sentence or abstract" in refused(texts.load, path)


def test_lines_without_a_word_are_left_out_and_counted(tmp_path):
    path = write(tmp_path / "a.txt", "One .\n. . .\n\n( % )\nTwo .\n---\n")
    corpus = texts.load(path)
    assert corpus.train == ["One .", "Two ."]
    assert corpus.notes == (f"{path}: 3 lines without a word left out",)


def test_train_sentences_limits_what_is_taken(tmp_path):
    path = write(tmp_path / "a.txt", "\n".join(LINES))
    assert texts.load(path, train_sentences=2).train == LINES[:2]
    assert texts.load(path, train_sentences=200).train == LINES


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "is empty; expected sentences, one a line"),
        ("a.txt", b"\n \n\t\n", "holds no words (0 lines read); expected sentences, one a line"),
        ("a.txt", b". . .\n-\n", "holds no words (2 lines read); expected sentences"),
        ("a.txt", "\ufeff".encode(), "holds no words (0 lines read)"),
        ("a.txt", b"One .\nT\x00wo .\n", "is a binary file (a zero byte in line 2)"),
        ("a.txt", "One two three .".encode("utf-16"), "is a binary file (a zero byte in line 1)"),
        ("a.txt", b"One .\n\nna\xefve T cells\n",
         "line 3, is not UTF-8 text (byte 0xef at column 3)"),
        ("a.csv", b"text\n\xff\n", "line 2, is not UTF-8 text (byte 0xff at column 1)"),
        ("a.csv", b"text\n", "holds no words (0 lines read)"),
        ("a.csv", b"text\n...\n", "holds no words (1 lines read)"),
        ("a.parquet", b"PAR1 is not enough", "cannot read "),
    ],
)  # fmt: skip
def test_bad_files_are_refused_in_one_line(name, content, said, tmp_path, capfd):
    path = write(tmp_path / name, content)
    message = refused(texts.load, path)
    assert said in message and path in message
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file_is_refused_in_one_line(tmp_path):
    assert refused(texts.load, "./none.txt") == (
        "there is no file ./none.txt; expected a text, CSV or Parquet file, world:biomedical, or "
        "an id on the hub such as MedRAG/pubmed"
    )
    assert "there is no file world:proteins" in refused(texts.load, "world:proteins")
    assert refused(texts.load, str(tmp_path)) == (
        f"{tmp_path} is a directory; expected a text, CSV or Parquet file"
    )


@pytest.mark.parametrize("switched_off", [True, False])
def test_a_hub_id_without_network_says_how_to_work_offline(switched_off, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", switched_off)
    message = refused(texts.load, "some/where")
    assert message.startswith("cannot load the data set some/where from the hub")
    assert message.endswith(
        "without network, give a file with --data FILE, or leave --data and --scale away to use "
        "the built-in world"
    )


# ---------------------------------------------------------------------- what is held out


def test_a_line_is_on_the_same_side_whatever_file_it_comes_in(tmp_path):
    lines = numbered(400)
    corpus = texts.load(write(tmp_path / "a.txt", "\n".join(lines)))
    assert corpus.validation == [line for line in lines if held_out(line)]
    assert corpus.train == [line for line in lines if not held_out(line)]
    assert len(corpus.validation) == pytest.approx(400 / HELD_OUT, abs=24)  # four deviations
    part = lines[300:50:-1]
    other = texts.load(write(tmp_path / "b.txt", "\n\n".join(part + part)))
    assert set(other.train) == set(part) & set(corpus.train)
    assert set(other.validation) == set(part) & set(corpus.validation)


def test_of_a_few_lines_none_is_held_out_here(tmp_path):
    lines = numbered(HELD_OUT - 1)
    corpus = texts.load(write(tmp_path / "a.txt", "\n".join(lines)))
    assert corpus.train == lines and corpus.validation == []
    # Nor if all lines or none fall to one side.
    for side in (True, False):
        same = [line for line in numbered(300) if held_out(line) is side][:15]
        corpus = texts.load(write(tmp_path / f"{side}.txt", "\n".join(same)))
        assert corpus.train == same and corpus.validation == []


# ---------------------------------------------------------------------- rows


WORDS = st.sampled_from(
    [
        "EGFR",
        "gene",
        "in",
        "mice",
        "unheardof",
        "zebrafish",
        "(",
        "0.05",
        "β",
        "日本",
        "é",
        "x" * 70,
    ]
)


def test_a_row_without_a_place_is_refused(tokenizer):
    with pytest.raises(ValueError, match="positions is 2"):
        texts.tokenise(["one gene"], tokenizer, 2)


@given(st.lists(st.lists(WORDS, max_size=30).map(" ".join), max_size=4), st.integers(3, 40))
def test_rows_lose_nothing_and_end_between_words(tokenizer, lines, positions):
    rows = texts.tokenise(lines, tokenizer, positions)
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    parts = iter(rows.tokens)
    words = 0
    for line in lines:
        encoded = tokenizer(line, add_special_tokens=False)
        ids, word_of = encoded["input_ids"], encoded.word_ids()
        words += len(set(word_of))
        at = 0
        while at < len(ids):
            row = next(parts)
            assert (row[0], row[-1]) == (first, last) and 3 <= len(row) <= positions
            assert row.dtype == np.int64
            end = at + len(row) - 2
            assert row[1:-1].tolist() == ids[at:end]
            if end < len(ids):
                if word_of[end - 1] == word_of[end]:
                    # A word is cut only if it fills the whole row.
                    assert len(set(word_of[at:end])) == 1 and len(row) == positions
                else:
                    # The next word, whole, would not have gone in.
                    length = sum(1 for w in word_of[end:] if w == word_of[end])
                    assert len(row) + length > positions
            at = end
    assert next(parts, None) is None
    assert rows.residues == words


def test_a_word_longer_than_a_row_is_cut_between_its_pieces(tokenizer):
    monster = "ice" * 25
    pieces = tokenizer(monster, add_special_tokens=False)["input_ids"]
    assert len(pieces) > 20 and tokenizer.unk_token_id not in pieces
    rows = texts.tokenise([f"gene {monster} in"], tokenizer, 12)
    assert rows.tokens[0].tolist() == tokenizer("gene")["input_ids"]
    assert all(len(row) == 12 for row in rows.tokens[1:-1])
    inner = list(itertools.chain(*(row[1:-1].tolist() for row in rows.tokens[1:])))
    assert inner == [*pieces, *tokenizer("in", add_special_tokens=False)["input_ids"]]
    assert rows.residues == 3


def test_a_row_is_what_the_tokenizer_makes_of_a_sentence_and_no_warning_is_given(tokenizer, capfd):
    tokenizer.model_max_length = 8
    rows = texts.tokenise(LINES, tokenizer, 64)
    assert [row.tolist() for row in rows.tokens] == [tokenizer(s)["input_ids"] for s in LINES]
    assert capfd.readouterr().err == ""
    assert len(texts.tokenise([], tokenizer, 64)) == 0


def corpus_of(train: list[str], validation: list[str] = []) -> TextCorpus:  # noqa: B006
    return TextCorpus("some.txt", train, validation)


def test_held_out_lines_become_the_held_out_rows(tokenizer):
    train, validation = texts.tokenise_split(corpus_of(LINES, numbered(3)), tokenizer, 16)
    for rows, lines in ((train, LINES), (validation, numbered(3))):
        expected = texts.tokenise(lines, tokenizer, 16)
        assert [r.tolist() for r in rows.tokens] == [r.tolist() for r in expected.tokens]
        assert rows.residues == expected.residues


@pytest.mark.parametrize(("lines", "held"), [(2, 1), (9, 1), (20, 2), (39, 3)])
def test_of_a_few_lines_the_last_tenth_of_the_rows_is_held_out(tokenizer, lines, held):
    # All lines have as many pieces, so that words are shared out exactly.
    corpus = corpus_of(["gene in mice"] * lines)
    whole = texts.tokenise(corpus.train, tokenizer, 32)
    train, validation = texts.tokenise_split(corpus, tokenizer, 32)
    assert (len(train), len(validation)) == (lines - held, held)
    both = [*train.tokens, *validation.tokens]
    assert all(np.array_equal(a, b) for a, b in zip(both, whole.tokens, strict=True))
    assert (train.residues, validation.residues) == (3 * (lines - held), 3 * held)


def test_one_row_is_too_little(tokenizer):
    assert refused(texts.tokenise_split, corpus_of(["gene in mice"]), tokenizer, 32) == (
        "some.txt makes one block of 32 tokens only; expected at least two, one to train on and "
        "one to hold out"
    )
    # One text is enough if it is long.
    train, validation = texts.tokenise_split(corpus_of(["gene in mice " * 40]), tokenizer, 32)
    assert len(train) >= len(validation) == 1


# ---------------------------------------------------------------------- a real text


@pytest.mark.skipif(not REAL.exists(), reason=f"the sentences of abstracts are not at {REAL}")
def test_real_sentences():
    corpus = texts.load(str(REAL))
    lines = REAL.read_text(encoding="utf-8").splitlines()
    whole = [*corpus.train, *corpus.validation]
    assert sorted(whole) == sorted(" ".join(line.split()) for line in lines if any(
        c.isalnum() for c in line
    ))  # fmt: skip
    assert len(whole) > 5000
    assert len(corpus.validation) / len(whole) == pytest.approx(1 / HELD_OUT, abs=0.02)
    assert not set(corpus.train) & set(corpus.validation)
    tokenizer = masked_lm.word_pieces(corpus.train[:1000], size=1500)
    some = corpus.validation[:400]
    rows = texts.tokenise(some, tokenizer, 64)
    assert max(map(len, rows.tokens)) <= 64
    inner = list(itertools.chain(*(row[1:-1].tolist() for row in rows.tokens)))
    ids = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
    assert inner == list(itertools.chain(*ids))
    # Words never seen are written in pieces; hardly anything is unknown.
    assert inner.count(tokenizer.unk_token_id) < 0.001 * len(inner)
