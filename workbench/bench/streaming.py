"""Large files in little memory: `workbench bench streaming`.

Files are generated, tokenised by a process of its own and read back in batches; what counts is the
largest memory that the process ever had, everything imported included. ``WORKBENCH_STREAMING_MB``
sets the size of the largest file, 2048 by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from workbench.bench.goals import Goal
from workbench.errors import UsageError, WorkbenchError
from workbench.progress import Progress, for_here
from workbench.worlds.proteins import AMINO_ACIDS

#: Most memory, MB (10⁶ bytes), everything included.
GOAL = 600
MEGABYTES = 2048
BATCH_SIZE, BATCHES, SEED = 32, 200, 0
#: Letters of the line that is too long to be one record.
LONG_LINE = 200_000_000


@dataclass(frozen=True)
class Case:
    """A kind of file and what it is tokenised with.

    Attributes:
        about: what it is, in words.
        name: of the file.
        kind: "letters" and "byte-pairs" of proteins, "word-pieces" of sentences.
        share: of the largest file: what tokenizers cut slowly gets less.
        write: writes about so many bytes.
    """

    about: str
    name: str
    kind: str
    share: float
    write: Callable[[IO[bytes], int], None]


def _proteins(file: IO[bytes], size: int) -> None:
    """FASTA, 50 to 600 residues, an X in every twentieth record, 60 letters a line."""
    random = np.random.default_rng(SEED)
    # An X now and then: it takes the slow way through the rules for letters.
    for number, letters in enumerate(_letters(random, size)):
        sequence = letters[: 50 + int(random.integers(551))]
        if number % 20 == 0:
            sequence = sequence[:10] + b"X" + sequence[10:]
        file.write(b">protein %d of none\n" % number)
        for start in range(0, len(sequence), 60):
            file.write(sequence[start : start + 60] + b"\n")
        if file.tell() >= size:
            return


def _short_lines(file: IO[bytes], size: int) -> None:
    """Lines of twenty residues."""
    random = np.random.default_rng(SEED)
    table = np.frombuffer(AMINO_ACIDS.encode(), np.uint8)
    lines = 50_000
    while file.tell() < size:
        text = np.full((lines, 21), ord("\n"), np.uint8)
        text[:, :20] = table[random.integers(20, size=(lines, 20))]
        file.write(text.tobytes()[: size - file.tell()])


def _sentences(file: IO[bytes], size: int) -> None:
    """Sentences of the biomedical world, one to eight a line, again and again."""
    from workbench.worlds import biomedical

    texts = [sentence.text for sentence in biomedical.sample(2000, SEED)]
    random = np.random.default_rng(SEED)
    while file.tell() < size:
        for count in random.integers(1, 9, size=1000):
            chosen = random.integers(len(texts), size=count)
            file.write(" ".join(texts[i] for i in chosen).encode() + b"\n")


def _long_line(file: IO[bytes], size: int) -> None:
    """Two sequences, and then one line without end."""
    file.write(b"MKVLA\nMKVLT\n")
    for _ in range(0, size, 10**6):
        file.write(b"ACDEFGHIKL" * 10**5)


def _letters(random: np.random.Generator, size: int) -> Iterator[bytes]:
    """Stretches of 600 residues, for ever."""
    table = np.frombuffer(AMINO_ACIDS.encode(), np.uint8)
    while True:
        text = table[random.integers(20, size=600 * 1000, dtype=np.uint8)].tobytes()
        yield from (text[start : start + 600] for start in range(0, len(text), 600))


CASES: dict[str, Case] = {
    "proteins": Case("FASTA, a token a residue", "a.fasta", "letters", 1, _proteins),
    "short_lines": Case("lines of 20 residues", "b.txt", "letters", 1 / 4, _short_lines),
    "byte_pairs": Case("FASTA, in ProtGPT2's form", "c.fasta", "byte-pairs", 1 / 32, _proteins),
    "sentences": Case("text, word pieces", "d.txt", "word-pieces", 1 / 32, _sentences),
}


def measure(
    megabytes: float | None = None,
    cases: Sequence[str] = tuple(CASES),
    *,
    long_line: int = LONG_LINE,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Memory and speed of tokenising generated files and of reading batches of them.

    Args:
        megabytes: of the largest file, MB; by default ``WORKBENCH_STREAMING_MB``, or 2048.
        cases: of `CASES`.
        long_line: letters of a line that must be refused; 0 leaves that out.
        progress: who is told.

    Returns:
        For each case: ``megabytes`` of the file, ``peak_mb`` of the process, ``imports_mb`` of it
        before it began, ``megabytes_per_second`` of tokenising, ``tokens``, ``rows``, and
        ``batch_ms``, the mean time to read one of `BATCHES` batches in random order; of the long
        line what was said and the peak.

    Raises:
        WorkbenchError: if a file cannot be tokenised, or the long line is not refused.
    """
    megabytes = _asked() if megabytes is None else megabytes
    progress = progress or for_here()
    found: dict[str, Any] = {"largest_mb": megabytes, "cases": {}}
    with tempfile.TemporaryDirectory(prefix="workbench-streaming-") as scratch:
        for name in cases:
            case = CASES[name]
            size = int(megabytes * case.share * 10**6)
            progress.stage(f"{case.about}: {size / 10**6:,.0f} MB")
            path = _written(Path(scratch) / case.name, case.write, size)
            found["cases"][name] = {"about": case.about, **_run(path, case.kind, scratch)}
            path.unlink()
        if long_line:
            progress.stage("a line without end")
            path = _written(Path(scratch) / "long.txt", _long_line, long_line)
            found["long_line"] = _run(path, "letters", scratch, refused=True)
    progress.close()
    peaks = [case["peak_mb"] for case in found["cases"].values()]
    peaks += [found["long_line"]["peak_mb"]] if long_line else []
    goal = Goal("peak memory of the process, MB", max(peaks), GOAL, "at most")
    return {**found, "goals": [goal.to_json()]}


