"""The protein world: the oracle is exact, and the sampler draws what the oracle says."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from workbench.worlds import proteins
from workbench.worlds.proteins import AMINO_ACIDS, END, Profile, ProteinWorld

LETTERS = "ACD"  # the tiny world's alphabet: few enough to write down all its sequences


def distribution(rng: np.random.Generator) -> np.ndarray:
    values = np.zeros(20)
    values[[AMINO_ACIDS.index(a) for a in LETTERS]] = rng.dirichlet(np.ones(len(LETTERS)))
    return values


def tiny_world(truncated_end: float = 0.05) -> ProteinWorld:
    rng = np.random.default_rng(7)

    def profile(name: str, weight: float, length: int) -> Profile:
        return Profile(
            name=name,
            weight=weight,
            emissions=np.array([distribution(rng) for _ in range(length)]),
            insert_open=np.append(rng.uniform(0.05, 0.2, length - 1), 0.0),
            insert_extend=0.15,
            delete_open=np.append(rng.uniform(0.05, 0.4, length - 1), 0.0),
            delete_extend=0.35,
            truncated_start=0.25,
            truncated_end=truncated_end,
        )

    return ProteinWorld([profile("short", 1.0, 3), profile("long", 2.0, 6)], distribution(rng))


def legible_world() -> ProteinWorld:
    """Every column writes its own letter, and insertions write letters that no column does.

    So the path through the columns can be read off a sequence.
    """
    length = 10
    rng = np.random.default_rng(12)
    profile = Profile(
        name="legible",
        weight=1.0,
        emissions=np.eye(length, 20),
        insert_open=np.append(rng.uniform(0.02, 0.2, length - 1), 0.0),
        insert_extend=0.4,
        delete_open=np.append(rng.uniform(0.02, 0.2, length - 1), 0.0),
        delete_extend=0.3,
        truncated_start=0.2,
        truncated_end=0.03,
    )
    return ProteinWorld([profile], np.append(np.zeros(length), np.full(20 - length, 0.1)))


# ---------------------------------------------------------------------- enumeration
#
# Written from the description of a profile alone: every way in which its columns can give
# n residues, with its probability and the distribution that each residue is drawn from.


def entries(profile: Profile, column: int, probability: float):
    """Every match that can come next, from ``column`` on, and its probability."""
    skipped_before = False
    for k in range(column, profile.length):
        skip = profile.delete_extend if skipped_before else profile.delete_open[k]
        if k == profile.length - 1:
            skip = 0.0
        yield k, probability * (1 - skip)
        probability *= skip
        skipped_before = True


def starts(profile: Profile):
    """Every column that can be the first, and its probability; a column may come twice."""
    yield from entries(profile, 0, 1 - profile.truncated_start)
    first_half = list(range(1, profile.length // 2)) or [1]
    for k in first_half:
        yield k, profile.truncated_start / len(first_half)


def paths(world: ProteinWorld, profile: Profile, residues: int):
    """(probability, probability that the protein ends there, distributions) of every path."""

    def walk(in_match: bool, column: int, probability: float, drawn: list):
        last = column == profile.length - 1
        if len(drawn) == residues:
            yield probability, 1.0 if last else profile.truncated_end, drawn
            return
        probability *= 1 - profile.truncated_end
        insert = profile.insert_open[column] if in_match else profile.insert_extend
        if last:
            return
        yield from walk(False, column, probability * insert, [*drawn, world.background])
        for k, p in entries(profile, column + 1, probability * (1 - insert)):
            yield from walk(True, k, p, [*drawn, profile.emissions[k]])

    for k, probability in starts(profile):
        yield from walk(True, k, probability, [profile.emissions[k]])


def enumerate_world(world: ProteinWorld, longest: int) -> tuple[dict[str, float], dict[str, float]]:
    """P(a protein begins with x) and P(a protein is x), for all x of up to ``longest`` residues."""
    alphabet = [AMINO_ACIDS.index(a) for a in LETTERS]
    total = sum(p.weight for p in world.profiles)
    begins, is_all, words = {"": 1.0}, {"": 0.0}, [""]
    for residues in range(1, longest + 1):
        words = [w + a for w in words for a in LETTERS]
        prefix, whole = np.zeros((2, len(words)))
        for profile in world.profiles:
            for probability, end, drawn in paths(world, profile, residues):
                joint = np.full(1, profile.weight / total * probability)
                for values in drawn:
                    joint = np.kron(joint, values[alphabet])
                prefix += joint
                whole += end * joint
        begins.update(zip(words, prefix.tolist(), strict=True))
        is_all.update(zip(words, whole.tolist(), strict=True))
    return begins, is_all


@pytest.fixture(scope="module")
def enumerated() -> tuple[ProteinWorld, dict[str, float], dict[str, float]]:
    world = tiny_world()
    return world, *enumerate_world(world, 9)


# ---------------------------------------------------------------------- the truth


@pytest.mark.parametrize("truncated_end", [0.0, 0.05])
def test_oracle_equals_enumeration_after_every_prefix(truncated_end):
    world = tiny_world(truncated_end)
    begins, is_all = enumerate_world(world, 6)
    prefixes = [w for w in begins if len(w) < 6]
    assert len(prefixes) == (3**6 - 1) // 2
    for prefix, rows in zip(prefixes, world.oracle_batch(prefixes), strict=True):
        assert rows.shape == (len(prefix) + 1, 21)
        for t in range(len(prefix) + 1):
            seen = prefix[:t]
            expected = np.zeros(21)
            for letter in LETTERS:
                expected[AMINO_ACIDS.index(letter)] = begins[seen + letter]
            expected[END] = is_all[seen]
            np.testing.assert_allclose(rows[t], expected / begins[seen], rtol=1e-11, atol=1e-15)


def test_oracle_rows_are_distributions():
    built_in = proteins.default_world()
    unbroken = [replace(p, truncated_end=0.0) for p in built_in.profiles]
    for world in (tiny_world(), built_in, ProteinWorld(unbroken, built_in.background)):
        for rows in world.oracle_batch(world.sample(50, seed=1)):
            assert (rows >= 0).all()
            np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=0, atol=1e-12)


def test_log_likelihood_of_all_sequences_sums_to_one_less_the_longer_ones(enumerated):
    world, begins, _ = enumerated
    words = [w for w in begins if 1 <= len(w) <= 8]
    # Whoever begins with nine residues is longer than eight: the tail, counted by paths.
    tail = sum(p for w, p in begins.items() if len(w) == 9)
    assert 1e-4 < tail < 0.1
    assert np.exp(world.log_likelihood(words)).sum() == pytest.approx(1 - tail, abs=1e-12)


def test_log_likelihood_of_a_sequence_is_its_enumerated_probability(enumerated):
    world, _, is_all = enumerated
    words = [w for w in is_all if 1 <= len(w) <= 5]
    expected = np.log([is_all[w] for w in words])
    np.testing.assert_allclose(world.log_likelihood(words), expected, rtol=1e-11)


def test_entropy_by_monte_carlo_agrees_with_enumeration(enumerated):
    world, begins, is_all = enumerated
    probabilities = np.array([p for p in is_all.values() if p > 0])
    entropy = -(probabilities * np.log(probabilities)).sum()
    tail = sum(p for w, p in begins.items() if len(w) == 9) - sum(
        p for w, p in is_all.items() if len(w) == 9
    )
    # A tail of mass τ adds at most τ·(−ln τ + entropy of what is in it), here < 20 nats.
    missing = tail * (20 - math.log(tail))
    values = -world.log_likelihood(world.sample(20_000, seed=3))
    error = values.std() / math.sqrt(len(values))
    assert error < 0.02
    assert entropy - 4 * error < values.mean() < entropy + missing + 4 * error


def test_entropy_of_the_built_in_world_agrees_with_the_oracles_conditional_entropies():
    # −ln P(x) and Σ_t H(next | x_<t) have the same expectation, the world's entropy, if and
    # only if sequences are drawn from what the oracle says.
    world = proteins.default_world()
    sequences = world.sample(400, seed=4)
    plain = -world.log_likelihood(sequences)
    blackwell = np.array(
        [-(r * np.log(np.where(r > 0, r, 1.0))).sum() for r in world.oracle_batch(sequences)]
    )
    assert blackwell.std() < plain.std()
    difference = plain - blackwell
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(difference))


def test_oracle_batch_equals_oracle_one_by_one_whatever_the_lengths():
    world = proteins.default_world()
    long = "".join(world.sample(4, seed=5))
    sequences = [long, "", *world.sample(9, seed=6), "W", long[:77]]
    together = world.oracle_batch(sequences, batch_size=4)
    assert [len(rows) for rows in together] == [len(s) + 1 for s in sequences]
    for sequence, rows in zip(sequences, together, strict=True):
        np.testing.assert_allclose(rows, world.oracle(sequence), rtol=1e-10, atol=1e-15)


def test_oracle_of_a_prefix_is_the_beginning_of_the_oracle():
    (sequence,) = proteins.sample(1, seed=8)
    whole = proteins.oracle(sequence)
    np.testing.assert_allclose(proteins.oracle(sequence[:20]), whole[:21], rtol=1e-10)


def test_a_sequence_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="probability zero"):
        tiny_world().oracle("ACW")


# ---------------------------------------------------------------------- drawing


def test_same_seed_same_sequences():
    assert proteins.sample(50, seed=1) == proteins.sample(50, seed=1)
    assert proteins.sample(50, seed=1) != proteins.sample(50, seed=2)


def test_sampling_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].tolist()
    proteins.sample(10, seed=1)
    assert np.random.get_state()[1].tolist() == before


def test_no_sequences_and_no_empty_sequence():
    assert proteins.sample(0, seed=1) == []
    assert min(map(len, tiny_world().sample(5000, seed=1))) == 1


def test_sampled_sequences_have_their_enumerated_frequencies(enumerated):
    world, _, is_all = enumerated
    n = 20_000
    counts = Counter(world.sample(n, seed=9))
    common = {w: p * n for w, p in is_all.items() if p * n >= 10}
    observed = np.array([counts[w] for w in common] + [0.0])
    expected = np.array([*common.values(), 0.0])
    observed[-1], expected[-1] = n - observed.sum(), n - expected.sum()  # all others together
    assert len(common) > 100
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_sampled_residues_have_the_exact_frequencies():
    for world in (proteins.default_world(), tiny_world(), legible_world()):
        n = 5000 if world is proteins.default_world() else 20_000
        exact = world.residue_frequencies()
        assert exact.sum() == pytest.approx(1.0)
        sequences = world.sample(n, seed=10)
        for letter, frequency in zip(AMINO_ACIDS, exact, strict=True):
            # Expectation zero, whatever the lengths; sequences are independent, residues not.
            excess = np.array([s.count(letter) - frequency * len(s) for s in sequences])
            assert abs(excess.sum()) <= 4.5 * excess.std() * math.sqrt(n), letter


def test_sampled_first_and_second_residues_agree_with_the_oracle():
    world = proteins.default_world()
    n = 20_000
    sequences = world.sample(n, seed=11)
    first = world.oracle("")[0]
    assert first[END] == 0
    seconds = world.oracle_batch(list(AMINO_ACIDS))
    pairs = np.array([first[i] * rows[1] for i, rows in enumerate(seconds)]) * n
    observed = np.zeros((20, 21))
    for s in sequences:
        second = AMINO_ACIDS.index(s[1]) if len(s) > 1 else END
        observed[AMINO_ACIDS.index(s[0]), second] += 1
    assert stats.chisquare(observed.sum(1), pairs.sum(1)).pvalue > 1e-3
    often = pairs >= 5
    assert often.sum() > 300
    rest = ~often
    counts = np.append(observed[often], observed[rest].sum())
    expected = np.append(pairs[often], pairs[rest].sum())
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_insertions_deletions_and_truncations_come_at_their_rates():
    world = legible_world()
    (profile,) = world.profiles
    length = profile.length
    first = np.zeros(length)
    for k, probability in starts(profile):
        first[k] += probability
    expected: dict[str, float] = {}
    events: Counter[str] = Counter()
    trials: Counter[str] = Counter()

    def count(name: str, happened: bool, probability: float) -> None:
        expected[name] = probability
        events[name] += happened
        trials[name] += 1

    for sequence in world.sample(20_000, seed=13):
        columns = [k if (k := AMINO_ACIDS.index(a)) < length else None for a in sequence]
        for k in range(length):
            count(f"start at {k}", columns[0] == k, first[k])
        column = -1
        for i, here in enumerate(columns):
            column = column if here is None else here
            if column == length - 1:
                assert i == len(columns) - 1
                break
            count("break off", i == len(columns) - 1, profile.truncated_end)
            if i == len(columns) - 1:
                break
            after = columns[i + 1]
            if here is None:
                count("insertion goes on", after is None, profile.insert_extend)
            else:
                count(f"insertion after {here}", after is None, profile.insert_open[here])
            for k in range(column + 1, column + 1 if after is None else min(after + 1, length - 1)):
                if k == column + 1:
                    count(f"deletion of {k}", k < after, profile.delete_open[k])
                else:
                    count("deletion goes on", k < after, profile.delete_extend)
    assert len(expected) == length + 1 + 1 + (length - 1) + (length - 2) + 1
    for name, probability in expected.items():
        error = math.sqrt(probability * (1 - probability) / trials[name])
        assert abs(events[name] / trials[name] - probability) <= 4.5 * error, name


# ---------------------------------------------------------------------- the built-in families


def table(name: str) -> list[dict[str, str]]:
    with (proteins.TABLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def motif_columns() -> dict[str, dict[int, str]]:
    """For each family, the columns that a motif lies on and the residues it allows there."""
    columns: dict[str, dict[int, str]] = {}
    for motif in table("protein_motifs.csv"):
        for i, allowed in enumerate(proteins.parse_prosite(motif["pattern"])):
            columns.setdefault(motif["family"], {})[int(motif["start"]) - 1 + i] = allowed
    return columns


def as_regex(pattern: str) -> re.Pattern[str]:
    """A PROSITE pattern as a regular expression, translated sign by sign."""
    signs = {"-": "", "x": ".", "{": "[^", "}": "]", "(": "{", ")": "}"}
    return re.compile("".join(signs.get(sign, sign) for sign in pattern))


def test_there_are_six_to_twelve_families_of_forty_to_eighty_columns():
    profiles = proteins.built_in_profiles()
    assert 6 <= len(profiles) <= 12
    assert len({p.name for p in profiles}) == len(profiles)
    assert all(40 <= p.length <= 80 for p in profiles)


def test_emissions_are_distributions_and_conservation_varies_along_a_family():
    for profile in proteins.built_in_profiles():
        np.testing.assert_allclose(profile.emissions.sum(axis=1), 1.0, atol=1e-12)
        assert profile.emissions.min() > 0  # no natural residue is impossible anywhere
        largest = profile.emissions.max(axis=1)
        assert largest.min() < 0.4 < 0.8 < largest.max(), profile.name


def test_transitions_are_the_ones_of_the_table():
    motifs = motif_columns()
    for row, profile in zip(
        table("protein_families.csv"), proteins.built_in_profiles(), strict=True
    ):
        assert profile.name == row["family"]
        assert profile.length == len(row["consensus"]) == len(row["conservation"])
        for name in ("weight", "insert_extend", "delete_extend", "truncated_start"):
            assert getattr(profile, name) == float(row[name])
        assert profile.truncated_end == float(row.get("truncated_end", 0))
        for name in ("insert_open", "delete_open"):
            loose = [float(row[name]) * (1 - int(digit) / 9) for digit in row["conservation"]]
            loose[-1] = 0.0
            values = getattr(profile, name)
            motif = motifs[profile.name]
            outside = [k for k in range(profile.length) if k not in motif]
            np.testing.assert_allclose(values[outside], np.array(loose)[outside], atol=1e-15)
            confined = [k for k, allowed in motif.items() if allowed != AMINO_ACIDS]
            assert not values[confined].any()


def test_the_consensus_is_the_likeliest_residue_of_conserved_columns():
    for row, profile in zip(
        table("protein_families.csv"), proteins.built_in_profiles(), strict=True
    ):
        for k, (letter, digit) in enumerate(
            zip(row["consensus"], row["conservation"], strict=True)
        ):
            if int(digit) >= 4:
                assert AMINO_ACIDS[profile.emissions[k].argmax()] == letter, (profile.name, k)


def test_substitutions_follow_chemistry():
    frequencies = proteins.background()
    assert frequencies.sum() == pytest.approx(1.0)
    substitutions = proteins.substitution_probabilities(frequencies)
    np.testing.assert_allclose(substitutions.sum(axis=1), 1.0)
    lift = substitutions / frequencies
    for like, unlike in (("IV", "ID"), ("DE", "DL"), ("KR", "KF"), ("FY", "FG"), ("ST", "SW")):
        a, b, c = AMINO_ACIDS.index(like[0]), AMINO_ACIDS.index(like[1]), unlike[1]
        assert lift[a, b] > 1 > lift[a, AMINO_ACIDS.index(c)]


def test_every_motif_fits_its_familys_consensus():
    assert proteins.motifs() == table("protein_motifs.csv")
    for motif in proteins.motifs():
        at = int(motif["start"]) - 1
        assert as_regex(motif["pattern"]).match(proteins.consensus(motif["family"]), at), motif
        assert re.fullmatch(r"PS\d{5}", motif["prosite"])


def test_every_motif_occurs_in_its_family_as_often_as_its_columns_say_and_hardly_elsewhere():
    world = proteins.default_world()
    sequences, families = world.sample_with_families(6000, seed=14)
    for motif in table("protein_motifs.csv"):
        index = [p.name for p in world.profiles].index(motif["family"])
        profile = world.profiles[index]
        columns = proteins.parse_prosite(motif["pattern"])
        start = int(motif["start"]) - 1
        end = start + len(columns)
        # Reached from a whole start, not broken off before its end, not taken apart by
        # insertions and deletions, and every residue an allowed one.
        likely = (1 - profile.truncated_start) * (1 - profile.truncated_end) ** (end + 10)
        likely *= np.prod(1 - profile.insert_open[start : end - 1])
        likely *= np.prod(1 - profile.delete_open[start:end])
        for k, allowed in enumerate(columns, start=start):
            likely *= profile.emissions[k, [AMINO_ACIDS.index(a) for a in allowed]].sum()
        pattern = as_regex(motif["pattern"])
        found = np.array([bool(pattern.search(s)) for s in sequences])
        own, elsewhere = found[families == index], found[families != index].mean()
        assert own.mean() > likely - 4 * math.sqrt(likely * (1 - likely) / len(own)), motif
        assert own.mean() > 0.2, motif
        assert own.mean() > 50 * elsewhere, motif


# ---------------------------------------------------------------------- letters and patterns


@pytest.mark.parametrize(
    ("pattern", "columns"),
    [
        ("K", ["K"]),
        ("C-H", ["C", "H"]),
        ("[ST]", ["ST"]),
        ("x", [AMINO_ACIDS]),
        ("{P}", [AMINO_ACIDS.replace("P", "")]),
        ("{ILV}-x(3)", ["ACDEFGHKMNPQRSTWY", *[AMINO_ACIDS] * 3]),
        ("[AG]-x(4)-G-K-[ST]", ["AG", *[AMINO_ACIDS] * 4, "G", "K", "ST"]),
        ("H(2)-[DE](2)", ["H", "H", "DE", "DE"]),
        ("x(12)", [AMINO_ACIDS] * 12),
    ],
)
def test_parse_prosite(pattern, columns):
    assert proteins.parse_prosite(pattern) == columns


@pytest.mark.parametrize("pattern", ["x(2,4)", "[AG", "<M", "C-", "", "c", "[A{P}]", "C--H"])
def test_parse_prosite_refuses_what_it_cannot_read(pattern):
    with pytest.raises(ValueError, match="PROSITE"):
        proteins.parse_prosite(pattern)


def test_encode_is_the_place_in_the_alphabet():
    assert proteins.encode(AMINO_ACIDS).tolist() == list(range(20))
    assert proteins.encode("").tolist() == []


@pytest.mark.parametrize(
    ("sequence", "letter", "position"),
    [("MKXA", "X", 3), ("B", "B", 1), ("ACDa", "a", 4), ("AC DE", " ", 3), ("AΩC", "Ω", 2)],
)
def test_encode_names_the_letter_and_its_position(sequence, letter, position):
    with pytest.raises(ValueError, match=f"position {position} .*{re.escape(repr(letter))}"):
        proteins.encode(sequence)
