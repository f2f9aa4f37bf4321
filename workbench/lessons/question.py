"""A question of the course: predict, check, hint, solution.

Whatever a learner writes, `check` answers in one line and raises nothing. It
keeps *not attempted* apart from *wrong*: a cell that still holds its ``...`` is
no mistake, and a notebook runs from top to bottom before anything is solved.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["correct", "wrong", "not attempted", "noted"]

# Okabe & Ito's colours; the sign and the word say the same a second and a third time.
_LOOKS = {
    "correct": ("✓", "Correct.", "#009E73"),
    "wrong": ("✗", "Not right.", "#D55E00"),
    "not attempted": ("–", "Not attempted.", "#808080"),
    "noted": ("•", "Noted.", "#0072B2"),
}
_NOTE_COLOUR = "#0072B2"


@dataclass(frozen=True)
class Outcome:
    """What `check` or `predict` has to say.

    Attributes:
        state: "correct", "wrong" or "not attempted"; "noted" for a stored prediction.
        text: one line.
        details: more lines, such as numbers to compare; usually empty.
    """

    state: State
    text: str
    details: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", " ".join(self.text.split()))

    def __repr__(self) -> str:
        sign, word, _ = _LOOKS[self.state]
        return "\n".join(part for part in (f"{sign} {word} {self.text}", self.details) if part)

    def _repr_html_(self) -> str:
        sign, word, colour = _LOOKS[self.state]
        return _box(
            colour,
            f'<span aria-hidden="true" style="color:{colour};font-weight:700">{sign}</span> '
            f"<strong>{word}</strong> {_inline(self.text)}",
            self.details,
        )


@dataclass(frozen=True)
class Note:
    """A question, a hint or a solution on the screen.

    Attributes:
        title: what it is.
        text: prose; blank lines part paragraphs.
        code: Python, or empty.
    """

    title: str
    text: str
    code: str = ""

    def __repr__(self) -> str:
        return "\n".join(part for part in (f"{self.title}: {self.text}", self.code) if part)

    def _repr_html_(self) -> str:
        return _box(_NOTE_COLOUR, f"<strong>{_inline(self.title)}.</strong> {_inline(self.text)}",
                    self.code)  # fmt: skip


class Wrong(Exception):
    """A judge's way to say *wrong* from any depth: the message is what the learner reads."""


class NotAttempted(Exception):
    """A judge's way to say *not attempted* from any depth."""


class Question:
    """What all questions share: the texts, and the cell before and after.

    Args:
        id: notebook and question, such as "01.q2".
        prompt: the question, one or two sentences.
        starter: source of the notebook's cell before anything is written.
        answer: source of the cell when it is solved.
        explanation: why that is the answer.
        hints: from a nudge to nearly all of it.
    """

    def __init__(
        self,
        id: str,
        *,
        prompt: str,
        starter: str,
        answer: str,
        explanation: str,
        hints: Sequence[str],
    ) -> None:
        self.id = id
        self.prompt = prompt
        self.starter = starter
        self.answer = answer
        self.explanation = explanation
        self.hints = tuple(hints)

    @property
    def name(self) -> str:
        """The variable's name in the notebook: "q2"."""
        return self.id.split(".")[1]

    def predict(self, guess: Any = None) -> Outcome:
        """Only predictions have this; other questions say what to do instead."""
        return Outcome(
            "not attempted", f"{self.name} asks for no prediction; fill in its cell and run it."
        )

    def check(self, given: Any = ...) -> Outcome:
        """Judge what the learner gives; never raises because of it."""
        raise NotImplementedError

    def hint(self, number: int = 1) -> Note:
        """Hint ``number``, counted from 1; says how many there are."""
        total = len(self.hints)
        title = f"{self.name}, hints"
        if not isinstance(number, int) or not 1 <= number <= total:
            calls = ", ".join(f"`{self.name}.hint({i})`" for i in range(1, total + 1))
            count = "There is one" if total == 1 else f"There are {total}"
            return Note(title, f"There is no hint {_short(number)}. {count}: {calls}.")
        rest = (
            f" (Next: `{self.name}.hint({number + 1})`.)"
            if number < total
            else f" (That was the last; then there is `{self.name}.solution()`.)"
        )
        return Note(f"{self.name}, hint {number} of {total}", self.hints[number - 1] + rest)

    def solution(self) -> Note:
        """The solved cell and why it is right."""
        return Note(f"{self.name}, solution", self.explanation, self.answer)

    def __repr__(self) -> str:
        return repr(Note(self.name, self.prompt))

    def _repr_html_(self) -> str:
        return Note(self.name, self.prompt)._repr_html_()


