"""Speed and memory: what is counted, not how fast this machine is."""

from __future__ import annotations

import torch

from workbench import models, runtime
from workbench.corpora import Rows


class Doubling(torch.nn.Module):
    """x → two new tensors of the size of x alive at once, then one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1000))

    def forward(self, input_ids, use_cache=False):
        first = input_ids.float().reshape(-1, 1).expand(-1, 50).contiguous()
        second = first + 1
        del first
        third = second * 2
        return type("Out", (), {"logits": third.reshape(*input_ids.shape, 50)})


def test_peak_memory_is_weights_plus_the_most_that_lives_at_once():
    ids = torch.zeros((4, 25), dtype=torch.long)
    block = 4 * 25 * 50 * 4  # bytes of one float32 [batch, length, 50]
    peak = 1e6 * runtime.peak_memory_mb(Doubling(), ids)
    weights = 4000
    # Two blocks at once, and then the loss with its log-softmax beside the logits it reads.
    assert weights + 2 * block <= peak <= weights + 3.5 * block


def test_larger_models_take_more_memory_and_all_figures_are_there(tiny_shape):
    rows = Rows([torch.arange(20).numpy() % 21] * 40, 40 * 19)
    small = models.build_causal_lm(tiny_shape, activation="gelu_new", seed=0)
    large = models.build_causal_lm(
        type(tiny_shape)(4, 2, 64, 128, 21), activation="gelu_new", seed=0
    )
    measured = [runtime.measure(m, rows, seconds=0.0) for m in (small, large)]
    assert measured[0].peak_memory_mb < measured[1].peak_memory_mb
    for one in measured:
        assert set(one.throughput) == {1, 8, 32}
        assert one.tokens_per_second == one.throughput[32] > 0
        assert 0 < one.latency_ms <= one.latency_p95_ms
        assert one.generation_seconds > 0


def test_generation_is_of_the_length_that_the_protocol_says(tiny_shape, monkeypatch):
    model = models.build_causal_lm(tiny_shape, activation="gelu_new", seed=0)
    made = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda *a, **k: made.append(generate(*a, **k)))
    runtime.generation_seconds(model, repeats=1)
    assert {tuple(m.shape) for m in made} == {(10, 100)}
