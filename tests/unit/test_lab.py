"""The live panel without a browser: its widgets are moved and clicked from Python."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import ipywidgets
import pytest

from workbench import plots, runs, runtime
from workbench.errors import Interrupted, UsageError, WorkbenchError
from workbench.lab import RunPanel, markup, registry, svg
from workbench.lab.publisher import Publisher
from workbench.lab.worker import Run, Settings, Snapshot, Worker

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'text' \x00"
NAMESPACE = {"svg": "http://www.w3.org/2000/svg"}
#: Nothing here takes that long; only a broken panel waits so many seconds.
PATIENCE = 30.0


# ---------------------------------------------------------------------- a run that obeys the test


class ScriptedRuns:
    """Takes the place of `runs.distill`: goes through the same calls, without a model.

    Args:
        hold: at this step the run waits until `go` is set.
        failure: raised at the end instead of returning results.
    """

    def __init__(self, hold: int | None = None, failure: Exception | None = None) -> None:
        self.hold, self.failure = hold, failure
        self.go, self.reached = threading.Event(), threading.Event()
        self.calls: list[dict] = []
        self.threads: set[str] = set()

    def distill(self, recipe, run=None, *, progress, on_metrics, should_stop, **options):
        self.calls.append({"recipe": recipe, "run": run, **options})
        self.threads.add(threading.current_thread().name)
        steps, temperature = options["steps"], options["temperature"]
        progress.stage("asking the teacher")
        progress.advance(3, 7, {})
        progress.stage("distilling")
        on_metrics({"step": 0, "validation": self._validation(22.0, 22.0)})
        for step in range(1, steps + 1):
            if should_stop():
                raise Interrupted(f"interrupted at step {step - 1} of {steps}; go on with resume")
            if step == self.hold:
                self.reached.set()
                assert self.go.wait(PATIENCE)
            line = {"step": step, "validation": self._validation(8 + temperature / step, 9.5)}
            on_metrics(line)
            progress.advance(step, steps, {"loss": 1.5, "perplexity": 8.5, "tokens/s": 61234.0})
        progress.stage("measuring quality and runtime")
        if self.failure:
            raise self.failure
        return results(8 + temperature / steps, 9.5, **options)

    @staticmethod
    def _validation(student: float, baseline: float) -> dict:
        return {"student": {"perplexity": student}, "baseline": {"perplexity": baseline}}


def results(student: float, baseline: float, **config) -> dict:
    return {
        "oracle": {"perplexity": 6.2},
        "teacher": {"perplexity": 6.8},
        "student": {"perplexity": student, "kl_to_teacher": 0.1234, "agreement": 0.567},
        "baseline": {"perplexity": baseline},
        "seconds": 31.0,
        "steps": 5,
        **config,
    }


@pytest.fixture
def scripted(monkeypatch):
    """Replace `runs.distill`; returns the script of a run."""

    def install(**script) -> ScriptedRuns:
        scripted = ScriptedRuns(**script)
        monkeypatch.setattr(runs, "distill", scripted.distill)
        return scripted

    yield install


@pytest.fixture(autouse=True)
def nothing_left():
    """After every test: close what is open; no thread and no widget may stay."""
    widgets = set(all_widgets())
    yield
    for name in registry.open_names():
        registry.claim(name, ClosedAtOnce())
    for thread in lab_threads():
        thread.join(PATIENCE)
    assert lab_threads() == []
    assert set(all_widgets()) <= widgets


class ClosedAtOnce:
    def close(self) -> None:
        pass


def all_widgets() -> dict:
    return ipywidgets.widgets.widget._instances


def lab_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("workbench")]


def panel_with(steps: int = 5, **options) -> RunPanel:
    return RunPanel("protgpt2-tiny", steps=steps, **options)


def drawn(panel: RunPanel) -> None:
    assert panel._publisher.flush(PATIENCE)


def text_of(markup_text: str) -> str:
    return " ".join("".join(ElementTree.fromstring(f"<x>{markup_text}</x>").itertext()).split())


# ---------------------------------------------------------------------- settings


def test_moving_a_slider_changes_its_box_and_the_formula():
    panel = panel_with()
    assert "at T=10" in panel.formula_view.value
    panel.temperature_slider.value = 3.981
    panel.alpha_slider.value = 0.25
    drawn(panel)
    assert (panel.settings.temperature, panel.settings.alpha) == (4.0, 0.25)
    assert (panel.temperature_box.value, panel.alpha_box.value) == (4.0, 0.25)
    shown = text_of(panel.formula_view.value)
    assert "L = 0.25·CE(student, x[t+1])" in shown
    assert "0.75·16·KL(teacher‖student) at T=4 " in shown


def test_a_typed_number_moves_the_slider_and_stays_as_typed():
    panel = panel_with()
    panel.temperature_box.value = 3.987
    panel.alpha_box.value = 0.123
    drawn(panel)
    assert panel.temperature_slider.value == panel.temperature_box.value == 3.987
    assert panel.alpha_slider.value == panel.alpha_box.value == 0.123
    assert panel.settings.temperature == 3.987


def test_the_control_under_the_hand_is_left_alone():
    panel = panel_with()
    panel.temperature_slider.value = 3.981
    drawn(panel)
    assert panel.temperature_slider.value == 3.981
    assert panel.temperature_box.value == 4.0


def test_variant_and_seed_reach_formula_and_run(scripted):
    script = scripted()
    panel = panel_with(train_sequences=7)
    panel.variant_menu.value = "as-published"
    panel.seed_box.value = 3
    panel.start_button.click()
    assert panel.wait(PATIENCE)
    (call,) = script.calls
    assert (call["variant"], call["seed"], call["train_sequences"]) == ("as-published", 3, 7)
    assert "0.9·KL(teacher‖student)" in panel.formula_view.value  # no T²


def test_set_moves_the_widgets_and_refuses_what_is_out_of_range():
    panel = panel_with()
    panel.temperature_slider.value = 20.0
    panel.set(T=2, alpha=0.5, variant="as-coded", seed=1, steps=9)
    drawn(panel)
    assert panel.settings == Settings(2, 0.5, "as-coded", 1, 9)
    assert (panel.temperature_slider.value, panel.temperature_box.value) == (2, 2)
    assert (panel.variant_menu.value, panel.seed_box.value) == ("as-coded", 1)
    wrong = ({"T": 100}, {"alpha": 1.5}, {"variant": "best"}, {"steps": 0}, {"speed": 1})
    for change in wrong:
        with pytest.raises(UsageError):
            panel.set(**change)
    assert panel.settings == Settings(2, 0.5, "as-coded", 1, 9)


def test_a_wrong_option_is_refused_before_an_open_panel_is_closed():
    panel = panel_with(name="one")
    with pytest.raises(UsageError, match="no recipe"):
        RunPanel("protgpt3", name="one")
    with pytest.raises(UsageError, match=r"0\.25 to 50"):
        panel_with(temperature=60, name="one")
    assert registry.open_names() == ["one"]
    assert panel.comm is not None


def test_every_control_has_a_description_and_buttons_have_no_icon():
    panel = panel_with()
    controls = [w for pair in panel._controls().values() for w in pair]
    buttons = [panel.start_button, panel.stop_button]
    assert all(widget.description for widget in controls + buttons)
    assert not any(button.icon for button in buttons)
    page = "".join(
        child.value
        for row in panel.children[:2]
        for column in row.children
        for child in getattr(column, "children", ())
        if isinstance(child, ipywidgets.HTML)
    )
    assert "teacher only" in page and "labels only" in page


# ---------------------------------------------------------------------- runs


def test_a_run_from_start_to_table(scripted):
    script = scripted()
    panel = panel_with(temperature=10, alpha=0.1)
    assert panel.state == "idle"
    panel.start_button.click()
    assert panel.wait(PATIENCE)
    assert panel.state == "done"
    assert 'aria-valuenow="100"' in panel.progress_view.value
    assert [r["student"]["perplexity"] for r in panel.results] == [10.0]
    assert script.threads == {"workbench worker"}
    assert "Done. With T = 10, α = 0.1, corrected, seed 0" in text_of(panel.status_view.value)
    assert "5.3% above the 9.50" in text_of(panel.status_view.value)
    rows = ElementTree.fromstring(panel.table_view.value).findall(".//tbody/tr")
    assert [cell.text for cell in rows[0]] == [
        "1", "10", "0.1", "corrected", "0", "10.000", "9.500", "+5.3%", "0.1234", "0.567", "31",
    ]  # fmt: skip
    for words in ("student, distilled 10.00", "baseline, labels only 9.50",
                  "oracle (the truth) 6.20", "teacher 6.80"):  # fmt: skip
        assert words in panel.chart_view.value


def test_earlier_runs_stay_as_ghosts(scripted):
    scripted()
    panel = panel_with()
    for temperature in (10, 1):
        panel.set(T=temperature)
        assert panel.start()
        assert panel.wait(PATIENCE)
    assert "T=10 α=0.1 corrected: 10.00" in panel.chart_view.value
    assert "T=1 α=0.1 corrected: 8.20" not in visible(panel.chart_view.value)
    assert len(panel.results) == 2
    assert panel.table_view.value.count("<tr>") == 3
    assert "font-weight:700" in panel.table_view.value.split("8.200")[0].rsplit("<td", 1)[1]


def visible(chart: str) -> str:
    """What a chart shows, without its description."""
    root = ElementTree.fromstring(chart)
    return " | ".join("".join(t.itertext()) for t in root.iterfind(".//svg:text", NAMESPACE))


def test_while_a_run_goes_on_sliders_answer_and_start_is_refused(scripted):
    script = scripted(hold=3)
    panel = panel_with()
    panel.start_button.click()
    assert script.reached.wait(PATIENCE)
    panel.temperature_slider.value = 1.0
    panel.start_button.click()
    drawn(panel)
    assert panel.state == "training"
    assert not panel.wait(0)
    assert "at T=1 " in panel.formula_view.value
    status = text_of(panel.status_view.value)
    assert status.startswith("Training with T = 10, α = 0.1, corrected, seed 0.")
    assert "A run is going on" in status
    numbers = text_of(panel.numbers_view.value)
    assert numbers.startswith("step 2 of 5 · loss 1.5 · perplexity 8.50 · tokens/s 61,234 · ")
    assert numbers.endswith(" left")
    assert 'aria-valuenow="40"' in panel.progress_view.value
    script.go.set()
    assert panel.wait(PATIENCE)
    assert len(script.calls) == 1
    assert script.calls[0]["temperature"] == 10


def test_stop_ends_at_the_next_step_and_a_new_start_is_possible(scripted):
    script = scripted(hold=3)
    panel = panel_with()
    panel.stop_button.click()
    drawn(panel)
    assert "Nothing is running" in panel.status_view.value
    panel.start_button.click()
    assert script.reached.wait(PATIENCE)
    panel.stop_button.click()
    drawn(panel)
    assert "Stopping at the next step" in panel.status_view.value
    script.go.set()
    assert panel.wait(PATIENCE)
    assert panel.state == "stopped"
    assert text_of(panel.status_view.value).startswith("Stopped: interrupted at step 3 of 5;")
    assert 'aria-valuenow="60"' in panel.progress_view.value
    assert panel.results == []
    script.hold = None
    assert panel.start()
    assert panel.wait(PATIENCE)
    assert panel.state == "done"
    assert "(stopped)" in visible(panel.chart_view.value)


def test_stop_is_heard_before_the_first_step(monkeypatch):
    asked, go = threading.Event(), threading.Event()

    def distill(recipe, run=None, *, progress, on_metrics, should_stop, **options):
        progress.stage("asking the teacher")
        asked.set()
        assert go.wait(PATIENCE)
        progress.advance(1, 2, {})
        raise AssertionError("went on after Stop")

    monkeypatch.setattr(runs, "distill", distill)
    panel = panel_with()
    panel.start()
    assert asked.wait(PATIENCE)
    assert panel.stop()
    go.set()
    assert panel.wait(PATIENCE)
    assert (panel.state, panel.message) == ("stopped", "stopped before the first step")


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (WorkbenchError(f"the teacher {HOSTILE} has no weights"), "Error: the teacher <img src=x"),
        (RuntimeError("shapes differ\nat line 3"), "Error: RuntimeError: shapes differ"),
        (ValueError(), "Error: ValueError: no reason given"),
    ],
)
def test_a_failure_is_one_escaped_line(scripted, failure, line):
    scripted(failure=failure)
    panel = panel_with()
    panel.start()
    assert panel.wait(PATIENCE)
    assert panel.state == "failed"
    assert "<img" not in panel.status_view.value
    shown = text_of(panel.status_view.value)
    assert shown.startswith(line)
    assert "at line 3" not in shown
    assert "\n" not in panel.message
    assert "Traceback" in panel.details
    scripted()
    assert panel.start()
    assert panel.wait(PATIENCE)
    assert panel.state == "done"


def test_only_the_publisher_touches_what_is_shown(scripted):
    scripted()
    panel = panel_with()
    threads = set()
    views = (panel.status_view, panel.numbers_view, panel.chart_view, panel.formula_view,
             panel.progress_view, panel.table_view)  # fmt: skip
    for view in views:
        view.observe(lambda _: threads.add(threading.current_thread().name), names="value")
    panel.temperature_slider.value = 5
    panel.start()
    assert panel.wait(PATIENCE)
    assert threads == {"workbench publisher"}


def test_directory_gives_every_run_its_own(scripted, tmp_path):
    script = scripted()
    panel = panel_with(directory=tmp_path)
    (tmp_path / "run-001").mkdir()
    panel.start()
    assert panel.wait(PATIENCE)
    assert script.calls[0]["run"] == tmp_path / "run-002"


def test_a_real_run(tiny_teacher, tmp_path, monkeypatch):
    speed = runtime.Runtime(1.0, 2.0, {32: 1e4}, 0.5, 1.0)
    monkeypatch.setattr(runtime, "measure", lambda *_, **__: speed)  # it takes its time
    panel = panel_with(
        20, directory=tmp_path, teacher=str(tiny_teacher), train_sequences=64,
        validation_sequences=16,
    )  # fmt: skip
    panel.set(T=2)
    panel.start()
    assert panel.wait()
    assert panel.state == "done", panel.message
    (result,) = panel.results
    assert result["temperature"] == 2
    assert (tmp_path / "run-001" / "student" / "model.safetensors").exists()
    run = panel._worker.snapshot.run
    assert run.student[-1] == (20, pytest.approx(result["student"]["perplexity"]))
    assert [step for step, _ in run.student] == list(range(0, 21))
    assert f"teacher {result['teacher']['perplexity']:.2f}" in visible(panel.chart_view.value)


# ---------------------------------------------------------------------- closing


def test_a_new_panel_closes_the_one_of_the_same_name(scripted):
    script = scripted(hold=2)
    first = panel_with()
    before = len(all_widgets())
    first.start()
    assert script.reached.wait(PATIENCE)
    second = panel_with()
    assert first.comm is None
    assert len(all_widgets()) == before
    script.go.set()
    assert first.join(PATIENCE)
    assert lab_threads() == []
    assert registry.open_names() == ["protgpt2-tiny"]
    first.close()
    assert second.comm is not None
    other = panel_with(name="another")
    assert second.comm is not None
    assert registry.open_names() == ["another", "protgpt2-tiny"]
    other.close()


def test_a_closed_panel_ignores_everything(scripted):
    scripted()
    panel = panel_with()
    panel.start()
    assert panel.wait(PATIENCE)
    shown = panel.status_view.value
    panel.close()
    panel.close()
    panel.start_button.click()
    panel.temperature_slider.value = 1.0
    assert not panel.start()
    assert not panel.stop()
    assert panel.join(PATIENCE)
    assert panel.status_view.value == shown
    assert len(panel.results) == 1


def test_closing_during_the_measurements_ends_the_thread(monkeypatch):
    measuring, go = threading.Event(), threading.Event()

    def distill(recipe, run=None, *, progress, on_metrics, should_stop, **options):
        progress.stage("distilling")
        should_stop()
        progress.stage("measuring quality and runtime")
        measuring.set()
        assert go.wait(PATIENCE)
        progress.stage("drawing")
        raise AssertionError("went on after being closed")

    monkeypatch.setattr(runs, "distill", distill)
    panel = panel_with()
    panel.start()
    assert measuring.wait(PATIENCE)
    assert not panel.stop()
    drawn(panel)
    assert "The training is over" in panel.status_view.value
    panel.close()
    go.set()
    assert panel.join(PATIENCE)
    assert panel.state == "stopped"


def test_the_end_of_the_interpreter_waits_for_the_step(tmp_path):
    """Otherwise torch aborts the process, and the checkpoint is not written."""
    program = """
