"""Peptide–HLA pairs: from a world or a table of a user to rows for a classifier.

    source → `load` → `PairCorpus` → `tokenise` → rows with labels → `corpora.make_batches`

A table has the columns ``peptide``, ``allele`` and ``label``. Nothing is dropped silently:
every row that cannot be used is counted, by reason, with the lines it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.classifying.classifiers import write
from workbench.corpora import Rows
from workbench.errors import WorkbenchError
from workbench.records import tables
from workbench.worlds import peptides
from workbench.worlds.peptides import Record
from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PEPTIDE_WORLD = "world:peptides"
COLUMNS = ("peptide", "allele", "label")
ALLELE_COLUMNS = ("allele", "pseudosequence")
#: Lengths of peptides that HLA class I molecules are measured with.
SHORTEST, LONGEST = 8, 15
PSEUDO_LENGTH = 34
#: Pairs with alleles never seen that a world draws, as a share of the other held-out pairs.
UNSEEN_SHARE = 0.25
#: Seeds of the built-in data, the same for every run, so that runs can be compared and the
#: teacher's answers kept.
TRAIN_SEED, TEST_SEED, HELD_OUT_SEED = 3_000_001, 3_000_002, 3_000_003
#: `Record.kind` of a pair from a table: whether a negative is a binder of another allele is
#: then not known.
MEASURED = "measured"


@dataclass(frozen=True)
class PairCorpus:
    """Pairs to learn from and pairs to be judged by; no peptide is in both.

    Attributes:
        source: what was given.
        train: pairs to learn from.
        validation: held out.
        unseen: pairs with alleles that no training pair has; empty for a table.
        pseudo_sequences: of every allele that occurs.
        notes: sentences about what was left out, for the user.
        has_oracle: whether the truth about these pairs is known.
    """

    source: str
    train: list[Record]
    validation: list[Record]
    unseen: list[Record]
    pseudo_sequences: dict[str, str]
    notes: tuple[str, ...] = ()
    has_oracle: bool = False

    def oracle(self, records: Sequence[Record]) -> np.ndarray:
        """Exact P(binder | peptide, allele) of `validation` or of `unseen`, ``[n]``."""
        world = _world_of(records)
        return world.oracle_batch([r.peptide for r in records], [r.allele for r in records])

    def oracle_without_allele(self, records: Sequence[Record]) -> np.ndarray:
        """Exact P(binder | peptide) of the same, the best that a model blind to the HLA knows."""
        world = _world_of(records)
        return world.oracle_without_allele([r.peptide for r in records])


def seen_world() -> peptides.PeptideWorld:
    """The built-in world without the alleles that are held out altogether."""
    seen = [a for a in peptides.allele_names() if a not in peptides.HELD_OUT_ALLELES]
    return peptides.default_world().only(seen)


def _world_of(records: Sequence[Record]) -> peptides.PeptideWorld:
    """The world that some records were drawn from: the whole one where an unseen allele is."""
    unseen = any(r.allele in peptides.HELD_OUT_ALLELES for r in records)
    return peptides.default_world() if unseen else seen_world()


def load(
    source: str,
    *,
    alleles: str | None = None,
    train_pairs: int | None = None,
    validation_pairs: int = 3000,
) -> PairCorpus:
    """Read a source and hold a part of it out.

    Args:
        source: ``world:peptides`` or a CSV or TSV file.
        alleles: table of pseudo-sequences; by default the built-in one.
        train_pairs: how many to draw from a world; most to take from a table.
        validation_pairs: how many to draw from a world; of a table a tenth of its peptides.

    Raises:
        WorkbenchError: if the source is missing, empty, unreadable, or holds no usable pair.
    """
    if source == PEPTIDE_WORLD:
        return _world(train_pairs or 6000, validation_pairs)
    pseudo = read_alleles(alleles) if alleles else _built_in_pseudo_sequences()
    records, notes = read_pairs(source, pseudo)
    if train_pairs is not None:
        records = records[:train_pairs]
    split = peptides.split_by_peptide(records)
    if not split.train or not split.test:
        raise WorkbenchError(
            f"{source} holds {len(records)} usable pairs, too few to hold a tenth of the peptides "
            "out; expected some dozens at least"
        )
    for name, part in (("train", split.train), ("test", split.test)):
        if len({r.label for r in part}) < 2:
            raise WorkbenchError(
                f"all {len(part)} pairs of {source} for the {name} have the label "
                f"{part[0].label}; expected binders (1) and non-binders (0)"
            )
    used = {r.allele for r in records}
    return PairCorpus(
        source, split.train, split.test, [], {a: pseudo[a] for a in sorted(used)}, tuple(notes)
    )


def read_pairs(source: str, pseudo_sequences: dict[str, str]) -> tuple[list[Record], list[str]]:
    """The usable pairs of a table, in its order, and notes about the other lines.

    Raises:
        WorkbenchError: if there is no table, a column is missing, or no row is usable.
    """
    rows = _read(Path(source).expanduser(), COLUMNS)
    left_out: dict[str, list[int]] = {}
    found: dict[tuple[str, str], tuple[int, int]] = {}
    contradicted: set[tuple[str, str]] = set()
    for line, cells in rows:
        peptide, allele = cells["peptide"].upper(), allele_name(cells["allele"])
        label = cells["label"]
        reason = _fault(peptide, allele, label, pseudo_sequences)
        if reason:
            left_out.setdefault(reason, []).append(line)
            continue
        pair = (peptide, allele)
        if pair not in found:
            found[pair] = (line, int(float(label)))
        elif found[pair][1] == int(float(label)):
            left_out.setdefault("the same pair again", []).append(line)
        else:
            contradicted.add(pair)
            left_out.setdefault("the same pair with both labels", []).append(line)
    for pair in contradicted:
        left_out["the same pair with both labels"].append(found.pop(pair)[0])
    notes = tables.left_out(source, len(rows), left_out)
    if not found:
        raise WorkbenchError(
            f"{source} holds no usable pair of peptide and allele"
            + (f" in {len(rows):,} rows; the first fault: {notes[0]}" if notes else "")
            + f"; expected the columns {', '.join(COLUMNS)}"
        )
    records = [
        Record(peptide, allele, label, MEASURED, "")
        for (peptide, allele), (_, label) in found.items()
    ]
    return records, notes


def read_alleles(source: str) -> dict[str, str]:
    """Pseudo-sequences by allele from a table with the columns of `ALLELE_COLUMNS`.

    Raises:
        WorkbenchError: naming the first line that is not an allele and 34 residues.
    """
    table: dict[str, str] = {}
    for line, cells in _read(Path(source).expanduser(), ALLELE_COLUMNS):
        name, residues = allele_name(cells["allele"]), cells["pseudosequence"].upper()
        if len(residues) != PSEUDO_LENGTH or set(residues) - set(AMINO_ACIDS + "X"):
            raise WorkbenchError(
                f"{source}, line {line}: the pseudo-sequence of {name or '(no name)'} is "
                f"{residues!r}; expected {PSEUDO_LENGTH} one-letter amino acids"
            )
        if table.setdefault(name, residues) != residues:
            raise WorkbenchError(
                f"{source}, line {line}: {name} stands there a second time with another "
                "pseudo-sequence; expected one for each allele"
            )
    if not table:
        raise WorkbenchError(f"{source} has no alleles below its first line")
    return table


def allele_name(text: str) -> str:
    """An allele's name as the tables write it: ``A0201`` and ``A*02:01`` become HLA-A*02:01."""
    match = re.fullmatch(r"(?:HLA-)?([ABCEG])\*?(\d{2,3}):?(\d{2,3})", text.strip().upper())
    return f"HLA-{match[1]}*{match[2]}:{match[3]}" if match else text.strip()


