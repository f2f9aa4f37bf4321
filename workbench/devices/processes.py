"""Several processes at one run: who they are, what each has of a step, what they tell each other.

`accelerate launch`, or `torchrun`, starts the same command several times, a process a device, on
one machine or many. Every process holds all students and goes through the same steps; of each
step's batch it reads its own rows. The gradients of all are then added up, so that a step is the
step of one process on the whole batch, up to rounding. The first process, the main one, alone
writes, evaluates and speaks.

Why not `DistributedDataParallel`: it listens to a model's own forward pass, and here the head is
applied to scored rows only, apart from the rest; it averages over processes, where a sum of parts
that were divided by the counts of the whole batch is wanted; and it refuses parameters that a loss
does not reach. One sum over all gradients after the last backward pass is exact and short. It does
not overlap with the backward pass, which costs little while a student has some hundred million
parameters at most.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from workbench.errors import UsageError, WorkbenchError
from workbench.lazily import torch

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

#: How long a process waits for the others within a step: longer than any step, or one is lost.
STEP_PATIENCE = timedelta(minutes=10)
#: How long it waits while the main process asks a large teacher, or evaluates.
WORK_PATIENCE = timedelta(days=1)
#: Bytes of gradients that travel together.
BUCKET_BYTES = 64 * 2**20
#: Where the launchers say how many processes there are, and which this one is.
_COUNT = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE")
_RANK = ("RANK", "OMPI_COMM_WORLD_RANK")
#: Where accelerate says which precision it was given, and what each is called here.
_PRECISION = "ACCELERATE_MIXED_PRECISION"
_PRECISIONS = {"no": None, "bf16": "bfloat16"}


class ProcessLost(WorkbenchError):
    """Another process of the same run has ended; this one cannot go on alone."""


def count() -> int:
    """How many processes the launcher has started; 1 without one."""
    return _number(_COUNT, 1)


def rank() -> int:
    """Which of them this is, from 0; 0 is the main process."""
    return _number(_RANK, 0)


def wants_shards() -> bool:
    """Whether the launcher was told to cut models into shards: ``accelerate … --use_fsdp``."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and count() > 1


def precision() -> str | None:
    """The precision that the launcher was given; None for its default.

    Raises:
        UsageError: if it is one that students are not trained in here.
    """
    given = os.environ.get(_PRECISION, "no")
    if given not in _PRECISIONS:
        raise UsageError(
            f"accelerate was given mixed precision {given}; expected bf16, or no for float32"
        )
    return _PRECISIONS[given]


def refuse(command: str) -> None:
    """Raise UsageError if several processes were started for a command that is for one."""
    if count() > 1:
        raise UsageError(
            f"`workbench {command}` is for one process and was started {count()} times; start it "
            "without accelerate or torchrun, which are for distill and resume"
        )


def notes(reads_in: str) -> list[str]:
    """What the user should know about how this process was started.

    Args:
        reads_in: the precision of the run, which counts whatever the launcher was given.
    """
    found = []
    # Accelerate leaves an address for the others, which it does not start.
    started_alone = count() == 1 and "RANK" not in os.environ and "MASTER_PORT" in os.environ
    if started_alone and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        found.append(
            "note: `accelerate launch` has started one process only, as it does with --cpu and "
            "with a configuration file of MULTI_CPU; for several on a CPU give --multi_gpu "
            "(beside the file, or in place of --cpu), or use torchrun"
        )
    given = os.environ.get(_PRECISION, "no")
    if given != "no" and _PRECISIONS.get(given) != reads_in:
        found.append(
            f"note: accelerate was given mixed precision {given}; models read in {reads_in}, as "
            "--precision or the run that goes on says"
        )
    return found


@cache
def join() -> Team:
    """The processes of this run; waits until all of them are there."""
    return Team() if count() > 1 else Team(alone=True)


def accelerator() -> Accelerator:
    """An Accelerator of this process's device, joined with the others."""
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import patch_environment

    # A run has its own precision (`devices.precision`), and may go on under a launcher that was
    # given another; models are cut into shards in `devices.shards`, on a CPU too, which the plugin
    # of Accelerate for it refuses.
    own = {_PRECISION.lower(): "no", "accelerate_use_fsdp": "false"}
    with patch_environment(**own):
        if count() == 1:
            return Accelerator()
        # Without this, processes on a machine without an accelerator would each believe
        # themselves alone, unless an environment variable says otherwise.
        device = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        on_cpu = device is None or device.type == "mps"  # of which there is one for all
        patience = InitProcessGroupKwargs(timeout=STEP_PATIENCE)
        return Accelerator(cpu=on_cpu, kwargs_handlers=[patience])


def device_alone() -> torch.device:
    """The device that the main process works on, without waiting for the others to come."""
    if count() == 1:
        return accelerator().device
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if on_cpu or not torch.accelerator.is_available():
        return torch.device("cpu")
    return torch.accelerator.current_accelerator()


