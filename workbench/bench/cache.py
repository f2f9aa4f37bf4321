"""What keeping the teacher's answers costs: `workbench bench cache`."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from workbench import corpora, recipes, tasks
from workbench.config import RunConfig
from workbench.teacher_cache import LiveTeacher, open_cache

#: One recipe whose cache holds logits and one whose cache holds hidden states.
RECIPES = ("protgpt2-tiny", "distilbert-pmhc")


def measure(repeats: int = 3, batches: int = 32) -> dict[str, Any]:
    """Size and speed of the cache for the classroom's teachers.

    Args:
        repeats: how often each cache is made and read; times are medians.
        batches: most batches to ask about.

    Returns:
        For each recipe: what is kept of a token, bytes of the file a token, tokens/s of making it
        (teacher, check sum and writing included) and of opening it again (check sum included).
    """
    return {
        "recipes": {name: _measure(name, repeats, batches) for name in RECIPES},
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


def _measure(name: str, repeats: int, most: int) -> dict[str, Any]:
    config = RunConfig.from_recipe(name)
    task = tasks.of(name)
    model, tokenizer, _ = task.load_model(config.teacher)
    positions = recipes.get(name).scale(config.scale).student.positions
    train, _ = task.rows(task.load_corpus(config, tokenizer), tokenizer, model, positions)
    batches = corpora.make_batches(train, config.batch_size, task.pad(tokenizer))[:most]
    tokens = sum(batch.tokens for batch in batches)
    teacher = LiveTeacher(model)
    made, opened = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as scratch:
            for times in (made, opened):
                started = time.perf_counter()
                cache = open_cache(teacher, batches, directory=Path(scratch))
                times.append(time.perf_counter() - started)
            size = sum(file.stat().st_size for file in Path(scratch).iterdir())
    numbers, width = cache.all_states.shape[1], cache.all_states.element_size()
    return {
        "kept": f"{numbers} {'hidden numbers' if cache.head else 'logits'} of {width} bytes",
        "bytes_per_token": size / tokens,
        "tokens": tokens,
        "build_tokens_per_second": tokens / statistics.median(made),
        "open_tokens_per_second": tokens / statistics.median(opened),
    }
