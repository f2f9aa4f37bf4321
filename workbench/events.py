"""Changes made by hand during a run: what events.jsonl holds, and what of it still counts.

The file only ever grows, so it tells the whole story. A run that was taken back to an earlier
step has forgotten what was done after it; `effective` leaves that out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench import losses, storage
from workbench.errors import UsageError, WorkbenchError

#: The run was taken back: from step ``old`` to step ``new``, which is also its ``step``.
REWIND = "rewind"
#: The run was ended before its last step; ``new`` is the reason, in words.
END = "end"
#: Before the name of a term: its weight.
WEIGHT = "weight."
#: What can be changed while a student learns, besides the weights of terms.
KNOBS = ("temperature", "alpha", "learning_rate")


@dataclass(frozen=True)
class Event:
    """One change.

    Attributes:
        step: steps taken when it was made; it applies from the next one.
        name: a knob ("temperature", "alpha", "learning_rate", "weight.hidden" …), "rewind" or
            "end".
        old: value before; None where there was none.
        new: value after.
    """

    step: int
    name: str
    old: float | str | None
    new: float | str | None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, a line of events.jsonl."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Event:
        """From `to_json`; "old" may be missing.

        Raises:
            UsageError: if the values make no event.
        """
        try:
            event = cls(values["step"], values["name"], values.get("old"), values["new"])
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"{values!r} is no event; expected step, name and new, such as "
                '{"step": 100, "name": "temperature", "new": 4}'
            ) from error
        event.check()
        return event

    def check(self) -> None:
        """Raise UsageError unless it can be carried out, as far as it shows by itself."""
        if isinstance(self.step, bool) or not isinstance(self.step, int) or self.step < 0:
            raise UsageError(f"the step of an event is {self.step!r}; expected 0 or more")
        if self.name == END:
            return
        if self.name != REWIND:
            check_value(self.name, self.new)
        elif isinstance(self.new, bool) or not isinstance(self.new, int) or self.new < 0:
            raise UsageError(f"a run cannot go back to step {self.new!r}")


def check_value(name: str, value: object) -> None:
    """Raise UsageError unless a knob of this name can have this value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{name} is {value!r}; expected a finite number")
    try:
        if name == "temperature":
            losses.check_temperature(value)
        elif name == "alpha":
            losses.check_alpha(value)
        elif name == "learning_rate":
            if value <= 0:
                raise ValueError(f"learning_rate is {value}; expected a finite number above 0")
        elif name.startswith(WEIGHT):
            if value < 0:
                raise ValueError(f"the weight of {name.removeprefix(WEIGHT)} is {value}; "
                                 "expected 0 or more")  # fmt: skip
        else:
            raise ValueError(
                f"{name} cannot be changed during a run; expected {', '.join(KNOBS)} or weight.TERM"
            )
    except ValueError as error:
        raise UsageError(str(error)) from error


def effective(events: Iterable[Event]) -> list[Event]:
    """The changes that made the run what it is, in their order.

    What was done at or after a step to which the run went back is left out, and so are the
    rewinds themselves.
    """
    kept: list[Event] = []
    for event in events:
        if event.name == REWIND:
            kept = [e for e in kept if e.step < event.new]
        else:
            kept.append(event)
    return kept


def read(path: Path) -> list[Event]:
    """All whole lines of an events.jsonl, also while it is being written; none without a file.

    Raises:
        WorkbenchError: if a line is damaged.
    """
    if not path.exists():
        return []
    found = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break
        try:
            found.append(Event.from_json(json.loads(line)))
        except (ValueError, UsageError) as error:
            raise WorkbenchError(f"line {number} of {path} is damaged: {error}") from error
    return found


def append(path: Path, event: Event) -> None:
    """Add an event to a file."""
    storage.append_line(path, event.to_json())


def scheduled(events: Sequence[Event | dict[str, Any]]) -> list[Event]:
    """Events given beforehand, in the order in which they will happen.

    Raises:
        UsageError: if one cannot be carried out.
    """
    read_in = [Event.from_json(e) if isinstance(e, dict) else e for e in events]
    for event in read_in:
        event.check()
    return sorted(effective(read_in), key=lambda event: event.step)
