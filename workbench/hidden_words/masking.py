"""Which tokens a masked language model must tell, and what stands in their place.

After BERT (Devlin et al. 2019, arXiv 1810.04805, section 3.1 and appendix A.1): 15 % of the tokens
are to be told; of these 80 % become ``[MASK]``, 10 % another token at random, and 10 % stay, so
that the model must have an opinion about every token it reads. BERT drew its masks once, when its
data were written; here they are drawn anew each time a batch comes (RoBERTa, Liu et al. 2019,
arXiv 1907.11692, section 4.1), and still the same run draws the same masks again: they are a
function of the seed, of the number of the draw and of the batch, and of nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.corpora import Batch
from workbench.errors import UsageError, WorkbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: How a WordPiece vocabulary writes a piece that continues a word.
CONTINUATION = "##"
#: How other vocabularies mark a piece that begins a word: byte pairs as GPT-2's, SentencePiece.
BEGINNINGS = ("Ġ", "▁")
#: The draw whose positions `Masker.hide` hides.
HELD_OUT_DRAW = 0
#: Keeps these draws apart from all others of the same seed.
_STREAM = 0x6D61736B  # "mask"


@dataclass(frozen=True)
class Masking:
    """How many tokens are to be told, and what stands in their place.

    Attributes:
        share: of the tokens that may be masked, above 0, at most 1.
        hidden: of those to be told, how many become ``[MASK]``.
        swapped: of those to be told, how many become a token drawn uniformly from all that are
            not special; the rest stays as it is. As in BERT, the token drawn may happen to be
            the one that stood there.
        whole_words: mask all pieces of a word or none.

    Raises:
        UsageError: if a share is out of its range, or ``hidden`` and ``swapped`` exceed 1.
    """

    share: float = 0.15
    hidden: float = 0.8
    swapped: float = 0.1
    whole_words: bool = False

    def __post_init__(self) -> None:
        for name in ("share", "hidden", "swapped"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (is_number and math.isfinite(value) and 0 <= value <= 1):
                raise UsageError(f"masking: {name} is {value!r}; expected a number from 0 to 1")
        if self.share == 0:
            raise UsageError("masking: share is 0, so that nothing is to be told; try 0.15")
        # Shares as people write them, 0.7 and 0.3, need not add up to 1 in binary.
        if self.hidden + self.swapped > 1 + 1e-9:
            raise UsageError(
                f"masking: hidden {self.hidden} and swapped {self.swapped} are "
                f"{self.hidden + self.swapped:.4g} together; expected at most 1"
            )


class Masker:
    """Masks batches of one tokenizer's tokens.

    Words, for ``whole_words``: a piece and the pieces right after it that begin with ``##``. A
    special token ends a word, so pieces that follow one, as where a text was cut within a word,
    are a word of their own.

    In whole words this differs from the release of May 2019 (google-research/bert,
    ``create_pretraining_data.py``) in one point and agrees in another. There a word that would
    exceed the number of tokens wanted is passed over, which masks long words less often than
    short ones; here it is taken, and the number may be exceeded by a part of one word. There as
    here the 80/10/10 is decided for each piece by itself, not once a word: "the training is
    identical", its README says, "we still predict each masked WordPiece token independently".

    Args:
        tokenizer: the model's; its special tokens, ``[UNK]`` among them, are never masked.
        vocabulary: rows of the model's embedding, at least the tokenizer's tokens.
        masking: how many, and what stands in their place.

    Raises:
        WorkbenchError: if the tokenizer has no mask token, nothing but special tokens, or ids that
            the model does not know.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: int,
        masking: Masking = Masking(),
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise WorkbenchError(
                "the tokenizer has no mask token, which a masked language model needs; give the "
                "tokenizer that the model was trained with, such as a BERT's with [MASK]"
            )
        pieces = tokenizer.get_vocab()
        ids = np.array(sorted(pieces.values()))
        if ids[-1] >= vocabulary:
            raise WorkbenchError(
                f"the tokenizer's ids go up to {ids[-1]} and the model knows {vocabulary} tokens; "
                "give the tokenizer that the model was trained with"
            )
        self.masking = masking
        self._mask_id = tokenizer.mask_token_id
        # Rows of the embedding that the tokenizer does not use cannot stand in a text.
        self._special = np.ones(vocabulary, dtype=bool)
        self._special[ids] = False
        self._special[tokenizer.all_special_ids] = True
        self._ordinary = np.flatnonzero(~self._special)
        if not len(self._ordinary):
            raise WorkbenchError("the tokenizer has special tokens only; expected words or pieces")
        self._continues = np.zeros(vocabulary, dtype=bool)
        self._continues[[pieces[piece] for piece in _continuing(pieces)]] = True
        self._continues &= ~self._special

    def mask(self, batch: Batch, *, seed: int, draw: int) -> Batch:
        """The batch with some tokens to be told: always the same for the same arguments.

        In each sequence max(1, round(share · n)) of its n tokens that are neither special nor
        padding, without replacement; with ``whole_words``, words in random order until there
        are that many or more. Halves are rounded to the even neighbour, as in BERT's script,
        which takes its share of all tokens, special ones included.

        A sequence without any such token gets none; so the batch may hold no masked token at all,
        and ``labels`` then has no entries.

        Args:
            batch: as `corpora.make_batches` gives it, on the CPU. Padding changes nothing.
            seed: of the run, not negative.
            draw: which time this is, such as the step of the run; not negative.

        Returns:
            A new batch: ``input_ids`` with the changes; ``masked`` ``[batch, length]``; ``labels``
            ``[masked positions]``, the tokens that stood there, row after row. All else as it was.

        Raises:
            ValueError: if the batch is masked already.
        """
        random, ids, chosen = self._choose(batch, seed, draw)
        luck = random.random(len(chosen))
        tokens = self._ordinary[random.integers(len(self._ordinary), size=len(chosen))]
        stays = luck >= self.masking.hidden + self.masking.swapped
        tokens[stays] = ids[chosen[stays]]
        tokens[luck < self.masking.hidden] = self._mask_id
        return self._replace(batch, ids, chosen, tokens)

    def hide(self, batch: Batch, *, seed: int) -> Batch:
        """The batch with all tokens that are to be told hidden behind ``[MASK]``, to evaluate on.

        The positions are those of `mask` with this seed and the draw `HELD_OUT_DRAW`.

        Args:
            batch: as of `mask`.
            seed: not negative.

        Returns:
            As `mask`.

        Raises:
            ValueError: if the batch is masked already.
        """
        _, ids, chosen = self._choose(batch, seed, HELD_OUT_DRAW)
        return self._replace(batch, ids, chosen, np.full(len(chosen), self._mask_id))

    def _choose(
        self, batch: Batch, seed: int, draw: int
    ) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
        """Generator, real tokens of all rows one after the other, and which of these are chosen.

        Everything is drawn for real tokens only, so that padding cannot shift a draw.
        """
        if batch.masked is not None:
            raise ValueError("the batch is masked already; mask the batch that it was made from")
        random = np.random.default_rng([seed, draw, batch.index, _STREAM])
        ids = batch.input_ids.numpy()[batch.real().numpy()]
        row = np.repeat(np.arange(len(batch.lengths)), batch.lengths.numpy())
        maskable = ~self._special[ids]
        starts = np.ones(len(ids), dtype=bool)
        if self.masking.whole_words:
            follows = maskable[:-1] & (row[:-1] == row[1:])
            starts[1:] = ~(self._continues[ids[1:]] & follows)
        starts, place = starts[maskable], np.flatnonzero(maskable)

        # Words in random order within their row; without whole words each token is its own.
        word = np.cumsum(starts) - 1
        word_row = row[place][starts]
        length = np.bincount(word)
        order = np.lexsort((random.random(len(word_row)), word_row))
        # A word is taken if the words before it in its row do not make up the number wanted. The
        # order keeps rows in place, so `word_row` is the row of the words in that order too.
        available = np.bincount(row[place], minlength=len(batch.lengths))
        wanted = np.maximum(1, np.rint(self.masking.share * available))
        before = np.cumsum(length[order]) - length[order]
        before -= (np.cumsum(available) - available)[word_row]
        taken = np.zeros(len(word_row), dtype=bool)
        taken[order] = before < wanted[word_row]
        return random, ids, place[taken[word]]

    def _replace(
        self, batch: Batch, ids: np.ndarray, chosen: np.ndarray, tokens: np.ndarray
    ) -> Batch:
        real = batch.real().numpy()
        changed = ids.copy()
        changed[chosen] = tokens
        input_ids = batch.input_ids.numpy().copy()
        input_ids[real] = changed
        is_chosen = np.zeros(len(ids), dtype=bool)
        is_chosen[chosen] = True
        masked = np.zeros(real.shape, dtype=bool)
        masked[real] = is_chosen
        return replace(
            batch,
            input_ids=torch.from_numpy(input_ids),
            labels=torch.from_numpy(ids[chosen]),
            masked=torch.from_numpy(masked),
        )


def _continuing(pieces: Iterable[str]) -> list[str]:
    """Those that go on with a word that another piece began.

    A vocabulary marks them (``##``, as BERT's), or it marks those that begin a word. One that
    does neither has a token for every word, or for every residue.
    """
    marked = [piece for piece in pieces if piece.startswith(CONTINUATION)]
    if marked or not any(piece.startswith(BEGINNINGS) for piece in pieces):
        return marked
    return [piece for piece in pieces if not piece.startswith(BEGINNINGS)]