import pathlib, sys, threading
from workbench.lab.worker import Settings, Worker
training = threading.Event()
def work(settings, watch):
    while not watch.should_stop():
        training.set()
    pathlib.Path(sys.argv[1]).write_text("checkpoint")
    return {}
Worker(work, lambda: None).start(Settings(1, 0, "corrected", 0, 10))
training.wait()
"""
    written = tmp_path / "checkpoint"
    repository = Path(runs.__file__).parents[1]
    command = [sys.executable, "-c", program, str(written)]
    subprocess.run(command, check=True, timeout=PATIENCE, cwd=repository)
    assert written.read_text() == "checkpoint"


def test_nothing_runs_before_it_is_needed():
    panel = panel_with()
    assert lab_threads() == []
    assert "Ready." in panel.status_view.value
    assert "The curves appear here." in panel.chart_view.value
    assert repr(panel) == "RunPanel('protgpt2-tiny', idle, finished runs: 0)"


# ---------------------------------------------------------------------- publisher


def test_the_publisher_draws_at_most_ten_times_a_second():
    """The clock of this test moves only in the publisher's pauses; it is poked all the time."""
    clock, times, enough = [0.0], [], threading.Event()
    holder: list[Publisher] = []

    def draw() -> None:
        times.append(clock[0])
        holder[0].poke()

    def pause(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] >= 3.0:
            enough.set()
            holder[0].close()

    holder.append(Publisher(draw, pause=pause))
    holder[0].poke()
    assert enough.wait(PATIENCE)
    assert len(times) == 30
    assert min(b - a for a, b in pairwise(times)) >= 0.1 - 1e-9


