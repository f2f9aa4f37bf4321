"""Examples at which one can watch a model's answer while it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Probe:
    """One question, and what is known of its answer.

    Attributes:
        title: a short name for a menu.
        text: the question in words, such as a sentence with ``[MASK]``.
        words: names of the vocabulary, or of the classes.
        rest: what those that are not shown are called together.
        label: index of the answer in the data; None where there is none.
        oracle: ``[vocabulary]`` probabilities, where the truth is known.
        ask: a model's logits for this question, ``[vocabulary]``; called in eval mode.
    """

    title: str
    text: str
    words: tuple[str, ...]
    rest: str
    label: int | None
    oracle: np.ndarray | None
    ask: Callable[[Any], Tensor]

    def logits(self, model: Any) -> np.ndarray:
        """A model's answer, ``[vocabulary]`` float32, centred; leaves the model as it was.

        A softmax does not know what is added to all logits alike.
        """
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                answer = self.ask(model).cpu().double().numpy()
        finally:
            model.train(was_training)
        return (answer - answer.mean()).astype(np.float32)


def at_place(ids: Tensor, place: int, width: int) -> Callable[[Any], Tensor]:
    """Logits of a language model at one place.

    Args:
        ids: ``[length]``.
        place: where the answer is read.
        width: so many entries of the vocabulary; a table may be longer than its tokenizer's.
    """

    def ask(model: Any) -> Tensor:
        device = next(model.parameters()).device
        return model(input_ids=ids[None].to(device)).logits[0, place, :width]

    return ask
