"""What the explorer explores: truth, teacher and student at every position of one example.

Nothing here depends on T or α. `figures` computes what the browser computes as well, a
second time and in another way: with `workbench.losses` in float64 and autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench import losses, models
from workbench.errors import UsageError
from workbench.lab.explore.presets import FIRST_POSITION, State, check_sequence
from workbench.worlds import proteins

#: Sequences of a batch, as the recipes have it; the reduction "sum" counts them.
SEQUENCES = 32


@dataclass(frozen=True)
class Example:
    """Distributions over one vocabulary at some positions.

    Attributes:
        symbols: names of the vocabulary.
        letters: the symbol at each position, as text.
        teacher: ``[positions, vocabulary]`` logits, float64.
        student: likewise.
        labels: ``[positions]``, index of the true symbol.
        oracle: ``[positions, vocabulary]`` log-probabilities, −inf where impossible; None
            where nobody knows the truth.
        tokens: scored tokens of a sequence; the reductions batchmean and sum count them.
        sequences: of a batch; the reduction sum counts them.
        source: such as ``protein=3``; empty for logits that were given.
        contexts: a text for each position, such as the sentence that a word was taken from;
            empty where there are none.
    """

    symbols: tuple[str, ...]
    letters: tuple[str, ...]
    teacher: np.ndarray
    student: np.ndarray
    labels: np.ndarray
    oracle: np.ndarray | None
    tokens: int
    sequences: int = SEQUENCES
    source: str = ""
    contexts: tuple[str, ...] = ()

    @property
    def positions(self) -> int:
        """How many there are."""
        return len(self.labels)

    def resolve(self, state: State) -> State:
        """The state with its position written out.

        Raises:
            UsageError: if the position or a logit set by hand is beyond the example.
        """
        position = state.position or min(FIRST_POSITION, self.positions)
        if position > self.positions:
            raise UsageError(
                f"position is {position}; expected 1 to {self.positions} in this example"
            )
        for key in ("teacher", "student"):
            for index, _ in getattr(state, key):
                if index >= len(self.symbols):
                    raise UsageError(
                        f"{key} sets the logit {index}; expected 0 to {len(self.symbols) - 1}, as "
                        "this vocabulary has them"
                    )
        return replace(state, position=position)

    def abbreviate(self, state: State) -> State:
        """The state without a position where it is the default one."""
        default = min(FIRST_POSITION, self.positions)
        return replace(state, position=0) if state.position == default else state

    def logits(self, state: State, who: str) -> np.ndarray:
        """Teacher's or student's logits at a resolved state, hand-set ones included."""
        row = getattr(self, who)[state.position - 1].copy()
        for index, value in getattr(state, who):
            row[index] = value
        return row

    def pack(self) -> dict[str, Any]:
        """For the browser: numbers as little-endian float64, which JSON would lengthen."""
        return {
            "source": self.source,
            "symbols": list(self.symbols),
            "letters": list(self.letters),
            "labels": [int(i) for i in self.labels],
            "teacher": self.teacher.astype("<f8").tobytes(),
            "student": self.student.astype("<f8").tobytes(),
            "oracle": None if self.oracle is None else self.oracle.astype("<f8").tobytes(),
            "tokens": self.tokens,
            "sequences": self.sequences,
            "contexts": list(self.contexts),
        }


class Pair:
    """A teacher and a student with one token a residue.

    Args:
        teacher: as `models.load_causal_lm` takes it.
        student: likewise.

    Raises:
        WorkbenchError: if one cannot be loaded.
        UsageError: if one has another vocabulary.
    """

    def __init__(self, teacher: str, student: str) -> None:
        self._models = [_load_residue_model(source) for source in (teacher, student)]
        self.longest = min(model.config.n_positions for model, _ in self._models) - 1

    def example(self, state: State) -> Example:
        """Truth, teacher and student about a protein of the world or a typed sequence.

        Raises:
            UsageError: if the sequence is longer than the models read.
        """
        world = proteins.default_world()
        sequence = state.sequence or world.sample(1, seed=state.protein)[0]
        sequence = check_sequence(sequence, self.longest)
        with np.errstate(divide="ignore"):
            oracle = np.log(world.oracle(sequence))
        teacher, student = (_answers(*model, sequence) for model in self._models)
        return Example(
            symbols=proteins.SYMBOLS,
            letters=(*sequence, proteins.SYMBOLS[proteins.END]),
            teacher=teacher,
            student=student,
            labels=np.append(proteins.encode(sequence), proteins.END),
            oracle=oracle,
            tokens=len(sequence) + 1,
            source=state.source,
        )


def given(
    symbols: Sequence[str],
    teacher_logits: Any,
    student_logits: Any,
    label: Any,
    *,
    oracle: Any = None,
    tokens: int | None = None,
    sequences: int = SEQUENCES,
    contexts: Sequence[str] | None = None,
) -> Example:
    """An example from numbers; see `Explorer.from_logits`.

    Raises:
        UsageError: if shapes differ, or numbers are not finite or no distribution.
    """
    names = tuple(str(s) for s in symbols)
    if len(names) < 2:
        raise UsageError(f"there are {len(names)} symbols; expected at least two")
    teacher = _rows(teacher_logits, "the teacher's logits", len(names))
    student = _rows(student_logits, "the student's logits", len(names))
    labels = np.atleast_1d(np.asarray(label))
    if teacher.shape != student.shape or len(labels) != len(teacher):
        raise UsageError(
            f"the teacher's logits have the shape {list(teacher.shape)}, the student's "
            f"{list(student.shape)} and there are {len(labels)} labels; expected the same positions"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(names):
        raise UsageError(f"the label is {label}; expected an index from 0 to {len(names) - 1}")
    for name, number in (("tokens", tokens), ("sequences", sequences)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise UsageError(f"{name} is {number}; expected a whole number above 0")
    if contexts is not None and len(contexts) != len(labels):
        raise UsageError(
            f"there are {len(contexts)} contexts and {len(labels)} positions; expected one each"
        )
    truth = None
    if oracle is not None:
        truth = _rows(oracle, "the oracle's probabilities", len(names))
        if truth.shape != teacher.shape or (truth < 0).any() or (truth.sum(1) <= 0).any():
            raise UsageError(
                "the oracle's probabilities are negative, all zero or of another shape; expected "
                "a distribution for each position"
            )
        with np.errstate(divide="ignore"):
            truth = np.log(truth / truth.sum(1, keepdims=True))
    return Example(
        symbols=names,
        letters=tuple(names[i] for i in labels),
        teacher=teacher,
        student=student,
        labels=labels.astype(np.int64),
        oracle=truth,
        tokens=tokens or len(labels),
        sequences=sequences,
        contexts=tuple(str(text) for text in contexts or ()),
    )


def figures(example: Example, state: State) -> dict[str, Any]:
    """All figures of the explorer at a resolved state, float64, by autograd.

    Returns:
        ``probabilities`` of oracle, teacher and student at T, lists; ``entropy`` (nats) and
        ``perplexity`` of each at T; ``kl_from_oracle`` of teacher and student at T;
        ``divergence`` of teacher and student at T in each direction, nats; ``hard``, the
        cross-entropy at T = 1; ``factor``, T² and reduction; ``soft``, the chosen divergence
        times the factor; ``loss``; and for hard and soft ``gradient``, the weighted
        gradient on every logit of the student, its Euclidean ``norm`` and its ``share`` of
        the sum of both norms, as in `objective.LedgerEntry`. What needs an oracle is None
        without one.
    """
    import torch

    teacher = torch.from_numpy(example.logits(state, "teacher"))[None]
    student = torch.from_numpy(example.logits(state, "student"))[None].requires_grad_(True)
    at = state.position - 1
    label = torch.tensor([int(example.labels[at])])
    temperature, weights = state.temperature, {"hard": state.alpha, "soft": 1.0 - state.alpha}

    rows = example.tokens * example.sequences
    counts = {"rows": rows, "sequences": example.sequences, "vocabulary": len(example.symbols)}
    # One position out of ``rows`` alike, relative to their mean.
    factor = float(losses.reduce(torch.ones(rows), state.reduction, **counts))
    factor *= temperature**2 if state.temperature_squared else 1.0
    hard = losses.hard_cross_entropy(student, label).sum()
    divergence = {
        direction: losses.soft_divergence(student, teacher, temperature, direction).sum()
        for direction in ("forward", "reverse", "jensen-shannon")
    }
    terms = {"hard": hard, "soft": factor * divergence[state.direction]}
    gradient = {
        name: weights[name] * torch.autograd.grad(term, student, retain_graph=True)[0][0]
        for name, term in terms.items()
    }
    norm = {name: float(g.norm()) for name, g in gradient.items()}
    total = sum(norm.values())

    with torch.no_grad():
        softened = {
            "teacher": torch.softmax(teacher[0] / temperature, -1),
            "student": torch.softmax(student[0] / temperature, -1),
        }
        if example.oracle is not None:
            truth = torch.softmax(torch.from_numpy(example.oracle[at]) / temperature, -1)
            softened["oracle"] = truth
        # xlogy knows that 0·log 0 is 0.
        entropy = {name: -float(torch.special.xlogy(p, p).sum()) for name, p in softened.items()}
        from_oracle = {
            name: float(_kl_to_logits(softened["oracle"], logits[0] / temperature))
            for name, logits in (("teacher", teacher), ("student", student))
            if "oracle" in softened
        }
    who = ("oracle", "teacher", "student")
    return {
        "probabilities": {n: softened[n].tolist() if n in softened else None for n in who},
        "entropy": {n: entropy.get(n) for n in who},
        "perplexity": {n: math.exp(entropy[n]) if n in entropy else None for n in who},
        "kl_from_oracle": {n: from_oracle.get(n) for n in who[1:]},
        "divergence": {n: float(d.detach()) for n, d in divergence.items()},
        "hard": float(hard.detach()),
        "factor": factor,
        "soft": float(terms["soft"].detach()),
        "loss": float(sum(weights[n] * t for n, t in terms.items()).detach()),
        "gradient": {n: g.tolist() for n, g in gradient.items()},
        "norm": norm,
        "share": {n: value / total if total > 0 else 0.0 for n, value in norm.items()},
    }


# ---------------------------------------------------------------------- parts


def _kl_to_logits(p, logits):
    import torch

    return (torch.special.xlogy(p, p) - torch.where(p > 0, p * logits.log_softmax(-1), 0.0)).sum()


def _load_residue_model(source: str):
    """A model and the columns of its logits in the order of `proteins.SYMBOLS`."""
    model, tokenizer, _ = models.load_causal_lm(source)
    columns = tokenizer.convert_tokens_to_ids(list(proteins.AMINO_ACIDS))
    unknown = tokenizer.unk_token_id
    if len(tokenizer) != len(proteins.SYMBOLS) or None in columns or unknown in columns:
        raise UsageError(
            f"{source} has a vocabulary of {len(tokenizer)} tokens; expected one token a residue "
            "(Explorer.from_logits shows any vocabulary)"
        )
    return model, [*columns, tokenizer.eos_token_id]


def _answers(model, columns: list[int], sequence: str) -> np.ndarray:
    """Logits before each residue and before the end, ``[length + 1, 21]``.

    Centred, so that teacher's and student's can be compared: a softmax does not know
    what is added to all logits alike.
    """
    import torch

    ids = [columns[-1], *(columns[i] for i in proteins.encode(sequence))]
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids], device=device)).logits[0]
    row = logits.cpu().double().numpy()[:, columns]
    return row - row.mean(axis=1, keepdims=True)


def _rows(values: Any, what: str, vocabulary: int) -> np.ndarray:
    try:
        rows = np.atleast_2d(np.array(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} are no numbers ({error}); expected [vocabulary]") from error
    if rows.ndim != 2 or rows.shape[1] != vocabulary or not len(rows):
        raise UsageError(
            f"{what} have the shape {list(rows.shape)}; expected [{vocabulary}] or "
            f"[positions, {vocabulary}], a number a symbol"
        )
    if not np.isfinite(rows).all():
        raise UsageError(f"{what} are not all finite; expected finite numbers")
    return rows
