"""The Lab without a browser: played, steered, rewound, branched, failed, followed, closed."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from workbench import RunConfig, checkpoints, run_directory, runs, runtime
from workbench.errors import UsageError, WorkbenchError
from workbench.lab import Lab, Question, registry
from workbench.lab.live import knobs, store, stored
from workbench.lab.live.engine import Plateau
from workbench.progress import Silent
from workbench.tasks import generation

STEPS = 24
PATIENCE = 240  # seconds until a test that hangs fails
HOSTILE = "<img src=x onerror=alert(1)>"
_MEASURE = runtime.measure


@pytest.fixture(scope="module", autouse=True)
def brief():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "GENERATED", 4)
        patch.setattr(runtime, "BATCH_SIZES", (1,))
        patch.setattr(runtime, "measure", partial(_MEASURE, seconds=0.0))
        patch.setattr(runtime, "generation_seconds", lambda model: 1.0)
        yield


@pytest.fixture
def make(tiny_teacher, tmp_path):
    made: list[Lab] = []

    def build(link: str = "protgpt2-tiny", **more) -> Lab:
        options = {
            "teacher": str(tiny_teacher), "steps": STEPS, "train_sequences": 120,
            "validation_sequences": 24, "batch_size": 12, "directory": tmp_path / "runs",
        }  # fmt: skip
        made.append(Lab(link, **{**options, **more}))
        return made[-1]

    yield build
    for lab in made:
        lab.close()
        assert lab.join(PATIENCE)


def settled(lab: Lab) -> Lab:
    assert lab.wait(PATIENCE)
    return lab


def said(lab: Lab, *messages: dict) -> Lab:
    """As the browser says it."""
    for message in messages:
        lab._received(lab, message, [])
    return lab


def directory(lab: Lab) -> run_directory.RunDirectory:
    return run_directory.RunDirectory(Path(lab.engine.moment.course.directory))


# ---------------------------------------------------------------------- transport


def test_it_plays_to_the_end_and_says_what_came_out(make):
    lab = make()
    assert lab.state == "new"
    assert "Ready" in lab.message
    lab.play()
    settled(lab)
    assert lab.state == "done"
    assert lab.message.startswith("Done: All 24 steps are taken.")
    assert lab.results[0] == json.loads(directory(lab).results.read_text())
    for region in (lab._curves, lab._terms, lab._table, lab._numbers, lab._formula, lab._origin):
        assert len(region) > 50


def test_steps_are_taken_one_by_one_and_many(make):
    lab = make()
    lab.step()
    settled(lab)
    assert (lab.state, lab.engine.moment.step) == ("paused", 1)
    lab.step(5)
    settled(lab)
    assert lab.engine.moment.step == 6
    assert "stopped at step 6" in lab.message


def test_playing_twice_is_once_and_pausing_nothing_is_a_remark(make):
    lab = make()
    lab.pause()
    settled(lab)
    assert "Nothing is running" in lab.message
    lab.play()
    lab.play()
    settled(lab)
    assert (lab.state, len(lab.results)) == ("done", 1)


def test_a_reset_leaves_the_run_resumable(make, tmp_path):
    lab = make()
    lab.step(5)
    settled(lab)
    before = directory(lab)
    lab.reset()
    settled(lab)
    assert (lab.state, lab.engine.moment.course) == ("new", None)
    assert runs.resume(before.path, progress=Silent())["steps"] == STEPS


def test_after_the_end_play_begins_a_new_run(make):
    lab = make(steps=4)
    lab.play()
    settled(lab)
    lab.set(T=2.0)
    lab.play()
    settled(lab)
    assert [r["temperature"] for r in lab.results] == [10.0, 2.0]
    assert lab.results[0]["run"] != lab.results[1]["run"]


# ---------------------------------------------------------------------- steering


def test_live_knobs_move_the_run_and_it_is_repeated_to_the_same_bytes(make, tmp_path):
    lab = make()
    lab.step(6)
    settled(lab)
    lab.set(T=3.0)
    lab.set(T=4.0)  # the last value counts
    lab.controls["alpha"].value = 0.6
    lab.step(6)
    settled(lab)
    lab.controls["learning_rate"].value = 1e-3
    lab.controls["play"].click()
    settled(lab)
    changes = [(e.step, e.name, e.new) for e in lab.engine.moment.course.changes]
    assert changes == [
        (6, "temperature", 4.0), (6, "alpha", 0.6), (12, "learning_rate", 1e-3),
    ]  # fmt: skip
    found = runs.replay(directory(lab).path, tmp_path / "again", progress=Silent())
    assert found["same"], found


def test_the_script_repeats_the_run(make, tmp_path, monkeypatch):
    lab = make(size="1x24")
    lab.step(6)
    settled(lab)
    lab.set(T=3.0)
    lab.play()
    settled(lab)
    made = directory(lab)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(lab.script, "script", "exec"), found)
    again = run_directory.RunDirectory(tmp_path / found["results"]["run"])
    assert (again.student / "model.safetensors").read_bytes() == (
        made.student / "model.safetensors"
    ).read_bytes()


def test_knobs_for_the_next_run_say_so(make):
    lab = make()
    lab.step(2)
    settled(lab)
    lab.set(seed=3, steps=30, T=2.0)
    settled(lab)
    lab._publisher.flush(PATIENCE)
    assert set(lab._values["pending"]) == {"seed", "steps"}
    lab.reset()
    lab.step(1)
    settled(lab)
    assert lab._values["pending"] == []
    assert lab.engine.moment.course.config.seed == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"T": 0}, "temperature is 0"),
        ({"T": 1000}, "slider goes from 0.25 to 50"),
        ({"alpha": "much"}, "alpha is 'much'; expected a number"),
        ({"variant": "best"}, "best"),
        ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
        ({"colour": 1}, "there is no setting 'colour'"),
        ({"weights": {"hidden": 1}}, "no setting 'weight.hidden'|has no term 'hidden'"),
    ],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(make, changes, words):
    lab = make()
    before = lab.link
    with pytest.raises(UsageError, match=words):
        lab.set(**changes)
    assert lab.link == before


def test_what_is_wrong_in_a_message_becomes_a_remark(make):
    lab = make()
    said(lab, {"n": 1, "set": {"temperature": -1}}, {"n": 2, "do": "dance"})
    assert lab._publisher.flush(PATIENCE)
    assert "the panel knows no command 'dance'" in lab._status["remark"]
    assert lab._values["heard"] == 2
    said(lab, {"n": 3, "do": "rewind", "with": "x"}, "nonsense")
    assert lab._publisher.flush(PATIENCE)
    assert "rewind was asked for with 'x'" in lab._status["remark"]


def test_a_message_that_comes_twice_counts_once(make):
    lab = make()
    step, warmer = {"n": 1, "do": "step"}, {"n": 2, "set": {"temperature": 5.0}}
    cooler = {"n": 3, "set": {"temperature": 3.0}}
    # The first is lost; the second brings it along; the page, which was not answered yet, says
    # both again; and another page has numbers of its own.
    said(lab, {"page": "a", **warmer, "again": [step]}, {"page": "a", **step})
    settled(lab)
    said(lab, {"page": "b", **step}, {"page": "a", **cooler, "again": [step, warmer]})
    said(lab, {"page": "a", "n": 3, "again": [warmer, cooler]})
    settled(lab)
    assert lab._publisher.flush(PATIENCE)
    assert lab.engine.moment.step == 2
    assert lab.settings.values()["temperature"] == 3.0
    assert lab._values["heard"] == 3
    assert lab._values["taken"] == {"a": 3, "b": 1}


def test_ten_thousand_moves_lose_nothing_and_the_last_counts(make):
    lab = make(steps=2000)
    lab.play()
    for number in range(10_000):
        said(lab, {"n": number + 1, "set": {"temperature": 1 + number / 1000}})
    assert len(lab.engine._mailbox) <= 1
    assert lab.engine._commands.qsize() <= 1
    lab.pause()
    settled(lab)
    lab.step(1)
    settled(lab)
    assert lab._values["heard"] == 10_000
    assert lab.settings.values()["temperature"] == 10.999
    assert lab.engine._session.knobs()["temperature"] == 10.999


# ---------------------------------------------------------------------- back and aside


def test_rewinding_takes_the_knobs_with_it(make):
    lab = make()
    lab.step(8)
    settled(lab)
    lab.set(T=2.0)
    lab.step(8)
    settled(lab)
    lab.rewind(8)
    settled(lab)
    assert (lab.state, lab.engine.moment.step) == ("paused", 8)
    assert lab.settings.values()["temperature"] == 10.0
    assert "taken back from step 16 to 8" in lab.message
    assert max(line["step"] for line in lab.engine.moment.course.lines) == 8


def test_a_finished_run_is_branched_and_stays_as_it_is(make):
    lab = make()
    lab.play()
    settled(lab)
    first = directory(lab)
    before = first.results.read_bytes()
    lab.rewind(12)
    settled(lab)
    assert directory(lab).path != first.path
    lab.set(alpha=1.0)
    lab.play()
    settled(lab)
    assert len(lab.results) == 2
    assert first.results.read_bytes() == before
    assert "changed by hand" in lab._table


def test_pins_are_named_by_what_is_different(make):
    lab = make(steps=4)
    lab.play()
    settled(lab)
    lab.pin()
    lab.set(T=2.0)
    lab.play()
    settled(lab)
    assert lab._publisher.flush(PATIENCE)
    (pin,) = lab._status["pins"]
    assert pin["label"] == "T=10"
    assert "T=10" in lab._curves
    lab.unpin(pin["id"])
    assert lab._publisher.flush(PATIENCE)
    assert lab._status["pins"] == []


def test_several_seeds_give_a_band_and_a_verdict(make):
    lab = make(steps=6)
    lab.seeds(3)
    settled(lab)
    assert [r["seed"] for r in lab.results] == [0, 1, 2]
    assert "<polygon" in lab._curves
    assert "95 % interval" in lab._table
    assert "3 seeds" in lab._table


# ---------------------------------------------------------------------- what is asked and shown


def test_a_question_comes_before_the_run_and_is_answered_by_it(make):
    question = Question(
        "Is the student better than its baseline?", ("yes", "no"),
        lambda r: "yes" if r["student"]["perplexity"] < r["baseline"]["perplexity"] else "no",
    )  # fmt: skip
    lab = make(question=question, steps=4)
    lab.play()
    settled(lab)
    assert lab.state == "new"
    assert "play" not in lab._status["allowed"]
    assert "Answer the question first" in lab.message
    with pytest.raises(UsageError, match="no answer"):
        lab.answer("perhaps")
    lab.answer("yes")
    lab.answer("no")  # not changed after the fact
    lab.play()
    settled(lab)
    measured = question.measured(lab.results[0])
    assert f"Measured: {measured}" in lab.message
    assert ("as you said" in lab.message) == (measured == "yes")


def test_a_stored_run_does_not_answer_the_question():
    lab = Lab("protgpt2-tiny", question=Question("?", ("yes", "no"), lambda results: "yes"))
    lab.answer("no")
    assert lab._publisher.flush(PATIENCE)
    assert "stored run" in lab.message and "Measured" not in lab.message
    lab.close()


def test_a_plateau_ends_the_run_and_says_so(make):
    lab = make(steps=400, plateau=Plateau(measurements=2, least=10.0))
    lab.play()
    settled(lab)
    assert lab.state == "done"
    assert "no longer gets better" in lab.message
    taken = lab.results[0]["steps"]
    assert taken < 400
    # So does its script, which else would go on to the last step.
    assert f'{{"step": {taken}, "name": "end", "new": "no longer gets better"}}' in lab.script


def test_examples_show_oracle_teacher_student_and_label(make):
    lab = make()
    lab.step(1)
    settled(lab)
    assert lab._probe["rows"] == ["oracle", "teacher", "student", "baseline"]
    rows = np.frombuffer(lab._logits, "<f4").reshape(4, len(lab._probe["words"]))
    assert np.exp(rows[0].astype(float)).sum() == pytest.approx(1, abs=1e-6)
    assert lab._probe["words"][lab._probe["label"]]
    before = lab._probe["title"]
    lab.look(2)
    settled(lab)
    assert lab._probe["title"] != before


def test_teacher_and_truth_are_drawn_from_the_first_step_on(make):
    lab = make()
    lab.step()
    settled(lab)
    known = dict(lab.engine.moment.references)
    assert "teacher" in lab.svg() and "oracle (the truth)" in lab.svg()
    lab.play()
    results = settled(lab).results[0]
    assert known == {role: results[role]["perplexity"] for role in ("teacher", "oracle")}


@pytest.mark.parametrize("recipe", store.NAMES)
def test_a_stored_run_says_how_good_the_teacher_is(recipe):
    course, looks, made = stored.load(recipe)
    config = RunConfig.from_recipe(recipe)
    assert course.config == config and looks and "CPU" in made
    assert set(stored.references(config)) == {"teacher", "oracle"}
    assert stored.references(RunConfig.from_recipe(recipe, validation_sequences=7)) == {}


def test_a_run_from_a_cell_returns_its_results(make):
    lab = make()
    results = lab.run(temperature=3.0, seed=1)
    assert results["temperature"] == 3.0 and results["seed"] == 1
    assert lab.state == "done" and lab.results == [results]
    with pytest.raises(UsageError, match="no setting"):
        lab.run(warmth=1)
    asked = make(question=Question("?", ("yes", "no"), lambda r: "yes"))
    with pytest.raises(UsageError, match="question comes first"):
        asked.run()


def test_a_run_from_a_cell_that_is_left_says_so(make):
    lab = make(steps=100_000)
    leaving = threading.Timer(0.5, lab.reset)
    leaving.start()
    with pytest.raises(WorkbenchError, match="left before its end"):
        lab.run()
    leaving.join()


@pytest.mark.parametrize(
    ("recipe", "changes", "said"),
    [("distilbert-pmhc", {"size": "6"}, "2i can give 1 to 4"),
     ("protgpt2-tiny", {"init": "0,99"}, "the teacher has 9, numbered 0 to 8")],
)  # fmt: skip
def test_a_start_that_the_teacher_cannot_give_is_refused_and_the_panel_goes_on(
    recipe, changes, said
):
    lab = Lab(recipe)
    said_by_hand = {"n": 1, "set": changes}
    lab._received(lab, said_by_hand, [])
    assert lab._publisher.flush(PATIENCE)
    assert said in lab.message and lab._values["heard"] == 1
    lab.close()


def test_the_size_is_told_wherever_a_run_is_named(make):
    lab = make()
    lab.run()
    lab.pin()
    lab.set(size="1x24")
    assert lab._publisher.flush(PATIENCE)
    assert "1 layers" not in lab._origin and "(1 layer, 24 wide)" in lab._origin
    lab.run()
    assert "size=the recipe&#x27;s: " in lab.svg()
    assert "size=1x24 seed 0" in lab._table


def test_a_start_from_a_teacher_of_ones_own_needs_no_table_of_layers(make):
    lab = make(init="0,40")
    assert "0,40, of a teacher that is yours" in lab._origin


def test_a_closed_panel_says_what_to_do(make):
    lab = make()
    lab.close()
    with pytest.raises(UsageError, match="run its cell again"):
        lab.run()


def test_a_run_beyond_the_sliders_is_followed(make, tmp_path, options_of):
    place = tmp_path / "followed"
    runs.distill("protgpt2-tiny", place, progress=Silent(), temperature=100.0, **options_of)
    lab = Lab.follow(place)
    assert "at T=100 " in lab._formula and lab.state == "following"
    assert lab.settings.config() == run_directory.load_config(run_directory.RunDirectory(place))
    lab.close()


def test_a_visitor_chooses_among_a_few_sizes(make):
    lab = make(private=True)
    lab.set(size="1x24")
    with pytest.raises(UsageError, match="on this page the size is one of"):
        lab.set(size="900x90000")


def test_what_a_user_typed_is_escaped(make, tmp_path):
    lab = make()
    with pytest.raises(UsageError):
        lab.set(init=HOSTILE)
    said(lab, {"n": 1, "set": {"init": HOSTILE}}, {"n": 2, "set": {"data": HOSTILE}})
    lab.play()
    settled(lab)
    assert lab.state == "failed"
    assert "<img" not in lab.static()
    assert "&lt;img" in lab.static()


def test_links_and_settings_are_inverse():
    for link in (
        "protgpt2-tiny", "protgpt2-tiny;T=4;alpha=0.5;seed=3",
        "compactbiobert;variant=as-coded;weight.hidden=0;hide=alpha,seed",
        "protgpt2-tiny;data=a%3Bb.fasta",
    ):  # fmt: skip
        assert knobs.read(link).link() == link


# ---------------------------------------------------------------------- when things go wrong


def test_a_step_that_breaks_is_a_sentence_and_can_be_taken_back(make):
    lab = make()
    lab.step(8)
    settled(lab)
    lab.engine._session.shop.student.learning_rate = 1e30
    lab.play()
    settled(lab)
    assert lab.state == "failed"
    assert "Rewind to step 8" in lab.message
    assert "Traceback" in lab._status["details"]
    lab.play()
    settled(lab)
    assert "rewind it" in lab.message
    lab.rewind(8)
    lab.play()
    settled(lab)
    assert lab.state == "done"


def test_missing_data_is_a_sentence(make, tmp_path):
    lab = make(data=str(tmp_path / "nowhere.fasta"))
    lab.play()
    settled(lab)
    assert lab.state == "failed"
    assert "nowhere.fasta" in lab.message
    assert not any((tmp_path / "runs").glob("*"))


def test_a_visitors_panel_takes_no_files(make):
    lab = make(private=True)
    assert not {"data", "init"} & {k["name"] for k in lab._face["knobs"]}
    said(lab, {"n": 1, "set": {"data": "/etc/passwd"}})
    assert lab._publisher.flush(PATIENCE)
    assert "data cannot be set on this page" in lab._status["remark"]
    said(lab, {"n": 2, "do": "link", "with": "protgpt2-tiny;data=x.fasta"})
    assert lab._publisher.flush(PATIENCE)
    assert "data" not in lab.settings.given


# ---------------------------------------------------------------------- following


def test_a_run_of_another_process_is_followed(make, options_of, tmp_path):
    path = tmp_path / "other"
    seen: list[Lab] = []

    def meanwhile() -> bool:
        if not seen and (path / "metrics.jsonl").exists():
            seen.append(Lab.follow(path))
        return False

    runs.distill("protgpt2-tiny", path, progress=Silent(), should_stop=meanwhile, **options_of)
    (lab,) = seen
    assert lab.wait(PATIENCE)
    assert lab.engine.moment.course.results["steps"] == STEPS
    assert lab._face["follows"]
    assert lab._status["allowed"] == []
    lab.play()
    assert lab._publisher.flush(PATIENCE)
    assert "only shows the run" in lab.message
    lab.close()
    with pytest.raises(WorkbenchError, match="there is no run directory"):
        Lab.follow(tmp_path / "nowhere")


@pytest.fixture
def options_of(tiny_teacher):
    return {
        "teacher": str(tiny_teacher), "steps": STEPS, "train_sequences": 120,
        "validation_sequences": 24, "batch_size": 12,
    }  # fmt: skip


# ---------------------------------------------------------------------- nothing is left over


def test_running_the_cell_again_closes_the_lab_before(make):
    one = make(name="cell")
    one.step(2)
    other = make(name="cell")
    assert one.join(PATIENCE)
    assert one.state == "closed"
    assert registry.open_names() == ["cell"]
    other.close()


def test_a_hundred_labs_leave_no_thread_and_no_widget(make):
    import ipywidgets

    def once() -> None:
        lab = make(name="again")
        lab._publisher.flush(PATIENCE)

    once()
    threads, widgets = threading.active_count(), len(ipywidgets.widgets.widget._instances)
    for _ in range(99):
        once()
    gc.collect()
    assert threading.active_count() <= threads
    assert len(ipywidgets.widgets.widget._instances) <= widgets


def test_closing_twice_is_once_and_keeps_the_last_picture(make):
    lab = make()
    lab.step(2)
    settled(lab)
    lab.close()
    lab.close()
    assert lab.state in ("closed", "paused")
    assert "<svg" in lab.static()


def test_nothing_runs_before_it_is_needed(make):
    before = set(threading.enumerate())
    lab = make()
    assert set(threading.enumerate()) == before
    assert lab.state == "new" and "protgpt2-tiny" in repr(lab)


def test_the_end_of_the_interpreter_waits_for_the_step(tiny_teacher, tmp_path):
    """Otherwise torch aborts the process, and the checkpoint is not written."""
    program = f"""
import time
from workbench import Lab
lab = Lab("protgpt2-tiny", steps=100_000, teacher={str(tiny_teacher)!r}, train_sequences=120,
          validation_sequences=24, batch_size=12, directory={str(tmp_path)!r})
lab.play()
while lab.engine.moment.step < 3:
    time.sleep(0.05)
"""
    repository = Path(runs.__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE, cwd=repository)
    (run,) = tmp_path.iterdir()
    assert checkpoints.step_of(run_directory.RunDirectory(run)) >= 3
