"""The distiller: one student, one objective, one step.

The same `Distiller.step` serves the command line, a notebook, a live panel and a
cluster. It does not know where batches come from, who watches, or where results go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workbench import inner, large_vocabulary, losses, metrics, models
from workbench.corpora import Batch
from workbench.devices import allocator, parts, precision, processes
from workbench.errors import NonFiniteLoss, WorkbenchError
from workbench.foreign import heads
from workbench.inner import Matcher
from workbench.objective import Counts, LedgerEntry, Objective, TeacherSignal
from workbench.teacher_cache import Teacher

GRADIENT_CLIP = 1.0


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a run: linear warm-up, then linear decay to zero.

    Attributes:
        steps: length of the run.
        warmup: steps until the peak.
    """

    steps: int
    warmup: int

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at ``step`` (from 0)."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return max(0.0, (self.steps - step) / max(1, self.steps - self.warmup))


@dataclass(frozen=True)
class StepRecord:
    """One step's losses, still on the device: reading a number would wait for it.

    Attributes:
        step: number of the step, from 1.
        values: each term, nats; ``total`` is the weighted sum.
        tokens: scored; of examples that are scored once, all that were read.
    """

    step: int
    values: dict[str, Tensor]
    tokens: int

    def numbers(self) -> dict[str, float]:
        """The values as floats; waits for the device."""
        return {name: float(value) for name, value in self.values.items()}

    def check_finite(self) -> None:
        """Raise NonFiniteLoss, naming step and term, unless every term is finite."""
        for name, value in self.numbers().items():
            if not math.isfinite(value):
                raise NonFiniteLoss(f"the {name} loss is {value} at step {self.step}")


@dataclass
class Snapshot:
    """All that a distiller needs to go on exactly where it was.

    Attributes:
        step: steps taken.
        tensors: weights and optimiser moments by name, copies.
        knobs: temperature, alpha and learning rate; "weight.hidden" and the like where weights
            were given instead of the recipe's.
    """

    step: int
    tensors: dict[str, Tensor]
    knobs: dict[str, float] = field(default_factory=dict)


