"""The peptide world: which peptides an HLA class I molecule presents, with the truth known.

An HLA molecule holds a peptide by two *anchors*, the second residue (P2) and the last (PΩ).
Which residues it likes where has been measured; here that motif, one column of residue
frequencies for each of nine positions, *is* the truth:

- A **binder** of an allele is drawn from the allele's motif. Nine residues read the nine
  columns. A shorter peptide leaves out a stretch of columns between P2 and PΩ, a longer one
  holds a stretch of residues of background frequency there (it bulges out of the groove);
  where the stretch begins is drawn uniformly from all places that leave columns 1, 2 and the
  last in place. Hence P(peptide | allele, binder) is a finite sum: six ways for 8 residues,
  one for 9, seven each for 10 and 11.
- A **random** negative is drawn from the frequencies of natural proteins. Alone these are too
  easy: most alleles like a large hydrophobic or basic last residue, so a model that never
  looks at the HLA tells them from binders well.
- A **swap** negative is a binder of another allele, each other one equally likely. Over all
  alleles, swaps and binders are the same peptides: only the pairing tells them apart, and a
  model that ignores the HLA is left with an AUC of exactly one half.

A record is drawn by choosing an allele (uniformly), a kind (`SHARES`), a length (`LENGTHS`, the
same for all kinds and alleles, so that length tells nothing) and then the peptide. The label
says whether the peptide was drawn *as* a binder. A swap may well suit its new allele too,
A*03:01 and A*11:01 like nearly the same peptides, so no model is right always; Bayes' rule over
the three kinds gives the exact P(binder | peptide, allele), the oracle.

The tables are under ``data/worlds/``. ``hla_motifs.csv``: residue frequencies of measured
binders of nine residues (the positives of the TransPHLA/Anthem training data) for 27 alleles,
with the number of peptides counted. ``hla_alleles.csv``: the 34 residues of each allele that
line the groove, the NetMHCpan pseudo-sequences (Nielsen et al., PLoS ONE 2:e796, 2007) as
MHCflurry and TransPHLA give them. Background: `proteins.background`.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench.errors import UsageError, WorkbenchError
from workbench.worlds import proteins
from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from workbench.classifying.classification import Scores

#: Share of each length among the peptides of every kind. Rounded from the measured binders of
#: 8 to 11 residues in the TransPHLA independent set (4, 69, 18 and 9 %).
LENGTHS = {8: 0.05, 9: 0.68, 10: 0.18, 11: 0.09}
#: Motif columns at the beginning (P1, P2) and at the end (PΩ) that every peptide keeps.
KEPT_FIRST, KEPT_LAST = 2, 1
#: Peptides of background frequency added to those counted for a motif: what was never seen
#: among 420 peptides (B*53:01) is rare, not impossible.
PSEUDOCOUNT = 20.0
#: Alleles left out of training by `split_by_allele`, one of each gene, each with a relative that
#: stays: A*11:01 has A*03:01 (4 of 34 pseudo-sequence residues differ), B*58:01 has B*57:01 (2)
#: and C*07:01 has C*06:02 (7). These are also the pairs whose motifs are closest to each other
#: within A, B*44 aside, and within C. B*44:03 would be no test: one residue from B*44:02.
HELD_OUT_ALLELES = ("HLA-A*11:01", "HLA-B*58:01", "HLA-C*07:01")
#: Share of peptides that `split_by_peptide` keeps for the test.
TEST_SHARE = 0.1

BINDER, RANDOM, SWAP = "binder", "random", "swap"
_KINDS = (BINDER, RANDOM, SWAP)
#: Most peptides whose probabilities under all alleles are held at once.
_CHUNK = 4096
#: Draws for one distinct pair asked for, at most, before `PeptideWorld.sample` gives up.
_PATIENCE = 20


@dataclass(frozen=True)
class Shares:
    """How often a record is of each kind; the three sum to one.

    Swaps are the larger part of the negatives, because they alone need the HLA to be seen.

    Attributes:
        binder: drawn from the allele's motif, label 1.
        random: drawn from the background, label 0.
        swap: drawn from another allele's motif, label 0.

    Raises:
        UsageError: if a share is negative or they do not sum to one.
    """

    binder: float = 0.5
    random: float = 0.2
    swap: float = 0.3

    def __post_init__(self) -> None:
        values = (self.binder, self.random, self.swap)
        if not (min(values) >= 0 and abs(sum(values) - 1) < 1e-9):
            raise UsageError(
                f"the shares of binder, random and swap are {values}; expected three numbers "
                "that are not negative and sum to 1"
            )


SHARES = Shares()


@dataclass(frozen=True)
class Allele:
    """One HLA molecule.

    Attributes:
        name: as ``HLA-A*02:01``.
        pseudo_sequence: the residues that line its groove, what a model is shown of it.
        motif: ``[W, 20]``, the distribution of residues in each column, P1 first, PΩ last.
    """

    name: str
    pseudo_sequence: str
    motif: np.ndarray

    def consensus(self) -> str:
        """The likeliest residue of every column: the strongest binder of ``W`` residues."""
        return "".join(AMINO_ACIDS[k] for k in self.motif.argmax(axis=1))


class Record(NamedTuple):
    """A peptide paired with an allele.

    ``label`` is 1 for a binder and else 0; ``kind`` is "binder", "random" or "swap"; ``source``
    is the allele whose motif the peptide was drawn from, empty for a random one.
    """

    peptide: str
    allele: str
    label: int
    kind: str
    source: str


class Split(NamedTuple):
    """Records to learn from and records to be judged by; no peptide is in both."""

    train: list[Record]
    test: list[Record]


@dataclass(frozen=True)
class Ceiling:
    """What can be reached on a set of records.

    Attributes:
        scores: the oracle's own scores on the records' labels, at a threshold of 0.5. On records
            as `PeptideWorld.sample` draws them no model has a better expected accuracy, AUC or
            likelihood; on few of them one may be luckier. On negatives of one kind only
            (`against`) it is what a perfect model of the whole world scores; best is then the
            oracle of the world `PeptideWorld.with_shares` of that kind alone.
        expected_accuracy: mean of max(p, 1 − p), the oracle's accuracy with the labels' luck
            taken out.
        best_f1: the oracle's highest F1 over all thresholds, chosen on these same records;
            `scores.f1` is the one at 0.5, which is the best for accuracy and not for F1.
        best_f1_threshold: the threshold of `best_f1`.
        without_allele: scores of the exact P(binder | peptide) over all alleles, the best that
            a model of this world reaches without ever looking at the HLA. Where the records
            have few alleles, knowing which ones already helps: see
            `PeptideWorld.oracle_without_allele` with ``alleles``.
    """

    scores: Scores
    expected_accuracy: float
    best_f1: float | None
    best_f1_threshold: float | None
    without_allele: Scores


class PeptideWorld:
    """Alleles with their motifs: draws peptide–allele pairs, and knows the truth about them.

    Args:
        alleles: two or more, with motifs of one width of at least three columns.
        background: ``[20]``, distribution of the residues of random negatives and of bulges.
        lengths: share of each peptide length; any positive numbers, lengths of at least three.
        shares: how often a record is of each kind.

    Raises:
        UsageError: if the alleles or lengths are not as said.
    """

    def __init__(
        self,
        alleles: Sequence[Allele],
        background: np.ndarray,
        lengths: Mapping[int, float] = LENGTHS,
        shares: Shares = SHARES,
    ) -> None:
        self.alleles = tuple(alleles)
        self.background = np.asarray(background, dtype=np.float64)
        self.lengths = dict(sorted(lengths.items()))
        self.shares = shares
        self._check()
        self._index = {a.name: i for i, a in enumerate(self.alleles)}
        self._motifs = np.stack([a.motif for a in self.alleles]).astype(np.float64)
        total = sum(self.lengths.values())
        self._length_shares = {n: share / total for n, share in self.lengths.items()}

    def _check(self) -> None:
        names = [a.name for a in self.alleles]
        if len(set(names)) < max(2, len(names)):
            raise UsageError(
                f"a peptide world needs two or more different alleles, a swap comes from "
                f"another one; given: {', '.join(names) or 'none'}"
            )
        shapes = {np.shape(a.motif) for a in self.alleles}
        smallest = KEPT_FIRST + KEPT_LAST
        if len(shapes) > 1 or min(shapes)[0] < smallest or min(shapes)[1:] != (20,):
            raise UsageError(
                f"the motifs have the shapes {sorted(shapes)}; expected one shape [W, 20] with "
                f"W of at least {smallest}"
            )
        if not all(np.allclose(a.motif.sum(axis=1), 1) for a in self.alleles):
            raise UsageError("a column of a motif does not sum to 1; expected distributions")
        if not self.lengths or min(self.lengths) < smallest or min(self.lengths.values()) <= 0:
            raise UsageError(
                f"the lengths are {self.lengths}; expected positive shares of lengths of at "
                f"least {smallest}"
            )

    @property
    def width(self) -> int:
        """Number of columns of a motif."""
        return self._motifs.shape[1]

    def allele(self, name: str) -> Allele:
        """The allele of that name.

        Raises:
            UsageError: if there is none, with the nearest name there is.
        """
        return self.alleles[self._place(name)]

    def only(self, names: Sequence[str]) -> PeptideWorld:
        """The world of these alleles alone: swaps, too, come from among them.

        Raises:
            UsageError: if a name is unknown or fewer than two are given.
        """
        kept = [self.allele(name) for name in names]
        return PeptideWorld(kept, self.background, self.lengths, self.shares)

    def with_shares(self, shares: Shares) -> PeptideWorld:
        """The same alleles and lengths with other shares of the three kinds."""
        return PeptideWorld(self.alleles, self.background, self.lengths, shares)

    # ------------------------------------------------------------------ drawing

    def sample(
        self,
        n: int,
        seed: int,
        *,
        alleles: Sequence[str] | None = None,
        distinct: bool = True,
    ) -> list[Record]:
        """Draw ``n`` records; the same arguments give the same records.

        A pair of peptide and allele that comes a second time is left out, whatever its label,
        and another drawn instead. What is kept, the first drawing, has the label that chance
        gave it, so the oracle stays exact; only very common pairs are a little rarer.

        Args:
            n: how many.
            seed: any non-negative integer.
            alleles: names to pair peptides with, all if None. Swaps come from all alleles of
                the world in either case, so the oracle holds.
            distinct: False keeps pairs that come twice.

        Raises:
            UsageError: if ``n`` or ``seed`` is negative or an allele unknown.
            WorkbenchError: if the world is too small for ``n`` distinct pairs.
        """
        for name, value in (("n", n), ("seed", seed)):
            if value < 0:
                raise UsageError(f"{name} is {value}; expected a number that is not negative")
        paired = np.array([self._place(a) for a in alleles or self._index], dtype=np.intp)
        rng = np.random.default_rng([seed, 0x70657074])
        if not distinct:
            return self._draw(n, paired, rng)
        records: dict[tuple[str, str], Record] = {}
        drawn = 0
        while len(records) < n:
            if drawn > _PATIENCE * n:
                raise WorkbenchError(
                    f"only {len(records):,} different pairs turned up in {drawn:,} draws; ask "
                    f"for fewer than {n:,} records, or pass distinct=False"
                )
            more = max(n - len(records), n // 16)  # not one by one where few pairs are left
            for record in self._draw(more, paired, rng):
                records.setdefault((record.peptide, record.allele), record)
            drawn += more
        return list(records.values())[:n]

    def _draw(self, n: int, paired: np.ndarray, rng: np.random.Generator) -> list[Record]:
        allele = paired[rng.integers(len(paired), size=n)]
        shares = (self.shares.binder, self.shares.random, self.shares.swap)
        kind = rng.choice(3, size=n, p=shares)
        # One of the others, each equally likely: a step of 1 … A − 1 around the circle.
        step = rng.integers(1, len(self.alleles), size=n)
        source = np.where(kind == 2, (allele + step) % len(self.alleles), allele)
        lengths = np.array(list(self._length_shares))
        length = lengths[rng.choice(len(lengths), size=n, p=list(self._length_shares.values()))]
        peptides = np.empty(n, dtype=object)
        for size in self._length_shares:
            rows = np.flatnonzero(length == size)
            columns = self._columns(size, rng.integers(self._cuts(size).size, size=len(rows)))
            columns[kind[rows] == 1] = self.width
            peptides[rows] = self._write(source[rows], columns, rng)
        names = [a.name for a in self.alleles]
        return [
            Record(p, names[a], int(k == 0), _KINDS[k], "" if k == 1 else names[s])
            for p, a, k, s in zip(
                peptides.tolist(), allele.tolist(), kind.tolist(), source.tolist(), strict=True
            )
        ]

    def _cuts(self, length: int) -> np.ndarray:
        """How many columns may be read from the front before the stretch, one a way."""
        kept = min(length, self.width)
        if length == self.width:
            return np.array([KEPT_FIRST])  # nothing left out, nothing put in: all ways are one
        return np.arange(KEPT_FIRST, kept - KEPT_LAST + 1)

    def _columns(self, length: int, ways: np.ndarray) -> np.ndarray:
        """Column that each residue is drawn from, ``[n, length]``; `width` is the background."""
        cuts = self._cuts(length)
        table = np.full((len(cuts), length), self.width)
        for row, cut in zip(table, cuts.tolist(), strict=True):
            rest = min(length, self.width) - cut
            row[:cut] = np.arange(cut)
            row[length - rest :] = np.arange(self.width - rest, self.width)
        return table[ways]

    def _write(
        self, source: np.ndarray, columns: np.ndarray, rng: np.random.Generator
    ) -> list[str]:
        n, length = columns.shape
        every = np.broadcast_to(self.background, (len(self.alleles), 1, 20))
        edges = np.cumsum(np.concatenate([self._motifs, every], axis=1), axis=2)
        edges /= edges[:, :, -1:]
        codes = np.empty((n, length), dtype=np.uint8)
        for k, uniform in enumerate(rng.random((length, n))):
            # Residues below the draw; the last edge is 1 and never below.
            codes[:, k] = (edges[source, columns[:, k]] <= uniform[:, None]).sum(axis=1)
        text = np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)[codes].tobytes().decode()
        return [text[i : i + length] for i in range(0, n * length, length)]

    # ------------------------------------------------------------------ the truth

    def binder_probability(self, peptides: Sequence[str]) -> np.ndarray:
        """P(peptide | allele, binder) for every allele of the world, ``[n, A]``.

        Over all peptides of all lengths a column sums to one.

        Raises:
            UsageError: if a peptide has a letter or a length that the world does not know.
        """
        return self._probabilities(peptides)[0]

    def random_probability(self, peptides: Sequence[str]) -> np.ndarray:
        """P(peptide | random), ``[n]``; errors as `binder_probability`."""
        return self._probabilities(peptides)[1]

    def oracle(self, peptide: str, allele: str) -> float:
        """Exact P(binder | peptide, allele), by Bayes over the three kinds.

        With P_a for P(peptide | a, binder), Q for P(peptide | random), s for the shares and A
        alleles: s_binder·P_a / (s_binder·P_a + s_random·Q + s_swap·Σ_{b≠a} P_b / (A − 1)).

        Raises:
            UsageError: if the allele, a letter or the length is unknown, or the pair has
                probability zero in this world.
        """
        return float(self.oracle_batch([peptide], [allele])[0])

    def oracle_batch(self, peptides: Sequence[str], alleles: Sequence[str]) -> np.ndarray:
        """`oracle` of many pairs at once, ``[n]``, in the order given.

        Raises:
            UsageError: as `oracle`, or if there are not as many alleles as peptides.
        """
        if len(peptides) != len(alleles):
            raise UsageError(
                f"{len(peptides)} peptides with {len(alleles)} alleles; expected one allele a "
                "peptide"
            )
        place = np.array([self._place(a) for a in alleles], dtype=np.intp)
        binder, random = self._probabilities(peptides)
        own = binder[np.arange(len(place)), place]
        # The others are summed, not subtracted from all: no digits are lost where own is large.
        others = binder.copy()
        others[np.arange(len(place)), place] = 0.0
        swap = others.sum(axis=1) / (len(self.alleles) - 1)
        positive = self.shares.binder * own
        return self._divide(
            positive, positive + self.shares.random * random + self.shares.swap * swap, peptides
        )

    def oracle_without_allele(
        self, peptides: Sequence[str], alleles: Sequence[str] | None = None
    ) -> np.ndarray:
        """Exact P(binder | peptide), the allele summed out: the best without a look at the HLA.

        Args:
            peptides: as often as they were drawn.
            alleles: those that the peptides are paired with, each equally often; all if None.

        Returns:
            ``[n]``. Over all alleles, swaps are distributed as binders; then it is
            s_binder·M / ((s_binder + s_swap)·M + s_random·Q) with M for the mean of
            P(peptide | a, binder) over a and the other letters as in `oracle`.

        Raises:
            UsageError: as `oracle`.
        """
        paired = [self._place(a) for a in alleles or self._index]
        binder, random = self._probabilities(peptides)
        own = binder[:, paired].mean(axis=1)
        # Mean over the paired alleles of the sum over all others: an allele of the paired is
        # an other one for all of them but itself.
        others = np.ones(len(self.alleles))
        others[paired] = 1 - 1 / len(paired)
        swap = binder @ others / (len(self.alleles) - 1)
        positive = self.shares.binder * own
        written = positive + self.shares.random * random + self.shares.swap * swap
        return self._divide(positive, written, peptides)

    def ceiling(self, records: Sequence[Record]) -> Ceiling:
        """The best that can be reached on ``records``, see `Ceiling`.

        Raises:
            UsageError: as `oracle`, or if there are no records.
        """
        from workbench.classifying import classification

        labels = np.array([r.label for r in records])
        peptides = [r.peptide for r in records]
        posterior = self.oracle_batch(peptides, [r.allele for r in records])
        blind = self.oracle_without_allele(peptides)
        scores = classification.score(labels, posterior)
        threshold, best = None, None
        if scores.positives:
            threshold, best = classification.best_f1(labels, posterior)
        return Ceiling(
            scores=scores,
            expected_accuracy=float(np.maximum(posterior, 1 - posterior).mean()),
            best_f1=best,
            best_f1_threshold=threshold,
            without_allele=classification.score(labels, blind),
        )

    def _divide(self, part: np.ndarray, whole: np.ndarray, peptides: Sequence[str]) -> np.ndarray:
        impossible = np.flatnonzero(whole <= 0)
        if impossible.size:
            raise UsageError(
                f"the peptide {peptides[impossible[0]]} has probability zero in this world"
            )
        return part / whole

    def _probabilities(self, peptides: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """P(peptide | allele, binder) ``[n, A]`` and P(peptide | random) ``[n]``."""
        by_length: dict[int, list[int]] = {}
        for row, peptide in enumerate(peptides):
            by_length.setdefault(len(peptide), []).append(row)
        binder = np.empty((len(peptides), len(self.alleles)))
        random = np.empty(len(peptides))
        for length in sorted(by_length):
            self._check_length(length, peptides[by_length[length][0]])
            for start in range(0, len(by_length[length]), _CHUNK):
                rows = by_length[length][start : start + _CHUNK]
                codes = self._encode([peptides[i] for i in rows], length)
                binder[rows] = self._length_shares[length] * self._binders(codes).T
                random[rows] = self._length_shares[length] * self.background[codes].prod(axis=1)
        return binder, random

    def _binders(self, codes: np.ndarray) -> np.ndarray:
        """P(residues | allele, length), ``[A, n]``: the mean over ways to lay the columns.

        Every way is a front of the motif, a stretch of background and a back of the motif, so
        running products of fronts and backs serve all ways.
        """
        n, length = codes.shape
        kept = min(length, self.width)
        fronts = [np.ones((len(self.alleles), n))]
        backs = [np.ones((len(self.alleles), n))]
        for k in range(kept):
            fronts.append(fronts[-1] * self._motifs[:, k, codes[:, k]])
            backs.append(backs[-1] * self._motifs[:, -1 - k, codes[:, -1 - k]])
        likely = self.background[codes]
        total = np.zeros((len(self.alleles), n))
        cuts = self._cuts(length)
        for cut in cuts.tolist():
            bulge = likely[:, cut : cut + length - kept].prod(axis=1)
            total += fronts[cut] * bulge * backs[kept - cut]
        return total / len(cuts)

    def _encode(self, peptides: list[str], length: int) -> np.ndarray:
        try:
            return proteins.encode("".join(peptides)).reshape(-1, length)
        except ValueError:
            bad = next(p for p in peptides if set(p) - set(AMINO_ACIDS))
            at, letter = next((i, x) for i, x in enumerate(bad, 1) if x not in AMINO_ACIDS)
            raise UsageError(
                f"position {at} of the peptide {bad} is {letter!r}; the peptide world knows only "
                f"the amino acids {AMINO_ACIDS}"
            ) from None

    def _check_length(self, length: int, peptide: str) -> None:
        if length not in self._length_shares:
            known = ", ".join(map(str, self._length_shares))
            raise UsageError(
                f"the peptide {peptide or '(empty)'} has {length} residues; the peptide world "
                f"knows the lengths {known}"
            )

    def _place(self, name: str) -> int:
        place = self._index.get(name)
        if place is None:
            nearest = difflib.get_close_matches(name, self._index, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"{name!r} is not one of the {len(self.alleles)} alleles of the peptide world; "
                f"expected a name such as {nearest}"
            )
        return place


# ---------------------------------------------------------------------- parts of a sample


def against(records: Sequence[Record], kind: str) -> list[Record]:
    """All binders, and the negatives of one kind: "random" or "swap".

    Raises:
        UsageError: if ``kind`` is neither.
    """
    if kind not in (RANDOM, SWAP):
        raise UsageError(f"{kind!r} is no kind of negative; expected {RANDOM!r} or {SWAP!r}")
    return [r for r in records if r.kind in (BINDER, kind)]


def is_test_peptide(peptide: str, share: float = TEST_SHARE) -> bool:
    """Whether a peptide belongs to the test: by a hash, hence the same in every data set.

    Args:
        peptide: its letters.
        share: of all peptides, 0 to 1.
    """
    first = int.from_bytes(hashlib.sha256(peptide.encode()).digest()[:8], "big")
    return first < share * 2.0**64


def split_by_peptide(records: Sequence[Record], share: float = TEST_SHARE) -> Split:
    """Split so that no peptide is in both parts, whichever alleles it is paired with.

    Raises:
        UsageError: if ``share`` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UsageError(f"the test's share is {share}; expected a number between 0 and 1")
    split = Split([], [])
    for record in records:
        split[is_test_peptide(record.peptide, share)].append(record)
    return split


