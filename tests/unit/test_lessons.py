"""Questions: not attempted, wrong and correct; the cells; the answers of each lesson."""

from __future__ import annotations

import ast
import copy
import math
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from workbench import layer_maps, lessons, models
from workbench.at_work import open_load
from workbench.errors import WorkbenchError
from workbench.lessons import (
    compact_biobert,
    hidden_words,
    hyperparameters,
    inner_layers,
    layer_halving,
    out_in_the_world,
    peptide_binding,
    quality_and_cost,
    soft_and_hard_loss,
    temperature,
    your_own_model,
)
from workbench.lessons.question import Exercise, Note, Outcome, Prediction, Wrong, judge_number
from workbench.named_entities import entity_scores
from workbench.recipes import protgpt2

QUESTIONS = lessons.questions()
MODULES = {
    "01": soft_and_hard_loss,
    "02": temperature,
    "03": layer_halving,
    "05": peptide_binding,
    "06": hidden_words,
    "07": inner_layers,
    "08": compact_biobert,
    "10": hyperparameters,
    "11": quality_and_cost,
    "12": out_in_the_world,
    "13": your_own_model,
}
#: Exercises that ask for a function.
FUNCTIONS = [
    "01.q2", "01.q3", "02.q3", "03.q4", "05.q2", "05.q4", "11.q2", "12.q2", "12.q3",
]  # fmt: skip
EXERCISES = {id: q for id, q in QUESTIONS.items() if isinstance(q, Exercise)}
PREDICTIONS = {id: q for id, q in QUESTIONS.items() if isinstance(q, Prediction)}

# A plausible result of each prediction, and the choice that it supports.
MEASURED = {
    "01.q1": (0.071, "under 10 %"),
    "02.q2": (237.0, "100 times smaller"),
    "02.q4": (1.9, "above 1"),
    "02.q5": (1.0, "1"),
    "03.q2": (
        {"2i": 9.07, "2i+1": 21.6, "first": 9.01, "last": 22.3, "spaced": 9.43, "random": 22.1},
        "first",
    ),
    "05.q1": (0.927, "above 0.9"),
    "06.q1": (0.139, "13.5 %"),
    "07.q1": ({"scores": 0.54, "probabilities": 0.0033}, "scores"),
    "08.q1": (15.3, "about 15"),
    "10.q1": (1.003, "about the same"),
    "10.q3": (0.999, "within 2 %"),
    "11.q1": (11.0, "fewer than 22"),
    "12.q1": ({"service": 5.0, "latency": 40.0}, "by a larger factor"),
    "12.q4": ({"one": 0.011, "all": 0.023}, "larger"),
    "13.q1": (0.0, "0"),
}