class Exercise(Question):
    """A question answered by a value or a function.

    Args:
        judge: from what the learner gave (never a placeholder) to an outcome; may raise
            `Wrong`, `NotAttempted`, or anything that the learner's code raises.
        rest: as for `Question`.
    """

    def __init__(self, id: str, *, judge: Callable[[Any], Outcome], **rest: Any) -> None:
        super().__init__(id, **rest)
        self._judge = judge

    def check(self, given: Any = ...) -> Outcome:
        """Correct, wrong with the reason, or not attempted."""
        if is_placeholder(given):
            return Outcome("not attempted", f"Replace the `...`; `{self.name}.hint()` helps.")
        try:
            return self._judge(given)
        except NotAttempted as line:
            return Outcome("not attempted", str(line))
        except Wrong as line:
            return Outcome("wrong", str(line))
        except (Exception, SystemExit) as error:
            return Outcome("wrong", f"Your code raised {_named(error)}")


class Prediction(Question):
    """A guess before the measurement.

    Args:
        choices: what can be guessed.
        right: the choice that is expected; the solved cell predicts it.
        verdict: from the measured result to the choice that it supports and a sentence
            with the number. May raise `Wrong` for a result that is none.
        rest: as for `Question`, without the cells.
    """

    def __init__(
        self,
        id: str,
        *,
        choices: Sequence[str],
        right: str,
        verdict: Callable[[Any], tuple[str, str]],
        **rest: Any,
    ) -> None:
        name = id.split(".")[1]
        super().__init__(
            id,
            starter=f"# {_listed(choices)}\n{name}.predict(...)",
            answer=f'{name}.predict("{right}")',
            **rest,
        )
        self.choices = tuple(choices)
        self._verdict = verdict
        self._guess: str | None = None

    def predict(self, guess: Any = None) -> Outcome:
        """Store a guess; without one, list the choices. ``...`` takes an earlier guess back."""
        if guess is None or guess is ...:
            self._guess = self._guess if guess is None else None
            return Outcome("not attempted", f"Choose one: {_listed(self.choices)}.")
        known = {_plain(choice): choice for choice in self.choices}
        try:
            self._guess = known[_plain(guess)]
        except Exception:
            # Not a choice, or nothing that can be compared with one.
            return Outcome(
                "not attempted", f"{_short(guess)} is not a choice; {_listed(self.choices)}."
            )
        return Outcome("noted", f'You predict "{self._guess}". Now measure, and see.')

    def check(self, given: Any = ...) -> Outcome:
        """Guess against the measured result."""
        if self._guess is None:
            return Outcome(
                "not attempted", f"Predict first: `{self.name}.predict(...)` with one of "
                f"{_listed(self.choices)}."
            )  # fmt: skip
        if is_placeholder(given):
            return Outcome("not attempted", f'You predict "{self._guess}". Now measure it.')
        try:
            truth, sentence = self._verdict(given)
        except Wrong as line:
            return Outcome("wrong", str(line))
        except (Exception, SystemExit) as error:
            return Outcome("wrong", f"The result cannot be read: {_named(error)}")
        if truth == self._guess:
            return Outcome("correct", f'You predicted "{self._guess}", and so it is. {sentence}')
        return Outcome(
            "wrong", f'You predicted "{self._guess}"; measured is "{truth}". {sentence}'
        )  # fmt: skip


# ---------------------------------------------------------------------- what judges share


def is_placeholder(given: Any) -> bool:
    """True for ``...`` and None: nothing was written yet."""
    return given is ... or given is None


