"""How much a run would read: rows, tokens, and what a step holds of them, from a look at the data.

Worlds draw at most `DRAWN` sequences, and of a large file the beginning is read, by the same code
as in a run; the rest is taken to be like it. The beginning is unpacked and copied to a scratch
file, which is small, so that nothing is tokenised into the cache. Where data or tokenizer are not
here, rows are taken as full, which no run exceeds.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from workbench import corpora, tasks
from workbench.classifying import pairs
from workbench.config import RunConfig
from workbench.errors import WorkbenchError, first_line
from workbench.hidden_words.masking import Masking
from workbench.on_disk import token_files
from workbench.on_disk.large_corpora import SMALL
from workbench.on_disk.stored_rows import HELD_OUT_TOKENS
from workbench.planning.arithmetic import Load
from workbench.planning.places import Place
from workbench.records import streams
from workbench.records.file_identity import is_gzip, opened

#: Sequences of a world, and bytes and records of a file, that are looked at.
DRAWN = 4000
LOOKED_AT, RECORDS = 4 * 2**20, 4000


@dataclass(frozen=True)
class Reading:
    """What a run reads.

    Attributes:
        step: a step, on average.
        largest: the largest step, which decides on memory.
        rows: to learn from; None if not known.
        tokens: in them; None if not known.
        held_out: the held-out rows as one load; None if not known.
        basis: where all this was taken from, in words.
        token_files: bytes of the files into which a source that is not held in memory is
            tokenised before the first step; 0 if it is held, None if not known.
    """

    step: Load
    largest: Load
    rows: int | None
    tokens: int | None
    held_out: Load | None
    basis: str
    token_files: float | None

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def look(config: RunConfig, place: Place, teacher, tokenizer, positions: int) -> Reading:
    """What a run would read.

    Args:
        config: of the run.
        place: of its data.
        teacher: sketched.
        tokenizer: its tokenizer; None if it is not here.
        positions: longest row.

    Raises:
        WorkbenchError: if the data are not what the task needs.
    """
    scores = _scores(config)
    if tokenizer is None or place.where in ("hub", "hub cache"):
        lacking = "the tokenizer is not here" if tokenizer is None else "the data are not read"
        return _unread(config, place, positions, scores, lacking)
    task = tasks.of_run(config)
    with _beginning(config, place) as (small, share):
        corpus = task.load_corpus(small, tokenizer)
        train, held_out = task.rows(corpus, tokenizer, teacher, positions)
        letters = 0 if place.where == "world" else share * os.path.getsize(small.data)
    looked_at = share
    if config.train_sequences is not None and place.where != "world":
        # So many records are taken, from the first; some or all of them are in the beginning.
        taken = len(corpus.train) + len(corpus.validation)
        share = min(share, max(1.0, config.train_sequences / taken))
    batches = corpora.make_batches(train, config.batch_size, task.pad(tokenizer))
    judged = corpora.make_batches(held_out, config.batch_size, task.pad(tokenizer))
    loads = [_load(batch, scores) for batch in batches]
    held = [_load(batch, scores) for batch in judged]
    rest = share
    # A table of classes is always held in memory.
    streamed = place.where != "world" and scores != "example" and streams.is_large(config.data)
    if place.where == "world":
        # As many are held out as the configuration says.
        rest = 1.0
    elif streamed:
        # Of a source that is not held in memory at most so many held-out records are judged by,
        # and so many tokens; see `stored_rows.open_rows`.
        records = len(corpus.validation) or len(held_out)
        rest = min(
            share,
            config.validation_sequences / records,
            HELD_OUT_TOKENS / sum(batch.tokens for batch in judged),
        )
    everything = share * (len(corpus.train) + len(corpus.validation))
    if streamed and (place.bytes >= streams.LARGE or letters + 64 * everything > SMALL):
        held_tokens = sum(batch.tokens for many in (batches, judged) for batch in many)
        stored = token_files.file_bytes(
            len(tokenizer), everything, share * (len(train) + len(held_out)), share * held_tokens
        )
    else:
        stored = 0.0
    basis = "all of the data" if looked_at == 1 else f"the first {1 / looked_at:.1%} of the data"
    return Reading(
        step=_mean(loads),
        largest=max(loads, key=lambda load: load.read),
        rows=round(share * len(train)),
        tokens=round(share * sum(batch.tokens for batch in batches)),
        held_out=_sum(held, rest),
        basis=basis,
        token_files=stored,
    )


@contextmanager
def _beginning(config: RunConfig, place: Place) -> Iterator[tuple[RunConfig, float]]:
    """The same configuration with less data, and by how much the whole exceeds it."""
    wanted = config.train_sequences
    if place.where == "world":
        if wanted is None or wanted <= DRAWN:
            yield config, 1.0
        else:
            yield replace(config, train_sequences=DRAWN), wanted / DRAWN
        return
    if place.bytes <= LOOKED_AT and not is_gzip(place.path):
        yield config, 1.0
        return
    with tempfile.TemporaryDirectory() as scratch:
        name = place.path.stem if is_gzip(place.path) else place.path.name
        small = Path(scratch) / name
        share = (_first_records if small.suffix.lower() == ".parquet" else _first_lines)(
            place.path, small
        )
        try:
            yield replace(config, data=str(small)), share
        except WorkbenchError as error:
            # The scratch file is nobody's concern.
            raise type(error)(str(error).replace(str(small), str(config.data))) from error


def _first_lines(path: Path, small: Path) -> float:
    """Write the beginning of a text, unpacked, to a file of its own, up to the end of a record.

    Returns:
        How many times as much the whole holds; of a packed file if it is packed as well throughout.
    """
    with opened(path) as (file, raw):
        beginning = file.read(LOOKED_AT)
        whole = len(beginning) < LOOKED_AT or not file.peek(1)
        read = raw.tell()
    if whole:
        small.write_bytes(beginning)
        return 1.0
    # A record of FASTA goes on until the next header.
    marks = (b"\n>", b"\n") if beginning.lstrip(b"\xef\xbb\xbf").startswith(b">") else (b"\n",)
    ends = [place for mark in marks if (place := beginning.rfind(mark)) > 0]
    kept = beginning[: ends[0] + 1] if ends else beginning
    if small.suffix.lower() in (".csv", ".tsv"):
        # A text may go over several lines, between quotes.
        while kept.count(b'"') % 2 and (end := kept.rfind(b"\n", 0, -1)) > 0:
            kept = kept[: end + 1]
    small.write_bytes(kept)
    return os.path.getsize(path) / read * len(beginning) / len(kept)


def _first_records(path: Path, small: Path) -> float:
    """Write the first records of a Parquet file to one of their own."""
    from pyarrow import ArrowException, Table, parquet

    try:
        file = parquet.ParquetFile(path)
        batch = next(file.iter_batches(RECORDS))
    except (ArrowException, OSError) as error:
        raise WorkbenchError(f"cannot read {path}: {first_line(error)}") from error
    parquet.write_table(Table.from_batches([batch]), small)
    return file.metadata.num_rows / batch.num_rows


def _scores(config: RunConfig) -> str:
    from workbench import recipes

    return recipes.get(config.recipe).variant(config.variant).objective.scores


def _scored(sequences: float, tokens: float, scores: str) -> float:
    """Positions that count: all but the first of a row, one an example, or the hidden ones."""
    if scores == "example":
        return sequences
    if scores == "masked":
        # [CLS] and [SEP] are never hidden.
        return Masking().share * max(0.0, tokens - 2 * sequences)
    return tokens - sequences


def _unread(config: RunConfig, place: Place, positions: int, scores: str, lacking: str) -> Reading:
    """An upper bound, where data or tokenizer are not here."""
    if scores == "example" and config.label is None:
        # However much a classifier takes: [CLS], the groove's residues, a peptide, [SEP].
        positions = min(positions, pairs.PSEUDO_LENGTH + pairs.LONGEST + 2)

    def full(rows: int) -> Load:
        tokens = rows * positions
        return Load(rows, positions, tokens, _scored(rows, tokens, scores))

    step = full(config.batch_size)
    basis = f"{lacking}, so every row is taken as full, {positions} tokens: an upper bound"
    if scores == "example" and place.where == "world" and config.train_sequences:
        # A row a pair, and as many pairs as are drawn.
        rows = config.train_sequences
        judged = full(config.validation_sequences)
        return Reading(step, step, rows, rows * positions, judged, basis, 0.0)
    held = place.where == "world" or scores == "example" or not streams.is_large(config.data)
    return Reading(step, step, None, None, None, basis, 0.0 if held else None)


def _load(batch: corpora.Batch, scores: str) -> Load:
    sequences, length = batch.input_ids.shape
    return Load(sequences, length, batch.tokens, _scored(sequences, batch.tokens, scores))


def _mean(loads: list[Load]) -> Load:
    whole = _sum(loads, 1 / len(loads))
    return replace(whole, length=whole.length)


def _sum(loads: list[Load], factor: float) -> Load:
    sequences = sum(load.sequences for load in loads)
    read = sum(load.read for load in loads)
    return Load(
        sequences=factor * sequences,
        length=read / sequences,
        tokens=factor * sum(load.tokens for load in loads),
        scored=factor * sum(load.scored for load in loads),
    )