def test_news_during_a_pause_is_drawn_once_and_all_of_it():
    state, seen = [0], []
    pausing, resume = threading.Event(), threading.Event()

    def pause(_: float) -> None:
        pausing.set()
        assert resume.wait(PATIENCE)

    publisher = Publisher(lambda: seen.append(state[0]), pause=pause)
    publisher.poke()
    assert pausing.wait(PATIENCE)
    for value in range(1, 50):
        state[0] = value
        publisher.poke()
    resume.set()
    assert publisher.flush(PATIENCE)
    publisher.close()
    assert seen == [0, 49]


def test_a_failing_drawing_does_not_end_the_later_ones(caplog):
    seen = []

    def draw() -> None:
        seen.append(len(seen))
        if len(seen) == 1:
            raise RuntimeError("first")

    publisher = Publisher(draw, interval=0.0)
    publisher.poke()
    assert publisher.flush(PATIENCE)
    publisher.poke()
    assert publisher.flush(PATIENCE)
    publisher.close()
    assert seen == [0, 1]
    assert "could not be drawn" in caplog.text


def test_time_left_is_what_the_steps_so_far_took():
    clock = iter([0.0, 0.0, 2.0, 4.0])  # the start, then once a step
    told = []

    def work(settings, watch):
        for _ in range(3):
            watch.should_stop()
            told.append(worker.snapshot.seconds_left)
        return {}

    worker = Worker(work, lambda: None, clock=lambda: next(clock))
    worker.start(Settings(1, 0, "corrected", 0, 10))
    assert worker.wait(PATIENCE)
    worker.close()
    assert worker.join(PATIENCE)
    assert math.isnan(told[0])
    assert told[1:] == [18.0, 16.0]


