"""The biomedical world: sentences about drugs, diseases and genes, with the truth known.

A sentence is drawn from a grammar over tables of facts. A *pattern* such as

    {drug} {drug.class.verb} {drug.target} ( in {cells} cells | in vitro | ) .

is drawn uniformly, then each of its choices, then the facts in its slots: a drug uniformly from
the table, its target uniformly among that drug's targets, and so on. Hence the sentence is a
finite sum, and the distribution of any hidden word given the visible ones is exact, by
enumeration of every way in which the grammar can make a sentence that agrees with them:

    P(word at i | rest)  ∝  Σ over readings of  P(reading) · [reading agrees with the rest].

"[MASK] inhibits EGFR ." so has a true answer: every drug whose class inhibits and which has EGFR
as a target, each in its share. What a teacher says beyond the label (dark knowledge) can be
held against it.

How patterns are written. Words stand apart by spaces, and punctuation is a word. ``( a | b | )``
is a choice, each side equally likely, an empty one leaves the part out; it may hold slots, not
other choices. Any sentence may begin with one of `LEADS`. ``{root.field.field}`` is a slot: a root
is one draw from a table, shared by all slots of the sentence that begin with it (``{gene#2}`` is
another draw), and a field is drawn uniformly from those given for it. A leading ``a`` writes the
article of the slot's value, ``is`` and ``was`` the verb that agrees with it, ``s`` its plural. The
first letter of a sentence is raised, unless the word has capitals or figures of its own.

The tables are in ``data/worlds/biomedical/``, written for this project from general knowledge of
pharmacology and genetics. Patterns and choices simplify: that a sentence is in this world does
not make it a finding, and percentages, doses and counts are drawn at random.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from workbench.errors import UsageError

#: Words before a sentence that tie it to the one before, each equally likely; and their share.
LEADS = ("however ,", "moreover ,", "in addition ,", "in contrast ,", "interestingly ,",
         "therefore ,", "in this study ,", "in summary ,")  # fmt: skip
LED = 0.3
DATA = Path(__file__).parents[2] / "data" / "worlds" / "biomedical"
#: How a hidden word is written.
MASK = "[MASK]"
#: Kinds of entities that are tagged, by table.
ENTITIES = {"drugs": "Drug", "diseases": "Disease", "genes": "Gene"}
#: Punctuation that is written without a space before it.
_CLOSING = re.compile(r" ([.,%)])")

_TOKEN = re.compile(r"\{[^}]*\}|\S+")
_SLOT = re.compile(r"(?:(a|is|was|s) )?([a-z]+)(#\d)?((?:\.[a-z]+)*)")
#: Nouns that end like plurals and are not, and plurals that do not end so.
_SINGULAR = re.compile(r"(ss|us|is|colitis|tremor)$")
#: Words that begin with a vowel's letter and a consonant's sound, or the other way round.
_CONSONANT_SOUND = re.compile(r"(uni|use|eu|one)", re.IGNORECASE)
_VOWEL_NAMES = "AEFHILMNORSX"


@dataclass(frozen=True)
class Sentence:
    """A sentence and its entities.

    Attributes:
        words: words and punctuation.
        tags: of each word, BIO: ``B-Drug``, ``I-Disease``, ``O`` …
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentence as it is read, punctuation in its place."""
        return write(self.words)


@dataclass(frozen=True)
class Oracle:
    """The exact answer about hidden words of one sentence.

    Attributes:
        positions: of the hidden words.
        probabilities: ``[positions, vocabulary]``, rows sum to one.
    """

    positions: tuple[int, ...]
    probabilities: np.ndarray


@dataclass(frozen=True)
class _Table:
    """Assignments of one root with given lengths of its values: what stands where, how likely.

    Attributes:
        words: ``[rows, places]``, ids of words.
        tags: ``[rows, places]``, numbers of tags.
        weights: ``[rows]``, sum to one.
    """

    words: np.ndarray
    tags: np.ndarray
    weights: np.ndarray

    @cached_property
    def cumulative(self) -> np.ndarray:
        return np.cumsum(self.weights)


@dataclass(frozen=True)
class _Reading:
    """One way to make sentences of one length: fixed words, and tables for the other places.

    Attributes:
        prior: probability of this way.
        fixed: ``[length]``, ids of words, -1 where a table writes.
        tables: each with the places that it fills.
    """

    prior: float
    fixed: np.ndarray
    tables: tuple[tuple[_Table, np.ndarray], ...]


@dataclass
class _Lengths:
    """All readings of one length, together."""

    readings: list[_Reading] = field(default_factory=list)

    @cached_property
    def fixed(self) -> np.ndarray:
        return np.stack([r.fixed for r in self.readings])


class BiomedicalWorld:
    """A grammar over tables of facts.

    Args:
        patterns: as explained at the top of this file.
        facts: tables by name, a list of rows each; values are tuples of alternatives.
    """

    tag_names = ("O", *(f"{place}-{kind}" for kind in ENTITIES.values() for place in "BI"))

    def __init__(self, patterns: Sequence[str], facts: dict[str, list[dict]]) -> None:
        self.patterns = tuple(patterns)
        self.facts = facts
        self._roots = {
            "drug": ("drugs", facts["drugs"]),
            "disease": ("diseases", facts["diseases"]),
            "tumor": ("diseases", [d for d in facts["diseases"] if d["kind"] == ("tumor",)]),
            "gene": ("genes", facts["genes"]),
            "cells": ("cells", facts["cells"]),
            **{
                row["name"][0]: ("", [{"name": (value,)} for value in row["value"]])
                for row in facts["values"]
            },
        }
        self._by_name = {
            table: {row["name"][0]: row for row in rows} for table, rows in facts.items()
        }
        self._ids: dict[str, int] = {}
        self._tables: dict[tuple, dict[tuple[int, ...], tuple[float, _Table]]] = {}
        self._lengths: dict[int, _Lengths] = {}
        self._readings: list[_Reading] = []
        for pattern in self.patterns:
            self._add(pattern)
        self._priors = np.cumsum([r.prior for r in self._readings])
        self.words: tuple[str, ...] = tuple(self._ids)

    # ------------------------------------------------------------------ use

    def sample(self, count: int, seed: int) -> list[Sentence]:
        """Sentences, independent of each other; the same seed gives the same ones."""
        rng = np.random.default_rng([seed, 0x62696F])
        chosen = np.searchsorted(self._priors, rng.random(count) * self._priors[-1], side="right")
        draws = rng.random((count, max(len(r.tables) for r in self._readings)))
        return [
            self._draw(self._readings[min(reading, len(self._readings) - 1)], row)
            for reading, row in zip(chosen, draws, strict=True)
        ]

    def oracle(self, words: Sequence[str], position: int) -> dict[str, float]:
        """The exact distribution of a hidden word given the rest, likeliest first.

        Args:
            words: of the sentence; others may be hidden too, written ``[MASK]``, and are
                averaged over. What stands at ``position`` does not matter.
            position: of the word asked for.

        Raises:
            UsageError: if the grammar can make no such sentence.
        """
        hidden = {position, *(i for i, word in enumerate(words) if word == MASK)}
        answer = self.oracle_masked(words, sorted(hidden))
        row = answer.probabilities[answer.positions.index(position)]
        order = np.argsort(-row, kind="stable")
        return {self.words[i]: float(row[i]) for i in order if row[i] > 0}

    def oracle_masked(self, words: Sequence[str], positions: Sequence[int]) -> Oracle:
        """The exact distribution of each of several hidden words, given those that are visible.

        Args:
            words: of the sentence.
            positions: of all hidden words.

        Raises:
            UsageError: if the grammar can make no sentence with these visible words.
        """
        positions = tuple(positions)
        for position in positions:
            if not 0 <= position < len(words):
                raise UsageError(
                    f"position {position} is not in the sentence; expected 0 to {len(words) - 1}"
                )
        ids = np.array([self._ids.get(word, -2) for word in words])
        ids[list(positions)] = -1
        found = np.zeros((len(positions), len(self.words)))
        for reading, share, kept in self._matching(ids):
            for row, position in enumerate(positions):
                if reading.fixed[position] >= 0:
                    found[row, reading.fixed[position]] += share
            for (table, places), rows in zip(reading.tables, kept, strict=True):
                weights = table.weights[rows]
                weights = share * weights / weights.sum()
                for row, position in enumerate(positions):
                    for column in np.flatnonzero(places == position):
                        np.add.at(found[row], table.words[rows, column], weights)
        total = found.sum(1, keepdims=True)
        if positions and not total.all():
            raise UsageError(
                f"this world makes no sentence such as {write(words)!r}; take one that `sample` "
                "gave, or ask about its words"
            )
        return Oracle(positions, found / np.where(total > 0, total, 1))

    def probability(self, words: Sequence[str]) -> float:
        """Exact probability that `sample` gives this sentence; 0 if it never does."""
        ids = np.array([self._ids.get(word, -2) for word in words])
        return sum(share for _, share, _ in self._matching(ids))

    def index(self, word: str) -> int:
        """Place of a word in `words` and in the oracle's rows.

        Raises:
            UsageError: if the world never uses it.
        """
        if word not in self._ids:
            raise UsageError(f"this world never uses the word {word!r}")
        return self._ids[word]

    # ------------------------------------------------------------------ enumeration

    def _matching(self, ids: np.ndarray) -> Iterator[tuple[_Reading, float, list[np.ndarray]]]:
        """Readings that agree with visible words (-1 is hidden), with the joint probability."""
        group = self._lengths.get(len(ids))
        if group is None:
            return
        visible = ids != -1
        fits = ((group.fixed == ids) | (group.fixed == -1) | ~visible).all(1)
        for number in np.flatnonzero(fits):
            reading = group.readings[number]
            share, kept = reading.prior, []
            for table, places in reading.tables:
                seen = visible[places]
                rows = np.flatnonzero((table.words[:, seen] == ids[places][seen]).all(1))
                if not len(rows):
                    break
                share *= float(table.weights[rows].sum())
                kept.append(rows)
            else:
                yield reading, share, kept

    def _draw(self, reading: _Reading, draws: np.ndarray) -> Sentence:
        ids = reading.fixed.copy()
        tags = np.zeros(len(ids), dtype=np.int64)
        for (table, places), draw in zip(reading.tables, draws, strict=False):
            row = int(np.searchsorted(table.cumulative, draw * table.cumulative[-1], "right"))
            row = min(row, len(table.weights) - 1)
            ids[places] = table.words[row]
            tags[places] = table.tags[row]
        return Sentence(tuple(self.words[i] for i in ids), tuple(self.tag_names[t] for t in tags))

    # ------------------------------------------------------------------ from patterns to readings

    def _add(self, pattern: str) -> None:
        share = 1 / len(self.patterns)
        for weight, tokens in _expand(pattern):
            self._add_tokens(share * (1 - LED) * weight, tokens)
            for lead in LEADS:
                self._add_tokens(share * LED / len(LEADS) * weight, [*lead.split(), *tokens])

    def _add_tokens(self, weight: float, tokens: list[str]) -> None:
        roots: dict[str, list[tuple[str, tuple[str, ...], bool]]] = {}
        for number, token in enumerate(tokens):
            if token.startswith("{"):
                root, use = _parse_slot(token)
                roots.setdefault(root, []).append((*use, number == 0))
            elif "|" in token:
                # A choice of one word: the words are the rows of a table of their own.
                roots[f"={number}"] = [("", tuple(token.split("|")), number == 0)]
        tables = [self._table(root, tuple(uses)) for root, uses in roots.items()]
        for combination in itertools.product(*(t.items() for t in tables)):
            self._add_reading(weight, tokens, list(roots), combination)

    def _add_reading(self, weight: float, tokens: list[str], roots: list[str], combination) -> None:
        lengths = {root: iter(key) for root, (key, _) in zip(roots, combination, strict=True)}
        places: dict[str, list[int]] = {root: [] for root in roots}
        fixed: list[int] = []
        for number, token in enumerate(tokens):
            root = f"={number}" if "|" in token else ""
            root = _parse_slot(token)[0] if token.startswith("{") else root
            if root:
                length = next(lengths[root])
                places[root] += range(len(fixed), len(fixed) + length)
                fixed += [-1] * length
            else:
                fixed.append(self._id(_raise(token) if number == 0 else token))
        prior = weight
        filled = []
        for root, (_, (share, table)) in zip(roots, combination, strict=True):
            prior *= share
            filled.append((table, np.array(places[root])))
        reading = _Reading(prior, np.array(fixed), tuple(filled))
        self._readings.append(reading)
        self._lengths.setdefault(len(fixed), _Lengths()).readings.append(reading)

    def _table(self, root: str, uses: tuple) -> dict[tuple[int, ...], tuple[float, _Table]]:
        """Assignments of a root, apart by the lengths of what they write; with their share."""
        key = (root.partition("#")[0] if not root.startswith("=") else "=", uses)
        if key in self._tables:
            return self._tables[key]
        rows: dict[tuple[int, ...], dict[tuple, float]] = {}
        for weight, written in self._assignments(root, uses):
            lengths = tuple(len(words) for words, _ in written)
            words = tuple(self._id(word) for part, _ in written for word in part)
            tags = tuple(tag for _, part in written for tag in part)
            found = rows.setdefault(lengths, {})
            found[words, tags] = found.get((words, tags), 0.0) + weight
        total = sum(sum(found.values()) for found in rows.values())
        self._tables[key] = {
            lengths: (
                sum(found.values()) / total,
                _Table(
                    np.array([words for words, _ in found]),
                    np.array([tags for _, tags in found]),
                    np.array(list(found.values())) / sum(found.values()),
                ),
            )
            for lengths, found in rows.items()
        }
        return self._tables[key]

    def _assignments(self, root: str, uses: tuple):
        """Every way to fill the slots of a root, with its probability."""
        if root.startswith("="):
            ((_, words, first),) = uses
            for word in words:
                yield 1 / len(words), [((_raise(word) if first else word,), (0,))]
            return
        name = root.partition("#")[0]
        if name not in self._roots:
            raise UsageError(
                f"there is nothing called {name!r} in this world; expected one of "
                f"{', '.join(self._roots)}"
            )
        table, entities = self._roots[name]
        paths = sorted({path[:n] for _, path, _ in uses for n in range(1, len(path) + 1)})
        for entity in entities:
            for weight, values in self._values(table, entity, paths):
                yield (
                    weight / len(entities),
                    [self._write(form, values[path], first) for form, path, first in uses],
                )

    def _values(self, table: str, entity: dict, paths: list[tuple[str, ...]]):
        """Every choice of fields along some paths from one entity: probability and values.

        A value is (table, text); the table is empty for what is no entity.
        """
        start = {(): (table, entity["name"][0])}
        ways = [(1.0, start)]
        for path in paths:
            longer = []
            for weight, values in ways:
                owner, name = values[path[:-1]]
                options = self._field(owner, name, path[-1])
                longer += [(weight / len(options), {**values, path: o}) for o in options]
            ways = longer
        return ways

    def _field(self, table: str, name: str, wanted: str) -> list[tuple[str, str]]:
        """What may stand in a field of an entity."""
        row = self._by_name[table][name]
        if (table, wanted) == ("drugs", "rival"):
            same = [r for r in self.facts["drugs"] if r["class"] == row["class"]]
            return [("drugs", r["name"][0]) for r in same if r is not row]
        if (table, wanted) == ("diseases", "drug"):
            return [("drugs", r["name"][0]) for r in self.facts["drugs"] if name in r["indication"]]
        if wanted not in row:
            raise UsageError(f"the {table} of this world have no {wanted!r}")
        kinds = {"class": "classes", "target": "genes", "indication": "diseases",
                 "gene": "genes", "disease": "diseases"}  # fmt: skip
        return [(kinds.get(wanted, ""), value) for value in row[wanted]]

    def _write(self, form: str, value: tuple[str, str], first: bool):
        """Words and tags of one slot."""
        table, text = value
        words = text.split(" ")
        tag = 0
        if form == "a":
            words = [article(words[0])]
        elif form in ("is", "was"):
            many = {"is": "are", "was": "were"}[form]
            words = [many if is_plural(words[-1]) else form]
        elif form == "s":
            words = [*words[:-1], plural(words[-1])]
        elif table in ENTITIES:
            tag = self.tag_names.index(f"B-{ENTITIES[table]}")
        if first:
            words = [_raise(words[0]), *words[1:]]
        # The tag that continues an entity follows the one that begins it.
        return tuple(words), tuple((tag + (tag > 0 and i > 0)) for i in range(len(words)))

    def _id(self, word: str) -> int:
        return self._ids.setdefault(word, len(self._ids))


@cache
def default_world() -> BiomedicalWorld:
    """The world of the tables in ``data/worlds/biomedical/``."""
    facts = {}
    for table in ("classes", "drugs", "genes", "diseases", "cells", "values"):
        with (DATA / f"{table}.csv").open(newline="", encoding="utf-8") as file:
            facts[table] = [
                {k: tuple(v for v in text.split("|") if v) for k, text in row.items()}
                for row in csv.DictReader(file)
            ]
    lines = (DATA / "patterns.txt").read_text(encoding="utf-8").splitlines()
    return BiomedicalWorld([line for line in lines if line and not line.startswith("#")], facts)


def sample(count: int, seed: int) -> list[Sentence]:
    """Sentences of the built-in world; see `BiomedicalWorld.sample`."""
    return default_world().sample(count, seed)


def oracle(sentence: Sequence[str] | str, position: int) -> dict[str, float]:
    """The exact distribution of a word given the rest; see `BiomedicalWorld.oracle`.

    Args:
        sentence: words, or a text with spaces around words and punctuation.
        position: of the word asked for.
    """
    words = sentence.split() if isinstance(sentence, str) else sentence
    return default_world().oracle(words, position)


def write(words: Sequence[str]) -> str:
    """Words as a text with punctuation in its place."""
    text = _CLOSING.sub(r"\1", " ".join(words)).replace("( ", "(")
    return re.sub(r"(\d)\. (\d)", r"\1.\2", text)


def article(word: str) -> str:
    """``a`` or ``an``, by the sound that a word begins with."""
    if re.match(r"[A-Z]{2}|[A-Z]\d", word):
        return "an" if word[0] in _VOWEL_NAMES else "a"
    if word[0].isdigit():
        return "an" if re.match(r"8|1[18]$", word) else "a"
    vowel = word[0].lower() in "aeiou" and not _CONSONANT_SOUND.match(word)
    return "an" if vowel else "a"


def is_plural(word: str) -> bool:
    """Whether a noun takes ``are`` and ``were``."""
    return word.endswith("s") and not _SINGULAR.search(word)


def plural(noun: str) -> str:
    """The plural of a regular noun."""
    return f"{noun[:-1]}ies" if re.search(r"[^aeiou]y$", noun) else f"{noun}s"


def _raise(word: str) -> str:
    """First letter raised, in words of small letters only: not ``p53``."""
    return word[0].upper() + word[1:] if re.fullmatch(r"[a-z]+", word) else word


def _parse_slot(token: str) -> tuple[str, tuple[str, tuple[str, ...]]]:
    match = _SLOT.fullmatch(token[1:-1])
    if not match:
        raise UsageError(f"{token} is no slot; expected such as {{drug}} or {{a drug.class}}")
    form, root, number, fields = match.groups()
    return root + (number or ""), (form or "", tuple(fields.split(".")[1:]))


def _expand(pattern: str) -> list[tuple[float, list[str]]]:
    """A pattern without its choices of different lengths: tokens and probability of each way.

    A choice among single words stays, as ``a|b|c``; a backslash before a bracket is removed.
    """
    ways: list[tuple[float, list[str]]] = [(1.0, [])]
    choice: list[list[str]] | None = None
    for token in _TOKEN.findall(pattern):
        if token == "(":
            choice = [[]]
        elif token == "|" and choice is not None:
            choice.append([])
        elif token == ")" and choice is not None:
            if all(len(side) == 1 and not side[0].startswith("{") for side in choice):
                choice = [["|".join(side[0] for side in choice)]]
            ways = [
                (weight / len(choice), tokens + side) for weight, tokens in ways for side in choice
            ]
            choice = None
        else:
            word = token.removeprefix("\\")
            for tokens in [choice[-1]] if choice is not None else [t for _, t in ways]:
                tokens.append(word)
    return ways
