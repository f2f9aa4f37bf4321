"""The peptide world: the oracle is exact, and the sampler draws what the oracle says."""

from __future__ import annotations

import csv
import itertools
import math
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import stats

from workbench.classifying import classification
from workbench.errors import UsageError, WorkbenchError
from workbench.worlds import peptides, proteins
from workbench.worlds.peptides import Allele, PeptideWorld, Shares
from workbench.worlds.proteins import AMINO_ACIDS

LETTERS = "ACD"  # the tiny world's alphabet: few enough to write down all its peptides
LENGTHS = {3: 0.1, 4: 0.2, 5: 0.4, 6: 0.2, 7: 0.1}


def tiny_world(shares: Shares = peptides.SHARES) -> PeptideWorld:
    rng = np.random.default_rng(5)

    def distribution() -> np.ndarray:
        values = np.zeros(20)
        values[[AMINO_ACIDS.index(a) for a in LETTERS]] = rng.dirichlet(np.ones(len(LETTERS)))
        return values

    alleles = [
        Allele(name, name * 3, np.array([distribution() for _ in range(5)]))
        for name in ("one", "two", "three")
    ]
    return PeptideWorld(alleles, distribution(), LENGTHS, shares)


# ---------------------------------------------------------------------- enumeration
#
# Written from the description of the world alone: every way to lay the columns of a motif along
# a peptide, as a list of the distributions that its residues are drawn from.


def ways(motif: np.ndarray, background: np.ndarray, length: int) -> list[list[np.ndarray]]:
    columns = list(motif)
    width = len(columns)
    if length == width:
        return [columns]
    found = []
    if length > width:
        for after in range(2, width):  # the stretch follows this column, counted from 1
            bulge = [background] * (length - width)
            found.append(columns[:after] + bulge + columns[after:])
    else:
        left_out = width - length
        for first in range(3, width):  # first column left out, counted from 1
            if first + left_out - 1 < width:
                found.append(columns[: first - 1] + columns[first - 1 + left_out :])
    assert all(len(way) == length for way in found)
    return found


def written(distributions: list[np.ndarray]) -> dict[str, float]:
    """Probability of every word when each residue has its own distribution."""
    return {
        "".join(word): math.prod(
            d[AMINO_ACIDS.index(a)] for d, a in zip(distributions, word, strict=True)
        )
        for word in itertools.product(LETTERS, repeat=len(distributions))
    }


def enumerate_joint(world: PeptideWorld) -> dict[tuple[str, str, str], float]:
    """P(peptide, allele, kind) of everything that the world can draw."""
    binders: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    random: dict[str, float] = {}
    total = sum(world.lengths.values())
    for length, share in world.lengths.items():
        for word, p in written([world.background] * length).items():
            random[word] = share / total * p
        for allele in world.alleles:
            laid = ways(allele.motif, world.background, length)
            for way in laid:
                for word, p in written(way).items():
                    binders[allele.name][word] += share / total * p / len(laid)
    joint: dict[tuple[str, str, str], float] = {}
    names = [a.name for a in world.alleles]
    for allele in names:
        others = [b for b in names if b != allele]
        for word in random:
            joint[word, allele, "binder"] = world.shares.binder * binders[allele][word]
            joint[word, allele, "random"] = world.shares.random * random[word]
            swap = sum(binders[b][word] for b in others) / len(others)
            joint[word, allele, "swap"] = world.shares.swap * swap
    return {key: p / len(names) for key, p in joint.items()}


@pytest.fixture(scope="module")
def joint() -> dict[tuple[str, str, str], float]:
    return enumerate_joint(tiny_world())


@pytest.fixture(scope="module")
def records() -> list[peptides.Record]:
    return peptides.sample(30_000, seed=3)


def columns(records: list[peptides.Record]) -> tuple[list[str], list[str], np.ndarray]:
    return (
        [r.peptide for r in records],
        [r.allele for r in records],
        np.array([r.label for r in records]),
    )


# ---------------------------------------------------------------------- the truth