# ---------------------------------------------------------------------- drawing


CURVE = [(0, 22.0), (50, 12.0), (100, 9.0)]


def chart(**given) -> ElementTree.Element:
    return ElementTree.fromstring(svg.learning_chart(**given))


def test_a_chart_is_well_formed_and_says_what_it_shows():
    text = svg.learning_chart(
        student=CURVE, baseline=CURVE, references={"oracle": 6.2, "teacher": 6.8}, steps=100,
        step=50, running="T=10 α=0.1 corrected", ghosts=[svg.Ghost("T=1 α=0 corrected: 9", CURVE)],
    )  # fmt: skip
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert root.find("svg:title", NAMESPACE).text == "Held-out perplexity while learning"
    assert root.find("svg:desc", NAMESPACE).text == (
        "This run: T=10 α=0.1 corrected. student, distilled: 9.00 at step 100 of 100. "
        "baseline, labels only: 9.00 at step 100 of 100. teacher: 6.80. oracle (the truth): 6.20. "
        "Earlier run T=1 α=0 corrected: 9."
    )
    assert len(root.findall(".//svg:polyline", NAMESPACE)) == 3
    assert "id=" not in text  # several charts share a page


def test_points_lie_where_their_numbers_say():
    frame = svg._Frame(100, 5.0, 20.0)
    left, right = svg.LEFT, svg.LEFT + svg.PLOT_WIDTH
    top, bottom = svg.TOP, svg.TOP + svg.PLOT_HEIGHT
    assert frame.place((0, 5.0)) == (left, bottom)
    assert frame.place((100, 20.0)) == (right, top)
    assert frame.place((50, 10.0)) == pytest.approx(((left + right) / 2, (top + bottom) / 2))


