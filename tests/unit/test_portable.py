"""Exports answer as PyTorch does, in every shape, without it, and cost what is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import exported
import numpy as np
import pytest
import torch
from plain_environment import plain_environment, run_in

from workbench import corpora, metrics, models
from workbench.classifying import binding
from workbench.portable import quality, timing, without_torch

KINDS = list(exported.KINDS)


@pytest.fixture(scope="session")
def export_of(tmp_path_factory):
    """The export of a built-in model, made when it is first asked for."""
    made = {}

    def of(name: str) -> exported.Exported:
        if name not in made:
            made[name] = exported.make(tmp_path_factory.mktemp("export") / "run", name)
        return made[name]

    return of


@pytest.fixture(params=KINDS)
def one(request, export_of):
    return export_of(request.param)


def session(path: str | Path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def ask(opened, ids, mask) -> np.ndarray:
    given = {"input_ids": np.asarray(ids), "attention_mask": np.asarray(mask)}
    return opened.run(None, {i.name: given[i.name] for i in opened.get_inputs()})[0]


def padded(one, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(len(lengths))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.from_numpy(rng.integers(1, one.model.config.vocab_size, mask.shape))
    return ids.where(mask, one.task.pad(one.tokenizer)), mask.long()


def held_out(one) -> list[corpora.Batch]:
    """The batches that the run's student is judged by, the way a run makes them."""
    corpus = one.task.load_corpus(one.config)
    positions = one.model.config.max_position_embeddings
    _, rows = one.task.rows(corpus, one.tokenizer, one.model, positions)
    assert len(rows) >= exported.HELD_OUT
    batches = corpora.make_batches(rows, one.config.batch_size, one.task.pad(one.tokenizer))
    return one.task.held_out(batches, one.task.masker(one.tokenizer, one.model, whole_words=False))


# ---------------------------------------------------------------------- the same answers


def test_float32_is_pytorch_in_every_batch_length_and_padding(one):
    opened = session(one.found["files"]["float32"]["path"])
    longest = one.model.config.max_position_embeddings
    for lengths in ([1], [2, 1], [longest], [9, 30, 4, 30, 17], [longest, 3], [5] * 11):
        ids, mask = padded(one, lengths)
        with torch.no_grad():
            expected = one.model(input_ids=ids, attention_mask=mask).logits.numpy()
        found = ask(opened, ids, mask)
        assert found.shape == expected.shape and found.dtype == np.float32
        real = slice(None) if found.ndim == 2 else mask.bool().numpy()
        assert np.abs(found[real] - expected[real]).max() < 1e-4
    assert one.found["longest"] == longest
    assert 0 < one.found["files"]["float32"]["largest_difference"] < 1e-4


def test_padding_changes_no_answer(one):
    opened = session(one.found["files"]["float32"]["path"])
    ids, mask = padded(one, [20, 6])
    together, alone = ask(opened, ids, mask)[1], ask(opened, ids[1:, :6], mask[1:, :6])[0]
    np.testing.assert_allclose(together[: len(alone)], alone, atol=2e-5)


def test_only_models_that_see_padding_are_given_a_mask(one):
    names = [i.name for i in session(one.found["files"]["float32"]["path"]).get_inputs()]
    assert names == one.found["inputs"]
    assert names == ["input_ids", "attention_mask"][: 1 if one.task.kind is models.CAUSAL else 2]


