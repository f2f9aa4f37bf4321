"""Two softmaxes in closed form, against torch's own loss and its gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from workbench import double_softmax

DIFFERENCES = np.linspace(-12, 12, 97)


def test_losses_and_slopes_are_those_of_torch():
    curves = double_softmax.hard_loss(DIFFERENCES)
    label = torch.zeros(1, dtype=torch.long)
    for twice, losses, slopes in (
        (False, curves.loss_once, curves.slope_once),
        (True, curves.loss_twice, curves.slope_twice),
    ):
        for d, loss, slope in zip(DIFFERENCES, losses, slopes, strict=True):
            x = torch.tensor(float(d), dtype=torch.float64, requires_grad=True)
            logits = torch.stack([x, torch.zeros_like(x)])[None]
            value = functional.cross_entropy(logits.softmax(-1) if twice else logits, label)
            value.backward()
            assert abs(value.item() - loss) < 1e-12
            assert abs(-x.grad.item() - slope) < 1e-12


def test_the_loss_is_confined_and_a_hopeless_student_is_not_pulled():
    curves = double_softmax.hard_loss(np.array([-40.0, 40.0]))
    assert np.allclose(curves.loss_twice, [math.log1p(math.e), math.log1p(1 / math.e)])
    assert curves.slope_once[0] > 0.999999 > 1e-12 > curves.slope_twice[0]


def test_the_optimum_is_where_the_loss_is_smallest():
    q = np.linspace(0, 1, 200_001)
    for p in (0.02, 0.2, 0.3, 0.45, 0.5, 0.6, 0.7, 0.731, 0.9, 0.99):
        second = 1 / (1 + np.exp(1 - 2 * q))
        loss = -p * np.log(second) - (1 - p) * np.log1p(-second)
        assert abs(q[loss.argmin()] - double_softmax.optimum(p)) < 1e-5


def test_figures_of_the_reference():
    # p = .55 → .60, .60 → .70, .65 → .81, .70 → .92, and from .731 on 1.
    found = double_softmax.optimum(np.array([0.55, 0.60, 0.65, 0.70, 0.7311]))
    assert np.allclose(found, [0.60, 0.70, 0.81, 0.92, 1.0], atol=0.005)
