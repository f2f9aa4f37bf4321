"""Terms of a loss that look inside the models, as data; `workbench.inner` computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What is taken of attention: softmax over the keys, or QKᵀ/√d before it.
AttentionOperand = Literal["probabilities", "scores"]


@dataclass(frozen=True)
class HiddenTerm:
    """Hidden states, layer by layer: the sum over pairs of layers of a mean over real tokens.

    Attributes:
        layers: teacher layer for each student layer, a map or its name (`layer_maps.parse`).
        embeddings: compare what comes out of the embeddings, too.
        measure: "cosine" is 1 − cos; "mse" the mean squared difference of the entries.
        projection: a learned linear map from the student's width to the teacher's: None, one
            "shared" by all pairs, or one for "each".
        weight: of the term.
    """

    layers: str
    embeddings: bool = False
    measure: Literal["cosine", "mse"] = "cosine"
    projection: Literal["shared", "each"] | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class AttentionTerm:
    """Attention maps, layer by layer and head by head: the sum over pairs of layers of a mean.

    Attributes:
        layers: teacher layer for each student layer, a map or its name.
        measure: "kl" is KL(teacher‖student) of a query's distribution over the keys, mean over
            heads and queries; "mse" the squared difference, mean over heads, queries and keys.
        operand: what is compared; "kl" needs probabilities.
        averaged_over_keys: divide a query's KL by the number of its keys once more, which
            ``KLDivLoss("mean")`` does: up to 256 times weaker in texts of 256 tokens.
        weight: of the term.
    """

    layers: str
    measure: Literal["kl", "mse"] = "kl"
    operand: AttentionOperand = "probabilities"
    averaged_over_keys: bool = False
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.measure == "kl" and self.operand != "probabilities":
            raise ValueError("a KL of attention needs probabilities, not scores")
