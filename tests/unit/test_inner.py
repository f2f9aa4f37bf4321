"""Inside the models: terms, paddings, parts, and the three recipes that compare layers."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench import inner, layer_maps, models, recipes
from workbench.config import RunConfig
from workbench.corpora import Batch
from workbench.distiller import Distiller, Schedule
from workbench.errors import UsageError, WorkbenchError
from workbench.hidden_words import masked_lm
from workbench.inner import Looks, Matcher
from workbench.objective import CosineTerm, Counts, Objective, SoftTerm
from workbench.recipes import Shape
from workbench.recipes.recipe import VARIANTS
from workbench.teacher_cache import LiveTeacher
from workbench.terms import AttentionTerm, HiddenTerm

VOCABULARY, HEADS = 37, 2
TEACHER = Shape(layers=12, heads=HEADS, width=12, positions=32, vocabulary=VOCABULARY)
NARROW = Shape(4, HEADS, 8, 32, VOCABULARY, feed_forward=20)
NAMES = ("distilbiobert", "tinybiobert", "compactbiobert")
EVERY = [(name, variant) for name in NAMES for variant in VARIANTS]
#: Of a student of six layers and of one of four, as the papers have it.
ODD = tuple((i, 2 * i + 1) for i in range(6))
THIRDS = tuple((i, 3 * i + 2) for i in range(4))
MASK_ID = 4


def bert(seed: int, shape: Shape = TEACHER):
    """A BERT with opinions, biases too: fresh ones are zero."""
    model = masked_lm.build(shape, activation="gelu", seed=seed, initial_spread=0.35).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.2 * noise)
    return model


@pytest.fixture(scope="module")
def teacher():
    return bert(1).requires_grad_(False)


def half(seed: int = 2):
    """Six layers, as wide as the teacher."""
    return bert(seed, replace(TEACHER, layers=6))


def narrow(seed: int = 3):
    """Four layers, narrower."""
    return bert(seed, NARROW)


def hidden_batch(lengths=(9, 4, 12, 6), seed: int = 0, index: int = 0) -> Batch:
    """Rows of different lengths with some tokens hidden; none in the second row."""
    random = np.random.default_rng(seed)
    longest = max(lengths)
    ids = random.integers(5, VOCABULARY, size=(len(lengths), longest))
    real = np.arange(longest) < np.array(lengths)[:, None]
    masked = real & (random.random(ids.shape) < 0.4)
    masked[:, 1] = True
    if len(lengths) > 1:
        masked[1] = False
    labels = torch.from_numpy(ids[masked])
    ids[masked] = MASK_ID
    ids[~real] = 0
    return Batch(
        index, torch.from_numpy(ids), torch.tensor(lengths), 0, sum(lengths), labels,
        masked=torch.from_numpy(masked), draw=1,
    )  # fmt: skip


def longer(batch: Batch, more: int, filling: int) -> Batch:
    """The same with other padding, and more of it."""
    ids = batch.input_ids.masked_fill(~batch.real(), filling)
    return replace(
        batch,
        input_ids=functional.pad(ids, (0, more), value=filling),
        masked=functional.pad(batch.masked, (0, more), value=False),
    )


def part(batch: Batch, rows: slice, index: int) -> Batch:
    """Some rows as a batch of their own, not padded further than they need."""
    lengths = batch.lengths[rows]
    longest = int(lengths.max())
    first = int(batch.masked[: rows.start or 0].sum())
    masked = batch.masked[rows, :longest]
    return replace(
        batch, index=index, input_ids=batch.input_ids[rows, :longest], lengths=lengths,
        tokens=int(lengths.sum()), masked=masked, labels=batch.labels[first:][: int(masked.sum())],
    )  # fmt: skip


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


# ---------------------------------------------------------------------- written out with torch


class Alone:
    """What a model holds and says of each sentence alone, unpadded, by transformers itself."""

    def __init__(self, model, batch: Batch) -> None:
        model.set_attn_implementation("eager")
        self.hidden, self.maps, self.scores, self.logits, self.labels = [], [], [], [], []
        first = 0
        for ids, length, masked in zip(batch.input_ids, batch.lengths, batch.masked, strict=True):
            output = model(
                input_ids=ids[None, :length], output_hidden_states=True, output_attentions=True
            )
            self.hidden.append([h[0] for h in output.hidden_states])
            self.maps.append([a[0] for a in output.attentions])
            self.scores.append([
                self._score(layer.attention.self, h[0])
                for layer, h in zip(
                    model.bert.encoder.layer, output.hidden_states[:-1], strict=True
                )
            ])  # fmt: skip
            told = masked[:length]
            self.logits.append(output.logits[0, told])
            self.labels.append(batch.labels[first : first + int(told.sum())])
            first += int(told.sum())

    @staticmethod
    def _score(attention, hidden: Tensor) -> Tensor:
        size = hidden.shape[-1] // HEADS
        q, k = attention.query(hidden), attention.key(hidden)
        return torch.stack([
            q[:, h * size : (h + 1) * size] @ k[:, h * size : (h + 1) * size].T / math.sqrt(size)
            for h in range(HEADS)
        ])  # fmt: skip


def plain_hidden(own: Alone, other: Alone, pairs, measure: str, projections=()) -> Tensor:
    tokens = sum(len(h[0]) for h in own.hidden)
    total = 0.0
    for number, (mine, theirs) in enumerate(pairs):
        for a, b in zip(own.hidden, other.hidden, strict=True):
            h, g = a[mine], b[theirs]
            if projections:
                layer = projections[number if len(projections) > 1 else 0]
                h = h @ layer.weight.T + layer.bias
            if measure == "cosine":
                away = 1 - (h * g).sum(-1) / (h.norm(dim=-1) * g.norm(dim=-1))
            else:
                away = ((h - g) ** 2).sum(-1) / g.shape[-1]
            total = total + away.sum() / tokens
    return total


def plain_attention(own: Alone, other: Alone, pairs, measure: str, operand: str = "probabilities",
                    over_keys: bool = False) -> Tensor:  # fmt: skip
    mine, theirs = ((x.maps if operand == "probabilities" else x.scores) for x in (own, other))
    lengths = [len(h[0]) for h in own.hidden]
    total = 0.0
    for i, j in pairs:
        for a, b, length in zip(mine, theirs, lengths, strict=True):
            if measure == "mse":
                gap = ((a[i] - b[j]) ** 2).sum()
                total = total + gap / (HEADS * sum(n * n for n in lengths))
            else:
                rows = (b[j] * ((b[j] + 1e-12) / (a[i] + 1e-12)).log()).sum(-1)
                rows = rows / length if over_keys else rows
                total = total + rows.sum() / (HEADS * sum(lengths))
    return total


def gradients(value: Tensor, *modules: nn.Module) -> dict[str, Tensor | None]:
    named = {f"{i}.{n}": p for i, m in enumerate(modules) for n, p in m.named_parameters()}
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    return dict(zip(named, found, strict=True))


def same_gradients(mine: dict, plain: dict, tolerance: float = 1e-9) -> None:
    assert set(mine) == set(plain)
    assert max(float(g.abs().max()) for g in plain.values() if g is not None) > 1e-3
    for name, gradient in plain.items():
        if gradient is None or mine[name] is None:
            other = mine[name] if gradient is None else gradient
            assert other is None or float(other.abs().max()) < tolerance, name
        else:
            close(mine[name], gradient, tolerance)


# ---------------------------------------------------------------------- one term at a time


def by_matcher(objective: Objective, student, teacher, batch: Batch) -> tuple[dict, Matcher]:
    matcher = Matcher(objective, student.config, teacher.config, seed=5).double()
    seen = []
    for model in (student, teacher):
        inner.prepare(model, inner.looks(objective))
        backbone, _ = models.split_head(model)
        last, found = inner.read(backbone, batch.input_ids, batch.real(), inner.looks(objective))
        close(last, models.last_hidden(backbone, batch.input_ids, batch.real()))
        seen.append(found)
    return matcher(*seen, objective.counts([batch])), matcher


WITH_EMBEDDINGS = ((0, 0),)


@pytest.mark.parametrize(
    ("make", "term", "pairs"),
    [
        (half, HiddenTerm("2i+1"), ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12))),
        (half, HiddenTerm("-,-,4,-,0,-"), ((3, 5), (5, 1))),
        (half, HiddenTerm("2i", measure="mse"), tuple((i + 1, 2 * i + 1) for i in range(6))),
        (half, HiddenTerm("last", embeddings=True), ((0, 0), *((i, i + 6) for i in range(1, 7)))),
        (narrow, HiddenTerm("uniform", measure="mse", projection="each"),
         ((1, 3), (2, 6), (3, 9), (4, 12))),
        (narrow, HiddenTerm("uniform", embeddings=True, measure="mse", projection="each"),
         ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))),
        (narrow, HiddenTerm("uniform", embeddings=True, measure="mse", projection="shared"),
         ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))),
        (narrow, HiddenTerm("3,-,-,11", projection="shared"), ((1, 4), (4, 12))),
    ],
)  # fmt: skip
def test_hidden_terms_are_what_one_writes_for_sentences_alone(make, term, pairs, teacher):
    batch, student = hidden_batch(), make()
    values, matcher = by_matcher(Objective(hidden=term, scores="masked"), student, teacher, batch)
    assert set(values) == {"hidden"}
    wanted = {None: 0, "shared": 1, "each": len(pairs)}[term.projection]
    assert len(matcher.projections) == wanted
    plain = plain_hidden(
        Alone(student, batch), Alone(teacher, batch), pairs, term.measure,
        list(matcher.projections),
    )  # fmt: skip
    close(values["hidden"], plain)
    assert plain.item() > 0.5
    same_gradients(
        gradients(values["hidden"], student, matcher), gradients(plain, student, matcher)
    )


@pytest.mark.parametrize(
    ("make", "term", "pairs"),
    [
        (half, AttentionTerm("2i+1"), ODD),
        (half, AttentionTerm("2i+1", averaged_over_keys=True), ODD),
        (half, AttentionTerm("first", measure="mse"), tuple((i, i) for i in range(6))),
        (half, AttentionTerm("-,7,-,-,2,-"), ((1, 7), (4, 2))),
        (narrow, AttentionTerm("uniform", measure="mse"), THIRDS),
        (narrow, AttentionTerm("uniform", measure="mse", operand="scores"), THIRDS),
        (narrow, AttentionTerm("uniform"), THIRDS),
    ],
)
def test_attention_terms_are_what_one_writes_for_sentences_alone(make, term, pairs, teacher):
    batch, student = hidden_batch(), make()
    objective = Objective(attention=term, scores="masked")
    values, matcher = by_matcher(objective, student, teacher, batch)
    assert set(values) == {"attention"}
    assert not list(matcher.parameters())
    plain = plain_attention(
        Alone(student, batch), Alone(teacher, batch), pairs, term.measure, term.operand,
        term.averaged_over_keys,
    )  # fmt: skip
    close(values["attention"], plain)
    same_gradients(gradients(values["attention"], student), gradients(plain, student))


def test_nothing_is_missed_of_a_student_that_is_its_teacher(teacher):
    batch = hidden_batch()
    for attention in (
        AttentionTerm("first:12"), AttentionTerm("first:12", measure="mse", operand="scores"),
    ):  # fmt: skip
        objective = Objective(
            hidden=HiddenTerm("first:12", embeddings=True), attention=attention, scores="masked"
        )
        values, _ = by_matcher(objective, copy.deepcopy(teacher), teacher, batch)
        for value in values.values():
            assert value.item() == pytest.approx(0, abs=1e-12)


def hooked(model) -> list[str]:
    """Names of linear layers with hooks; transformers keeps some of its own on others."""
    return [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m._forward_hooks]


def test_scores_are_what_softmax_makes_attention_maps_of(teacher):
    batch, backbone = hidden_batch(), models.split_head(teacher)[0]
    teacher.set_attn_implementation("eager")
    real = batch.real()
    last, maps = inner.read(backbone, batch.input_ids, real, Looks(attention="probabilities"))
    again, scores = inner.read(backbone, batch.input_ids, real, Looks(attention="scores"))
    close(last, again)
    assert len(scores.attention) == len(maps.attention) == 12
    assert maps.hidden == scores.hidden == ()
    for score, found in zip(scores.attention, maps.attention, strict=True):
        assert score.shape == found.shape == (4, HEADS, 12, 12)
        hidden = score.masked_fill(~real[:, None, None, :], -math.inf)
        close(functional.softmax(hidden, dim=-1), found)
    assert not hooked(backbone)


def test_a_divergence_of_scores_is_refused_where_it_is_declared():
    with pytest.raises(ValueError, match="needs probabilities"):
        AttentionTerm("uniform", operand="scores")


# ---------------------------------------------------------------------- maps


@pytest.mark.parametrize(
    ("layers", "student", "expected"),
    [
        ("uniform", 4, ((0, 2), (1, 5), (2, 8), (3, 11))),
        ("uniform", 6, ODD),
        ("2i+1", 6, ODD),
        ("2i+1", 4, ((0, 1), (1, 3), (2, 5), (3, 7))),
        ("2i", 6, tuple((i, 2 * i) for i in range(6))),
        ("2i:3", 3, ((0, 0), (1, 2), (2, 4))),
        ("last", 2, ((0, 10), (1, 11))),
        ("spaced", 3, ((0, 0), (1, 6), (2, 11))),
        ("distilbert", 6, ((0, 0), (1, 2), (2, 4), (3, 7), (4, 9), (5, 11))),
        ("-,3,-,3", 4, ((1, 3), (3, 3))),
    ],
)
def test_a_map_says_which_layers_are_compared(layers, student, expected, teacher):
    own = masked_lm.config(replace(TEACHER, layers=student), activation="gelu")
    assert inner.attention_pairs(AttentionTerm(layers), own, teacher.config) == expected
    shifted = tuple((s + 1, t + 1) for s, t in expected)
    assert inner.hidden_pairs(HiddenTerm(layers), own, teacher.config) == shifted
    with_embeddings = HiddenTerm(layers, embeddings=True)
    assert inner.hidden_pairs(with_embeddings, own, teacher.config) == ((0, 0), *shifted)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("0,1,2", "an entry for each of the student's 4 layers"),
        ("2i:6", "an entry for each of the student's 4 layers"),
        ("random", "an entry for each of the student's 4 layers"),
        ("distilbert", "an entry for each of the student's 4 layers"),
        ("-,-,-,-", "compares no layers"),
        ("scratch:4", "compares no layers"),
        ("0,1,2,12", "layer 12"),
        ("every", "there is no layer map"),
    ],
)
@pytest.mark.parametrize("what", ["hidden", "attention"])
def test_maps_that_do_not_fit_are_refused_in_one_line(what, layers, said, teacher):
    term = {
        "hidden": HiddenTerm(layers, projection="each"), "attention": AttentionTerm(layers)
    }[what]  # fmt: skip
    with pytest.raises(UsageError) as error:
        Matcher(Objective(**{what: term}), narrow().config, teacher.config)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_student_deeper_than_a_map_can_be_is_refused(teacher):
    own = masked_lm.config(replace(TEACHER, layers=7), activation="gelu")
    with pytest.raises(UsageError, match="2i\\+1 can give 1 to 6"):
        inner.attention_pairs(AttentionTerm("2i+1"), own, teacher.config)


# ---------------------------------------------------------------------- whole steps


def objective_of(name: str, variant: str) -> Objective:
    return recipes.get(name).variant(variant).objective


def student_of(name: str):
    return narrow() if name == "tinybiobert" else half()


def distiller_of(
    objective: Objective, student, teacher, *, dropout: float = 0.0, temperature: float = 2.0,
    alpha: float = 0.3,
) -> Distiller:  # fmt: skip
    matcher = None
    if objective.looks_inside:
        matcher = Matcher(objective, student.config, teacher.config, seed=5).double()
    return Distiller(
        student, objective, LiveTeacher(teacher, looks=inner.looks(objective), dropout=dropout),
        temperature=temperature, alpha=alpha, learning_rate=1e-3, schedule=Schedule(10, 0),
        matcher=matcher,
    )  # fmt: skip


def take_step(made: Distiller, batches) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Losses of a step and the gradients that it was taken with, before they are clipped."""
    kept = {}

    def keep(_parameters, _limit):
        kept.update({n: p.grad.clone() for n, p in made._trained().items() if p.grad is not None})

    with mock.patch("torch.nn.utils.clip_grad_norm_", keep):
        numbers = made.step(batches).numbers()
    assert kept
    return numbers, kept


