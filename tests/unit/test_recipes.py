"""Recipes: what each declares, and how they are described to people and programs."""

from __future__ import annotations

import json

import pytest

from workbench import catalogue, recipes
from workbench.config import RunConfig
from workbench.errors import UsageError
from workbench.objective import HardTerm, Objective, SoftTerm
from workbench.recipes.recipe import VARIANTS

NAMES = recipes.names()


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def descriptions() -> dict[str, dict]:
    """Every description as a program reads it."""
    return {n: json.loads(json.dumps(catalogue.describe(n), allow_nan=False)) for n in NAMES}


@pytest.fixture
def about(name, descriptions) -> dict:
    return descriptions[name]


def test_the_three_published_students_are_there_smallest_first(descriptions):
    ours = [n for n in NAMES if n.startswith("protgpt2-")]
    assert ours == ["protgpt2-tiny", "protgpt2-small", "protgpt2-medium"]
    for scale in ("classroom", "paper"):
        counts = [descriptions[n]["parameters"][scale]["student"] for n in ours]
        assert counts == sorted(set(counts))


def test_what_the_model_cards_say():
    for name, shape in {
        "protgpt2-tiny": (4, 4, 512),
        "protgpt2-small": (6, 8, 768),
        "protgpt2-medium": (12, 16, 1024),
    }.items():
        recipe = recipes.get(name)
        paper = recipe.scale("paper")
        assert (paper.student.layers, paper.student.heads, paper.student.width) == shape
        assert (paper.teacher.layers, paper.teacher.heads, paper.teacher.width) == (36, 20, 1280)
        assert paper.student.vocabulary == paper.teacher.vocabulary == 50257
        assert (recipe.temperature, recipe.alpha) == (10.0, 0.1)
        assert paper.teacher_source == "nferruz/ProtGPT2"
        assert recipe.title == name.replace("protgpt2-", "protgpt2-distilled-")


def test_the_variants_are_the_three_readings():
    for name in ("protgpt2-tiny", "protgpt2-small", "protgpt2-medium"):
        variants = {k: v.objective for k, v in recipes.get(name).variants.items()}
        assert variants == {
            "corrected": Objective(
                HardTerm(shifted=True, reduction="token-mean"),
                SoftTerm("forward", temperature_squared=True, reduction="token-mean"),
            ),
            "as-published": Objective(
                HardTerm(shifted=True, reduction="token-mean"),
                SoftTerm("forward", temperature_squared=False, reduction="token-mean"),
            ),
            "as-coded": Objective(
                HardTerm(shifted=False, reduction="token-mean"),
                SoftTerm("forward", temperature_squared=False, reduction="batchmean"),
            ),
        }


def test_students_are_shallower_and_thinner_than_their_teacher_at_both_scales(descriptions):
    for name in NAMES:
        recipe = recipes.get(name)
        counts = descriptions[name]["parameters"]
        for scale in recipe.scales.values():
            for shape in (scale.teacher, scale.student):
                assert shape.width % shape.heads == 0
            assert scale.student.layers < scale.teacher.layers
            assert scale.student.vocabulary == scale.teacher.vocabulary
            if recipe.init == "random":
                assert scale.student.width < scale.teacher.width
            else:  # a copy of layers is as wide as what it is copied from
                assert scale.student.width == scale.teacher.width
                assert scale.student.layers == scale.teacher.layers // 2
        # Half of the layers: a BERT's tables and head are a third of it and stay as they are.
        assert all(c["teacher"] > 1.6 * c["student"] for c in counts.values())
    small, medium = (recipes.get(f"protgpt2-{n}").scales for n in ("tiny", "medium"))
    for scale in ("classroom", "paper"):
        assert small[scale].student.layers < medium[scale].student.layers


