"""A step's batch in parts: rows of it for each process, and a few at a time on its device.

What is divided by, how many rows, tokens or pairs there are, is counted in the whole batch. So
values and gradients of the parts add up to those of the whole, however it is cut.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from workbench.corpora import Batch


def rows(batch: Batch, first: int, last: int) -> Batch:
    """Rows ``first`` to ``last`` − 1 of a batch, without padding that only the others need.

    The teacher's kept answers are found by `Batch.first_token`, which moves along.
    """
    if (first, last) == (0, len(batch.lengths)):
        return batch
    lengths = batch.lengths[first:last]
    longest = int(lengths.max())
    tokens = int(lengths.sum())
    labels, masked = batch.labels, batch.masked
    if masked is not None:
        # Labels of hidden tokens stand row after row.
        before, inside = int(masked[:first].sum()), int(masked[first:last].sum())
        labels = labels[before : before + inside]
        masked = masked[first:last, :longest]
    elif labels is not None:
        labels = labels[first:last]
    return replace(
        batch,
        input_ids=batch.input_ids[first:last, :longest],
        lengths=lengths,
        first_token=batch.first_token + int(batch.lengths[:first].sum()),
        tokens=tokens,
        labels=labels,
        members=None if batch.members is None else batch.members[first:last],
        masked=masked,
        part=batch.part + first,
    )


def of_process(
    batch: Batch, process: int, processes: int, most: int | None
) -> list[tuple[Batch, bool]]:
    """What one process reads of a batch, a few rows at a time.

    Every process gets as many parts as every other, for models that are cut into shards are
    read in step. Where there are fewer rows than parts, a part is a row that does not count.

    Args:
        batch: of the whole step.
        process: from 0.
        processes: how many there are.
        most: rows at a time; None for all of a process's at once.

    Returns:
        Parts, and whether they count.
    """
    size = len(batch.lengths)
    mine = -(-size // processes)
    rounds = 1 if most is None else -(-mine // most)
    begin, end = size * process // processes, size * (process + 1) // processes
    edges = [begin + (end - begin) * i // rounds for i in range(rounds + 1)]
    return [
        (rows(batch, first, last), True) if last > first else (rows(batch, 0, 1), False)
        for first, last in pairwise(edges)
    ]
