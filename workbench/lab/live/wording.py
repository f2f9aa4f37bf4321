"""What the Lab says and draws besides its controls: pure functions from a moment to HTML text.

Everything is escaped here, once; the front end puts these texts in place as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from workbench import layer_maps, recipes, student_size
from workbench.comparisons import verdicts
from workbench.comparisons.headline import Headline
from workbench.comparisons.verdicts import Verdict
from workbench.config import RunConfig
from workbench.events import WEIGHT
from workbench.lab.live.engine import Course, Moment
from workbench.lab.live.knobs import SHORT
from workbench.lab.svg import Band, Ghost, escape, learning_chart
from workbench.plots import COLOURS
from workbench.records import hub

#: Fields of a configuration that may tell two runs apart, in the order of the words.
TOLD = (
    "variant", "temperature", "alpha", "learning_rate", "size", "init", "data", "teacher", "steps",
    "batch_size", "match", "train_sequences", "seed",
)  # fmt: skip
_TRACK = (
    "display:block;width:160px;max-width:22vw;height:12px;border:1px solid currentColor;"
    "border-radius:3px;overflow:hidden"
)
_TABLE = 'style="border-collapse:collapse;font-variant-numeric:tabular-nums"'
_CAPTION = 'style="text-align:left;font-weight:700;padding:6px 0;white-space:nowrap"'
_CELL = 'style="text-align:right;padding:3px 12px 3px 0;white-space:nowrap"'
_HEAD = 'style="text-align:left;padding:3px 12px 3px 0;font-weight:400;white-space:nowrap"'


def status(now: Moment, steps: int, words: str) -> tuple[str, str]:
    """Title and sentence of the status line, as plain text.

    Args:
        now: what is shown.
        steps: of the next run.
        words: the settings of the run, such as ``T = 10, α = 0.1``.
    """
    if now.state == "preparing":
        return "Preparing", f"{now.stage} …" if now.stage else "…"
    if now.state == "running":
        return "Training", f"with {words}."
    if now.state == "paused":
        return "Paused", f"{now.reason}." if now.reason else ""
    if now.state == "finishing":
        return "Trained", f"{_capital(now.reason)}. Now {now.stage or 'measuring'} …"
    if now.state == "done":
        return "Done", f"{_capital(now.reason)}."
    if now.state == "failed":
        return "Error", now.error
    if now.state == "following":
        return "Following", now.reason
    if now.state == "closed":
        return "Closed", "Run the cell again for a new panel."
    return "Ready", f"Press Play: a student learns for {steps:,} steps."


def numbers(now: Moment, headline: Headline, megabytes: float) -> str:
    """Step, loss, headline, fidelity, speed, time left and memory, in one line."""
    lines = now.course.lines if now.course else ()
    last = next((x for x in reversed(lines) if "student" in x), None)
    measured = next((x["validation"] for x in reversed(lines) if "validation" in x), None)
    found: list[tuple[str, str]] = []
    if now.course:
        found.append(("step", f"{now.step:,} of {now.course.config.steps:,}"))
    if last:
        found.append(("loss", _number(last["student"].get("total"))))
    if measured:
        student = measured["student"]
        found.append((headline.name, headline.write(student[headline.key])))
        found.append(("KL to teacher", _number(student.get("kl_to_teacher"))))
        found.append(("agreement", _number(student.get("agreement"))))
    if last:
        found.append(("tokens/s", f"{last['tokens_per_second']:,.0f}"))
    if now.state == "running":
        found.append(("time left", _duration(now.seconds_left)))
    if megabytes:
        found.append(("memory", f"{megabytes:,.0f} MB"))
    return escape(" · ".join(f"{name} {value}" for name, value in found))


def curves(now: Moment, pins: Sequence[Course], headline: Headline) -> str:
    """The learning curves: the present run, pinned ones, and bands of several seeds."""
    course = now.course
    ghosts = [
        Ghost(f"{difference(pin, course)}: {_reached(pin, headline)}",
              pin.points("student", headline.key))
        for pin in pins if pin is not course
    ]  # fmt: skip
    known = dict(now.references)
    if course and course.results:
        for role in ("oracle", "teacher"):
            known[role] = course.results[role][headline.key]
    return learning_chart(
        student=course.points("student", headline.key) if course else (),
        baseline=course.points("baseline", headline.key) if course else (),
        ghosts=ghosts,
        bands=_bands(now, headline),
        references=known,
        steps=course.config.steps if course else 1,
        step=now.step if now.state == "running" else None,
        running=named(course.config) if course else "",
        headline=headline,
    )


def terms(now: Moment) -> str:
    """The ledger of the last logged step: each term, its weight, its course, its share."""
    lines = [x for x in (now.course.lines if now.course else ()) if x.get("ledger")]
    if not lines:
        return "<p>Whose gradient reaches the student appears here.</p>"
    last = lines[-1]["ledger"]
    rows = []
    for name, entry in last.items():
        values = [x["ledger"][name]["value"] for x in lines if name in x["ledger"]]
        share = entry["share"]
        bar = (
            f'<span role="img" aria-label="{share:.0%} of the gradient" style="{_TRACK}">'
            f'<span style="display:block;height:100%;width:{100 * share:.1f}%;'
            f'background:{COLOURS["teacher"]}"></span></span>'
        )
        rows.append(
            f'<tr><th scope="row" {_HEAD}>{escape(name)}</th>'
            f"<td {_CELL}>{escape(_number(entry['weight']))}</td>"
            f"<td {_CELL}>{escape(_number(entry['value']))}</td>"
            f'<td style="padding-right:8px">{_spark(values)}</td>'
            f"<td {_CELL}>{share:.1%}</td><td>{bar}</td></tr>"
        )
    return (
        f'<div style="overflow-x:auto"><table {_TABLE}><caption {_CAPTION}>'
        f"Whose gradient reaches the student, at step {lines[-1]['step']:,}</caption><thead><tr>"
        f'<th scope="col" {_HEAD}>term</th><th scope="col" {_CELL}>weight</th>'
        f'<th scope="col" {_CELL}>value</th><th scope="col" {_HEAD}>so far</th>'
        f'<th scope="col" {_CELL}>share</th><th scope="col"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def table(now: Moment, headline: Headline) -> str:
    """Finished runs, a line each, and what several seeds say."""
    runs = [c for c in now.earlier if c.results]
    if not runs:
        return ""
    best = headline.best([c.results["student"][headline.key] for c in runs])
    rows = "".join(_run_row(c, headline, best) for c in runs)
    heads = "".join(
        f'<th scope="col" {_CELL}>{escape(n)}</th>'
        for n in (f"student {headline.name}", "without teacher", "KL to teacher", "agreement", "s")
    )
    most = headline.better.replace("er", "est")
    said = "".join(f"<p>{escape(s)}</p>" for s in sentences(runs, headline))
    return (
        f'<div style="overflow-x:auto"><table {_TABLE}><caption {_CAPTION}>Finished runs'
        f'<span style="font-weight:400"> · the {most} {escape(headline.name)} is bold</span>'
        "</caption>"
        "<thead><tr>"
        f'<th scope="col" {_HEAD}>run</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{said}"
    )


def sentences(runs: Sequence[Course], headline: Headline) -> list[str]:
    """Verdicts, in words: of each setting with its baseline, and of settings with each other."""
    found = []
    groups = [g for g in grouped(runs) if g]
    lower = headline.better == "lower"
    for group in groups:
        student = [c.results["student"][headline.key] for c in group]
        baseline = [c.results["baseline"][headline.key] for c in group]
        if all(baseline) and all(student):
            verdict = verdicts.compare(student, baseline, lower_is_better=lower)
            found.append(
                f"{_group_name(group, runs)} against the same student without a teacher: "
                f"{_verdict_words(verdict, headline)}"
            )
    for earlier, later in pairwise(groups):
        seeds = sorted({c.config.seed for c in earlier} & {c.config.seed for c in later})
        if not seeds:
            continue
        one = {c.config.seed: c.results["student"][headline.key] for c in later}
        other = {c.config.seed: c.results["student"][headline.key] for c in earlier}
        verdict = verdicts.compare(
            [one[s] for s in seeds], [other[s] for s in seeds], lower_is_better=lower
        )
        found.append(
            f"{_group_name(later, runs)} against {_group_name(earlier, runs)}: "
            f"{_verdict_words(verdict, headline)}"
        )
    return found


def origin(config: RunConfig) -> str:
    """Which of the student's weights come from where."""
    scale = recipes.get(config.recipe).scale(config.scale)
    if hub.name(config.teacher) != scale.teacher_source and config.start != layer_maps.RANDOM:
        return (
            f"<p><strong>Student's start:</strong> {escape(config.start)}, of a teacher that is "
            "yours. The baseline has the same.</p>"
        )
    layer_map = layer_maps.parse(config.start, scale.teacher.layers)
    if layer_map is None:
        shape = student_size.resize(scale.student, config.size)
        layers = "1 layer" if shape.layers == 1 else f"{shape.layers} layers"
        return (
            f"<p><strong>Student's start:</strong> all weights random ({layers}, "
            f"{shape.width} wide), drawn from seed {config.seed}. The baseline has the same.</p>"
        )
    copies = layer_maps.copies(config.init)
    layers = ", ".join(
        f"{i} ← {'random' if layer is None or not copies else layer}"
        for i, layer in enumerate(layer_map)
    )
    head = recipes.get(config.recipe).variant(config.variant).copies_head and copies
    rest = "copied from the teacher" if copies else "random"
    return (
        f"<p><strong>Student's start</strong> ({escape(config.start)}): embeddings {rest}, head "
        f"{'copied' if head else 'random'}; the student's layers ← the teacher's: {layers}. The "
        "baseline has the same start.</p>"
    )