def test_a_description_holds_what_the_contract_names(name, about):
    recipe = recipes.get(name)
    assert about["name"] == name
    assert about["task"] == recipe.task
    assert (about["temperature"], about["alpha"]) == (recipe.temperature, recipe.alpha)
    assert about["init"] == recipe.init
    first = 1 if recipe.init == "2i+1" else 0
    halved = list(range(first, recipe.scale("paper").teacher.layers, 2))
    assert about["layer_map"] == (None if recipe.init == "random" else halved)
    assert set(about["variants"]) == set(VARIANTS)
    assert set(about["scales"]) == set(about["parameters"]) == {"classroom", "paper"}
    assert about["hub"] == {
        "teacher": recipe.scale("paper").teacher_source,
        "data": recipe.scale("paper").data_source,
    }
    assert all(isinstance(source, str) for source in about["sources"])


def test_terms_and_weights_of_every_variant(name, about):
    alpha = recipes.get(name).alpha
    for reading, variant in about["variants"].items():
        terms = variant["terms"]
        objective = recipes.get(name).variant(reading).objective
        if objective.averaged:
            assert terms["hard"]["weight"] == terms["soft"]["weight"] == 1 / len(terms)
        else:
            both = objective.combined
            assert terms["hard"]["weight"] == pytest.approx(both * alpha)
            assert terms["soft"]["weight"] == pytest.approx(both * (1 - alpha))
        assert set(terms["hard"]) == {"shifted", "reduction", "operand", "softened", "weight"}
        assert set(terms["soft"]) == {
            "direction", "temperature_squared", "reduction", "operand", "entropy_kept", "weight",
        }  # fmt: skip
        assert f"{terms['hard']['weight']:.3g}·CE" in variant["formula"]
        assert variant["source"]


def test_parameters_are_computed_from_the_shapes(name, about):
    for scale, counts in about["parameters"].items():
        for role in ("teacher", "student"):
            shape = about["scales"][scale][role]
            width = shape["width"]
            inner = shape["feed_forward"] or 4 * width
            # A layer of GPT-2 and one of BERT hold the same numbers.
            layer = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
            expected = (
                (shape["vocabulary"] + shape["positions"]) * width
                + shape["layers"] * layer
                + 2 * width
            )
            if about["task"] == "fill-mask":  # token types; transformation, norm, a bias a piece
                expected += 2 * width + (width**2 + width) + 2 * width + shape["vocabulary"]
            if about["task"] == "text-classification":  # token type, pooler, two classes
                expected += width + (width**2 + width) + (2 * width + 2)
            assert counts[role] == shape["parameters"] == expected


def test_published_counts_in_the_catalogue(descriptions):
    # TAPE's bert-base has 92 M parameters, halved 49.4 M; the head adds 1,538 to each.
    assert descriptions["distilbert-pmhc"]["parameters"]["paper"] == {
        "teacher": 91_963_394,
        "student": 49_436_162,
    }
    for name, student in {
        "protgpt2-tiny": 38_866_432,
        "protgpt2-small": 81_912_576,
        "protgpt2-medium": 203_668_480,
    }.items():
        counts = descriptions[name]["parameters"]["paper"]
        assert counts == {"teacher": 774_030_080, "student": student}


def test_the_text_for_a_terminal_shows_counts_and_formulas(name, about):
    text = catalogue.text(name)
    for counts in about["parameters"].values():
        assert f"{counts['student']:,}" in text
    for reading, variant in about["variants"].items():
        assert variant["formula"] in text
        assert variant["temperature"] == RunConfig.from_recipe(name, variant=reading).temperature
        assert f"at T={variant['temperature']:g}" in variant["formula"]
    # A formula is never broken, and one of four terms is long.
    assert max(len(line) for line in text.splitlines() if " L = " not in line) < 200


def test_unknown_names_list_the_ones_there_are():
    with pytest.raises(UsageError) as error:
        recipes.get("protgpt2-huge")
    assert "'protgpt2-huge'" in str(error.value)
    assert all(name in str(error.value) for name in NAMES)
    with pytest.raises(UsageError, match="protgpt2-tiny"):
        catalogue.describe("nothing")
    recipe = recipes.get("protgpt2-tiny")
    with pytest.raises(UsageError, match="'wrong'; expected corrected or as-published or as-coded"):
        recipe.variant("wrong")
    with pytest.raises(UsageError, match="'huge'; expected classroom or paper"):
        recipe.scale("huge")
