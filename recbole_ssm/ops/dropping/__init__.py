"""Dropout."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends import compute

__all__ = ["dropout"]


def dropout(x: Tensor, p: float) -> Tensor:
    """Zeros in place of elements, each with probability p; the others are scaled by ``1 / (1 - p)``.

    Args:
        x: any shape.
        p: probability, above 0 and below 1. Seeds come from torch's generator; which elements are dropped depends on
            the backend.

    Returns:
        The shape of x.
    """
    return compute("dropout", x, p)
