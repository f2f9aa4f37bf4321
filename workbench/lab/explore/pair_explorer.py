"""The T/α explorer on peptide–HLA pairs: a position is a pair, its symbols are the two classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench import corpora
from workbench.classifying import binding, pairs
from workbench.classifying.classifiers import CLASSES
from workbench.lab.explore.explorer import Explorer
from workbench.worlds import peptides
from workbench.worlds.peptides import Record


def explore_pairs(
    teacher,
    student,
    tokenizer,
    records: Sequence[Record],
    state: str = "T=2;alpha=0.5",
    *,
    name: str | None = None,
) -> Explorer:
    """An explorer of what two classifiers say about pairs of the built-in world.

    Args:
        teacher: a classifier in eval mode.
        student: likewise.
        tokenizer: of both.
        records: pairs, one a position.
        state: what to show, see `presets.parse_state`.
        name: see `Explorer`.

    Raises:
        UsageError: if the state is wrong or a pair unknown to the world.
    """
    pseudo = {a.name: a.pseudo_sequence for a in peptides.default_world().alleles}
    positions = min(m.config.max_position_embeddings for m in (teacher, student))
    rows = pairs.tokenise(records, pseudo, tokenizer, positions)
    batches = corpora.make_batches(rows, binding.BATCH_SIZE, tokenizer.pad_token_id)
    truth = peptides.oracle_batch([r.peptide for r in records], [r.allele for r in records])
    return Explorer.from_logits(
        list(CLASSES),
        binding.class_logits(teacher, batches).numpy(),
        binding.class_logits(student, batches).numpy(),
        [r.label for r in records],
        oracle=np.stack([1 - truth, truth], axis=1),
        tokens=1,
        state=state,
        name=name,
    )
