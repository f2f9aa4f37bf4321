"""Tables of peptide–HLA pairs: what is read, what is left out and said, how it is split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench import classifiers, pairs
from workbench.errors import WorkbenchError
from workbench.worlds import peptides

PSEUDO = {a.name: a.pseudo_sequence for a in peptides.built_in_alleles()}
GOOD = "SLYNTVATL,HLA-A*02:01,1\n"
REAL = Path(__file__).parents[3] / "shared" / "data" / "pmhc" / "binding.csv"


@pytest.fixture
def write(tmp_path):
    def make(text: str | bytes, name: str = "binding.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return make


def read(source: str):
    return pairs.read_pairs(source, PSEUDO)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("SLYNTVATL,HLA-A*99:01,1", "allele is not in the table"),
        ("SLYNTVATL,,1", "allele is not in the table"),
        ("SLYNTVAJL,HLA-A*02:01,1", "none of the twenty amino acids"),
        ("SLY TVATL,HLA-A*02:01,1", "none of the twenty amino acids"),
        (",HLA-A*02:01,1", "empty or has letters"),
        ("SLYNTVA,HLA-A*02:01,1", "fewer than 8 or more than 15"),
        ("SLYNTVATLSLYNTVA,HLA-A*02:01,1", "fewer than 8 or more than 15"),
        ("SLYNTVATV,HLA-A*02:01,2", "neither 0 nor 1"),
        ("SLYNTVATV,HLA-A*02:01,", "neither 0 nor 1"),
        ("SLYNTVATV,HLA-A*02:01", "neither 0 nor 1"),
        ("SLYNTVATL,HLA-A*02:01,1", "the same pair again"),
    ],
)
def test_a_bad_row_is_left_out_and_named_by_its_line(write, row, said):
    records, notes = read(write(f"peptide,allele,label\n{GOOD}\n{row}\nRPHERNGFT,B0702,0\n"))
    assert [(r.peptide, r.allele, r.label) for r in records] == [
        ("SLYNTVATL", "HLA-A*02:01", 1), ("RPHERNGFT", "HLA-B*07:02", 0),
    ]  # fmt: skip
    (note,) = notes
    assert said in note and "1 of 3 rows" in note and note.endswith("(line 4)")


def test_a_pair_with_both_labels_is_left_out_in_all_its_rows(write):
    text = f"peptide,allele,label\n{GOOD}RPHERNGFT,B0702,0\nSLYNTVATL,A0201,0\nSLYNTVATL,A0201,1\n"
    records, notes = read(write(text))
    assert [r.peptide for r in records] == ["RPHERNGFT"]
    assert any("both labels" in note and "lines 2, 4" in note for note in notes)
    # Every row is accounted for: one kept, the others in the notes.
    counted = sum(int(note.split(": ")[1].split(" of ")[0]) for note in notes)
    assert counted + len(records) == 4


def test_many_bad_rows_are_counted_and_the_first_named(write):
    text = "peptide,allele,label\n" + GOOD + "AAA,A0201,1\n" * 1200
    _, (note,) = read(write(text))
    assert "1,200 of 1,201 rows" in note and "lines 3, 4, 5, 6, 7 and 1,195 more" in note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("peptide,allele,label\n", "no usable pair"),
        ("peptide,label\nSLYNTVATL,1\n", "has no column allele"),
        ("a,b\n1,2\n", "no column peptide and no column allele and no column label"),
        ("peptide,allele,label\nXX,A0201,1\n", "the first fault"),
        (b"peptide,allele,label\n\0\n", "binary file"),
        (b"peptide,allele,label\nSLYNT\xffATL,A0201,1\n", "is not UTF-8"),
    ],
)
def test_a_file_without_pairs_is_one_line(write, text, said):
    with pytest.raises(WorkbenchError) as error:
        read(write(text))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert "expected" in str(error.value) or "save the file" in str(error.value)


def test_a_place_that_is_no_file_is_one_line(tmp_path):
    for source, said in ((tmp_path, "is a directory"), (tmp_path / "no.csv", "there is no file")):
        with pytest.raises(WorkbenchError, match=said):
            read(str(source))


@pytest.mark.parametrize(
    "text",
    [
        "peptide,allele,label\r\nslyntvatl,A*02:01,1\r\n",
        "\ufeffpeptide,allele,label\n SLYNTVATL , a0201 ,1.0\n",
        'label,"allele",extra,PEPTIDE\n1,"HLA-A*02:01","x, y",SLYNTVATL\n',
    ],
)
def test_what_spreadsheets_write_is_read(write, text):
    records, notes = read(write(text))
    assert (records[0].peptide, records[0].allele, records[0].label, notes) == (
        "SLYNTVATL", "HLA-A*02:01", 1, [],
    )  # fmt: skip


def test_tabs_separate_a_tsv(write):
    records, _ = read(write("peptide\tallele\tlabel\nSLYNTVATL\tA0201\t1\n", "b.tsv"))
    assert records[0].peptide == "SLYNTVATL"


def test_one_label_only_is_refused(write):
    rows = "".join(f"{r.peptide},{r.allele},1\n" for r in pairs.seen_world().sample(200, seed=1))
    with pytest.raises(WorkbenchError, match="have the label 1; expected binders"):
        pairs.load(write("peptide,allele,label\n" + rows))
    with pytest.raises(WorkbenchError, match="too few to hold a tenth"):
        pairs.load(write("peptide,allele,label\n" + GOOD))


def test_pseudo_sequences_of_a_table_stand_instead_of_the_built_in_ones(write):
    groove = "A" * 34
    table = write(f"allele,pseudosequence\nHLA-A*99:01,{groove}\n", "alleles.csv")
    assert pairs.read_alleles(table) == {"HLA-A*99:01": groove}
    short = write("allele,pseudosequence\nHLA-A*99:01,AAA\n", "short.csv")
    with pytest.raises(WorkbenchError, match=r"line 2: .*HLA-A\*99:01 is 'AAA'; expected 34"):
        pairs.read_alleles(short)


# ---------------------------------------------------------------------- split and world


def test_a_peptide_is_on_one_side_whatever_the_file(write):
    records = pairs.seen_world().sample(600, seed=2)
    lines = [f"{r.peptide},{r.allele},{r.label}\n" for r in records]
    one = pairs.load(write("peptide,allele,label\n" + "".join(lines), "one.csv"))
    two = pairs.load(write("peptide,allele,label\n" + "".join(lines[::-2]), "two.csv"))
    assert not {r.peptide for r in one.train} & {r.peptide for r in one.validation}
    assert {r.peptide for r in two.validation} <= {r.peptide for r in one.validation}
    assert len(one.train) + len(one.validation) == 600
    assert not one.has_oracle and one.unseen == []


@pytest.fixture(scope="module")
def world() -> pairs.PairCorpus:
    return pairs.load(pairs.PEPTIDE_WORLD, train_pairs=800, validation_pairs=400)


def test_the_world_keeps_its_three_parts_apart(world):
    train, test, unseen = ({r.peptide for r in part}
                           for part in (world.train, world.validation, world.unseen))  # fmt: skip
    assert (len(world.train), len(world.validation), len(world.unseen)) == (800, 400, 100)
    assert not train & (test | unseen)
    held_out = set(peptides.HELD_OUT_ALLELES)
    assert not held_out & {r.allele for r in (*world.train, *world.validation)}
    assert not held_out & {r.source for r in (*world.train, *world.validation)}
    assert held_out == {r.allele for r in world.unseen}
    again = pairs.load(pairs.PEPTIDE_WORLD, train_pairs=800, validation_pairs=400)
    assert again.train == world.train and again.unseen == world.unseen


def test_the_oracle_of_a_corpus_is_that_of_the_right_world(world):
    record, seen = world.validation[0], pairs.seen_world()
    assert world.oracle(world.validation)[0] == seen.oracle(record.peptide, record.allele)
    record = world.unseen[0]
    whole = peptides.default_world()
    assert world.oracle(world.unseen)[0] == whole.oracle(record.peptide, record.allele)
    assert len(world.oracle_without_allele(world.unseen)) == 100


def test_rows_are_the_groove_then_the_peptide(world):
    tokenizer = classifiers.residue_tokenizer()
    rows = pairs.tokenise(world.train, world.pseudo_sequences, tokenizer, 64)
    first = world.train[0]
    words = tokenizer.convert_ids_to_tokens(rows.tokens[0].tolist())
    residues = world.pseudo_sequences[first.allele] + first.peptide
    assert words == ["[CLS]", *residues, "[SEP]"]
    assert np.array_equal(rows.labels, [r.label for r in world.train])
    with pytest.raises(WorkbenchError, match="the model takes 40"):
        pairs.tokenise(world.train, world.pseudo_sequences, tokenizer, 40)


# ---------------------------------------------------------------------- the real table


@pytest.mark.skipif(not REAL.exists(), reason="the real table is not beside the project")
def test_the_real_table_is_read_whole_and_damage_to_it_is_told(tmp_path):
    corpus = pairs.load(str(REAL))
    assert (len(corpus.train), len(corpus.validation), corpus.notes) == (45_921, 5_127, ())
    lines = REAL.read_text().splitlines()[:2001]
    lines[10] = lines[10].replace("HLA", "XYZ")
    lines[20] = "?" + lines[20]
    lines[30] = lines[31]
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("\n".join(lines))
    records, notes = read(str(damaged))
    assert len(records) == 1997
    assert sorted(note.rpartition("(")[2] for note in notes) == ["line 11)", "line 21)", "line 32)"]
