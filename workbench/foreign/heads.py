"""What a model does after its backbone, for any architecture: hidden states in, answers out.

A model of ``transformers`` is a backbone and a head. Some heads are one matrix; others have layers
and norms of their own, scale or cap their logits, or pick a token, and each family calls the parts
by other names. `Above` needs no names: it is the model itself, its backbone exchanged for one that
hands on what it is given.
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


class _HandOn(nn.Module):
    """In the place of a backbone: what it is given is what comes out."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.config = getattr(backbone, "config", None)

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object):
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)
