"""Short trainings to compare: one student each, evaluated now and then, nothing kept on disk.

A run (`workbench.runs`) trains a baseline beside its student, measures speed, draws
and saves. Where only the held-out perplexity of many settings is asked, that is
too much; here a setting costs its steps and a few evaluations. The teacher's
answers come from the same cache.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from workbench import corpora, metrics, models, workshop
from workbench.config import RunConfig
from workbench.corpora import Batch
from workbench.metrics import Quality
from workbench.objective import TeacherSignal
from workbench.progress import Progress, Silent, for_here
from workbench.teacher_cache import Teacher
from workbench.workshop import Workshop


@dataclass(frozen=True)
class Learned:
    """One short training.

    Attributes:
        config: what was trained.
        steps: at which the student was evaluated, from 0.
        perplexity: held-out, at these steps.
        quality: at the last step.
        parameters: of the student.
        student: the model itself, in eval mode.
    """

    config: RunConfig
    steps: tuple[int, ...]
    perplexity: tuple[float, ...]
    quality: Quality
    parameters: int
    student: nn.Module = field(repr=False)


@dataclass(frozen=True)
class Band:
    """The same setting with several seeds.

    Attributes:
        label: what it is called.
        runs: one a seed.
    """

    label: str
    runs: tuple[Learned, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """At which the students were evaluated."""
        return self.runs[0].steps

    def mean(self, at: int = -1) -> float:
        """Geometric mean over seeds of the perplexity at one evaluation."""
        return math.exp(statistics.fmean(math.log(run.perplexity[at]) for run in self.runs))

    def lowest(self, at: int = -1) -> float:
        """Lowest perplexity of the seeds at one evaluation."""
        return min(run.perplexity[at] for run in self.runs)

    def highest(self, at: int = -1) -> float:
        """Highest perplexity of the seeds at one evaluation."""
        return max(run.perplexity[at] for run in self.runs)


def learn(
    config: RunConfig,
    *,
    evaluations: int = 6,
    sharpness: float = 1.0,
    advance: Callable[[], object] = lambda: None,
) -> Learned:
    """Train one student, and evaluate it at equal distances.

    Args:
        config: of a run; at ``alpha=1`` the student learns from labels alone.
        evaluations: after how many equal parts of the training; there is one before it too.
        sharpness: factor on the teacher's logits; above 1 it is surer than it was.
        advance: called after every step.

    Raises:
        WorkbenchError: if teacher or data cannot be used.
    """
    shop = workshop.prepare(config, Silent())
    if sharpness != 1.0:
        shop.student.teacher = Sharpened(shop.teacher, sharpness)
    order = corpora.endless_order(len(shop.train_batches), config.seed)
    marks = [round(config.steps * i / evaluations) for i in range(evaluations + 1)]
    marks = sorted(set(marks))
    measured = []
    for mark in marks:
        while shop.student.step_number < mark:
            shop.student.step(shop.batch(next(order), shop.student.step_number + 1))
            advance()
        measured.append(_evaluate(shop))
    return Learned(
        config=config,
        steps=tuple(marks),
        perplexity=tuple(quality.perplexity for quality in measured),
        quality=measured[-1],
        parameters=models.parameters(shop.student.student),
        student=shop.student.student.eval(),
    )


def compare(
    configs: Mapping[str, RunConfig],
    *,
    seeds: Sequence[int] = (0,),
    evaluations: int = 6,
    sharpness: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> dict[str, Band]:
    """Train every setting with every seed, one after another.

    Args:
        configs: by label; their own seed is replaced.
        seeds: of the student's start and the order of batches, the same for every setting.
        evaluations: see `learn`.
        sharpness: see `learn`, by label; 1 where a label is missing.
        progress: where to say how far it is; a bar by default.
    """
    progress = progress or for_here()
    total = len(seeds) * sum(config.steps for config in configs.values())
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress.advance(done, total, {})

    bands = {}
    progress.stage("training")
    for label, config in configs.items():
        runs = []
        for seed in seeds:
            runs.append(
                learn(
                    replace(config, seed=seed),
                    evaluations=evaluations,
                    sharpness=(sharpness or {}).get(label, 1.0),
                    advance=advance,
                )
            )
        bands[label] = Band(label, tuple(runs))
    progress.close()
    return bands


def references(config: RunConfig) -> dict[str, float]:
    """What students are measured against, on the held-out data of a configuration.

    Returns:
        Perplexity of "teacher", "uniform" (guessing evenly over the vocabulary) and, where the
        truth is known, "oracle".
    """
    shop = workshop.prepare(config, Silent())
    teacher = metrics.evaluate(
        shop.teacher_model, shop.validation_batches, shop.validation.residues
    )
    found = {"teacher": teacher.perplexity, "uniform": float(shop.student.vocabulary)}
    if shop.corpus.has_oracle:
        truth = metrics.oracle_quality(shop.corpus.validation["sequence"][:])
        found["oracle"] = truth.perplexity
    return found


class Sharpened:
    """A teacher whose logits are multiplied: surer above 1, less sure below."""

    def __init__(self, teacher: Teacher, factor: float) -> None:
        self.vocabulary = teacher.vocabulary
        self._teacher = teacher
        self._factor = factor

    def signal(self, batch: Batch, scored) -> TeacherSignal:
        """See `workbench.teacher_cache.Teacher`."""
        said = self._teacher.signal(batch, scored)
        head = said.head or (lambda stored: stored)
        return replace(said, head=lambda stored: self._factor * head(stored))


def _evaluate(shop: Workshop) -> Quality:
    return shop.student.evaluate(
        shop.validation_batches, shop.validation.residues, shop.validation_teacher
    )