def test_quality_is_that_of_the_answers(one):
    """Against scores made here from logits, with nothing of the package's own evaluation."""
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    batches = held_out(one)
    for name in ("float32", "int8"):
        opened = session(one.found["files"][name]["path"])
        total, tokens, labels, scores = 0.0, 0, [], []
        for batch in batches:
            logits = ask(opened, batch.input_ids, batch.real().long()).astype(np.float64)
            logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
            if one.task.kind is models.CLASSIFIER:
                labels += batch.labels.tolist()
                scores += np.exp(logits[:, 1]).tolist()
                continue
            told = iter(batch.labels.tolist()) if batch.labels is not None else None
            for row, length in enumerate(batch.lengths.tolist()):
                for place in range(length):
                    if told is None and place + 1 < length:
                        total -= logits[row, place, batch.input_ids[row, place + 1]]
                    elif told is not None and batch.masked[row, place]:
                        total -= logits[row, place, next(told)]
                    else:
                        continue
                    tokens += 1
        found = {key: one.found["files"][name][key] for key in quality.KEYS}
        if labels:
            decided = [s >= 0.5 for s in scores]
            assert len(labels) == exported.HELD_OUT
            assert found == {
                "perplexity": None,
                "accuracy": pytest.approx(accuracy_score(labels, decided)),
                "f1": pytest.approx(f1_score(labels, decided)),
                "auc": pytest.approx(roc_auc_score(labels, scores)),
            }
        else:
            perplexity = pytest.approx(np.exp(total / tokens), rel=1e-5)
            assert found == {"perplexity": perplexity, "accuracy": None, "f1": None, "auc": None}


def test_pytorchs_quality_is_that_of_results_json(one):
    batches, row = held_out(one), one.found["pytorch"]
    if one.task.kind is models.CLASSIFIER:
        logits = binding.class_logits(one.model, batches)
        members = np.concatenate([b.members for b in batches])
        labels = torch.cat([b.labels for b in batches])[np.argsort(members)]
        assert row["accuracy"] == float((logits.argmax(1) == labels).double().mean())
    else:
        masked = one.task.kind is models.MASKED
        scores = "masked" if masked else "next-token"
        own = metrics.evaluate(one.model, batches, None, scores=scores)
        assert row["perplexity"] == pytest.approx(own.perplexity, rel=1e-6)
    for key in quality.KEYS:
        same = None if row[key] is None else pytest.approx(row[key], abs=1e-4)
        assert one.found["files"]["float32"][key] == same


def test_int8_is_smaller_and_its_loss_is_the_difference(one):
    float32, int8 = one.found["files"]["float32"], one.found["files"]["int8"]
    assert int8["size_mb"] < 0.5 * float32["size_mb"]
    assert 1e-3 < int8["largest_difference"] < 4
    for key, sign in (("perplexity", 1), ("accuracy", -1), ("f1", -1), ("auc", -1)):
        before, after = one.found["pytorch"][key], int8[key]
        expected = None if before is None else pytest.approx(sign * (after - before))
        assert one.found["int8_loss"][key] == expected
    headline = one.task.headline.key
    assert abs(one.found["int8_loss"][headline]) < 0.03 * one.found["pytorch"][headline]


# ---------------------------------------------------------------------- without torch


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """Where onnxruntime, tokenizers and numpy can be imported, and nothing else."""
    place = tmp_path_factory.mktemp("plain") / "packages"
    return plain_environment(place, "onnxruntime", "tokenizers", "numpy")


def test_the_readmes_program_runs_with_onnxruntime_alone(one, plain):
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        run_in(plain, "import torch")
    (code,) = re.findall(r"```python\n(.*?)```", (one.directory / "README.md").read_text(), re.S)
    enter = "import os; os.chdir(sys.argv[1])\n"
    leave = "\nprint(ids.tolist())\nassert not {'torch', 'transformers'} & set(sys.modules)"
    files = {"model.onnx": 1e-4, "model_int8.onnx": 0.1}
    for file, tolerance in files.items():
        changed = code.replace('"model.onnx"', f'"{file}"')
        lines = run_in(plain, enter + changed + leave, str(one.directory)).splitlines()
        ids = torch.tensor(json.loads(lines[1]))
        with torch.no_grad():
            logits = one.model(input_ids=ids).logits
        if one.task.kind is models.CAUSAL:
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
            assert ids[0, 0] == ids[0, -1] == one.tokenizer.eos_token_id and ids.shape[1] > 60
            said = float(lines[0].removeprefix("perplexity "))
            assert said == pytest.approx(float(loss.exp()), rel=tolerance)
        elif one.task.kind is models.CLASSIFIER:
            said = float(re.search(r"'binder': np.float32\(([\d.e-]+)\)", lines[0])[1])
            assert ids.shape == (1, 2 + 34 + 9)
            assert said == pytest.approx(float(logits.softmax(-1)[0, 1]), abs=tolerance)
        else:
            place = ids[0].tolist().index(one.tokenizer.mask_token_id)
            best = one.tokenizer.convert_ids_to_tokens(logits[0, place].topk(5).indices.tolist())
            said = json.loads(lines[0].replace("'", '"'))
            assert said == best if file == "model.onnx" else said[0] in best


