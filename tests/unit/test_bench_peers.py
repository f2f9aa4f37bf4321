"""The measurement against peers: what is said between processes, counted and compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench import models
from workbench.bench import command, goals
from workbench.bench.goals import Goal
from workbench.bench.peers import driver, floor, grid, measure, table
from workbench.bench.peers.driver import Contestant, Measured, Race
from workbench.errors import WorkbenchError
from workbench.recipes.recipe import Shape

#: A contestant that answers as `runners/paced.py` says: its n-th step takes n seconds, and it
#: notes in a file what it was asked for.
PUPPET = """
import json, os, sys
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
folder, name = sys.argv[1:3]
print("not a line of the protocol", flush=True)
print(json.dumps({"ready": name, "threads": 2, "versions": {"torch": "9"}}), file=out, flush=True)
step = 0
for line in sys.stdin:
    steps = json.loads(line)["steps"]
    with open(f"{folder}/asked", "a") as file:
        file.write(f"{name}{steps} ")
    if steps == 13:
        sys.exit("no step 13: the puppet is superstitious")
    seconds = [float(step + n) for n in range(1, steps + 1)]
    step += steps
    print(json.dumps({"seconds": seconds, "cpu_seconds": 2.0 * steps, "first_loss": 1.5}),
          file=out, flush=True)
