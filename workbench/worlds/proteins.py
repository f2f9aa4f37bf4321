"""The protein world: families of sequences drawn from profile hidden Markov models.

A profile has one *match* column for each conserved position of a family. Going
from left to right, a sequence may skip columns (deletions), put extra residues
between two columns (insertions) or begin in the middle of the profile
(truncated start). A residue of a match column is drawn from the column's own
distribution, an inserted residue from the background of natural proteins.

Because the model is known, so is the truth: the forward algorithm gives the
exact probability of every next residue after every prefix. No language model
can be better than that; how much worse it is, is what the course measures.

The tables are under ``data/worlds/``: ``protein_families.csv`` (consensus and a
digit of conservation for every column), ``protein_motifs.csv`` (PROSITE
patterns and where they sit) and ``background.csv`` (UniProt frequencies).

Profile HMMs: Durbin, Eddy, Krogh & Mitchison, *Biological Sequence Analysis*
(1998), chapter 5.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
#: Column names of every next-residue distribution: the amino acids, then "the protein ends here".
SYMBOLS = (*AMINO_ACIDS, "END")
END = len(AMINO_ACIDS)

TABLES = Path(__file__).parents[2] / "data" / "worlds"
#: Share of every column's distribution that is plain background: in real families any
#: residue turns up anywhere now and then, and no oracle should call that impossible.
BACKGROUND_SHARE = 0.15

_CODE = np.full(256, 255, dtype=np.uint8)
_CODE[np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)] = np.arange(20, dtype=np.uint8)
_LETTERS = np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)


@dataclass(frozen=True)
class Profile:
    """One family as a profile hidden Markov model with ``L`` columns.

    Attributes:
        name: short name of the family.
        weight: how often the world draws this family (any positive number).
        emissions: ``[L, 20]``, a distribution over amino acids for each column.
        insert_open: ``[L]``, probability of an insertion after column k; 0 after the last.
        insert_extend: probability that an insertion goes on.
        delete_open: ``[L]``, probability that column k is skipped when the column
            before it was not; 0 for the last, so that no sequence is empty.
        delete_extend: probability that column k is skipped when the one before it was.
        truncated_start: probability that a sequence begins inside the first half.
        truncated_end: probability, after each residue, that the sequence breaks off there.
    """

    name: str
    weight: float
    emissions: np.ndarray
    insert_open: np.ndarray
    insert_extend: float
    delete_open: np.ndarray
    delete_extend: float
    truncated_start: float
    truncated_end: float = 0.0

    @property
    def length(self) -> int:
        """Number of match columns."""
        return len(self.emissions)

    def skips(self) -> np.ndarray:
        """Probability that the next match after column j is column k, deletions summed out.

        Returns:
            ``[L + 1, L]``: row 0 stands for the start, row j for column j (1-based);
            zero where k ≤ j. Every row but the last sums to one.
        """
        length = self.length
        skips = np.zeros((length + 1, length))
        for j in range(length):
            still = 1.0
            for k in range(j, length):
                skipped = self._skip_probability(k, first=k == j)
                skips[j, k] = still * (1.0 - skipped)
                still *= skipped
        return skips

    def starts(self) -> np.ndarray:
        """Probability that the first residue is emitted by column k, ``[L]``."""
        starts = (1.0 - self.truncated_start) * self.skips()[0]
        inside = slice(1, max(2, self.length // 2))
        starts[inside] += self.truncated_start / len(starts[inside])
        return starts

    def _skip_probability(self, column: int, first: bool) -> float:
        if column == self.length - 1:
            return 0.0
        return float(self.delete_open[column]) if first else self.delete_extend


class ProteinWorld:
    """A mixture of profiles: draws sequences, and knows the truth about them.

    Args:
        profiles: the families.
        background: ``[20]``, the distribution of inserted residues.
    """

    def __init__(self, profiles: Sequence[Profile], background: np.ndarray) -> None:
        self.profiles = tuple(profiles)
        self.background = np.asarray(background, dtype=np.float64)
        weights = np.array([p.weight for p in profiles], dtype=np.float64)
        self.family_weights = weights / weights.sum()
        self._build_forward_tables()

    # ------------------------------------------------------------------ drawing

    def sample(self, n: int, seed: int) -> list[str]:
        """Draw ``n`` sequences; the same seed gives the same sequences.

        Args:
            n: how many.
            seed: any non-negative integer.
        """
        return self.sample_with_families(n, seed)[0]

    def sample_with_families(self, n: int, seed: int) -> tuple[list[str], np.ndarray]:
        """Draw ``n`` sequences and the index of the family that each came from, ``[n]``."""
        rng = np.random.default_rng([seed, 0x70726F74])
        families = rng.choice(len(self.profiles), size=n, p=self.family_weights)
        sequences = np.empty(n, dtype=object)
        for index, profile in enumerate(self.profiles):
            rows = np.flatnonzero(families == index)
            if len(rows):
                sequences[rows] = self._sample_profile(profile, len(rows), rng)
        return sequences.tolist(), families

    def _sample_profile(self, profile: Profile, n: int, rng: np.random.Generator) -> list[str]:
        length = profile.length
        truncated = rng.random(n) < profile.truncated_start
        inside = max(2, length // 2)
        first = np.where(truncated, rng.integers(1, inside, size=n), 0)
        matched = np.zeros((n, length), dtype=bool)
        deleting = np.zeros(n, dtype=bool)
        for k, u in enumerate(rng.random((length, n))):
            if k == length - 1:
                matched[:, k] = True
                continue
            skip = u < np.where(deleting, profile.delete_extend, profile.delete_open[k])
            # A truncated sequence starts in a match, whatever was drawn for that column.
            skip &= ~(truncated & (first == k))
            matched[:, k] = ~skip & (k >= first)
            deleting = skip & (k >= first)
        opens = matched & (rng.random((n, length)) < profile.insert_open)
        extra = np.zeros((n, length), dtype=np.int64)
        extra[opens] = rng.geometric(1.0 - profile.insert_extend, size=int(opens.sum()))

        residues = np.empty((n, length), dtype=np.uint8)
        uniform = rng.random((length, n))
        for k in range(length):
            residues[:, k] = _draw(profile.emissions[k], uniform[k])
        # Lay every match and its insertion side by side, then cut at the sequence borders.
        counts = (matched + extra)[matched]
        ends = np.cumsum(counts)
        text = _draw(self.background, rng.random(int(ends[-1])))
        text[ends - counts] = residues[matched]
        letters = _LETTERS[text].tobytes().decode()
        lengths = (matched + extra).sum(axis=1)
        starts = np.cumsum(lengths) - lengths
        if profile.truncated_end > 0:
            lengths = np.minimum(lengths, rng.geometric(profile.truncated_end, size=n))
        return [
            letters[a:b] for a, b in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
        ]

    # ------------------------------------------------------------------ the truth

    def oracle(self, sequence: str) -> np.ndarray:
        """Exact distribution of the next symbol after every prefix of ``sequence``.

        Args:
            sequence: amino acids in one-letter code.

        Returns:
            ``[len(sequence) + 1, 21]``, float64; row t is P(next | first t residues) over
            `SYMBOLS`. Rows sum to one.

        Raises:
            ValueError: if a letter is not one of the twenty, or the sequence
                has probability zero in this world.
        """
        return self.oracle_batch([sequence])[0]

    def oracle_batch(self, sequences: Sequence[str], batch_size: int = 128) -> list[np.ndarray]:
        """`oracle` of many sequences at once, in the order given."""
        codes = [encode(s) for s in sequences]
        order = sorted(range(len(codes)), key=lambda i: len(codes[i]))
        results: list[np.ndarray] = [np.empty(0)] * len(codes)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            for row, distributions in zip(
                rows, self._forward([codes[i] for i in rows]), strict=True
            ):
                results[row] = distributions
        return results

    def log_likelihood(self, sequences: Sequence[str]) -> np.ndarray:
        """Natural logarithm of P(sequence, then end), ``[n]``, in nats."""
        totals = np.empty(len(sequences))
        for i, (sequence, rows) in enumerate(
            zip(sequences, self.oracle_batch(sequences), strict=True)
        ):
            symbols = np.append(encode(sequence), END)
            totals[i] = np.log(rows[np.arange(len(rows)), symbols]).sum()
        return totals

    def residue_frequencies(self) -> np.ndarray:
        """Exact expected share of each amino acid in this world's residues, ``[20]``."""
        expected = np.zeros(20)
        for weight, profile in zip(self.family_weights, self.profiles, strict=True):
            goes_on = 1.0 - profile.truncated_end
            opens, extends = goes_on * profile.insert_open, goes_on * profile.insert_extend
            skips, starts = profile.skips(), profile.starts()
            visits, inserted, leaving = np.zeros((3, profile.length))
            for k in range(profile.length):
                visits[k] = starts[k] + leaving[:k] @ skips[1 : k + 1, k]
                inserted[k] = visits[k] * opens[k] / (1.0 - extends)
                leaving[k] = visits[k] * (goes_on - opens[k]) + inserted[k] * (goes_on - extends)
            expected += weight * (visits @ profile.emissions + inserted.sum() * self.background)
        return expected / expected.sum()

    def _build_forward_tables(self) -> None:
        """Lay the families side by side, padded to the longest, so that one product moves all."""
        families = len(self.profiles)
        width = max(p.length for p in self.profiles)
        self._width = width
        self._starts = np.zeros((families, width, 1))
        self._next = np.zeros((families, width, width))  # [to, from]: acts on columns of batches
        self._emission = np.zeros((21, families, width, 1))
        self._insert_open = np.zeros((families, width, 1))
        self._insert_extend = np.zeros((families, 1, 1))
        self._breaks_off = np.zeros(families)
        self._last = np.zeros((families, width))
        for f, p in enumerate(self.profiles):
            n = p.length
            self._starts[f, :n, 0] = self.family_weights[f] * p.starts()
            self._next[f, :n, :n] = p.skips()[1:].T
            self._emission[:20, f, :n, 0] = p.emissions.T
            self._insert_open[f, :n, 0] = p.insert_open
            self._insert_extend[f] = p.insert_extend
            self._breaks_off[f] = p.truncated_end
            self._last[f, n - 1] = 1.0
        self._by_state = self._emission[:20, :, :, 0].reshape(20, -1)

    def _forward(self, codes: list[np.ndarray]) -> list[np.ndarray]:
        """Forward algorithm over a batch; one row of distributions a prefix.

        ``match[f, k, b]`` is P(family f emits the next residue from column k | prefix of b),
        ``insert`` likewise; together with P(end) they sum to one at every step.
        """
        batch = len(codes)
        lengths = np.array([len(c) for c in codes])
        longest = int(lengths.max())
        padded = np.zeros((longest, batch), dtype=np.intp)
        for b, c in enumerate(codes):
            padded[: len(c), b] = c
        match = np.repeat(self._starts, batch, axis=2)
        insert = np.zeros_like(match)
        states = np.empty((longest + 1, match[..., 0].size, batch))
        inserted = np.empty((longest + 1, batch))
        ending = np.zeros((longest + 1, batch))
        leave = 1.0 - self._insert_open
        stop = 1.0 - self._insert_extend
        goes_on = 1.0 - self._breaks_off[:, None, None]
        for t in range(longest + 1):
            states[t] = match.reshape(-1, batch)
            inserted[t] = insert.sum(axis=(0, 1))
            if t == longest:
                break
            match *= self._emission[padded[t], :, :, 0].transpose(1, 2, 0)
            insert *= self.background[padded[t]]
            seen = match.sum(axis=(0, 1)) + insert.sum(axis=(0, 1))
            alive = t < lengths
            if (seen[alive] <= 0).any():
                raise ValueError("this sequence has probability zero in this world")
            scale = 1.0 / np.where(seen > 0, seen, 1.0)
            match *= scale
            insert *= scale
            # Not as a difference of sums: rounding would make it a negative probability.
            ending[t + 1] = self._breaks_off @ (match.sum(axis=1) + insert.sum(axis=1))
            match *= goes_on
            insert *= goes_on
            ending[t + 1] += np.einsum("fk,fkb->b", self._last, match)
            moved = np.matmul(self._next, leave * match + stop * insert)
            insert = self._insert_open * match + self._insert_extend * insert
            match = moved
        out = np.empty((longest + 1, batch, 21))
        out[:, :, :20] = (self._by_state @ states).transpose(0, 2, 1)
        out[:, :, :20] += inserted[:, :, None] * self.background
        out[:, :, END] = ending
        return [out[: n + 1, b] for b, n in enumerate(lengths)]


