"""Where the data come from: sources, letters, blocks, batches, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench import corpora, models
from workbench.corpora import Rows
from workbench.errors import WorkbenchError
from workbench.worlds.proteins import AMINO_ACIDS

#: What every source below holds, raw, and what it must become.
RECORDS = ["MKVLA", "ac-DE.f", "WYX*", "GBZUOJ", "M*K", "PPPPP"]
CLEANED = ["MKVLA", "ACDEF", "WYX", "GXXXXX", "MXK", "PPPPP"]
REAL = Path(__file__).parents[3] / "shared/data/proteins/swissprot.fasta"


def both(corpus: corpora.Corpus) -> list[str]:
    return [*corpus.train["sequence"], *corpus.validation["sequence"]]


def load(path: Path, **options) -> list[str]:
    return both(corpora.load(str(path), **options))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fasta(records: list[str], width: int = 3) -> str:
    lines = []
    for number, record in enumerate(records):
        lines.append(f">record {number} of a test")
        lines += [record[i : i + width] for i in range(0, len(record), width)]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------- sources


@pytest.mark.parametrize("ending", ["fasta", "fa", "faa", "fas", "FASTA", "txt", "unknown"])
def test_fasta(ending, tmp_path):
    assert load(write(tmp_path / f"proteins.{ending}", fasta(RECORDS))) == CLEANED


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\n\n" + text + "\n\n",
        lambda text: text.rstrip("\n"),
    ],
    ids=["windows line ends", "byte-order mark", "blank lines", "no last line end"],
)
@pytest.mark.parametrize("kind", ["fasta", "txt", "csv", "tsv"])
def test_text_files_as_other_programs_write_them(kind, change, tmp_path):
    text = {
        "fasta": fasta(RECORDS),
        "txt": "\n".join(RECORDS) + "\n",
        "csv": "id,sequence\n" + "".join(f"{i},{r}\n" for i, r in enumerate(RECORDS)),
        "tsv": "id\tsequence\n" + "".join(f"{i}\t{r}\n" for i, r in enumerate(RECORDS)),
    }[kind]
    corpus = corpora.load(str(write(tmp_path / f"proteins.{kind}", change(text))))
    assert both(corpus) == CLEANED
    assert not any("left out" in note for note in corpus.notes)


def test_parquet(tmp_path):
    from datasets import Dataset

    table = Dataset.from_dict({"id": range(7), "Sequence": [*RECORDS[:2], None, *RECORDS[2:]]})
    table.to_parquet(tmp_path / "proteins.parquet")
    assert load(tmp_path / "proteins.parquet") == CLEANED


@pytest.mark.parametrize("name", ["sequence", "Sequence", "text", "SEQ", "protein", " sequence "])
def test_tables_find_the_column_by_its_usual_names(name, tmp_path):
    path = write(tmp_path / "proteins.csv", f"id,{name}\n1,MKV\n2,ACD\n")
    assert load(path) == ["MKV", "ACD"]


def test_tables_take_the_column_that_is_named(tmp_path):
    path = write(tmp_path / "proteins.csv", "sequence,chain_b\nMKV,WWW\nACD,YYY\n")
    assert load(path, column="Chain_B") == ["WWW", "YYY"]


def test_a_table_is_text_whatever_it_looks_like(tmp_path):
    # NA, NAN and NIL mean a missing number elsewhere; here they are amino acids.
    path = write(tmp_path / "proteins.csv", 'sequence,n\nNA,1\nNAN,\n"AC\nDE",3\nNIL,4\n')
    assert load(path) == ["NA", "NAN", "ACDE", "NIL"]


def test_a_file_that_was_changed_is_read_anew_even_if_it_kept_its_time(tmp_path):
    for kind, before in (("csv", "sequence\n"), ("txt", "")):
        for sequence in ("MKVAA", "CCCCC"):
            path = write(tmp_path / f"proteins.{kind}", f"{before}{sequence}\n")
            os.utime(path, (1e9, 1e9))
            assert load(path) == [sequence]


def test_reading_leaves_nothing_in_the_users_cache(tmp_path):
    cache = Path(os.environ["HF_DATASETS_CACHE"])
    before = set(cache.rglob("*"))
    load(write(tmp_path / "proteins.csv", "sequence\nMKV\n"))
    assert set(cache.rglob("*")) == before


def test_train_sequences_limits_what_is_taken(tmp_path):
    path = write(tmp_path / "proteins.txt", "\n".join(["MKV", "ACD", "WWW"]))
    assert load(path, train_sequences=2) == ["MKV", "ACD"]


def test_the_protein_world_is_the_same_every_time_and_shares_nothing_with_its_held_out_part():
    first = corpora.load(corpora.PROTEIN_WORLD, train_sequences=40, validation_sequences=10)
    again = corpora.load(corpora.PROTEIN_WORLD, train_sequences=40, validation_sequences=10)
    assert both(first) == both(again)
    assert (len(first.train), len(first.validation)) == (40, 10)
    assert not set(first.train["sequence"]) & set(first.validation["sequence"])
    assert first.has_oracle
    assert first.notes == ()


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/proteins/swissprot.fasta")
def test_real_proteins():
    corpus = corpora.load(str(REAL))
    assert len(both(corpus)) == 2768
    assert 0.07 < len(corpus.validation) / 2768 < 0.13
    assert set("".join(both(corpus))) == {*AMINO_ACIDS, "X"}
    (note,) = corpus.notes
    assert "read as X" in note
    assert not corpus.has_oracle


# ---------------------------------------------------------------------- letters


@pytest.mark.parametrize(
    ("record", "cleaned", "notes"),
    [
        ("MKV", "MKV", []),
        ("mKv", "MKV", ["1 records with lower-case letters, raised"]),
        ("M-K..V", "MKV", ["3 gaps (- or .) removed"]),
        ("M K\tV\r", "MKV", []),
        ("MKV*", "MKV", ["1 final stops (*) removed"]),
        ("M*KV", "MXKV", ["1 residues that are not one of the twenty"]),
        ("M**", "MX", ["1 final stops (*) removed", "1 residues that are not one of the twenty"]),
        ("ABJOUXZ", "AXXXXXX", ["6 residues that are not one of the twenty"]),
        ("abz", "AXX", ["1 records with lower-case", "2 residues that are not one of the twenty"]),
        ("", "", ["1 records left out"]),
        ("XXX", "", ["1 records left out"]),
        ("*", "", ["1 final stops (*) removed", "1 records left out"]),
        ("MK1V", "", ["1 records left out"]),
        ("MK;V", "", ["1 records left out"]),
        ("MKÉ", "", ["1 records left out"]),
        (">a", "", ["1 records left out"]),
    ],
)
def test_letters_and_what_is_said_about_them(record, cleaned, notes):
    sequences, told = corpora.clean([record, "A"], "some.fasta")
    assert sequences == [s for s in (cleaned, "A") if s]
    assert len(told) == len(notes)
    for said, expected in zip(told, sorted(notes, key=lambda n: n[2:]), strict=True):
        assert said.startswith(f"some.fasta: {expected}")


def test_notes_add_up_over_records():
    _, notes = corpora.clean(["MKX"] * 1500 + ["M-k"] * 2 + ["12"], "f")
    assert notes == [
        "f: 2 gaps (- or .) removed",
        "f: 1 records left out: no amino acid, or other characters",
        "f: 2 records with lower-case letters, raised",
        "f: 1,500 residues that are not one of the twenty (B J O U X Z *), read as X",
    ]


@given(st.text(alphabet=AMINO_ACIDS + AMINO_ACIDS.lower() + "BJOUXZ*-. \t", max_size=40))
def test_cleaned_letters_are_the_twenty_and_x_and_cleaning_again_changes_nothing(record):
    cleaned = corpora.clean_sequence(record, Counter())
    assert set(cleaned) <= {*AMINO_ACIDS, "X"}
    if cleaned:
        seen: Counter[str] = Counter()
        assert corpora.clean_sequence(cleaned, seen) == cleaned
        assert set(seen) <= {"residues that are not one of the twenty (B J O U X Z *), read as X"}


# ---------------------------------------------------------------------- blocks


@pytest.fixture(scope="module")
def residues():
    return models.residue_tokenizer()


def together(rows: Rows) -> list[int]:
    """All tokens, the one that begins a row taken as the repetition of the one before."""
    tokens: list[int] = []
    for row in rows.tokens:
        assert not tokens or row[0] == tokens[-1]
        tokens += row.tolist()[1 if tokens else 0 :]
    return tokens


@given(
    length=st.integers(1, 70),
    block=st.integers(2, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_lose_nothing_and_predict_every_token_once(length, block, seed):
    tokenizer = models.residue_tokenizer()
    sequence = "".join(np.random.default_rng(seed).choice(list(AMINO_ACIDS), length))
    rows = corpora.tokenise([sequence], tokenizer, "plain", block)
    end = tokenizer.eos_token_id
    ids = [end, *tokenizer(sequence)["input_ids"], end]
    assert together(rows) == ids
    assert tokenizer.decode(together(rows)[1:-1]) == sequence
    assert all(2 <= len(row) <= block for row in rows.tokens)
    assert all(len(row) == block for row in rows.tokens[:-1])
    assert sum(len(row) - 1 for row in rows.tokens) == len(ids) - 1
    assert rows.residues == length


def test_sequences_do_not_run_into_each_other(residues):
    rows = corpora.tokenise(["ACD", "MK", "W" * 9], residues, "plain", 6)
    words = ["".join(residues.convert_ids_to_tokens(row)) for row in rows.tokens]
    end = models.END_OF_TEXT
    assert words == [f"{end}ACD{end}", f"{end}MK{end}", f"{end}WWWWW", f"WWWWW{end}"]
    assert (len(rows), rows.residues) == (4, 14)
    assert len(corpora.tokenise([], residues, "plain", 6)) == 0


@given(length=st.integers(1, 200), block=st.integers(2, 50))
def test_byte_pairs_in_the_form_of_the_card_lose_nothing(byte_pairs, length, block):
    sequence = (AMINO_ACIDS * 11)[:length]
    rows = corpora.tokenise([sequence], byte_pairs, "protgpt2", block)
    tokens = together(rows)
    assert tokens[0] == tokens[-1] == byte_pairs.eos_token_id
    text = byte_pairs.decode(tokens[1:-1])
    assert text == corpora.write_sequence(sequence, "protgpt2")
    assert text.replace("\n", "") == sequence
    assert rows.residues == length


def test_a_byte_pair_token_holds_several_residues(byte_pairs):
    from workbench.worlds import proteins

    sequences = proteins.sample(20, seed=1)
    rows = corpora.tokenise(sequences, byte_pairs, "protgpt2", 128)
    scored = sum(len(row) - 1 for row in rows.tokens)
    assert rows.residues == sum(map(len, sequences)) > 1.3 * scored


def test_the_tokenizer_is_left_as_it_was(byte_pairs, monkeypatch):
    monkeypatch.setattr(byte_pairs, "model_max_length", 16)
    corpora.tokenise(["ACD" * 100], byte_pairs, "protgpt2", 8)
    assert byte_pairs.model_max_length == 16


def test_the_form_of_the_model_card():
    # "<|endoftext|>\nMGEA…\nRVN…\n<|endoftext|>", a line break every 60 residues
    assert corpora.write_sequence("M" * 60, "protgpt2") == "\n" + "M" * 60 + "\n"
    assert corpora.write_sequence("M" * 61, "protgpt2") == "\n" + "M" * 60 + "\nM\n"
    text = corpora.write_sequence("MKV" * 50, "protgpt2")
    assert [len(line) for line in text.split("\n")] == [0, 60, 60, 30, 0]
    assert corpora.write_sequence("MKV" * 50, "plain") == "MKV" * 50


def test_the_form_is_said_by_built_in_teachers_and_the_cards_otherwise(tiny_shape):
    config = models.gpt2_config(tiny_shape, activation="gelu_new")
    assert corpora.format_of(config) == "protgpt2"
    config.sequence_format = "plain"
    assert corpora.format_of(config) == "plain"


def test_one_record_of_a_million_residues(residues, tmp_path):
    sequence = "".join(np.random.default_rng(0).choice(list(AMINO_ACIDS), 1_000_000))
    for path, text in (
        (tmp_path / "long.fasta", f">one\n{sequence}\n"),
        (tmp_path / "long.csv", f"sequence\n{sequence}\n"),
    ):
        corpus = corpora.load(str(write(path, text)))
        assert both(corpus) == [sequence]
    train, validation = corpora.tokenise_split(corpus, residues, "plain", 128)
    everything = Rows(train.tokens + validation.tokens, train.residues + validation.residues)
    letters = np.array(residues.convert_ids_to_tokens(range(len(residues))))
    assert "".join(letters[together(everything)[1:-1]]) == sequence
    assert everything.residues == 1_000_000
    assert len(validation) == len(everything) // 10
    batches = corpora.make_batches(validation, 32, pad=0)
    assert sum(b.tokens for b in batches) == sum(len(t) for t in validation.tokens)


# ---------------------------------------------------------------------- what is held out


def sequences_of(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(AMINO_ACIDS), rng.integers(5, 30))) for _ in range(count)]


def test_held_out_sequences_are_chosen_by_their_letters_alone(tmp_path):
    sequences = sequences_of(400)
    corpus = corpora.load(str(write(tmp_path / "a.txt", "\n".join(sequences))))
    held_out, kept = set(corpus.validation["sequence"]), set(corpus.train["sequence"])
    assert len(held_out) + len(kept) == 400
    assert 20 < len(held_out) < 60
    for sequence in sequences:
        first_byte = hashlib.sha256(sequence.encode()).digest()[0]
        assert (sequence in held_out) == (first_byte % 10 == 0)
    # Another order, another format, other company: each stays on its side.
    other = [*reversed(sequences[100:]), *sequences_of(50, seed=1)]
    again = corpora.load(str(write(tmp_path / "b.fasta", fasta(other))))
    assert not held_out & set(again.train["sequence"])
    assert not kept & set(again.validation["sequence"])


def test_duplicates_stay_together(tmp_path):
    sequences = sequences_of(60) * 3
    sequences += [s.lower() for s in sequences]
    corpus = corpora.load(str(write(tmp_path / "a.txt", "\n".join(sequences))))
    assert len(both(corpus)) == 360
    assert not set(corpus.train["sequence"]) & set(corpus.validation["sequence"])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_of_a_few_long_records_blocks_are_held_out(count, residues, tmp_path):
    sequences = [s * 20 for s in sequences_of(count)]
    corpus = corpora.load(str(write(tmp_path / "a.txt", "\n".join(sequences))))
    assert len(corpus.validation) == 0
    train, validation = corpora.tokenise_split(corpus, residues, "plain", 32)
    whole = corpora.tokenise(sequences, residues, "plain", 32)
    found = [row.tolist() for row in train.tokens + validation.tokens]
    assert found == [row.tolist() for row in whole.tokens]
    assert len(validation) == max(1, len(whole) // 10)
    assert train.residues + validation.residues == sum(map(len, sequences))
    # A token is a residue but for the two ends of a record.
    assert abs(validation.residues - sum(len(t) - 1 for t in validation.tokens)) <= 2 * count


def test_of_many_records_sequences_are_held_out(residues, tmp_path):
    corpus = corpora.load(str(write(tmp_path / "a.txt", "\n".join(sequences_of(200)))))
    train, validation = corpora.tokenise_split(corpus, residues, "plain", 32)
    for rows, part in ((train, corpus.train), (validation, corpus.validation)):
        assert len(rows) == len(part)
        assert rows.residues == sum(map(len, part["sequence"]))


def test_a_single_block_is_too_little(residues, tmp_path):
    corpus = corpora.load(str(write(tmp_path / "a.txt", "MKV")))
    with pytest.raises(WorkbenchError, match="one block"):
        corpora.tokenise_split(corpus, residues, "plain", 32)


# ---------------------------------------------------------------------- batches


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=120),
    batch_size=st.integers(1, 7),
)
def test_batches_hold_every_row_once_and_say_where_their_tokens_are(lengths, batch_size):
    rows = Rows([np.arange(n) + 1000 * i for i, n in enumerate(lengths)], sum(lengths))
    batches = corpora.make_batches(rows, batch_size, pad=-1)
    found = []
    before = 0
    for index, batch in enumerate(batches):
        assert batch.index == index
        assert batch.first_token == before
        assert batch.tokens == int(batch.lengths.sum()) == int(batch.real().sum())
        assert batch.input_ids.shape == (len(batch.lengths), int(batch.lengths.max()))
        assert (batch.input_ids[~batch.real()] == -1).all()
        before += batch.tokens
        for ids, n in zip(batch.input_ids, batch.lengths, strict=True):
            found.append(ids[:n].tolist())
    assert before == sum(lengths)
    assert sorted(found) == sorted(row.tolist() for row in rows.tokens)
    assert [len(b.lengths) for b in batches].count(batch_size) >= len(batches) - 1


def test_batches_hold_neighbouring_lengths():
    rng = np.random.default_rng(0)
    rows = Rows([np.zeros(n, dtype=np.int64) for n in rng.integers(2, 120, 2000)], 0)
    batches = corpora.make_batches(rows, 16, pad=0)
    padding = 1 - sum(b.tokens for b in batches) / sum(b.input_ids.numel() for b in batches)
    assert padding < 0.1  # in the order in which they come it is over 0.4
    # And yet the batches are not sorted as a whole: short and long ones alternate by pools.
    longest = [b.input_ids.shape[1] for b in batches]
    assert longest[: corpora.POOL] == sorted(longest[: corpora.POOL])
    assert longest[corpora.POOL] < longest[corpora.POOL - 1]


def test_batches_do_not_depend_on_any_random_state():
    rows = Rows([np.arange(2 + n % 5) + 10 * n for n in range(300)], 0)
    first = corpora.make_batches(rows, 4, pad=0)
    np.random.seed(12345)
    torch.manual_seed(12345)
    again = corpora.make_batches(rows, 4, pad=0)
    for a, b in zip(first, again, strict=True):
        assert a.input_ids.equal(b.input_ids)


def test_the_order_of_batches_comes_from_the_seed_and_is_new_every_epoch():
    def epochs(seed: int, count: int = 3) -> list[list[int]]:
        order = corpora.endless_order(50, seed)
        return [list(itertools.islice(order, 50)) for _ in range(count)]

    first = epochs(1)
    assert first == epochs(1)
    assert first != epochs(2)
    for epoch in first:
        assert sorted(epoch) == list(range(50))
    assert first[0] != first[1] != first[2]
    assert list(itertools.islice(corpora.endless_order(1, 0), 3)) == [0, 0, 0]


# ---------------------------------------------------------------------- what is refused


def refused(call) -> str:
    """The one line of a refusal."""
    with pytest.raises(WorkbenchError) as error:
        call()
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("name", "content", "pattern"),
    [
        ("a.fasta", "", r"a\.fasta is empty"),
        ("a.csv", "", r"a\.csv is empty"),
        ("a.parquet", "", r"a\.parquet is empty"),
        ("a.fasta", b">a\nMK\0V\n", r"binary file \(a zero byte in line 2\)"),
        ("a.txt", bytes(range(256)) * 4, "binary file"),
        ("a.fasta", "MKVLA\nACDEF\n", r"not FASTA: its first line does not begin with '>'"),
        ("a.fasta", ">a\n>b\n\n", "no protein sequence"),
        ("a.fasta", ">a\n123\n>b\nXXXX\n", r"no protein sequence \(2 records read\)"),
        ("a.txt", "\n \n\t\n", r"no protein sequence \(0 records read\)"),
        ("a.csv", "sequence\n", r"no protein sequence \(0 records read\)"),
        ("a.csv", "\n\n", r"no protein sequence \(0 records read\)"),
        ("a.csv", "id,name\n1,MKV\n", r"columns id, name; expected one called sequence or text"),
        ("a.csv", "id;sequence\n1;MKV\n", r"columns id;sequence; expected"),
        ("a.csv", 'id,sequence\n1,"MKV\n2,ACD\n', r"cannot read .*a\.csv"),
        ("a.fasta", ">a\nMKV\n>b é\nACD\n>c ".encode() + b"\xe9\nACD\n",
         r"line 5, is not UTF-8 text \(byte 0xe9 at column 4\)"),
        ("a.csv", "sequence,é\nMKV,1\n".encode() + b"ACD,\xfc\n", r"line 3, is not UTF-8"),
        ("a.parquet", b"PAR1 and then nothing of the kind", r"cannot read .*a\.parquet"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_in_one_line(name, content, pattern, tmp_path, capfd):
    path = write(tmp_path / name, content)
    line = refused(lambda: corpora.load(str(path)))
    assert re.search(pattern, line), line
    assert str(path) in line
    out, err = capfd.readouterr()
    assert out + err == ""


def test_wrong_columns_of_a_parquet_file(tmp_path):
    from datasets import Dataset

    Dataset.from_dict({"id": [1], "chain": ["MKV"]}).to_parquet(tmp_path / "a.parquet")
    line = refused(lambda: corpora.load(str(tmp_path / "a.parquet")))
    assert "columns id, chain; expected one called sequence" in line
    line = refused(lambda: corpora.load(str(tmp_path / "a.parquet"), column="letters"))
    assert "expected one called letters" in line


@pytest.mark.parametrize(
    "name", ["no.fasta", "no.csv", "./no/such.fasta", "no such file", "no/such.txt"]
)
def test_a_missing_file_is_said_to_be_missing(name):
    assert f"there is no file {name}; expected a FASTA" in refused(lambda: corpora.load(name))


def test_a_directory_is_said_to_be_one(tmp_path):
    assert "is a directory; expected" in refused(lambda: corpora.load(str(tmp_path)))


def test_a_hub_id_without_network_says_how_to_work_offline():
    line = refused(lambda: corpora.load("nferruz/UR50_2021_04"))
    assert "cannot load the data set nferruz/UR50_2021_04 from the hub" in line
    assert "without network, give a file with --data FILE" in line
