"""A diagonal linear recurrence with constant, complex decays over a packed stream."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends import compute
from recbole_ssm.ops.packing import check_shapes

__all__ = ["linear_recurrence"]


def linear_recurrence(x: Tensor, decay: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``h[t] = decay * h[t - 1] + x[t]`` within each sequence, from zero (the LRU of arXiv 2303.06349).

    Args:
        x: (T, E) complex.
        decay: (E,) complex, of magnitude at most 1.
        cu_seqlens: (S + 1,) int, borders of the sequences.

    Returns:
        h (T, E).
    """
    check_shapes(cu_seqlens, x.shape[0], x=(x, (x.shape[0], len(decay))))
    return compute("linear_recurrence", x, decay, cu_seqlens)
