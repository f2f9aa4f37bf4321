"""Short trainings: the same student that a run trains, and honest comparisons."""

from __future__ import annotations

import math

import pytest
import torch

from workbench import runs
from workbench.comparisons import studies
from workbench.config import RunConfig
from workbench.objective import TeacherSignal
from workbench.progress import Silent

SMALL = {"train_sequences": 64, "validation_sequences": 16, "batch_size": 16, "steps": 8}


@pytest.fixture
def config(tiny_teacher):
    return RunConfig.from_recipe("protgpt2-tiny", teacher=str(tiny_teacher), **SMALL)


def test_a_short_training_is_the_run_without_its_surroundings(config, tiny_teacher, tmp_path):
    learned = studies.learn(config, evaluations=4)
    assert learned.steps == (0, 2, 4, 6, 8)
    results = runs.distill(
        "protgpt2-tiny", tmp_path / "run", teacher=str(tiny_teacher), progress=Silent(), **SMALL
    )
    assert learned.perplexity[-1] == pytest.approx(results["student"]["perplexity"], rel=1e-6)
    assert learned.quality.kl_to_teacher == pytest.approx(results["student"]["kl_to_teacher"])
    assert learned.parameters == results["student"]["parameters"]


def test_compare_gives_every_label_the_same_seeds(config):
    class Count(Silent):
        last = (0, 0)

        def advance(self, done, total, numbers):
            self.last = (done, total)

    watch = Count()
    again = dict.fromkeys("ab", config)
    bands = studies.compare(again, seeds=(3, 4), evaluations=2, progress=watch)
    assert watch.last == (32, 32)
    assert [run.config.seed for run in bands["a"].runs] == [3, 4]
    assert bands["a"].runs[0].perplexity == bands["b"].runs[0].perplexity
    assert bands["a"].runs[0].perplexity != bands["a"].runs[1].perplexity


def test_band_is_the_geometric_mean_between_lowest_and_highest(config):
    (band,) = studies.compare({"a": config}, seeds=(0, 1, 2), progress=Silent()).values()
    last = [run.perplexity[-1] for run in band.runs]
    assert band.mean() == pytest.approx(math.prod(last) ** (1 / 3))
    assert (band.lowest(), band.highest()) == (min(last), max(last))
    assert band.lowest() < band.mean() < band.highest()


def test_sharpness_multiplies_what_the_teacher_says():
    class Said:
        vocabulary = 3

        def signal(self, batch, scored):
            return TeacherSignal(torch.tensor([[1.0, 2.0, 3.0]]))

    signal = studies.Sharpened(Said(), 2.0).signal(None, None)
    assert signal.logits(slice(0, 1)).tolist() == [[2.0, 4.0, 6.0]]
    plain = studies.Sharpened(Said(), 1.0).signal(None, None)
    assert plain.logits(slice(0, 1)).tolist() == [[1.0, 2.0, 3.0]]


def test_a_sharper_teacher_makes_another_student(config):
    calm, sharp = studies.learn(config), studies.learn(config, sharpness=3.0)
    assert calm.perplexity[0] == sharp.perplexity[0]
    assert calm.perplexity[-1] != sharp.perplexity[-1]


def test_references_are_those_of_a_run(config, tiny_teacher, tmp_path):
    results = runs.distill(
        "protgpt2-tiny", tmp_path / "run", teacher=str(tiny_teacher), progress=Silent(), **SMALL
    )
    found = studies.references(config)
    assert found["teacher"] == pytest.approx(results["teacher"]["perplexity"], rel=1e-6)
    assert found["oracle"] == pytest.approx(results["oracle"]["perplexity"])
    assert found["uniform"] == 21.0
