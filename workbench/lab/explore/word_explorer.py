"""The T/α explorer on hidden words: a position is a sentence, its symbols are all word pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workbench.errors import UsageError
from workbench.lab.explore.explorer import Explorer
from workbench.lab.explore.presets import format_state, parse_state
from workbench.worlds import biomedical
from workbench.worlds.biomedical import MASK


def explore_words(
    teacher,
    student,
    tokenizer,
    sentences: Sequence[tuple[str, str]],
    state: str = "T=2;alpha=0.3",
    *,
    name: str | None = None,
) -> Explorer:
    """An explorer of what two masked language models say about hidden words of the built-in world.

    The explorer is given the models' whole vocabulary, so that probabilities, divergences and
    gradients are those of training, exactly and at every T. It has bars for the likeliest words
    of a sentence and one for all others together, which grows with T: a high temperature hands
    most of the answer to thousands of words that were never in question.

    Args:
        teacher: a masked language model in eval mode.
        student: likewise, of the same vocabulary.
        tokenizer: of both.
        sentences: one a position: a text of the world with ``[MASK]`` once, and the word that
            is hidden, such as ``("[MASK] inhibits EGFR.", "Gefitinib")``.
        state: what to show, see `presets.parse_state`; the first sentence, if it names none.
        name: see `Explorer`.

    Raises:
        UsageError: if the state is wrong; if the world makes no such sentence, or not with this
            word; or if the tokenizer cuts the world's words into pieces.
    """
    wanted = parse_state(state)
    if isinstance(sentences, str) or not len(sentences):
        raise UsageError(
            "there are no sentences; expected pairs such as ('[MASK] inhibits EGFR.', 'Gefitinib')"
        )
    rows = [_Row.read(pair, tokenizer) for pair in sentences]
    longest = min(m.config.max_position_embeddings for m in (teacher, student))
    for row in rows:
        if len(row.ids) > longest:
            raise UsageError(
                f"{row.text!r} has {len(row.ids)} word pieces; these models read {longest}"
            )
    answers = [np.stack([_logits(model, row) for row in rows]) for model in (teacher, student)]
    vocabulary = answers[0].shape[1]
    # A model's table may be longer than its tokenizer's list of pieces.
    symbols = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    symbols += [f"unused {i}" for i in range(len(symbols), vocabulary)]
    truth = np.zeros((len(rows), vocabulary))
    for number, row in enumerate(rows):
        truth[number, list(row.truth)] = list(row.truth.values())
    return Explorer.from_logits(
        symbols[:vocabulary],
        *answers,
        [row.label for row in rows],
        oracle=truth,
        contexts=[row.text for row in rows],
        tokens=1,
        state=format_state(replace(wanted, position=wanted.position or 1)),
        name=name,
    )


class _Row:
    """One sentence as the models read it, and the truth about its hidden word by piece."""

    def __init__(self, text: str, ids: list[int], place: int, label: int, truth: dict[int, float]):
        self.text, self.ids, self.place, self.label, self.truth = text, ids, place, label, truth

    @classmethod
    def read(cls, pair: Any, tokenizer) -> _Row:
        if not (isinstance(pair, (tuple, list)) and [*map(type, pair)] == [str, str]):
            raise UsageError(
                f"a sentence is given as {pair!r}; expected a pair of a text with {MASK} and the "
                "word that is hidden"
            )
        text, word = pair
        if text.count(MASK) != 1:
            raise UsageError(f"{text!r} hides {text.count(MASK)} words; write {MASK} exactly once")
        ids = tokenizer(text.replace(MASK, tokenizer.mask_token))["input_ids"]
        place = ids.index(tokenizer.mask_token_id)
        pieces = tokenizer.convert_ids_to_tokens(ids)
        # Between [CLS] and [SEP]; a word of the world is one piece.
        pieces[place] = MASK
        answer = biomedical.oracle(pieces[1:-1], place - 1)
        if word not in answer:
            likely = ", ".join(list(answer)[:3])
            raise UsageError(
                f"{word!r} is never the hidden word of {text!r} in this world; it may be {likely}"
            )
        truth = {tokenizer.convert_tokens_to_ids(w): p for w, p in answer.items()}
        if tokenizer.unk_token_id in truth or None in truth:
            raise UsageError(
                f"the tokenizer cuts words such as {word!r} into pieces, and the truth is known of "
                "whole words only; take models with the built-in tokenizer"
            )
        return cls(text, ids, place, tokenizer.convert_tokens_to_ids(word), truth)


@torch.no_grad()
def _logits(model, row: _Row) -> np.ndarray:
    """Logits of the hidden word, ``[vocabulary]``, float64.

    Centred, so that teacher's and student's can be compared: a softmax does not know what is
    added to all logits alike.
    """
    ids = torch.tensor([row.ids], device=next(model.parameters()).device)
    logits = model(input_ids=ids).logits[0, row.place].cpu().double().numpy()
    return logits - logits.mean()
