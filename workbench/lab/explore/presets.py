"""What the explorer shows, as one short string, and eight such strings that tell a story.

    T=10;alpha=0.1;T2=off;protein=3;position=14

A lecturer puts it in a cell or a link. Only what differs from the defaults has to be
written; what is written by `format_state`, here or in the browser, can be read by both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from workbench.errors import UsageError
from workbench.losses import Direction, Reduction
from workbench.worlds.proteins import AMINO_ACIDS

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 50.0
#: Largest logit, up or down, that can be set by hand.
LARGEST_LOGIT = 100.0
#: Proteins of the world that have a number; a number is the seed it is drawn with.
PROTEINS = 1_000_000
#: Shown first: the label is L, but truth and teacher think more of M.
FIRST_POSITION = 24
DIGITS = 4

#: Logits set by hand: (index in the vocabulary, value), ascending.
Edits = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class State:
    """Everything that can be chosen in the explorer.

    Attributes:
        temperature: T of the soft loss.
        alpha: weight of the labels.
        temperature_squared: whether the soft loss is multiplied by T².
        direction: see `losses.soft_divergence`.
        reduction: of the soft loss, see `losses.reduce`.
        protein: number of a protein of the world, unless there is a typed sequence.
        sequence: typed amino acids; empty for a protein of the world.
        position: whose symbol is predicted, counted from 1; the last is the end. 0 stands
            for `FIRST_POSITION`, or the end where the sequence is shorter.
        teacher: teacher's logits set by hand at this position.
        student: the student's.
    """

    temperature: float = 2.0
    alpha: float = 0.5
    temperature_squared: bool = True
    direction: Direction = "forward"
    reduction: Reduction = "token-mean"
    protein: int = 0
    sequence: str = ""
    position: int = 0
    teacher: Edits = ()
    student: Edits = ()

    @property
    def source(self) -> str:
        """The example alone, as a state string."""
        return f"sequence={self.sequence}" if self.sequence else f"protein={self.protein}"


@dataclass(frozen=True)
class Preset:
    """A state with a name and what to see in it.

    Attributes:
        name: short, for a menu.
        state: as a string, without an example.
        story: a sentence or two.
    """

    name: str
    state: str
    story: str


PRESETS = (
    Preset(
        "as published: T = 10, no T²",
        "T=10;alpha=0.1;T2=off",
        "The protgpt2-distilled cards give the teacher nine tenths of the loss. Without T² the "
        "gradient of the soft part shrinks with T, and the labels do most of the teaching.",
    ),
    Preset(
        "corrected: T = 10 with T²",
        "T=10;alpha=0.1",
        "The same T and α, times T². The factor gives the soft gradient back what dividing the "
        "logits by T took away: now the teacher teaches.",
    ),
    Preset(
        "labels only",
        "alpha=1",
        "α = 1: ordinary training. One letter is right and the other twenty are equally wrong, "
        "whatever the teacher knows about them.",
    ),
    Preset(
        "teacher only",
        "alpha=0",
        "α = 0: the label is not looked at. Where the teacher is wrong, the student learns that.",
    ),
    Preset(
        "T too high",
        "T=50;alpha=0.1",
        "At T = 50 every answer looks the same: perplexity comes close to the size of the "
        "vocabulary. With T² the student is left to match logits, unlikely letters included.",
    ),
    Preset(
        "T too low: nearly one-hot",
        "T=0.25;alpha=0.1",
        "At T = 0.25 the teacher's favourite takes nearly everything. What it knew about the "
        "other letters is gone, and its answer is one more label.",
    ),
    Preset(
        "batchmean by accident",
        "T=10;alpha=0.1;T2=off;reduction=batchmean",
        "KLDivLoss('batchmean') on [batch, length, vocabulary] divides by sequences only, so the "
        "soft loss counts once for every token of a sequence; here that hides the missing T².",
    ),
    Preset(
        "reverse KL picks one mode",
        "T=1;alpha=0;direction=reverse;teacher=9:8,15:8;student=9:8",
        "The teacher, set by hand, finds L and S equally good; the student knows only L. Reverse "
        "KL hardly asks for S. Switch to forward: S is pulled up as hard as L is pushed down.",
    ),
)


def parse_state(text: str) -> State:
    """Read a state string; parts that are left out have their defaults.

    Args:
        text: ``key=value`` parts with semicolons between them. The keys are T, alpha,
            T2 (on, off), direction, reduction, protein or sequence, position, and teacher
            and student for logits set by hand: ``teacher=3:2.5,7:-1``.

    Raises:
        UsageError: naming the first part that is unknown or wrong.
    """
    if not isinstance(text, str):
        raise UsageError(
            f"the state is {_quoted(text)}; expected a text such as T=10;alpha=0.1, or an empty one"
        )
    found: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UsageError(f"{_quoted(part)} is no part of a state; expected such as T=10")
        if key not in _KEYS:
            raise UsageError(
                f"{_quoted(key)} is no key of a state; expected one of {', '.join(_KEYS)}"
            )
        name, read, _ = _KEYS[key]
        if name in found:
            raise UsageError(f"{key} is given twice in {_quoted(text)}; give it once")
        found[name] = read(key, value)
    if "protein" in found and "sequence" in found:
        raise UsageError("both protein and sequence are given; leave one of them out")
    return State(**found)


def format_state(state: State) -> str:
    """The shortest string that `parse_state` reads as this state."""
    defaults = State()
    names = {name: (key, write) for key, (name, _, write) in _KEYS.items()}
    parts = []
    for field in fields(State):
        value = getattr(state, field.name)
        if value != getattr(defaults, field.name):
            key, write = names[field.name]
            parts.append(f"{key}={write(value)}")
    return ";".join(parts)


def change_state(state: State, changes: Mapping[str, Any]) -> State:
    """The state with some parts changed.

    Another example begins at its default position, without logits set by hand; so does
    another position, without these.

    Args:
        state: to start from.
        changes: by the keys of a state string; T2 may be a bool, and teacher and student
            ``{index: value}``.

    Raises:
        UsageError: naming the first that is unknown or wrong.
    """
    unknown = sorted(set(changes) - set(_KEYS))
    if unknown:
        raise UsageError(f"there is no part {unknown[0]}; expected one of {', '.join(_KEYS)}")
    if "protein" in changes and "sequence" in changes:
        raise UsageError("both protein and sequence are given; leave one of them out")
    wanted = {_KEYS[k][0]: _KEYS[k][1](k, _as_text(v)) for k, v in changes.items()}
    if "protein" in changes or "sequence" in changes:
        state = replace(state, protein=0, sequence="", position=0, teacher=(), student=())
    elif "position" in changes:
        state = replace(state, teacher=(), student=())
    return replace(state, **wanted)


# ---------------------------------------------------------------------- values


def check_sequence(sequence: str, longest: int | None = None) -> str:
    """A sequence in capitals.

    Args:
        sequence: amino acids in one-letter code.
        longest: most letters that the models can read.

    Raises:
        UsageError: if it is empty, too long or holds another letter.
    """
    letters = "".join(sequence.split()).upper()
    if not letters:
        raise UsageError("the sequence is empty; expected amino acids, such as MKRILV")
    for place, letter in enumerate(letters, start=1):
        if letter not in AMINO_ACIDS:
            raise UsageError(
                f"letter {place} of the sequence is {_quoted(letter)}; expected amino acids, "
                f"{AMINO_ACIDS}"
            )
    if longest is not None and len(letters) > longest:
        raise UsageError(
            f"the sequence has {len(letters)} letters; expected at most {longest}, as many as the "
            "models read"
        )
    return letters


def _number(key: str, value: str, low: float, high: float, example: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", value, re.ASCII | re.IGNORECASE):
        raise UsageError(
            f"{key} is {_quoted(value)}; expected a number from {low:g} to {high:g}, such as "
            f"{example}"
        )
    number = round(float(value), DIGITS)
    if not low <= number <= high:
        raise UsageError(
            f"{key} is {_quoted(value)}; expected {low:g} to {high:g}, such as {example}"
        )
    return number + 0.0  # -0 becomes 0


def _temperature(key: str, value: str) -> float:
    return _number(key, value, LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE, "T=10")


def _alpha(key: str, value: str) -> float:
    return _number(key, value, 0.0, 1.0, "alpha=0.1 (0 is teacher only, 1 labels only)")


def _on_off(key: str, value: str) -> bool:
    if value not in ("on", "off"):
        raise UsageError(f"{key} is {_quoted(value)}; expected on or off")
    return value == "on"


def _one_of(names: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(key: str, value: str) -> str:
        if value not in names:
            raise UsageError(f"{key} is {_quoted(value)}; expected one of {', '.join(names)}")
        return value

    return read


def _whole(low: int, high: int) -> Callable[[str, str], int]:
    def read(key: str, value: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not low <= int(value) <= high:
            raise UsageError(
                f"{key} is {_quoted(value)}; expected a whole number from {low} to {high}"
            )
        return int(value)

    return read


def _sequence(_key: str, value: str) -> str:
    return check_sequence(value)


def _edits(key: str, value: str) -> Edits:
    found: dict[int, float] = {}
    for pair in filter(None, value.split(",")):
        index, _, logit = (piece.strip() for piece in pair.partition(":"))
        if not re.fullmatch(r"\d{1,6}", index, re.ASCII):
            raise UsageError(
                f"{_quoted(pair)} in {key} is no logit; expected index:value, such as {key}=3:2.5"
            )
        if int(index) in found:
            raise UsageError(f"{key} sets the logit {int(index)} twice; set it once")
        name = f"the logit {int(index)} in {key}"
        found[int(index)] = _number(name, logit, -LARGEST_LOGIT, LARGEST_LOGIT, f"{key}=3:2.5")
    return tuple(sorted(found.items()))


def _as_text(value: Any) -> str:
    """A value from Python as it would stand in a string."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ",".join(f"{index}:{logit}" for index, logit in value.items())
    return str(value).strip()


def _plain(number: float) -> str:
    """A number without exponent or trailing zeros, as JavaScript writes it too."""
    text = f"{number:.{DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _written_edits(edits: Edits) -> str:
    return ",".join(f"{index}:{_plain(value)}" for index, value in edits)


#: key: (name in `State`, how it is read, how it is written)
_KEYS: dict[str, tuple[str, Callable[[str, str], Any], Callable[[Any], str]]] = {
    "T": ("temperature", _temperature, _plain),
    "alpha": ("alpha", _alpha, _plain),
    "T2": ("temperature_squared", _on_off, lambda on: "on" if on else "off"),
    "direction": ("direction", _one_of(get_args(Direction)), str),
    "reduction": ("reduction", _one_of(get_args(Reduction)), str),
    "protein": ("protein", _whole(0, PROTEINS - 1), str),
    "sequence": ("sequence", _sequence, str),
    "position": ("position", _whole(1, 99_999), str),
    "teacher": ("teacher", _edits, _written_edits),
    "student": ("student", _edits, _written_edits),
}


def _quoted(value: object) -> str:
    """What was given, on one line and not longer than a line bears."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    text = text if len(text) <= 40 else f"{text[:39]}…"
    return text or "empty"