def formula(config: RunConfig, values: Mapping[str, Any]) -> str:
    """The loss with the knobs' numbers in it."""
    from dataclasses import replace

    objective = recipes.get(config.recipe).variant(config.variant).objective
    given = tuple((n.removeprefix(WEIGHT), v) for n, v in values.items() if n.startswith(WEIGHT))
    objective = replace(objective, given=given)
    text = objective.formula(values["temperature"], values["alpha"])
    return f"<p>{escape(text)}</p>"


# ---------------------------------------------------------------------- names of runs


def named(config: RunConfig) -> str:
    """Such as ``T=10 α=0.1 corrected``, and a size or start that is not the recipe's."""
    words = [f"T={config.temperature:g}", f"α={config.alpha:.3g}", config.variant]
    if config.size:
        words.append(f"size={config.size}")
    if config.init != recipes.get(config.recipe).init:
        words.append(f"init={config.init}")
    return " ".join(words)


def difference(run: Course, other: Course | None) -> str:
    """What is different about a run, seen from another, in a few words."""
    if other is None:
        return named(run.config)
    words = [
        f"{_short(name)}={_plain(getattr(run.config, name))}"
        for name in TOLD
        if getattr(run.config, name) != getattr(other.config, name)
    ]
    mine, theirs = (run.config.weights or {}), (other.config.weights or {})
    words += [
        f"{name} {_plain(mine.get(name, 'as the recipe'))}"
        for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)
    ]  # fmt: skip
    if run.changes != other.changes:
        words.append("steered" if run.changes else "not steered")
    return " ".join(words) or "the same settings"