def tokenise(
    records: Sequence[Record],
    pseudo_sequences: dict[str, str],
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
) -> Rows:
    """Pairs as rows of tokens: [CLS], 34 residues of the groove, the peptide, [SEP].

    Args:
        records: pairs.
        pseudo_sequences: by allele.
        tokenizer: one token a residue.
        positions: most tokens that the model takes.

    Raises:
        WorkbenchError: if a pair is longer than that.
    """
    if not records:
        return Rows([], 0, np.empty(0, dtype=np.int64))
    texts = [write(pseudo_sequences[r.allele] + r.peptide) for r in records]
    encoded = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
    longest = max(map(len, encoded))
    if longest > positions:
        raise WorkbenchError(
            f"a pair makes {longest} tokens and the model takes {positions}; leave out longer "
            "peptides or take a model with more positions"
        )
    return Rows(
        [np.array(ids, dtype=np.int64) for ids in encoded],
        sum(PSEUDO_LENGTH + len(r.peptide) for r in records),
        np.array([r.label for r in records], dtype=np.int64),
    )


# ---------------------------------------------------------------------- parts


def _world(train: int, validation: int) -> PairCorpus:
    world = seen_world()
    # Drawn apart, then told apart: a peptide of the test is not learned from.
    test = world.sample(validation, seed=TEST_SEED)
    unseen = peptides.default_world().sample(
        round(UNSEEN_SHARE * validation),
        seed=HELD_OUT_SEED,
        alleles=peptides.HELD_OUT_ALLELES,
    )
    judged = {r.peptide for r in (*test, *unseen)}
    drawn = world.sample(train + train // 8 + 64, seed=TRAIN_SEED)
    learned = [r for r in drawn if r.peptide not in judged][:train]
    pseudo = {a.name: a.pseudo_sequence for a in peptides.default_world().alleles}
    return PairCorpus(PEPTIDE_WORLD, learned, test, unseen, pseudo, has_oracle=True)


def _built_in_pseudo_sequences() -> dict[str, str]:
    return {a.name: a.pseudo_sequence for a in peptides.built_in_alleles()}


def _fault(peptide: str, allele: str, label: str, known: dict[str, str]) -> str:
    """Why a row cannot be used; empty if it can."""
    odd = sorted(set(peptide) - set(AMINO_ACIDS))
    if odd or not peptide:
        return "the peptide is empty or has letters that are none of the twenty amino acids"
    if not SHORTEST <= len(peptide) <= LONGEST:
        return f"the peptide has fewer than {SHORTEST} or more than {LONGEST} residues"
    if allele not in known:
        return "the allele is not in the table of pseudo-sequences"
    if label not in ("0", "1", "0.0", "1.0"):
        return "the label is neither 0 nor 1"
    return ""


def _read(path: Path, columns: tuple[str, ...]) -> list[tables.Row]:
    """Line number and cells of every row of a table."""
    if not path.exists():
        raise WorkbenchError(
            f"there is no file {path}; expected a CSV or TSV file with the columns "
            f"{', '.join(columns)}" + (f", or {PEPTIDE_WORLD}" if columns == COLUMNS else "")
        )
    if path.is_dir():
        raise WorkbenchError(f"{path} is a directory; expected a CSV or TSV file")
    if path.suffix.lower() == ".parquet":
        raise WorkbenchError(f"{path} is a Parquet file; expected a CSV or TSV file")
    return tables.read(path, columns)