@pytest.mark.parametrize("shares", [Shares(), Shares(0.3, 0.7, 0.0), Shares(0.4, 0.0, 0.6)])
def test_oracle_equals_bayes_over_everything_enumerated(shares):
    world = tiny_world(shares)
    joint = enumerate_joint(world)
    pairs = sorted({(word, allele) for word, allele, _ in joint})
    assert len(pairs) == 3 * sum(3**n for n in LENGTHS)
    got = world.oracle_batch([w for w, _ in pairs], [a for _, a in pairs])
    expected = [
        joint[w, a, "binder"] / sum(joint[w, a, k] for k in ("binder", "random", "swap"))
        for w, a in pairs
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert world.oracle(*pairs[100]) == pytest.approx(expected[100], rel=1e-12)


@pytest.mark.parametrize("alleles", [None, ["one", "two", "three"], ["two"], ["three", "one"]])
def test_oracle_without_allele_equals_the_enumeration_summed_over_alleles(joint, alleles):
    world = tiny_world()
    words = sorted({word for word, _, _ in joint})
    total: dict[tuple[str, bool], float] = defaultdict(float)
    for (word, allele, kind), p in joint.items():
        if alleles is None or allele in alleles:
            total[word, kind == "binder"] += p
    expected = [total[w, True] / (total[w, True] + total[w, False]) for w in words]
    np.testing.assert_allclose(world.oracle_without_allele(words, alleles), expected, rtol=1e-12)
    if alleles == ["two"]:
        np.testing.assert_allclose(expected, world.oracle_batch(words, ["two"] * len(words)))


def test_probabilities_of_all_peptides_of_a_length_sum_to_its_share(joint):
    world = tiny_world()
    for length, share in LENGTHS.items():
        words = ["".join(w) for w in itertools.product(LETTERS, repeat=length)]
        np.testing.assert_allclose(world.binder_probability(words).sum(axis=0), share, rtol=1e-12)
        assert world.random_probability(words).sum() == pytest.approx(share, rel=1e-12)
    assert sum(joint.values()) == pytest.approx(1, rel=1e-12)


def test_built_in_motifs_over_all_peptides_of_three_free_residues_sum_to_what_the_columns_say():
    # Twenty letters and nine residues are too many to write down. With six residues fixed, the
    # sum over the other three must be the product of the six columns' values.
    world = peptides.default_world()
    free = ["".join(w) for w in itertools.product(AMINO_ACIDS, repeat=3)]
    words = ["S" + a + "L" + b + "VA" + c + "KT" for a, b, c in free]
    got = world.binder_probability(words).sum(axis=0)
    fixed = {0: "S", 2: "L", 4: "V", 5: "A", 7: "K", 8: "T"}
    for allele, value in zip(world.alleles, got, strict=True):
        expected = math.prod(allele.motif[k, AMINO_ACIDS.index(x)] for k, x in fixed.items())
        assert value == pytest.approx(peptides.LENGTHS[9] * expected, rel=1e-10)


def test_anchors_keep_their_columns_at_every_length():
    # P(second residue) and P(last residue), from samples of binders.
    world = peptides.default_world().with_shares(Shares(1.0, 0.0, 0.0))
    name = "HLA-B*44:03"
    motif = world.allele(name).motif
    sample = world.sample(20_000, seed=2, alleles=[name], distinct=False)
    for length in peptides.LENGTHS:
        words = [r.peptide for r in sample if len(r.peptide) == length]
        for place, column in ((0, 0), (1, 1), (-1, 8)):
            counts = Counter(w[place] for w in words)
            expected = motif[column] * len(words)
            observed = np.array([counts[a] for a in AMINO_ACIDS])
            often = expected >= 5
            observed = np.append(observed[often], observed[~often].sum())
            expected = np.append(expected[often], expected[~often].sum() + 1e-9)
            assert stats.chisquare(observed, expected).pvalue > 1e-4, (length, place)


def test_batch_equals_one_by_one_whatever_the_lengths_and_chunks(records, monkeypatch):
    some = records[:60]
    words, alleles, _ = columns(some)
    one_by_one = [peptides.oracle(w, a) for w, a in zip(words, alleles, strict=True)]
    monkeypatch.setattr(peptides, "_CHUNK", 7)
    np.testing.assert_allclose(peptides.oracle_batch(words, alleles), one_by_one, rtol=1e-12)
    assert len({len(w) for w in words}) == 4
    assert peptides.oracle_batch([], []).shape == (0,)


# ---------------------------------------------------------------------- drawing


def test_sampled_records_have_their_enumerated_frequencies(joint):
    n = 60_000
    drawn = tiny_world().sample(n, seed=4, distinct=False)
    counts = Counter((r.peptide, r.allele, r.kind) for r in drawn)
    common = {key: p * n for key, p in joint.items() if p * n >= 8}
    observed = np.array([counts[key] for key in common] + [0.0])
    expected = np.array([*common.values(), 0.0])
    observed[-1], expected[-1] = n - observed.sum(), n - expected.sum()  # all others together
    assert len(common) > 1000
    assert set(counts) <= {key for key, p in joint.items() if p > 0}
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_the_oracle_is_calibrated(records):
    words, alleles, labels = columns(records)
    posterior = peptides.oracle_batch(words, alleles)
    bins = np.minimum((posterior * 10).astype(int), 9)
    for b in range(10):
        inside = bins == b
        assert inside.sum() > 200
        error = math.sqrt((posterior * (1 - posterior))[inside].sum())
        assert abs((labels - posterior)[inside].sum()) < 4 * error, b
    for length in peptides.LENGTHS:
        inside = np.array([len(w) == length for w in words])
        error = math.sqrt((posterior * (1 - posterior))[inside].sum())
        assert abs((labels - posterior)[inside].sum()) < 4 * error, length
    # Surprise and entropy have the same expectation where labels are drawn from the posterior.
    likely = np.where(labels == 1, posterior, 1 - posterior)
    entropy = -(stats.bernoulli(posterior).entropy())
    difference = -np.log(likely) + entropy
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(difference))