def grouped(runs: Iterable[Course]) -> list[list[Course]]:
    """Runs that differ in nothing but the seed, in the order of their first ones."""
    groups: dict[Any, dict[int, Course]] = {}
    for run in runs:
        values = {k: v for k, v in run.config.to_json().items() if k != "seed"}
        key = (repr(values), repr(run.changes))
        # Of two runs with the same seed the later one: they are the same.
        groups.setdefault(key, {})[run.config.seed] = run
    return [list(group.values()) for group in groups.values()]


# ---------------------------------------------------------------------- parts


def _bands(now: Moment, headline: Headline) -> list[Band]:
    """Lowest and highest of several seeds, of the settings of the last finished run."""
    finished = [c for c in now.earlier if c.results]
    bands = []
    for group in grouped(finished)[-2:]:
        if len(group) < 2:
            continue
        found: dict[int, list[float]] = {}
        for run in group:
            for step, value in run.points("student", headline.key):
                found.setdefault(step, []).append(value)
        points = tuple(
            (step, min(v), max(v)) for step, v in sorted(found.items()) if len(v) == len(group)
        )
        bands.append(Band(f"{_group_name(group, finished)}", points))
    return bands


def _group_name(group: Sequence[Course], runs: Sequence[Course]) -> str:
    others = [g[0] for g in grouped(runs) if g[0].config != group[0].config]
    first = group[0]
    words = difference(first, others[0]) if others else named(first.config)
    words = " ".join(w for w in words.split(" ") if not w.startswith("seed="))
    seeds = "1 seed" if len(group) == 1 else f"{len(group)} seeds"
    return f"{words or named(first.config)} ({seeds})"