def published(name: str, variant: str, own: Alone, other: Alone, projections) -> dict[str, Tensor]:
    """Each term times its published weight, from sentences alone, at T = 2 or 1 for tiny."""
    z, v = torch.cat(own.logits), torch.cat(other.logits)
    hard = nn.CrossEntropyLoss()(z, torch.cat(own.labels))
    p = functional.softmax(v / 2, dim=-1)
    log_q = functional.log_softmax(z / 2, dim=-1)
    soft = nn.KLDivLoss(reduction="batchmean")(log_q, p) * 4
    if name == "distilbiobert":
        cosine = plain_hidden(own, other, ((6, 12),), "cosine")
        return {"hard": 2 * hard, "soft": 5 * soft, "cosine": cosine}
    if name == "tinybiobert":
        pairs = ((0, 0), *((i + 1, j + 1) for i, j in THIRDS))
        coded = variant == "as-coded"
        assert len(projections) == (1 if coded else 5)
        return {
            "hard": 0 * hard,
            # With T² as every soft term here has it; the recipe's T is 1.
            "soft": nn.CrossEntropyLoss()(z / 2, p) * 4,
            "hidden": plain_hidden(own, other, pairs, "mse", projections),
            "attention": plain_attention(
                own, other, THIRDS, "mse", "probabilities" if coded else "scores"
            ),
        }
    pairs = tuple((i + 1, j + 1) for i, j in ODD)
    return {
        "hard": 1 * hard,
        "soft": 5 * soft,
        "hidden": 3 * plain_hidden(own, other, pairs, "cosine"),
        "attention": 3 * plain_attention(own, other, ODD, "kl", over_keys=variant == "as-coded"),
    }