def split_by_allele(records: Sequence[Record], held_out: Sequence[str] = HELD_OUT_ALLELES) -> Split:
    """Split so that nothing of the held-out alleles is learned from.

    The test is every record of a held-out allele. Left out altogether are the swaps that carry
    a peptide of a held-out allele to another one, and training records whose peptide is in the
    test. In what remains for training swaps are a little rarer than `SHARES` says, so the
    oracle is exact on the test only; for training data with an exact oracle sample
    ``default_world().only(...)``.
    """
    out = set(held_out)
    test = [r for r in records if r.allele in out]
    seen = {r.peptide for r in test}
    train = [
        r for r in records if r.allele not in out and r.source not in out and r.peptide not in seen
    ]
    return Split(train, test)


# ---------------------------------------------------------------------- the built-in world


def built_in_alleles() -> list[Allele]:
    """The alleles of ``data/worlds``, motifs mixed with `PSEUDOCOUNT` peptides of background."""
    frequencies = proteins.background()
    pseudo_sequences = {r["allele"]: r["pseudo_sequence"] for r in _read("hla_alleles.csv")}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in pseudo_sequences}
    for row in _read("hla_motifs.csv"):
        counted = float(row["peptides_counted"])
        measured = np.array([float(row[a]) for a in AMINO_ACIDS])
        measured /= measured.sum()
        mixed = (counted * measured + PSEUDOCOUNT * frequencies) / (counted + PSEUDOCOUNT)
        columns[row["allele"]].append(mixed)
    return [Allele(n, pseudo_sequences[n], np.array(motif)) for n, motif in columns.items()]