"""


@pytest.fixture
def puppets(tmp_path, monkeypatch):
    (tmp_path / "puppet.py").write_text(PUPPET)
    monkeypatch.setattr(driver, "RUNNERS", tmp_path)
    return [Contestant(name, "puppet.py", sys.executable, (name,)) for name in "ab"]


def test_contestants_take_turns_and_every_process_ends(puppets, tmp_path):
    between = []
    with Race(puppets, [tmp_path] * 2, tmp_path) as race:
        one, other = race.run(rounds=2, steps=3, warmup=2, between=lambda: between.append(1))
        processes = [runner._process for runner in race.runners]
    assert (tmp_path / "asked").read_text() == "a2 b2 a3 b3 b3 a3 "
    assert one.rounds == other.rounds == [[3, 4, 5], [6, 7, 8]]  # the two of the warm-up left out
    assert one.cpu_seconds == [6, 6] and one.first_loss == 1.5 and one.versions == {"torch": "9"}
    assert len(between) == 2
    assert all(process.poll() is not None for process in processes)
    assert "not a line of the protocol" in (tmp_path / "0.log").read_text()


def test_one_that_dies_is_named_with_its_last_words_and_takes_the_others_along(puppets, tmp_path):
    with (
        pytest.raises(WorkbenchError, match="a did not come to its end: no step 13"),
        Race(puppets, [tmp_path] * 2, tmp_path) as race,
    ):
        race.run(rounds=1, steps=13, warmup=1)
    assert all(runner._process.poll() is not None for runner in race.runners)
    lost = Contestant("nobody", "nowhere.py", sys.executable)
    with pytest.raises(WorkbenchError, match="nobody did not come to its end"):
        Race([puppets[0], lost], [tmp_path] * 2, tmp_path).__enter__()


def test_the_pace_is_that_of_the_paced_runners(tmp_path):
    """The true `paced.py`, with a loop that reads one batch ahead as some toolkits do."""
    from safetensors.torch import save_file

    (tmp_path / "job.json").write_text(
        json.dumps({"config": {"steps": 9, "warmup": 0}, "order": [1, 0], "threads": 1, "clip": 1})
    )
    ids = {"ids.0": torch.tensor([[1, 2, 3]]), "lengths.0": torch.tensor([3])}
    save_file(
        ids | {"ids.1": torch.tensor([[4, 5, 0]]), "lengths.1": torch.tensor([2])},
        tmp_path / "batches.safetensors",
    )
    script = tmp_path / "ahead.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(driver.RUNNERS)!r})\n"
        "import paced, torch\n"
        "job = paced.start('ahead')\n"
        "last = None\n"
        "for batch in job:\n"
        "    if last is not None:\n"
        "        job.note_loss(last['labels'].sum().float())\n"
        "        print(last['labels'].tolist(), file=sys.stderr)\n"
        "    last = batch\n"
    )
    with Race([Contestant("ahead", str(script), sys.executable)], [tmp_path], tmp_path) as race:
        (found,) = race.run(rounds=2, steps=3, warmup=2)
    assert [len(steps) for steps in found.rounds] == [3, 3] and found.threads == 1
    assert found.first_loss == -100 + 5 - 100
    said = (tmp_path / "0.log").read_text().splitlines()
    assert said[:2] == ["[[-100, 5, -100]]", "[[-100, 2, 3]]"] and len(said) == 2 + 2 * 3 - 1


def test_operations_are_those_that_pytorch_counts():
    shape = Shape(layers=2, heads=2, width=16, positions=32, vocabulary=21)
    student = models.build_causal_lm(shape, activation="gelu_pytorch_tanh", seed=0)
    # Attention in plain products: what the fused one computes again is not work that must be.
    student.set_attn_implementation("eager")
    rows, length, scored = 3, 10, 24
    with FlopCounterMode(display=False) as counter:
        hidden = student.base_model(input_ids=torch.ones(rows, length).long()).last_hidden_state
        student.lm_head(hidden.reshape(-1, 16)[:scored]).sum().backward()
    counted = floor.operations(shape, rows, length, scored)
    assert counter.get_total_flops() == counted.total
    assert counted.layers == 6 * 2 * (3 + 1 + 4 + 4) * 16**2 * rows * length
    assert counted.head == 6 * 21 * 16 * scored


def test_rates_count_the_products_that_they_do(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(floor.time, "perf_counter", lambda: float(next(clock)))
    multiplied = []
    monkeypatch.setattr(
        floor.torch, "mm", lambda a, b, out: multiplied.append(a.shape[0] * a.shape[1] * b.shape[1])
    )
    shape = Shape(layers=1, heads=1, width=8, positions=32, vocabulary=21)
    rate = floor.own_rate(shape, tokens=5, seconds=0.0)
    # 12 weights of width² each, forward once and backward twice, in one tick of the clock.
    assert rate == 2 * sum(multiplied) / 3 == 2 * 3 * 12 * 8**2 * 5


def _measured(*rounds: list[float], loss: float = 1.0) -> Measured:
    return Measured(list(rounds), [sum(r) for r in rounds], loss, {"torch": "9"}, 2)


def test_ratios_are_of_the_same_round_and_the_goal_is_about_the_fastest_peer():
    # The machine was three times slower in the second round: for all of them.
    found = {
        measure.OURS: _measured([1, 1, 1], [3, 3, 3], [1, 1, 1]),
        measure.LOOP: _measured([5, 5, 5], [15, 15, 15], [5, 5, 5]),
        measure.TRAINER: _measured([6, 6, 6], [18, 18, 18], [6, 6, 6]),
        measure.KEPT: _measured([1, 1, 1], [3, 3, 3], [1, 1, 1]),
    }
    faster, share = measure.goals(found, {"128": {"square_share": 0.4}})
    assert faster.found == 5 and faster.met and "tutorial loop" in str(faster)
    assert str(share).endswith("0.4, at least 0.5: missed")
    figures = measure._figures(found[measure.TRAINER], found[measure.OURS])
    assert figures["times_ours"] == 6 and figures["step_ms"] == 6000


def test_other_losses_are_refused_and_textbrewers_entropy_is_allowed_for():
    first = {measure.OURS: 1.0, measure.LOOP: 1.000001, measure.TEXTBREWER: 274.0}
    measure.check_agreement(first | {measure.KEPT: 99.0}, entropy_kept=273.0)
    with pytest.raises(WorkbenchError, match=r"first loss of tutorial loop is 1\.1"):
        measure.check_agreement(first | {measure.LOOP: 1.1}, entropy_kept=273.0)
    with pytest.raises(WorkbenchError, match="TextBrewer"):
        measure.check_agreement(first, entropy_kept=0.0)


def test_without_the_second_environment_the_others_run_and_one_line_says_how(tmp_path):
    assert measure.interpreter(tmp_path) is None
    names = [c.name for c in measure.contestants(None)]
    assert names == [measure.OURS, measure.LIVE, measure.LOOP, measure.TRAINER]
    assert measure.contestants("python9")[-1].interpreter == "python9"
    line = measure.how_to_get_textbrewer()
    assert "make bench" in line and "workbench/bench/peers/requirements.txt" in line
    assert "\n" not in line


def test_the_peers_have_the_pins_of_the_workbench():
    root = Path(__file__).parents[2]
    ours = set((root / "requirements.txt").read_text().splitlines())
    pins = [p for p in measure.REQUIREMENTS.read_text().splitlines() if "==" in p]
    assert [p for p in pins if p not in ours] == ["textbrewer==0.2.1.post1"]


def test_the_table_says_all(monkeypatch, tmp_path):
    ours, loop = _measured([1.0, 1.1]), _measured([5.0, 5.2])
    contestants = {measure.OURS: ours, measure.LOOP: loop}
    share = {
        f"{rate}_{figure}": 0.25 for rate in ("square", "own")
        for figure in ("gflops", "floor_ms", "share")
    }  # fmt: skip
    floors = {"64": {"gflop": 1.2, "step_ms": 9.0, **share}}
    floors["128"] = floors["64"]
    found = {
        "contestants": {n: measure._figures(m, ours) for n, m in contestants.items()},
        "floor": floors,
        "goals": [g.to_json() for g in measure.goals(contestants, floors)],
        "textbrewer": measure.how_to_get_textbrewer(),
    }
    text = table.text(json.loads(json.dumps(found)))
    assert "tutorial loop" in text and "4.86 ×" in text and "25%" in text
    assert "at least 4: met" in text and "at least 0.5: missed" in text and "make bench" in text
    monkeypatch.setattr(measure, "measure", lambda: found)
    made = command.run("peers", tmp_path)
    assert {"machine", "date", "versions"} <= set(made) and made["command"].endswith("bench peers")
    assert json.loads((tmp_path / "peers.json").read_text()) == json.loads(json.dumps(made))
    assert command.text("peers", made) == text


def test_a_grid_is_compared_with_the_fastest_peers_steps():
    found = [
        {"contestants": {n: {"step_ms": t} for n, t in times.items()}}
        for times in ({"workbench": 1, measure.LOOP: 50, measure.TRAINER: 90},
                      {"workbench": 1, measure.LOOP: 70, measure.TRAINER: 70})
    ]  # fmt: skip
    compared = grid.compare(225.0, found, runs=50)
    assert compared["peer_seconds"] == pytest.approx({measure.LOOP: 900, measure.TRAINER: 1200})
    (goal,) = compared["goals"]
    assert goal["found"] == 0.25 and goal["met"] and measure.LOOP in goal["what"]


def test_a_goal_knows_its_sense():
    assert Goal("x", 4.0, 4.0).met and not Goal("x", 3.9, 4.0).met
    assert Goal("x", 0.2, 0.25, "at most").met and not Goal("x", 0.3, 0.25, "at most").met
    assert goals.plain({"a": 1.5, "b": {"c": 2}}) == ["a: 1.5", "b:", "  c: 2"]
