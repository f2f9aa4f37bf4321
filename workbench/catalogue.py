"""Recipes described for people and programs; every count is computed, none is quoted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from workbench import layer_maps, recipes, tasks
from workbench.recipes import names

__all__ = ["describe", "names", "text"]


def describe(name: str) -> dict[str, Any]:
    """A recipe as JSON: the contract of ``workbench recipes NAME --json``."""
    recipe = recipes.get(name)
    task = tasks.of(name)
    scales = {}
    for scale_name, scale in recipe.scales.items():
        scales[scale_name] = {
            "teacher": {
                **asdict(scale.teacher),
                "parameters": task.count_parameters(scale.teacher, scale),
                "source": scale.teacher_source,
            },
            "student": {
                **asdict(scale.student),
                "parameters": task.count_parameters(scale.student, scale),
            },
            "data": scale.data_source,
            "steps": scale.steps,
            "batch_size": scale.batch_size,
            "learning_rate": scale.learning_rate,
            "warmup": scale.warmup,
            "weight_decay": scale.weight_decay,
            "length": scale.length,
            "revisions": {"teacher": scale.teacher_revision, "data": scale.data_revision},
        }
    paper = recipe.scale("paper")
    temperatures = {n: v.temperature or recipe.temperature for n, v in recipe.variants.items()}
    return {
        "name": recipe.name,
        "title": recipe.title,
        "task": recipe.task,
        "temperature": recipe.temperature,
        "alpha": recipe.alpha,
        "init": recipe.init,
        "layer_map": layer_maps.parse(recipe.init, paper.teacher.layers),
        "variants": {
            variant.name: {
                "temperature": temperatures[variant.name],
                "terms": {
                    term: {**asdict(getattr(variant.objective, term)), "weight": weight}
                    for term, weight in variant.objective.weights(recipe.alpha).items()
                },
                "formula": variant.objective.formula(temperatures[variant.name], recipe.alpha),
                "source": variant.source,
            }
            for variant in recipe.variants.values()
        },
        "parameters": {
            scale: {role: values[role]["parameters"] for role in ("teacher", "student")}
            for scale, values in scales.items()
        },
        "scales": scales,
        "hub": {"teacher": paper.teacher_source, "data": paper.data_source},
        "sources": list(recipe.sources),
    }


def text(name: str) -> str:
    """A recipe as a short paragraph for a terminal."""
    about = describe(name)
    lines = [
        f"{about['name']}: {about['title']}, {about['task']}, "
        f"T = {about['temperature']:g}, α = {about['alpha']:g}"
    ]
    for scale, counts in about["parameters"].items():
        lines.append(
            f"  {scale:<10} teacher {counts['teacher']:>13,}  student {counts['student']:>13,}  "
            f"({counts['teacher'] / counts['student']:.1f} × smaller)"
        )
    for variant, values in about["variants"].items():
        lines += [f"  {variant:<13} {values['formula']}", f"  {'':<13} {values['source']}"]
    lines.append(f"  on the hub    teacher {about['hub']['teacher']}, data {about['hub']['data']}")
    return "\n".join(lines)
