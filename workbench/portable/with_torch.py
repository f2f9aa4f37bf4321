"""The same with PyTorch and transformers, to compare: see without_torch.py."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from workbench.devices import machine
from workbench.portable import timing


def measure(request: dict[str, Any]) -> dict[str, float]:
    """Load time, memory and latency of a model directory with transformers, on one thread.

    Args:
        request: ``model`` (directory or hub id), ``auto_class`` (of transformers, that loads it),
            ``ids`` (tokens of one input), ``seconds`` (of timing).

    Returns:
        What `measure.cost` returns, without the size.
    """
    began = time.perf_counter()
    import torch
    import transformers

    auto_class = getattr(transformers, request["auto_class"])
    imported = time.perf_counter()
    libraries, _ = machine.resident_memory()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    before = time.perf_counter()
    model = auto_class.from_pretrained(
        request["model"], use_safetensors=True, trust_remote_code=False, dtype=torch.float32
    ).eval()
    loaded = time.perf_counter()
    ids = torch.tensor([request["ids"]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.can_generate():
        given["use_cache"] = False
    with torch.inference_mode():
        found = timing.latency(lambda: model(**given).logits, request["seconds"])
    return {
        "import_ms": 1e3 * (imported - began),
        "load_ms": 1e3 * (loaded - before),
        "libraries_memory_mb": libraries / 1e6,
        "peak_memory_mb": machine.resident_memory()[1] / 1e6,
        **found,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
