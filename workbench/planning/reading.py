"""How much a run would read: rows, tokens, and what a step holds of them, from a look at the data.

Worlds draw at most `DRAWN` sequences, and of a large file the beginning is read, by the same code
as in a run; the rest is taken to be like it. Where data or tokenizer are not here, rows are
taken as full, which no run exceeds.
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
from workbench.config import RunConfig
from workbench.hidden_words.masking import Masking
from workbench.planning.arithmetic import Load
from workbench.planning.places import Place

#: Sequences of a world, and bytes and records of a file, that are looked at.
DRAWN = 4000
LOOKED_AT, RECORDS = 4 * 2**20, 4000


@dataclass(frozen=True)
class Reading:
    """What a run reads.

    Attributes:
        step: a step, on average.
        largest: the largest step, which decides on memory.
        rows: of tokens, to learn from; None if not known.
        tokens: in them; None if not known.
        held_out: the held-out rows as one load; None if not known.
        basis: where all this was taken from, in words.
    """

    step: Load
    largest: Load
    rows: int | None
    tokens: int | None
    held_out: Load | None
    basis: str

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
        full = _full(config, positions, scores)
        basis = f"{lacking}: rows are taken as full, {positions} tokens; at most so many"
        return Reading(full, full, None, None, None, basis)
    task = tasks.of_run(config)
    with _beginning(config, place) as (small, share):
        corpus = task.load_corpus(small)
        train, held_out = task.rows(corpus, tokenizer, teacher, positions)
    batches = corpora.make_batches(train, config.batch_size, task.pad(tokenizer))
    judged = corpora.make_batches(held_out, config.batch_size, task.pad(tokenizer))
    loads = [_load(batch, scores) for batch in batches]
    held = [_load(batch, scores) for batch in judged]
    # Of a world as many are held out as the configuration says, of a file the same share.
    rest = 1.0 if place.where == "world" else share
    basis = "all of the data" if share == 1 else f"the first {1 / share:.1%} of the data"
    return Reading(
        step=_mean(loads),
        largest=max(loads, key=lambda load: load.read),
        rows=round(share * len(train)),
        tokens=round(share * sum(batch.tokens for batch in batches)),
        held_out=_sum(held, rest),
        basis=basis,
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
    if place.bytes <= LOOKED_AT:
        yield config, 1.0
        return
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / place.path.name
        share = (_first_records if small.suffix.lower() == ".parquet" else _first_lines)(
            place.path, small
        )
        yield replace(config, data=str(small)), share


def _first_lines(path: Path, small: Path) -> float:
    """Write the beginning of a text to a file of its own, up to the end of a record."""
    with path.open("rb") as file:
        beginning = file.read(LOOKED_AT)
    # A record of FASTA goes on until the next header.
    marks = (b"\n>", b"\n") if beginning.lstrip(b"\xef\xbb\xbf").startswith(b">") else (b"\n",)
    ends = [place for mark in marks if (place := beginning.rfind(mark)) > 0]
    beginning = beginning[: ends[0] + 1] if ends else beginning
    if path.suffix.lower() in (".csv", ".tsv"):
        # A text may go over several lines, between quotes.
        while beginning.count(b'"') % 2 and (end := beginning.rfind(b"\n", 0, -1)) > 0:
            beginning = beginning[: end + 1]
    small.write_bytes(beginning)
    return os.path.getsize(path) / len(beginning)


def _first_records(path: Path, small: Path) -> float:
    """Write the first records of a Parquet file to one of their own."""
    from pyarrow import Table, parquet

    file = parquet.ParquetFile(path)
    batch = next(file.iter_batches(RECORDS))
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


def _full(config: RunConfig, positions: int, scores: str) -> Load:
    tokens = config.batch_size * positions
    return Load(config.batch_size, positions, tokens, _scored(config.batch_size, tokens, scores))


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
