"""Classifiers of pairs: built, loaded, refused; their answers, believed motifs and ratios."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench import (
    binding,
    classification,
    classifiers,
    corpora,
    export,
    models,
    pairs,
)  # fmt: skip
from workbench.binding import Judgement
from workbench.errors import UsageError, WorkbenchError
from workbench.recipes import Shape
from workbench.teacher_cache import LiveTeacher
from workbench.worlds import peptides
from workbench.worlds.peptides import Record
from workbench.worlds.proteins import AMINO_ACIDS

SHAPE = Shape(layers=2, heads=2, width=16, positions=64, vocabulary=25)


def build(seed: int = 0, **changes):
    model = classifiers.build(SHAPE, activation="gelu", seed=seed, initial_spread=0.4)
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model


@pytest.fixture
def save(tmp_path):
    def make(model, tokenizer=None) -> str:
        tokenizer = tokenizer or classifiers.residue_tokenizer()
        export.save_model(tmp_path / "model", model, tokenizer)
        return str(tmp_path / "model")

    return make


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return pairs.load(pairs.PEPTIDE_WORLD, train_pairs=60, validation_pairs=80).validation


PSEUDO = {a.name: a.pseudo_sequence for a in peptides.default_world().alleles}


# ---------------------------------------------------------------------- models


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    one, two, other = (models.fingerprint(build(seed)) for seed in (3, 3, 4))
    assert one == two != other
    assert torch.get_rng_state().equal(before)


def test_head_and_backbone_make_the_logits_with_padding_too():
    model = build()
    ids = torch.randint(5, 25, (3, 12), generator=torch.Generator().manual_seed(0))
    real = torch.arange(12) < torch.tensor([12, 9, 10])[:, None]
    ids[~real] = 0
    backbone, head = models.split_head(model)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=real.long()).logits
        found = head(models.last_hidden(backbone, ids, real)[:, 0])
    torch.testing.assert_close(found, logits)
    assert models.is_classifier(model) and models.answers(model) == 2


def test_spaces_between_residues_make_no_difference_and_other_letters_are_unknown():
    tokenizer = classifiers.residue_tokenizer()
    assert tokenizer("ACDX")["input_ids"] == tokenizer("A C D X")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("A X")["input_ids"]) == [
        "[CLS]", "A", "[UNK]", "[SEP]",
    ]  # fmt: skip


def test_what_was_saved_is_loaded_frozen(save):
    model = build(5)
    loaded, tokenizer, place = classifiers.load(save(model))
    assert models.fingerprint(loaded) == models.fingerprint(model)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert len(tokenizer) == SHAPE.vocabulary and place.endswith("model")


def test_models_that_do_not_fit_are_refused_in_one_line(save, tiny_teacher):
    from transformers import BertForSequenceClassification

    three = classifiers.config(SHAPE)
    three.num_labels = 3
    characters = classifiers.residue_tokenizer()
    for model, tokenizer, said in (
        (BertForSequenceClassification(three), None, "sorts into 3 classes; expected two"),
        (build(), models.residue_tokenizer(), "expected the three residues between a first and"),
        (build().bert, characters, "expected a classifier"),
    ):
        with pytest.raises(WorkbenchError) as error:
            classifiers.load(save(model, tokenizer))
        assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(WorkbenchError, match="expected a classifier"):
        classifiers.load(tiny_teacher)


def test_a_new_head_on_an_old_encoder(save):
    whole = build(6)
    place = save(whole.bert)
    one, other = (classifiers.load_base(place, seed=seed)[0] for seed in (1, 2))
    assert not one.classifier.weight.equal(other.classifier.weight)
    own = dict(whole.bert.named_parameters())
    assert all(p.equal(own[name]) for name, p in one.bert.named_parameters())


# ---------------------------------------------------------------------- answers


def test_answers_come_in_the_order_of_the_pairs(records):
    model, tokenizer = build(), classifiers.residue_tokenizer()
    whole = binding.score_pairs(model, tokenizer, records, PSEUDO)
    singly = [binding.score_pairs(model, tokenizer, [r], PSEUDO)[0] for r in records[:12]]
    assert whole[:12] == pytest.approx(singly, abs=1e-6)
    rows = pairs.tokenise(records, PSEUDO, tokenizer, 64)
    batches = corpora.make_batches(rows, 16, 0)
    live = binding.teacher_logits(LiveTeacher(model), batches)
    torch.testing.assert_close(live, binding.class_logits(model, batches))


def test_fidelity_by_hand():
    teacher = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    found = binding.fidelity(teacher, student)
    q = 1 / (1 + np.exp(-1.0))
    expected = (0.5 * np.log(0.5 / q) + 0.5 * np.log(0.5 / (1 - q))) / 2
    assert found.kl_to_teacher == pytest.approx(expected, abs=1e-12)
    assert found.agreement == 0.5
    assert binding.fidelity(teacher, teacher) == binding.Fidelity(0.0, 1.0)


def test_groups_hold_all_binders_and_one_kind_of_negative(records):
    probabilities = np.linspace(0.1, 0.9, len(records))
    judgement = Judgement(records, probabilities)
    swaps = judgement.against("swap")
    assert {r.kind for r in swaps.records} == {"binder", "swap"}
    kept = [p for r, p in zip(records, probabilities, strict=True) if r.kind != "random"]
    assert swaps.probabilities.tolist() == kept


def test_pairs_without_their_hla_keep_their_peptides(records):
    changed = binding.without_hla(records)
    assert [r.peptide for r in changed] == [r.peptide for r in records]
    assert sorted(r.allele for r in changed) == sorted(r.allele for r in records)
    assert [r.allele for r in changed] != [r.allele for r in records]


def test_a_believed_motif_is_that_of_the_best_peptides(monkeypatch):
    def likes_leucine(model, tokenizer, records, pseudo):
        return np.array([0.5 + 0.4 * (r.peptide[1] == "L") for r in records])

    monkeypatch.setattr(binding, "score_pairs", likes_leucine)
    motif = binding.believed_motif(None, None, "A" * 34, count=3000, share=0.05)
    assert motif.shape == (9, 20) and np.allclose(motif.sum(axis=1), 1)
    assert motif[1, AMINO_ACIDS.index("L")] == 1
    assert motif[4].max() < 0.25
    assert binding.anchor_agreement(motif, motif) == pytest.approx(1)
    assert binding.anchor_agreement(motif, np.roll(motif, 1, axis=1)) < 0.8


# ---------------------------------------------------------------------- ratios


def test_a_paired_ratio_is_narrower_than_two_intervals():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=600)
    hard = np.clip(0.5 + (labels - 0.5) * 0.6 + rng.normal(0, 0.3, 600), 0.01, 0.99)
    near = np.clip(hard + rng.normal(0, 0.03, 600), 0.01, 0.99)
    ratio, interval = classification.ratio(labels, near, hard, "f1")
    above, below = (classification.score(labels, p, resamples=1000) for p in (near, hard))
    assert ratio == pytest.approx(above.f1 / below.f1)
    assert interval.low <= ratio <= interval.high
    apart = above.intervals["f1"].high / below.intervals["f1"].low
    assert interval.high - 1 < 0.5 * (apart - 1)
    assert classification.ratio(labels, hard, hard, "auc") == (1.0, classification.Interval(1, 1))


def test_ratios_that_mean_nothing_are_refused():
    labels, p = [0, 1, 1, 0], [0.1, 0.6, 0.7, 0.4]
    with pytest.raises(UsageError, match="expected one of accuracy"):
        classification.ratio(labels, p, p, "speed")
    with pytest.raises(UsageError, match="undefined"):
        classification.ratio([1, 1, 1, 1], p, p, "auc")
    with pytest.raises(UsageError, match="undefined"):
        classification.ratio(labels, p, [0.1, 0.2, 0.3, 0.4], "f1")


def test_the_built_in_teacher_is_small_and_close_to_the_oracle():
    """Its card was written by the command; here the figures are measured again, on fewer pairs."""
    place = models.BUILT_IN_TEACHERS / "pmhc"
    assert (place / "model.safetensors").stat().st_size <= 6_000_000
    model, tokenizer, _ = classifiers.load("pmhc")
    assert models.fingerprint(model) in (place / "README.md").read_text()
    assert model.config.num_hidden_layers == 8
    world = pairs.seen_world()
    records = world.sample(3000, seed=77)
    probabilities = binding.score_pairs(model, tokenizer, records, PSEUDO)
    truth = world.oracle_batch([r.peptide for r in records], [r.allele for r in records])
    labels = [r.label for r in records]
    gap = classification.roc_auc(labels, truth) - classification.roc_auc(labels, probabilities)
    assert gap < 0.012  # 0.0075 on the 6,000 pairs of the card