def call(function: Callable, *arguments: Any) -> Any:
    """Call a learner's function.

    Raises:
        Wrong: if it is no function, or raises; with type and message in one line.
        NotAttempted: if it returns ``...`` or None, or raises NotImplementedError.
    """
    if not callable(function):
        raise Wrong(
            f"The function itself is wanted, without a call; given was {_article(function)}."
        )
    name = getattr(function, "__name__", "the function")
    try:
        result = function(*arguments)
    except NotImplementedError:
        raise NotAttempted(f"`{name}` is not written yet.") from None
    except (Exception, SystemExit) as error:
        raise Wrong(f"`{name}` raised {_named(error)}") from error
    if is_placeholder(result):
        raise NotAttempted(
            f"`{name}` returns {result}: it is not written yet, or its `return` is missing."
        )
    return result


def number(given: Any, what: str) -> float:
    """A finite float from whatever has one value; raises `Wrong` with a clear line otherwise."""
    value = math.nan
    if isinstance(given, bool | str | bytes) or not hasattr(given, "__float__"):
        raise Wrong(f"{what} should be a number; given was {_article(given)}.")
    try:
        value = float(given.item() if hasattr(given, "item") else given)
    except Exception:
        raise Wrong(f"{what} should be one number; given was {_article(given)}.") from None
    if not math.isfinite(value):
        raise Wrong(f"{what} is {value}; a finite number was expected.")
    return value


def judge_number(
    what: str,
    expected: float,
    *,
    right: str,
    near: Sequence[tuple[float, str]] = (),
    otherwise: str = "",
    tolerance: float = 5e-3,
) -> Callable[[Any], Outcome]:
    """A judge for one number.

    Args:
        what: the variable's name.
        expected: the right value.
        right: what to say then.
        near: well-known wrong values and what each of them means.
        otherwise: what to say of all others, after the given value.
        tolerance: relative; wide enough for a rounded answer.
    """

    def judge(given: Any) -> Outcome:
        value = number(given, f"`{what}`")
        if math.isclose(value, expected, rel_tol=tolerance):
            return Outcome("correct", right)
        for wrong, meaning in near:
            if math.isclose(value, wrong, rel_tol=tolerance, abs_tol=1e-9):
                raise Wrong(meaning)
        raise Wrong(f"`{what}` is {value:.6g}. {otherwise}")

    return judge


# ---------------------------------------------------------------------- words


def _named(error: BaseException) -> str:
    message = " ".join(str(error).split())
    if len(message) > 300:
        message = message[:300] + " …"
    return f"{type(error).__name__}: {message}" if message else f"{type(error).__name__}."


def _article(given: Any) -> str:
    kind = type(given).__name__
    shape = getattr(given, "shape", None)
    if shape is not None:
        return f"a {kind} of shape {list(shape)}"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}, {_short(given)}"


def _short(given: Any) -> str:
    try:
        text = " ".join(repr(given).split())
    except Exception:
        text = f"<{type(given).__name__}>"
    return text if len(text) <= 60 else text[:60] + " …"


def _listed(choices: Sequence[str]) -> str:
    quoted = [f'"{choice}"' for choice in choices]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _plain(choice: Any) -> str:
    if isinstance(choice, str):
        return "".join(choice.split()).casefold()
    return f"{float(choice):g}"


def _inline(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", _escape(text))


def _escape(text: str) -> str:
    return html.escape("".join(c if c.isprintable() or c == "\n" else " " for c in text))


def _box(colour: str, content: str, code: str) -> str:
    # No colour of its own for text or paper: it reads in a light and in a dark theme.
    block = (
        '<pre style="margin:6px 0 0;padding:0;background:transparent;color:inherit;'
        f'white-space:pre-wrap">{_escape(code)}</pre>'
        if code
        else ""
    )
    return (
        f'<div style="border-left:4px solid {colour};padding:4px 0 4px 12px;line-height:1.45;'
        f'color:var(--jp-ui-font-color1, currentColor)">{content}{block}</div>'
    )
