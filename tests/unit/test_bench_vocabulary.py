"""The measurement of the vocabulary loss: its ways are one loss, its figures what they say."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from workbench.bench import command, vocabulary
from workbench.bench.vocabulary import SMALL, Sizes
from workbench.devices import machine
from workbench.errors import UsageError, WorkbenchError
from workbench.losses import Direction


@pytest.mark.parametrize("way", ["recomputed", "chunked"])
@pytest.mark.parametrize("direction", Direction.__args__)
def test_every_way_is_the_dense_loss(way, direction):
    case = vocabulary.case(replace(SMALL, direction=direction), torch.float64)
    losses = [w(case) for w in (vocabulary.WAYS[way], vocabulary.dense)]
    for one, other in zip(*map(case.gradients, losses), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)


def test_the_small_case_is_in_several_chunks():
    rows = []
    linear = torch.addmm

    def watched(into, hidden, *args, **options):
        rows.append(len(hidden))
        return linear(into, hidden, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "addmm", watched)
        vocabulary.chunked(vocabulary.case(SMALL, torch.float64))
    assert sum(rows) == 2 * SMALL.rows and len(rows) > 4
    assert vocabulary.difference() < 1e-12


def test_products_are_those_of_the_loss(monkeypatch):
    operations = 0

    def counted(name):
        plain = getattr(torch, name)

        def product(*args, **options):
            nonlocal operations
            one, other = [a for a in args if isinstance(a, torch.Tensor)][-2:]
            operations += one.shape[0] * one.shape[1] * other.shape[1]
            return plain(*args, **options)

        return product

    monkeypatch.setattr(torch, "mm", counted("mm"))
    vocabulary.products(vocabulary.case(SMALL))
    # The fourth product, the gradient on the head, is a method of the matrix.
    widths = 2 * SMALL.width + SMALL.teacher_width
    assert operations == SMALL.rows * SMALL.vocabulary * widths


def test_resident_memory_knows_now_and_the_most():
    before, most = machine.resident_memory()
    assert 0 < before <= most
    held = torch.ones(25_000_000)  # 100 MB
    during, _ = machine.resident_memory()
    assert during - before > 90e6
    del held
    after, most = machine.resident_memory()
    assert after < during - 90e6
    assert most > during - 1e6  # the kernel counts in lots of pages


def test_measure_gives_every_figure(monkeypatch):
    wide = Sizes(sequences=2, length=8, vocabulary=300, width=8, teacher_width=12)
    seconds = {"dense": [9, 2, 4], "recomputed": [3] * 3, "chunked": [2, 1, 8], "products": [1] * 3}
    asked = []

    def run(way: str, sizes: Sizes) -> dict[str, float]:
        asked.append(way)
        assert sizes == wide
        return {
            "seconds": seconds[way].pop(), "cpu_seconds": 2.0 * len(way),
            "extra_mb": len(way) * 10.0, "loss": len(way),
        }  # fmt: skip

    monkeypatch.setattr(vocabulary, "_in_a_process", run)
    found = vocabulary.measure(wide, rounds=3)
    assert asked == ["dense", "recomputed", "chunked", "products"] * 3
    assert (found["dense_seconds"], found["chunked_seconds"], found["times_faster"]) == (4, 2, 2)
    assert [(g["goal"], g["met"]) for g in found["goals"]] == [(1.3, True), (12, False)]
    assert found["times_smaller"] == pytest.approx(5 / 7)
    assert found["loss_difference_float32"] == 2
    assert (found["dense_cpu_seconds"], found["times_less_cpu"]) == (10, pytest.approx(5 / 7))
    if not torch.cuda.is_available():
        assert found["gpu"] is found["liger"] is None
        assert "CUDA" in found["gpu_reason"] and "CUDA" in found["liger_reason"]
    json.dumps(found)


def test_a_way_runs_in_a_process_of_its_own():
    found = vocabulary._in_a_process("chunked", SMALL)
    loss = vocabulary.chunked(vocabulary.case(SMALL)).item()
    assert found["loss"] == pytest.approx(loss, rel=1e-6)
    assert found["seconds"] > 0 and found["cpu_seconds"] > 0 and abs(found["extra_mb"]) < 50


def test_what_stands_in_the_way_is_one_line(monkeypatch):
    with pytest.raises(WorkbenchError, match="the sideways way did not come to its end: KeyError"):
        vocabulary._in_a_process("sideways", SMALL)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 2e9})())
    with pytest.raises(WorkbenchError, match=r"needs some 7 GB of free memory and there are 2\.0;"):
        vocabulary.measure()


def test_the_command_knows_it(monkeypatch, tmp_path):
    monkeypatch.setattr(vocabulary, "measure", lambda: asdict(SMALL))
    found = command.run("vocabulary-loss", tmp_path / "figures")
    assert found["vocabulary"] == SMALL.vocabulary and {"machine", "date", "versions"} <= set(found)
    assert json.loads((tmp_path / "figures" / "vocabulary_loss.json").read_text()) == found
    with pytest.raises(UsageError, match="biobert or vocabulary-loss"):
        command.run("nothing")
