"""What stands beside the mixers: the feed-forward network, RMSNorm with a gate, and dropout."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def feed_forward(
    x: Tensor,
    W1: Tensor,
    b1: Tensor,
    W2: Tensor,
    b2: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float,
    dropout: float,
    dropout_after_norm: bool,
    drop: Callable[[Tensor, float], Tensor],
) -> Tensor:
    """The op ``feed_forward``, with the op ``drop``, which another backend may compute."""

    def dropped(tensor: Tensor) -> Tensor:
        if 0 < dropout < 1:
            return drop(tensor, dropout)
        return F.dropout(tensor, dropout, training=bool(dropout))

    y = F.linear(dropped(F.gelu(F.linear(x, W1, b1))), W2, b2)
    if dropout_after_norm:
        return dropped(F.layer_norm(y + x, weight.shape, weight, bias, eps))
    return F.layer_norm(dropped(y) + x, weight.shape, weight, bias, eps)


def gated_norm(y: Tensor, z: Tensor, weight: Tensor, *, eps: float, norm_before_gate: bool) -> Tensor:
    """The op ``gated_rms_norm``."""

    def norm(tensor: Tensor) -> Tensor:
        return F.rms_norm(tensor.to(weight.dtype), weight.shape, weight, eps)

    return norm(y) * F.silu(z) if norm_before_gate else norm(y * F.silu(z))


def dropout(x: Tensor, p: float) -> Tensor:
    """The op ``dropout``."""
    return F.dropout(x, p)
