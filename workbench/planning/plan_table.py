"""A plan as text for a terminal; see `workbench.planning.plans`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workbench.amounts import in_bytes, in_flops, in_time

#: Parts of a cost that are not called in the table as in the plan.
PARTS = {"loss": "heads and loss", "ledger": "ledger (each term's gradient)"}


def text(plan: dict[str, Any]) -> str:
    """What a run would do, a line a subject, and at the end what will not do."""
    rows = [
        *_models(plan),
        *_reading(plan),
        *_cost(plan),
        *_time(plan),
        *_space(plan),
        *(("careful", warning) for warning in plan["warnings"]),
    ]
    width = max(len(name) for name, _ in rows)
    head = f"{plan['recipe']}, {plan['variant']}, {plan['scale']} scale: nothing was begun"
    return "\n".join([head, *(f"  {name:<{width}}  {words}" for name, words in rows)])


def _models(plan: dict[str, Any]) -> list[tuple[str, str]]:
    teacher, student = plan["teacher"], plan["student"]
    config = plan["config"]
    ratio = teacher["parameters"] / student["parameters"]
    return [
        ("teacher", f"{_size(teacher)}; {teacher['source']}, {_place(teacher)}"),
        ("student", f"{_size(student)}, {ratio:.1f} × fewer; starts with --init {config['init']}"),
        ("baseline", "the same student again, trained beside it from labels alone"),
    ]


def _size(model: dict[str, Any]) -> str:
    return (
        f"{model['parameters']:,} parameters ({model['layers']} layers, {model['width']:,} wide, "
        f"{_answers(model['answers'])})"
    )


def _answers(number: int) -> str:
    return f"{number} classes" if number < 10 else f"a vocabulary of {number:,} tokens"


def _place(place: dict[str, Any]) -> str:
    size = "" if place["bytes"] is None else f", {in_bytes(place['bytes'])}"
    where = {
        "built in": "built in",
        "directory": "a directory here",
        "file": "a file here",
        "world": "a world, drawn as it is read",
        "hub cache": "in the hub's cache here",
        "hub": "not here, to be downloaded",
    }[place["where"]]
    return where + (size if place["where"] != "hub" else "")


def _reading(plan: dict[str, Any]) -> list[tuple[str, str]]:
    data, step, total, reading = (plan[k] for k in ("data", "step", "total", "reading"))
    size = (
        "size not known"
        if reading["rows"] is None
        else (f"{_about(plan)}{reading['rows']:,} rows, {reading['tokens']:,} tokens to learn from")
    )
    passes = "" if total["passes"] is None else f": {total['passes']:.2g} passes"
    parts = "" if step["parts"] == 1 else f" in {step['parts']} parts"
    return [
        ("data", f"{data['source']}, {_place(data)}; {size} ({reading['basis']})"),
        (
            "a step",
            f"{step['sequences']:,.0f} sequences{parts}, {step['tokens']:,.0f} tokens "
            f"({step['read']:,.0f} with padding), {step['scored']:,.0f} scored",
        ),
        ("in all", f"{total['steps']:,} steps, {total['tokens']:,.0f} tokens{passes}"),
    ]


def _about(plan: dict[str, Any]) -> str:
    return "" if plan["reading"]["basis"] == "all of the data" else "about "


def _cost(plan: dict[str, Any]) -> list[tuple[str, str]]:
    flops = plan["flops"]
    names = ("teacher", "student", "baseline", "loss", "ledger", "evaluations")
    return [("FLOPs", f"{in_flops(flops['total'])}: {_parts(names, flops, in_flops)}")]


def _parts(
    names: Sequence[str], amounts: dict[str, float | None], said: Callable[[float], str]
) -> str:
    """What each part takes, in words."""
    return ", ".join(
        f"{PARTS.get(name, name)} {'not known' if amounts[name] is None else said(amounts[name])}"
        for name in names
    )


def _time(plan: dict[str, Any]) -> list[tuple[str, str]]:
    machine, seconds, disk = plan["machine"], plan["seconds"], plan["disk"]
    share = machine["efficiency"]
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    where = threads if machine["device"] == "cpu" else "one GPU"
    names = ("teacher", "student", "baseline", "loss", "optimisers", "ledger", "evaluations")
    return [
        (
            "machine",
            f"{machine['name']}; {where}: {in_flops(machine['products'])}/s in a large matrix "
            "product, float32",
        ),
        (
            "efficiency",
            f"of that, layers of the teacher reach {share['teacher']:.0%}, of the student forward "
            f"and back {share['student']:.0%}, heads and loss {share['loss']:.0%}; measured now on "
            f"a few layers as wide as these, in {machine['seconds']:.1f} s",
        ),
        ("time", f"{in_time(seconds['total'])} of training: {_parts(names, seconds, in_time)}"),
        (
            "",
            f"start, {_first(disk)}teacher's loading, final measurement and figures come on top",
        ),
    ]


def _tokens(disk: dict[str, Any]) -> str:
    """What the tokens of the data take."""
    if disk["token_files"] is None:
        return "the size of the data's tokens is not known"
    if not disk["token_files"]:
        return "none for tokens, which are held in memory"
    return f"{in_bytes(disk['token_files'])} for the tokens of the data, written before step 1"


def _first(disk: dict[str, Any]) -> str:
    return "" if disk["token_files"] == 0 else "tokenising the data, "


def _space(plan: dict[str, Any]) -> list[tuple[str, str]]:
    memory, disk, machine = plan["memory"], plan["disk"], plan["machine"]
    step = "" if memory["device"] is None else f"; on the GPU {in_bytes(memory['device'])}"
    return [
        (
            "memory",
            f"{in_bytes(memory['peak'])} at most{step}: program {in_bytes(memory['program'])}, "
            f"teacher {in_bytes(memory['teacher'])}, student and baseline with AdamW's moments "
            f"{in_bytes(memory['students'])}, teacher's answers {in_bytes(memory['answers'])}, and "
            f"the largest of three: a step {in_bytes(memory['step'])}, an evaluation "
            f"{in_bytes(memory['evaluation'])}, a copy for the checkpoint "
            f"{in_bytes(memory['checkpoint'])}; {in_bytes(machine['memory_free'])} free",
        ),
        (
            "disk",
            f"{in_bytes(disk['run'])} for the run: saved student {in_bytes(disk['student'])}, "
            f"checkpoint of student and baseline {in_bytes(disk['checkpoint'])}, figures and "
            f"curves {in_bytes(disk['rest'])}; {in_bytes(disk['run_at_most'])} while a checkpoint "
            f"is written; {in_bytes(disk['run_free'])} free",
        ),
        (
            "cache",
            f"{in_bytes(disk['cache'])} for the teacher's answers, {_tokens(disk)}; "
            f"{in_bytes(disk['cache_free'])} free",
        ),
    ]
