"""Sources that do not fit into memory: the same rows and batches as in memory, and what is refused.

What counts as large, a piece and a record is made small here, so that small files do.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench import corpora, models, tasks
from workbench.bench import streaming
from workbench.config import RunConfig
from workbench.corpora import Batch, Rows
from workbench.errors import WorkbenchError
from workbench.hidden_words import masked_lm, texts
from workbench.on_disk import large_corpora, stored_rows, token_files
from workbench.on_disk.large_corpora import LargeCorpus
from workbench.on_disk.record_kinds import Proteins, Sentences
from workbench.progress import Silent
from workbench.records import file_identity, sources, streams
from workbench.worlds import biomedical, proteins

RESIDUES = models.residue_tokenizer()
SENTENCES = [s.text for s in biomedical.sample(400, seed=5)]
PIECES = masked_lm.word_pieces(SENTENCES[:40], size=400)
LONG = os.environ.get("WORKBENCH_LONG_TESTS") == "1"


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Everything is large, pieces are small, and nothing is found that another test made."""
    monkeypatch.setattr(streams, "LARGE", 1)
    monkeypatch.setattr(streams, "PIECE", 1000)
    monkeypatch.setattr(file_identity, "CHUNK", 1000)
    monkeypatch.setattr(streams, "ROWS", 7)
    monkeypatch.setattr(token_files, "AT_ONCE", 300)
    monkeypatch.setattr(large_corpora, "SMALL", 1)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def refused(function, *arguments, **options) -> str:
    with pytest.raises(WorkbenchError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def records_of(path: Path, column: str | None = None, expected=corpora.EXPECTED) -> list[str]:
    stream = streams.open_stream(str(path), column, expected)
    return [record for piece in stream.pieces(None) for record in piece.records]


def stored(path: Path, kind, progress=None, **options) -> tuple[Rows, Rows]:
    """Rows of a file, by way of the disk."""
    options = {"train_records": None, "validation_records": 10**6} | options
    corpus = large_corpora.load(str(path), None, kind.expected, **options)
    assert isinstance(corpus, LargeCorpus)
    return large_corpora.rows(corpus, kind, progress)


def in_memory(path: Path, kind) -> tuple[Rows, Rows]:
    if isinstance(kind, Sentences):
        return texts.tokenise_split(texts.load(str(path)), PIECES, kind.block)
    corpus = corpora.load(str(path))
    return corpora.tokenise_split(corpus, kind.tokenizer, kind.form, kind.block)


def same(one: Rows, other: Rows) -> None:
    assert [row.tolist() for row in one.tokens] == [row.tolist() for row in other.tokens]
    assert one.residues == other.residues and len(one) == len(other)


def same_batches(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.index, a.first_token, a.tokens) == (b.index, b.first_token, b.tokens)
        assert a.input_ids.dtype == b.input_ids.dtype and torch.equal(a.input_ids, b.input_ids)
        assert torch.equal(a.lengths, b.lengths) and a.members.tolist() == b.members.tolist()


def fasta(sequences: list[str]) -> str:
    """Records of every kind: broken into lines, empty, in lower case, with gaps and strangers."""
    odd = {3: "mkv-la*", 5: "MK1V", 7: "", 9: "BZ UO", 11: "acD-ef.g"}
    lines = []
    for number, sequence in enumerate(sequences):
        text = odd.get(number, sequence)
        lines.append(f">record {number} > of a test")
        lines += [text[i : i + 30] for i in range(0, len(text), 30)]
    return "\n".join(lines) + "\n"


PROTEINS = [*proteins.sample(150, seed=3), "MKV" * 400]


def protein_kind(tokenizer=RESIDUES, form="plain", block=32) -> Proteins:
    kind = Proteins(tokenizer, form, block)
    kind.tokenizer = tokenizer
    return kind


# ---------------------------------------------------------------------- the same as in memory


@pytest.mark.parametrize("ending", ["fasta", "crlf", "mac", "bom", "no last line end"])
def test_rows_and_batches_of_proteins_are_those_made_in_memory(ending, tmp_path):
    text = fasta(PROTEINS)
    content = {
        "fasta": text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "mac": text.replace("\n", "\r").encode(),
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "no last line end": text.rstrip().encode(),
    }[ending]
    path = tmp_path / "a.fasta"
    path.write_bytes(content)
    heard = Heard()
    kind = protein_kind()
    train, validation = stored(path, kind, heard)
    wanted = in_memory(path, kind)
    same(train, wanted[0])
    same(validation, wanted[1])
    assert heard.notes == [f"note: {note}" for note in corpora.load(str(path)).notes]
    assert len(heard.notes) == 4
    for size in (1, 5, 1000):
        lazily, listed = (corpora.make_batches(rows, size, 9) for rows in (train, wanted[0]))
        assert not isinstance(lazily, list)
        same_batches(lazily, listed)
        same_batches([lazily[-1], *lazily[1:3]], [listed[-1], *listed[1:3]])


def test_of_byte_pairs_and_of_sentences_too(byte_pairs, tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(fasta(PROTEINS))
    kind = protein_kind(byte_pairs, "protgpt2", 16)
    for found, wanted in zip(stored(path, kind), in_memory(path, kind), strict=True):
        same(found, wanted)

    path = tmp_path / "a.txt"
    # One without a word, one that fills several rows, one word longer than a row.
    odd = ["...", " ".join(SENTENCES[:9]), "Pneumono" * 20, "\tgene   in\u00a0mice\x0bor men"]
    path.write_text("\n".join([*SENTENCES, *odd]))
    heard = Heard()
    kind = Sentences(PIECES, 16)
    found = stored(path, kind, heard)
    for one, other in zip(found, in_memory(path, kind), strict=True):
        same(one, other)
    same_batches(*(corpora.make_batches(x[0], 8, 0) for x in (found, in_memory(path, kind))))
    assert heard.notes == [f"note: {path}: 1 line without a word left out"]


@given(st.lists(st.text("ACDWYX", min_size=1, max_size=40), min_size=1, max_size=9),
       st.integers(2, 12))  # fmt: skip
def test_any_proteins_make_the_rows_of_tokenise(sequences, block):
    encoded = Proteins(RESIDUES, "plain", block).encode(sequences)
    rows = corpora.tokenise(sequences, RESIDUES, "plain", block)
    ends = np.cumsum(encoded.lengths)[:-1]
    assert [r.tolist() for r in np.split(encoded.tokens, ends)] == [r.tolist() for r in rows.tokens]
    assert encoded.rows.sum() == len(rows) and encoded.units.sum() == rows.residues


@given(st.lists(st.text("genm, \u00ad", max_size=40), min_size=1, max_size=9), st.integers(3, 12))
def test_any_sentences_make_the_rows_of_tokenise(lines, positions):
    encoded = Sentences(PIECES, positions).encode(lines)
    rows = texts.tokenise(lines, PIECES, positions)
    found = np.split(encoded.tokens, np.cumsum(encoded.lengths))[:-1]
    assert [r.tolist() for r in found] == [r.tolist() for r in rows.tokens]
    assert encoded.rows.sum() == len(rows) and encoded.units.sum() == rows.residues


def test_a_quick_look_at_letters_changes_no_verdict():
    kind = protein_kind()
    for record in ["MKV", "", "mkv", "MKX", "M K", "*", "MKV*", "12", "ACDEFGHIKLMNPQRSTVWY"]:
        quick, slow = Counter(), Counter()
        assert kind.clean(record, quick) == corpora.clean_sequence(record, slow)
        assert quick == slow


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "txt", "txt.gz", "fasta.gz"])
def test_other_formats_give_the_records_of_sources_read(ending, tmp_path):
    sequences = [*PROTEINS[:60], "NA", "NAN", "", "M\nK", 'W"Y, V']
    path, plain = tmp_path / f"a.{ending}", tmp_path / f"a.{ending.removesuffix('.gz')}"
    if ending == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({"id": range(len(sequences) + 1), "sequence": [*sequences, None]})
        parquet.write_table(table, path, row_group_size=20)
    elif ending in ("csv", "tsv"):
        separator = "," if ending == "csv" else "\t"
        rows = ['"' + s.replace('"', '""') + '"' if set(s) & set('"\n,') else s for s in sequences]
        lines = [f"{i}{separator}{row}{separator}x" for i, row in enumerate(rows)]
        path.write_text("\n".join([f"id{separator}Sequence{separator}more", *lines, ""]))
    else:
        plain.write_text(fasta(PROTEINS) if "fasta" in ending else "\n\n".join(PROTEINS))
        if ending.endswith("gz"):
            path.write_bytes(gzip.compress(plain.read_bytes()))
    found = records_of(path)
    assert found == sources.read(str(plain), None, corpora.EXPECTED)
    assert len(found) > 50


