"""A diagonal linear recurrence with constant, complex decays over a packed stream."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_ssm.ops.packing import check_shapes, positions


def linear_recurrence(x: Tensor, decay: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``h[t] = decay * h[t - 1] + x[t]`` within each sequence, from zero (the LRU of arXiv 2303.06349).

    By doubling: sums over the last 1, 2, 4, ... tokens, each from two of the sums before, ``log2`` of the longest
    sequence times.

    Args:
        x: (T, E) complex.
        decay: (E,) complex, of magnitude at most 1.
        cu_seqlens: (S + 1,) int, borders of the sequences.

    Returns:
        h (T, E).
    """
    check_shapes(cu_seqlens, len(x), x=(x, (len(x), len(decay))))
    return _LinearRecurrence.apply(x, decay, positions(cu_seqlens, len(x)))


def _double(x: Tensor, decay: Tensor, before: Tensor, offset: int) -> Tensor:
    """The recurrence over tokens that have ``before`` (T,) others before them, ``offset`` 1 forward and -1 backward."""
    h, reach = x, 1
    while reach <= (int(before.max()) if len(before) else 0):
        h = h + (decay * h).roll(offset * reach, 0) * (before >= reach)[:, None]
        decay, reach = decay * decay, 2 * reach
    return h


class _LinearRecurrence(torch.autograd.Function):
    """The gradient of x is the recurrence read from the end, with conjugate decays."""

    @staticmethod
    def forward(ctx, x, decay, before):
        h = _double(x, decay, before, 1)
        ctx.save_for_backward(h, decay, before)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, dh):
        h, decay, before = ctx.saved_tensors
        last = torch.ones_like(before, dtype=torch.bool)
        last[:-1] = before[1:] == 0
        # How many tokens of the sequence follow each token.
        end = torch.arange(len(before), device=before.device).where(last, len(before))
        after = end.flip(0).cummin(0).values.flip(0) - torch.arange(len(before), device=before.device)
        dx = _double(dh, decay.conj(), after, -1)
        previous = h.roll(1, 0) * (before > 0)[:, None]
        return dx, (dx * previous.conj()).sum(0), None