class Team:
    """The processes of one run, seen from one of them.

    Args:
        alone: there is only this one; everything below then does nothing.

    Attributes:
        count: of processes.
        rank: of this one.
        main: whether it is the one that writes, evaluates and speaks.
        interrupted: whether this process was asked to stop; see `listening`.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self.count, self.rank = (1, 0) if alone else (count(), rank())
        self.main = self.rank == 0
        self.interrupted = False
        self._putting_off = False
        self._launched = any(os.environ.get(name) for name in _RANK)
        self._control = None
        if alone:
            return
        if wants_shards():
            # Else transformers gives weights to the first process only, and zeros to the others,
            # for Accelerate's own plugin to fill in.
            os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        accelerator()
        with _noticing():
            # A group of its own, on the CPU: while the main process works for hours, waiting on
            # it neither runs into the patience of a step nor keeps an accelerator busy.
            self._control = torch.distributed.new_group(backend="gloo", timeout=WORK_PATIENCE)

    # ------------------------------------------------------------------ waiting for each other

    def wait(self) -> None:
        """Until every process has come here.

        Raises:
            ProcessLost: if one has ended.
        """
        if self.count > 1:
            self._sum(torch.zeros(1))

    def before_my_turn(self) -> None:
        """Wait for those that go first: the main process, then one on each machine.

        What they leave on their disks the others find; `after_my_turn` lets the next ones go.
        """
        for _ in range(self._turn()):
            self.wait()

    def after_my_turn(self) -> None:
        """Let the next ones go, and wait for all."""
        for _ in range(3 - self._turn()):
            self.wait()

    def tell(self, text: str) -> str:
        """The main process's text, on every process."""
        if self.count == 1:
            return text
        content = list(text.encode()) if self.main else []
        length = int(self._sum(torch.tensor([len(content)])))
        letters = torch.zeros(length, dtype=torch.uint8)
        letters[: len(content)] = torch.tensor(content, dtype=torch.uint8)
        return bytes(self._sum(letters).tolist()).decode()

    def agree(self, digest: str, what: str) -> None:
        """Raise WorkbenchError unless all processes have the same of something."""
        if self.tell(digest) != digest:
            raise WorkbenchError(
                f"process {self.rank} has another {what} than the main process; give all machines "
                "the same files, releases and options"
            )

    def stops(self) -> bool:
        """Whether any process was asked to stop; all get the same answer."""
        if self.count == 1:
            # Another thread may have a run of its own, which nobody wants to stop.
            return self.interrupted and _in_main_thread()
        return bool(self._sum(torch.tensor([float(self.interrupted)])) > 0)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM alike: as KeyboardInterrupt, or later where it is `putting_off`.

        Outside the main thread signals stay as they are, and so does one that is ignored.
        """
        if not _in_main_thread():
            yield
            return
        self.interrupted = False
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        # None is a handler of some C library, which could not be put back.
        heard = [s for s, old in before.items() if old not in (signal.SIG_IGN, None)]
        for number in heard:
            signal.signal(number, self._hear)
        try:
            yield
        finally:
            # A process of a launcher leaves now. What still reaches it is the same request, passed
            # on by the launcher, and must change neither its last words nor its exit status.
            leaves = self.interrupted and self._launched
            for number in heard:
                signal.signal(number, signal.SIG_IGN if leaves else before[number])

    @contextmanager
    def putting_off(self) -> Iterator[None]:
        """Within `listening`: let a request to stop only be noted, for `stops`.

        It reaches several processes at different moments; they stop together, between two steps.
        A process alone finishes its step, too; unless it has a launcher, which may pass on what
        has reached the process already, a second request interrupts it at once.
        """
        if not _in_main_thread():
            yield
            return
        self._putting_off = True
        try:
            yield
        finally:
            self._putting_off = False

    # ------------------------------------------------------------------ a step

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place; all of one type.

        Raises:
            ProcessLost: if one has ended.
        """
        if self.count == 1:
            return
        under_way = []
        with _noticing():
            for bucket in _buckets(tensors):
                flat = torch.cat([t.reshape(-1) for t in bucket])
                under_way.append((bucket, flat, torch.distributed.all_reduce(flat, async_op=True)))
            for bucket, flat, work in under_way:
                work.wait()
                for tensor, part in zip(
                    bucket, flat.split([t.numel() for t in bucket]), strict=True
                ):
                    tensor.copy_(part.view_as(tensor))

    # ------------------------------------------------------------------ inside

    def _hear(self, _number: int, _frame: object) -> None:
        again, self.interrupted = self.interrupted, True
        # A second request is a launcher's copy of the first, or else somebody's who cannot wait.
        is_heeded = not (self._putting_off or again) if self._launched else (
            again or not self._putting_off
        )  # fmt: skip
        if is_heeded:
            raise KeyboardInterrupt

    def _turn(self) -> int:
        if self.main:
            return 0
        return 1 if _number(("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"), 0) == 0 else 2

    def _sum(self, numbers: Tensor) -> Tensor:
        with _noticing():
            torch.distributed.all_reduce(numbers, group=self._control)
        return numbers


def is_loss_of_a_process(error: BaseException) -> bool:
    """Whether an error says that another process cannot be reached any more."""
    if isinstance(error, ProcessLost):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    words = ("connection closed", "connection reset", "gloo", "nccl", "broken pipe", "timed out")
    return isinstance(error, torch.distributed.DistError) or any(word in text for word in words)


@contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_loss_of_a_process(error):
            raise
        raise ProcessLost("another process of this run has ended or cannot be reached") from error


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def _number(names: Sequence[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), default)