def test_the_untrained_beginning_is_cut_off_and_named():
    shown = visible(svg.learning_chart(student=CURVE, baseline=CURVE, steps=100))
    assert "↑ the untrained student: 22.0" in shown
    frame = svg._Frame.around([CURVE], [], 100)
    assert frame.low < 9.0 < 12.0 < frame.high < 22.0


@pytest.mark.parametrize("steps", [1, 3, 20, 400, 1200, 100_000])
def test_axis_ticks_are_few_and_inside(steps):
    frame = svg._Frame.around([CURVE], [], steps)
    ticks = frame.round_steps()
    assert ticks[0] == 0 and ticks[-1] <= max(steps, 100) and 2 <= len(ticks) <= 8
    assert 2 <= len(frame.values()) <= 8


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, 1e300])
def test_numbers_that_cannot_be_drawn_do_no_harm(value):
    root = chart(student=[(0, value), *CURVE[1:]], baseline=[(0, value)], steps=100)
    for line in root.iterfind(".//svg:polyline", NAMESPACE):
        assert "nan" not in line.get("points") and "inf" not in line.get("points")


def test_labels_keep_their_order_and_distance():
    wanted = sorted([60, 61, 61, 62, 200, 205, 330, 331, 332.0])
    heights = svg.spread(wanted)
    gaps = [b - a for a, b in pairwise(heights)]
    assert min(gaps) >= svg.LABEL_GAP - 1e-6
    assert heights[0] >= svg.TOP and heights[-1] <= svg.TOP + svg.PLOT_HEIGHT
    assert svg.spread([100.0, 200.0]) == [100.0, 200.0]