def test_leaving_out_repeated_pairs_keeps_the_oracle_exact():
    # A tiny world from which a third of all pairs is drawn: common pairs are nearly all there.
    world = tiny_world()
    excess, variance, pairs = 0.0, 0.0, 3 * sum(3**n for n in LENGTHS)
    for seed in range(8):
        drawn = world.sample(pairs // 3, seed=seed)
        words, alleles, labels = columns(drawn)
        assert len(set(zip(words, alleles, strict=True))) == len(drawn) == pairs // 3
        posterior = world.oracle_batch(words, alleles)
        excess += (labels - posterior).sum()
        variance += (posterior * (1 - posterior)).sum()
    assert abs(excess) < 4 * math.sqrt(variance)


def test_records_are_consistent_and_come_in_the_stated_shares(records):
    n = len(records)
    assert n == 30_000
    expected = {"binder": 0.5, "random": 0.2, "swap": 0.3}
    counts = Counter(r.kind for r in records)
    assert stats.chisquare([counts[k] for k in expected], [n * p for p in expected.values()])[1] > (
        1e-3
    )
    lengths = Counter(len(r.peptide) for r in records)
    shares = [n * p for p in peptides.LENGTHS.values()]
    assert stats.chisquare([lengths[k] for k in peptides.LENGTHS], shares).pvalue > 1e-3
    alleles = Counter(r.allele for r in records)
    assert set(alleles) == set(peptides.allele_names())
    assert stats.chisquare(list(alleles.values())).pvalue > 1e-3
    sources = Counter(r.source for r in records if r.kind == "swap")
    assert stats.chisquare([sources[a] for a in alleles]).pvalue > 1e-3
    for r in records:
        assert r.label == (r.kind == "binder")
        if r.kind == "random":
            assert r.source == ""
        else:
            assert (r.source == r.allele) == (r.kind == "binder")


def test_same_seed_same_records_and_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].tolist()
    assert peptides.sample(300, seed=1) == peptides.sample(300, seed=1)
    assert peptides.sample(300, seed=1) != peptides.sample(300, seed=2)
    assert np.random.get_state()[1].tolist() == before
    assert peptides.sample(0, seed=1) == []


def test_records_of_some_alleles_only_still_have_swaps_from_all_and_an_exact_oracle():
    chosen = list(peptides.HELD_OUT_ALLELES)
    drawn = peptides.sample(6000, seed=5, alleles=chosen)
    assert {r.allele for r in drawn} == set(chosen)
    assert {r.source for r in drawn if r.kind == "swap"} == set(peptides.allele_names())
    words, alleles, labels = columns(drawn)
    posterior = peptides.oracle_batch(words, alleles)
    error = math.sqrt((posterior * (1 - posterior)).sum())
    assert abs((labels - posterior).sum()) < 4 * error


