"""Which layers of two models say the same: linear CKA between their hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.corpora import Batch


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment of two sets of features of the same rows.

    ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖) of the centred features (Kornblith et al. 2019, arXiv
    1905.00414, equation 4). It is 1 if one set is the other turned, mirrored or
    scaled, and the widths need not be equal.

    Args:
        x: ``[rows, width]``.
        y: ``[rows, another width]``.

    Returns:
        From 0 to 1; NaN if a set does not vary.

    Raises:
        ValueError: if the rows differ in number or are fewer than two.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"the features are {tuple(x.shape)} and {tuple(y.shape)}; expected two matrices with "
            "the same rows, two or more"
        )
    x, y = (m.double() - m.double().mean(0) for m in (x, y))
    own = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    # Rounding may leave it a hair above 1; NaN stays NaN.
    return float((torch.linalg.matrix_norm(y.T @ x) ** 2 / own).clamp(max=1.0))


def layer_similarity(model, other, batches: Sequence[Batch]) -> np.ndarray:
    """CKA between all hidden states of two models on the same batches.

    Args:
        model: in eval mode.
        other: in eval mode, with the same tokenizer.
        batches: padding is left out.

    Returns:
        ``[layers of model + 1, layers of other + 1]``; index 0 is the embeddings.
    """
    mine, theirs = hidden_states(model, batches), hidden_states(other, batches)
    return np.array([[linear_cka(x, y) for y in theirs] for x in mine])


@torch.no_grad()
def hidden_states(model, batches: Sequence[Batch]) -> list[Tensor]:
    """Embeddings and output of each layer, a ``[real tokens, width]`` matrix each, on the CPU."""
    device = next(model.parameters()).device
    parts = []
    for batch in batches:
        states = model(input_ids=batch.input_ids.to(device), output_hidden_states=True)
        real = batch.real().to(device)
        parts.append([state[real].float().cpu() for state in states.hidden_states])
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]
