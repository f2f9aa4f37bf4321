"""Tables of pairs line by line, the split of any file, the world's three parts, rows of tokens."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from workbench.classifying import classifiers, pairs
from workbench.errors import WorkbenchError
from workbench.worlds import peptides

PSEUDO = {a.name: a.pseudo_sequence for a in peptides.built_in_alleles()}
HEADER = "peptide,allele,label\n"
LETTERS = "the peptide is empty or has letters that are none of the twenty amino acids"
LENGTH = "the peptide has fewer than 8 or more than 15 residues"
ALLELE = "the allele is not in the table of pseudo-sequences"
LABEL = "the label is neither 0 nor 1"
AGAIN = "the same pair again"
BOTH = "the same pair with both labels"
#: The table of a user, and why its lines are left out; a dash is a line that is no row.
LINES = (
    ("peptide,allele,label", "-"),
    ("SLYNTVATL,HLA-A*02:01,1", ""),
    ("RPHERNGFT,HLA-B*07:02,0", ""),
    ("SLYNTVATL,HLA-A*99:99,1", ALLELE),
    ("", "-"),
    ("SLYNTVAXL,HLA-A*02:01,1", LETTERS),
    ("SLYNTVA*L,HLA-A*02:01,1", LETTERS),
    (",HLA-A*02:01,1", LETTERS),
    (" , ,", "-"),
    ("ACDEFGH,HLA-A*02:01,1", LENGTH),
    ("ACDEFGHI,HLA-A*02:01,1", ""),
    ("ACDEFGHIKLMNPQR,HLA-A*02:01,0", ""),
    ("ACDEFGHIKLMNPQRS,HLA-A*02:01,0", LENGTH),
    ("GILGFVFTL,HLA-A*02:01,2", LABEL),
    ("GILGFVFTL,HLA-A*02:01,", LABEL),
    ("GILGFVFTL,HLA-A*02:01,binder", LABEL),
    ("GILGFVFTL,HLA-A*02:01,nan", LABEL),
    ("GILGFVFTL,HLA-A*02:01,-1", LABEL),
    ("GILGFVFTL,HLA-A*02:01", LABEL),
    ("GILGFVFTL", ALLELE),
    ("GILGFVFTL,,1", ALLELE),
    ("slyntvatl,A0201,1", AGAIN),
    ("KRWIILGLN,HLA-B*27:05,1", BOTH),
    ("KRWIILGLN,HLA-B*27:05,1", AGAIN),
    ("KRWIILGLN,HLA-B*27:05,0", BOTH),
    ("KRWIILGLN,HLA-A*02:01,0", ""),
)
REAL = Path(__file__).parents[3] / "shared" / "data" / "pmhc" / "binding.csv"
real = pytest.mark.skipif(not REAL.exists(), reason=f"the measured pairs are not at {REAL}")


@pytest.fixture
def write(tmp_path):
    def make(text: str | bytes, name: str = "table.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return make


def refused(function, *arguments, **options) -> str:
    """The one line with which something is refused."""
    with pytest.raises(WorkbenchError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def told(notes) -> dict[str, tuple[int, str]]:
    """Reason → how many rows, and the lines as written, of notes."""
    found = {}
    for note in notes:
        _, counts, rest = note.split(": ", 2)
        reason, _, lines = rest.rpartition(" (")
        found[reason] = (int(counts.split(" of ")[0].replace(",", "")), lines.removesuffix(")"))
    return found


# ---------------------------------------------------------------------- a table


@pytest.mark.parametrize(
    ("name", "separator", "end"),
    [("t.csv", ",", "\n"), ("t.csv", ",", "\r\n"), ("t.TSV", "\t", "\n"), ("t.csv", ",", "\r")],
)
def test_every_line_is_kept_or_named(write, name, separator, end):
    text = end.join(line.replace(",", separator) for line, _ in LINES)
    records, notes = pairs.read_pairs(write(text, name), PSEUDO)
    assert [(r.peptide, r.allele, r.label) for r in records] == [
        ("SLYNTVATL", "HLA-A*02:01", 1),
        ("RPHERNGFT", "HLA-B*07:02", 0),
        ("ACDEFGHI", "HLA-A*02:01", 1),
        ("ACDEFGHIKLMNPQR", "HLA-A*02:01", 0),
        ("KRWIILGLN", "HLA-A*02:01", 0),
    ]
    assert {(r.kind, r.source) for r in records} == {(pairs.MEASURED, "")}
    assert told(notes) == {
        ALLELE: (3, "lines 4, 20, 21"),
        LETTERS: (3, "lines 6, 7, 8"),
        LENGTH: (2, "lines 10, 13"),
        LABEL: (6, "lines 14, 15, 16, 17, 18 and 1 more"),
        AGAIN: (2, "lines 22, 24"),
        BOTH: (2, "lines 23, 25"),
    }
    # The table above says the same of every single line.
    for reason, (count, _) in told(notes).items():
        assert count == sum(why == reason for _, why in LINES)
    rows = sum(why != "-" for _, why in LINES)
    assert rows == len(records) + sum(count for count, _ in told(notes).values())
    assert all(f" of {rows} rows left out" in note for note in notes)


def test_lines_are_those_of_the_file_where_a_cell_spans_several(write):
    text = (
        'peptide,allele,label,remark\nSLYNTVATL,A0201,1,"two\nlines"\nBAD,A0201,1,\n'
        'RPHERNGFT,B0702,0,"three\r\n\r\nlines"\nRPHERNGFV,B0702,7,none\n'
    )
    records, notes = pairs.read_pairs(write(text), PSEUDO)
    assert [r.peptide for r in records] == ["SLYNTVATL", "RPHERNGFT"]
    assert told(notes) == {LETTERS: (1, "line 4"), LABEL: (1, "line 8")}


@pytest.mark.parametrize("text", ["A0201", "A*0201", "A*02:01", "hla-a*02:01", " HLA-A0201 "])
def test_spellings_of_an_allele_are_one_pair(write, text):
    assert pairs.allele_name(text) == "HLA-A*02:01"
    table = f"{HEADER}SLYNTVATL,HLA-A*02:01,1\nslyntvatl,{text},1\nRPHERNGFT,{text},0\n"
    records, notes = pairs.read_pairs(write(table), PSEUDO)
    assert [(r.peptide, r.allele) for r in records] == [
        ("SLYNTVATL", "HLA-A*02:01"), ("RPHERNGFT", "HLA-A*02:01"),
    ]  # fmt: skip
    assert told(notes) == {AGAIN: (1, "line 3")}


@pytest.mark.parametrize("text", ["", "H-2-Kb", "A2", "HLA-A*02", "HLA-D*02:01", "A*02:01:01"])
def test_what_is_no_allele_keeps_its_name(text):
    assert pairs.allele_name(f" {text} ") == text


def test_columns_are_found_by_name_in_any_order_and_case(write):
    text = "\ufeffPeptide,remark, Label ,ALLELE\nslyntvatl,x,0.0,A0201\nRPHERNGFT,,1.0,B0702\n"
    records, notes = pairs.read_pairs(write(text), PSEUDO)
    assert [r.label for r in records] == [0, 1] and notes == []
    assert records[0].peptide == "SLYNTVATL"


def test_a_packed_table_holds_what_the_plain_one_holds(write, tmp_path):
    drawn = pairs.seen_world().sample(200, seed=3)
    plain = write(HEADER + "".join(f"{r.peptide},{r.allele},{r.label}\n" for r in drawn))
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    one, other = pairs.load(plain), pairs.load(str(packed))
    assert one.train == other.train and one.validation == other.validation and one.train
    packed.write_bytes(gzip.compress(b""))
    assert f"{packed} is empty; expected the columns" in refused(pairs.load, str(packed))
    packed.write_bytes(gzip.compress(b"peptide,allele,label\n" * 999)[:-20])
    assert "is damaged or no gzip file" in refused(pairs.load, str(packed))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty; expected the columns peptide, allele, label"),
        (HEADER.encode(), "holds no usable pair of peptide and allele; expected the columns"),
        (b"peptide,allele\nSLYNTVATL,A0201\n", "no column label (it has peptide, allele)"),
        (b"peptide;allele;label\nSLYNTVATL;A0201;1\n", "(it has peptide;allele;label)"),
        (b"SLYNTVATL,A0201,1\n", "no column peptide and no column allele and no column label"),
        (b"peptide,allele,label\nSLYNTVATL,Z,1\nR,A0201,0\n", f"in 2 rows; the first fault: "
         f"TABLE: 1 of 2 rows left out: {ALLELE} (line 2)"),
        (b"peptide,allele,label\nSLYNTVATL,A0201,1\nSLYNTVATL,A0201,0\n", f"{BOTH} (lines 2, 3)"),
        ("peptide,allele,label\n".encode("utf-16"), "is a binary file (a zero byte"),
        (b"peptide,allele,label\n\x00\x01\x02", "is a binary file (a zero byte in line 2)"),
        (b"peptide,allele,label\n\n\xe9,A0201,1\n", "line 3, is not UTF-8 text (byte 0xe9"),
    ],
)  # fmt: skip
def test_a_table_without_pairs_is_refused_in_one_line(write, text, said):
    source = write(text)
    for message in (refused(pairs.read_pairs, source, PSEUDO), refused(pairs.load, source)):
        assert message.startswith(source)
        assert said.replace("TABLE", source) in message


def test_a_place_without_a_table_is_refused_in_one_line(tmp_path):
    missing = refused(pairs.load, str(tmp_path / "none.csv"))
    assert f"there is no file {tmp_path / 'none.csv'}" in missing
    assert missing.endswith("peptide, allele, label, or world:peptides")
    assert f"{tmp_path} is a directory; expected a CSV or TSV" in refused(pairs.load, str(tmp_path))


@pytest.mark.parametrize("label", [0, 1])
def test_a_table_of_one_label_teaches_nothing(write, label):
    rows = "".join(f"{r.peptide},{r.allele},{label}\n" for r in pairs.seen_world().sample(100, 1))
    message = refused(pairs.load, write(HEADER + rows))
    assert f"have the label {label}; expected binders (1) and non-binders (0)" in message


def test_a_part_of_one_label_is_refused_too(write):
    # Binders alone among the peptides that are held out.
    records = [
        r for r in pairs.seen_world().sample(300, seed=2)
        if r.label or not peptides.is_test_peptide(r.peptide)
    ]  # fmt: skip
    rows = "".join(f"{r.peptide},{r.allele},{r.label}\n" for r in records)
    assert "for the test have the label 1" in refused(pairs.load, write(HEADER + rows))


# ---------------------------------------------------------------------- a table of alleles


def test_alleles_of_a_table_replace_the_built_in_ones(write):
    groove = PSEUDO["HLA-A*02:01"]
    table = write(
        f"note,pseudosequence,allele\n,{groove.lower()},a0201\n\n,{groove[:-1]}X,H-2-Kb\n", "a.csv"
    )
    assert pairs.read_alleles(table) == {"HLA-A*02:01": groove, "H-2-Kb": groove[:-1] + "X"}
    drawn = pairs.seen_world().sample(400, seed=3)
    rows = "".join(
        f"{r.peptide},{'A*02:01' if i % 2 else 'H-2-Kb'},{r.label}\n" for i, r in enumerate(drawn)
    )
    source = write(f"{HEADER}{rows}RPHERNGFT,B0702,1\n")
    corpus = pairs.load(source, alleles=table)
    assert corpus.pseudo_sequences == {"H-2-Kb": groove[:-1] + "X", "HLA-A*02:01": groove}
    assert told(corpus.notes) == {ALLELE: (1, "line 402")}
    (count, _) = told(pairs.load(source).notes)[ALLELE]
    assert count == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; expected the columns allele, pseudosequence"),
        ("allele,pseudosequence\n", "has no alleles below its first line"),
        ("allele,pseudo_sequence\nA0201,AAA\n", "has no column pseudosequence (it has allele"),
        (f"allele,pseudosequence\nB0702,{'A' * 34}\nA0201,{'A' * 33}\n",
         f"line 3: the pseudo-sequence of HLA-A*02:01 is '{'A' * 33}'; expected 34 one-letter"),
        (f"allele,pseudosequence\nA0201,{'A' * 35}\n", f"is '{'A' * 35}'; expected 34"),
        (f"allele,pseudosequence\nA0201,{'A' * 33}B\n", f"is '{'A' * 33}B'; expected 34"),
        ("allele,pseudosequence\nA0201\n", "HLA-A*02:01 is ''; expected 34"),
    ],
)  # fmt: skip
def test_a_bad_table_of_alleles_is_refused_in_one_line(write, text, said):
    source = write(text, "alleles.csv")
    message = refused(pairs.load, write(HEADER), alleles=source)
    assert message.startswith(source) and said in message


def test_a_missing_table_of_alleles_is_no_world(tmp_path):
    message = refused(pairs.read_alleles, str(tmp_path / "none.csv"))
    assert "there is no file" in message and message.endswith("allele, pseudosequence")


# ---------------------------------------------------------------------- the split


def test_a_peptide_stays_on_its_side_with_other_alleles_and_in_other_files(write):
    drawn = [r.peptide for r in pairs.seen_world().sample(300, seed=4)]
    alleles = ("A0201", "B0702", "B2705")

    def load(name: str, peptides_in_order: list[str], names: tuple[str, ...]):
        rows = [f"{p},{a},{i % 2}\n" for i, p in enumerate(peptides_in_order) for a in names]
        corpus = pairs.load(write(HEADER + "".join(rows), name))
        sides = [{r.peptide for r in part} for part in (corpus.train, corpus.validation)]
        assert not sides[0] & sides[1]
        assert len(corpus.train) + len(corpus.validation) == len(rows)
        return sides

    train, held_out = load("whole.csv", drawn, alleles)
    assert len(held_out) == pytest.approx(30, abs=15)
    for names in (alleles, alleles[1:2]):
        train_of_part, held_out_of_part = load("part.csv", drawn[250:60:-1], names)
        assert train_of_part <= train and held_out_of_part <= held_out
        assert len(train_of_part) + len(held_out_of_part) == 190


def test_a_table_has_neither_oracle_nor_unseen_alleles_and_may_be_cut(write):
    drawn = pairs.seen_world().sample(300, seed=5)
    source = write(HEADER + "".join(f"{r.peptide},{r.allele},{r.label}\n" for r in drawn))
    corpus = pairs.load(source)
    assert (corpus.source, corpus.has_oracle, corpus.unseen) == (source, False, [])
    assert set(corpus.pseudo_sequences) == {r.allele for r in drawn}
    cut = pairs.load(source, train_pairs=120)
    kept = {(r.peptide, r.allele) for r in (*cut.train, *cut.validation)}
    assert kept == {(r.peptide, r.allele) for r in drawn[:120]}
    assert "too few to hold a tenth" in refused(pairs.load, source, train_pairs=1)


# ---------------------------------------------------------------------- the world


@pytest.fixture(scope="module")
def world() -> pairs.PairCorpus:
    return pairs.load(pairs.PEPTIDE_WORLD, train_pairs=1500, validation_pairs=600)


def test_no_peptide_is_in_two_parts_of_the_world(world):
    parts = {
        name: {r.peptide for r in getattr(world, name)}
        for name in ("train", "validation", "unseen")
    }
    assert [len(getattr(world, name)) for name in parts] == [1500, 600, 150]
    assert not parts["train"] & parts["validation"]
    assert not parts["train"] & parts["unseen"]
    assert not parts["validation"] & parts["unseen"]


def test_a_peptide_drawn_twice_is_judged_and_not_learned_from(monkeypatch):
    # Two draws of the world hardly ever meet; here a peptide is one of 400.
    draw = peptides.PeptideWorld.sample

    def coarse(self, *arguments, **options):
        records = draw(self, *arguments, **options)
        return [r._replace(peptide=r.peptide[:2] * 4) for r in records]

    monkeypatch.setattr(peptides.PeptideWorld, "sample", coarse)
    corpus = pairs.load(pairs.PEPTIDE_WORLD, train_pairs=200, validation_pairs=40)
    learned = {r.peptide for r in corpus.train}
    assert len(learned) > 20 and (len(corpus.validation), len(corpus.unseen)) == (40, 10)
    assert not learned & {r.peptide for r in corpus.validation}
    assert not learned & {r.peptide for r in corpus.unseen}


def test_nothing_of_a_held_out_allele_is_learned_from(world):
    for part in (world.train, world.validation):
        for record in part:
            assert record.allele not in peptides.HELD_OUT_ALLELES
            assert record.source not in peptides.HELD_OUT_ALLELES
    assert {r.allele for r in world.unseen} == set(peptides.HELD_OUT_ALLELES)
    # All three kinds are in all three parts, and every allele has its groove.
    for part in (world.train, world.validation, world.unseen):
        assert {r.kind for r in part} == {"binder", "random", "swap"}
        assert {r.allele for r in part} <= set(world.pseudo_sequences)
    assert world.pseudo_sequences == PSEUDO and world.has_oracle and world.notes == ()


@pytest.mark.parametrize("part", ["validation", "unseen"])
def test_the_oracle_is_that_of_the_world_the_part_was_drawn_from(world, part):
    records = getattr(world, part)
    seen = [a for a in peptides.allele_names() if a not in peptides.HELD_OUT_ALLELES]
    whole = peptides.default_world()
    right, wrong = (whole.only(seen), whole) if part == "validation" else (whole, None)
    expected = [right.oracle(r.peptide, r.allele) for r in records[:40]]
    assert world.oracle(records)[:40] == pytest.approx(expected, rel=1e-12)
    blind = right.oracle_without_allele([r.peptide for r in records])
    assert np.array_equal(world.oracle_without_allele(records), blind)
    if wrong is not None:  # the two worlds do differ
        other = wrong.oracle_batch([r.peptide for r in records], [r.allele for r in records])
        assert np.abs(world.oracle(records) - other).max() > 0.01


def test_the_oracle_is_calibrated_where_it_is_used(world):
    # A sum of independent labels around its expectation, in standard deviations.
    for records in (world.validation, world.unseen):
        p = world.oracle(records)
        surplus = sum(r.label for r in records) - p.sum()
        assert abs(surplus) < 4 * np.sqrt((p * (1 - p)).sum())


def test_the_same_call_draws_the_same_and_the_test_is_the_same_for_every_size(world):
    again = pairs.load(pairs.PEPTIDE_WORLD, train_pairs=1500, validation_pairs=600)
    assert again == world
    fewer = pairs.load(pairs.PEPTIDE_WORLD, train_pairs=100, validation_pairs=600)
    assert (fewer.validation, fewer.unseen) == (world.validation, world.unseen)
    assert not {r.peptide for r in fewer.train} & {r.peptide for r in world.validation}


# ---------------------------------------------------------------------- rows of tokens


def test_every_row_is_the_groove_and_the_peptide_between_two_marks(world):
    tokenizer = classifiers.residue_tokenizer()
    records = world.unseen[:50]
    longest = max(len(r.peptide) for r in records) + 36
    rows = pairs.tokenise(records, world.pseudo_sequences, tokenizer, longest)
    assert len(rows) == 50 and rows.residues == sum(34 + len(r.peptide) for r in records)
    assert rows.labels.tolist() == [r.label for r in records] and rows.labels.dtype == np.int64
    for ids, record in zip(rows.tokens, records, strict=True):
        found = tokenizer.convert_ids_to_tokens(ids.tolist())
        assert found == ["[CLS]", *world.pseudo_sequences[record.allele], *record.peptide, "[SEP]"]
    message = refused(pairs.tokenise, records, world.pseudo_sequences, tokenizer, longest - 1)
    assert f"a pair makes {longest} tokens and the model takes {longest - 1}" in message


# ---------------------------------------------------------------------- measured pairs


@real
def test_all_measured_pairs_are_read_and_split():
    corpus = pairs.load(str(REAL))
    assert corpus.notes == ()
    assert (len(corpus.train), len(corpus.validation)) == (45_921, 5_127)
    assert not {r.peptide for r in corpus.train} & {r.peptide for r in corpus.validation}


@real
def test_damage_to_measured_pairs_is_told_line_by_line(write):
    lines = REAL.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 51_049
    whole, _ = pairs.read_pairs(str(REAL), PSEUDO)
    peptide, allele, label = lines[99].split(",")
    damage = {
        100: (f"{peptide}J,{allele},{label}", LETTERS),
        200: ("", "-"),
        300: (f"{peptide[:5]},{allele},{label}", LENGTH),
        40_000: (f"{lines[39_999].rpartition(',')[0]},x", LABEL),
        51_049: (lines[51_048].split(",")[0], ALLELE),
    }
    for line, (text, _) in damage.items():
        lines[line - 1] = text
    lines.append(lines[1])  # line 51,050 again is line 2
    first, second = lines[2].rsplit(",", 1)
    lines.append(f"{first},{1 - int(second)}")  # line 51,051 contradicts line 3
    records, notes = pairs.read_pairs(write("\r\n".join(lines)), PSEUDO)
    assert told(notes) == {
        **{why: (1, f"line {line}") for line, (_, why) in damage.items() if why != "-"},
        AGAIN: (1, "line 51050"),
        BOTH: (2, "lines 3, 51051"),
    }
    assert all(f"of {51_049:,} rows" in note for note in notes)
    gone = {whole[line - 2] for line in (3, *damage)}
    assert records == [r for r in whole if r not in gone]


# ---------------------------------------------------------------------- what was found wrong


@pytest.mark.parametrize("rows", [2, 9000])
def test_a_quote_that_is_never_closed_swallows_nothing(tmp_path, rows):
    path = tmp_path / "quote.csv"
    path.write_text('peptide,allele,label\n"SLYNTVATL,A0201,1\n' + "RPHERNGFT,B0702,0\n" * rows)
    with pytest.raises(WorkbenchError, match="expected every quote to be closed"):
        pairs.read_pairs(str(path), pairs._built_in_pseudo_sequences())


def test_an_allele_with_two_pseudo_sequences_is_refused(tmp_path):
    path = tmp_path / "alleles.csv"
    lines = [f"A0201,{'A' * 34}", f"HLA-A*02:01,{'A' * 34}", f"HLA-A*02:01,{'C' * 34}"]
    path.write_text("allele,pseudosequence\n" + "\n".join(lines))
    with pytest.raises(WorkbenchError, match=r"line 4: HLA-A\*02:01 stands there a second time"):
        pairs.read_alleles(str(path))


def test_blank_lines_above_the_header_are_no_table_without_one(tmp_path):
    path = tmp_path / "blank.csv"
    path.write_text("\n ,\npeptide,allele,label\nSLYNTVATL,A0201,1\n")
    records, _ = pairs.read_pairs(str(path), pairs._built_in_pseudo_sequences())
    assert [r.peptide for r in records] == ["SLYNTVATL"]
    assert len(pairs.tokenise([], {}, None, 64)) == 0