def test_a_world_of_some_alleles_draws_nothing_of_the_others():
    kept = [a for a in peptides.allele_names() if a not in peptides.HELD_OUT_ALLELES]
    world = peptides.default_world().only(kept)
    drawn = world.sample(3000, seed=6)
    assert {r.allele for r in drawn} == set(kept) == {r.source for r in drawn} - {""}
    words, alleles, labels = columns(drawn)
    posterior = world.oracle_batch(words, alleles)
    error = math.sqrt((posterior * (1 - posterior)).sum())
    assert abs((labels - posterior).sum()) < 4 * error


# ---------------------------------------------------------------------- ceilings


def test_swaps_are_what_makes_a_model_look_at_the_hla(records):
    world = peptides.default_world()
    auc = {}
    for kind in ("random", "swap"):
        words, alleles, labels = columns(peptides.against(records, kind))
        auc[kind, "oracle"] = classification.roc_auc(labels, world.oracle_batch(words, alleles))
        auc[kind, "blind"] = classification.roc_auc(labels, world.oracle_without_allele(words))
    # The standard error of each is below 0.004 (24,000 records).
    assert auc["random", "blind"] == pytest.approx(0.93, abs=0.015)
    assert auc["swap", "blind"] == pytest.approx(0.5, abs=0.016)
    assert auc["swap", "oracle"] > 0.93
    assert auc["random", "oracle"] > 0.96


def test_swaps_and_binders_are_the_same_peptides_when_the_allele_is_not_seen():
    world = tiny_world(Shares(0.5, 0.0, 0.5))
    words = ["".join(w) for n in LENGTHS for w in itertools.product(LETTERS, repeat=n)]
    np.testing.assert_allclose(world.oracle_without_allele(words), 0.5, rtol=1e-12)


def test_the_ceiling_is_the_oracle_and_agrees_with_its_expectation(records):
    ceiling = peptides.ceiling(records)
    words, alleles, labels = columns(records)
    posterior = peptides.oracle_batch(words, alleles)
    assert ceiling.scores == classification.score(labels, posterior)
    assert ceiling.expected_accuracy == pytest.approx(np.maximum(posterior, 1 - posterior).mean())
    error = math.sqrt((posterior * (1 - posterior)).sum()) / len(labels)
    assert abs(ceiling.scores.accuracy - ceiling.expected_accuracy) < 4 * error
    assert ceiling.best_f1 >= ceiling.scores.f1
    assert classification.score(
        labels, posterior, threshold=ceiling.best_f1_threshold
    ).f1 == pytest.approx(ceiling.best_f1)
    # F1 is highest where the threshold is half of that F1 (Lipton, Elkan & Naryanaswamy 2014).
    assert ceiling.best_f1_threshold == pytest.approx(ceiling.best_f1 / 2, abs=0.05)
    assert ceiling.without_allele.auc < ceiling.scores.auc - 0.2
    assert ceiling.without_allele.accuracy < ceiling.scores.accuracy - 0.2


def test_expected_accuracy_of_the_enumerated_world_cannot_be_beaten(joint):
    best, pairs = 0.0, {(w, a) for w, a, _ in joint}
    for word, allele in pairs:
        p = [joint[word, allele, k] for k in ("binder", "random", "swap")]
        best += max(p[0], p[1] + p[2])
    world = tiny_world()
    drawn = world.sample(40_000, seed=7, distinct=False)
    accuracy = world.ceiling(drawn).scores.accuracy
    assert accuracy == pytest.approx(best, abs=4 * math.sqrt(best * (1 - best) / len(drawn)))


def test_a_ceiling_without_binders_has_no_f1():
    negatives = [r for r in peptides.sample(200, seed=8) if not r.label]
    ceiling = peptides.ceiling(negatives)
    assert ceiling.best_f1 is ceiling.best_f1_threshold is ceiling.scores.auc is None
    assert ceiling.scores.accuracy > 0.7


def test_against_keeps_binders_and_one_kind_of_negatives(records):
    kept = peptides.against(records, "swap")
    assert {r.kind for r in kept} == {"binder", "swap"}
    assert len(kept) == sum(r.kind != "random" for r in records)
    with pytest.raises(UsageError, match="'binder' is no kind of negative"):
        peptides.against(records, "binder")


# ---------------------------------------------------------------------- splits