def alpha_of(name: str) -> float:
    return recipes.get(name).alpha


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_a_step_is_the_published_loss_of_sentences_alone(name, variant, teacher):
    batch, student = hidden_batch(), student_of(name)
    objective = objective_of(name, variant)
    made = distiller_of(objective, student, teacher, alpha=alpha_of(name))
    like, matcher = copy.deepcopy(student), copy.deepcopy(made.matcher)
    found, gradient = take_step(made, batch)
    terms = published(
        name, variant, Alone(like, batch), Alone(copy.deepcopy(teacher), batch),
        list(getattr(matcher, "projections", ())),
    )  # fmt: skip
    weights = objective.weights(alpha_of(name))
    assert tuple(terms) == tuple(weights) == objective.terms()
    for term, value in terms.items():
        assert weights[term] * found[term] == pytest.approx(value.item(), rel=1e-9, abs=1e-12)
    total = sum(terms.values())
    assert found["total"] == pytest.approx(total.item(), rel=1e-9)
    expected = {
        n.replace("0.", "", 1) if n.startswith("0.") else n.replace("1.", "matcher.", 1): g
        for n, g in gradients(total, like, matcher).items()
    }
    same_gradients({n: gradient.get(n) for n in expected}, expected)


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_padding_never_counts(name, variant, teacher):
    batch, objective = hidden_batch(), objective_of(name, variant)
    found, gradient = take_step(distiller_of(objective, student_of(name), teacher), batch)
    for more, filling in ((0, 9), (5, 0), (13, MASK_ID)):
        made = distiller_of(objective, student_of(name), teacher)
        other, again = take_step(made, longer(batch, more, filling))
        assert other == pytest.approx(found, rel=1e-12, abs=1e-13)
        same_gradients(again, gradient, 1e-11)


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_parts_of_a_batch_make_the_step_of_the_whole(name, variant, teacher):
    batch, objective = hidden_batch((9, 4, 12, 6, 3)), objective_of(name, variant)
    whole = distiller_of(objective, student_of(name), teacher)
    found, gradient = take_step(whole, batch)
    for cut in (1, 3):
        made = distiller_of(objective, student_of(name), teacher)
        parts = [part(batch, slice(0, cut), 0), part(batch, slice(cut, 5), 1)]
        assert [len(p.labels) for p in parts] == [int(p.masked.sum()) for p in parts]
        again, summed = take_step(made, parts)
        assert again == pytest.approx(found, rel=1e-11)
        same_gradients(summed, gradient, 1e-10)
        after = made._trained()
        for tensor_name, tensor in whole._trained().items():
            close(after[tensor_name], tensor, 1e-7)