def test_a_packed_file_is_the_same_corpus_as_the_plain_one(tmp_path):
    plain, packed = tmp_path / "a.fasta", tmp_path / "b.fasta.gz"
    plain.write_text(fasta(PROTEINS))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    stored(plain, protein_kind())
    places = list((tmp_path / "cache" / "tokens").glob("*/about.json"))
    stored(packed, protein_kind())
    assert list((tmp_path / "cache" / "tokens").glob("*/about.json")) == places


@pytest.mark.parametrize("ending", ["fasta", "csv", "parquet", "txt.gz"])
def test_reading_goes_on_from_any_place(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"text": PROTEINS}), path, row_group_size=40)
    elif ending == "csv":
        path.write_text("text\n" + "".join(f'"{s}\n{s}"\n' for s in PROTEINS))
    else:
        text = fasta(PROTEINS) if ending == "fasta" else "\n".join(PROTEINS)
        path.write_bytes(gzip.compress(text.encode()) if "gz" in ending else text.encode())
    stream = streams.open_stream(str(path), None, corpora.EXPECTED)
    pieces = list(stream.pieces(None))
    assert len(pieces) > 5
    for number, piece in enumerate(pieces):
        rest = stream.pieces(json.loads(json.dumps(piece.place)))
        wanted = [r for p in pieces[number + 1 :] for r in p.records]
        assert [r for p in rest for r in p.records] == wanted
    assert [p.done for p in pieces] == sorted(p.done for p in pieces)
    assert pieces[-1].done == stream.total


