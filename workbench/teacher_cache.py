"""What the teacher said, kept in a form that does not depend on T or α.

The teacher's forward pass costs more than the student's whole step, and it says
the same every time. So it is asked once about every batch, and the answer is
kept: logits where the vocabulary is small, last hidden states (with the head
beside them) where it is large. T and α come later, so one cache serves every run.

A cache file is found by a key over the teacher's weights, its configuration, the
tokens and how they are batched: another teacher or other data never meet it. A
SHA-256 over its contents tells a whole file from a truncated or altered one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from workbench import inner, models, storage
from workbench.amounts import in_bytes
from workbench.corpora import Batch
from workbench.devices import precision
from workbench.foreign import heads
from workbench.inner import Looks
from workbench.objective import TeacherSignal
from workbench.storage import cache_directory as cache_directory

log = logging.getLogger(__name__)

NOTHING = Looks()
FORMAT = "teacher-cache 1"
#: Most bytes of answers that are kept. They are held in memory too, and written and summed up
#: whole: beyond this a run waits longer for its cache than most runs wait for their teacher.
LARGEST = 4 * 2**30


class Teacher(Protocol):
    """Where the teacher's opinion comes from: asked live, or read from a cache."""

    vocabulary: int

    def signal(self, batch: Batch, scored: Tensor) -> TeacherSignal:
        """What the teacher says about the scored positions of a batch.

        Args:
            batch: the batch.
            scored: ``[batch, length]`` mask.
        """
        ...


