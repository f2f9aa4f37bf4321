"""k students in the time of one teacher: their averaged answer, against it and against one alone.

What is averaged are probabilities, not logits and not losses: the ensemble gives an answer the mean
of the probabilities that its members give it. At every token its negative log-likelihood is at most
the mean of theirs (−log is convex), so its perplexity is at most their geometric mean.

How many students fit into the teacher's time is measured: teacher, one student, two students and
so on are timed in turn, call by call, on the same batches. The members run one after another.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench import corpora, metrics, models, recipes, tasks
from workbench.classifying import classification
from workbench.config import RunConfig
from workbench.corpora import Batch
from workbench.errors import UsageError, WorkbenchError
from workbench.foreign import heads
from workbench.hidden_words import masked_words
from workbench.metrics import EVALUATION_NUMBERS, Tally
from workbench.objective import Objective, Scored

#: Sequences in a batch that is timed: one, as where each must be answered at once, and many.
BATCHES = (1, 32)
#: Timed calls of the teacher and of each number of students; medians count.
ROUNDS = 9
_SCORED: dict[str, Scored] = {
    "text-generation": "next-token", "text-classification": "example", "fill-mask": "masked",
}  # fmt: skip
#: A model without its head, and the head: see `models.split_head`.
Split = tuple[Any, Callable[[Tensor], Tensor]]


def average(log_probabilities: Tensor) -> Tensor:
    """Logarithm of the mean of some members' probabilities.

    Args:
        log_probabilities: ``[members, rows, answers]``.

    Returns:
        ``[rows, answers]``; of a single member exactly its own.
    """
    if len(log_probabilities) == 1:
        return log_probabilities[0]
    return torch.logsumexp(log_probabilities, dim=0) - math.log(len(log_probabilities))


@torch.no_grad()
def compare(
    recipe: str,
    students: Sequence[str | Path],
    *,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
    **options: Any,
) -> dict[str, Any]:
    """Teacher, single students and ensembles of 1 … K students: quality, calibration and time.

    Args:
        recipe: whose task, teacher and held-out data.
        students: K directories or hub ids of models with the teacher's answers.
        batches: sequences in the batches that are timed.
        rounds: timed calls.
        options: of `RunConfig.from_recipe`: ``teacher``, ``data``, ``validation_sequences``, …

    Returns:
        ``recipe``, ``headline``, ``name``, ``better``; ``oracle`` (figures, or null) and
        ``teacher`` (figures); ``parameters`` of teacher and of one student; ``ensembles``: for
        each k from 1 to K ``{"k", figure: [values]}``, a value for every k neighbours in the
        circle of students; ``times``: for each batch ``{"batch", "teacher_ms", "students_ms": [of
        1 … K], "fitting"}``, the last being how many students answer in no more time than the
        teacher, 0 if none does. Figures are the headline's key, ``negative_log_likelihood``
        (nats), ``calibration_error``, of classifiers ``auc``, and but for the oracle ``right``
        (share of answers put first that are right) and ``sure`` (mean probability of these).

    Raises:
        UsageError: if there are no students, or a number is below 1.
        WorkbenchError: if a model cannot be loaded, or gives other answers than the teacher.
    """
    if not students:
        raise UsageError("there are no students; expected at least one model directory")
    if rounds < 1 or not batches or min(batches) < 1:
        raise UsageError(f"rounds is {rounds}, batches {list(batches)}; expected 1 or more")
    config = RunConfig.from_recipe(recipe, **options)
    if config.label is not None:
        raise UsageError(
            f"{config.data} is a table of texts and their classes; students are averaged on pairs "
            "of peptide and HLA, on sequences and on sentences"
        )
    task = tasks.of(recipe)
    teacher, tokenizer, _ = task.load_model(config.teacher)
    members = [_member(task, source, tokenizer) for source in students]
    corpus = task.load_corpus(config, tokenizer)
    # As in a run, where an architecture sets no limit of its own.
    usual = recipes.get(recipe).scale(config.scale).student.positions
    longest = min(models.context(model, usual) for model in (teacher, *members))
    _, rows = task.rows(corpus, tokenizer, teacher, longest)
    masker = task.masker(tokenizer, teacher, whole_words=config.whole_words)

    def held_out(size: int) -> list[Batch]:
        return task.held_out(corpora.make_batches(rows, size, task.pad(tokenizer)), masker)

    objective = Objective(scores=_SCORED[task.name])
    one, many = [models.split_head(teacher)], [models.split_head(m) for m in members]
    judged = held_out(config.batch_size)
    judge = _Judge(task.headline.key, judged, objective)
    return {
        "recipe": recipe,
        "headline": task.headline.key,
        "name": task.headline.name,
        "better": task.headline.better,
        "parameters": {
            "teacher": models.parameters(teacher), "student": models.parameters(members[0]),
        },
        "oracle": _oracle(task, corpus, judged, tokenizer),
        "teacher": {name: values[0] for name, values in judge.rings(one)[0].items()},
        "ensembles": [{"k": k, **found} for k, found in enumerate(judge.rings(many), start=1)],
        "times": [
            {"batch": size, **in_turn(one, many, held_out(size)[: rounds + 1], objective)}
            for size in batches
        ],
    }  # fmt: skip


def log_probabilities(members: Sequence[Split], batch: Batch, objective: Objective) -> Tensor:
    """What each member says at the scored places of a batch: ``[members, rows, answers]``."""
    found = [
        torch.log_softmax(head(hidden).float(), -1)
        for head, hidden in _hidden(members, batch, objective)
    ]
    return torch.stack(found)


def in_turn(
    teacher: Sequence[Split],
    students: Sequence[Split],
    batches: Sequence[Batch],
    objective: Objective,
) -> dict[str, Any]:
    """Time the teacher and 1 … K students on the same batches; the first one warms up.

    Returns:
        ``{"teacher_ms", "students_ms", "fitting"}``, see `compare`.
    """
    crowds = [teacher, *(students[:k] for k in range(1, len(students) + 1))]
    times: list[list[float]] = [[] for _ in crowds]
    for batch in [batches[0], *batches[-max(1, len(batches) - 1) :]]:
        for crowd, own in zip(crowds, times, strict=True):
            started = time.perf_counter()
            average(log_probabilities(crowd, batch, objective))
            own.append(1e3 * (time.perf_counter() - started))
    medians = [statistics.median(own[1:]) for own in times]
    return {
        "teacher_ms": medians[0],
        "students_ms": medians[1:],
        "fitting": fitting(medians[0], medians[1:]),
    }


def fitting(teacher_ms: float, students_ms: Sequence[float]) -> int:
    """Most students that answer in no more time than the teacher.

    Args:
        teacher_ms: its time.
        students_ms: of 1 … K students.
    """
    return max((k for k, ms in enumerate(students_ms, start=1) if ms <= teacher_ms), default=0)


def table(measured: Mapping[str, Any]) -> str:
    """Teacher, one student, and the ensembles; times as shares of the teacher's."""
    batches = [entry["batch"] for entry in measured["times"]]
    figures = [measured["headline"], "right", "sure", "calibration_error"]
    titles = [measured["name"], "right", "sure", "calibration error"]
    # Narrow enough for the width of a page in JupyterLab.
    widths = [max(8, len(title)) + 2 for title in titles]
    head = "".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True))
    times = "".join(f"{f'time, batch of {batch}':>20}" for batch in batches)
    lines = [f"{'':<14}{head}{times}"]

    def line(name: str, values: Sequence[float | None], shares: Sequence[str]) -> str:
        numbers = "".join(
            f"{'–' if value is None else f'{value:.4f}':>{width}}"
            for value, width in zip(values, widths, strict=True)
        )
        return f"{name:<14}{numbers}" + "".join(f"{share:>20}" for share in shares)

    for name in ("oracle", "teacher"):
        row = measured[name]
        if row is not None:
            shares = ["100%" if name == "teacher" else "–"] * len(batches)
            lines.append(line(name, [row.get(figure) for figure in figures], shares))
    for row in measured["ensembles"]:
        k = row["k"]
        shares = [
            f"{entry['students_ms'][k - 1] / entry['teacher_ms']:.0%}"
            for entry in measured["times"]
        ]
        name = "one student" if k == 1 else f"{k} students"
        lines.append(line(name, [statistics.fmean(row[figure]) for figure in figures], shares))
    for entry in measured["times"]:
        most = len(entry["students_ms"])
        k = entry["fitting"]
        lines.append(
            f"In the teacher's time for a batch of {entry['batch']} fit "
            f"{'all' if k == most else k} of {most} students."
        )
    return "\n".join(lines)