def _read(name: str) -> list[dict[str, str]]:
    path = proteins.TABLES / name
    if not path.exists():
        raise WorkbenchError(
            f"the table {path} is missing; install the workbench from a full clone "
            "(pip install -e .), its data/ folder holds the worlds and the teachers"
        )
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def default_world() -> PeptideWorld:
    """The built-in world of 27 alleles."""
    return PeptideWorld(built_in_alleles(), proteins.background())


def allele_names() -> list[str]:
    """The alleles of the built-in world, as ``HLA-A*02:01``."""
    return [a.name for a in default_world().alleles]


def sample(
    n: int, seed: int, *, alleles: Sequence[str] | None = None, distinct: bool = True
) -> list[Record]:
    """``n`` records of the built-in world; see `PeptideWorld.sample`."""
    return default_world().sample(n, seed, alleles=alleles, distinct=distinct)


def oracle(peptide: str, allele: str) -> float:
    """Exact P(binder | peptide, allele) in the built-in world; see `PeptideWorld.oracle`."""
    return default_world().oracle(peptide, allele)


def oracle_batch(peptides: Sequence[str], alleles: Sequence[str]) -> np.ndarray:
    """`oracle` of many pairs at once, ``[n]``; see `PeptideWorld.oracle_batch`."""
    return default_world().oracle_batch(peptides, alleles)


def ceiling(records: Sequence[Record]) -> Ceiling:
    """The best that can be reached on records of the built-in world; see `Ceiling`."""
    return default_world().ceiling(records)