def test_the_directory_is_complete_and_says_nothing_of_this_machine(one):
    names = {p.name for p in one.directory.iterdir()}
    files = {"model.onnx", "model_int8.onnx", "tokenizer.json", "tokenizer_config.json"}
    assert names == {*files, "config.json", "README.md", "export.json"}
    mark = json.loads((one.directory / "export.json").read_text())
    told = {key: mark[key] for key in ("model", "data", "pytorch", "files")}
    same = {key: value for key, value in one.found.items() if key not in {*told, "out"}}
    assert mark == {"format": "workbench export 1", **told, **same}
    assert (mark["model"], mark["pytorch"]["path"]) == ("run", "student")
    assert mark["data"] == one.config.data
    assert [row["path"] for row in mark["files"].values()] == ["model.onnx", "model_int8.onnx"]
    assert str(one.directory.parent) not in json.dumps(mark)
    for file in ("model.onnx", "model_int8.onnx"):
        content = (one.directory / file).read_bytes()
        assert b"/" + b"site-packages" not in content and str(Path.cwd()).encode() not in content
    assert not list(one.directory.parent.glob(".onnx-*"))


# ---------------------------------------------------------------------- what it costs


def test_costs_are_those_of_processes_of_their_own(one):
    rows = (one.found["pytorch"], *one.found["files"].values())
    for row in rows:
        assert 0 < row["latency_p5_ms"] <= row["latency_ms"] <= row["latency_p95_ms"]
        assert row["load_ms"] > 0 and row["import_ms"] > 0
        assert row["libraries_memory_mb"] < row["peak_memory_mb"]
        files = [Path(row["path"])] if row is not rows[0] else Path(row["path"]).glob("*.safet*")
        assert row["size_mb"] == sum(f.stat().st_size for f in files) / 1e6
    # A process with torch holds several times as much before any model is there.
    for row in rows[1:]:
        assert row["peak_memory_mb"] < 0.5 * rows[0]["libraries_memory_mb"]
    lengths = torch.cat([b.lengths for b in held_out(one)]).sort().values
    assert one.found["typical_tokens"] == lengths[len(lengths) // 2]


def test_a_process_with_torch_in_it_does_not_count_as_one_without(export_of):
    one = export_of("protgpt2-tiny")
    request = {"model": one.found["files"]["float32"]["path"], "ids": [0, 1, 2], "seconds": 0}
    with pytest.raises(AssertionError, match="torch was loaded"):
        without_torch.measure(request)


def test_latency_is_the_median_after_a_warm_up(monkeypatch):
    now, calls = 0.0, 0

    def call():
        nonlocal now, calls
        calls += 1
        # The first calls are slow, as they are; of the others one in ten is.
        now += 5.0 if calls <= timing.WARM_UP else 0.1 if calls % 10 == 0 else 0.002

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    found = timing.latency(call, 0)
    assert calls == timing.WARM_UP + timing.LEAST
    assert found["latency_ms"] == pytest.approx(2) == found["latency_p5_ms"]
    assert found["latency_p95_ms"] == pytest.approx(100)
    timing.latency(call, 30)
    assert now > 30


def test_rows_are_asked_for_in_parts_that_fit(export_of, monkeypatch):
    one = export_of("protgpt2-tiny")
    data = quality.HeldOut(one.task, held_out(one), "world", ())
    asked = []

    def answer(ids, real):
        asked.append(len(ids))
        return one.model(input_ids=ids).logits

    with torch.no_grad():
        whole = quality.judge(answer, data, one.model.config.vocab_size)
        batches = len(asked)
        monkeypatch.setattr(metrics, "EVALUATION_NUMBERS", 5 * 21 * 60)
        parts = quality.judge(answer, data, one.model.config.vocab_size)
    assert batches == len(data.batches) and len(asked) > 3 * batches
    assert parts["perplexity"] == pytest.approx(whole["perplexity"], rel=1e-6)
