"""Tagged sentences as models read them: rows of word pieces, each word's label at its first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.named_entities.tag_files import OUTSIDE, TaggedWords

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Label of a piece that is not scored, as torch's cross-entropy has it.
IGNORED = -100


@dataclass(frozen=True)
class Row:
    """A sentence, or a part of a long one, as a model reads it.

    Attributes:
        input_ids: ``[length]``, word pieces between ``[CLS]`` and ``[SEP]``.
        first_pieces: ``[words]``, where in the row each word begins.
        sentence: which sentence this is of.
        first_word: which word of that sentence is the first in this row.
        labels: ``[length]``, the word's label at its first piece and −100 elsewhere; None where
            no labels were asked for.
    """

    input_ids: np.ndarray
    first_pieces: np.ndarray
    sentence: int
    first_word: int
    labels: np.ndarray | None = None


def labels_of(tagged: Sequence[TaggedWords]) -> tuple[str, ...]:
    """The labels a model needs for these sentences: O, then B- and I- of each type, by alphabet.

    Both of each type, whether seen or not: the same types give the same head.
    """
    types = {tag[2:] for sentence in tagged for tag in sentence.tags if tag != OUTSIDE}
    return (OUTSIDE, *(f"{place}-{name}" for name in sorted(types) for place in "BI"))


def encode(
    tagged: Sequence[TaggedWords],
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str] | None,
    positions: int,
) -> list[Row]:
    """Sentences as rows of word pieces, each word's label at its first piece.

    A sentence of more than ``positions`` pieces is cut between words into several rows. A single
    word that fills more than a row loses its last pieces, never its first.

    Args:
        tagged: sentences.
        tokenizer: a fast one with ``[CLS]`` and ``[SEP]``, as BERT's.
        labels: the tags in the order of the model's classes; None to leave labels away, where
            only words are needed.
        positions: most pieces in a row, ``[CLS]`` and ``[SEP]`` among them.

    Raises:
        WorkbenchError: if the tokenizer is of another kind, a tag is not among the labels, or
            there is no room for a piece.
    """
    _check_tokenizer(tokenizer)
    if positions < 3:
        raise WorkbenchError(
            f"a row of {positions} positions has no room for a word between [CLS] and [SEP]; "
            "expected at least 3"
        )
    numbers = None if labels is None else {label: i for i, label in enumerate(labels)}
    rows = []
    for i, (sentence, pieces) in enumerate(zip(tagged, _pieces(tagged, tokenizer), strict=True)):
        pieces = [p[: positions - 2] for p in pieces]
        first = 0
        while first < len(pieces):
            last, length = first, 2
            while last < len(pieces) and length + len(pieces[last]) <= positions:
                length += len(pieces[last])
                last += 1
            tags = None if numbers is None else sentence.tags[first:last]
            rows.append(_row(pieces[first:last], tags, numbers, tokenizer, (i, first)))
            first = last
    return rows


def _pieces(
    tagged: Sequence[TaggedWords], tokenizer: PreTrainedTokenizerBase
) -> list[list[list[int]]]:
    """Ids of the pieces of each word of each sentence; every word has one at least."""
    found: list[list[list[int]]] = [[[] for _ in sentence.words] for sentence in tagged]
    full = [i for i, sentence in enumerate(tagged) if len(sentence.words)]
    if not full:
        return found
    # Quietly: it would warn of sentences beyond the model's length, and they are cut later.
    encoded = tokenizer(
        [list(tagged[i].words) for i in full],
        is_split_into_words=True,
        add_special_tokens=False,
        return_attention_mask=False,
        verbose=False,
    )
    for place, i in enumerate(full):
        ids, owners = encoded["input_ids"][place], encoded.word_ids(place)
        for token, word in zip(ids, owners, strict=True):
            found[i][word].append(token)
        # A word of characters that the tokenizer drops, such as a soft hyphen, would vanish, and
        # all after it would be scored against their neighbours' tags.
        found[i] = [pieces or [tokenizer.unk_token_id] for pieces in found[i]]
    return found


def _row(pieces, tags, numbers, tokenizer, origin: tuple[int, int]) -> Row:
    lengths = np.array([len(p) for p in pieces])
    first_pieces = 1 + np.cumsum(lengths) - lengths
    inner = [token for word in pieces for token in word]
    ids = np.array([tokenizer.cls_token_id, *inner, tokenizer.sep_token_id], dtype=np.int64)
    labels = None
    if tags is not None:
        # Only the first piece of a word has a label, so that each word counts once, in the loss
        # as in the score: with one on every piece a rare long name would weigh as five short
        # words, and the pieces of a word could disagree about its tag.
        labels = np.full(len(ids), IGNORED, dtype=np.int64)
        for place, tag in zip(first_pieces, tags, strict=True):
            if tag not in numbers:
                raise WorkbenchError(
                    f"sentence {origin[0] + 1} has the tag {tag!r}; expected one of the labels "
                    f"{', '.join(numbers)}"
                )
            labels[place] = numbers[tag]
    return Row(ids, first_pieces, *origin, labels)


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise WorkbenchError unless it is a fast tokenizer of BERT's kind."""
    lacking = [
        name
        for name in ("cls_token", "sep_token", "pad_token", "unk_token")
        if getattr(tokenizer, f"{name}_id") is None
    ]
    if lacking or not tokenizer.is_fast:
        raise WorkbenchError(
            f"the tokenizer has no {' and no '.join(lacking) or 'map from pieces to words'}; "
            "expected a fast one of BERT's kind, with [CLS], [SEP], [PAD] and [UNK]"
        )


def padded(rows: Sequence[Row], pad: int, device: torch.device) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, both ``[rows, length]``, padded on the right."""
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.input_ids)] = torch.from_numpy(row.input_ids)
        mask[i, : len(row.input_ids)] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def positions_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most pieces in a row that both take."""
    # A tokenizer that knows no limit says so with a huge number.
    return min(model.config.max_position_embeddings, tokenizer.model_max_length)
