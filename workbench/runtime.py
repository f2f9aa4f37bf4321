"""How fast a model is and how much memory it takes: latency, throughput, generation, peak.

All times are wall-clock medians after a warm-up, on whatever else the machine is
doing; compare models measured one after the other, and quote ratios.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench import models
from workbench.corpora import Rows

BATCH_SIZES = (1, 8, 32)
#: The 2024 protocol of the published models: 10 sequences, 100 tokens, 5 repeats.
GENERATED_SEQUENCES, GENERATED_TOKENS, GENERATION_REPEATS = 10, 100, 5


@dataclass(frozen=True)
class Runtime:
    """Speed and memory of one model.

    Attributes:
        latency_ms: median time to score one sequence, ms.
        latency_p95_ms: 95th percentile of the same, ms.
        throughput: tokens/s at each batch size. Those that fill shorter rows up are counted: the
            model works on them as on the others. Of sequences as long as each other it is the
            rate of real tokens, else more.
        generation_seconds: median time for 10 sequences of 100 tokens, s; None where nothing is
            generated.
        peak_memory_mb: weights plus the largest working memory while scoring a batch
            of 32, MB (10⁶ bytes).
    """

    latency_ms: float
    latency_p95_ms: float
    throughput: dict[int, float]
    generation_seconds: float | None
    peak_memory_mb: float

    @property
    def tokens_per_second(self) -> float:
        """Throughput at the largest batch."""
        return self.throughput[max(self.throughput)]


@torch.no_grad()
def measure(model, rows: Rows, *, seconds: float = 1.0) -> Runtime:
    """Measure a causal language model on held-out rows.

    Args:
        model: in eval mode.
        rows: held-out token rows; the longest decide nothing, they are taken as they come.
        seconds: how long to repeat each measurement, at most.
    """
    measured = _measure(model, rows, seconds, context=1)
    return replace(measured, generation_seconds=generation_seconds(model))


@torch.no_grad()
def measure_reader(model, rows: Rows, *, seconds: float = 1.0) -> Runtime:
    """Measure a classifier or a masked language model; its tokens are those that it reads.

    Args:
        model: in eval mode.
        rows: held-out token rows.
        seconds: how long to repeat each measurement, at most.
    """
    return _measure(model, rows, seconds, context=0)


def _measure(model, rows: Rows, seconds: float, context: int) -> Runtime:
    """Latency, throughput and memory; ``context`` tokens of a row are read and not scored."""
    singles = [_batch(rows, [i % len(rows)], model) for i in range(64)]
    latencies = _repeat(lambda i: score(model, singles[i % len(singles)]), seconds, least=20)
    throughput = {}
    for size in BATCH_SIZES:
        batch = _batch(rows, [i % len(rows) for i in range(size)], model)
        times = _repeat(lambda _i, batch=batch: score(model, batch), seconds / 2, least=5)
        throughput[size] = batch.shape[0] * (batch.shape[1] - context) / statistics.median(times)
    return Runtime(
        latency_ms=1e3 * statistics.median(latencies),
        latency_p95_ms=1e3 * float(np.percentile(latencies, 95)),
        throughput=throughput,
        generation_seconds=None,
        peak_memory_mb=peak_memory_mb(model, _batch(rows, range(max(BATCH_SIZES)), model)),
    )


@torch.no_grad()
def generation_seconds(model, repeats: int = GENERATION_REPEATS) -> float:
    """Median time to generate 10 sequences of 100 tokens with a key-value cache, s."""
    device = next(model.parameters()).device
    end = model.config.eos_token_id
    length = min(GENERATED_TOKENS, models.context(model, GENERATED_TOKENS))
    prompt = torch.full((GENERATED_SEQUENCES, 1), end, device=device)

    def generate(i: int) -> None:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(i)
            model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=True,
                top_k=950,
                min_length=length,
                max_length=length,
                pad_token_id=end,
            )

    return statistics.median(_repeat(generate, 0.0, least=repeats))


@torch.no_grad()
def peak_memory_mb(model, batch: Tensor) -> float:
    """Weights plus the largest working memory of one forward pass, MB.

    On a CPU the tensors that are alive are counted, operation by operation; scratch space
    inside an operation is not seen. On a GPU the allocator is asked.
    """
    device = next(model.parameters()).device
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if device.type == "cuda":
        score(model, batch)
        torch.cuda.reset_peak_memory_stats(device)
        # Other models and their moments may live there, too.
        before = torch.cuda.memory_allocated(device)
        score(model, batch)
        return (weights + torch.cuda.max_memory_allocated(device) - before) / 1e6
    with _LiveBytes([*model.parameters(), *model.buffers(), batch]) as live:
        score(model, batch)
    return (weights + live.peak) / 1e6


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that come to life inside, except views of those given."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._held = 0
        self._users: dict[int, int] = {}
        self._given = {t.untyped_storage().data_ptr() for t in given}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._hold(leaf)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self._given:
            return
        if not self._users.get(place):
            self._held += size
            self.peak = max(self.peak, self._held)
        self._users[place] = self._users.get(place, 0) + 1
        weakref.finalize(tensor, self._release, place, size)

    def _release(self, place: int, size: int) -> None:
        self._users[place] -= 1
        if not self._users[place]:
            self._held -= size


def seconds_of(call: Callable[[], object], repeats: int = 5, warmup: int = 1) -> list[float]:
    """Wall-clock times of a call, s, after a warm-up."""
    return _repeat(lambda _: call(), 0.0, least=repeats, warmup=warmup)


def score(model, ids: Tensor) -> None:
    """Read a batch once, to the loss or the probabilities of its answers; ids: [batch, length]."""
    if reads_both_ways(model):
        mask = (ids != model.config.pad_token_id).long()
        torch.softmax(model(input_ids=ids, attention_mask=mask).logits, dim=-1)
    else:
        logits = model(input_ids=ids, use_cache=False).logits
        torch.nn.functional.cross_entropy(
            logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)
        )
    if ids.device.type == "cuda":
        torch.cuda.synchronize(ids.device)


def _batch(rows: Rows, members: Sequence[int], model) -> Tensor:
    tokens = [rows.tokens[i % len(rows)] for i in members]
    ids = np.full((len(tokens), max(map(len, tokens))), _filler(model))
    for row, member in enumerate(tokens):
        ids[row, : len(member)] = member
    return torch.from_numpy(ids).to(next(model.parameters()).device)


def _filler(model) -> int:
    """Token that rows are filled up with."""
    config = model.config
    return config.pad_token_id if reads_both_ways(model) else config.eos_token_id


def reads_both_ways(model) -> bool:
    """Whether a model sees all of a row at once, so that padding has to be hidden from it."""
    return models.is_classifier(model) or models.is_masked(model)


def _repeat(
    call: Callable[[int], object], seconds: float, *, least: int, warmup: int = 1
) -> list[float]:
    for i in range(warmup):
        call(i)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < least or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - before)
    return times