def test_a_sentence_in_which_nothing_is_hidden_counts_inside_all_the_same(teacher):
    batch = hidden_batch()
    assert not batch.masked[1].any()
    objective = objective_of("compactbiobert", "corrected")
    found, _ = take_step(distiller_of(objective, half(), teacher), batch)
    rest = [0, 2, 3]
    without = replace(
        batch, input_ids=batch.input_ids[rest], lengths=batch.lengths[rest],
        tokens=int(batch.lengths[rest].sum()), masked=batch.masked[rest],
    )  # fmt: skip
    other, _ = take_step(distiller_of(objective, half(), teacher), without)
    for name in ("hard", "soft"):
        assert other[name] == pytest.approx(found[name], rel=1e-12)
    for name in ("hidden", "attention"):
        assert abs(other[name] / found[name] - 1) > 1e-4


def test_hidden_positions_only_give_the_loss_with_logits_everywhere(teacher):
    batch, student = hidden_batch(), half()
    objective = Objective(scores="masked")
    made = Distiller(
        student, objective, None, temperature=1.0, alpha=1.0, learning_rate=1e-3,
        schedule=Schedule(10, 0),
    )  # fmt: skip
    like = copy.deepcopy(student)
    found, gradient = take_step(made, batch)
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.masked] = batch.labels
    loss = like(input_ids=batch.input_ids, attention_mask=batch.real().long(), labels=labels).loss
    assert found["hard"] == found["total"] == pytest.approx(loss.item(), rel=1e-12)
    expected = {n[2:]: g for n, g in gradients(loss, like).items()}
    same_gradients({n: gradient.get(n) for n in expected}, expected)


