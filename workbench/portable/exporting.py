"""`export`: a directory with everything that a small device needs, checked and measured."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import models, run_directory, storage
from workbench.cards.model_card import named
from workbench.devices import machine
from workbench.errors import UsageError, WorkbenchError
from workbench.portable import agreement, card, measure, onnx_files, quality, subject
from workbench.portable.agreement import Answer
from workbench.portable.quality import HeldOut
from workbench.portable.subject import Subject
from workbench.progress import Progress, for_here

FORMAT = "workbench export 1"
#: The file that says what a directory is.
MARK = "export.json"
FLOAT32, INT8 = "model.onnx", "model_int8.onnx"
#: Formats that can be asked for.
FORMATS = ("onnx",)
#: Length of the input that latency is measured with, where no data says what is typical.
TYPICAL = 64


def export(
    what: str | Path,
    *,
    to: str = "onnx",
    int8: bool = False,
    out: str | Path | None = None,
    data: str | None = None,
    column: str | None = None,
    label: str | None = None,
    alleles: str | None = None,
    progress: Progress | None = None,
    rounds: int = 1,
) -> dict[str, Any]:
    """Export a model to a directory that runs with onnxruntime and tokenizers alone.

    The float32 file is compared with PyTorch for several batches, lengths and paddings before
    anything is kept. The directory is written whole or not at all.

    Args:
        what: a run directory (its student), a model directory, a built-in name or a hub id.
        to: ``onnx``.
        int8: also write a file with weights in int8.
        out: the directory; by default ``onnx`` in the run, else ``NAME-onnx`` here. An earlier
            export is replaced.
        data: judge quality by this instead of the run's data or the built-in world.
        column: of a table in ``data``.
        label: column of the classes in a table of texts.
        alleles: table of pseudo-sequences for ``data``.
        progress: who is told; a bar by default.
        rounds: processes in which each file is measured; figures are medians.

    Returns:
        ``model``, ``task``, ``out``, ``inputs``, ``longest`` (tokens), ``data`` (what quality was
        judged by, or None), ``typical_tokens``, ``pytorch``, ``files`` (``float32``, and ``int8``
        or None), ``int8_loss`` (how much worse int8 is than PyTorch in each figure, below zero
        where it is better; None without int8 or data), ``machine`` and ``versions``. ``pytorch``
        and each file have ``path``, the figures of `measure.cost`, ``largest_difference`` of any
        logit from PyTorch's (None for PyTorch), and `quality.KEYS`, None where they do not apply.

    Raises:
        UsageError: for another format or a model of another kind.
        WorkbenchError: if there is no such model, the directory holds something else, or the
            export differs from PyTorch by more than `agreement.TOLERANCE`.
    """
    if to not in FORMATS:
        raise UsageError(f"--to is {to!r}; expected {' or '.join(FORMATS)}")
    progress = progress or for_here()
    try:
        chosen = subject.find(what, data=data, column=column, label=label, alleles=alleles)
        place = Path(out) if out is not None else chosen.default_out
        storage.check_free(place, "export", lambda earlier: (earlier / MARK).exists())
        progress.stage(f"loading {chosen.given}")
        model, tokenizer = chosen.load()
        longest = subject.longest_input(model, tokenizer)
        judged = None
        if chosen.config is not None:
            judged = quality.held_out(chosen.config, model, tokenizer, longest)
            for note in judged.notes:
                progress.note(f"note: {note}")
        else:
            progress.note(
                "note: quality is not measured, for nothing says which data this model is for; "
                "--data FILE gives some"
            )
        with _written_whole(place) as temporary:
            found = _Export(
                chosen, model, tokenizer, longest, judged, temporary, progress, rounds
            ).make(int8)
            storage.write_json(temporary / MARK, {"format": FORMAT, **_without_paths(found)})
            found["out"] = str(place)
            for name in ("float32", "int8"):
                if found["files"][name]:
                    found["files"][name]["path"] = str(place / found["files"][name]["path"])
        return found
    finally:
        progress.close()


class _Export:
    """One export on its way: everything that its steps share."""

    def __init__(
        self, chosen: Subject, model: Any, tokenizer: Any, longest: int, judged: HeldOut | None,
        directory: Path, progress: Progress, rounds: int,
    ) -> None:  # fmt: skip
        self.chosen, self.model, self.tokenizer, self.longest = chosen, model, tokenizer, longest
        self.judged, self.directory, self.progress, self.rounds = (
            judged, directory, progress, rounds,
        )  # fmt: skip
        self.vocabulary = model.config.vocab_size
        ends = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.pad = next(token for token in ends if token is not None)
        self.typical = judged.typical_input() if judged else _random_input(self.vocabulary, longest)
        self.reference = onnx_files.answer_of_pytorch(model)

    def make(self, int8: bool) -> dict[str, Any]:
        """Write, check, judge and measure everything; see `export`."""
        chosen = self.chosen
        self.progress.stage("writing ONNX")
        float32 = self._file(
            onnx_files.write(self.model, self.directory / FLOAT32, self.longest), exact=True
        )
        small = None
        if int8:
            self.progress.stage("writing int8")
            source = self.directory / FLOAT32
            small = self._file(onnx_files.write_int8(source, self.directory / INT8), exact=False)
        self.progress.stage("measuring PyTorch")
        # Of a model from the hub the directory, too: load time is not the network's.
        directory = chosen.directory()
        request = {
            "model": str(directory),
            "auto_class": chosen.task.kind.auto_class,
            "ids": self.typical,
        }
        weights = sorted(directory.glob("*.safetensors"))
        pytorch = {
            "path": str(chosen.place),
            **measure.cost("with_torch", request, weights, rounds=self.rounds),
            "largest_difference": None,
            **self._quality(self.reference),
        }
        masked = onnx_files.needs_mask(self.model)
        found = {
            "model": chosen.given,
            "task": chosen.task.name,
            "out": None,
            "inputs": list(onnx_files.INPUTS[: 1 + masked]),
            "longest": self.longest,
            "data": self.judged.source if self.judged else None,
            "typical_tokens": len(self.typical),
            "pytorch": pytorch,
            "files": {"float32": float32, "int8": small},
            "int8_loss": quality.loss(pytorch, small) if small and self.judged else None,
            "machine": machine.name(),
            "versions": _versions(),
        }
        self._write_beside(found, masked=masked)
        return found

    def _file(self, files: list[Path], *, exact: bool) -> dict[str, Any]:
        """Compare a file with PyTorch, judge it and measure it."""
        session = onnx_files.open_session(files[0], torch.get_num_threads())
        answer = onnx_files.answer_of(session)
        differs = agreement.largest_difference(
            answer, self.reference, self.vocabulary, self.longest, self.pad
        )
        if not differs.finite:
            raise WorkbenchError(
                f"{files[0].name} of {self.chosen.given}, or PyTorch, answers with what is no "
                "finite number; nothing was kept"
            )
        if exact and not differs.within:
            raise WorkbenchError(
                f"the ONNX file of {self.chosen.given} differs from PyTorch by "
                f"{differs.largest:.1e} in a logit; expected at most {differs.allowed:.1e}; "
                "nothing was kept"
            )
        judged = self._quality(answer)
        del session, answer  # their memory is not wanted any more
        self.progress.stage(f"measuring {files[0].name}")
        request = {"model": str(files[0]), "ids": self.typical}
        return {
            "path": files[0].name,
            **measure.cost("without_torch", request, files, rounds=self.rounds),
            "largest_difference": differs.largest,
            **judged,
        }

    def _quality(self, answer: Answer) -> dict[str, float | None]:
        if self.judged is None:
            return dict.fromkeys(quality.KEYS)
        return quality.judge(answer, self.judged, self.vocabulary)

    def _write_beside(self, found: dict[str, Any], *, masked: bool) -> None:
        """Tokenizer, configuration and README."""
        with models.quiet_transformers():
            self.tokenizer.save_pretrained(self.directory)
            self.model.config.save_pretrained(self.directory)
        code = card.program(found["task"], self.model, self.tokenizer, masked=masked, file=FLOAT32)
        own_tokenizer = (self.directory / "tokenizer.json").exists()
        readme = card.text(found, code, pad=self.pad, own_tokenizer=own_tokenizer)
        storage.write_bytes(self.directory / "README.md", readme.encode())


@contextmanager
def _written_whole(place: Path) -> Iterator[Path]:
    """A temporary directory that takes its place when all went well, and else is removed."""
    place = place.resolve()  # what a link leads to is replaced, not the link
    above = next(p for p in place.parents if p.is_dir())
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=above))
        temporary.chmod(0o777 & ~_umask())
    except OSError as error:
        raise storage.disk_error(error, place, "the export") from error
    try:
        yield temporary
        place.parent.mkdir(parents=True, exist_ok=True)
        storage.replace_directory(temporary, place)
    except OSError as error:
        raise storage.disk_error(error, place, "the export") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    current = os.umask(0o022)
    os.umask(current)
    return current


def _without_paths(found: dict[str, Any]) -> dict[str, Any]:
    """The figures as they go elsewhere: no path of this machine; that of a file is its name."""
    pytorch = {**found["pytorch"], "path": named(found["pytorch"]["path"])}
    data = None if found["data"] is None else named(found["data"])
    told = {k: v for k, v in found.items() if k != "out"}
    return {**told, "model": named(found["model"]), "data": data, "pytorch": pytorch}


def _random_input(vocabulary: int, longest: int) -> list[int]:
    length = min(TYPICAL, longest)
    return np.random.default_rng(0).integers(0, vocabulary, length).tolist()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return run_directory.versions() | {p: version(p) for p in ("onnx", "onnxruntime")}