def _asked() -> float:
    text = os.environ.get("WORKBENCH_STREAMING_MB", str(MEGABYTES))
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 1 <= value < 1e6:
        raise UsageError(f"WORKBENCH_STREAMING_MB is {text!r}; expected a number of MB, 1 or more")
    return value


def _written(path: Path, write: Callable[[IO[bytes], int], None], size: int) -> Path:
    with path.open("wb") as file:
        write(file, size)
    return path


def _run(path: Path, kind: str, scratch: str, *, refused: bool = False) -> dict[str, Any]:
    """What a process of its own says of a file."""
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        done = subprocess.run(
            [sys.executable, "-m", "workbench.bench.streaming", str(path), kind],
            env=os.environ | {"WORKBENCH_CACHE": cache},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        ended = f"the process ended with {done.returncode} and said nothing"
        last = (done.stderr.strip().splitlines() or [ended])[-1]
        raise WorkbenchError(f"{path.name} ({kind}): {last}")
    said = json.loads(done.stdout)
    if ("refused" in said) != refused:
        raise WorkbenchError(f"{path.name} ({kind}): {said.get('refused', 'it was not refused')}")
    return said


# ---------------------------------------------------------------------- in the other process


def _tokenise(path: Path, name: str) -> dict[str, Any]:
    from workbench import corpora
    from workbench.on_disk import large_corpora
    from workbench.records import streams

    kind = _kind(name)
    imports = _peak_mb()
    size = path.stat().st_size / 10**6
    started = time.perf_counter()
    try:
        stream = streams.open_stream(str(path), None, kind.expected)
        corpus = large_corpora.LargeCorpus(str(path), stream, None, 1000)
        train, _ = large_corpora.rows(corpus, kind, None)
    except WorkbenchError as error:
        return {"megabytes": size, "peak_mb": _peak_mb(), "refused": str(error)}
    seconds = time.perf_counter() - started
    batches = corpora.make_batches(train, BATCH_SIZE, 0)
    started = time.perf_counter()
    read = [batches[i].tokens for i in islice(corpora.endless_order(len(batches), SEED), BATCHES)]
    return {
        "megabytes": size,
        "peak_mb": _peak_mb(),
        "imports_mb": imports,
        "megabytes_per_second": size / seconds,
        "rows": len(train),
        "tokens": batches.total_tokens,
        "batch_ms": 1e3 * (time.perf_counter() - started) / len(read),
    }


def _kind(name: str):
    from transformers import PreTrainedTokenizerFast

    from workbench import models
    from workbench.on_disk.record_kinds import Proteins, Sentences

    if name == "letters":
        return Proteins(models.residue_tokenizer(), "plain", 128)
    if name == "byte-pairs":
        return Proteins(_byte_pairs(), "protgpt2", 1024)
    file = models.BUILT_IN_TEACHERS / "biobert" / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(file), cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    return Sentences(tokenizer, 128)


def _byte_pairs():
    """A byte-pair tokenizer of proteins, as ProtGPT2's, with fewer pairs."""
    from tokenizers import Tokenizer, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    from workbench import corpora, models
    from workbench.worlds import proteins

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=[models.END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    written = (corpora.write_sequence(s, "protgpt2") for s in proteins.sample(2000, seed=SEED))
    tokenizer.train_from_iterator(written, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=models.END_OF_TEXT)


def _peak_mb() -> float:
    """The largest resident memory that this process ever had, MB (10⁶ bytes)."""
    from workbench.devices import machine

    return machine.resident_memory()[1] / 10**6


if __name__ == "__main__":
    print(json.dumps(_tokenise(Path(sys.argv[1]), sys.argv[2])))