class _Judge:
    """Scores the averages of neighbouring members on held-out batches."""

    def __init__(self, headline: str, batches: Sequence[Batch], objective: Objective) -> None:
        self._headline, self._batches, self._objective = headline, batches, objective
        self._classes = objective.scores == "example"

    def rings(self, members: Sequence[Split]) -> list[dict[str, list[float]]]:
        """Figures of every k neighbours in the circle of members, for k from 1 to all."""
        count = len(members)
        tallies = [
            [_Classes() if self._classes else Tally() for _ in range(1 if k == count else count)]
            for k in range(1, count + 1)
        ]
        for batch in self._batches:
            _, labels = self._objective.rows(batch)
            for rows, said in self._parts(members, batch):
                wanted = labels[rows].to(said.device)
                for k, circle in enumerate(tallies, start=1):
                    for start, tally in enumerate(circle):
                        chosen = [(start + step) % count for step in range(k)]
                        tally.add(average(said[chosen]), wanted)
        return [self._figures(circle) for circle in tallies]

    def _parts(self, members: Sequence[Split], batch: Batch) -> Iterator[tuple[slice, Tensor]]:
        """Log-probabilities of all members, so many rows at a time as fit into memory."""
        pairs = list(_hidden(members, batch, self._objective))
        answers = pairs[0][0](pairs[0][1][:1]).shape[-1]
        step = max(1, EVALUATION_NUMBERS // (answers * len(members)))
        for start in range(0, len(pairs[0][1]), step):
            rows = slice(start, start + step)
            yield rows, torch.stack([torch.log_softmax(h(x[rows]).float(), -1) for h, x in pairs])

    def _figures(self, circle: Sequence[Any]) -> dict[str, list[float]]:
        keys = [self._headline, "negative_log_likelihood", "calibration_error"]
        keys += ["auc"] if self._classes else []
        found = [tally.quality(None) for tally in circle]
        figures = {key: [getattr(quality, key) for quality in found] for key in keys}
        right = "accuracy" if self._classes else "top1"
        figures["right"] = [getattr(quality, right) for quality in found]
        figures["sure"] = [_sure(tally) for tally in circle]
        return figures


def _sure(tally: Tally | _Classes) -> float:
    """Mean probability of the answer that is put first."""
    if isinstance(tally, Tally):
        return float(tally.bins[2].sum() / tally.tokens)
    positive = tally.positive
    return float(torch.maximum(positive, 1 - positive).mean())


class _Classes:
    """The `Tally` of a classifier with two classes."""

    def __init__(self) -> None:
        self._labels: list[Tensor] = []
        self._positive: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._labels.append(labels.cpu())
        self._positive.append(logits[:, 1].double().exp().clamp(max=1.0).cpu())

    @property
    def positive(self) -> Tensor:
        return torch.cat(self._positive)

    def quality(self, _: None) -> classification.Scores:
        return classification.score(torch.cat(self._labels).numpy(), self.positive.numpy())


def _hidden(
    members: Sequence[Split], batch: Batch, objective: Objective
) -> Iterator[tuple[Callable[[Tensor], Tensor], Tensor]]:
    """Head, and hidden states of the scored places ``[rows, width]``, of each member."""
    scored, _ = objective.rows(batch)
    for backbone, head in members:
        device = next(backbone.parameters()).device
        ids, real = batch.input_ids.to(device), batch.real().to(device)
        hidden = models.last_hidden(backbone, ids, real)
        yield head, heads.rows(head, hidden, scored, ids, real)


def _member(task, source: str | Path, tokenizer):
    """A student that can be averaged with others: token for token the same answers."""
    model, own, _ = task.load_model(str(source))
    if own.get_vocab() != tokenizer.get_vocab():
        raise WorkbenchError(
            f"{source} has another vocabulary than the teacher; answers can be averaged only "
            "where they mean the same"
        )
    return model


def _oracle(task, corpus, batches: Sequence[Batch], tokenizer) -> dict[str, float] | None:
    """Figures of the truth, where it is known."""
    keys = [task.headline.key, "negative_log_likelihood", "calibration_error"]
    if task.name == "fill-mask":
        truth = corpus.tagged and masked_words.oracle_quality(corpus.tagged[1], batches, tokenizer)
    elif not corpus.has_oracle:
        truth = None
    elif task.name == "text-classification":
        labels = [record.label for record in corpus.validation]
        truth = classification.score(labels, corpus.oracle(corpus.validation))
        keys.append("auc")
    else:
        truth = metrics.oracle_quality(corpus.validation["sequence"][:])
    return {key: getattr(truth, key) for key in keys} if truth else None