def run_cell(source: str, question) -> object:
    """Value of the last line of a cell, as a notebook would show it."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value)
    scope = {question.name: question}
    exec(compile(tree, "cell", "exec"), scope)
    return eval(compile(last, "cell", "eval"), scope)


@pytest.fixture
def prediction():
    return Prediction(
        "09.q1",
        prompt="Heads or tails?",
        choices=("heads", "tails", "10"),
        right="heads",
        verdict=lambda given: (given, f"It was {given}."),
        explanation="A coin.",
        hints=("Toss it.",),
    )


def exercise(judge) -> Exercise:
    return Exercise(
        "09.q2",
        judge=judge,
        prompt="What?",
        starter="x = ...\nq2.check(x)",
        answer="x = 1\nq2.check(x)",
        explanation="Because.",
        hints=("First.", "Second.", "Third."),
    )


# ---------------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("state", "sign", "colour"),
    [("correct", "✓", "#009E73"), ("wrong", "✗", "#D55E00"), ("not attempted", "–", "#808080")],
)
def test_an_outcome_has_a_sign_beside_its_colour(state, sign, colour):
    outcome = Outcome(state, "So it is.")
    assert repr(outcome).startswith(sign)
    page = outcome._repr_html_()
    assert sign in page and colour in page and "So it is." in page


def test_an_outcome_has_one_line_and_its_html_is_escaped():
    outcome = Outcome("wrong", "a\n<b>&\x00 `x < y`", details="<pre>\n1 < 2")
    assert "\n" not in outcome.text
    page = outcome._repr_html_()
    assert "<b>" not in page and "\x00" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "<code>x &lt; y</code>" in page
    assert "&lt;pre&gt;\n1 &lt; 2" in page


def test_html_takes_ink_and_paper_from_the_theme():
    for page in (Outcome("correct", "x", "y")._repr_html_(), Note("t", "x", "y")._repr_html_()):
        assert "color:var(--jp-ui-font-color1, currentColor)" in page
        assert "background:#" not in page


# ---------------------------------------------------------------------- exercises


@pytest.mark.parametrize("given", [..., None])
def test_a_placeholder_is_not_attempted(given):
    question = exercise(lambda given: Outcome("correct", ""))
    assert question.check(given).state == "not attempted"
    assert question.check().state == "not attempted"


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), SystemExit("out"), RecursionError(), KeyError("k")]
)
def test_what_a_learner_raises_is_wrong_in_one_line(error):
    def judge(given):
        raise error

    outcome = exercise(judge).check(1)
    assert outcome.state == "wrong"
    assert type(error).__name__ in outcome.text
    assert "\n" not in outcome.text


def no_body(*given): ...


def ellipsis(*given):
    return ...


def not_implemented(*given):
    raise NotImplementedError("later")


@pytest.mark.parametrize("function", [no_body, ellipsis, not_implemented])
@pytest.mark.parametrize("id", FUNCTIONS)
def test_an_empty_function_is_not_attempted(id, function):
    assert QUESTIONS[id].check(function).state == "not attempted"


def test_a_function_that_raises_names_type_and_message():
    def broken(*given):
        raise ValueError("wide\nand\nhigh")

    for id in FUNCTIONS:
        outcome = QUESTIONS[id].check(broken)
        assert outcome.state == "wrong"
        assert "`broken` raised ValueError: wide and high" in outcome.text


class Hostile:
    """Neither a number nor printable."""

    def __repr__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


@pytest.mark.parametrize("id", QUESTIONS)
@pytest.mark.parametrize(
    "given",
    [
        0, 1, True, "text", [], [1, 2], {}, {"a": 1}, math.nan, math.inf, 10**400, 1j, b"x", print,
        int, torch.zeros(3), np.zeros((2, 2)), Hostile(), Hostile, iter([1]), {"random": "x"},
    ],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_check_answers_whatever_it_is_given(id, given):
    question = copy.copy(QUESTIONS[id])
    if isinstance(question, Prediction):
        question.predict(question.choices[0])
    outcome = question.check(given)
    assert outcome.state in ("correct", "wrong", "not attempted")
    assert outcome.text and "\n" not in outcome.text
    assert question.predict(given).state in ("noted", "not attempted")
    repr(question.hint(given))


def test_hints_come_in_stages_and_say_how_many_there_are():
    question = exercise(lambda given: Outcome("correct", ""))
    assert repr(question.hint()) == "q2, hint 1 of 3: First. (Next: `q2.hint(2)`.)"
    assert repr(question.hint(2)).startswith("q2, hint 2 of 3: Second.")
    assert "the last" in repr(question.hint(3))
    for number in (0, 4, -1, "x", None):
        assert "There is no hint" in repr(question.hint(number))
        assert "There are 3: `q2.hint(1)`, `q2.hint(2)`, `q2.hint(3)`." in repr(
            question.hint(number)
        )


def test_solution_shows_explanation_and_code():
    solution = exercise(lambda given: Outcome("correct", "")).solution()
    assert solution.text == "Because." and solution.code == "x = 1\nq2.check(x)"
    assert "x = 1\nq2.check(x)" in solution._repr_html_()


def test_an_exercise_asks_for_no_prediction():
    outcome = exercise(lambda given: Outcome("correct", "")).predict("x")
    assert outcome.state == "not attempted" and "asks for no prediction" in outcome.text


# ---------------------------------------------------------------------- predictions


def test_a_prediction_is_checked_against_the_measurement(prediction):
    noted = prediction.predict("heads")
    assert noted.state == "noted" and '"heads"' in noted.text
    assert prediction.check("heads").state == "correct"
    wrong = prediction.check("tails")
    assert wrong.state == "wrong"
    assert wrong.text == 'You predicted "heads"; measured is "tails". It was tails.'


def test_without_a_prediction_check_is_not_attempted_and_tells_nothing(prediction):
    outcome = prediction.check("tails")
    assert outcome.state == "not attempted"
    assert "It was" not in outcome.text


def test_choices_are_listed_and_a_bad_guess_changes_nothing(prediction):
    assert '"heads", "tails" or "10"' in prediction.predict().text
    prediction.predict("tails")
    bad = prediction.predict("edge")
    assert bad.state == "not attempted" and "'edge' is not a choice" in bad.text
    assert prediction.check("tails").state == "correct"


def test_an_ellipsis_takes_a_prediction_back(prediction):
    prediction.predict("tails")
    prediction.predict()
    assert prediction.check("tails").state == "correct"
    assert prediction.predict(...).state == "not attempted"
    assert prediction.check("tails").state == "not attempted"


def test_guesses_may_differ_in_space_case_and_type(prediction):
    for guess in (" Heads", "HEADS"):
        prediction.predict(guess)
        assert prediction.check("heads").state == "correct"
    for guess in (10, 10.0, "10"):
        prediction.predict(guess)
        assert prediction.check("10").state == "correct"


def test_a_prediction_waits_for_its_measurement(prediction):
    prediction.predict("heads")
    assert prediction.check(...).state == "not attempted"
    assert prediction.check().state == "not attempted"


def test_a_result_that_cannot_be_read_is_one_clear_line(prediction):
    def verdict(given):
        raise Wrong("That is no coin.")

    prediction._verdict = verdict
    prediction.predict("heads")
    assert prediction.check("x") == Outcome("wrong", "That is no coin.")


@pytest.mark.parametrize("id", PREDICTIONS)
def test_every_prediction_agrees_with_a_plausible_result(id):
    question = PREDICTIONS[id]
    measured, choice = MEASURED[id]
    assert question.check(measured).state == "not attempted"
    for guess in question.choices:
        question.predict(guess)
        expected = "correct" if guess == choice else "wrong"
        assert question.check(measured).state == expected
    question.predict(...)


# ---------------------------------------------------------------------- cells


@pytest.mark.parametrize("id", QUESTIONS)
def test_the_starter_is_not_attempted(id):
    assert run_cell(lessons.starters()[id], QUESTIONS[id]).state == "not attempted"


@pytest.mark.parametrize("id", EXERCISES)
def test_the_solution_is_correct(id):
    assert run_cell(lessons.solutions()[id], QUESTIONS[id]).state == "correct"


@pytest.mark.parametrize("id", PREDICTIONS)
def test_the_solution_predicts_right(id):
    question = PREDICTIONS[id]
    assert run_cell(lessons.solutions()[id], question).state == "noted"
    assert question.check(MEASURED[id][0]).state == "correct"
    question.predict(...)


@pytest.mark.parametrize("id", QUESTIONS)
def test_every_question_is_complete(id):
    question = QUESTIONS[id]
    assert question.id == id and question.prompt and question.explanation and question.hints
    assert (
        question.prompt in question._repr_html_().replace("&#x27;", "'") or "`" in question.prompt
    )
    assert (
        getattr(
            MODULES[id[:2]],
            question.name,
        )
        is question
    )


def notebook() -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1")]
    for id in ("01.q1", "01.q3"):
        cell = nbformat.v4.new_code_cell(QUESTIONS[id].starter)
        cell.metadata["exercise"] = id
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells)


def test_a_notebook_is_filled_with_solutions_and_stays_as_it_was():
    before = notebook()
    stored = copy.deepcopy(before)
    after = lessons.solved(before)
    assert before == stored
    assert [cell.source for cell in after.cells] == [
        "# Title", "1 + 1", QUESTIONS["01.q1"].answer, QUESTIONS["01.q3"].answer
    ]  # fmt: skip
    nbformat.validate(after)


def test_a_notebook_read_as_json_is_filled_too():
    lines = QUESTIONS["01.q3"].starter.splitlines(keepends=True)
    raw = {"cells": [{"source": lines, "metadata": {"exercise": "01.q3"}}]}
    assert lessons.solved(raw)["cells"][0]["source"] == QUESTIONS["01.q3"].answer
    assert raw["cells"][0]["source"] is lines


def test_a_notebook_that_has_drifted_is_refused():
    drifted = notebook()
    drifted.cells[2].source += "  # mine"
    with pytest.raises(WorkbenchError, match=r"01\.q1 differs from its starter"):
        lessons.solved(drifted)
    unknown = notebook()
    unknown.cells[2].metadata["exercise"] = "01.q99"
    with pytest.raises(WorkbenchError, match=r"'01\.q99'; there are 01\.q1"):
        lessons.solved(unknown)
    twice = notebook()
    twice.cells.append(copy.deepcopy(twice.cells[2]))
    with pytest.raises(WorkbenchError, match=r"two cells are exercise 01\.q1"):
        lessons.solved(twice)


def test_importing_the_lessons_loads_neither_torch_nor_jupyter():
    code = (
        "import sys, workbench.lessons as l; l.starters(); "
        "print([m for m in ('torch', 'transformers', 'IPython', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------- numbers


def test_a_number_may_be_rounded_and_come_in_any_type():
    judge = judge_number("x", 0.8018, right="Yes.", near=((0.0, "Zero."),), otherwise="No.")
    question = exercise(judge)
    for given in (0.8018, 0.802, 0.8, np.float32(0.8018), torch.tensor(0.8018), np.array([0.8018])):
        assert question.check(given).state == "correct"
    assert question.check(0).text == "Zero."
    assert question.check(0.9).text == "`x` is 0.9. No."
    assert question.check("0.8018").text == "`x` should be a number; given was a str, '0.8018'."
    assert question.check(math.nan).text == "`x` is nan; a finite number was expected."
    assert "of shape [3]" in question.check(torch.zeros(3)).text


ENTROPY = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
TABLES = (50257 + 1024) * 512


@pytest.mark.parametrize(
    ("id", "given", "words"),
    [
        ("01.q4", 0, "0 is the floor of KL"),
        ("01.q4", ENTROPY / math.log(2), "in bits"),
        ("01.q4", -ENTROPY, "sign"),
        ("01.q4", math.log(3), "ln 3"),
        ("01.q4", -math.log(0.7), "hard label"),
        ("01.q5", 0.9, "their number"),
        ("01.q5", 10, "per cent"),
        ("02.q1", math.log2(21), "bits"),
        ("02.q1", 1 / 21, "the probability of each symbol"),
        ("02.q1", 0, "other end"),
        ("02.q1", math.log(20), "ln 20"),
        ("02.q1", 21, "perplexity"),
        ("03.q1", range(0, 12, 2), "That is 2i"),
        ("03.q1", [2, 4, 6, 8, 10, 12], "counts layers from 1"),
        ("03.q1", [1, 3, 5], "half-way"),
        ("03.q1", list(range(12)), "12 entries"),
        ("03.q1", [1, 3, 5, 7, 9, 13], "Layer 13 does not exist"),
        ("03.q1", [11, 9, 7, 5, 3, 1], "order"),
        ("03.q1", [1, 3, 5, 7, 8, 11], "not every other layer"),
        ("03.q1", [1.0, 3.0], "whole numbers"),
        ("03.q1", "1,3,5,7,9,11", "type str"),
        ("03.q3", 100 * TABLES / 38_866_432, "per cent; as a fraction it is right"),
        ("03.q3", 50257 * 512 / 38_866_432, "positions is an embedding too"),
        ("03.q3", (TABLES + 50257 * 512) / 38_866_432, "counts the token table twice"),
        ("03.q3", 1 - TABLES / 38_866_432, "all the rest"),
        ("03.q3", TABLES, "Divide by all parameters"),
    ],
)
def test_a_well_known_wrong_answer_is_recognised(id, given, words):
    outcome = QUESTIONS[id].check(given)
    assert outcome.state == "wrong"
    assert words in outcome.text


def test_an_unfinished_list_is_not_attempted():
    assert layer_halving.q1.check([1, 3, ...]).state == "not attempted"


@pytest.mark.parametrize("given", [(1, 3, 5, 7, 9, 11), range(1, 12, 2), np.arange(1, 12, 2)])
def test_a_map_may_be_any_sequence(given):
    assert layer_halving.q1.check(given).state == "correct"


def test_the_share_of_embeddings_is_that_of_the_recipe():
    scale = next(r for r in protgpt2.RECIPES if r.name == "protgpt2-tiny").scales["paper"]
    parts = models.parts(scale.student)
    assert models.count_parameters(scale.student) == 38_866_432 == sum(parts.values())
    assert layer_halving.q3.check(TABLES / 38_866_432).state == "correct"


# ---------------------------------------------------------------------- predictions' results


@pytest.mark.parametrize(
    ("id", "given", "truth"),
    [
        ("01.q1", 0.95, "above 90 %"),
        ("01.q1", 0.5, "about half"),
        ("01.q1", 0.09, "under 10 %"),
        ("02.q2", 1.2, "about the same"),
        ("02.q2", 12, "10 times smaller"),
        ("02.q2", 1 / 90, "100 times smaller"),
        ("02.q4", 0.6, "below 1"),
        ("02.q5", 10, "10"),
        ("02.q5", "4", None),
        ("01.q1", 7.1, None),
        ("01.q1", math.nan, None),
        ("02.q2", 0, None),
        ("02.q4", 1.0, None),
        ("02.q5", 3, None),
        ("03.q2", {"first": 9.0}, None),
        ("03.q2", [1, 2], None),
    ],
)
def test_results_support_a_choice_or_are_refused(id, given, truth):
    question = QUESTIONS[id]
    question.predict(question.choices[0])
    outcome = question.check(given)
    if truth is None:
        assert outcome.state == "wrong" and "You predicted" not in outcome.text
    else:
        assert f'measured is "{truth}"' in outcome.text or truth == question.choices[0]
        assert (outcome.state == "correct") == (truth == question.choices[0])
    question.predict(...)


# ---------------------------------------------------------------------- functions


def test_the_limit_is_the_gradient_at_a_huge_temperature():
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    huge = 1e6
    expected = huge * ((student / huge).softmax(-1) - (teacher / huge).softmax(-1))
    torch.testing.assert_close(temperature._limit(student, teacher), expected, atol=1e-5, rtol=0)


def centred(x):
    return x - x.mean(-1, keepdim=True)


LIMITS = {
    "by the difference": (lambda z, v: centred(z - v) / z.shape[1], "correct", "matches logits"),
    "single precision": (
        lambda z, v: (centred(z) - centred(v)).float() / z.shape[1], "correct", "matches logits",
    ),
    "sign": (lambda z, v: centred(v - z) / z.shape[1], "wrong", "student minus teacher"),
    "no V": (lambda z, v: centred(z - v), "wrong", "1/V is missing"),
    "no V, sign": (lambda z, v: centred(v - z), "wrong", "The 1/V is missing"),
    "not centred": (lambda z, v: (z - v) / z.shape[1], "wrong", "not centred"),
    "not centred, no V": (lambda z, v: z - v, "wrong", "not centred"),
    "student": (lambda z, v: (z - centred(v)) / z.shape[1], "wrong", "student's logits are not"),
    "teacher": (lambda z, v: (centred(z) - v) / z.shape[1], "wrong", "teacher's logits are not"),
    "axis": (
        lambda z, v: (z - v - (z - v).mean(0)) / z.shape[1], "wrong", "taken over the rows",
    ),
    "rows": (lambda z, v: centred(z - v) / z.numel(), "wrong", "divided by the rows"),
    "T = 1": (lambda z, v: z.softmax(-1) - v.softmax(-1), "wrong", "gradient at T = 1"),
    "T = 100": (
        lambda z, v: 100 * ((z / 100).softmax(-1) - (v / 100).softmax(-1)), "wrong", "finite T",
    ),
    "unknown": (lambda z, v: z * 0 + 1, "wrong", "[[1.0, -1.0]]; yours gives [[1.0, 1.0]]"),
    "shape": (lambda z, v: z[0], "wrong", "shape [7]"),
    "number": (lambda z, v: 1.0, "wrong", "it is a float"),
    "nan": (lambda z, v: z * math.nan, "wrong", "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_the_limit_of_logit_matching(name):
    function, state, words = LIMITS[name]
    outcome = temperature.q3.check(function)
    assert outcome.state == state
    assert words in outcome.text


MAPS = {
    "half to even": (
        lambda n, m: [n - 1] if m == 1 else [round(i * (n - 1) / (m - 1)) for i in range(m)],
        "`round` takes a half",
    ),
    "down": (
        lambda n, m: [n - 1] if m == 1 else [i * (n - 1) // (m - 1) for i in range(m)],
        "rounded down",
    ),
    "steps of L/N": (lambda n, m: [i * n // m for i in range(m)], "they reach the last layer"),
    "from 1": (
        lambda n, m: [1 + layer for layer in layer_maps.named("spaced", n, m)],
        "numbered from 0",
    ),
    "one layer": (
        lambda n, m: [0] if m == 1 else list(layer_maps.named("spaced", n, m)),
        "`spaced(12, 1)` gives [0]; expected [11].",
    ),
    "no single layer": (
        lambda n, m: [math.floor(i * (n - 1) / (m - 1) + 0.5) for i in range(m)],
        "For `spaced(12, 1)`: `<lambda>` raised ZeroDivisionError",
    ),
    "too few": (lambda n, m: layer_maps.named("spaced", n, m)[:-1], "one entry for each"),
    "first only": (lambda n, m: list(range(m)), "first and the last layer"),
    "floats": (
        lambda n, m: [n - 1.0] if m == 1 else [i * (n - 1) / (m - 1) for i in range(m)],
        "whole numbers",
    ),
    "a number": (lambda n, m: n, "type int"),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_wrong_spaced_map_gets_its_remark(name):
    function, words = MAPS[name]
    outcome = layer_halving.q4.check(function)
    assert outcome.state == "wrong"
    assert words in outcome.text


def test_the_packages_own_spaced_map_is_correct():
    outcome = layer_halving.q4.check(lambda n, m: layer_maps.named("spaced", n, m))
    assert outcome.state == "correct"


# ---------------------------------------------------------------------- 05


def shifted(pairs):
    return [(peptide, pairs[i - 1][1]) for i, (peptide, _) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda ask, pairs: True, "asked the model only once"),
        (lambda ask, pairs: ask(pairs) != ask(shifted(pairs)), "ninth digit"),
        (lambda ask, pairs: ask(pairs) != ask(pairs[::-1]), "peptides as well"),
        (lambda ask, pairs: ask(pairs), "expected True or False"),
        (lambda ask, pairs: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_tests_that_do_not_find_out_whether_a_model_looks(function, said):
    outcome = peptide_binding.q2.check(function)
    assert outcome.state == "wrong" and said in outcome.text


def test_another_way_to_find_out_is_right():
    def compare(ask, pairs):
        one = pairs[0][1]
        changed = np.array(ask([(p, one) for p, _ in pairs])) - np.array(ask(pairs))
        return bool(np.abs(changed).max() > 1e-3)

    assert peptide_binding.q2.check(compare).state == "correct"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "one softmax"), (math.log1p(math.e), "sure and *wrong*"),
        (math.e / (1 + math.e), "take −ln"), (math.log(2), "(½, ½)"), (5.0, "Apply softmax"),
    ],
)  # fmt: skip
def test_losses_that_are_not_the_floor(value, said):
    outcome = peptide_binding.q3.check(value)
    assert outcome.state == "wrong" and said in outcome.text


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda p: p, "right with one softmax"),
        (lambda p: (1 + math.log(p / (1 - p))) / 2, "cannot leave 0 to 1"),
        (lambda p: 1 / (1 + math.exp(1 - 2 * p)), "the way back"),
    ],
)
def test_answers_that_are_not_the_optimum(function, said):
    outcome = peptide_binding.q4.check(function)
    assert outcome.state == "wrong" and said in outcome.text


def test_a_result_that_is_no_auc_is_said():
    peptide_binding.q1.predict("about 0.7")
    assert "between 0 and 1" in peptide_binding.q1.check(93.0).text
    assert peptide_binding.q1.check(0.72).state == "correct"
    peptide_binding.q1.predict(...)


# ---------------------------------------------------------------------- 06 to 08


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda s, head, h, y: F.cross_entropy(head(s)[h], y), "applied to 21 rows"),
        (lambda s, head, h, y: F.cross_entropy(head(s[h]), y, reduction="sum"), "take the mean"),
        (
            lambda s, head, h, y: F.cross_entropy(head(s[h]), y, reduction="sum") / h.numel(),
            "divided by all positions",
        ),
        (lambda s, head, h, y: F.cross_entropy(head(s[h].flip(0)), y), "row after row"),
        (lambda s, head, h, y: F.cross_entropy(head(s), y), "raised"),
    ],
)
def test_losses_of_hidden_positions_that_are_not(function, said):
    outcome = hidden_words.q2.check(function)
    assert outcome.state == "wrong" and said in outcome.text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5 / 7, "1 − α"),
        (0.4, "ratio"),
        (0.25, "cosine"),
        (2, "between 0 and 1"),
        (0.1, "over both"),
    ],
)
def test_weights_that_are_not_alpha(value, said):
    outcome = hidden_words.q3.check(value)
    assert outcome.state == "wrong" and said in outcome.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([2, 5, 8, 11], "one place later"), ([3, 6, 9, 12], "five entries"),
        ((0, 4, 8, 12), "12 / 4 = 3"), ([0, 3, 6], "3 entries"), ([0, 3, 6, 9, 11], "3m"),
        (12, "not int"), ("0,3", "not str"), ([0, 1.5, 3, 4, 5], "whole numbers"),
    ],
)  # fmt: skip
def test_hidden_states_that_do_not_belong_together(given, said):
    outcome = inner_layers.q2.check(given)
    assert outcome.state == "wrong" and said in outcome.text
    assert inner_layers.q2.check([0, 3, ..., 9, 12]).state == "not attempted"
    assert inner_layers.q2.check(np.arange(0, 13, 3)).state == "correct"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda v, real: v.mean(), "over padding as well"),
        (lambda v, real: (v * real[..., None]).mean(), "still counted in the divisor"),
        (lambda v, real: (v * real[..., None]).sum() / real.sum(), "as many as the width"),
        (
            lambda v, real: sum(r[m].mean() for r, m in zip(v, real, strict=True)) / len(v),
            "the rows' means",
        ),
        (lambda v, real: v[real], "one number"),
    ],
)
def test_means_that_count_padding(function, said):
    outcome = inner_layers.q3.check(function)
    assert outcome.state == "wrong" and said in outcome.text


def test_another_mean_over_real_tokens_is_right():
    def mean(values, real):
        return (values.mean(-1) * real).sum() / real.sum()

    assert inner_layers.q3.check(mean).state == "correct"


@pytest.mark.parametrize(
    ("value", "said"),
    [(5 / 6, "share of words"), (1, "one word too few"), (0.8, "found, and wrong"), (0.1, "right")],
)
def test_scores_of_entities_that_are_not_f1(value, said):
    outcome = compact_biobert.q2.check(value)
    assert outcome.state == "wrong" and said in outcome.text


def test_the_entities_of_the_question_are_scored_so():
    truth = ["B-Drug", "O", "B-Disease", "I-Disease", "O", "B-Gene"]
    guess = ["B-Drug", "O", "B-Disease", "O", "O", "B-Gene"]
    assert compact_biobert.q2.check(entity_scores.score([truth], [guess]).f1).state == "correct"


def entities_without_the_last(tags):
    found, start = [], None
    for place, tag in enumerate(tags):
        if start is not None and not tag.startswith("I-"):
            found.append((tags[start][2:], start, place - 1))
            start = None
        if tag.startswith("B-"):
            start = place
    return found


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (entities_without_the_last, "at the end"),
        (
            lambda tags: [(k, a, b + 1) for k, a, b in entity_scores._entities(tags)],
            "count it, not the one after it",
        ),
        (lambda tags: [(t, i, i) for i, t in enumerate(tags) if t != "O"], "follows the hyphen"),
        (
            lambda tags: [(t[2:], i, i) for i, t in enumerate(tags) if t != "O"],
            "begins none",
        ),
        (lambda tags: len(tags), "a list of"),
        (lambda tags: ["Drug"], "no (type, first, last)"),
    ],
)
def test_entities_that_are_not(function, said):
    outcome = compact_biobert.q3.check(function)
    assert outcome.state == "wrong" and said in outcome.text


def test_the_packages_own_entities_are_right():
    assert compact_biobert.q3.check(entity_scores._entities).state == "correct"


@pytest.mark.parametrize(
    ("id", "given", "said"),
    [
        ("06.q1", 13.9, "per cent"), ("06.q1", 0.0, "between 0 and 1"),
        ("07.q1", 165.0, "dictionary"), ("07.q1", {"scores": 1.0, "probabilities": 0.0}, "above 0"),
        ("08.q1", 0.05, "divide the one"), ("08.q1", -1.0, "above 0"),
        ("10.q1", 0.0, "above 0"), ("10.q3", -1.0, "above 0"),
    ],
)  # fmt: skip
def test_results_of_the_biomedical_lessons_that_cannot_be(id, given, said):
    QUESTIONS[id].predict(QUESTIONS[id].choices[0])
    assert said in QUESTIONS[id].check(given).text
    QUESTIONS[id].predict(...)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0.0826, "weight of the soft loss"), (0.00111, "other way round"), (0.9, "turns the"),
        (0.526, "a factor of T"), (0.1, "100 times louder"), (0.3, "make them equal"),
    ],
)  # fmt: skip
def test_an_alpha_that_is_not_the_same_mixture(given, said):
    outcome = hyperparameters.q2.check(given)
    assert outcome.state == "wrong" and said in outcome.text


# ---------------------------------------------------------------------- 12


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda arrivals, service: service, "as if nobody ever waited"),
        (lambda arrivals, service: np.cumsum(service) - arrivals, "cannot begin before"),
        (
            lambda arrivals, service: [
                a + e for a, e in zip(
                    arrivals, open_load.latencies(arrivals, service), strict=True
                )
            ],
            "subtract the arrivals",
        ),
        (lambda arrivals, service: [0.0] * len(arrivals), "was expected"),
        (lambda arrivals, service: 3, "a list with a number"),
    ],
)  # fmt: skip
def test_latencies_without_the_waiting(function, said):
    outcome = out_in_the_world.q2.check(function)
    assert outcome.state == "wrong" and said in outcome.text


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda said: math.exp(-np.log(said).mean()), "average the probabilities first"),
        (lambda said: np.exp(-np.log(said).mean(axis=1)).mean(), "answers once"),
        (lambda said: -np.log(np.mean(said, axis=0)).mean(), "its exponential"),
        (lambda said: math.exp(np.log(np.mean(said, axis=0)).mean()), "a minus"),
        (lambda said: 1 / np.mean(said), "first the logarithm"),
        (lambda said: 5.0, "was expected"),
        (lambda said: said, "should be a number"),
    ],
)
def test_perplexities_that_are_not_the_ensembles(function, said):
    outcome = out_in_the_world.q3.check(function)
    assert outcome.state == "wrong" and said in outcome.text


@pytest.mark.parametrize(
    ("id", "given", "said"),
    [
        ("12.q1", 8.0, "A dictionary is wanted"),
        ("12.q1", {"service": 0, "latency": 1}, "above"),
        ("12.q4", {"one": 0.01}, "A dictionary is wanted"),
        ("12.q4", {"one": 2, "all": 1}, "share"),
    ],
)  # fmt: skip
def test_results_of_the_last_lesson_that_cannot_be(id, given, said):
    QUESTIONS[id].predict(QUESTIONS[id].choices[0])
    assert said in QUESTIONS[id].check(given).text
    QUESTIONS[id].predict(...)