def test_split_by_peptide_shares_no_peptide_and_depends_on_nothing_else(records):
    train, test = peptides.split_by_peptide(records)
    assert not {r.peptide for r in train} & {r.peptide for r in test}
    assert sorted(train + test) == sorted(records)
    assert len(test) / len(records) == pytest.approx(0.1, abs=0.01)
    again = peptides.split_by_peptide(records[::-1][:5000])
    assert set(again.test) <= set(test)
    assert peptides.is_test_peptide("SIINFEKL") == peptides.is_test_peptide("SIINFEKL")
    larger = peptides.split_by_peptide(records, share=0.3)
    assert set(test) <= set(larger.test)
    with pytest.raises(UsageError, match="share"):
        peptides.split_by_peptide(records, share=1.0)


def test_split_by_allele_leaves_nothing_of_the_held_out_ones_in_training(records):
    out = set(peptides.HELD_OUT_ALLELES)
    train, test = peptides.split_by_allele(records)
    assert {r.allele for r in test} == out
    assert not out & ({r.allele for r in train} | {r.source for r in train})
    assert not {r.peptide for r in train} & {r.peptide for r in test}
    assert len(test) == sum(r.allele in out for r in records)
    # What is left out: swaps that carry a held-out allele's peptide, 3 of 26 of 3/10.
    assert len(train) / sum(r.allele not in out for r in records) == pytest.approx(
        1 - 0.3 * 3 / 26, abs=0.01
    )


def test_each_held_out_allele_has_a_relative_in_training():
    world = peptides.default_world()
    assert [name[4] for name in peptides.HELD_OUT_ALLELES] == ["A", "B", "C"]
    relatives = {
        "HLA-A*11:01": ("HLA-A*03:01", 4),
        "HLA-B*58:01": ("HLA-B*57:01", 2),
        "HLA-C*07:01": ("HLA-C*06:02", 7),
    }

    def different(a: Allele, b: Allele) -> int:
        return sum(x != y for x, y in zip(a.pseudo_sequence, b.pseudo_sequence, strict=True))

    def divergence(a: Allele, b: Allele) -> float:
        mean = (a.motif + b.motif) / 2
        return sum(stats.entropy(m.ravel(), mean.ravel()) for m in (a.motif, b.motif))

    for name, (relative, residues) in relatives.items():
        held_out = world.allele(name)
        rest = [a for a in world.alleles if a.name not in relatives]
        assert different(held_out, world.allele(relative)) == residues
        assert min(rest, key=lambda a: different(held_out, a)).name == relative
        assert min(rest, key=lambda a: divergence(held_out, a)).name == relative


# ---------------------------------------------------------------------- the built-in tables


def test_the_tables_hold_27_alleles_of_three_genes_with_pseudo_sequences_and_nine_columns():
    alleles = peptides.built_in_alleles()
    assert Counter(a.name[:5] for a in alleles) == {"HLA-A": 8, "HLA-B": 15, "HLA-C": 4}
    assert len({a.name for a in alleles}) == len({a.pseudo_sequence for a in alleles}) == 27
    for a in alleles:
        assert len(a.pseudo_sequence) == 34
        assert set(a.pseudo_sequence) <= set(AMINO_ACIDS)
        assert a.motif.shape == (9, 20)
        assert a.motif.min() > 0
        np.testing.assert_allclose(a.motif.sum(axis=1), 1, atol=1e-12)


