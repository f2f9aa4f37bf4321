"""What the panel says, as HTML: pure functions from a snapshot to text. Everything is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from workbench.headline import PERPLEXITY
from workbench.lab.svg import FAINT_INK, INK, escape
from workbench.lab.worker import Run, Settings, Snapshot
from workbench.plots import COLOURS

BORDER = "var(--jp-border-color1, #bdbdbd)"
BAR = COLOURS["teacher"]
TEXT = f"color:{INK};font-size:14px;line-height:1.45;"


def status(now: Snapshot, steps: int) -> str:
    """What is going on, in a sentence; a live region, so it changes only where the state does."""
    title, rest = _sentence(now, steps)
    remark = f" <em>{escape(now.remark)}</em>" if now.remark else ""
    return (
        f'<div role="status" aria-live="polite" style="{TEXT}min-height:2.9em">'
        f"<strong>{escape(title)}</strong> {escape(rest)}{remark}</div>"
    )


def numbers(now: Snapshot) -> str:
    """Step, loss, perplexity, speed and time left. Not a live region: nobody can listen to it."""
    words = [f"step {now.done:,} of {now.total:,}"] if now.state == "training" else []
    if now.state in ("preparing", "finishing") and now.total:
        words = [f"{now.done:,} of {now.total:,}"]
    if now.state in ("training", "finishing", "done", "stopped"):
        words += [f"{name} {_number(name, value)}" for name, value in now.numbers.items()]
    if now.state == "training":
        words.append(f"{_duration(now.seconds_left)} left")
    return (
        f'<div style="{TEXT}min-height:1.45em;font-variant-numeric:tabular-nums">'
        f"{escape(' · '.join(words))}</div>"
    )


def progress_bar(now: Snapshot) -> str:
    """How far the run is; striped where that is not known."""
    share: float | None = {"idle": 0.0, "stopped": 0.0, "failed": 0.0, "done": 1.0}.get(now.state)
    if now.total and now.state not in ("finishing", "done"):
        share = now.done / now.total
    value = "" if share is None else f'aria-valuenow="{100 * share:.0f}" '
    width = 100 if share is None else 100 * share
    fill = BAR if share is not None else (
        f"repeating-linear-gradient(-45deg,{BAR} 0 8px,transparent 8px 16px)"
    )
    return (
        f'<div role="progressbar" aria-label="progress of the run" aria-valuemin="0" '
        f'aria-valuemax="100" {value}style="height:10px;border-radius:5px;overflow:hidden;'
        f'border:1px solid {BORDER}">'
        f'<div style="height:100%;width:{width:.1f}%;background:{fill}"></div></div>'
    )


def formula(text: str) -> str:
    """The loss of the next run with its numbers."""
    return (
        f'<div style="{TEXT}min-height:4.35em;padding-left:10px;border-left:3px solid {BORDER}">'
        f'<span style="color:{FAINT_INK}">The next run minimises</span><br/>'
        f"<strong>{escape(text)}</strong></div>"
    )


def slider_ends(low: str, high: str, mark: tuple[float, str] | None = None) -> str:
    """What the two ends of the slider above mean, and a place on it: its share and its name."""
    marked = ""
    if mark is not None:
        share, name = mark
        # The name goes to the side where there is room for it.
        text, edge = (f"▲ {name}", "left") if share < 0.5 else (f"{name} ▲", "right")
        place = 100 * (share if edge == "left" else 1 - share)
        marked = (
            f'<span style="position:absolute;{edge}:calc({place:.1f}% - 6px);white-space:nowrap">'
            f"{escape(text)}</span>"
        )
    return (
        f'<div style="position:relative;display:flex;justify-content:space-between;'
        f'color:{FAINT_INK};font-size:12px;line-height:1.2">'
        f"<span>{escape(low)}</span>{marked}<span>{escape(high)}</span></div>"
    )


def table(runs: Sequence[Run]) -> str:
    """A row for every finished run; nothing before the first."""
    finished = [run for run in runs if run.results is not None]
    if not finished:
        return ""
    headline = finished[0].headline
    best = headline.best([run.results["student"][headline.key] for run in finished])
    names = (name.format(headline.name) for name in _COLUMNS)
    head = "".join(f'<th scope="col" style="{_HEAD}">{escape(name)}</th>' for name in names)
    rows = "".join(_row(run, best) for run in finished)
    return (
        f'<div style="overflow-x:auto"><table style="border-collapse:collapse;{TEXT}'
        'font-variant-numeric:tabular-nums">'
        f'<caption style="text-align:left;padding-bottom:4px;color:{FAINT_INK}">'
        f"Finished runs; the {headline.better.replace('er', 'est')} {headline.name} is bold."
        "</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def ghost_label(run: Run) -> str:
    """Such as ``T=10 α=0.1 corrected: 8.03``."""
    value = run.student[-1][1] if run.student else math.nan
    if run.results is not None:
        value = run.results["student"][run.headline.key]
    stopped = "" if run.results is not None else " (stopped)"
    return f"{run.settings.label()}: {run.headline.write(value)}{stopped}"


# ---------------------------------------------------------------------- parts

_HEAD = (
    "text-align:right;vertical-align:bottom;padding:3px 14px 3px 0;"
    f"border-bottom:1px solid {BORDER};"
)
_CELL = f"{_HEAD}white-space:nowrap;"
_COLUMNS = (
    "run", "T", "α", "variant", "seed", "student {}", "baseline {}", "difference",
    "KL to teacher", "agreement", "seconds",
)  # fmt: skip


def _row(run: Run, best: float) -> str:
    results, settings = run.results, run.settings
    student, baseline = results["student"], results["baseline"]
    key = run.headline.key
    difference = student[key] / baseline[key] - 1 if baseline[key] else None
    reached = _cell(_figure(student[key], "{:.3f}"))
    if student[key] == best:
        reached = reached.replace("text-align", "font-weight:700;text-align", 1)
    cells = [
        f'<th scope="row" style="{_CELL}font-weight:400">{run.number}</th>',
        _cell(f"{settings.temperature:g}"),
        _cell(f"{settings.alpha:.3g}"),
        _cell(settings.reading),
        _cell(str(settings.seed)),
        reached,
        _cell(_figure(baseline[key], "{:.3f}")),
        _cell(_figure(difference, "{:+.1%}")),
        _cell(_figure(student["kl_to_teacher"], "{:.4f}")),
        _cell(_figure(student["agreement"], "{:.3f}")),
        _cell(_figure(results["seconds"], "{:.0f}")),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str) -> str:
    return f'<td style="{_CELL}">{escape(text)}</td>'


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value).replace("-", "−")


def _sentence(now: Snapshot, steps: int) -> tuple[str, str]:
    settings = now.run.settings if now.run else None
    if now.state == "preparing":
        return "Preparing:", f"{now.stage} …"
    if now.state == "training":
        return "Training", f"with {_words(settings)}."
    if now.state == "finishing":
        return "Trained.", f"Now {now.stage} …"
    if now.state == "done":
        return "Done.", _outcome(now.run)
    if now.state == "stopped":
        return "Stopped:", now.line
    if now.state == "failed":
        return "Error:", now.line
    return "Ready.", f"Choose T and α and press Start: a student learns for {steps:,} steps."


def _words(settings: Settings) -> str:
    changed = (f"weight of {name} {value:g}, " for name, value in (settings.weights or {}).items())
    return (
        f"T = {settings.temperature:g}, α = {settings.alpha:.3g}, {settings.variant}, "
        f"{''.join(changed)}seed {settings.seed}"
    )


def _outcome(run: Run) -> str:
    results: dict[str, Any] = run.results
    headline = run.headline
    student, baseline = (results[row][headline.key] for row in ("student", "baseline"))
    article = "an" if headline.name[0] in "AEFHILMNORSX" else "a"
    words = (
        f"With {_words(run.settings)} the student reaches {article} {headline.name} of "
        f"{headline.write(student)}"
    )
    if baseline:
        change = student / baseline - 1
        side = "below" if change < 0 else "above"
        words += (
            f", {abs(change):.1%} {side} the {headline.write(baseline)} of the same student "
            "without a teacher"
        )
    return f"{words}, after {results['steps']:,} steps in {_duration(results['seconds'])}."


def _number(name: str, value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if name == PERPLEXITY.name else f"{value:.3g}"


def _duration(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return "– s"
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
