"""A run: the same bytes whatever happens to it, and one clear line when something is in the way."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from workbench import plots, runs, runtime
from workbench.errors import Interrupted, NonFiniteLoss, WorkbenchError
from workbench.progress import Silent
from workbench.tasks import generation

SMALL = {"train_sequences": 200, "validation_sequences": 40, "batch_size": 16}
STEPS = 40
CONTRACT_KEYS = {
    "recipe", "variant", "run", "steps", "seconds", "seed", "temperature", "alpha",
    "oracle", "teacher", "student", "baseline",
}  # fmt: skip
ROW_KEYS = {
    "parameters", "perplexity", "perplexity_per_residue", "accuracy", "f1", "auc",
    "kl_to_teacher", "agreement", "latency_ms", "tokens_per_second",
}  # fmt: skip


def measure_briefly() -> None:
    """Few repeats at the end of a run: what is tested here is not how fast the machine is."""
    generation.GENERATED = 4
    runtime.BATCH_SIZES = (1,)
    runtime.measure = partial(_MEASURE, seconds=0.0)
    runtime.generation_seconds = lambda model: 1.0


_MEASURE = runtime.measure


@pytest.fixture(scope="module", autouse=True)
def brief():
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (generation, "GENERATED"),
            (runtime, "BATCH_SIZES"),
            (runtime, "measure"),
            (runtime, "generation_seconds"),
        ):
            patch.setattr(module, name, getattr(module, name))
        measure_briefly()
        yield


@pytest.fixture(scope="module")
def options(tiny_teacher):
    return {**SMALL, "teacher": str(tiny_teacher), "steps": STEPS, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, options):
    """An undisturbed run."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    runs.distill("protgpt2-tiny", path, progress=Silent(), **options)
    return path


def student_bytes(path: Path) -> bytes:
    return (path / "student" / "model.safetensors").read_bytes()


def metrics_without_clock(path: Path) -> list[dict]:
    lines = runs.read_metrics(path)
    for line in lines:
        line.pop("seconds", None)
        line.pop("tokens_per_second", None)
    return lines


# ---------------------------------------------------------------------- what a run leaves


def test_run_directory_holds_what_the_contract_names(finished):
    names = {p.name for p in finished.iterdir()} - {".lock"}
    assert names == {
        "config.json", "metrics.jsonl", "events.jsonl", "checkpoint", "student", "results.json",
        "figures",
    }  # fmt: skip
    for figure in ("perplexity", "runtime", "ledger", "amino_acids"):
        assert (finished / "figures" / f"{figure}.png").stat().st_size > 5000
        assert (finished / "figures" / f"{figure}.svg").stat().st_size > 1000


def test_results_have_the_shape_of_the_contract_and_null_where_nothing_applies(finished):
    results = json.loads((finished / "results.json").read_text())
    assert set(results) == CONTRACT_KEYS
    for name in ("oracle", "teacher", "student", "baseline"):
        assert set(results[name]) >= ROW_KEYS, name
        assert results[name]["accuracy"] is None
        assert results[name]["perplexity"] > 1
    for name in ("student", "baseline"):
        assert results[name]["kl_to_teacher"] >= 0
        assert 0 <= results[name]["agreement"] <= 1
    for name in ("teacher", "student"):
        assert results[name]["latency_ms"] > 0
        assert results[name]["tokens_per_second"] > 0
    assert results["oracle"]["parameters"] is None
    assert results["steps"] == STEPS


def test_student_and_baseline_have_the_same_start_and_the_same_size(finished):
    first = runs.read_metrics(finished)[0]
    assert first["step"] == 0
    assert first["validation"]["student"] == first["validation"]["baseline"]


def test_student_loads_with_plain_transformers_and_generates(finished):
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    model = AutoModelForCausalLM.from_pretrained(finished / "student")
    tokenizer = AutoTokenizer.from_pretrained(finished / "student")
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    (answer,) = write("<|endoftext|>", max_new_tokens=20, do_sample=True)
    assert set(answer["generated_text"].replace("<|endoftext|>", "")) <= set("ACDEFGHIKLMNPQRSTVWY")


def test_config_rebuilds_the_run(finished, options):
    config = runs.load_config(runs.RunDirectory(finished))
    assert config.steps == STEPS
    assert type(config).from_json(config.to_json()) == config


# ---------------------------------------------------------------------- the same bytes


