"""Softmax before CrossEntropyLoss: the loss that comes out, its gradient and its optimum.

The reference implementation of DistilBERT-pMHC does it, and many a script beside it. With two
classes everything has a closed form. Write d for the difference of the logits, right class less
wrong one, q = 1/(1 + e^−d) for the probability of the right class, and σ for the same function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HardLoss:
    """Hard loss against the difference of the logits, right class less wrong one.

    Attributes:
        loss_once: −ln q, nats.
        loss_twice: −ln softmax(q, 1 − q), in [ln(1 + 1/e), ln(1 + e)].
        slope_once: −∂/∂d of the first, 1 − q: how hard the gradient pulls d upwards.
        slope_twice: −∂/∂d of the second, 2·(1 − σ(2q − 1))·q·(1 − q).
    """

    loss_once: np.ndarray
    loss_twice: np.ndarray
    slope_once: np.ndarray
    slope_twice: np.ndarray


def hard_loss(difference: np.ndarray) -> HardLoss:
    """Both losses for an array of differences of logits, at T = 1."""
    d = np.asarray(difference, dtype=np.float64)
    q = _sigmoid(d)
    return HardLoss(
        loss_once=np.logaddexp(0, -d),
        loss_twice=np.logaddexp(0, 1 - 2 * q),
        slope_once=_sigmoid(-d),
        slope_twice=2 * _sigmoid(1 - 2 * q) * q * _sigmoid(-d),
    )


def optimum(teacher: np.ndarray) -> np.ndarray:
    """Student's probability at which the twice softened soft loss is smallest.

    −p ln σ(2q − 1) − (1 − p) ln σ(1 − 2q) is smallest where σ(2q − 1) = p, that is at
    q* = (1 + ln(p/(1−p)))/2, held to [0, 1]: from p = σ(1) = 0.731 on it is 1.

    Args:
        teacher: probabilities p, strictly between 0 and 1.
    """
    p = np.asarray(teacher, dtype=np.float64)
    return np.clip((1 + np.log(p) - np.log1p(-p)) / 2, 0.0, 1.0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64)))
