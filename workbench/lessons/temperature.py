"""Exercises of notebook 02: what the temperature does to an answer, a gradient, a student."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.lessons.question import (
    Exercise,
    Outcome,
    Prediction,
    Wrong,
    call,
    judge_number,
    number,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QUESTIONS", "q1", "q2", "q3", "q4", "q5"]

_SYMBOLS = 21

q1 = Exercise(
    "02.q1",
    prompt="The teacher chooses among 21 symbols: 20 amino acids and the end. What is the entropy "
    "of its answer, in nats, as T grows without bound?",
    starter="entropy = ...\nq1.check(entropy)",
    answer="import math\n\nentropy = math.log(21)\nq1.check(entropy)",
    judge=judge_number(
        "entropy",
        math.log(_SYMBOLS),
        right="ln 21 = 3.04 nats: every logit divided by T tends to 0, all symbols become equally "
        "likely, and no answer has a larger entropy.",
        near=(
            (math.log2(_SYMBOLS), "That is log₂ 21, the entropy in bits; in nats it is ln 21."),
            (math.log10(_SYMBOLS), "That is the decimal logarithm of 21; nats want the natural."),
            (
                1 / _SYMBOLS,
                "1/21 is the probability of each symbol. The entropy of that answer is "
                "−Σ p ln p, a sum over all 21.",
            ),
            (
                0.0,
                "0 is the other end, T → 0: then the answer is certain. A large T makes it as "
                "uncertain as can be.",
            ),
            (
                math.log(_SYMBOLS - 1),
                "That is ln 20, the amino acids alone. The end of the sequence is a symbol too.",
            ),
            (
                float(_SYMBOLS),
                "21 is the perplexity, the number of equally likely symbols; its logarithm is the "
                "entropy.",
            ),
            (-math.log(_SYMBOLS), "The sign: ln p is negative, so −Σ p ln p is positive."),
        ),
        otherwise="What are the 21 probabilities when all logits are divided by a huge T?",
    ),
    explanation="Logits divided by a huge T are all nearly 0, so each of the 21 symbols gets 1/21, "
    "and −Σ (1/21) ln (1/21) = ln 21 = 3.04 nats.",
    hints=(
        "Divide any logits by a million. What does the softmax make of them?",
        "Each symbol has the probability 1/21. The entropy is −Σ p ln p with p = 1/21.",
    ),
)


def _ratio(measured: Any) -> tuple[str, str]:
    ratio = number(measured, "The ratio")
    if ratio <= 0:
        raise Wrong(f"The ratio is {ratio:g}; a ratio of two norms is above 0.")
    # Either way round: the question is by how much they differ.
    times = max(ratio, 1 / ratio)
    nearest = min((1, 10, 100), key=lambda power: abs(math.log(times / power)))
    choice = "about the same" if nearest == 1 else f"{nearest} times smaller"
    return choice, f"The gradient at T = 1 is {times:.3g} times the one at T = 10."


q2 = Prediction(
    "02.q2",
    prompt="Take the soft loss without T². How large is its gradient on the student's logits at "
    "T = 10, compared with T = 1?",
    choices=("about the same", "10 times smaller", "100 times smaller"),
    right="100 times smaller",
    verdict=_ratio,
    explanation="∂KL/∂z = (q − p)/T. One factor 1/T is in plain sight. The other is inside: "
    "softened answers lie closer together, and for large T the difference q − p falls as 1/T too. "
    "Together it is about 1/T² = 1/100, not exactly, because at T = 1 the answers are not yet in "
    "that limit.",
    hints=(
        "The gradient is (q − p)/T, with q and p the softened answers.",
        "The 1/T makes it 10 times smaller. Do q and p stay as far apart as they were?",
    ),
)


def _judge_limit(function: Callable) -> Outcome:
    import torch

    generator = torch.Generator().manual_seed(0)
    cases = [
        3 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        for shape in ((4, 7), (3, 5))
    ]
    given = []
    for student, teacher in cases:
        result = call(function, student.clone(), teacher.clone())
        if not isinstance(result, torch.Tensor):
            raise Wrong(f"The gradient should be a tensor; it is a {type(result).__name__}.")
        if result.shape != student.shape:
            raise Wrong(
                f"The gradient has shape {list(result.shape)}; the logits have "
                f"{list(student.shape)}, and there is one number for each."
            )
        if not result.isfinite().all():
            raise Wrong("The gradient holds numbers that are not finite.")
        given.append(result.detach().double())

    def agrees(formula: Callable[[Tensor, Tensor], Tensor], tolerance: float = 1e-5) -> bool:
        expected = [formula(student, teacher) for student, teacher in cases]
        return all(
            (one - other).norm() <= tolerance * other.norm()
            for one, other in zip(given, expected, strict=True)
        )

    if agrees(_limit):
        return Outcome(
            "correct",
            "The student's centred logits minus the teacher's, over V. No T is left: for large T "
            "the soft loss with T² matches logits.",
        )
    if agrees(lambda z, v: z.softmax(-1) - v.softmax(-1)):
        raise Wrong("That is q − p, the gradient at T = 1. Here T grows without bound.")
    for count in range(1, len(_SLIPS) + 1):
        for names in itertools.combinations(_SLIPS, count):
            if agrees(lambda z, v, names=names: _limit(z, v, names)):
                raise Wrong(" ".join(_SLIPS[name] for name in names))
    if agrees(_limit, 0.05):
        raise Wrong(
            "Close, and not the limit: is there a large but finite T in it? In the limit T "
            "cancels, and the formula has none."
        )
    z, v = torch.tensor([[3.0, 0.0]]).double(), torch.tensor([[0.0, 1.0]]).double()
    shown = [[round(x, 4) for x in row] for row in call(function, z, v).tolist()]
    raise Wrong(
        f"For student_logits [[3, 0]] and teacher_logits [[0, 1]] the limit is "
        f"{_limit(z, v).tolist()}; yours gives {shown}."
    )


# What people get wrong in the limit, and what to say of it.
_SLIPS = {
    "sign": "The sign is swapped: it is student minus teacher, so that a descent lowers logits "
    "that are above the teacher's.",
    "vocabulary": "The 1/V is missing: near T → ∞ each probability is about 1/V, and so is its "
    "slope.",
    "rows": "It is divided by the rows. The gradient of each row's own KL is asked for.",
    "student": "The student's logits are not centred: subtract their mean over the vocabulary. A "
    "constant added to all logits changes no answer.",
    "teacher": "The teacher's logits are not centred: subtract their mean over the vocabulary. A "
    "constant added to all logits changes no answer.",
    "axis": "The mean is taken over the rows; each row is centred over its vocabulary, `dim=-1` "
    "with `keepdim=True`.",
}


def _limit(student: Tensor, teacher: Tensor, slips: tuple[str, ...] = ()) -> Tensor:
    """(centred student − centred teacher)/V, or what becomes of it with some slips."""
    axis = 0 if "axis" in slips else -1
    if "student" not in slips:
        student = student - student.mean(axis, keepdim=True)
    if "teacher" not in slips:
        teacher = teacher - teacher.mean(axis, keepdim=True)
    rows, vocabulary = student.shape
    divisor = (1 if "vocabulary" in slips else vocabulary) * (rows if "rows" in slips else 1)
    return (-1 if "sign" in slips else 1) * (student - teacher) / divisor


q3 = Exercise(
    "02.q3",
    prompt="For T → ∞ the gradient of T²·KL on the student's logits tends to something simple. "
    "Write it: one number for each logit, with no T in it.",
    starter='''\
def logit_matching_gradient(student_logits, teacher_logits):
    """Limit of the gradient of T² · KL for T → ∞. All are [rows, vocabulary]."""
    ...


q3.check(logit_matching_gradient)''',
    answer='''\
def logit_matching_gradient(student_logits, teacher_logits):
    """Limit of the gradient of T² · KL for T → ∞. All are [rows, vocabulary]."""
    z = student_logits - student_logits.mean(dim=-1, keepdim=True)
    v = teacher_logits - teacher_logits.mean(dim=-1, keepdim=True)
    return (z - v) / student_logits.shape[-1]


q3.check(logit_matching_gradient)''',
    judge=_judge_limit,
    explanation="The gradient of T²·KL is T(q − p). For large T, softmax(z/T) is about "
    "(1 + (z − mean z)/T)/V, so q − p is about ((z − mean z) − (v − mean v))/(TV), and T cancels. "
    "At high temperature distillation is matching centred logits.",
    hints=(
        "Start from T(q − p), the gradient of T²·KL, and from e^x ≈ 1 + x for small x.",
        "softmax(z/T) ≈ (1 + z/T) / Σ(1 + z/T). The sum is V(1 + mean z/T): that is where the mean "
        "comes from.",
        "softmax(z/T) ≈ (1 + (z − mean z)/T)/V. Subtract the same for the teacher, multiply by T.",
    ),
)


def _honest(measured: Any) -> tuple[str, str]:
    temperature = number(measured, "The temperature")
    if temperature <= 0:
        raise Wrong(f"The temperature is {temperature:g}; it must be above 0.")
    if math.isclose(temperature, 1.0, rel_tol=1e-6):
        raise Wrong("The temperature is 1, which changes nothing; neither choice fits.")
    choice = "above 1" if temperature > 1 else "below 1"
    return choice, f"The temperature that makes it honest is {temperature:.3g}."


q4 = Prediction(
    "02.q4",
    prompt="A model is right 70 % of the time, and says 90 %. Which T, put into its softmax, makes "
    "it honest?",
    choices=("below 1", "above 1"),
    right="above 1",
    verdict=_honest,
    explanation="It is too sure of itself. T above 1 makes the answer softer and lowers the "
    "largest probability; which symbol is largest stays the same, so it is right as "
    "often as before.",
    hints=(
        "Should the largest probability go up or down?",
        "Dividing logits by T > 1 brings them closer together.",
    ),
)


def _best(measured: Any) -> tuple[str, str]:
    best = number(measured, "The best T")
    choice = f"{best:g}"
    if choice not in _TEMPERATURES:
        raise Wrong(f"The best T is {choice}; the sweep has {', '.join(_TEMPERATURES)}.")
    return choice, (
        f"In this sweep T = {choice} gives the best student. Other steps, another α or another "
        "seed can give another T: compare the differences with those between seeds."
    )


_TEMPERATURES = ("1", "2", "4", "10")

q5 = Prediction(
    "02.q5",
    prompt="The same student is trained at four temperatures, with T², all else equal. Which T "
    "gives the best student?",
    choices=_TEMPERATURES,
    right="1",
    verdict=_best,
    explanation="In a short training, some 400 steps, T = 1. The student is judged at T = 1, by "
    "the residues that occur, and there the soft loss is about these: q − p is large where a "
    "probability is. A high T asks for all 21 logits alike, those of residues that never occur "
    "too, and that takes longer to learn. With 1,200 steps the lead has melted, and T = 2 is level "
    "with T = 1. A high T helps where the teacher is nearly certain and its dark knowledge hides "
    "in tiny probabilities; this teacher is not so certain.",
    hints=(
        "The student is judged at T = 1, by its perplexity.",
        "A high T asks the student to match all 21 logits alike, those of residues that never "
        "occur too. A low T asks for the likely ones.",
    ),
)

QUESTIONS = (q1, q2, q3, q4, q5)