def test_many_rows_are_shuffled_in_stretches_and_each_comes_once(monkeypatch, tmp_path):
    monkeypatch.setattr(corpora, "SHUFFLED", 129)
    path = tmp_path / "a.fasta"
    path.write_text(fasta(PROTEINS))
    kind = protein_kind()
    train, listed = stored(path, kind)[0], in_memory(path, kind)[0]
    assert len(train) > 256
    lazily = corpora.make_batches(train, 4, 0)
    same_batches(lazily, corpora.make_batches(listed, 4, 0))
    members = np.concatenate([batch.members for batch in lazily])
    assert sorted(members.tolist()) == list(range(len(train)))
    assert members[:128].max() < 128 and members[:128].tolist() != sorted(members[:128].tolist())
    assert lazily.total_tokens == sum(batch.tokens for batch in lazily)


def test_an_order_in_parts_is_the_order(monkeypatch):
    def first(count: int, many: int) -> list[int]:
        order = corpora.endless_order(count, 3)
        return [next(order) for _ in range(many)]

    whole = first(50, 120)
    monkeypatch.setattr(corpora, "LISTED", 7)
    assert first(50, 120) == whole
    assert sorted(whole[:50]) == sorted(whole[50:100]) == list(range(50))


# ---------------------------------------------------------------------- what is held out


