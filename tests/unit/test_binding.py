"""What classifiers say about pairs: order, cache, fidelity, groups, motifs, reports and ratios."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import stats

from workbench import corpora
from workbench.classifying import binding, classification, classifiers, pairs
from workbench.classifying.binding import Judgement
from workbench.classifying.classification import METRICS, Interval
from workbench.errors import UsageError
from workbench.recipes import Shape
from workbench.teacher_cache import LiveTeacher, open_cache
from workbench.worlds import peptides, proteins
from workbench.worlds.proteins import AMINO_ACIDS

SHAPE = Shape(layers=2, heads=2, width=16, positions=64, vocabulary=25)
GROUPS = {"all", "random", "swap", "unseen", "unseen_swap"}


@pytest.fixture(scope="module")
def model():
    return classifiers.build(SHAPE, activation="gelu", seed=1, initial_spread=0.4)


@pytest.fixture(scope="module")
def tokenizer():
    return classifiers.residue_tokenizer()


@pytest.fixture(scope="module")
def corpus() -> pairs.PairCorpus:
    return pairs.load(pairs.PEPTIDE_WORLD, train_pairs=20, validation_pairs=240)


@pytest.fixture(scope="module")
def rows(corpus, tokenizer) -> corpora.Rows:
    return pairs.tokenise(corpus.validation[:37], corpus.pseudo_sequences, tokenizer, 64)


@pytest.fixture
def few(monkeypatch):
    """Fewer resamples: what is tested is not how smooth the intervals are."""
    monkeypatch.setattr(Judgement.score, "__defaults__", (60,))
    monkeypatch.setattr(Judgement.by_allele, "__defaults__", (10,))


# ---------------------------------------------------------------------- answers


@pytest.mark.parametrize("size", [1, 4, 16, 64])
def test_logits_come_in_the_order_of_the_rows_whatever_the_batches(size, model, rows):
    with torch.no_grad():
        singly = torch.cat([model(input_ids=torch.from_numpy(t)[None]).logits for t in rows.tokens])
    batches = corpora.make_batches(rows, size, 0)
    places = [int(i) for batch in batches for i in batch.members]
    assert sorted(places) == list(range(37)) != places  # they are not batched in order
    for order in (batches, batches[::-1]):
        found = binding.class_logits(model, order)
        assert found.dtype == torch.float64 and found.shape == (37, 2)
        torch.testing.assert_close(found, singly.double(), rtol=0, atol=1e-5)
    assert singly[:, 1].std() > 0.05  # an exchange of rows would be seen


@pytest.mark.parametrize("size", [1, 16])
def test_a_teacher_asked_live_and_one_in_the_cache_say_what_the_model_says(
    size, model, rows, tmp_path
):
    batches = corpora.make_batches(rows, size, 0)
    expected = binding.class_logits(model, batches)
    live = LiveTeacher(model)
    assert binding.teacher_logits(live, batches).equal(expected)
    made = open_cache(live, batches, directory=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert binding.teacher_logits(made, batches).equal(expected)
    # Read again, by a teacher that would say something else if it were run.
    live.states = None
    read = open_cache(live, batches, directory=tmp_path)
    assert binding.teacher_logits(read, batches).equal(expected)
    # Hidden states of all tokens are kept, not logits.
    assert read.all_states.shape == (sum(len(t) for t in rows.tokens), SHAPE.width)


def test_scores_are_the_probability_of_the_second_class(model, tokenizer, corpus, rows):
    records = corpus.validation[:37]
    found = binding.score_pairs(model, tokenizer, records, corpus.pseudo_sequences)
    logits = binding.class_logits(model, corpora.make_batches(rows, 8, 0)).numpy()
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_model_is_judged_on_held_out_pairs_and_on_unseen_alleles(model, tokenizer, corpus):
    judged, unseen, logits = binding.judge(model, tokenizer, corpus)
    assert (judged.records, unseen.records) == (corpus.validation, corpus.unseen)
    for judgement in (judged, unseen):
        expected = binding.score_pairs(model, tokenizer, judgement.records, corpus.pseudo_sequences)
        assert judgement.probabilities == pytest.approx(expected, abs=1e-6)
    assert binding.binder_probability(logits).tolist() == judged.probabilities.tolist()
    table = pairs.PairCorpus("t.csv", [], corpus.validation[:9], [], corpus.pseudo_sequences)
    assert binding.judge(model, tokenizer, table)[1] is None


# ---------------------------------------------------------------------- fidelity


def test_fidelity_by_hand():
    def logits(*probabilities):
        return torch.tensor([[math.log(1 - p), math.log(p)] for p in probabilities]).double() + 3

    found = binding.fidelity(logits(0.9, 0.2, 0.5001), logits(0.6, 0.7, 0.51))
    kl = [
        0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4),
        0.2 * math.log(0.2 / 0.7) + 0.8 * math.log(0.8 / 0.3),
        0.5001 * math.log(0.5001 / 0.51) + 0.4999 * math.log(0.4999 / 0.49),
    ]
    assert found.kl_to_teacher == pytest.approx(sum(kl) / 3, rel=1e-5)
    assert found.agreement == pytest.approx(2 / 3)
    # From teacher to student, not the other way.
    backward = binding.fidelity(logits(0.6, 0.7, 0.51), logits(0.9, 0.2, 0.5001))
    assert abs(backward.kl_to_teacher - found.kl_to_teacher) > 0.01


def test_a_constant_added_to_logits_changes_no_fidelity():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    student = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    one = binding.fidelity(teacher, student)
    other = binding.fidelity(teacher + torch.arange(20)[:, None], student - 5)
    assert asdict(other) == pytest.approx(asdict(one), abs=1e-12)
    assert one.kl_to_teacher > 0
    same = binding.fidelity(teacher, teacher + 2)
    assert same.kl_to_teacher == pytest.approx(0, abs=1e-15) and same.agreement == 1


# ---------------------------------------------------------------------- groups


def test_a_group_has_all_binders_and_the_negatives_of_its_kind_with_their_answers(corpus):
    records = corpus.validation
    answer = {r: i / 1000 for i, r in enumerate(records)}
    whole = Judgement(records, np.array([answer[r] for r in records]))
    assert whole.labels.tolist() == [r.label for r in records]
    kinds = Counter(r.kind for r in records)
    for kind in ("random", "swap"):
        part = whole.against(kind)
        assert Counter(r.kind for r in part.records) == {
            "binder": kinds["binder"], kind: kinds[kind],
        }  # fmt: skip
        assert part.probabilities.tolist() == [answer[r] for r in part.records]
        assert part.records == peptides.against(records, kind)


def test_each_allele_is_scored_on_its_own_pairs(corpus):
    records, p = corpus.validation, corpus.oracle(corpus.validation)
    found = Judgement(records, p).by_allele(resamples=5)
    assert list(found) == sorted({r.allele for r in records})
    name = "HLA-A*02:01"
    own = np.array([r.allele == name for r in records])
    alone = classification.score(Judgement(records, p).labels[own], p[own])
    assert {m: getattr(found[name], m) for m in METRICS} == {m: getattr(alone, m) for m in METRICS}
    assert sum(s.examples for s in found.values()) == len(records)


# ---------------------------------------------------------------------- without the HLA


def test_only_the_alleles_change_places(corpus):
    records = corpus.validation
    changed = binding.without_hla(records)
    assert [r._replace(allele="") for r in changed] == [r._replace(allele="") for r in records]
    assert Counter(r.allele for r in changed) == Counter(r.allele for r in records)
    moved = np.mean([a.allele != b.allele for a, b in zip(changed, records, strict=True)])
    assert moved > 0.8
    assert binding.without_hla(records) == changed
    assert binding.without_hla(records, seed=1) != changed


class Blind:
    """A stand-in for logits of a model that sees the peptide only: what it says of each row."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __call__(self, model, batches) -> torch.Tensor:
        found = torch.zeros((sum(len(b.lengths) for b in batches), 2), dtype=torch.float64)
        for batch in batches:
            for ids, real, row in zip(batch.input_ids, batch.real(), batch.members, strict=True):
                found[row, 1] = float((ids[real][self.first :] % 7).double().mean()) - 3
        return found


