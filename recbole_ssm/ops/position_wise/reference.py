"""The feed-forward network as its formula, without dropout."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def feed_forward(
    x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, weight: Tensor, bias: Tensor, *, eps: float
) -> Tensor:
    """``LayerNorm(x + W2 gelu(W1 x + b1) + b2)`` with ``gelu(a) = a Phi(a)``."""
    a = x @ W1.T + b1
    y = x + a * (1 + torch.erf(a / math.sqrt(2))) / 2 @ W2.T + b2
    centred = y - y.mean(1, keepdim=True)
    return weight * centred / (centred.square().mean(1, keepdim=True) + eps).sqrt() + bias
