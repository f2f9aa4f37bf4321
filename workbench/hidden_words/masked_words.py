"""Hidden words: what the oracle knows of them, and what models say.

In the biomedical world a word of the grammar is one piece of the built-in tokenizer, so that a
model's distribution over pieces and the oracle's over words can be compared number by number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.corpora import Batch
from workbench.errors import UsageError
from workbench.metrics import Quality, Tally
from workbench.worlds import biomedical
from workbench.worlds.biomedical import MASK, BiomedicalWorld, Sentence

#: Stands for a probability of zero: float32 knows no smaller one that can be softened.
IMPOSSIBLE = 1e-12


def word_ids(tokenizer, world: BiomedicalWorld) -> np.ndarray | None:
    """Id of the piece of each of a world's words, ``[words]``; None if one has no piece."""
    ids = np.array(tokenizer.convert_tokens_to_ids(list(world.words)), dtype=object)
    if any(i is None or i == tokenizer.unk_token_id for i in ids):
        return None
    return ids.astype(np.int64)


def oracle_targets(
    batch: Batch,
    sentences: Sequence[Sentence],
    ids: np.ndarray,
    vocabulary: int,
    mask_id: int,
    world: BiomedicalWorld | None = None,
) -> Tensor:
    """The exact distribution of each token to be told, given what the batch shows of the sentence.

    A token that was replaced by another tells of the one that stood there only that it was another.
    A token that was left in its place is known: all of its probability is on itself. (A model
    cannot tell the two apart; on average over both these targets give it the right answer.)

    Args:
        batch: masked, a sentence a row.
        sentences: of the batch's rows.
        ids: of `word_ids`.
        vocabulary: columns of the result.
        mask_id: of ``[MASK]``.
        world: the sentences'; by default the built-in one.

    Returns:
        ``[rows, vocabulary]``, float32, rows sum to one.
    """
    world = world or biomedical.default_world()
    shown = batch.input_ids[batch.masked].numpy()
    labels = batch.labels.numpy()
    found = np.zeros((len(labels), vocabulary), dtype=np.float32)
    row, column = (part.numpy() for part in batch.masked.nonzero(as_tuple=True))
    known = (shown == labels) & (shown != mask_id)
    found[known, labels[known]] = 1
    for number, sentence in enumerate(sentences):
        rows = np.flatnonzero((row == number) & ~known)
        if len(rows):
            # The first token of a row is [CLS].
            answer = world.oracle_masked(sentence.words, (column[rows] - 1).tolist())
            found[rows[:, None], ids[None, :]] = answer.probabilities
    swapped = np.flatnonzero((shown != labels) & (shown != mask_id))
    found[swapped, shown[swapped]] = 0
    found[swapped] /= found[swapped].sum(1, keepdims=True)
    return torch.from_numpy(found)


def oracle_quality(
    sentences: Sequence[Sentence], batches: Sequence[Batch], tokenizer
) -> Quality | None:
    """Quality of the exact truth on masked batches of the built-in world.

    Args:
        sentences: all held-out sentences; the batches' members are places among them.
        batches: masked.
        tokenizer: that made them.

    Returns:
        None if the tokenizer cuts words of the world into pieces: words and pieces cannot be
        compared.
    """
    world = biomedical.default_world()
    ids = word_ids(tokenizer, world)
    if ids is None:
        return None
    tally = Tally(len(sentences))
    for batch in batches:
        truth = oracle_targets(
            batch, [sentences[i] for i in batch.members], ids, len(tokenizer),
            tokenizer.mask_token_id,
        )  # fmt: skip
        members = batch.members[batch.masked.nonzero()[:, 0].numpy()]
        log_truth = truth.double().clamp_min(IMPOSSIBLE).log()
        tally.add(log_truth, batch.labels, members=members)
    return tally.quality(None)


@torch.no_grad()
def answer(model, tokenizer, sentence: str | Sequence[str]) -> list[dict[str, float]]:
    """What a model says of each hidden word of a sentence, likeliest first.

    Args:
        model: a masked language model in eval mode.
        tokenizer: its tokenizer.
        sentence: with ``[MASK]`` where a word is hidden.

    Returns:
        A dictionary from piece to probability for each hidden word.

    Raises:
        UsageError: if no word is hidden, or the sentence is longer than the model reads.
    """
    text = sentence if isinstance(sentence, str) else " ".join(sentence)
    if MASK not in text:
        raise UsageError(f"no word is hidden in {text!r}; write {MASK} where one is")
    inputs = tokenizer(text.replace(MASK, tokenizer.mask_token), return_tensors="pt", verbose=False)
    tokens = inputs["input_ids"].shape[1]
    if tokens > model.config.max_position_embeddings:
        raise UsageError(
            f"the sentence makes {tokens} tokens with its first and last; the model reads at most "
            f"{model.config.max_position_embeddings}"
        )
    device = next(model.parameters()).device
    logits = model(**{name: value.to(device) for name, value in inputs.items()}).logits[0]
    # A model's table may have rows beyond the tokenizer's pieces.
    logits = logits.cpu()[inputs["input_ids"][0] == tokenizer.mask_token_id, : len(tokenizer)]
    found = []
    for row in torch.softmax(logits.double(), -1):
        order = torch.argsort(row, descending=True)
        pieces = tokenizer.convert_ids_to_tokens(order.tolist())
        found.append(dict(zip(pieces, row[order].tolist(), strict=True)))
    return found