def test_many_ghosts_are_drawn_and_the_newest_named():
    ghosts = [svg.Ghost(f"T={i} α=0.1 corrected: 9.00", CURVE) for i in range(1, 13)]
    root = chart(student=CURVE, baseline=CURVE, ghosts=ghosts, steps=100)
    assert len(root.findall(".//svg:polyline", NAMESPACE)) == 14
    words = " ".join("".join(t.itertext()) for t in root.iterfind(".//svg:text", NAMESPACE))
    assert "T=12 " in words and "T=5 " in words and "T=4 " not in words


def test_hostile_text_stays_text():
    text = svg.learning_chart(
        student=CURVE, steps=100, running=HOSTILE, ghosts=[svg.Ghost(HOSTILE, CURVE)]
    )
    assert "<img" not in text and "<img" in "".join(ElementTree.fromstring(text).itertext())
    settings = Settings(1.0, 0.5, HOSTILE, 0, 5)
    run = Run(1, settings, results=results(8.0, 9.0))
    snapshots = (
        Snapshot(state="failed", line=HOSTILE, remark=HOSTILE),
        Snapshot(state="preparing", stage=HOSTILE, run=run),
        Snapshot(state="training", run=run, numbers={HOSTILE: 1.0}),
        Snapshot(state="done", run=run, numbers={HOSTILE: 1.0}),
    )
    for now in snapshots:
        for page in (markup.status(now, 5), markup.numbers(now), markup.progress_bar(now),
                     markup.table(now.runs), markup.formula(HOSTILE)):  # fmt: skip
            assert "<img" not in page


