"""Exercises of notebook 05: does a classifier look at the HLA, and what two softmaxes do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from workbench import double_softmax
from workbench.lessons.question import (
    Exercise,
    Outcome,
    Prediction,
    Wrong,
    call,
    judge_number,
    number,
)

__all__ = ["QUESTIONS", "q1", "q2", "q3", "q4"]

_COIN, _SOMEWHAT, _WELL = "about 0.5", "about 0.7", "above 0.9"


def _blind(measured: Any) -> tuple[str, str]:
    auc = number(measured, "The AUC")
    if not 0 <= auc <= 1:
        raise Wrong(f"An AUC lies between 0 and 1; this one is {auc:.4g}.")
    # Bounds half-way between the choices.
    choice = _COIN if auc < 0.6 else _SOMEWHAT if auc < 0.8 else _WELL
    return choice, f"The best possible model that never sees the HLA has an AUC of {auc:.3f}."


q1 = Prediction(
    "05.q1",
    prompt="Negatives are random peptides. A model is never shown the HLA molecule, only the "
    "peptide. What AUC can it reach at best?",
    choices=(_COIN, _SOMEWHAT, _WELL),
    right=_WELL,
    verdict=_blind,
    explanation="Most HLA molecules want a large hydrophobic or a basic residue at the end of the "
    "peptide. Fewer than half of random peptides have one, nearly all binders of any allele do, "
    "and the second residue says more. So the peptide alone says most of it, and a benchmark with "
    "such negatives does not notice whether a model reads the HLA. Binders of *other* alleles "
    "as negatives close this way out.",
    hints=(
        "An AUC of 0.5 is a coin. Do binders of different alleles have anything in common?",
        "Look at the last position of the motifs above.",
    ),
)


# ---------------------------------------------------------------------- does it look?

_PAIRS = [
    ("SLYNTVATL", "HLA-A*02:01"),
    ("RPHERNGFT", "HLA-B*07:02"),
    ("AEEAAGIGI", "HLA-B*44:02"),
    ("KTWGQYWQV", "HLA-A*02:01"),
    ("TPRVTGGGA", "HLA-B*07:02"),
    ("EEFGRAFSF", "HLA-B*44:02"),
]


def _peptide_only(pairs):
    return [0.9 if peptide[-1] in "VLIF" else 0.2 for peptide, _ in pairs]


def _allele_only(pairs):
    return [{"2": 0.8, "7": 0.5, "4": 0.3}.get(allele[-1], 0.6) for _, allele in pairs]


def _both(pairs):
    anchors = {"HLA-A*02:01": "LMT", "HLA-B*07:02": "P", "HLA-B*44:02": "E"}
    return [0.95 if peptide[1] in anchors[allele] else 0.05 for peptide, allele in pairs]


def _faintly(pairs):
    alike = _peptide_only(pairs)
    return [
        p + 0.05 * (allele == "HLA-B*07:02") for p, (_, allele) in zip(alike, pairs, strict=True)
    ]


def _rounding(pairs):
    alike = _peptide_only(pairs)
    return [
        p + 1e-9 * (allele == "HLA-B*07:02") for p, (_, allele) in zip(alike, pairs, strict=True)
    ]


_CASES = (
    ("a model that reads the peptide only", _peptide_only, False),
    ("a model that reads both", _both, True),
    ("a model that reads the HLA only", _allele_only, True),
    ("a model that reads the peptide, and the HLA a little", _faintly, True),
    ("a model that reads the peptide only, with rounding in the ninth digit", _rounding, False),
)


def _judge_looks(function: Callable) -> Outcome:
    for what, model, looks in _CASES:
        asked = []

        def ask(pairs, model=model, asked=asked):
            pairs = [tuple(pair) for pair in pairs]
            asked.append(pairs)
            return model(pairs)

        try:
            said = call(function, ask, list(_PAIRS))
        except Wrong as line:
            raise Wrong(f"For {what}: {line}") from None
        if said not in (True, False):
            raise Wrong(f"For {what} it returns {said!r}; expected True or False.")
        if bool(said) == looks:
            continue
        peptides = {tuple(p for p, _ in pairs) for pairs in asked}
        remark = ""
        if len(asked) < 2:
            remark = " It asked the model only once: nothing can be compared."
        elif len(peptides) > 1:
            remark = " It changed peptides as well; change only the allele of each pair."
        elif what.endswith("digit"):
            remark = " Numbers that differ in the ninth digit are the same answer."
        raise Wrong(f"For {what} it returns {bool(said)}; expected {looks}.{remark}")
    return Outcome("correct", f"It tells {len(_CASES)} models apart. Now ask teacher and student.")


q2 = Exercise(
    "05.q2",
    prompt="Write a test that finds out whether a model looks at the HLA at all. `ask` takes a "
    "list of (peptide, allele) and gives a list of probabilities; answers that differ by less than "
    "0.001 count as the same.",
    starter='''\
def looks_at_hla(ask, pairs):
    """Whether any answer changes if peptides stay and alleles do not: True or False.

    ask: from a list of (peptide, allele) to a list of probabilities
    pairs: a list of (peptide, allele) with several alleles in it
    """
    ...


q2.check(looks_at_hla)''',
    answer='''\
def looks_at_hla(ask, pairs):
    """Whether any answer changes if peptides stay and alleles do not: True or False.

    ask: from a list of (peptide, allele) to a list of probabilities
    pairs: a list of (peptide, allele) with several alleles in it
    """
    swapped = [(peptide, pairs[i - 1][1]) for i, (peptide, _) in enumerate(pairs)]
    before, after = ask(pairs), ask(swapped)
    return any(abs(a - b) >= 0.001 for a, b in zip(before, after))


q2.check(looks_at_hla)''',
    judge=_judge_looks,
    explanation="The same peptides with other alleles: a model that does not read the HLA cannot "
    "notice. Here each pair gets the allele of the pair before it (index −1 is the last).",
    hints=(
        "Ask twice: once with the pairs as they are, once with something changed. What?",
        "Give each peptide the allele of its neighbour in the list, and compare the answers.",
    ),
)


# ---------------------------------------------------------------------- two softmaxes

_FLOOR = math.log1p(math.exp(-1))

q3 = Exercise(
    "05.q3",
    prompt="The script hands `CrossEntropyLoss` probabilities instead of logits, so softmax is "
    "applied twice. A student is completely sure and right: its probabilities are (1, 0) and the "
    "label is class 0. What is the loss?",
    starter="loss = ...\nq3.check(loss)",
    answer="import math\n\nloss = -math.log(math.e / (math.e + 1))\nq3.check(loss)",
    judge=judge_number(
        "loss",
        _FLOOR,
        right="ln(1 + 1/e) = 0.3133, for a student that could not be better. It never gets to 0.",
        near=(
            (0.0, "That is the loss with one softmax. Here (1, 0) goes through it again."),
            (
                math.log1p(math.e),
                "That is the loss of a student that is sure and *wrong*, the other end.",
            ),
            (math.e / (math.e + 1), "That is the probability after the second softmax; take −ln."),
            (math.log(2), "That is the loss of (½, ½)."),
        ),
        otherwise="Apply softmax to (1, 0): e¹/(e¹ + e⁰). The loss is −ln of it.",
    ),
    explanation="softmax(1, 0) = (e/(e + 1), 1/(e + 1)) = (0.731, 0.269), and −ln 0.731 = 0.3133. "
    "Sure and wrong gives −ln 0.269 = 1.3133. All losses lie between these two.",
    hints=(
        "The second softmax takes 1 and 0 for logits.",
        "softmax(1, 0) gives class 0 the probability e/(e + 1).",
    ),
)


def _judge_optimum(function: Callable) -> Outcome:
    for p in (0.5, 0.6, 0.7, 0.731, 0.9, 0.99, 0.4, 0.2, 0.05):
        what = f"`best_answer({p})`"
        value = number(call(function, p), what)
        expected = float(double_softmax.optimum(p))
        if math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-6):
            continue
        free = (1 + math.log(p / (1 - p))) / 2
        remark = "Where softmax(q, 1 − q) gives p, q − (1 − q) must be ln(p/(1 − p))."
        if math.isclose(value, p, abs_tol=1e-6):
            remark = "That would be right with one softmax. The second one squeezes the answer."
        elif math.isclose(value, free, rel_tol=1e-6):
            remark = "A probability cannot leave 0 to 1: hold it there."
        elif math.isclose(value, 1 / (1 + math.exp(1 - 2 * p)), rel_tol=1e-6):
            remark = "That is what the second softmax makes of p; the question is the way back."
        raise Wrong(f"{what} gives {value:.6g}; expected {expected:.6g}. {remark}")
    return Outcome("correct", "From p = 0.731 on, the best answer is 1: dark knowledge is lost.")


q4 = Exercise(
    "05.q4",
    prompt="The soft loss of the script compares the teacher's p with softmax(q, 1 − q), where q "
    "is the student's probability. For which q is it smallest?",
    starter='''\
import math


def best_answer(p):
    """The student's probability q, between 0 and 1, for which softmax(q, 1 - q) is nearest to p.

    Solve exp(q) / (exp(q) + exp(1 - q)) = p for q; where q would leave 0 to 1, the nearer end.
    """
    ...


q4.check(best_answer)''',
    answer='''\
import math


def best_answer(p):
    """The student's probability q, between 0 and 1, for which softmax(q, 1 - q) is nearest to p.

    Solve exp(q) / (exp(q) + exp(1 - q)) = p for q; where q would leave 0 to 1, the nearer end.
    """
    q = (1 + math.log(p / (1 - p))) / 2
    return min(1, max(0, q))


q4.check(best_answer)''',
    judge=_judge_optimum,
    explanation="p/(1 − p) = exp(q)/exp(1 − q) = exp(2q − 1), so q = (1 + ln(p/(1 − p)))/2. At "
    "p = e/(e + 1) = 0.731 it reaches 1. A teacher that says 0.75 and one that says 0.99 ask for "
    "the same student.",
    hints=(
        "Divide the two parts of the softmax: p/(1 − p) is exp(q)/exp(1 − q).",
        "2q − 1 = ln(p/(1 − p)); then `min` and `max` hold q between 0 and 1.",
    ),
)

QUESTIONS = (q1, q2, q3, q4)
