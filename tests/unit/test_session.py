"""A run steered by hand: events, rewinds, branches, early ends, and the same bytes again."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise

import pytest

from workbench import checkpoints, events, run_directory, runs, runtime, storage, workshop
from workbench.config import RunConfig
from workbench.errors import Interrupted, NonFiniteLoss, UsageError, WorkbenchError
from workbench.events import Event
from workbench.progress import Silent
from workbench.run_directory import RunDirectory
from workbench.session import Session
from workbench.tasks import generation

STEPS = 24
_MEASURE = runtime.measure


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Few repeats at the end of a run: what is tested here is not how fast the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "GENERATED", 4)
        patch.setattr(runtime, "BATCH_SIZES", (1,))
        patch.setattr(runtime, "measure", partial(_MEASURE, seconds=0.0))
        patch.setattr(runtime, "generation_seconds", lambda model: 1.0)
        yield


@pytest.fixture(scope="module")
def options(tiny_teacher):
    return {
        "teacher": str(tiny_teacher), "steps": STEPS, "train_sequences": 120,
        "validation_sequences": 24, "batch_size": 12,
    }  # fmt: skip


@pytest.fixture
def begin(options, tmp_path):
    """Begins a session in a directory of that name."""

    def make(name: str = "run", **more) -> Session:
        config = RunConfig.from_recipe("protgpt2-tiny", **options)
        directory = RunDirectory(tmp_path / name)
        storage.make_directory(directory.path, "the run")
        shop = workshop.prepare(config, Silent())
        storage.write_json(directory.config, run_directory.described(config))
        session = Session(directory, config, shop, Silent(), keeps=True, **more)
        session.begin()
        return session

    return make


def go(session: Session, to: int) -> Session:
    while session.step < to:
        session.advance()
    return session


def lines_of(session: Session) -> list[dict]:
    """The metrics without what a clock says."""
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")}
        for line in run_directory.read_metrics(session.directory.path)
    ]


def same(one: Session, other: Session) -> bool:
    one.save()
    other.save()
    return checkpoints.differences(one.directory, other.directory) == []


# ---------------------------------------------------------------------- changes


def test_a_change_applies_at_the_next_step_and_is_an_event(begin):
    steered, plain = go(begin("steered"), 8), go(begin("plain"), 8)
    assert same(steered, plain)
    steered.change("temperature", 3.0)
    assert steered.knobs()["temperature"] == 3.0
    assert events.read(steered.directory.events) == [Event(8, "temperature", 10.0, 3.0)]
    go(steered, 9), go(plain, 9)
    assert not same(steered, plain)


def test_changing_to_the_same_value_is_no_event(begin):
    session = begin()
    session.change("alpha", session.knobs()["alpha"])
    assert events.read(session.directory.events) == []


def test_learning_rate_is_changed_for_the_baseline_too(begin):
    session = begin()
    session.change("learning_rate", 1e-4)
    assert session.shop.student.learning_rate == session.shop.baseline.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temperature", 0.0, "temperature is 0.0"),
        ("temperature", float("nan"), "expected a finite number"),
        ("alpha", 1.5, "alpha is 1.5"),
        ("learning_rate", -1.0, "learning_rate is -1.0"),
        ("weight.hidden", 1.0, "there is no weight.hidden to change in protgpt2-tiny"),
        ("seed", 1.0, "seed cannot be changed during a run"),
    ],
)
def test_a_wrong_change_is_refused_in_one_line_and_leaves_no_trace(begin, name, value, said):
    session = begin()
    before = session.knobs()
    with pytest.raises(UsageError, match=said):
        session.change(name, value)
    assert session.knobs() == before
    assert events.read(session.directory.events) == []


def test_scheduled_changes_make_the_run_that_was_steered(begin, options, tmp_path):
    steered = go(begin("steered"), 5)
    steered.change("temperature", 2.0)
    go(steered, 11)
    steered.change("alpha", 0.9)
    steered.change("learning_rate", 5e-4)
    go(steered, STEPS)
    runs.distill(
        "protgpt2-tiny", tmp_path / "scheduled", progress=Silent(), **options,
        events=[{"step": 11, "name": "learning_rate", "new": 5e-4},
                {"step": 5, "name": "temperature", "new": 2.0},
                {"step": 11, "name": "alpha", "new": 0.9}],
    )  # fmt: skip
    again = RunDirectory(tmp_path / "scheduled")
    assert checkpoints.differences(steered.directory, again) == []
    assert [e.step for e in events.read(again.events)] == [5, 11, 11]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"step": 3}, "is no event"),
        ({"step": -1, "name": "alpha", "new": 0.5}, "step of an event is -1"),
        ({"step": 3, "name": "alpha", "new": 2.0}, "alpha is 2.0"),
        ({"step": 3, "name": "colour", "new": 2.0}, "colour cannot be changed"),
    ],
)
def test_a_wrong_schedule_is_refused_before_anything_is_made(options, tmp_path, event, said):
    with pytest.raises(UsageError, match=said):
        runs.distill("protgpt2-tiny", tmp_path / "r", progress=Silent(), events=[event], **options)
    assert not (tmp_path / "r").exists()


# ---------------------------------------------------------------------- back, aside, early


def test_rewinding_goes_back_to_the_bytes_and_on_to_the_same_ones(begin):
    session, plain = go(begin("steered"), 12), go(begin("plain"), 12)
    metrics = lines_of(plain)
    session.change("temperature", 1.0)
    go(session, 20)
    session.rewind(12)
    assert (session.step, session.knobs()["temperature"]) == (12, 10.0)
    assert same(session, plain)
    assert lines_of(session) == metrics
    go(session, STEPS), go(plain, STEPS)
    assert same(session, plain)
    assert [e.name for e in events.read(session.directory.events)] == ["temperature", "rewind"]
    assert events.effective(events.read(session.directory.events)) == []


def test_rewinding_to_a_step_that_was_not_kept_names_those_that_were(begin):
    session = go(begin(), 6)
    with pytest.raises(UsageError, match=r"nothing was kept of step 5; kept are 0, 2, 4, 6"):
        session.rewind(5)
    assert session.step == 6


def test_rewinding_to_the_start_measures_nothing_twice(begin):
    session = go(begin(), 6)
    session.rewind(0)
    assert [line["step"] for line in lines_of(session)] == [0]
    go(session, 4)
    assert [line["step"] for line in lines_of(session)] == sorted(
        {line["step"] for line in lines_of(session)}
    )


def test_snapshots_stay_within_their_bytes_and_spread(begin, monkeypatch):
    session = begin()
    tensors = session.shop.student.snapshot().tensors.values()
    one = sum(t.numel() * t.element_size() for t in tensors)
    # Room for six pairs; moments make a pair three times as large as the first.
    monkeypatch.setattr("workbench.session.KEPT_BYTES", 6 * 2 * 3 * one)
    go(session, STEPS)
    kept = session.kept
    assert len(kept) <= 7
    assert (kept[0], kept[-1]) == (0, STEPS)
    gaps = [b - a for a, b in pairwise(kept)]
    assert max(gaps) <= 4 * min(gaps)


def test_a_branch_leaves_the_run_and_goes_its_own_way(begin, tmp_path):
    session = begin()
    go(session, 4)
    session.change("alpha", 0.5)
    go(session, 10)
    session.change("temperature", 2.0)
    go(session, 14)
    session.save()
    before = session.directory.checkpoint.read_bytes()
    target = RunDirectory(tmp_path / "branch")
    storage.make_directory(target.path, "the run")
    session.branch(target, 8)
    assert session.directory.checkpoint.read_bytes() == before
    branched = Session(target, session.config, session.shop, Silent(), keeps=True)
    branched.restore()
    assert branched.step == 8
    assert branched.knobs()["alpha"] == 0.5
    assert [e.name for e in events.read(target.events)] == ["alpha"]
    assert max(line["step"] for line in lines_of(branched)) == 8
    go(branched, STEPS)
    found = runs.replay(target.path, tmp_path / "again", progress=Silent())
    assert found["same"], found


def test_an_early_end_is_an_event_and_the_run_is_finished(begin):
    session = go(begin(), 9)
    session.end("it is enough")
    assert session.over
    session.advance()
    assert session.step == 9
    results = session.finish()
    assert results["steps"] == 9
    assert events.read(session.directory.events)[-1] == Event(9, "end", None, "it is enough")
    # Taken as finished from now on: evaluating it again is not refused.
    assert (
        runs.evaluate(session.directory.path, Silent())["student"]["perplexity"]
        == (results["student"]["perplexity"])
    )


def test_a_bad_step_can_be_taken_back(begin):
    session = go(begin(), 8)
    session.change("learning_rate", 1e30)
    with pytest.raises(NonFiniteLoss, match="try a smaller learning rate"):
        go(session, STEPS)
    session.rewind(8)
    go(session, STEPS)
    assert same(session, go(begin("plain"), STEPS))


# ---------------------------------------------------------------------- killed, repeated


def test_a_steered_run_that_was_killed_goes_on_to_the_same_bytes(begin, options, tmp_path):
    whole = begin("whole")
    go(whole, 7)
    whole.change("temperature", 4.0)
    go(whole, 13)
    whole.change("alpha", 0.7)
    go(whole, STEPS)
    # Killed at step 13, with its checkpoint at 12: the second change lies after it.
    cut = begin("cut")
    go(cut, 7)
    cut.change("temperature", 4.0)
    go(cut, 13)
    cut.change("alpha", 0.7)
    assert checkpoints.step_of(cut.directory) == 12
    runs.resume(cut.directory.path, progress=Silent())
    assert checkpoints.differences(whole.directory, cut.directory) == []
    assert [e.name for e in events.read(cut.directory.events)] == ["temperature", "alpha"]


def test_a_replay_has_the_same_bytes_and_says_so(begin, tmp_path):
    session = go(begin(), 6)
    session.change("temperature", 4.0)
    go(session, 12)
    session.rewind(8)
    session.change("alpha", 0.3)
    go(session, 15)
    session.end("enough")
    session.finish()
    found = runs.replay(session.directory.path, tmp_path / "again", progress=Silent())
    assert found == {
        "run": str(session.directory.path), "replayed": str(tmp_path / "again"), "steps": 15,
        "same": True, "differs": [],
    }  # fmt: skip
    student = "student/model.safetensors"
    assert (tmp_path / "again" / student).read_bytes() == (
        session.directory.path / student
    ).read_bytes()


def test_an_end_that_was_planned_leaves_a_checkpoint_of_its_step(options, tmp_path):
    """Or evaluating the run again would judge an older student and put it in the place of this."""
    found = runs.distill(
        "protgpt2-tiny", tmp_path / "run", progress=Silent(), checkpoint_every=STEPS, **options,
        events=[{"step": 9, "name": "end", "new": "enough"}],
    )  # fmt: skip
    assert found["steps"] == 9
    student = tmp_path / "run" / "student" / "model.safetensors"
    before = student.read_bytes()
    again = runs.evaluate(tmp_path / "run", Silent())
    assert again["student"]["perplexity"] == found["student"]["perplexity"]
    assert student.read_bytes() == before


def test_a_replay_that_is_interrupted_goes_on_with_what_is_still_to_happen(begin, tmp_path):
    session = go(begin(), 6)
    session.change("temperature", 4.0)
    go(session, 15)
    session.change("alpha", 0.3)
    go(session, STEPS)
    session.finish()

    class Impatient(Silent):
        def advance(self, done, total, numbers):
            if done >= 12:
                raise KeyboardInterrupt

    target = tmp_path / "again"
    with pytest.raises(Interrupted, match=f"workbench resume {target}"):
        runs.replay(session.directory.path, target, progress=Impatient())
    runs.resume(target, progress=Silent())
    student = "student/model.safetensors"
    assert (target / student).read_bytes() == (session.directory.path / student).read_bytes()


def test_damaged_files_of_a_run_are_one_line(begin, tmp_path):
    session = go(begin(), 6)
    session.save()
    place = session.directory
    lines = place.metrics.read_text().splitlines(keepends=True)
    place.metrics.write_text("".join([*lines[:1], "{half of a line\n", *lines[1:]]))
    with pytest.raises(WorkbenchError, match=r"metrics.jsonl, line 2, is damaged"):
        run_directory.read_metrics(place.path)
    place.checkpoint.write_bytes(place.checkpoint.read_bytes()[:-20])
    with pytest.raises(WorkbenchError, match="is damaged"):
        runs.replay(place.path, tmp_path / "again", progress=Silent())


def test_a_replay_notices_other_bytes(begin, tmp_path):
    session = go(begin(), 6)
    session.change("temperature", 4.0)
    go(session, 8)
    session.save()
    lines = session.directory.events.read_text().replace("4.0", "4.5")
    session.directory.events.write_text(lines)
    found = runs.replay(session.directory.path, tmp_path / "again", progress=Silent())
    assert not found["same"]
    assert "knobs" in found["differs"]


def test_a_run_without_a_checkpoint_cannot_be_repeated(begin, tmp_path):
    session = begin()
    with pytest.raises(WorkbenchError, match="has no checkpoint yet"):
        runs.replay(session.directory.path, tmp_path / "again", progress=Silent())


def test_damaged_events_are_named_by_their_line(begin):
    session = begin()
    session.directory.events.write_text('{"step": 1, "name": "alpha", "new": 0.5}\n{"step"\n')
    with pytest.raises(WorkbenchError, match=r"line 2 of .*events.jsonl is damaged"):
        events.read(session.directory.events)
    # A line that is being written is not damaged, only not there yet.
    session.directory.events.write_text('{"step": 1, "name": "alpha", "new": 0.5}\n{"step"')
    assert [e.step for e in events.read(session.directory.events)] == [1]


def test_events_are_plain_json(begin):
    session = go(begin(), 3)
    session.change("temperature", 2.5)
    line = json.loads(session.directory.events.read_text())
    assert line == {"step": 3, "name": "temperature", "old": 10.0, "new": 2.5}


def test_an_interrupted_schedule_goes_on_where_it_was(options, tmp_path):
    schedule = [{"step": 4, "name": "alpha", "new": 0.4}, {"step": 16, "name": "alpha", "new": 0.8}]
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        runs.distill(
            "protgpt2-tiny", tmp_path / "cut", progress=Silent(), events=schedule,
            should_stop=lambda: next(calls) >= 10, **options,
        )  # fmt: skip
    assert [e.step for e in events.read(tmp_path / "cut" / "events.jsonl")] == [4]
    runs.resume(tmp_path / "cut", progress=Silent())
    runs.distill("protgpt2-tiny", tmp_path / "whole", progress=Silent(), events=schedule, **options)
    cut, whole = RunDirectory(tmp_path / "cut"), RunDirectory(tmp_path / "whole")
    assert checkpoints.differences(cut, whole) == []
    assert cut.events.read_bytes() == whole.events.read_bytes()