def test_only_the_state_is_a_live_region():
    now = Snapshot(state="training", done=3, total=5, numbers={"loss": 1.0},
                   run=Run(1, Settings(1, 0, "corrected", 0, 5)))  # fmt: skip
    assert 'aria-live="polite"' in markup.status(now, 5)
    assert "3" not in text_of(markup.status(now, 5))
    assert "aria-live" not in markup.numbers(now)


def test_the_table_has_headers_and_leaves_unfinished_runs_out():
    runs_so_far = [
        Run(1, Settings(10, 0.1, "corrected", 0, 5), results=results(8.03, 9.18)),
        Run(2, Settings(10, 0.1, "as-coded", 0, 5)),
    ]
    root = ElementTree.fromstring(markup.table(runs_so_far))
    assert [th.get("scope") for th in root.iterfind(".//thead/tr/th")] == ["col"] * 11
    (row,) = root.findall(".//tbody/tr")
    assert row.find("th").get("scope") == "row"
    assert [td.text for td in row.findall("td")][6] == "−12.5%"
    assert markup.table([]) == markup.table(runs_so_far[1:]) == ""


def test_a_missing_figure_is_a_dash():
    nothing = results(8.0, 9.0)
    nothing["student"] |= {"kl_to_teacher": None, "agreement": None}
    nothing["baseline"]["perplexity"] = None
    page = markup.table([Run(1, Settings(1, 0, "corrected", 0, 5), results=nothing)])
    assert page.count(">–<") == 4


@pytest.mark.parametrize("background", [1.0, 0.0056])  # white, and the dark theme's #111111
@pytest.mark.parametrize("name", ["student", "baseline", "teacher"])
def test_lines_stand_out_on_light_and_dark(name, background):
    """WCAG 2.1, 1.4.11: at least 3 to 1."""
    channels = [int(plots.COLOURS[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    high, low = max(luminance, background), min(luminance, background)
    assert (high + 0.05) / (low + 0.05) >= 3
