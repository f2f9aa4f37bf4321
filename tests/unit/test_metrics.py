"""What is measured about answers, against models whose answers can be worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from workbench import corpora, metrics, models
from workbench.corpora import Batch, Rows
from workbench.teacher_cache import LiveTeacher, open_cache
from workbench.worlds import proteins
from workbench.worlds.proteins import AMINO_ACIDS


class OneHot:
    """A backbone whose hidden state is the token itself."""

    config = SimpleNamespace(model_type="gpt2")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def __call__(self, input_ids, use_cache=True):
        hidden = nn.functional.one_hot(input_ids, self.tokens).float()
        return SimpleNamespace(last_hidden_state=hidden)


class Table(nn.Module):
    """A language model whose next token depends on the current one alone, by a table of logits."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        table = torch.tensor(logits)
        self.config = SimpleNamespace(vocab_size=len(logits), hidden_size=len(logits))
        self.head = nn.Linear(len(logits), len(logits), bias=False)
        self.head.weight.data = table.T.contiguous()
        self.eval().requires_grad_(False)

    @property
    def base_model(self):
        return OneHot(self.config.vocab_size)

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(self.base_model(input_ids).last_hidden_state))


def batches_of(*rows: list[int], size: int = 2) -> list[Batch]:
    return corpora.make_batches(Rows([np.array(r) for r in rows], 0), size, pad=0)


def probabilities(*rows: list[float]) -> list[list[float]]:
    return [[math.log(p) for p in row] for row in rows]


# ---------------------------------------------------------------------- perplexity


def test_a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large():
    quality = metrics.evaluate(Table([[0.0] * 4] * 4), batches_of([0, 1, 2, 3, 0], [0, 2, 0]), 4)
    assert quality.tokens == 4 + 2
    assert quality.negative_log_likelihood == pytest.approx(math.log(4), rel=1e-6)
    assert quality.perplexity == pytest.approx(4, rel=1e-6)
    # Six tokens stand for four residues: 4^(6/4) a residue.
    assert quality.perplexity_per_residue == pytest.approx(8, rel=1e-6)
    assert quality.kl_to_teacher is None
    assert quality.agreement is None


def test_perplexity_by_hand():
    model = Table(probabilities([0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]))
    # 0→1: 0.3, 1→1: 0.6, 1→2: 0.3, and 0→2: 0.2, 2→0: 0.25; padding counts for nothing.
    quality = metrics.evaluate(model, batches_of([0, 1, 1, 2], [0, 2, 0]), 5)
    likelihood = 0.3 * 0.6 * 0.3 * 0.2 * 0.25
    assert quality.perplexity == pytest.approx(likelihood ** (-1 / 5), rel=1e-6)


def test_perplexity_does_not_depend_on_batching_or_chunks(tiny_teacher, monkeypatch):
    model, tokenizer, _ = models.load_causal_lm(tiny_teacher)
    sequences = proteins.sample(30, seed=1)
    rows = corpora.tokenise(sequences, tokenizer, "plain", 128)
    found = []
    for size, numbers in ((1, 2**20), (7, 2**20), (30, 100)):
        monkeypatch.setattr(metrics, "EVALUATION_NUMBERS", numbers)
        batches = corpora.make_batches(rows, size, pad=0)
        found.append(metrics.evaluate(model, batches, rows.residues, teacher=LiveTeacher(model)))
    for quality in found[1:]:
        assert quality.tokens == found[0].tokens == sum(len(s) + 1 for s in sequences)
        assert quality.perplexity == pytest.approx(found[0].perplexity, rel=1e-6)
        assert quality.calibration_error == pytest.approx(found[0].calibration_error, abs=1e-6)


def test_a_hopeless_model_has_a_finite_perplexity():
    model = Table([[2000.0, 0.0], [0.0, 2000.0]])  # always repeats, and is always wrong
    quality = metrics.evaluate(model, batches_of([0, 1, 0, 1]), 1)
    assert quality.negative_log_likelihood == pytest.approx(2000)
    assert math.isfinite(quality.perplexity)
    assert math.isfinite(quality.perplexity_per_residue)


# ---------------------------------------------------------------------- calibration


