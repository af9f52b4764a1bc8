"""Causal attention over a packed stream: the peer that recurrences are compared with."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends import compute
from recbole_ssm.ops.packing import check_shapes

__all__ = ["causal_attention"]


def causal_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``F.scaled_dot_product_attention(..., is_causal=True)`` within each sequence.

    Args:
        q: (T, H, P).
        k: (T, H, P).
        v: (T, H, P).
        cu_seqlens: (S + 1,) int, borders of the sequences.

    Returns:
        (T, H, P).
    """
    check_shapes(cu_seqlens, q.shape[0], q=(q, q.shape), k=(k, q.shape), v=(v, q.shape))
    return compute("attention", q, k, v, cu_seqlens)