def test_a_batch_that_hides_nothing_is_a_mistake_of_the_caller(teacher):
    batch = replace(hidden_batch(), masked=None, labels=None)
    made = distiller_of(objective_of("distilbiobert", "corrected"), half(), teacher)
    with pytest.raises(ValueError, match="hides no tokens"):
        made.step(batch)


# ---------------------------------------------------------------------- eager attention


def test_without_eager_attention_there_are_no_maps_and_that_is_said(teacher):
    batch, model = hidden_batch(), copy.deepcopy(teacher)
    model.set_attn_implementation("sdpa")
    backbone, _ = models.split_head(model)
    with pytest.raises(WorkbenchError, match=r"gave no attention maps.*'sdpa', expected 'eager'"):
        inner.read(backbone, batch.input_ids, batch.real(), Looks(attention="probabilities"))
    for wanted in (Looks(hidden=True), Looks(attention="scores"), Looks()):
        inner.prepare(model, wanted)
        assert model.config._attn_implementation == "sdpa"
        inner.read(backbone, batch.input_ids, batch.real(), wanted)
    inner.prepare(model, Looks(attention="probabilities"))
    assert model.config._attn_implementation == "eager"
    _, seen = inner.read(backbone, batch.input_ids, batch.real(), Looks(attention="probabilities"))
    assert len(seen.attention) == 12


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_maps_are_asked_for_where_they_are_compared_and_nowhere_else(name, variant, teacher):
    student, teacher = student_of(name), copy.deepcopy(teacher)
    for model in (student, teacher):
        model.set_attn_implementation("sdpa")
    distiller_of(objective_of(name, variant), student, teacher)
    maps = name == "compactbiobert" or (name, variant) == ("tinybiobert", "as-coded")
    expected = "eager" if maps else "sdpa"
    assert student.config._attn_implementation == expected
    assert teacher.config._attn_implementation == expected


def test_a_model_without_queries_and_keys_of_its_own_is_refused():
    model = models.build_causal_lm(Shape(2, 2, 8, 32, 37), activation="gelu_new", seed=1)
    batch = hidden_batch()
    with pytest.raises(WorkbenchError, match="no query and key of their own"):
        inner.read(model.base_model, batch.input_ids, batch.real(), Looks(attention="scores"))
    assert not hooked(model)


# ---------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("name", "weights", "temperature", "init"),
    [
        ("distilbiobert", {"hard": 2, "soft": 5, "cosine": 1}, (2, 2, 2), "2i"),
        ("compactbiobert", {"hard": 1, "soft": 5, "hidden": 3, "attention": 3}, (2, 2, 1), "2i+1"),
        ("tinybiobert", {"hard": 0, "soft": 1, "hidden": 1, "attention": 1}, (1, 1, 1), "random"),
    ],
)
def test_weights_temperatures_and_starts_are_the_published_ones(name, weights, temperature, init):
    for variant, t in zip(VARIANTS, temperature, strict=True):
        config = RunConfig.from_recipe(name, variant=variant)
        found = objective_of(name, variant).weights(config.alpha)
        assert found == pytest.approx(weights, abs=1e-12)
        assert (config.temperature, config.init) == (t, init)
        assert RunConfig.from_recipe(name, variant=variant, temperature=3).temperature == 3
    begins = {"2i": (0, 2, 4, 6, 8, 10), "2i+1": (1, 3, 5, 7, 9, 11), "random": None}[init]
    assert layer_maps.parse(init, 12) == begins