def test_calibration_error_of_constructed_bins():
    # After 0 the model says 1 with 0.75, after 1 it says 1 with 0.95, after 2 it says 0 with 0.42.
    model = Table(probabilities([0.2, 0.75, 0.05], [0.02, 0.95, 0.03], [0.42, 0.3, 0.28]))
    rows = [[0, 1], [0, 1], [0, 2], [0, 0]]  # 0.75 said, 2 of 4 right
    rows += [[1, 1], [1, 1], [1, 0]]  # 0.95 said, 2 of 3 right
    rows += [[2, 0], [2, 0], [2, 0]]  # 0.42 said, 3 of 3 right
    expected = 4 / 10 * (0.75 - 0.5) + 3 / 10 * (0.95 - 2 / 3) + 3 / 10 * (1 - 0.42)
    quality = metrics.evaluate(model, batches_of(*rows, size=3), 10)
    assert quality.calibration_error == pytest.approx(expected, abs=1e-6)


def test_too_sure_and_too_modest_do_not_cancel_across_bins_but_do_within_one():
    model = Table(probabilities([0.1, 0.9], [0.38, 0.62]))
    across = metrics.evaluate(model, batches_of([0, 1], [0, 0], [1, 1], [1, 1]), 4)
    assert across.calibration_error == pytest.approx(0.5 * 0.4 + 0.5 * 0.38, abs=1e-6)
    model = Table(probabilities([0.36, 0.64], [0.38, 0.62]))
    within = metrics.evaluate(model, batches_of([0, 1], [0, 0], [1, 1], [1, 0]), 4)
    assert within.calibration_error == pytest.approx(0.63 - 0.5, abs=1e-6)


def test_a_model_that_is_sure_and_right_is_calibrated():
    model = Table([[0.0, 200.0], [200.0, 0.0]])  # confidence 1 belongs to the last bin
    quality = metrics.evaluate(model, batches_of([0, 1, 0, 1, 0]), 4)
    assert quality.calibration_error == 0.0
    assert quality.perplexity == 1.0


# ---------------------------------------------------------------------- fidelity


def test_divergence_and_agreement_by_hand():
    teacher = Table(probabilities([0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.4, 0.5, 0.1]))
    student = Table(probabilities([0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]))
    quality = metrics.evaluate(
        student, batches_of([0, 1, 2, 0], [0, 0, 2]), 5, teacher=LiveTeacher(teacher)
    )

    def divergence(p, q) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    after = [
        divergence([0.7, 0.2, 0.1], [0.5, 0.3, 0.2]),
        divergence([0.1, 0.1, 0.8], [0.5, 0.2, 0.3]),
        divergence([0.4, 0.5, 0.1], [0.1, 0.8, 0.1]),
    ]
    # Scored after 0, 1, 2 and after 0, 0: the last token of a row has nothing after it.
    assert quality.kl_to_teacher == pytest.approx((3 * after[0] + after[1] + after[2]) / 5, 1e-6)
    assert quality.agreement == 4 / 5  # after 1 they put different tokens first
    same = metrics.evaluate(teacher, batches_of([0, 1, 2, 0]), 3, teacher=LiveTeacher(teacher))
    assert (same.kl_to_teacher, same.agreement) == (0.0, 1.0)


def test_divergence_and_agreement_against_whole_logits(tiny_teacher, tiny_shape, tmp_path):
    teacher, tokenizer, _ = models.load_causal_lm(tiny_teacher)
    student = models.build_causal_lm(tiny_shape, activation="gelu_new", seed=9)
    student.get_input_embeddings().weight.data.mul_(20)
    rows = corpora.tokenise(proteins.sample(20, seed=2), tokenizer, "plain", 128)
    batches = corpora.make_batches(rows, 6, pad=0)
    nll = kl = agreed = tokens = 0.0
    with torch.no_grad():
        for ids in map(torch.from_numpy, rows.tokens):  # one sequence at a time: no padding
            log_q = student(input_ids=ids[None]).logits[0, :-1].double().log_softmax(-1)
            log_p = teacher(input_ids=ids[None]).logits[0, :-1].double().log_softmax(-1)
            nll -= log_q[torch.arange(len(ids) - 1), ids[1:]].sum().item()
            kl += (log_p.exp() * (log_p - log_q)).sum().item()
            agreed += (log_p.argmax(-1) == log_q.argmax(-1)).sum().item()
            tokens += len(ids) - 1
    cached = open_cache(LiveTeacher(teacher), batches, directory=tmp_path)
    for source in (LiveTeacher(teacher), cached):
        quality = metrics.evaluate(student, batches, rows.residues, teacher=source)
        assert quality.negative_log_likelihood == pytest.approx(nll / tokens, rel=1e-5)
        assert quality.kl_to_teacher == pytest.approx(kl / tokens, rel=1e-5)
        assert quality.agreement == agreed / tokens
        assert quality.perplexity_per_residue == pytest.approx(math.exp(nll / rows.residues), 1e-5)