def test_who_does_not_look_at_the_hla_answers_the_same_without_it(
    corpus, model, tokenizer, monkeypatch
):
    changed = binding.without_hla(corpus.validation)

    def ask(records):
        return binding.score_pairs(model, tokenizer, records, corpus.pseudo_sequences)

    assert np.abs(ask(changed) - ask(corpus.validation)).max() > 0.05  # this one does look
    monkeypatch.setattr(binding, "class_logits", Blind(first=1 + pairs.PSEUDO_LENGTH))
    assert ask(changed).tolist() == ask(corpus.validation).tolist()
    monkeypatch.setattr(binding, "class_logits", Blind(first=1))
    assert ask(changed).tolist() != ask(corpus.validation).tolist()


def test_a_bert_whose_groove_tokens_are_hidden_keeps_its_answers(corpus, tokenizer, rows):
    """The same of a real network: all residues at the places of the groove look alike."""
    model = classifiers.build(SHAPE, activation="gelu", seed=2, initial_spread=0.4)
    embeddings = model.bert.embeddings.word_embeddings

    def hide(_module, arguments):
        (ids,) = arguments
        if ids.shape[1] > pairs.PSEUDO_LENGTH:
            ids = ids.clone()
            ids[:, 1 : 1 + pairs.PSEUDO_LENGTH] = tokenizer.mask_token_id
        return (ids,)

    embeddings.register_forward_pre_hook(hide)
    records = corpus.validation[:60]
    one, other = (
        binding.score_pairs(model, tokenizer, r, corpus.pseudo_sequences)
        for r in (records, binding.without_hla(records))
    )
    assert np.array_equal(one, other) and one.std() > 0.01


