"""The biomedical world: the oracle is exact, samples follow it, and the tables hold together."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import random
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import stats

from workbench.errors import UsageError
from workbench.worlds import biomedical
from workbench.worlds.biomedical import MASK, BiomedicalWorld

# ---------------------------------------------------------------------- a tiny world
#
# Small enough to write down everything it can say, and with all that makes it hard: parts that
# may be left out, names of two words, a drug without rival, a disease without drug, two draws
# from one table, sentences that two patterns can make.

FACTS = {
    "drugs": [
        {"name": ("abol",), "class": ("pump blocker",), "target": ("EG1", "ras"),
         "indication": ("gout", "old fever")},
        {"name": ("acid brine",), "class": ("pump blocker",), "target": ("EG1",),
         "indication": ("gout",)},
        {"name": ("utol",), "class": ("statin",), "target": ("ras",),
         "indication": ("old fever", "gut cancer")},
    ],
    "diseases": [
        {"name": ("gout",), "kind": ("other",), "gene": ("EG1",)},
        {"name": ("old fever",), "kind": ("other",), "gene": ("ras", "EG1")},
        {"name": ("gut cancer",), "kind": ("tumor",), "gene": ("ras",)},
        {"name": ("sad cold",), "kind": ("other",), "gene": ("p5",)},
    ],
    "genes": [
        {"name": ("EG1",), "kind": ("enzyme",)},
        {"name": ("ras",), "kind": ("kinase",)},
        {"name": ("p5",), "kind": ("kinase",)},
    ],
    "classes": [
        {"name": ("pump blocker",), "verb": ("blocks",), "effect": ("rash", "hot flashes")},
        {"name": ("statin",), "verb": ("inhibits",), "effect": ("rash", "colitis")},
    ],
    "cells": [
        {"name": ("K5",), "disease": ("gout",)},
        {"name": ("HeLa",), "disease": ("gut cancer",)},
        {"name": ("MX",), "disease": ("sad cold",)},
    ],
    "values": [
        {"name": ("dose",), "value": ("5", "10")},
        {"name": ("change",), "value": ("deletion", "insertion", "long deletion")},
    ],
}  # fmt: skip
PATTERNS = (
    "{drug} {drug.class.verb} {drug.target} ( in {cells} cells | in vitro | ) .",
    "{drug} is {a drug.class} {drug.class} ( that {drug.class.verb} {drug.target} | ) .",
    "{drug} and {drug.rival} are {s drug.class} .",
    "{drug.class.effect} {is drug.class.effect} ( common | rare ) after {drug} .",
    "{drug.class.effect} {was drug.class.effect} seen ( after {drug} | ) .",
    "{gene} and {gene#2} were ( counted | sequenced ) .",
    "{a change} {change} of {disease.gene} ( was found | is known ) in {disease} .",
    r"in {tumor} , {tumor.drug} ( works | fails ) \( {dose} mg \) .",
    "{cells.disease.drug} ( kills | spares ) {cells} cells .",
    "( we | they ) saw {gene} .",
    "( like | similar to ) {drug} , {drug.rival} acts on {drug.target} .",
    "{gene} was seen .",
    "( p5 | it ) was seen .",
    "{gene} is {a gene.kind} {gene.kind} .",
)
#: What English writes, for every word of the tiny world.
ARTICLES = {"pump": "a", "statin": "a", "deletion": "a", "insertion": "an", "long": "a",
            "enzyme": "an", "kinase": "a"}  # fmt: skip
MANY = {"rash": False, "hot flashes": True, "colitis": False}
PLURALS = {"pump blocker": "pump blockers", "statin": "statins"}
KINDS = {"drugs": "Drug", "diseases": "Disease", "genes": "Gene"}
TABLE_OF_FIELD = {"class": "classes", "target": "genes", "gene": "genes", "disease": "diseases",
                  "rival": "drugs", "drug": "drugs"}  # fmt: skip
SHARE_WITH_LEAD = 0.3
#: Leads as they begin a sentence.
LED_BY = {lead[0].upper() + lead[1:] for lead in biomedical.LEADS}


class DeadEnd(Exception):
    """There is nothing to choose from."""


class Script:
    """Takes choices as written, then the first of each; keeps what else could have been taken.

    Args:
        written: places among the options of the first choices.
    """

    def __init__(self, written: list[int]) -> None:
        self.written, self.taken, self.share = written, [], 1.0
        self.others: list[list[int]] = []

    def __call__(self, options, weights=None):
        options = list(options)
        if not options:
            raise DeadEnd
        if len(self.taken) < len(self.written):
            place = self.written[len(self.taken)]
        else:
            place = 0
            self.others += [[*self.taken, other] for other in range(1, len(options))]
        self.taken.append(place)
        self.share *= weights[place] if weights else 1 / len(options)
        return options[place]


def every_way(process):
    """(probability, result) of every way in which a process can choose; shares sum to one.

    The process is a function of ``choose(options, weights=None)``. It is run again and again,
    each time with other choices; ways that end in a `DeadEnd` are left out.
    """
    found, scripts = [], [[]]
    while scripts:
        choose = Script(scripts.pop())
        with contextlib.suppress(DeadEnd):
            found.append((process(choose), choose))
        scripts += choose.others
    total = sum(choose.share for _, choose in found)
    return [(choose.share / total, result) for result, choose in found]


def fields_of(root: str, paths: set[tuple[str, ...]]) -> list:
    """Every way to draw a root from its table with some fields, as a list for `every_way`."""
    name = root.split("#")[0]

    def draw(choose):
        values = next((v["value"] for v in FACTS["values"] if v["name"] == (name,)), None)
        if values:
            return {(): ("", choose(values))}
        table = {"drug": "drugs", "disease": "diseases", "tumor": "diseases", "gene": "genes",
                 "cells": "cells"}[name]  # fmt: skip
        rows = [r for r in FACTS[table] if name != "tumor" or r["kind"] == ("tumor",)]
        drawn = {(): (table, choose(rows)["name"][0])}
        for path in sorted({p[:n] for p in paths for n in range(1, len(p) + 1)}, key=len):
            owner, text = drawn[path[:-1]]
            row = next(r for r in FACTS[owner] if r["name"] == (text,))
            match path[-1]:
                case "rival":
                    options = [
                        r["name"][0]
                        for r in FACTS["drugs"]
                        if r["class"] == row["class"] and r["name"] != row["name"]
                    ]
                case "drug":
                    options = [r["name"][0] for r in FACTS["drugs"] if text in r["indication"]]
                case field:
                    options = row[field]
            drawn[path] = (TABLE_OF_FIELD.get(path[-1], ""), choose(options))
        return drawn

    return every_way(draw)


def say(choose) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """One sentence of the tiny world, with its tags, from its description alone."""
    pattern = choose(PATTERNS)
    lead = choose(["", *biomedical.LEADS],
                  [1 - SHARE_WITH_LEAD, *[SHARE_WITH_LEAD / 8] * 8])  # fmt: skip
    text = re.sub(
        r"(?<!\\)\( (.*?)(?<!\\)\)", lambda m: choose([s.strip() for s in m[1].split("|")]), pattern
    )
    slots = [m[1].split(" ")[-1].split(".") for m in re.finditer(r"\{(.*?)\}", text)]
    drawn = {}
    for root in dict.fromkeys(root for root, *_ in slots):
        ways = fields_of(root, {tuple(path) for r, *path in slots if r == root})
        drawn[root] = choose([w for _, w in ways], [p for p, _ in ways])
    words, tags = lead.split(), ["O"] * len(lead.split())
    for token in re.findall(r"\{.*?\}|\S+", text):
        kind = None
        if token.startswith("{"):
            *form, place = token[1:-1].split(" ")
            root, *path = place.split(".")
            table, value = drawn[root][tuple(path)]
            match form:
                case ["a"]:
                    value = ARTICLES[value.split()[0]]
                case ["is"]:
                    value = "are" if MANY[value] else "is"
                case ["was"]:
                    value = "were" if MANY[value] else "was"
                case ["s"]:
                    value = PLURALS[value]
                case _:
                    kind = KINDS.get(table)
        else:
            value = token.removeprefix("\\")
        new = value.split()
        words += new
        tags += [f"{'I' if i else 'B'}-{kind}" if kind else "O" for i in range(len(new))]
    if words[0] not in ("EG1", "p5"):
        words[0] = words[0][0].upper() + words[0][1:]
    return tuple(words), tuple(tags)


def of(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@pytest.fixture(scope="module")
def world() -> BiomedicalWorld:
    return BiomedicalWorld(PATTERNS, FACTS)


@pytest.fixture(scope="module")
def joint() -> dict[tuple[tuple[str, ...], tuple[str, ...]], float]:
    """P(words, tags) of everything that the tiny world can say."""
    found: dict = defaultdict(float)
    for share, sentence in every_way(say):
        found[sentence] += share
    return found


@pytest.fixture(scope="module")
def truth(joint) -> dict[tuple[str, ...], float]:
    """P(words)."""
    found: dict = defaultdict(float)
    for (words, _), share in joint.items():
        found[words] += share
    return found


def conditional(truth, words, hidden) -> list[dict[str, float]]:
    """By brute force: the distribution of each hidden word given the visible ones."""
    rows: list[dict[str, float]] = [defaultdict(float) for _ in hidden]
    for other, share in truth.items():
        if len(other) == len(words) and all(
            a == b for i, (a, b) in enumerate(zip(words, other, strict=True)) if i not in hidden
        ):
            for row, place in zip(rows, hidden, strict=True):
                row[other[place]] += share
    return [{w: p / sum(row.values()) for w, p in row.items()} for row in rows]


def agree(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for word, share in expected.items():
        assert found[word] == pytest.approx(share, rel=1e-9)


# ---------------------------------------------------------------------- the truth


def test_the_enumeration_is_what_the_description_says(truth, joint):
    assert sum(truth.values()) == pytest.approx(1, abs=1e-12)
    # A pattern of 14, no lead, one of three drugs, a target of two, no addition of three.
    assert truth[of("Abol blocks ras .")] == pytest.approx(0.7 / 14 / 3 / 2 / 3)
    # Utol has no rival: the two others are drawn, and each has the other as its only rival.
    assert truth[of("Abol and acid brine are pump blockers .")] == pytest.approx(0.7 / 14 / 2)
    # Two patterns make it: each gene is one of three, and one of two words.
    assert truth["p5", "was", "seen", "."] == pytest.approx(0.7 / 14 / 3 + 0.7 / 14 / 2)
    # MX cells have a disease without a drug, which leaves two; two drugs for K5's; kills or spares.
    assert truth[of("Abol kills K5 cells .")] == pytest.approx(0.7 / 14 / 2 / 2 / 2)
    words = of("Hot flashes are rare after acid brine .")
    tags = ("O", "O", "O", "O", "O", "B-Drug", "I-Drug", "O")
    assert joint[words, tags] == pytest.approx(truth[words]) == pytest.approx(0.7 / 14 / 3 / 2 / 2)
    for text in (
        "However , hot flashes were seen after abol .",
        "Colitis was seen .",
        "An insertion of EG1 was found in old fever .",
        "Moreover , a long deletion of p5 is known in sad cold .",
        "In gut cancer , utol fails ( 10 mg ) .",
        "Similar to abol , acid brine acts on ras .",
        "EG1 is an enzyme .",
        "They saw ras .",
        "Ras and ras were counted .",
    ):
        assert truth[of(text)] > 0, text
    for text in (
        "Utol and abol are statins .",  # of different classes
        "Acid brine blocks ras .",  # not its target
        "abol blocks ras .",
        "P5 was seen .",
        "An insertion of EG1 was found in gut cancer .",
    ):
        assert of(text) not in truth, text


def test_probability_of_every_sentence_is_the_enumerations(world, truth):
    assert len(truth) > 1000
    got = [world.probability(words) for words in truth]
    np.testing.assert_allclose(got, list(truth.values()), rtol=1e-9)
    assert math.fsum(got) == pytest.approx(1, abs=1e-9)
    assert world.probability(of("Acid brine blocks ras .")) == 0
    assert world.probability(["Acid"]) == 0
    assert world.probability([]) == 0
    assert set(world.words) == {word for words in truth for word in words}


def test_samples_and_their_tags_come_as_often_as_the_enumeration_says(world, joint):
    drawn = Counter((s.words, s.tags) for s in world.sample(60_000, seed=3))
    assert drawn.keys() <= joint.keys()
    common = [key for key, p in joint.items() if 60_000 * p >= 5]
    rare = [key for key in joint if key not in set(common)]
    observed = [drawn[key] for key in common]
    expected = [60_000 * joint[key] for key in common]
    if rare:
        observed.append(sum(drawn[key] for key in rare))
        expected.append(60_000 * sum(joint[key] for key in rare))
    assert len(common) > 500
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_oracle_of_one_hidden_word_equals_brute_force(world, truth):
    for words in random.Random(0).sample(list(truth), 120):
        for place in range(len(words)):
            (expected,) = conditional(truth, words, [place])
            agree(world.oracle(words, place), expected)


def test_oracle_of_several_hidden_words_equals_brute_force(world, truth):
    draw = random.Random(1)
    for words in draw.sample(list(truth), 250):
        hidden = sorted(draw.sample(range(len(words)), draw.randint(2, min(5, len(words)))))
        answer = world.oracle_masked(words, hidden)
        assert answer.positions == tuple(hidden)
        assert answer.probabilities.shape == (len(hidden), len(world.words))
        np.testing.assert_allclose(answer.probabilities.sum(1), 1, rtol=1e-12)
        rows = conditional(truth, words, hidden)
        for row, expected in zip(answer.probabilities, rows, strict=True):
            agree({world.words[i]: row[i] for i in np.flatnonzero(row)}, expected)


def test_all_words_hidden_leaves_what_sentences_of_that_length_hold(world, truth):
    for length in sorted({len(words) for words in truth}):
        words = [MASK] * length
        rows = conditional(truth, words, range(length))
        for place in range(length):
            agree(world.oracle(words, place), rows[place])


def test_masks_are_averaged_over_and_the_word_asked_for_does_not_matter(world, truth):
    words = f"{MASK} {MASK} ras in vitro .".split()
    first, second = conditional(truth, words, [0, 1])
    agree(world.oracle(words, 0), first)
    agree(world.oracle(words, 1), second)
    assert first.keys() == {"Abol", "Utol"}
    assert world.oracle(["EG1", *words[1:]], 0) == world.oracle(words, 0)
    shares = list(world.oracle([MASK] * 4, 0).values())
    assert shares == sorted(shares, reverse=True)


def test_the_order_in_which_positions_are_asked_does_not_matter(world):
    words = of("Abol blocks ras in vitro .")
    answer = world.oracle_masked(words, (2, 0))
    assert answer.positions == (2, 0)
    np.testing.assert_array_equal(
        answer.probabilities[::-1], world.oracle_masked(words, [0, 2]).probabilities
    )
    assert world.oracle_masked(words, []).probabilities.shape == (0, len(world.words))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "words",
    [
        ["Abol", MASK, "nonsense", "."],
        ["Acid", "brine", MASK, "ras", "."],
        ["abol", "blocks", MASK, "."],  # without its capital
        [MASK, "blocks"],
        [MASK] * 60,
    ],
)
def test_a_sentence_that_cannot_be_is_refused_in_one_line(world, words):
    with pytest.raises(UsageError, match="this world makes no sentence such as") as error:
        world.oracle(words, words.index(MASK))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("position", [-1, 4, 100])
def test_a_position_that_is_not_there_is_named(world, position):
    words = of("Abol blocks ras .")
    for ask in (world.oracle, lambda w, p: world.oracle_masked(w, [0, 2, p])):
        with pytest.raises(UsageError, match=f"position {position} is not .* 0 to 3$"):
            ask(words, position)


def test_words_have_places_and_others_are_refused(world):
    assert [world.index(w) for w in world.words] == list(range(len(world.words)))
    with pytest.raises(UsageError, match="never uses the word 'aspirin'"):
        world.index("aspirin")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{Drug} works .", r"\{Drug\} is no slot"),
        ("{the drug} works .", "is no slot"),
        ("{drug.} works .", "is no slot"),
        ("{gen} works .", "nothing called 'gen' in this world; expected one of drug, disease"),
        ("{drug.colour} works .", "the drugs of this world have no 'colour'"),
        ("{drug.class.rival} works .", "the classes of this world have no 'rival'"),
    ],
)
def test_a_pattern_with_a_fault_is_refused_in_one_line(pattern, said):
    with pytest.raises(UsageError, match=said) as error:
        BiomedicalWorld([pattern], FACTS)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------- seeds


def test_same_seed_same_sentences_and_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].tolist()
    first = biomedical.sample(300, seed=1)
    assert first == biomedical.sample(300, seed=1)
    other = biomedical.sample(300, seed=2)
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 5
    assert np.random.get_state()[1].tolist() == before
    assert biomedical.sample(0, seed=1) == []
    assert len({s.text for s in biomedical.sample(2000, seed=3)}) > 1500


# ---------------------------------------------------------------------- the built-in world


def table(name: str) -> list[dict[str, list[str]]]:
    with (biomedical.DATA / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return [{key: text.split("|") for key, text in row.items()} for row in csv.DictReader(file)]


def names_of(name: str) -> list[str]:
    return [row["name"][0] for row in table(name)]


@pytest.fixture(scope="module")
def drawn() -> list[biomedical.Sentence]:
    return biomedical.sample(6000, seed=7)


def test_priors_of_all_readings_sum_to_one():
    world = biomedical.default_world()
    assert math.fsum(r.prior for r in world._readings) == pytest.approx(1, abs=1e-9)
    for reading in world._readings:
        for one, places in reading.tables:
            assert one.weights.sum() == pytest.approx(1, abs=1e-9)
            assert one.words.shape == one.tags.shape == (len(one.weights), len(places))
        filled = [p for _, places in reading.tables for p in places]
        assert sorted(filled) == np.flatnonzero(reading.fixed == -1).tolist()


def test_every_pattern_can_be_drawn_and_as_often_as_any_other():
    built_in = biomedical.default_world()
    assert len(set(built_in.patterns)) == len(built_in.patterns) >= 60
    for pattern in built_in.patterns:
        world = BiomedicalWorld([pattern], built_in.facts)
        assert math.fsum(r.prior for r in world._readings) == pytest.approx(1, abs=1e-9), pattern
        (sentence,) = world.sample(1, seed=0)
        share = world.probability(sentence.words) / len(built_in.patterns)
        assert 0 < share <= built_in.probability(sentence.words) * (1 + 1e-9), pattern


@pytest.mark.parametrize("verb", ["inhibits", "binds", "blocks", "activates"])
def test_a_hidden_drug_is_what_the_tables_imply(verb):
    verbs = {row["name"][0]: row["verb"][0] for row in table("classes")}
    weights = {
        row["name"][0].capitalize(): 1 / len(row["target"])
        for row in table("drugs")
        if "EGFR" in row["target"] and verbs[row["class"][0]] == verb
        and " " not in row["name"][0]
    }  # fmt: skip
    text = f"{MASK} {verb} EGFR ."
    if not weights:
        with pytest.raises(UsageError, match="makes no sentence"):
            biomedical.oracle(text, 0)
        return
    total = sum(weights.values())
    agree(biomedical.oracle(text, 0), {drug: w / total for drug, w in weights.items()})
    agree(biomedical.oracle(text.split(), 0), {drug: w / total for drug, w in weights.items()})


def test_egfr_has_inhibitors_and_an_antibody():
    assert {"Erlotinib", "Gefitinib", "Lapatinib"} <= biomedical.oracle(
        f"{MASK} inhibits EGFR .", 0
    ).keys()
    assert "Cetuximab" in biomedical.oracle(f"{MASK} binds EGFR .", 0)


def test_tables_name_each_thing_once_and_refer_to_nothing_that_is_not_there():
    drugs, diseases, genes, classes, cells, values = map(
        table, ("drugs", "diseases", "genes", "classes", "cells", "values")
    )
    assert len(drugs) >= 80 and len(diseases) >= 60 and len(genes) >= 60
    names = {t: set(names_of(t)) for t in ("drugs", "diseases", "genes", "classes", "cells")}
    for kind, rows in zip(names, (drugs, diseases, genes, classes, cells), strict=True):
        assert len(names[kind]) == len(rows), kind
        for row in rows:
            assert None not in row and None not in row.values()  # as many cells as columns
            for key, options in row.items():
                assert len(set(options)) == len(options), (row, key)
                for value in options:
                    assert value == " ".join(value.split()), (row, key)
                    # A disease need not have a gene: patterns with {disease.gene} leave it out.
                    assert value or (kind, key, options) == ("diseases", "gene", [""]), (row, key)
    entities = [n for kind in ("drugs", "diseases", "genes") for n in names[kind]]
    assert len(set(entities)) == len(entities)
    for row in drugs:
        assert len(row["class"]) == 1
        assert set(row["class"]) <= names["classes"], row
        assert set(row["target"]) <= names["genes"], row
        assert set(row["indication"]) <= names["diseases"], row
    for row in diseases:
        assert set(row["gene"]) <= names["genes"] | {""}, row
    for row in cells:
        assert set(row["disease"]) <= names["diseases"], row
    assert {row["kind"][0] for row in diseases} >= {"tumor"}
    assert names["classes"] == {row["class"][0] for row in drugs}  # none is idle
    assert all(len(set(row["value"])) == len(row["value"]) for row in values)
    assert len({row["name"][0] for row in values}) == len(values)


def test_tags_are_entities_of_their_tables(drawn):
    kinds = {kind: set(names_of(name)) for name, kind in KINDS.items()}
    seen: dict[str, set[str]] = defaultdict(set)
    for s in drawn:
        assert len(s.words) == len(s.tags)
        assert set(s.tags) <= set(BiomedicalWorld.tag_names)
        before = "O"
        for tag in s.tags:
            if tag.startswith("I-"):
                assert before in (f"B-{tag[2:]}", tag), s
            before = tag
        for start, tag in enumerate(s.tags):
            if tag.startswith("B-"):
                end = start + 1
                while end < len(s.tags) and s.tags[end] == f"I-{tag[2:]}":
                    end += 1
                name = " ".join(s.words[start:end])
                if start == 0 and name not in kinds[tag[2:]]:
                    name = name[0].lower() + name[1:]
                assert name in kinds[tag[2:]], s
                seen[tag[2:]].add(name)
    for kind, names in kinds.items():
        assert len(seen[kind]) > 0.95 * len(names), kind


def test_names_that_are_nothing_else_are_always_tagged(drawn):
    # Drugs and genes of one word, ACE aside (ACE inhibitors); a disease may be another's symptom.
    kinds = {n: k for t, k in KINDS.items() if t != "diseases" for n in names_of(t) if n != "ACE"}
    for s in drawn:
        for word, tag in zip(s.words, s.tags, strict=True):
            if word in kinds:
                assert tag == f"B-{kinds[word]}", s


def test_sentences_are_written_as_one_reads_them(drawn):
    for s in drawn:
        assert s.text == biomedical.write(s.words)
        assert s.text[0].upper() == s.text[0] or not re.fullmatch("[a-z]+", s.words[0]), s
        assert s.text.endswith(".") and not re.search(r" [.,%)]|\( |  ", s.text), s.text
        assert s.text.count("(") == s.text.count(")")
        # Nothing but spaces was taken out.
        assert s.text.replace(" ", "") == "".join(s.words)
        for first, second in itertools.pairwise(s.words):
            if first in ("a", "A") and second[0].isalpha():
                assert second[0] not in "aeio", s
            if first in ("an", "An"):
                assert second[0] in "aeioAEFHILMNORSX8" or second in ("11", "18"), s
    # The share of sentences with a lead, of which each is likely as any other.
    starts = Counter(
        lead for s in drawn for lead in LED_BY if " ".join(s.words).startswith(f"{lead} ")
    )
    assert stats.binomtest(sum(starts.values()), len(drawn), SHARE_WITH_LEAD).pvalue > 1e-3
    assert set(starts) == LED_BY and stats.chisquare(list(starts.values())).pvalue > 1e-3


def test_every_sentence_drawn_is_one_that_the_oracle_knows(drawn):
    world = biomedical.default_world()
    draw = random.Random(5)
    nll, entropy, spread = 0.0, 0.0, 0.0
    for s in drawn[:400]:
        assert world.probability(s.words) > 0
        place = draw.randrange(len(s.words))
        answer = world.oracle(s.words, place)
        assert sum(answer.values()) == pytest.approx(1, abs=1e-9)
        logs = {w: -math.log(p) for w, p in answer.items()}
        mean = sum(answer[w] * x for w, x in logs.items())
        nll += logs[s.words[place]]
        entropy += mean
        spread += sum(answer[w] * (x - mean) ** 2 for w, x in logs.items())
    # The truth is calibrated: on average it is as surprised as it expects to be.
    assert abs(nll - entropy) < 4 * math.sqrt(spread)


# ---------------------------------------------------------------------- English


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("antidepressant", "an"), ("inhibitor", "an"), ("statin", "a"), ("opioid", "an"),
        ("unilateral", "a"), ("useful", "a"), ("eukaryotic", "a"), ("ulcer", "an"),
        ("EGFR", "an"), ("HER2", "an"), ("KRAS", "a"), ("MRI", "an"), ("UV", "a"), ("ACE", "an"),
        ("DNA", "a"), ("Alzheimer", "an"), ("Parkinson", "a"), ("GTPase", "a"),
        ("8", "an"), ("80", "an"), ("11", "an"), ("18", "an"), ("110", "a"), ("5", "a"),
        ("180", "a"), ("1", "a"),
    ],
)  # fmt: skip
def test_articles_follow_the_sound(word, expected):
    assert biomedical.article(word) == expected


@pytest.mark.parametrize(
    ("word", "many"),
    [
        ("infections", True), ("flashes", True), ("reactions", True), ("seizures", True),
        ("palpitations", True), ("sweats", True), ("rash", False), ("colitis", False),
        ("tremor", False), ("homeostasis", False), ("weight loss", False), ("virus", False),
        ("mitosis", False), ("sadness", False), ("nausea", False),
    ],
)  # fmt: skip
def test_verbs_agree_with_their_noun(word, many):
    assert biomedical.is_plural(word) is many


def test_every_noun_that_a_verb_agrees_with_is_rightly_told_one_from_many():
    nouns = {v for row in table("diseases") for v in row["symptom"]}
    nouns |= {v for row in table("classes") for v in row["effect"]}
    nouns |= {v for row in table("genes") for v in row["process"]}
    assert {n for n in nouns if biomedical.is_plural(n.split()[-1])} == {
        "delusions", "hallucinations", "hot flashes", "infections", "infusion reactions",
        "injection site reactions", "night sweats", "palpitations", "seizures",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("antibody", "antibodies"), ("statin", "statins"), ("assay", "assays"),
     ("inhibitor", "inhibitors"), ("taxane", "taxanes")],
)  # fmt: skip
def test_plurals_of_regular_nouns(noun, expected):
    assert biomedical.plural(noun) == expected


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("it fell by 5 % .", "it fell by 5%."),
        ("found ( P = 0 . 05 ) .", "found (P = 0.05)."),
        ("( P = 0 . 001 ) , again", "(P = 0.001), again"),
        ("dose ( 10 mg ) daily .", "dose (10 mg) daily."),
        ("( a ( b ) )", "(a (b))"),
        ("of EGFR , KRAS .", "of EGFR, KRAS."),
        ("", ""),
    ],
)
def test_punctuation_stands_in_its_place(words, text):
    assert biomedical.write(words.split()) == text