def test_parameters_at_paper_scale_are_the_published_ones():
    from workbench import tasks

    for name, student in (
        ("distilbiobert", 65_813_572), ("compactbiobert", 65_813_572), ("tinybiobert", 13_903_756),
    ):  # fmt: skip
        scale, task = recipes.get(name).scale("paper"), tasks.of(name)
        assert task.count_parameters(scale.teacher, scale) == 108_340_804
        assert task.count_parameters(scale.student, scale) == student


def test_formulas_name_all_terms():
    tail = {
        "distilbiobert": " + 1·(1−cos(last hidden states)) [mean over tokens]",
        "compactbiobert": " + 3·Σ(1−cos(student, teacher hidden states)) [layers 2i+1, mean over "
        "tokens] + 3·ΣKL(teacher‖student attention) [layers 2i+1, mean over heads, queries]",
        "tinybiobert": " + 1·ΣMSE(W_l·student, teacher hidden states) [layers uniform and "
        "embeddings, mean over tokens and width] + 1·ΣMSE(attention scores before softmax) "
        "[layers uniform, mean over heads, queries and keys]",
    }
    head = {
        "distilbiobert": "L = 2·CE(student, hidden token) [mean over hidden tokens] + "
        "5·4·KL(teacher‖student) at T=2 [mean over hidden tokens]",
        "compactbiobert": "L = 1·CE(student, hidden token) [mean over hidden tokens] + "
        "5·4·KL(teacher‖student) at T=2 [mean over hidden tokens]",
        "tinybiobert": "L = 0·CE(student, hidden token) [mean over hidden tokens] + "
        "1·1·CE(student, teacher) at T=1 [mean over hidden tokens]",
    }
    for name in NAMES:
        recipe = recipes.get(name)
        for variant in ("corrected", "as-published"):
            text = objective_of(name, variant).formula(recipe.temperature, recipe.alpha)
            assert text == head[name] + tail[name]
    compact = objective_of("compactbiobert", "as-coded").formula(1, 1 / 6)
    assert "mean over heads, queries and keys]" in compact
    tiny = objective_of("tinybiobert", "as-coded").formula(1, 0)
    assert "ΣMSE(W·student" in tiny and "ΣMSE(attention) [" in tiny


@pytest.mark.filterwarnings("ignore:reduction")
def test_as_coded_attention_is_as_many_times_weaker_as_there_are_keys(teacher):
    found = {}
    for variant in ("corrected", "as-coded"):
        made = distiller_of(objective_of("compactbiobert", variant), half(), teacher)
        found[variant] = take_step(made, hidden_batch((11, 11, 11)))[0]["attention"]
    assert found["corrected"] == pytest.approx(11 * found["as-coded"], rel=1e-12)
    # What the script computes on such a batch, word for word.
    own, other = (copy.deepcopy(m) for m in (half(), teacher))
    batch = hidden_batch((11, 11, 11))
    for model in (own, other):
        model.set_attn_implementation("eager")
    a = own(input_ids=batch.input_ids, output_attentions=True).attentions
    b = other(input_ids=batch.input_ids, output_attentions=True).attentions
    script = sum(
        nn.KLDivLoss(reduction="mean")((a[i] + 1e-12).log(), b[2 * i + 1] + 1e-12) for i in range(6)
    )
    assert found["as-coded"] == pytest.approx(script.item(), rel=1e-9)


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_the_ledger_names_all_terms_and_changes_nothing(name, variant, teacher):
    made = distiller_of(
        objective_of(name, variant), student_of(name), teacher, alpha=alpha_of(name)
    )
    before = models.fingerprint(made.student)
    entries = made.ledger(hidden_batch())
    assert models.fingerprint(made.student) == before
    assert all(p.grad is None for p in made._trained().values())
    assert tuple(entries) == made.objective.terms()
    assert sum(e.share for e in entries.values()) == pytest.approx(1, abs=1e-12)
    found, _ = take_step(made, hidden_batch())
    for term, entry in entries.items():
        assert entry.value == pytest.approx(found[term], rel=1e-12)
        assert entry.weight == made.objective.weights(alpha_of(name))[term]
        assert (entry.share == 0) == (term == "hard" and name == "tinybiobert")


def test_the_ledger_measures_each_terms_gradient_on_the_student(teacher):
    made = distiller_of(objective_of("tinybiobert", "corrected"), narrow(), teacher)
    batch = hidden_batch()
    like, matcher = copy.deepcopy(made.student), copy.deepcopy(made.matcher)
    terms = published(
        "tinybiobert", "corrected", Alone(like, batch), Alone(copy.deepcopy(teacher), batch),
        list(matcher.projections),
    )  # fmt: skip
    entries = made.ledger(batch)
    for name in ("hidden", "attention"):  # of weight 1
        found = gradients(terms[name], like).values()
        norm = math.sqrt(sum(float(g.square().sum()) for g in found if g is not None))
        assert entries[name].gradient_norm == pytest.approx(norm, rel=1e-9)