# ---------------------------------------------------------------------- believed motifs


@pytest.fixture
def likes(monkeypatch):
    """Let `score_pairs` like peptides with a residue at a position; notes what was asked."""
    asked = []

    def make(residue: str, position: int):
        def score(model, tokenizer, records, pseudo_sequences):
            asked.extend((r.peptide, pseudo_sequences[r.allele]) for r in records)
            return np.array([0.1 + 0.8 * (r.peptide[position] == residue) for r in records])

        monkeypatch.setattr(binding, "score_pairs", score)
        return asked

    return make


@pytest.mark.parametrize(("residue", "position"), [("L", 1), ("K", 8), ("W", 0)])
def test_a_believed_motif_shows_what_is_liked_and_else_the_background(residue, position, likes):
    asked = likes(residue, position)
    groove = "Y" * 34
    motif = binding.believed_motif(None, None, groove, count=4000, share=0.01)
    assert motif.shape == (9, 20)
    assert motif.sum(axis=1) == pytest.approx(np.ones(9), abs=1e-12)
    assert motif[position, AMINO_ACIDS.index(residue)] > 0.9
    others = np.delete(motif, position, axis=0).mean(axis=0)
    # 320 residues of the background: within five standard errors of it.
    expected = proteins.background()
    assert (np.abs(others - expected) < 5 * np.sqrt(expected / 320)).all()
    assert len(asked) == 4000 and {g for _, g in asked} == {groove}
    assert all(len(p) == 9 for p, _ in asked)


def test_all_peptides_kept_make_the_background_and_the_seed_decides_them(likes):
    likes("L", 1)
    options = {"count": 3000, "share": 1.0}
    whole = binding.believed_motif(None, None, "A" * 34, **options)
    expected = proteins.background()
    assert (np.abs(whole - expected) < 5 * np.sqrt(expected / 3000)).all()
    again = binding.believed_motif(None, None, "A" * 34, **options)
    other = binding.believed_motif(None, None, "A" * 34, seed=1, **options)
    assert np.array_equal(whole, again) and not np.array_equal(whole, other)
    best = binding.believed_motif(None, None, "A" * 34, count=50, share=1e-9)
    assert set(best.ravel()) == {0.0, 1.0}  # one peptide at least


