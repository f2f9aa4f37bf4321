"""A new process without torch: load an ONNX file, read one input, and say what that cost.

`measure.py` starts it as ``python -m workbench.portable.without_torch`` with one JSON object on
standard input; one JSON object is printed.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from workbench.devices import machine
from workbench.portable import timing


def measure(request: dict[str, Any]) -> dict[str, float]:
    """Load time, memory and latency of an ONNX file with onnxruntime, on one thread.

    Args:
        request: ``model`` (path), ``ids`` (tokens of one input), ``seconds`` (of timing).

    Returns:
        What `measure.cost` returns, without the size.

    Raises:
        AssertionError: if anything has loaded torch.
    """
    began = time.perf_counter()
    import numpy as np
    import onnxruntime

    imported = time.perf_counter()
    libraries, _ = machine.resident_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    before = time.perf_counter()
    session = onnxruntime.InferenceSession(
        request["model"], options, providers=["CPUExecutionProvider"]
    )
    loaded = time.perf_counter()
    ids = np.array([request["ids"]], dtype=np.int64)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feed = {entry.name: given[entry.name] for entry in session.get_inputs()}
    found = timing.latency(lambda: session.run(["logits"], feed), request["seconds"])
    assert "torch" not in sys.modules, "torch was loaded where it should not be needed"
    return {
        "import_ms": 1e3 * (imported - began),
        "load_ms": 1e3 * (loaded - before),
        "libraries_memory_mb": libraries / 1e6,
        "peak_memory_mb": machine.resident_memory()[1] / 1e6,
        **found,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