def _verdict_words(verdict: Verdict, headline: Headline) -> str:
    change = f"{headline.name} {abs(verdict.mean):.1%} {'lower' if verdict.mean < 0 else 'higher'}"
    if verdict.pairs < 2:
        return f"{verdict.word}: {change}, and one seed says nothing about chance"
    interval = f"95 % interval {_signed(verdict.low)} to {_signed(verdict.high)}"
    return f"{verdict.word}: {change} ({interval}, {verdict.pairs} seeds)"


def _signed(value: float) -> str:
    return f"{value:+.1%}".replace("-", "−")


def _reached(run: Course, headline: Headline) -> str:
    points = run.points("student", headline.key)
    if run.results:
        return headline.write(run.results["student"][headline.key])
    return headline.write(points[-1][1]) if points else "–"


def _run_row(run: Course, headline: Headline, best: float) -> str:
    student, baseline = run.results["student"], run.results["baseline"]
    words = f"{run.number}: {named(run.config)} seed {run.config.seed}"
    if run.changes:
        words += f", changed by hand {len(run.changes)} ×"
    reached = headline.write(student[headline.key])
    strong = f"<strong>{reached}</strong>" if student[headline.key] == best else reached
    figures = (
        headline.write(baseline[headline.key]) if baseline[headline.key] else "–",
        _number(student["kl_to_teacher"]),
        _number(student["agreement"]),
        f"{run.results['seconds']:.0f}",
    )
    cells = "".join(f"<td {_CELL}>{escape(v)}</td>" for v in figures)
    return f'<tr><th scope="row" {_HEAD}>{escape(words)}</th><td {_CELL}>{strong}</td>{cells}</tr>'


def _spark(values: Sequence[float]) -> str:
    """The course of a term, without axes."""
    shown = [v for v in values if math.isfinite(v)][-60:]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    points = " ".join(
        f"{80 * i / (len(shown) - 1):.1f},{18 - 16 * (v - low) / ((high - low) or 1):.1f}"
        for i, v in enumerate(shown)
    )
    return (
        '<svg width="84" height="20" viewBox="-2 0 84 20" aria-hidden="true"><polyline fill="none" '
        f'stroke="{COLOURS["student"]}" stroke-width="1.5" points="{points}"/></svg>'
    )


def _short(name: str) -> str:
    return {"alpha": "α", **SHORT}.get(name, name)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value) if value not in ("", None) else "the recipe's"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("-", "−")


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