def encode(sequence: str) -> np.ndarray:
    """One-letter amino acids to integers 0–19 in the order of `AMINO_ACIDS`.

    Raises:
        ValueError: naming the first letter that is not one of the twenty.
    """
    codes = _CODE[np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)]
    bad = np.flatnonzero(codes == 255)
    if len(bad):
        letter = sequence[bad[0]]
        raise ValueError(
            f"position {bad[0] + 1} of the sequence is {letter!r}; "
            f"the protein world knows only the amino acids {AMINO_ACIDS}"
        )
    return codes.astype(np.intp)


def _draw(distribution: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Inverse-transform draws: one index of ``distribution`` for each uniform number."""
    edges = np.cumsum(distribution)
    edges /= edges[-1]
    return np.searchsorted(edges[:-1], uniform, side="right").astype(np.uint8)


# ---------------------------------------------------------------------- the built-in world


def parse_prosite(pattern: str) -> list[str]:
    """A PROSITE pattern of fixed length as one string of allowed residues a column.

    >>> parse_prosite("[AG]-x(2)-K")
    ['AG', 'ACDEFGHIKLMNPQRSTVWY', 'ACDEFGHIKLMNPQRSTVWY', 'K']
    """
    columns: list[str] = []
    for element in pattern.split("-"):
        parsed = re.fullmatch(r"(x|[A-Z]|\[[A-Z]+\]|\{[A-Z]+\})(?:\((\d+)\))?", element)
        if parsed is None:
            raise ValueError(f"cannot read {element!r} in the PROSITE pattern {pattern!r}")
        what, times = parsed[1], int(parsed[2] or 1)
        if what == "x":
            allowed = AMINO_ACIDS
        elif what.startswith("{"):
            allowed = "".join(a for a in AMINO_ACIDS if a not in what)
        else:
            allowed = what.strip("[]")
        columns += [allowed] * times
    return columns


def background() -> np.ndarray:
    """Amino-acid frequencies of natural proteins (UniProt), ``[20]``."""
    frequencies = {r["residue"]: float(r["frequency"]) for r in _read("background.csv")}
    values = np.array([frequencies[a] for a in AMINO_ACIDS])
    return values / values.sum()


def substitution_probabilities(frequencies: np.ndarray) -> np.ndarray:
    """P(residue b | consensus residue a) after BLOSUM62, ``[20, 20]``.

    BLOSUM62 scores are log-odds in half bits, S_ab = 2·log2(P(a,b) / (f_a f_b)), hence
    P(b | a) ∝ f_b · 2^(S_ab / 2) (Henikoff & Henikoff, PNAS 89:10915, 1992).
    """
    from Bio.Align import substitution_matrices

    scores = substitution_matrices.load("BLOSUM62")
    matrix = np.array([[scores[a][b] for b in AMINO_ACIDS] for a in AMINO_ACIDS])
    joint = frequencies * 2.0 ** (matrix / 2.0)
    return joint / joint.sum(axis=1, keepdims=True)


def built_in_profiles() -> list[Profile]:
    """The families of ``data/worlds/protein_families.csv`` with their motifs laid over them."""
    frequencies = background()
    substitutions = substitution_probabilities(frequencies)
    motifs = _read("protein_motifs.csv")
    profiles = []
    for row in _read("protein_families.csv"):
        allowed = [AMINO_ACIDS] * len(row["consensus"])
        for motif in (m for m in motifs if m["family"] == row["family"]):
            columns = parse_prosite(motif["pattern"])
            start = int(motif["start"]) - 1
            allowed[start : start + len(columns)] = columns
        profiles.append(_profile(row, allowed, substitutions, frequencies))
    return profiles


def _profile(
    row: dict[str, str], allowed: list[str], substitutions: np.ndarray, frequencies: np.ndarray
) -> Profile:
    consensus = encode(row["consensus"])
    conservation = np.array([int(d) for d in row["conservation"]]) / 9.0
    emissions = (1.0 - conservation[:, None]) * substitutions[consensus]
    emissions[np.arange(len(consensus)), consensus] += conservation
    in_motif = np.array([a != AMINO_ACIDS for a in allowed])
    for k in np.flatnonzero(in_motif):
        confined = np.zeros(20)
        inside = [AMINO_ACIDS.index(a) for a in allowed[k]]
        confined[inside] = emissions[k, inside] / emissions[k, inside].sum()
        emissions[k] = confined
    emissions = (1.0 - BACKGROUND_SHARE) * emissions + BACKGROUND_SHARE * frequencies
    # Insertions and deletions avoid conserved columns and spare a motif's fixed ones altogether.
    loose = np.where(in_motif, 0.0, 1.0 - conservation)
    insert_open = float(row["insert_open"]) * loose
    insert_open[-1] = 0.0
    delete_open = float(row["delete_open"]) * loose
    delete_open[-1] = 0.0
    return Profile(
        name=row["family"],
        weight=float(row["weight"]),
        emissions=emissions,
        insert_open=insert_open,
        insert_extend=float(row["insert_extend"]),
        delete_open=delete_open,
        delete_extend=float(row["delete_extend"]),
        truncated_start=float(row["truncated_start"]),
        truncated_end=float(row["truncated_end"]),
    )


def _read(name: str) -> list[dict[str, str]]:
    path = TABLES / name
    if not path.exists():
        raise FileNotFoundError(
            f"the table {path} is missing; install the workbench from a full clone "
            "(pip install -e .), its data/ folder holds the worlds and the teachers"
        )
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def motifs() -> list[dict[str, str]]:
    """The motifs of the built-in families: family, motif, prosite, pattern, start (from 1)."""
    return _read("protein_motifs.csv")


def consensus(family: str) -> str:
    """The most typical sequence of a built-in family; KeyError if there is none of that name."""
    return {r["family"]: r["consensus"] for r in _read("protein_families.csv")}[family]


@cache
def default_world() -> ProteinWorld:
    """The built-in world of six families."""
    return ProteinWorld(built_in_profiles(), background())


def sample(n: int, seed: int) -> list[str]:
    """``n`` sequences of the built-in world; see `ProteinWorld.sample`."""
    return default_world().sample(n, seed)


def oracle(sequence: str) -> np.ndarray:
    """Exact next-residue distributions in the built-in world; see `ProteinWorld.oracle`."""
    return default_world().oracle(sequence)