def test_motifs_are_the_measured_frequencies_with_twenty_peptides_of_background():
    with (proteins.TABLES / "hla_motifs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27 * 9
    background = proteins.background()
    for k, row in enumerate(rows):
        assert int(row["position"]) == k % 9 + 1
        allele = peptides.default_world().allele(row["allele"])
        counted = int(row["peptides_counted"])
        measured = np.array([float(row[a]) for a in AMINO_ACIDS])
        assert measured.sum() == pytest.approx(1, abs=6e-4)  # printed with four digits
        expected = (counted * measured / measured.sum() + 20 * background) / (counted + 20)
        np.testing.assert_allclose(allele.motif[k % 9], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("allele", "second", "last"),
    [
        ("HLA-A*02:01", "L", "L"),
        ("HLA-A*03:01", "L", "K"),
        ("HLA-B*07:02", "P", "L"),
        ("HLA-B*27:05", "R", "L"),
        ("HLA-B*44:02", "E", "F"),
        ("HLA-B*57:01", "S", "W"),
    ],
)
def test_well_known_anchors_are_in_their_places(allele, second, last):
    consensus = peptides.default_world().allele(allele).consensus()
    assert (consensus[1], consensus[-1]) == (second, last)


def test_every_alleles_consensus_is_a_likely_binder_and_loses_most_by_other_anchors():
    for allele in peptides.default_world().alleles:
        best = allele.consensus()
        assert peptides.oracle(best, allele.name) > 0.95
        second, last = (AMINO_ACIDS[allele.motif[k].argmin()] for k in (1, 8))
        neither = best[0] + second + best[2:-1] + last
        # Other columns may still speak for the allele, but the odds fall at least a hundredfold.
        odds = [p / (1 - p) for p in peptides.oracle_batch([best, neither], [allele.name] * 2)]
        assert odds[0] > 100 * odds[1], allele.name
        own = peptides.default_world().binder_probability([best, neither])
        place = peptides.allele_names().index(allele.name)
        assert own[0, place] > 1000 * own[1, place]


# ---------------------------------------------------------------------- one clear line


@pytest.mark.parametrize(
    ("peptide", "allele", "message"),
    [
        ("SIINFEKLV", "HLA-A*02:07", r"'HLA-A\*02:07' is not one of the 27 .* HLA-A\*02:0"),
        ("SIINFEKLV", "", "'' is not one of the 27 alleles"),
        ("SIINFEKLX", "HLA-A*02:01", "position 9 of the peptide SIINFEKLX is 'X'"),
        ("siinfeklv", "HLA-A*02:01", "position 1 of the peptide siinfeklv is 's'"),
        ("SIINFE", "HLA-A*02:01", "SIINFE has 6 residues; .* lengths 8, 9, 10, 11"),
        ("SIINFEKLVAAA", "HLA-A*02:01", "has 12 residues"),
        ("", "HLA-A*02:01", r"\(empty\) has 0 residues"),
        ("SIINFEKΩV", "HLA-A*02:01", "position 8 .* is 'Ω'"),
    ],
)
def test_what_the_world_does_not_know_is_said_in_one_line(peptide, allele, message):
    with pytest.raises(UsageError, match=message) as error:
        peptides.oracle_batch(["SLLELLLTL", peptide], ["HLA-A*02:01", allele])
    assert "\n" not in str(error.value)


def test_wrong_arguments_are_said_in_one_line():
    with pytest.raises(UsageError, match="2 peptides with 1 alleles"):
        peptides.oracle_batch(["SLLELLLTL"] * 2, ["HLA-A*02:01"])
    with pytest.raises(UsageError, match="n is -1"):
        peptides.sample(-1, seed=0)
    with pytest.raises(UsageError, match="seed is -2"):
        peptides.sample(1, seed=-2)
    with pytest.raises(UsageError, match="not one of the 27"):
        peptides.sample(1, seed=0, alleles=["B44"])
    with pytest.raises(UsageError, match="sum to 1"):
        Shares(0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match="no examples"):
        peptides.ceiling([])
    with pytest.raises(UsageError, match="probability zero"):
        tiny_world().oracle("WWWWW", "one")
    with pytest.raises(WorkbenchError, match=r"different pairs .* distinct=False"):
        tiny_world().sample(3 * sum(3**n for n in LENGTHS) + 1, seed=0)


def test_alleles_that_make_no_world_are_refused():
    one, two, _ = tiny_world().alleles
    background = tiny_world().background
    with pytest.raises(UsageError, match="two or more"):
        PeptideWorld([one], background, LENGTHS)
    with pytest.raises(UsageError, match="two or more"):
        PeptideWorld([one, one], background, LENGTHS)
    with pytest.raises(UsageError, match="shapes"):
        PeptideWorld([one, Allele("short", "", two.motif[:4])], background, LENGTHS)
    with pytest.raises(UsageError, match="does not sum to 1"):
        PeptideWorld([one, Allele("half", "", two.motif / 2)], background, LENGTHS)
    with pytest.raises(UsageError, match="lengths"):
        PeptideWorld([one, two], background, {2: 1.0})


def test_a_missing_table_is_named(monkeypatch, tmp_path):
    shutil.copy(proteins.TABLES / "background.csv", tmp_path)
    monkeypatch.setattr(proteins, "TABLES", tmp_path)
    with pytest.raises(WorkbenchError, match=r"hla_alleles\.csv is missing"):
        peptides.built_in_alleles()