def test_an_order_that_is_interrupted_leaves_no_half_of_a_file(monkeypatch, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(PROTEINS))
    train, _ = stored(path, protein_kind())
    whole = corpora.batch_order

    def interrupted(*arguments):
        yield next(iter(whole(*arguments)))
        raise KeyboardInterrupt

    before = sorted(train.tokens.directory.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(corpora, "batch_order", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.batches(8, 0)
    assert sorted(train.tokens.directory.iterdir()) == before
    assert sum(batch.tokens for batch in train.batches(8, 0)) == train.tokens.total()
    assert not [p for p in train.tokens.directory.iterdir() if "part" in p.name]


def test_no_more_is_held_out_than_asked_for_and_it_comes_from_everywhere(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(fasta(PROTEINS))
    kind = protein_kind()
    train, every = stored(path, kind)
    again, few = stored(path, kind, validation_records=4)
    same(again, train)
    apart = corpora.load(str(path)).validation["sequence"][:]
    assert len(apart) > 10
    chosen = [apart[i * len(apart) // 4] for i in range(4)]
    same(few, corpora.tokenise(chosen, RESIDUES, "plain", kind.block))
    assert isinstance(few.tokens, list) and len(few) < len(every)


def test_long_held_out_records_are_fewer(monkeypatch, tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(fasta(PROTEINS))
    monkeypatch.setattr(stored_rows, "HELD_OUT_TOKENS", 500)
    _, few = stored(path, protein_kind())
    assert 200 < sum(map(len, few.tokens)) < 1000


@pytest.mark.parametrize("apart", [False, True])
def test_where_all_records_are_on_one_side_the_last_tenth_of_rows_is_held_out(apart, tmp_path):
    line = next(s for s in PROTEINS if corpora.held_out(s) == apart)
    path = tmp_path / "a.txt"
    path.write_text(f"{line}\n" * 100)
    for found, wanted in zip(
        stored(path, protein_kind()), in_memory(path, protein_kind()), strict=True
    ):
        same(found, wanted)
    path.write_text("MKV")
    assert "makes one block of 32 tokens only" in refused(stored, path, protein_kind())


def test_only_as_many_records_are_taken_as_asked_for(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(PROTEINS))
    found = stored(path, protein_kind(), train_records=70)
    path = tmp_path / "b.txt"
    path.write_text("\n".join(PROTEINS[:70]))
    for one, other in zip(found, in_memory(path, protein_kind()), strict=True):
        same(one, other)


def test_a_packed_file_that_is_small_is_read_as_a_small_file_is(monkeypatch, tmp_path):
    monkeypatch.setattr(large_corpora, "SMALL", 10**6)
    monkeypatch.setattr(streams, "LARGE", 10**6)
    path = tmp_path / "a.fasta.gz"
    path.write_bytes(gzip.compress(fasta(PROTEINS[:20]).encode()))
    config = RunConfig.from_recipe("protgpt2-tiny", data=str(path))
    corpus = tasks.of("protgpt2-tiny").load_corpus(config)
    path = tmp_path / "a.fasta"
    path.write_text(fasta(PROTEINS[:20]))
    plain = corpora.load(str(path))
    assert corpus.train["sequence"][:] == plain.train["sequence"][:]
    assert corpus.validation["sequence"][:] == plain.validation["sequence"][:]


# ---------------------------------------------------------------------- interrupted, found again

INTERRUPTED = """
import os, signal, sys
from workbench import models
from workbench.on_disk import large_corpora, token_files
from workbench.records import streams
from workbench.progress import Silent
from workbench.on_disk.record_kinds import Proteins

streams.LARGE, streams.PIECE, token_files.AT_ONCE, large_corpora.SMALL = 1, 1000, 300, 1
path, how = sys.argv[1:]
# What runs the tests may ignore Ctrl-C, and its children with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Stops(Silent):
    pieces = 0
    def advance(self, done, total, numbers):
        self.pieces += "records" in numbers
        if self.pieces == 7:
            os.kill(os.getpid(), getattr(signal, how))

kind = Proteins(models.residue_tokenizer(), "plain", 32)
stream = streams.open_stream(path, None, kind.expected)
token_files.tokenise(stream, kind, progress=Stops(), noted=0 if how == "SIGKILL" else 1e9)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_what_is_interrupted_goes_on_to_the_same_bytes(how, tmp_path, monkeypatch):
    path = tmp_path / "a.fasta"
    path.write_text(fasta(PROTEINS))
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(path), how], capture_output=True, text=True
    )
    # Python leaves with the signal that it was interrupted by.
    assert done.returncode == -getattr(signal, how), done.stderr
    (part,) = (tmp_path / "cache" / "tokens").glob("*.part")
    state = json.loads((part / "state.json").read_text())
    # A kill between a piece and its note loses that piece, Ctrl-C loses nothing that was read.
    assert state["read"] > 5 and 0 < state["done"] < path.stat().st_size
    # Whatever lies behind the noted length is of a piece that is read again.
    (part / "train.tokens").open("ab").write(b"half a piece")

    heard = Heard()
    kind = protein_kind()
    stream = streams.open_stream(str(path), None, kind.expected)
    place = token_files.tokenise(stream, kind, progress=heard)
    assert heard.notes[0].startswith(f"note: {path} was begun before; going on behind record ")
    assert not part.exists() and not (place / "state.json").exists()
    whole = token_files.tokenise(stream, kind, directory=tmp_path / "other")
    names = sorted(p.name for p in whole.iterdir())
    assert sorted(p.name for p in place.iterdir()) == names and len(names) == 7
    for name in names:
        assert (place / name).read_bytes() == (whole / name).read_bytes()


def test_tokens_are_found_again_and_not_mistaken_for_others(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(PROTEINS))

    def place_of(kind, file=path, most=None) -> Path:
        stream = streams.open_stream(str(file), None, kind.expected)
        return token_files.tokenise(stream, kind, most_records=most)

    place = place_of(protein_kind())
    with monkeypatch.context() as patch:
        patch.setattr(token_files, "_make", lambda *_: pytest.fail("made again"))
        assert place_of(protein_kind()) == place
        (tmp_path / "b.txt").write_bytes(path.read_bytes())
        assert place_of(protein_kind(), tmp_path / "b.txt") == place
    others = [place_of(protein_kind(block=31)), place_of(protein_kind(form="protgpt2"))]
    others += [place_of(protein_kind(), most=20), place_of(Sentences(PIECES, 32))]
    # Another content of the same length at the same time.
    before = path.stat()
    path.write_text("\n".join([PROTEINS[0][::-1], *PROTEINS[1:]]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    others.append(place_of(protein_kind()))
    assert len({place, *others}) == 6
    (place / "train.tokens").write_bytes(b"short")
    assert "train.tokens is not as it was written" in refused(token_files.about, place)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(fasta(PROTEINS))
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
    script += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + INTERRUPTED
    script = script.replace("== 7", "== -1").replace("token_files.tokenise(", "say(")
    script = script.replace("kind = ", "def say(*a, **o):\n"
        "    try: token_files.tokenise(*a, **o)\n"
        "    except Exception as e: print(type(e).__name__, e)\nkind = ")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), "SIGKILL"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    directory = tmp_path / "cache" / "tokens"
    assert line.startswith(f"WorkbenchError cannot write the tokens of {path} in {directory}: File")
    assert line.endswith("and give the command again: what was done is kept")
    heard = Heard()
    same(stored(path, protein_kind(), heard)[0], in_memory(path, protein_kind())[0])
    assert "was begun before" in heard.notes[0]


# ---------------------------------------------------------------------- what is refused


def test_a_record_without_end_is_refused_with_its_line(monkeypatch, tmp_path):
    monkeypatch.setattr(streams, "LONGEST", 1500)
    path = tmp_path / "a.txt"
    # Once within a few pieces, once longer than is ever held.
    for length in (1501, 100_000):
        path.write_text("MKVLA\n\n" * 300 + "A" * length + "\nMKV")
        line = refused(stored, path, protein_kind())
        assert f"{path}: the record that begins in line 601 has more than 1,500 characters" in line
        fasta_file = tmp_path / "a.fasta"
        body = "\n".join(["A" * 60] * (length // 60 + 1))
        fasta_file.write_text(">a\nMKV\nMKV\n" * 200 + f">b\n{body}\n>c\nMK\n")
        assert "begins in line 601 has more than 1,500" in refused(
            stored, fasta_file, protein_kind()
        )
    table = tmp_path / "a.csv"
    table.write_text('sequence\n"MKV\n' + "MKVLA\n" * 1000)
    line = refused(stored, table, protein_kind())
    assert f"cannot read {table}, line" in line and "is a quotation mark left open?" in line


def test_what_is_no_text_is_refused_with_its_line_before_anything_is_tokenised(tmp_path):
    path = tmp_path / "a.txt"
    # The letter of two bytes lies across the end of a piece.
    start = ("MKVLA\n" * 200)[:999].encode()
    path.write_bytes(start + "é\n".encode() * 900 + b"MK\xe9V\n")
    line = refused(stored, path, protein_kind())
    number = (start + "é\n".encode() * 900).count(b"\n") + 1
    assert f"{path}, line {number}, is not UTF-8 text (byte 0xe9 at column 3)" in line
    path.write_bytes(b"MKVLA\n" * 300 + b"MK\0\n")
    assert "a binary file (a zero byte in line 301)" in refused(stored, path, protein_kind())
    path.write_bytes(b"MKVLA\n" * 300 + b"MK\xc3")
    assert "line 301, is not UTF-8 text (byte 0xc3" in refused(stored, path, protein_kind())
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"MKVLA\n" * 3000)[:-20])
    assert "is damaged or no gzip file" in refused(stored, packed, protein_kind())
    for name in ("a.txt.gz", "a.fasta.gz", "a.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b""))
        assert f"{name} is empty; expected protein" in refused(
            stored, tmp_path / name, protein_kind()
        )
    path.write_text("12 34\n" * 300)
    assert "holds nothing to learn from (300 records read)" in refused(stored, path, protein_kind())
    assert not list((tmp_path / "cache" / "tokens").glob("*/about.json"))
    (tmp_path / "a.fasta").write_text("MKV\n>a\nMKV\n")
    assert "is not FASTA" in refused(stored, tmp_path / "a.fasta", protein_kind())
    (tmp_path / "a.csv").write_text("letters\nMKV\n")
    assert "has the columns letters" in refused(stored, tmp_path / "a.csv", protein_kind())


def test_a_file_that_changes_while_it_is_read_is_no_corpus(monkeypatch, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(PROTEINS))
    survey = file_identity._survey

    def late(*arguments):
        digest = survey(*arguments)
        path.write_text("MKV\n")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(file_identity, "_survey", late)
        assert "changed while it was being read" in refused(stored, path, protein_kind())

    # Nor one that changes later; and nothing is left of it.
    path.write_text("\n".join(PROTEINS))

    class Changes(Silent):
        def advance(self, done, total, numbers):
            if "records" in numbers:
                path.write_text("\n".join([PROTEINS[0][::-1], *PROTEINS[1:]]))

    assert "changed while it was being read" in refused(stored, path, protein_kind(), Changes())
    assert not [p for p in (tmp_path / "cache" / "tokens").iterdir() if p.is_dir()]


# ---------------------------------------------------------------------- the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A data set of the hub, of four Parquet files, that lies on this disk."""
    import datasets
    import huggingface_hub
    import pyarrow as pa
    from pyarrow import parquet

    for number in range(4):
        table = pa.table({"id": range(37), "sequence": PROTEINS[number * 37 : number * 37 + 37]})
        parquet.write_table(table, tmp_path / f"{number}.parquet", row_group_size=20)
    asked = []

    class Hub:
        def repo_info(self, name, **_):
            return type("Info", (), {"sha": "a1b2", "siblings": ()})

    whole = datasets.load_dataset

    def load(name, **options):
        asked.append((name, options))
        files = sorted(str(p) for p in tmp_path.glob("*.parquet"))
        return whole("parquet", data_files=files, split="train", streaming=True)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_a_data_set_of_the_hub_is_streamed_at_one_revision_and_gone_on_with(hub, tmp_path):
    wanted = PROTEINS[: 4 * 37]
    stream = streams.open_stream("some/where", None, corpora.EXPECTED)
    assert hub == [("some/where", {"split": "train", "streaming": True, "revision": "a1b2"})]
    assert stream.identify(None) == "some/where@a1b2"
    pieces = list(stream.pieces(None))
    assert [r for piece in pieces for r in piece.records] == wanted
    for number in (0, 7, len(pieces) - 1):
        place = json.loads(json.dumps(pieces[number].place))
        rest = [r for piece in stream.pieces(place) for r in piece.records]
        assert rest == [r for piece in pieces[number + 1 :] for r in piece.records]
    path = tmp_path / "a.txt"
    path.write_text("\n".join(wanted))
    corpus = large_corpora.load(
        "some/where", None, corpora.EXPECTED, train_records=None, validation_records=10**6
    )
    for one, other in zip(
        large_corpora.rows(corpus, protein_kind(), Silent()), in_memory(path, protein_kind()),
        strict=True,
    ):  # fmt: skip
        same(one, other)


def test_with_the_hub_switched_off_its_copy_on_this_disk_is_read(monkeypatch):
    import datasets

    kept = datasets.Dataset.from_dict({"sequence": PROTEINS, "id": range(len(PROTEINS))})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: kept)
    stream = streams.open_stream("some/where", None, corpora.EXPECTED)
    pieces = list(stream.pieces(None))
    assert [r for piece in pieces for r in piece.records] == PROTEINS
    assert [r for piece in stream.pieces(pieces[4].place) for r in piece.records] == PROTEINS[35:]
    assert stream.identify(None) == f"some/where@{kept._fingerprint}"


def test_with_the_hub_switched_off_another_revision_is_not_taken_for_the_one_asked_for(
    monkeypatch, tmp_path
):
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    reference = tmp_path / "hub" / "datasets--some--where" / "refs" / "v1"
    reference.parent.mkdir(parents=True)
    reference.write_text("a1b2")
    place = tmp_path / "some___where" / "default" / "0.0.0" / "a1b2"
    datasets.Dataset.from_dict({"sequence": PROTEINS}).save_to_disk(place)
    kept = datasets.load_from_disk(place)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: kept)
    for revision in ("a1b2", "v1"):
        pieces = streams.open_stream(f"some/where@{revision}", None, corpora.EXPECTED).pieces(None)
        assert [record for piece in pieces for record in piece.records] == PROTEINS
    line = refused(streams.open_stream, "some/where@c3d4", None, corpora.EXPECTED)
    assert "is of a1b2 and not of c3d4" in line


def test_without_network_a_hub_id_is_refused_in_a_line():
    config = RunConfig.from_recipe("protgpt2-tiny", data="some/where")
    line = refused(tasks.of("protgpt2-tiny").load_corpus, config)
    assert line.startswith("cannot load the data set some/where from the hub (")


# ---------------------------------------------------------------------- memory


def test_memory_stays_small_whatever_the_file_holds(monkeypatch, tmp_path):
    """20 MB of lines of 20 letters; a quarter of it, read at once, adds some 900 MB."""
    monkeypatch.undo()
    (case,) = streaming.measure(80, ["short_lines"], long_line=0, progress=Silent())[
        "cases"
    ].values()
    assert case["megabytes"] == 20 and case["rows"] > 800_000
    assert case["peak_mb"] - case["imports_mb"] < 100
    assert case["peak_mb"] < streaming.GOAL


def test_a_process_that_is_killed_is_not_taken_for_a_line_that_was_let_through(
    monkeypatch, tmp_path
):
    killed = subprocess.CompletedProcess([], -9, stdout="", stderr="")
    monkeypatch.setattr(streaming.subprocess, "run", lambda *_, **__: killed)
    line = refused(streaming._run, tmp_path / "long.txt", "letters", str(tmp_path), refused=True)
    assert line == "long.txt (letters): the process ended with -9 and said nothing"


@pytest.mark.skipif(not LONG, reason="2 GB take minutes; WORKBENCH_LONG_TESTS=1 runs it")
def test_two_gigabytes_take_less_than_600_mb(monkeypatch):
    monkeypatch.undo()
    found = streaming.measure(2048, ["proteins"], progress=Silent())
    assert found["cases"]["proteins"]["megabytes"] >= 2048
    assert all(goal["met"] for goal in found["goals"])
