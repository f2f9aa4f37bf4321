"""What the panel's front end is told: what can be done, what waits, the chosen example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.lab.live.controls import Question
from workbench.lab.live.engine import Course, Moment
from workbench.lab.live.knobs import ON_RESET

#: So many words of a large vocabulary are drawn one by one.
SHOWN_WORDS = 12
IMPOSSIBLE = -1e30
#: What can be done in each state, where nothing else forbids it.
_ALLOWED = {
    "new": ("play", "step", "steps", "seeds", "reset"),
    "preparing": ("pause", "reset"),
    "running": ("pause", "reset", "pin"),
    "paused": ("play", "step", "steps", "rewind", "branch", "reset", "pin", "seeds"),
    "finishing": (),
    "done": ("play", "step", "steps", "rewind", "branch", "reset", "pin", "seeds"),
    "failed": ("rewind", "reset"),
    "following": (),
    "closed": (),
}
_BEGINS = {"play", "step", "steps", "seeds"}


def allowed(now: Moment, asked: bool) -> list[str]:
    """Commands that can be given.

    Args:
        now: how things stand.
        asked: whether a question waits for its answer.
    """
    found = [*_ALLOWED[now.state]]
    if not now.kept:
        found = [c for c in found if c not in ("rewind", "branch")]
    if now.course is None:
        found = [c for c in found if c != "pin"]
    if asked:
        found = [c for c in found if c not in _BEGINS]
    return found


def told(question: Question | None, now: Moment, answer: str | None) -> str:
    """What became of the prediction."""
    # A stored run answers nothing: it is not the one that was asked about.
    results = now.course.results if now.course and now.course.number > 0 else None
    if question is None or answer is None or results is None:
        return ""
    measured = question.measured(results)
    right = "as you said" if measured == answer else f"you said: {answer}"
    return f"{question.text} Measured: {measured} ({right})."


def pending(values: Mapping[str, Any], course: Course | None, now: Moment) -> list[str]:
    """Names of knobs that stand otherwise than the present run was begun with."""
    if course is None or now.state in ("new", "closed", "following"):
        return []
    return [n for n in ON_RESET if n != "seed" and values[n] != getattr(course.config, n)] + (
        ["seed"] if values["seed"] != course.config.seed and now.state != "done" else []
    )


def example(look: Any) -> tuple[dict[str, Any], bytes]:
    """The chosen example for the front end: words, rows, and their numbers as float32."""
    probe, rows = look.probe, {}
    if probe.oracle is not None:
        with np.errstate(divide="ignore"):
            rows["oracle"] = np.maximum(np.log(probe.oracle), IMPOSSIBLE)
    rows |= look.logits
    count = len(probe.words)
    order = np.argsort(-np.asarray(rows.get("oracle", rows["teacher"])), kind="stable")
    if count > SHOWN_WORDS + 14:
        likely = [int(i) for i in order[:SHOWN_WORDS]]
        # What the teacher believes in belongs beside it, true or not.
        likely += [int(i) for i in np.argsort(-rows["teacher"], kind="stable")[:SHOWN_WORDS]
                   if int(i) not in likely]  # fmt: skip
        shown = likely[:SHOWN_WORDS]
    else:
        shown = [int(i) for i in order]
    drawn = {
        "title": probe.title, "text": probe.text, "words": list(probe.words), "shown": shown,
        "rest": probe.rest if len(shown) < count else None, "rows": list(rows),
        "label": probe.label,
    }  # fmt: skip
    stacked = np.stack([np.asarray(r, dtype=np.float32) for r in rows.values()])
    return drawn, stacked.astype("<f4").tobytes()


def megabytes() -> float:
    """Resident memory of this process, MiB."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20