def test_same_seed_same_bytes_and_another_seed_other_bytes(finished, options, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    runs.distill("protgpt2-tiny", again, progress=Silent(), **options)
    assert student_bytes(again) == student_bytes(finished)
    assert metrics_without_clock(again) == metrics_without_clock(finished)
    runs.distill("protgpt2-tiny", other, progress=Silent(), **options, seed=1)
    assert student_bytes(other) != student_bytes(finished)


def test_teacher_run_live_gives_the_bytes_of_the_cached_one(finished, options, tmp_path):
    runs.distill("protgpt2-tiny", tmp_path / "live", progress=Silent(), cached=False, **options)
    assert student_bytes(tmp_path / "live") == student_bytes(finished)


def test_interrupted_run_resumes_to_the_same_bytes(finished, options, tmp_path):
    path = tmp_path / "interrupted"
    steps = iter(range(1000))
    with pytest.raises(Interrupted, match="step 17 of 40; go on with `workbench resume"):
        runs.distill(
            "protgpt2-tiny", path, progress=Silent(), should_stop=lambda: next(steps) >= 17,
            **options,
        )  # fmt: skip
    assert not (path / "results.json").exists()
    runs.resume(path, progress=Silent())
    assert student_bytes(path) == student_bytes(finished)
    assert metrics_without_clock(path) == metrics_without_clock(finished)


def _work(path: str, options: dict) -> None:
    """Begin or go on with a run, in a process of its own that may be killed at any moment."""
    measure_briefly()
    plots.run_figures = lambda lines, results, formula: {}  # seconds, and no part of the student
    if (Path(path) / "config.json").exists():
        runs.resume(path, progress=Silent())
    else:
        runs.distill("protgpt2-tiny", path, progress=Silent(), **options)


def test_killed_at_twenty_random_moments_resumes_to_the_same_bytes(finished, options, tmp_path):
    # A fork server that has imported everything: what is killed is the run, not the imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["workbench.runs", "workbench.workshop", "torch", "transformers", "accelerate", "datasets"]
    )
    warm = context.Process(target=_work, args=(str(tmp_path / "warm"), options))
    started = time.monotonic()
    warm.start()
    warm.join()
    whole = time.monotonic() - started
    assert warm.exitcode == 0
    assert student_bytes(tmp_path / "warm") == student_bytes(finished)

    moments = random.Random(20)
    kills = 0
    number = 0
    stuck = 0
    reached: set[int] = set()
    while kills < 20:
        path = tmp_path / f"killed-{number}"
        process = context.Process(target=_work, args=(str(path), options))
        process.start()
        # A machine that has become slower since the whole run was timed gets more time.
        process.join(moments.uniform(0.02, 0.5 * whole * (1 + stuck / 2)))
        process.kill()
        process.join()
        # Or it came to its end by itself, before or at this very moment.
        assert process.exitcode in (-signal.SIGKILL, 0)
        if process.exitcode:
            kills += 1
            lines = runs.read_metrics(path) if path.exists() else []
            step = lines[-1]["step"] if lines else -1
            stuck = stuck + 1 if step in reached else 0
            reached.add(step)
        if (path / "results.json").exists():
            assert student_bytes(path) == student_bytes(finished)
            number += 1
            stuck = 0
    last = tmp_path / f"killed-{number}"
    process = context.Process(target=_work, args=(str(last), options))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert student_bytes(last) == student_bytes(finished)
    assert metrics_without_clock(last) == metrics_without_clock(finished)
    assert len(reached) > 2, f"the kills all fell into the same moment: {reached}"


def test_teacher_has_the_same_bytes_after_a_run(tiny_teacher, options, tmp_path):
    before = {p.name: p.read_bytes() for p in tiny_teacher.iterdir()}
    runs.distill("protgpt2-tiny", tmp_path / "run", progress=Silent(), **{**options, "steps": 4})
    assert {p.name: p.read_bytes() for p in tiny_teacher.iterdir()} == before


def test_a_teacher_that_changes_during_the_run_is_noticed(options, tmp_path, monkeypatch):
    prepare = runs.workshop.prepare

    def prepare_then_touch(config, progress):
        shop = prepare(config, progress)
        step = shop.student.step

        def touching(batch):
            next(shop.teacher_model.parameters()).data[0] += 1e-3
            return step(batch)

        shop.student.step = touching
        return shop

    monkeypatch.setattr(runs.workshop, "prepare", prepare_then_touch)
    with pytest.raises(WorkbenchError, match="teacher's weights changed"):
        runs.distill("protgpt2-tiny", tmp_path / "r", progress=Silent(), **{**options, "steps": 2})


# ---------------------------------------------------------------------- what stands in the way


def test_finished_run_is_only_read_by_resume(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.name != ".lock"}
    results = runs.resume(finished, progress=Silent())
    assert results == json.loads((finished / "results.json").read_text())
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.name != ".lock"} == before