def test_given_weights_stand_instead_and_leave_the_others(teacher):
    objective = objective_of("compactbiobert", "corrected")
    given = replace(objective, given=(("hidden", 0.0), ("hard", 0.25)))
    weights = given.weights(1 / 6)
    assert weights == pytest.approx({"hard": 0.25, "soft": 5, "hidden": 0, "attention": 3})
    found, gradient = take_step(distiller_of(given, half(), teacher, alpha=1 / 6), hidden_batch())
    total = 0.25 * found["hard"] + 5 * found["soft"] + 3 * found["attention"]
    assert found["total"] == pytest.approx(total, rel=1e-12)
    assert "0·Σ(1−cos" in given.formula(2, 1 / 6)
    without = replace(objective, hidden=None, given=(("hard", 0.25),))
    _, other = take_step(distiller_of(without, half(), teacher, alpha=1 / 6), hidden_batch())
    same_gradients(gradient, other, 1e-12)
    averaged = replace(objective, averaged=True, given=(("soft", 7.0),))
    assert averaged.weights(0.5) == {"hard": 0.25, "soft": 7.0, "hidden": 0.25, "attention": 0.25}


@pytest.mark.parametrize("name", ["distilbiobert", "compactbiobert"])
def test_as_coded_the_start_has_no_head_of_its_teacher(name, teacher):
    recipe = recipes.get(name)
    layer_map = layer_maps.parse(recipe.init, 12)
    theirs = dict(teacher.named_parameters())
    for variant in VARIANTS:
        student = models.build_like(teacher, 6, seed=8).double()
        fresh = copy.deepcopy(dict(student.named_parameters()))
        copies = recipe.variant(variant).copies_head
        assert copies == (variant != "as-coded")
        report = models.initialise(student, teacher, layer_map, copies_head=copies)
        own = dict(student.named_parameters())
        above = [n for n in own if not n.startswith("bert.")]
        assert len(above) == 5  # transformation, its norm, and a bias for each piece
        for n in above:
            assert own[n].equal(theirs[n] if copies else fresh[n]), n
        origins = {t.name: t.origin for t in report.tensors}
        assert {origins[n] for n in above} == {"copied" if copies else "random"}
        # The table, to which the decoder is tied, and the layers come along in any case.
        table = "bert.embeddings.word_embeddings.weight"
        assert own[table].equal(theirs[table])
        assert student.cls.predictions.decoder.weight.equal(theirs[table])
        for mine, layer in zip(
            student.bert.encoder.layer, (teacher.bert.encoder.layer[i] for i in layer_map),
            strict=True,
        ):  # fmt: skip
            assert mine.output.dense.weight.equal(layer.output.dense.weight)


# ---------------------------------------------------------------------- a teacher that drops


def test_a_dropping_teacher_is_repeatable_and_stays_as_it_was(teacher):
    teacher, batch = copy.deepcopy(teacher), hidden_batch()
    # The built-in teacher's configuration has no dropout; a published one's has.
    for rate in (0.0, 0.1):
        for module in teacher.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate
        config, before = teacher.config.to_dict(), models.fingerprint(teacher)
        looks = inner.looks(objective_of("compactbiobert", "as-coded"))
        dropping = LiveTeacher(teacher, looks=looks, dropout=0.1, seed=3)
        clean = LiveTeacher(teacher, looks=looks)
        torch.manual_seed(77)
        state = torch.get_rng_state()

        def says(live: LiveTeacher, batch: Batch) -> Tensor:
            signal = live.signal(batch, batch.masked)
            return torch.cat([
                signal.logits(slice(None)).flatten(), signal.states.flatten(),
                *(h.flatten() for h in signal.seen.hidden),
                *(a.flatten() for a in signal.seen.attention),
            ])  # fmt: skip

        plain, first = says(clean, batch), says(dropping, batch)
        assert not plain.allclose(first, atol=1e-3)
        assert first.equal(says(dropping, batch))
        assert plain.equal(says(clean, batch))
        others = [
            says(dropping, replace(batch, draw=2)),
            says(dropping, replace(batch, index=1)),
            says(LiveTeacher(teacher, looks=looks, dropout=0.1, seed=4), batch),
            says(LiveTeacher(teacher, looks=looks, dropout=0.2, seed=3), batch),
        ]
        for other in others:
            assert not first.equal(other)
        assert torch.get_rng_state().equal(state)
        assert models.fingerprint(teacher) == before
        assert teacher.config.to_dict() == config
        assert not any(m.training for m in teacher.modules())
        assert {m.p for m in teacher.modules() if isinstance(m, nn.Dropout)} == {rate}
        models.check_frozen(teacher, half())


def test_a_teacher_that_fails_while_it_drops_is_clean_again(teacher, monkeypatch):
    teacher = copy.deepcopy(teacher)
    live = LiveTeacher(teacher, dropout=0.3)

    def fail(*_args):
        assert teacher.bert.training
        raise RuntimeError("out of memory")

    monkeypatch.setattr(inner, "read", fail)
    with pytest.raises(RuntimeError):
        live.signal(hidden_batch(), hidden_batch().masked)
    assert not any(m.training for m in teacher.modules())
    assert {m.p for m in teacher.modules() if isinstance(m, nn.Dropout)} == {0.0}


def test_held_out_answers_are_those_of_a_teacher_that_does_not_drop(teacher):
    batch = hidden_batch()
    dropping = LiveTeacher(copy.deepcopy(teacher), dropout=0.5)
    assert dropping.states(batch).equal(LiveTeacher(teacher).states(batch))