class Distiller:
    """Trains a student from a teacher, labels, or both.

    Args:
        student: a causal or masked language model or a classifier; trained in place.
        objective: terms and conventions.
        teacher: where the teacher's opinion comes from; None trains on labels alone.
        temperature: T of the soft term.
        alpha: weight of the hard term.
        learning_rate: peak learning rate.
        schedule: warm-up and decay.
        weight_decay: AdamW's, on matrices only.
        accelerator: an ``accelerate.Accelerator``; None makes one.
        matcher: compares layers, where the objective asks for it; its projections are trained
            along with the student.
        micro_batch: most sequences that this process reads at once; a larger step is accumulated.
        reads_in: "float32" or "bfloat16"; see `workbench.devices.precision`.

    Of several processes (`workbench.devices.processes`) each reads its share of a step's batch.
    Where they were started to hold models in shards (`workbench.devices.shards`), ``student`` is a
    whole copy on the main process, brought up to date by `gather`.

    Temperature, alpha and learning_rate may be set at any time and apply from the next step; so
    may the weights of terms, with `set_weight`.

    Raises:
        ValueError: if temperature or alpha are out of range.
    """

    def __init__(
        self,
        student,
        objective: Objective,
        teacher: Teacher | None,
        *,
        temperature: float,
        alpha: float,
        learning_rate: float,
        schedule: Schedule,
        weight_decay: float = 0.0,
        accelerator=None,
        matcher: Matcher | None = None,
        micro_batch: int | None = None,
        reads_in: str = "float32",
    ) -> None:
        losses.check_temperature(temperature)
        losses.check_alpha(alpha)
        self.accelerator = accelerator or processes.accelerator()
        self.team = processes.join()
        self.micro_batch, self.precision = micro_batch, reads_in
        self.objective = objective
        # Without a teacher there is nothing to look at inside.
        self.looks = inner.looks(objective) if teacher is not None else inner.Looks()
        if self.looks and matcher is None:
            raise ValueError("the objective compares layers; give a matcher")
        inner.prepare(student, self.looks)
        self.teacher = teacher
        self.temperature = temperature
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.step_number = 0
        self.vocabulary = models.answers(student)
        student.requires_grad_(True)
        self.matcher = (matcher or torch.nn.Module()).to(self.accelerator.device)
        # Not `accelerator.prepare`, which would wrap the student: see `devices.processes`.
        self.student = self._cut = student.to(self.device)
        self.backbone, self.head = models.split_head(student)
        self._learner: Callable | None = None
        if processes.wants_shards():
            if isinstance(self.head, heads.Whole):
                raise WorkbenchError(
                    f"{type(student).__name__} does not read its answer from the first token, and "
                    "is not trained in shards; start the processes without FSDP"
                )
            from workbench.devices import shards

            self.student = shards.spare(student)
            self._learner = shards.learner(student, self.matcher, self.device)
        trained = torch.nn.ModuleList([student, self.matcher])
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(trained, weight_decay), lr=0.0, fused=True
        )
        self._names = {id(p): name for name, p in self._trained().items()}
        self._parameters = list(self._trained().values())
        if self.device.type == "cpu":
            allocator.keep_freed_memory()

    @property
    def device(self) -> torch.device:
        """Where the student lives."""
        return self.accelerator.device

    @property
    def sharded(self) -> bool:
        """Whether every process holds only a part of each weight."""
        return self._learner is not None

    # ------------------------------------------------------------------ training

    def step(self, batch: Batch | Sequence[Batch]) -> StepRecord:
        """One optimiser step on a batch, or on several accumulated into one.

        Args:
            batch: a batch; of a list, the gradient is that of all of them in one piece.

        Returns:
            The losses before the step was taken.
        """
        batches = [batch] if isinstance(batch, Batch) else list(batch)
        counts = self.objective.counts(batches)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self.schedule.factor(self.step_number)
        self._cut.train()
        values: dict[str, Tensor] = {}
        for part, counted in self._parts(batches):
            total, terms = self._with_weights(self._loss, part, counts)
            if not counted:
                total = 0.0 * total
                terms = {name: 0.0 * value for name, value in terms.items()}
            total.backward()
            for name, value in (*terms.items(), ("total", total)):
                held = value.detach()
                values[name] = values[name] + held if name in values else held
        values = self._together(values)
        torch.nn.utils.clip_grad_norm_(self._parameters, GRADIENT_CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step_number += 1
        tokens = counts.rows if self.objective.scores == "next-token" else counts.tokens
        return StepRecord(self.step_number, values, tokens)

    def ledger(self, batch: Batch) -> dict[str, LedgerEntry]:
        """Each term's value, weight and share of the gradient on this batch, as things stand.

        Of the whole batch, however it is cut; several processes together. Of a student in shards
        nothing, for no process has all of a gradient.
        """
        if self.teacher is None:
            raise ValueError("a student without a teacher has only one term")
        if self.sharded:
            return {}
        counts = self.objective.counts([batch])
        own = [part for part, counted in self._parts([batch]) if counted]
        if self.objective.compares_states or self.objective.looks_inside:
            return self._ledger_by_parameters(own, counts)
        names = list(self.objective.weights(self.alpha))
        value, square = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for part in own:
            scored, labels = self.objective.rows(part)
            with torch.no_grad():
                hidden, _ = self._read(part)
                rows = self._rows(hidden, part, scored)
            signal = self._asked(part, scored)
            measured = self.objective.measured(
                rows,
                precision.head(self.head, self.precision, self.device),
                labels.to(self.device),
                precision.answering(signal, self.precision, self.device),
                temperature=self.temperature,
                alpha=self.alpha,
                counts=counts,
                vocabulary=self.vocabulary,
            )
            for held, added in zip((value, square), measured, strict=True):
                for name in names:
                    held[name] += added[name]
        value, square = self._sums(value), self._sums(square)
        return self.objective.entries(value, {n: s**0.5 for n, s in square.items()}, self.alpha)

    def evaluate(
        self, batches: Sequence[Batch], residues: int | None, teacher: Teacher | None = None
    ) -> metrics.Quality:
        """Held-out quality of the student as it stands; see `metrics.evaluate`."""
        self.student.eval()
        return metrics.evaluate(
            self.student,
            batches,
            residues,
            teacher=teacher,
            scores=self.objective.scores,
        )

    def gather(self) -> None:
        """Bring the whole copy of a student in shards up to date; all processes together."""
        if self.sharded:
            from workbench.devices import shards

            shards.fill(self.student, self._cut)

    # ------------------------------------------------------------------ keeping and going back

    def snapshot(self) -> Snapshot:
        """A copy of everything that decides what the next steps do.

        Of a student in shards all processes together; the main one has it then.
        """
        tensors = {f"model.{n}": self._kept(p) for n, p in self._trained().items()}
        for parameter, state in self.optimizer.state.items():
            for key, value in state.items():
                name = f"optimizer.{self._names[id(parameter)]}.{key}"
                tensors[name] = self._kept(torch.as_tensor(value))
        knobs = {
            "temperature": self.temperature,
            "alpha": self.alpha,
            "learning_rate": self.learning_rate,
            **{f"weight.{name}": weight for name, weight in self.objective.given},
        }
        return Snapshot(self.step_number, tensors, knobs)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; the next steps are the ones that followed it.

        Raises:
            ValueError: if the snapshot is of another student.
        """
        own = self._trained()
        kept = {n.removeprefix("model.") for n in snapshot.tensors if n.startswith("model.")}
        if kept != set(own):
            raise ValueError("the snapshot belongs to a student of another shape")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(self._placed(snapshot.tensors[f"model.{name}"], parameter))
        states = _optimizer_states(snapshot.tensors)
        self.optimizer.state.clear()
        for name, parameter in own.items():
            if name in states:
                # AdamW keeps its step count where the parameter is when it is fused.
                self.optimizer.state[parameter] = {
                    key: self._placed(value, parameter, copy=True)
                    for key, value in states[name].items()
                }
        self.step_number = snapshot.step
        self.temperature = snapshot.knobs["temperature"]
        self.alpha = snapshot.knobs["alpha"]
        self.learning_rate = snapshot.knobs["learning_rate"]
        given = {n: v for n, v in snapshot.knobs.items() if n.startswith("weight.")}
        self.objective = replace(
            self.objective, given=tuple((n.removeprefix("weight."), v) for n, v in given.items())
        )

    def set_weight(self, name: str, weight: float) -> None:
        """Give a term another weight, from the next step on.

        Raises:
            ValueError: if there is no such term, or the weight is below 0.
        """
        if name not in self.objective.terms():
            raise ValueError(f"no term {name!r}; expected {', '.join(self.objective.terms())}")
        if not weight >= 0:
            raise ValueError(f"the weight of {name} is {weight}; expected 0 or more")
        self.objective = replace(
            self.objective, given=tuple({**dict(self.objective.given), name: weight}.items())
        )

    # ------------------------------------------------------------------ inside

    def _trained(self) -> dict[str, Tensor]:
        """All that is trained, by name: the student's parameters and the matcher's projections."""
        projections = {f"matcher.{n}": p for n, p in self.matcher.named_parameters()}
        return {**dict(self._cut.named_parameters()), **projections}

    def _parts(self, batches: Sequence[Batch]) -> list[tuple[Batch, bool]]:
        """What this process reads of a step, and whether it counts."""
        share = self.team.rank, self.team.count, self.micro_batch
        return [part for batch in batches for part in parts.of_process(batch, *share)]

    def _with_weights(self, work: Callable, *arguments) -> tuple[Tensor, dict[str, Tensor]]:
        """Call what needs the student's weights; of one in shards, while they are there."""
        return (self._learner or _call)(work, *arguments)

    def _together(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add up over the processes: gradients, unless shards were added up already, and values."""
        if self.team.count == 1:
            return values
        numbers = torch.stack(list(values.values()))
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.team.add_up([numbers] if self.sharded else [*gradients, numbers])
        return dict(zip(values, numbers, strict=True))

    def _ledger_by_parameters(self, own: Sequence[Batch], counts: Counts) -> dict[str, LedgerEntry]:
        """The ledger, measured on the student's parameters, which every term reaches.

        Of several parts the gradients add up, not their norms. Each term then reads all parts
        anew, so that no more than one gradient of the whole student is held.
        """
        parameters = list(self.student.parameters())
        once = self._loss(own[0], counts, apart=True)[1] if len(own) == 1 else None
        value: dict[str, float] = {}
        norms: dict[str, float] = {}
        for name, weight in self.objective.weights(self.alpha).items():
            value[name] = 0.0
            whole = [torch.zeros_like(p) for p in parameters]
            for part in own:
                terms = once or self._loss(part, counts, apart=True)[1]
                value[name] += float(terms[name].detach())
                gradients = torch.autograd.grad(
                    terms[name], parameters, retain_graph=once is not None, allow_unused=True
                )
                for held, gradient in zip(whole, gradients, strict=True):
                    if gradient is not None:
                        held += gradient
            self.team.add_up(whole)
            norms[name] = (
                weight * sum(float(precision.exact(g).square().sum()) for g in whole) ** 0.5
            )
        return self.objective.entries(self._sums(value), norms, self.alpha)

    def _sums(self, numbers: dict[str, float]) -> dict[str, float]:
        """Numbers of the parts of all processes, added up."""
        if self.team.count == 1:
            return numbers
        added = torch.tensor(list(numbers.values()), dtype=torch.float64, device=self.device)
        self.team.add_up([added])
        return dict(zip(numbers, added.tolist(), strict=True))

    def _kept(self, value: Tensor) -> Tensor:
        value = value.detach()
        if self.sharded:
            from workbench.devices import shards

            value = shards.gathered(value)
        return value.cpu().clone()

    def _placed(self, value: Tensor, parameter: Tensor, copy: bool = False) -> Tensor:
        if self.sharded:
            from workbench.devices import shards

            return shards.like(value, parameter)
        return value.to(parameter.device, copy=True) if copy else value

    def _read(self, batch: Batch) -> tuple[Tensor, inner.Seen | None]:
        """Last hidden states, ``[batch, length, width]``, and what the objective asks for."""
        ids, real = batch.input_ids.to(self.device), batch.real().to(self.device)
        with precision.reading(self.precision, self.device):
            if self.looks:
                hidden, seen = inner.read(self.backbone, ids, real, self.looks)
                return precision.full(hidden), precision.seen(seen)
            return precision.full(models.last_hidden(self.backbone, ids, real)), None

    def _rows(self, hidden: Tensor, batch: Batch, scored: Tensor) -> Tensor:
        """What the head is called with; see `heads.rows`."""
        return heads.rows(self.head, hidden, scored, batch.input_ids, batch.real())

    def _asked(self, batch: Batch, scored: Tensor) -> TeacherSignal | None:
        if self.teacher is None:
            return None
        with precision.reading(self.precision, self.device):
            signal = self.teacher.signal(batch, scored)
        return precision.signal(signal, self.precision)

    def _loss(
        self, batch: Batch, counts: Counts, *, apart: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of all terms, differentiable, and each term's value.

        ``apart`` makes every term differentiable by itself; at a large vocabulary that costs more.
        """
        scored, labels = self.objective.rows(batch)
        hidden, seen = self._read(batch)
        compares = self.teacher is not None and self.objective.compares_states
        signal = self._asked(batch, scored)
        rows, labels = self._rows(hidden, batch, scored), labels.to(self.device)
        options = {
            "temperature": self.temperature,
            "counts": counts,
            "vocabulary": self.vocabulary,
            "states": hidden[batch.real().to(self.device)] if compares else None,
        }
        together = None
        if not apart:
            with precision.reading(self.precision, self.device):
                together = large_vocabulary.loss(
                    self.objective, rows, self.head, labels, signal, alpha=self.alpha, **options
                )
        if together is None:
            head = precision.head(self.head, self.precision, self.device)
            signal = precision.answering(signal, self.precision, self.device)
            values = self.objective.values(rows, head, labels, signal, **options)
        else:
            values = together.values
        if seen is not None:
            if signal.seen is None:
                raise ValueError("the teacher does not say what it holds inside")
            values.update(self.matcher(seen, signal.seen, counts))
        if together is None:
            return self.objective.total(values, self.alpha), values
        weights, total = self.objective.weights(self.alpha), together.weighted
        for name, value in values.items():
            if name not in large_vocabulary.ANSWERS:
                total = total + weights[name] * value
        return total, values


def _call(work: Callable, *arguments) -> tuple[Tensor, dict[str, Tensor]]:
    return work(*arguments)


def _parameter_groups(model, weight_decay: float) -> list[dict]:
    """Weight decay on matrices; none on biases and layer norms, which it would only shrink."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _optimizer_states(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            parameter, _, key = name.removeprefix("optimizer.").rpartition(".")
            states.setdefault(parameter, {})[key] = value
    return states