def test_agreement_of_motifs_is_their_overlap():
    rng = np.random.default_rng(0)
    one, other = rng.dirichlet(np.full(20, 0.3), size=(2, 9))
    found = binding.anchor_agreement(one, other)
    assert 0 < found < 1
    assert found == pytest.approx(1 - np.abs(one - other).sum() / 18)  # 1 − total variation
    assert found == binding.anchor_agreement(other, one)
    assert binding.anchor_agreement(one, one) == pytest.approx(1)
    apart = np.eye(20)[:9]
    assert binding.anchor_agreement(apart, np.roll(apart, 1, axis=1)) == 0


# ---------------------------------------------------------------------- reports


@pytest.fixture
def judgements(corpus):
    """What the oracle says."""
    return (
        Judgement(corpus.validation, corpus.oracle(corpus.validation)),
        Judgement(corpus.unseen, corpus.oracle(corpus.unseen)),
    )


def test_the_report_of_the_oracle_holds_its_scores(few, judgements):
    judged, unseen = judgements
    found = binding.report(judged, unseen)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found["groups"]) == set(binding.GROUPS) == GROUPS
    parts = {
        "all": judged, "random": judged.against("random"), "swap": judged.against("swap"),
        "unseen": unseen, "unseen_swap": unseen.against("swap"),
    }  # fmt: skip
    for name, part in parts.items():
        expected = classification.score(part.labels, part.probabilities)
        assert found["groups"][name]["examples"] == len(part.records)
        assert found["groups"][name]["positives"] == sum(part.labels)
        for metric in METRICS:
            assert found["groups"][name][metric] == getattr(expected, metric)
            low, high = found["groups"][name]["intervals"][metric]
            assert low <= high
    assert {k: found[k] for k in found["groups"]["all"]} == found["groups"]["all"]
    assert set(found) - set(found["groups"]["all"]) == {"groups", "alleles", "reliability"}
    # Swaps are the harder negatives.
    assert found["groups"]["swap"]["auc"] < found["groups"]["random"]["auc"]


def test_the_report_holds_every_allele_seen_and_unseen(few, judgements):
    judged, unseen = judgements
    alleles = binding.report(judged, unseen)["alleles"]
    assert list(alleles) == sorted(peptides.allele_names())
    for name in ("HLA-A*02:01", *peptides.HELD_OUT_ALLELES):
        part = unseen if name in peptides.HELD_OUT_ALLELES else judged
        own = np.array([r.allele == name for r in part.records])
        expected = classification.score(part.labels[own], part.probabilities[own])
        assert alleles[name]["examples"] == own.sum()
        assert alleles[name]["auc"] == expected.auc


def test_empty_bins_and_groups_of_one_class_are_null(few, corpus):
    records = [r for r in corpus.validation if r.label][:30]
    found = binding.report(Judgement(records, np.full(30, 0.42)), None)
    json.dumps(found, allow_nan=False)
    assert set(found["groups"]) == {"all"}  # no negatives of either kind, nothing unseen
    assert found["auc"] is None and found["intervals"]["auc"] is None
    assert found["accuracy"] == 0
    assert found["reliability"]["counts"] == [0, 0, 0, 0, 30, 0, 0, 0, 0, 0]
    assert found["reliability"]["predicted"] == [None] * 4 + [pytest.approx(0.42)] + [None] * 5
    assert found["reliability"]["observed"] == [None] * 4 + [1.0] + [None] * 5


def test_a_table_has_no_kinds_to_tell_apart(few, corpus):
    measured = [r._replace(kind=pairs.MEASURED) for r in corpus.validation]
    found = binding.report(Judgement(measured, corpus.oracle(corpus.validation)), None)
    assert set(found["groups"]) == {"all"}


# ---------------------------------------------------------------------- ratios


