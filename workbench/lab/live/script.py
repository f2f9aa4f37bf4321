"""A run of the Lab as Python source that repeats it."""

from __future__ import annotations

from typing import Any

from workbench.events import END, WEIGHT
from workbench.lab.live.engine import Course
from workbench.lab.live.knobs import LIVE, ON_RESET, Settings


def source(settings: Settings, course: Course | None) -> str:
    """Source of a script: the present run with what was changed by hand, or the next run.

    Args:
        settings: of the panel.
        course: the present run; None before the first, number 0 a stored one.
    """
    if course is None or course.number == 0:
        given: dict[str, Any] = dict(settings.given)
        options = {n: v for n, v in given.items() if not n.startswith(WEIGHT)}
        weights = {n.removeprefix(WEIGHT): v for n, v in given.items() if n.startswith(WEIGHT)}
    else:
        # All of it: what a recipe says may change, what was run did not.
        config = course.config.to_json()
        options = {n: config[n] for n in (*LIVE, *ON_RESET) if config[n] != ""}
        weights = config["weights"]
    options |= {n: v for n, v in settings.options.items() if v is not None}
    if weights:
        options["weights"] = weights
    lines = [f"    {settings.recipe!r},", *(f"    {n}={v!r}," for n, v in options.items())]
    happened = [] if course is None or not course.number else _happened(course)
    if happened:
        lines.append("    events=[  # changed by hand, or ended before the last step")
        lines += [f"        {event!r}," for event in happened]
        lines.append("    ],")
    body = "\n".join(lines).replace("'", '"') if not _has_quotes(lines) else "\n".join(lines)
    return (
        "import workbench\n\n"
        f"results = workbench.distill(\n{body}\n)\n"
        "print(workbench.table(results))\n"
    )


def _happened(course: Course) -> list[dict[str, Any]]:
    """What was changed on the way, and where the run ended if that was no longer worth a step."""
    found = [{"step": e.step, "name": e.name, "new": e.new} for e in course.changes]
    taken = course.results["steps"] if course.results else course.config.steps
    if taken < course.config.steps and not any(event["name"] == END for event in found):
        found.append({"step": taken, "name": END, "new": "no longer gets better"})
    return found


def _has_quotes(lines: list[str]) -> bool:
    return any('"' in line or "\\" in line for line in lines)
