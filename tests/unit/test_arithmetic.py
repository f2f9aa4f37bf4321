"""The closed forms against PyTorch's own counter, and against the bytes that a step holds."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench import inner, large_vocabulary, recipes, runtime, vocabulary_loss, workshop
from workbench.config import RunConfig
from workbench.planning import arithmetic, plans, sketches
from workbench.planning.arithmetic import Footing, Load, Looks
from workbench.progress import Silent
from workbench.recipes import Shape

#: Parameters of the published models; see the recipes' sources.
PUBLISHED = {
    "protgpt2-tiny": (774_030_080, 38_866_432),
    "protgpt2-small": (774_030_080, 81_912_576),
    "protgpt2-medium": (774_030_080, 203_668_480),
    "distilbiobert": (108_340_804, 65_813_572),
    "tinybiobert": (108_340_804, 13_903_756),
    "compactbiobert": (108_340_804, 65_813_572),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sketches_have_the_published_numbers_of_parameters(name):
    scale, task = recipes.get(name).scale("paper"), recipes.get(name).task
    sizes = [
        sketches.size_of(sketches.of_shape(task, shape, scale.activation)).parameters
        for shape in (scale.teacher, scale.student)
    ]
    assert tuple(sizes) == PUBLISHED[name]


@pytest.mark.parametrize("task", ["text-generation", "text-classification", "fill-mask"])
def test_flops_of_forward_and_training_are_pytorchs(task):
    shape = Shape(layers=3, heads=4, width=32, positions=64, vocabulary=51)
    if task == "text-classification":
        shape = Shape(layers=3, heads=4, width=32, positions=64, vocabulary=25)
    model = sketches.BUILDERS[task](shape, activation="gelu", seed=0).train()
    # The counter does not see the fused attention of a CPU.
    model.set_attn_implementation("eager")
    size, load = sketches.size_of(model), Load(5, 40, 200, 200)
    ids = torch.randint(20, (5, 40))
    with FlopCounterMode(display=False) as counted:
        hidden = model.base_model(input_ids=ids).last_hidden_state
    pooled = 2 * 5 * 32**2 if task == "text-classification" else 0
    assert counted.get_total_flops() - pooled == arithmetic.forward_flops(size, load)
    with FlopCounterMode(display=False) as counted:
        model(input_ids=ids).logits.sum().backward()
    rows = 5 if task == "text-classification" else 200
    expected = arithmetic.training_flops(size, load) + 3 * arithmetic.head_flops(size, rows)
    assert counted.get_total_flops() == pytest.approx(expected, rel=0.01)
    assert hidden.shape == (5, 40, 32)


RUNS = [
    ("protgpt2-tiny", {}),
    ("protgpt2-tiny", {"cached": False}),
    ("distilbert-pmhc", {}),
    ("distilbiobert", {}),
    ("tinybiobert", {}),
    ("compactbiobert", {}),
]


@pytest.mark.parametrize(("name", "options"), RUNS)
def test_a_real_step_costs_what_was_computed(name, options):
    """FLOPs within 3 %, bytes within a quarter."""
    config = RunConfig.from_recipe(name, train_sequences=200, validation_sequences=40, **options)
    shop = workshop.prepare(config, Silent())
    distiller, teacher_model = shop.student, shop.teacher_model
    bare = distiller.student
    teacher, student = sketches.size_of(teacher_model), sketches.size_of(bare)
    looks = plans.looks_of(distiller.objective, bare.config, teacher_model.config)
    live = not config.cached or shop.masker is not None
    distiller.step(shop.batch(0, 1))
    batch = shop.batch(1, 2)
    sequences, length = batch.input_ids.shape
    scored = int(distiller.objective.rows(batch)[0].sum())
    load = Load(sequences, length, batch.tokens, scored)
    plain = large_vocabulary.is_plain(distiller.objective)

    computed = arithmetic.step_bytes(
        student, teacher if live else None, load, looks, Footing(), plain=plain
    )
    with runtime._LiveBytes(_resident(shop)) as held:
        distiller.step(batch)
    assert held.peak == pytest.approx(computed, rel=0.25)

    for model in (bare, teacher_model):
        model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counted:
        distiller.step(batch)
    expected = arithmetic.training_flops(student, load)
    expected += arithmetic.comparison_flops(student, teacher, load, looks)
    if live:
        expected += arithmetic.forward_flops(teacher, load)
    keeps_logits = name.startswith("protgpt2")
    how = arithmetic.way(student.answers, scored, plain=plain)
    head = None if keeps_logits else teacher
    expected += arithmetic.loss_flops(student, head, scored, how)
    if keeps_logits and live:
        expected += arithmetic.head_flops(teacher, batch.tokens)
    assert counted.get_total_flops() == pytest.approx(expected, rel=0.03)


def _resident(shop) -> list[torch.Tensor]:
    """What is there before a step and after it."""
    distiller = shop.student
    held = [*distiller.student.parameters(), *distiller.student.buffers()]
    held += [*distiller.matcher.parameters()]
    held += [*shop.teacher_model.parameters(), *shop.teacher_model.buffers()]
    for state in distiller.optimizer.state.values():
        held += [value for value in state.values() if isinstance(value, torch.Tensor)]
    if hasattr(shop.teacher, "all_states"):
        held.append(shop.teacher.all_states)
    return held


def test_a_large_vocabularys_logits_are_counted_where_they_are_held():
    """The dense loss at 3,000 answers, against the blocks of logits that it holds."""
    from workbench.objective import Counts, Objective, TeacherSignal

    rows, answers, width = 200, 3000, 16
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = torch.randn(answers, width, requires_grad=True)
    teacher = torch.randn(rows, width)
    theirs = torch.randn(answers, width)
    labels = torch.randint(answers, (rows,))
    with runtime._LiveBytes([hidden, weight, teacher, theirs, labels]) as held:
        objective = Objective()
        values = objective.values(
            hidden, lambda h: h @ weight.t(), labels,
            TeacherSignal(teacher, lambda h: h @ theirs.t()), temperature=2.0,
            counts=Counts(rows=rows, sequences=1), vocabulary=answers,
        )  # fmt: skip
        objective.total(values, 0.5).backward()
    assert held.peak == pytest.approx(4 * arithmetic.LOGIT_BLOCKS * rows * answers, rel=0.25)


def test_parts_of_a_step_divide_what_is_held_and_not_what_is_computed():
    shape = Shape(layers=2, heads=4, width=64, positions=64, vocabulary=101)
    size = sketches.size_of(sketches.of_shape("text-generation", shape, "gelu_new"))
    load = Load(32, 64, 2048, 2016)
    whole, quarter = (
        arithmetic.step_bytes(size, None, load, Looks(), Footing(parts=n), plain=True)
        for n in (1, 4)
    )
    assert quarter < whole / 3
    halved = arithmetic.step_bytes(
        size, None, load, Looks(), Footing(activation_bytes=2), plain=True
    )
    assert halved < 0.7 * whole
    part = load.part(4)
    assert 4 * arithmetic.training_flops(size, part) == arithmetic.training_flops(size, load)


def test_layers_looked_into_are_counted_as_pairs():
    config = RunConfig.from_recipe("tinybiobert")
    objective = workshop.objective_of(config)
    scale = recipes.get("tinybiobert").scale("classroom")
    student, teacher = (
        sketches.of_shape("fill-mask", shape, scale.activation).config
        for shape in (scale.student, scale.teacher)
    )
    looks = plans.looks_of(objective, student, teacher)
    assert (looks.hidden, looks.projections, looks.layers) == (5, 5, 4)
    assert looks.scores and not looks.maps
    assert len(inner.hidden_pairs(objective.hidden, student, teacher)) == 5


def test_a_plan_knows_the_loss_of_large_vocabularies_as_it_is():
    assert arithmetic.LARGE == large_vocabulary.LARGE
    assert arithmetic.CHUNK_BYTES == vocabulary_loss.CHUNK_BYTES