def answers(n: int = 500, seed: int = 0, noise: float = 0.15):
    """Labels, and what two similar models say of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    shared = rng.normal(size=n) + 1.5 * labels - 0.75
    return labels, *(stats.norm.cdf(shared + noise * rng.normal(size=n)) for _ in range(2))


@pytest.mark.parametrize("metric", METRICS)
def test_the_ratio_of_a_model_to_itself_is_one_without_any_doubt(metric):
    labels, given, _ = answers()
    found = classification.ratio(labels, given, given.copy(), metric, resamples=200)
    assert found == (1.0, Interval(1.0, 1.0))


@pytest.mark.parametrize("metric", ["f1", "auc"])
def test_a_paired_interval_is_narrower_than_an_unpaired_one(metric):
    labels, given, reference = answers()
    point, interval = classification.ratio(labels, given, reference, metric, resamples=400)
    scores = [getattr(classification.score(labels, p), metric) for p in (given, reference)]
    assert point == pytest.approx(scores[0] / scores[1], rel=1e-12)
    assert interval.low <= point <= interval.high
    rng = np.random.default_rng(1)

    def resampled(p):
        rows = rng.integers(len(labels), size=len(labels))
        return getattr(classification.score(labels[rows], p[rows]), metric)

    unpaired = [resampled(given) / resampled(reference) for _ in range(100)]
    low, high = np.percentile(unpaired, [2.5, 97.5])
    assert interval.high - interval.low < 0.6 * (high - low)


def test_the_paired_interval_is_that_of_a_plain_loop():
    labels, given, reference = answers(seed=2)
    blur = np.random.default_rng(5).normal(size=len(labels))
    reference = stats.norm.cdf(stats.norm.ppf(reference) + blur)  # the worse of the two

    def auc(truth, p):  # Mann and Whitney's
        positive = truth.sum()
        above = stats.rankdata(p)[truth == 1].sum() - positive * (positive + 1) / 2
        return above / (positive * (len(truth) - positive))

    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(1000):
        rows = rng.integers(len(labels), size=len(labels))
        ratios.append(auc(labels[rows], given[rows]) / auc(labels[rows], reference[rows]))
    low, high = np.percentile(ratios, [2.5, 97.5])
    _, interval = classification.ratio(labels, given, reference, "auc", resamples=1000)
    # Two drawings of a percentile differ by a small share of the width.
    assert low > 1
    assert interval.low == pytest.approx(low, abs=0.2 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.2 * (high - low))


def test_a_ratio_depends_on_its_seed_and_level_only():
    labels, given, reference = answers(seed=4)
    one = classification.ratio(labels, given, reference, "auc", resamples=200)
    assert one == classification.ratio(labels, given, reference, "auc", resamples=200)
    other = classification.ratio(labels, given, reference, "auc", resamples=200, seed=1)
    assert other[0] == one[0] and other[1] != one[1]
    half = classification.ratio(labels, given, reference, "auc", resamples=200, level=0.5)[1]
    assert one[1].low < half.low < half.high < one[1].high
    # The examples in another order are the same examples.
    back = classification.ratio(labels[::-1], given[::-1], reference[::-1], "auc", resamples=200)
    assert back[0] == pytest.approx(one[0], rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "speed"}, "the metric is 'speed' .* expected one of accuracy, f1, "),
        ({"resamples": 0}, "with 0 resamples; .* at least one resample"),
        ({"level": 1.0}, "level of the intervals is 1.0"),
        ({"seed": -1}, "seed -1"),
        ({"threshold": 2}, "threshold is 2"),
        ({"labels": [1, 1, 1, 1]}, "the ratio of auc is undefined: None over None"),
        ({"metric": "f1", "reference": [0.1, 0.2, 0.3, 0.4]}, "f1 is undefined: 1.0 over 0.0"),
        ({"reference": [0.1, 0.2, 0.3]}, r"labels have the shape \[4\] and probabilities \[3\]"),
        ({"probabilities": [0, 1, 1, 0]}, "not decisions"),
        ({"probabilities": [0.1, 0.7, math.nan, 0.2]}, "probability 2 is nan"),
    ],
)
def test_ratios_that_mean_nothing_are_refused_in_one_line(changes, message):
    options = {
        "labels": [0, 1, 1, 0], "probabilities": [0.1, 0.7, 0.8, 0.2],
        "reference": [0.2, 0.6, 0.9, 0.1], "metric": "auc", **changes,
    }  # fmt: skip
    with pytest.raises(UsageError, match=message) as error:
        classification.ratio(**options)
    assert "\n" not in str(error.value)