def test_only_one_published_variant_lets_its_teacher_drop():
    rates = {(n, v): recipes.get(n).variant(v).teacher_dropout for n, v in EVERY}
    assert rates.pop(("compactbiobert", "as-coded")) == 0.1
    assert set(rates.values()) == {0.0}


# ---------------------------------------------------------------------- the matcher


def tiny_matcher(teacher, seed: int = 0) -> Matcher:
    objective = objective_of("tinybiobert", "corrected")
    return Matcher(objective, narrow().config, teacher.config, seed=seed)


def test_projections_are_seeded_and_leave_the_random_state(teacher):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    same, other = tiny_matcher(teacher), tiny_matcher(teacher, seed=1)
    assert torch.get_rng_state().equal(state)
    assert len(same.projections) == 5
    assert {tuple(p.weight.shape) for p in same.projections} == {(12, 8)}
    assert models.fingerprint(same) == models.fingerprint(tiny_matcher(teacher))
    assert models.fingerprint(same) != models.fingerprint(other)
    weights = [p.weight for p in same.projections]
    assert not any(a.equal(b) for a, b in pairwise(weights))


def test_projections_learn_and_go_back_with_a_snapshot(teacher):
    objective, batch = objective_of("tinybiobert", "corrected"), hidden_batch()
    made = distiller_of(objective, narrow(), teacher)
    before = models.fingerprint(made.matcher)
    made.step(batch)
    kept = made.snapshot()
    assert models.fingerprint(made.matcher) != before
    assert {n for n in kept.tensors if "matcher" in n and n.startswith("model.")} == {
        f"model.matcher.projections.{i}.{what}" for i in range(5) for what in ("weight", "bias")
    }
    assert any(n.startswith("optimizer.matcher.projections.0.weight.") for n in kept.tensors)
    losses = [made.step(batch).numbers() for _ in range(2)]
    end = models.fingerprint(made.matcher), models.fingerprint(made.student)
    made.restore(kept)
    assert [made.step(batch).numbers() for _ in range(2)] == losses
    assert (models.fingerprint(made.matcher), models.fingerprint(made.student)) == end
    # In another process: everything new but the snapshot.
    fresh = distiller_of(objective, narrow(9), teacher)
    fresh.restore(kept)
    assert [fresh.step(batch).numbers() for _ in range(2)] == losses
    assert (models.fingerprint(fresh.matcher), models.fingerprint(fresh.student)) == end


def test_a_snapshot_with_other_projections_is_refused(teacher):
    kept = distiller_of(objective_of("tinybiobert", "as-coded"), narrow(), teacher).snapshot()
    other = distiller_of(objective_of("tinybiobert", "corrected"), narrow(), teacher)
    with pytest.raises(ValueError, match="another shape"):
        other.restore(kept)


def test_widths_and_heads_that_cannot_be_compared_are_refused_in_one_line(teacher):
    one_head = masked_lm.config(replace(TEACHER, layers=6, heads=1), activation="gelu")
    for objective, student, said in (
        (objective_of("compactbiobert", "corrected"), narrow().config,
         "8 wide and the teacher's 12"),
        (objective_of("compactbiobert", "corrected"), one_head,
         "the student has 1 heads and the teacher 2"),
        (objective_of("tinybiobert", "corrected"), one_head,
         "the student has 1 heads and the teacher 2"),
    ):  # fmt: skip
        with pytest.raises(WorkbenchError) as error:
            Matcher(objective, student, teacher.config)
        assert said in str(error.value) and "\n" not in str(error.value)


def test_an_objective_that_looks_inside_needs_a_matcher_only_with_a_teacher(teacher):
    objective = objective_of("compactbiobert", "corrected")
    options = {"temperature": 1.0, "alpha": 1.0, "learning_rate": 1e-3, "schedule": Schedule(9, 0)}
    with pytest.raises(ValueError, match="give a matcher"):
        Distiller(half(), objective, LiveTeacher(teacher), **options)
    alone = Distiller(half(), objective, None, **options)
    assert set(alone.step(hidden_batch()).numbers()) == {"hard", "total"}
    assert alone.student.config._attn_implementation == "sdpa"


def test_a_teacher_that_says_nothing_of_its_inside_is_a_mistake_of_the_caller(teacher):
    objective = objective_of("compactbiobert", "corrected")
    made = distiller_of(objective, half(), teacher)
    made.teacher = LiveTeacher(teacher)
    with pytest.raises(ValueError, match="does not say what it holds inside"):
        made.step(hidden_batch())


def test_the_last_hidden_states_are_compared_whatever_the_vocabulary_is():
    """A protein BERT has fewer tokens than it is wide: its logits would be the smaller answer."""
    wide = Shape(2, 2, 48, 32, VOCABULARY)
    teacher, student = bert(1, wide).requires_grad_(False), bert(2, wide)
    objective = Objective(soft=SoftTerm(), cosine=CosineTerm("hidden"), scores="masked")
    found, _ = take_step(distiller_of(objective, student, teacher), hidden_batch())
    assert 0 < found["cosine"] < 2


def test_counts_of_a_batch_are_those_of_its_real_tokens():
    batch = longer(hidden_batch((3, 5)), 4, 9)
    counts = Objective(scores="masked").counts([batch, batch])
    rows = 2 * int(batch.masked.sum())
    assert counts == Counts(rows=rows, sequences=4, tokens=16, pairs=2 * (9 + 25))