def test_directory_with_a_run_or_with_something_else_is_left_alone(finished, options, tmp_path):
    with pytest.raises(WorkbenchError, match="already holds a run; go on with `workbench resume"):
        runs.distill("protgpt2-tiny", finished, progress=Silent(), **options)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    with pytest.raises(WorkbenchError, match=r"holds something else \(dear.txt\)"):
        runs.distill("protgpt2-tiny", tmp_path / "letters", progress=Silent(), **options)
    assert [p.name for p in (tmp_path / "letters").iterdir()] == ["dear.txt"]
    with pytest.raises(WorkbenchError, match="is a file"):
        runs.distill(
            "protgpt2-tiny", tmp_path / "letters" / "dear.txt", progress=Silent(), **options
        )
    with pytest.raises(WorkbenchError, match="holds no run"):
        runs.resume(tmp_path / "letters", progress=Silent())
    with pytest.raises(WorkbenchError, match="no run directory"):
        runs.resume(tmp_path / "nowhere", progress=Silent())


def test_second_process_is_kept_off(finished, options, tmp_path):
    path = tmp_path / "busy"
    seen: list[str] = []

    def meanwhile() -> bool:
        if not seen:
            code = (
                "import sys; from workbench import runs\n"
                "from workbench.errors import WorkbenchError\n"
                "try: runs.resume(sys.argv[1])\n"
                "except WorkbenchError as error: print(error)"
            )
            answer = subprocess.run(
                [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
            )
            seen.append(answer.stdout)
        return False

    runs.distill("protgpt2-tiny", path, progress=Silent(), should_stop=meanwhile, **options)
    assert "another process is working on" in seen[0]
    assert seen[0].count("\n") == 1
    assert student_bytes(path) == student_bytes(finished)


def test_full_disk_stops_with_one_line_and_the_run_resumes(finished, options, tmp_path):
    """A limit on the size of files stands in for the full disk: writes fail half-way."""
    path = tmp_path / "full"
    code = (
        "import json, resource, signal, sys\n"
        "from workbench import runs\n"
        "from workbench.errors import WorkbenchError\n"
        "from workbench.progress import Silent\n"
        "steps = iter(range(1000))\n"
        "def fill_up():\n"
        "    if next(steps) == 10:\n"
        "        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "    return False\n"
        "try: runs.distill('protgpt2-tiny', sys.argv[1], progress=Silent(),\n"
        "                  should_stop=fill_up, **json.loads(sys.argv[2]))\n"
        "except WorkbenchError as error: print(error)\n"
        "else: print('no error')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps(options)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cannot write last.safetensors" in answer.stdout
    assert "free some space" in answer.stdout
    assert answer.stdout.count("\n") == 1
    assert not list(path.rglob("*.part-*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    runs.resume(path, progress=Silent())
    assert student_bytes(path) == student_bytes(finished)


def test_unwritable_place_is_one_line(options, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(WorkbenchError, match="cannot write the run in") as caught:
        runs.distill("protgpt2-tiny", tmp_path / "file" / "run", progress=Silent(), **options)
    assert "\n" not in str(caught.value)


def test_loss_that_is_not_finite_stops_at_that_step_and_names_the_last_checkpoint(
    options, tmp_path, monkeypatch
):
    prepare = runs.workshop.prepare

    def prepare_with_a_bad_batch(config, progress):
        shop = prepare(config, progress)
        signal_of = shop.student.teacher.signal
        calls = iter(range(10_000))

        def poisoned(batch, scored):
            answer = signal_of(batch, scored)
            if shop.student.step_number == 10 and next(calls) >= 0:
                answer = type(answer)(answer.stored * float("nan"), answer.head)
            return answer

        shop.student.teacher.signal = poisoned
        return shop

    monkeypatch.setattr(runs.workshop, "prepare", prepare_with_a_bad_batch)
    path = tmp_path / "bad"
    with pytest.raises(
        NonFiniteLoss,
        match=r"the soft loss is nan at step 11; .*last good checkpoint is step 8 in .*bad",
    ):
        runs.distill("protgpt2-tiny", path, progress=Silent(), **options)
    assert runs.read_metrics(path)[-1]["step"] == 10


def test_damaged_checkpoint_is_named(options, tmp_path):
    path = tmp_path / "damaged"
    steps = iter(range(1000))
    with pytest.raises(Interrupted):
        runs.distill(
            "protgpt2-tiny",
            path,
            progress=Silent(),
            should_stop=lambda: next(steps) >= 6,
            **options,
        )
    checkpoint = path / "checkpoint" / "last.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(WorkbenchError, match=r"is damaged .*remove it to begin"):
        runs.resume(path, progress=Silent())


def test_foreign_configuration_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(WorkbenchError, match="was not written by this workbench"):
        runs.resume(tmp_path, progress=Silent())
    (tmp_path / "config.json").write_text("{half")
    with pytest.raises(WorkbenchError, match="is damaged"):
        runs.resume(tmp_path, progress=Silent())