# ---------------------------------------------------------------------- the oracle


def test_oracle_quality_is_the_likelihood_of_the_world():
    sequences = proteins.sample(300, seed=3)
    quality = metrics.oracle_quality(sequences)
    total = -proteins.default_world().log_likelihood(sequences).sum()
    residues = sum(map(len, sequences))
    assert quality.tokens == residues + len(sequences)  # the end is predicted as well
    assert quality.negative_log_likelihood == pytest.approx(total / quality.tokens)
    assert quality.perplexity == pytest.approx(math.exp(total / quality.tokens))
    assert quality.perplexity_per_residue == pytest.approx(math.exp(total / residues))
    assert quality.calibration_error < 0.02  # the truth is calibrated, up to sampling
    assert quality.kl_to_teacher is None


def test_oracle_and_models_are_scored_on_the_same_tokens(tiny_teacher):
    model, tokenizer, _ = models.load_causal_lm(tiny_teacher)
    sequences = proteins.sample(20, seed=4)
    rows = corpora.tokenise(sequences, tokenizer, "plain", 128)
    quality = metrics.evaluate(model, corpora.make_batches(rows, 8, pad=0), rows.residues)
    oracle = metrics.oracle_quality(sequences)
    assert quality.tokens == oracle.tokens
    assert quality.perplexity > oracle.perplexity


# ---------------------------------------------------------------------- what is generated


@pytest.fixture
def generator(tiny_teacher):
    model, tokenizer, _ = models.load_causal_lm(tiny_teacher)
    return model, tokenizer


def test_generated_sequences_come_from_the_seed(generator):
    first = metrics.generate_sequences(*generator, 12, seed=1, longest=20, batch_size=5)
    assert first == metrics.generate_sequences(*generator, 12, seed=1, longest=20, batch_size=5)
    assert first != metrics.generate_sequences(*generator, 12, seed=2, longest=20, batch_size=5)
    assert 0 < len(first) <= 12
    assert all(set(s) <= set(AMINO_ACIDS) and 1 <= len(s) < 20 for s in first)
    assert len(set(first)) == len(first) > 3  # the batches do not repeat each other


def test_generating_leaves_the_global_random_state_alone(generator):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    metrics.generate_sequences(*generator, 3, seed=1, longest=10)
    assert torch.random.get_rng_state().equal(before)


def test_generated_residues_follow_the_models_own_distribution(generator):
    # Whatever a model's generation_config prefers, it is not asked here.
    model, tokenizer = generator
    model.generation_config.temperature = 0.3
    model.generation_config.top_p = 0.5
    model.generation_config.top_k = 3
    model.generation_config.repetition_penalty = 3.0
    n = 4000
    drawn = metrics.generate_sequences(model, tokenizer, n, seed=5, longest=2, batch_size=n)
    with torch.no_grad():
        end = torch.tensor([[tokenizer.eos_token_id]])
        first = model(input_ids=end).logits[0, -1].double().softmax(-1).numpy()
    letters = tokenizer.convert_tokens_to_ids(list(AMINO_ACIDS))
    counts = np.array([drawn.count(a) for a in AMINO_ACIDS] + [n - len(drawn)])
    expected = n * np.append(first[letters], first[tokenizer.eos_token_id])
    assert expected.min() > 5
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("prefix", ["", "MKVLA"])
def test_next_residue_is_the_models_distribution_by_letter(prefix, generator):
    model, tokenizer = generator
    found = metrics.next_residue(model, tokenizer, prefix)
    assert list(found) == [*AMINO_ACIDS, "END"]
    assert sum(found.values()) == pytest.approx(1)
    ids = tokenizer(models.END_OF_TEXT + prefix, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0, -1].softmax(-1)
    names = {**{a: a for a in AMINO_ACIDS}, "END": models.END_OF_TEXT}
    for name, token in names.items():
        assert found[name] == pytest.approx(expected[tokenizer.get_vocab()[token]].item())


def test_residue_frequencies_count_the_twenty_and_nothing_else():
    found = metrics.residue_frequencies(["AAC", "XD", ""])
    assert list(found) == list(AMINO_ACIDS)
    assert (found["A"], found["C"], found["D"], found["E"]) == (0.5, 0.25, 0.25, 0.0)
    assert sum(metrics.residue_frequencies([]).values()) == 0
