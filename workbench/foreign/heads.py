"""What a model does after its backbone, for any architecture: hidden states in, answers out.

A model of ``transformers`` is a backbone and a head. Some heads are one matrix; others have layers
and norms of their own, scale or cap their logits, or pick a token, and each family calls the parts
by other names. `Above` needs no names: it is the model itself, its backbone exchanged for one that
hands on what it is given.

Most heads answer from one hidden state at a time. A classifier that reads its last token, or the
mean of all, needs the row whole: `Whole` does that, and `rows` asks either kind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def candidates(
    model: PreTrainedModel, *, first_token: bool
) -> Iterator[Callable[[Tensor], Tensor]]:
    """What may be the head of a model, the plainest first.

    Args:
        model: to be taken apart; which candidate is right, only a trial can tell.
        first_token: as in `Above`.
    """
    pooler = getattr(model.base_model, "pooler", None)
    if first_token:
        if pooler is not None and isinstance(getattr(model, "classifier", None), nn.Linear):
            yield lambda rows: model.classifier(pooler(rows[:, None]))
    elif hasattr(model, "cls"):
        yield model.cls
    else:
        last = model.get_output_embeddings()
        if isinstance(last, nn.Linear) and last.in_features == model.config.hidden_size:
            yield last
    if model.base_model in model.children():
        yield Above(model, first_token=first_token)


class Above:
    """A model's own head as a function of hidden states.

    Weights are the model's: what trains one trains the other, and nothing is copied.

    Args:
        model: whose head it is.
        first_token: the head reads a whole row and answers once, from its first token, as a
            classifier's does.
    """

    def __init__(self, model: PreTrainedModel, *, first_token: bool = False) -> None:
        name = next(n for n, child in model.named_children() if child is model.base_model)
        self._model = copy.copy(model)
        # A copy of the outermost module alone, which shares all that is in it; the table of its
        # parts is copied, too, so that the model keeps its backbone.
        self._model._modules = dict(model._modules)
        self._model._modules[name] = _HandOn(model.base_model)
        self._first_token = first_token

    def __call__(self, rows: Tensor) -> Tensor:
        """Logits ``[…, answers]`` of hidden states ``[…, width]``."""
        if self._first_token:
            return self._model(inputs_embeds=rows[:, None]).logits
        flat = rows.reshape(1, -1, rows.shape[-1])
        return self._model(inputs_embeds=flat).logits.reshape(*rows.shape[:-1], -1)


class Whole:
    """A classifier's own head as a function of whole rows of hidden states.

    It answers in `read`. Called like other heads, on what `rows` found, it has nothing left to do.
    Weights are the model's, as with `Above`.

    Args:
        model: whose head it is.

    Raises:
        ValueError: if its backbone is not one of its parts.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        names = [n for n, child in model.named_children() if child is model.base_model]
        if not names:
            raise ValueError(f"{type(model).__name__} has no backbone apart from its head")
        self._model, self._name = model, names[0]

    def __call__(self, rows: Tensor) -> Tensor:
        """The logits ``[rows, classes]`` as they are."""
        return rows

    def read(self, hidden: Tensor, input_ids: Tensor, real: Tensor) -> Tensor:
        """Logits ``[batch, classes]``.

        Args:
            hidden: ``[batch, length, width]``, last hidden states.
            input_ids: ``[batch, length]``, by which some heads find the last token.
            real: ``[batch, length]``, True where a token is not padding.
        """
        model = copy.copy(self._model)
        model._modules = dict(self._model._modules)
        model._modules[self._name] = _Given(self._model.base_model, hidden)
        return model(input_ids=input_ids, attention_mask=real.long()).logits


def rows(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    scored: Tensor,
    input_ids: Tensor,
    real: Tensor,
) -> Tensor:
    """What a head is called with: the scored hidden states, or the answers to whole rows.

    Args:
        head: of `models.split_head`.
        hidden: ``[batch, length, width]``, last hidden states.
        scored: ``[batch, length]``, True where a position counts; of a classifier once a row.
        input_ids: ``[batch, length]``.
        real: ``[batch, length]``, True where a token is not padding.

    Only what is needed of these goes to the device of ``hidden``.

    Returns:
        ``[scored, width]``, or of a `Whole` head ``[batch, classes]``.
    """
    if isinstance(head, Whole):
        return head.read(hidden, input_ids.to(hidden.device), real.to(hidden.device))
    return hidden[scored.to(hidden.device)]


class _Given(nn.Module):
    """In the place of a backbone: hidden states that are there already, and what it pools."""

    def __init__(self, backbone: nn.Module, hidden: Tensor) -> None:
        super().__init__()
        self.config = getattr(backbone, "config", None)
        # Kept out of reach of `Module`, which would make parts of it.
        self.__dict__["backbone"], self.__dict__["hidden"] = backbone, hidden

    def forward(self, *_: object, **__: object):
        from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

        pooler = getattr(self.backbone, "pooler", None)
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=self.hidden,
            pooler_output=None if pooler is None else pooler(self.hidden),
        )


class _HandOn(nn.Module):
    """In the place of a backbone: what it is given is what comes out."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.config = getattr(backbone, "config", None)

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object):
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)
