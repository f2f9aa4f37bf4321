"""What cannot be exported is refused in one line, early, and leaves nothing behind."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import exported
import numpy as np
import pytest
import torch

from workbench import cli, models, portable
from workbench.errors import UsageError, WorkbenchError
from workbench.portable import agreement, exporting, measure, onnx_files, subject
from workbench.progress import Silent

COST = dict.fromkeys(measure.KEYS, 1.0)


@pytest.fixture
def unmeasured(monkeypatch):
    """No processes are started to measure in; another test does that."""
    monkeypatch.setattr(measure, "cost", lambda program, request, files, rounds: dict(COST))


@pytest.fixture(scope="session")
def tiny_files(tiny_teacher, tmp_path_factory):
    """ONNX files of the tiny teacher, float32 and int8, with weights in files of their own."""
    place = tmp_path_factory.mktemp("files")
    model, _, _ = models.load_causal_lm(tiny_teacher)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_files, "LARGEST_FILE", 1000)
        written = onnx_files.write(model, place / "model.onnx", 128)
    return written, onnx_files.write_int8(written[0], place / "model_int8.onnx")


def copying(files, monkeypatch):
    """Have files copied instead of written anew."""

    def copy(path: Path) -> list[Path]:
        return [Path(shutil.copy(f, path.with_name(f.name))) for f in files]

    monkeypatch.setattr(onnx_files, "write", lambda model, path, longest: copy(path))


def config(directory: Path, **values) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(values))
    return directory


def refused(capsys, status: int, *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main(["export", *arguments])
    captured = capsys.readouterr()
    assert (left.value.code, captured.out) == (status, "")
    (line,) = [s for s in captured.err.splitlines() if s.startswith("workbench: ")]
    return line


# ---------------------------------------------------------------------- before anything is loaded


def test_other_kinds_are_refused_from_their_configuration(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models, "load_pretrained", lambda *_: pytest.fail("was loaded"))
    monkeypatch.chdir(tmp_path)
    t5 = config(
        tmp_path / "t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True
    )
    bart = config(
        tmp_path / "bart", architectures=["BartForSequenceClassification"], is_encoder_decoder=True
    )
    vit = config(tmp_path / "vit", architectures=["ViTForImageClassification"])
    nameless = config(tmp_path / "nameless")
    assert "T5ForConditionalGeneration, an encoder with a decoder (seq2seq)" in refused(
        capsys, 2, str(t5)
    )
    assert "(seq2seq); expected a causal" in refused(capsys, 2, str(bart))
    assert "such as ViTForImageClassification; expected" in refused(capsys, 2, str(vit))
    assert "one of unnamed architecture" in refused(capsys, 2, str(nameless))
    assert "--to is 'coreml'; expected onnx" in refused(capsys, 2, "pmhc", "--to", "coreml")
    assert "are about --data" in refused(capsys, 2, "pmhc", "--column", "text")
    assert "no model directory" in refused(capsys, 1, "./nowhere")
    assert not list(tmp_path.glob("*-onnx"))


def test_a_run_without_a_student_is_refused(tmp_path, capsys):
    exported.finished_run(tmp_path / "run", "protgpt2-tiny")
    shutil.rmtree(tmp_path / "run" / "student")
    assert "has no finished student; go on with `workbench resume" in refused(
        capsys, 1, str(tmp_path / "run")
    )
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"config.json"}


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models, "load_pretrained", lambda *_: pytest.fail("was loaded"))
    other, file = tmp_path / "other", tmp_path / "file"
    other.mkdir()
    (other / "thesis.tex").write_text("dear")
    file.write_text("dear")
    assert "holds something else (thesis.tex)" in refused(capsys, 1, "pmhc", "--out", str(other))
    for place in (file, file / "deeper" / "export"):
        line = refused(capsys, 1, "pmhc", "--out", str(place))
        assert f"{file} is a file; expected a directory" in line
    assert (other / "thesis.tex").read_text() == file.read_text() == "dear"
    assert {p.name for p in tmp_path.iterdir()} == {"other", "file"}


def test_which_data_a_model_is_judged_by(tmp_path, tiny_teacher):
    run = tmp_path / "run"
    own = exported.finished_run(run, "pmhc")
    assert subject.find(run).config == subject.find(run / "student").config == own
    assert subject.find(run).default_out == run / "onnx"
    assert subject.find("pmhc").default_out == Path("pmhc-onnx")
    other = subject.find(run, data="mine.csv", alleles="more.csv").config
    assert (other.data, other.alleles, other.train_sequences) == ("mine.csv", "more.csv", None)
    assert subject.find("biobert").config.data == "world:biomedical"
    assert subject.find(tiny_teacher).config is None
    assert subject.find(tiny_teacher, data="mine.fasta").config.data == "mine.fasta"


# ---------------------------------------------------------------------- once it is written


def test_an_export_that_differs_is_refused_and_leaves_nothing(
    tmp_path, tiny_teacher, tiny_files, unmeasured, monkeypatch
):
    import onnx
    from onnx import numpy_helper

    broken = onnx.load(tiny_files[0][0])
    norm = [n for n in broken.graph.node if n.op_type == "LayerNormalization"][-1]
    table = next(t for t in broken.graph.initializer if t.name == norm.input[1])
    changed = numpy_helper.to_array(table).copy()
    changed[0] += 0.01
    table.CopyFrom(numpy_helper.from_array(changed, table.name))
    file = tmp_path / "model.onnx"
    onnx.save(broken, file)
    copying([file], monkeypatch)
    place = tmp_path / "deep" / "export"
    with pytest.raises(
        WorkbenchError, match=r"differs from PyTorch by .* nothing was kept"
    ) as said:
        portable.export(tiny_teacher, out=place, progress=Silent())
    assert "\n" not in str(said.value)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_an_int8_file_that_answers_no_number_is_refused(
    tmp_path, tiny_teacher, tiny_files, unmeasured, monkeypatch
):
    copying(tiny_files[0], monkeypatch)
    right = onnx_files.answer_of

    def answer_of(session, calls=[]):  # noqa: B006
        calls.append(session)
        answer = right(session)
        return answer if len(calls) == 1 else lambda *given: answer(*given) * float("nan")

    monkeypatch.setattr(onnx_files, "answer_of", answer_of)
    with pytest.raises(WorkbenchError, match=r"model_int8.onnx .* no finite number"):
        portable.export(tiny_teacher, int8=True, out=tmp_path / "out", progress=Silent())
    assert not list(tmp_path.iterdir())


def test_what_the_packages_beneath_refuse_is_one_line(tmp_path, tiny_files, monkeypatch):
    import onnxruntime.quantization

    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match=r"onnxruntime cannot run model.onnx: \S") as said:
        onnx_files.open_session(broken, 1)
    assert "\n" not in str(said.value)

    def refuse(*_, **__):
        raise RuntimeError("of no shape\nand more")

    monkeypatch.setattr(onnxruntime.quantization, "quantize_dynamic", refuse)
    with pytest.raises(WorkbenchError, match=r"cannot be written in int8: of no shape$"):
        onnx_files.write_int8(tiny_files[0][0], tmp_path / "int8.onnx")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_is_a_difference(wrong):
    def right(ids, real):
        return torch.zeros((*ids.shape, 3))

    def odd(ids, real):
        found = right(ids, real)
        found[0, 0, 0] = wrong
        return found

    assert agreement.largest_difference(right, right, 5, 9, 0).within
    assert not agreement.largest_difference(odd, right, 5, 9, 0).within


def test_the_shapes_that_are_compared():
    shapes = [tuple(ids.shape) for ids, _ in agreement.inputs(5, 40, 3)]
    assert (1, 1) in shapes and (1, 40) in shapes and len({b for b, _ in shapes}) > 3
    for ids, real in agreement.inputs(5, 40, 3):
        assert (ids[~real] == 3).all() and real[:, 0].all() and real[0].all()
    assert any(not real.all() for _, real in agreement.inputs(5, 40, 3))
    assert max(ids.shape[1] for ids, _ in agreement.inputs(5, 40_000, 3)) == agreement.LONGEST
    assert all(ids.shape[1] == 1 for ids, _ in agreement.inputs(5, 1, 3))


def test_large_weights_lie_in_a_file_beside(tiny_files, tiny_teacher):
    float32, int8 = tiny_files
    assert [f.name for f in float32] == ["model.onnx", "model.onnx.data"]
    model, _, _ = models.load_causal_lm(tiny_teacher)
    for files, most in ((float32, 1e-4), (int8, 1.0)):
        assert all(f.exists() for f in files)
        answer = onnx_files.answer_of(onnx_files.open_session(files[0], 1))
        reference = onnx_files.answer_of_pytorch(model)
        differs = agreement.largest_difference(answer, reference, 21, 128, 0)
        assert 0 < differs.largest < most


def test_an_export_replaces_an_earlier_one_or_leaves_it(
    tmp_path, tiny_teacher, tiny_files, unmeasured, monkeypatch
):
    place = tmp_path / "deep" / "export"
    copying(tiny_files[0], monkeypatch)
    found = portable.export(tiny_teacher, int8=True, out=place, progress=Silent())
    assert found["data"] is found["int8_loss"] is found["pytorch"]["perplexity"] is None
    assert found["files"]["int8"]["largest_difference"] > 0
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    assert {"model.onnx", "model.onnx.data", "model_int8.onnx"} <= set(before)
    again = portable.export(tiny_teacher, int8=True, out=place, progress=Silent())
    assert again == found
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before  # the same bytes

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_files, "write_int8", stopped)
    with pytest.raises(KeyboardInterrupt):
        portable.export(tiny_teacher, int8=True, out=place, progress=Silent())
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    portable.export(tiny_teacher, out=place, progress=Silent())
    assert "model_int8.onnx" not in {p.name for p in place.iterdir()}
    assert [p.name for p in place.parent.iterdir()] == ["export"]


def test_the_command_prints_one_object_or_a_table(
    tmp_path, tiny_teacher, tiny_files, unmeasured, monkeypatch, capsys
):
    copying(tiny_files[0], monkeypatch)
    handlers = list(logging.root.handlers)
    data = tmp_path / "two.fasta"
    data.write_text(">one\n" + "MKVLAAGIV" * 20 + "\n")
    given = [str(tiny_teacher), "--out", str(tmp_path / "out"), "--data", str(data)]
    with pytest.raises(SystemExit) as left:
        cli.main(["export", *given, "--int8", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert left.value.code == 0 and logging.root.handlers == handlers
    assert found["data"] == str(data) and found["pytorch"]["perplexity"] > 1
    assert found["pytorch"].keys() == found["files"]["int8"].keys()
    assert found["pytorch"].keys() >= {*measure.KEYS, "largest_difference", "perplexity", "auc"}
    with pytest.raises(SystemExit):
        cli.main(["export", *given])
    out = capsys.readouterr().out
    assert "ONNX float32" in out and "int8" not in out
    assert f"Everything is in {tmp_path / 'out'}" in out


def test_a_process_that_fails_is_one_line(tmp_path):
    request = {"model": str(tmp_path / "absent.onnx"), "ids": [1]}
    with pytest.raises(
        WorkbenchError, match=r"absent.onnx could not be measured \(without_torch\)"
    ):
        measure.cost("without_torch", request, [])


def test_a_format_is_checked_before_all_else():
    with pytest.raises(UsageError, match="expected onnx"):
        exporting.export("nothing at all", to="gguf")


def test_bench_says_what_was_measured(monkeypatch):
    from workbench.bench import command
    from workbench.bench import portable as bench

    row = {**COST, "largest_difference": None, "perplexity": 7.5, "accuracy": None, "f1": None,
           "auc": None, "path": "here"}  # fmt: skip
    asked = []

    def made(what, *, int8, out, rounds, progress):
        asked.append((Path(what).name, int8, rounds))
        near = {**row, "largest_difference": 2e-5 * len(asked)}
        return {"task": "text-generation", "typical_tokens": 9, "pytorch": row,
                "files": {"float32": near, "int8": {**near, "perplexity": 7.6}},
                "int8_loss": {"perplexity": np.float64(0.1).item()}}  # fmt: skip

    trained = []
    monkeypatch.setattr(exporting, "export", made)
    monkeypatch.setattr("workbench.runs.distill", lambda name, *_, **o: trained.append(name))
    found = bench.measure(("pmhc",), ("tinybiobert",), rounds=2, progress=Silent())
    assert asked == [("pmhc", True, 2), ("tinybiobert", True, 2)] and trained == ["tinybiobert"]
    assert found["goals"][0]["found"] == pytest.approx(4e-5) and found["goals"][0]["met"]
    assert "path" not in found["models"]["pmhc"]["rows"]["PyTorch"]
    lines = command.text("portable", found).splitlines()
    assert len(lines) == 1 + 2 * 3 + 1 and "7.6000" in lines[3] and lines[-1].endswith("met")