class LiveTeacher:
    """Runs the teacher at every call.

    Args:
        model: a causal or masked language model or a classifier, in eval mode without gradients.
        device: where it runs.
        looks: what it says about its inside, in `signal`.
        dropout: rate at which the teacher itself drops entries while it answers, 0 as it should
            be; released scripts that forget eval mode leave it on.
        seed: of these draws; with the batch's own number of its draw they are repeatable.
    """

    def __init__(
        self,
        model,
        device: torch.device | str = "cpu",
        *,
        looks: Looks = NOTHING,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.model = model.to(device)
        self.looks, self.dropout, self.seed = looks, dropout, seed
        inner.prepare(model, looks)
        self.device = torch.device(device)
        self.backbone, self.head = models.split_head(model)
        #: Of a model in shards what it is called through.
        self._root: Callable | None = None
        self.vocabulary = models.answers(model)
        # Of a BERT all hidden states are kept: a term may compare them, and of a classifier the
        # class logits follow from those of the first token.
        narrow = self.vocabulary > model.config.hidden_size
        self.keeps_hidden = narrow or models.is_classifier(model) or models.is_masked(model)

    @torch.no_grad()
    def states(self, batch: Batch) -> Tensor:
        """Answer for all real tokens of a batch, row after row, ``[tokens, vocabulary or width]``.

        Logits are computed for every real token whatever is scored, so that the numbers
        are the same bytes in every use.
        """
        real = batch.real().to(self.device)
        hidden = models.last_hidden(self.backbone, batch.input_ids.to(self.device), real)[real]
        return hidden if self.keeps_hidden else self.head(hidden)

    def signal(self, batch: Batch, scored: Tensor) -> TeacherSignal:
        """See `Teacher.signal`."""
        if self._root is not None:
            return self._root(self._answer, batch, scored)
        return self._answer(batch, scored)

    def _answer(self, batch: Batch, scored: Tensor) -> TeacherSignal:
        if not (self.looks or self.dropout):
            return _signal(self.states(batch), batch, scored, self._head())
        real = batch.real().to(self.device)
        with torch.no_grad(), self._dropping(batch):
            last, seen = inner.read(
                self.backbone, batch.input_ids.to(self.device), real, self.looks
            )
            states = last[real]
        return replace(
            _signal(states if self.keeps_hidden else self.head(states), batch, scored,
                    self._head()),
            seen=seen,
        )  # fmt: skip

    @contextmanager
    def _dropping(self, batch: Batch) -> Iterator[None]:
        """Dropout on for a while, drawn from a seed of this batch's; weights stay as they are."""
        if not self.dropout:
            yield
            return
        layers = [m for m in self.backbone.modules() if isinstance(m, torch.nn.Dropout)]
        before = [layer.p for layer in layers]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            own = [self.seed, batch.draw, batch.index, 0x64726F70]
            # The parts of a batch must not all drop the same entries.
            own += [batch.part] if batch.part else []
            torch.manual_seed(int(np.random.SeedSequence(own).generate_state(1)[0]))
            try:
                for layer in layers:
                    layer.p = self.dropout
                self.backbone.train()
                yield
            finally:
                self.backbone.eval()
                for layer, p in zip(layers, before, strict=True):
                    layer.p = p

    def in_shards(self) -> LiveTeacher:
        """The same, of whose backbone each process holds a part; the head stays whole.

        The whole model moves to the CPU, where it waits to be measured. A classifier stays as it
        is: its head is a part of the backbone.
        """
        if models.is_classifier(self.model):
            return self
        from workbench.devices import shards

        other = copy.copy(self)
        other.backbone, other._root = shards.backbone(self.backbone, self.device)
        other.head = copy.deepcopy(self.head)
        self.model.to("cpu")
        self.device = torch.device("cpu")
        return other

    def _head(self) -> Callable[[Tensor], Tensor] | None:
        return self.head if self.keeps_hidden else None


class CachedTeacher:
    """Reads what `LiveTeacher` said once about a fixed list of batches.

    Args:
        states: ``[tokens of all batches, vocabulary or width]``.
        vocabulary: size of the vocabulary.
        head: maps hidden states to logits; None if ``states`` are logits.
        device: where the signals are wanted.
    """

    def __init__(
        self,
        states: Tensor,
        vocabulary: int,
        head: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.all_states = states
        self.vocabulary = vocabulary
        self.head = head
        self.device = torch.device(device)

    def signal(self, batch: Batch, scored: Tensor) -> TeacherSignal:
        """See `Teacher.signal`."""
        states = self.all_states[batch.first_token : batch.first_token + batch.tokens]
        return _signal(states.to(self.device), batch, scored, self.head)


def kept_or_live(
    teacher: LiveTeacher,
    batches: Sequence[Batch],
    *,
    directory: Path | None = None,
    reads_in: str = "float32",
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Teacher:
    """`open_cache`, unless the answers are more than `LARGEST` or than the disk has room for.

    The student is the same either way; see `LiveTeacher.states`.

    Args:
        teacher: as of `open_cache`, as are the next four.
        batches: all of them.
        directory: where caches live.
        reads_in: the precision of the run that learns from it.
        progress: who is told how far it is.
        note: told in a sentence if the answers are not kept.
    """
    directory = directory or cache_directory()
    size = answer_bytes(teacher, batches)
    # What another process has kept needs no room any more.
    if is_kept(size, directory) or (
        size <= LARGEST
        and (directory / f"{cache_key(teacher, batches, reads_in)}.safetensors").exists()
    ):
        return open_cache(
            teacher, batches, directory=directory, reads_in=reads_in, progress=progress
        )
    if note:
        note(f"note: the teacher is asked at every step: its answers would take {in_bytes(size)}")
    return teacher


def is_kept(size: int, directory: Path) -> bool:
    """Whether so many bytes of answers are few enough to be kept in a directory."""
    # A tenth of the limit is no matter for any disk that holds the packages.
    return size <= LARGEST and (size <= LARGEST // 10 or size <= storage.free_bytes(directory))


def answer_bytes(teacher: LiveTeacher, batches: Sequence[Batch]) -> int:
    """Bytes of a teacher's answers to these batches."""
    known = getattr(batches, "total_tokens", None)
    tokens = sum(batch.tokens for batch in batches) if known is None else known
    numbers = teacher.model.config.hidden_size if teacher.keeps_hidden else teacher.vocabulary
    return tokens * numbers * next(teacher.model.parameters()).element_size()


def open_cache(
    teacher: LiveTeacher,
    batches: Sequence[Batch],
    *,
    directory: Path | None = None,
    reads_in: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> CachedTeacher:
    """The teacher's answers to these batches, from the cache or made now.

    Args:
        teacher: the teacher, run only where the cache has no valid answer.
        batches: all of them; signals are found by their place.
        directory: where caches live; by default `cache_directory`.
        reads_in: the precision in which the teacher is asked, see `devices.precision`; answers are
            kept as float32.
        progress: called with (tokens done, tokens in all) while the cache is made.

    Raises:
        WorkbenchError: if the cache cannot be written.
    """
    directory = directory or cache_directory()
    key = cache_key(teacher, batches, reads_in)
    path = directory / f"{key}.safetensors"
    states = _load(path, key)
    if states is None:
        # First the place, then the work: asking a large teacher takes hours.
        storage.make_directory(directory, "the teacher cache")
        states = _compute(teacher, batches, reads_in, progress)
        metadata = {"format": FORMAT, "key": key, "sha256": _digest(states)}
        storage.write_safetensors(path, {"states": states}, metadata)
    head = teacher.head if teacher.keeps_hidden else None
    return CachedTeacher(states, teacher.vocabulary, head, teacher.device)


def cache_key(teacher: LiveTeacher, batches: Sequence[Batch], reads_in: str = "float32") -> str:
    """Hash of everything that the teacher's answers depend on."""
    digest = hashlib.sha256()
    config = {k: v for k, v in teacher.model.config.to_dict().items() if not k.startswith("_")}
    # The number of threads and the release decide the last bits of a sum.
    attention = getattr(teacher.model.config, "_attn_implementation", None)
    run_time = [
        FORMAT, torch.__version__, torch.get_num_threads(), str(teacher.device.type), attention,
        *([] if reads_in == "float32" else [reads_in]),
    ]  # fmt: skip
    digest.update(json.dumps([config, run_time], sort_keys=True, default=str).encode())
    digest.update(models.fingerprint(teacher.model).encode())
    for batch in batches:
        digest.update(repr(tuple(batch.input_ids.shape)).encode())
        digest.update(batch.input_ids.numpy().data)
        digest.update(batch.lengths.numpy().data)
    return digest.hexdigest()[:32]


def _compute(
    teacher: LiveTeacher,
    batches: Sequence[Batch],
    reads_in: str,
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    total = sum(b.tokens for b in batches)
    states: Tensor | None = None
    for batch in batches:
        with precision.reading(reads_in, teacher.device):
            part = precision.full(teacher.states(batch)).cpu()
        if states is None:
            states = torch.empty((total, part.shape[1]), dtype=part.dtype)
        states[batch.first_token : batch.first_token + batch.tokens] = part
        if progress:
            progress(batch.first_token + batch.tokens, total)
    if states is None:
        raise ValueError("there are no batches to ask the teacher about")
    return states


def _load(path: Path, key: str) -> Tensor | None:
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            states = file.get_tensor("states")
    except (SafetensorError, OSError) as error:
        log.warning("the teacher cache %s is damaged (%s) and is made again", path, error)
        return None
    if metadata.get("key") != key or metadata.get("sha256") != _digest(states):
        log.warning("the teacher cache %s holds something else and is made again", path)
        return None
    return states


def _digest(states: Tensor) -> str:
    return hashlib.sha256(states.reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _signal(
    states: Tensor, batch: Batch, scored: Tensor, head: Callable[[Tensor], Tensor] | None
) -> TeacherSignal:
    real = batch.real()
    if isinstance(head, heads.Whole):
        with torch.no_grad():
            return TeacherSignal(_answers_of_rows(states, batch, real, head), None, states)
    rows = states[scored[real].to(states.device)]
    return TeacherSignal(rows, head, None if head is None else states)


def _answers_of_rows(states: Tensor, batch: Batch, real: Tensor, head: heads.Whole) -> Tensor:
    """Logits of whole rows, ``[batch, classes]``, whose states are put back in their places."""
    places = real.to(states.device)
    hidden = states.new_zeros((*places.shape, states.shape[-1]))
    hidden[places] = states
    return head.read(hidden, batch.input_ids.to(states.device), places)
