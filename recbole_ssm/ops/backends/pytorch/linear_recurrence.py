"""The linear recurrence in blocks of the stream.

1. Each block runs by itself, token by token, all blocks at once.
2. The states at the ends of blocks come by doubling: sums over the last 1, 2, 4, ... blocks, each from two sums before.
3. Each block takes over the state at the end of the block before it.

Work grows linearly with T but for the doubling, which has one token in :data:`BLOCK`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_ssm.ops.packing import positions

BLOCK = 32
"""Tokens that are run through one after the other, in all blocks of the stream at once."""

_NOTHING = 1e-30
"""What a block takes over is 0 below this: a gradient that fades would end in subnormals, which CPUs compute slowly."""


def linear_recurrence(x: Tensor, decay: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The op ``linear_recurrence``."""
    return _LinearRecurrence.apply(x, decay, positions(cu_seqlens, len(x)))


def _scan(x: Tensor, decay: Tensor, before: Tensor) -> Tensor:
    """The recurrence over tokens (T, E) that have ``before`` (T,) others of their sequence before them."""
    blocks = -(-len(x) // BLOCK)
    padding = blocks * BLOCK - len(x)
    h = F.pad(x, (0, 0, 0, padding)).unflatten(0, (blocks, BLOCK)).transpose(0, 1).contiguous()
    before = F.pad(before, (0, padding)).view(blocks, BLOCK).T
    begins = (before == 0)[..., None]
    for i in range(1, BLOCK):
        h[i].addcmul_(h[i - 1].masked_fill(begins[i], 0), decay)
    if blocks > 1:
        powers = decay.expand(BLOCK, -1).cumprod(0)
        from_before = before > torch.arange(BLOCK, device=x.device)[:, None]  # the sequence began in another block
        ends = _double(h[-1], powers[-1], _run_lengths(from_before[-1]))
        ends = ends.masked_fill(ends.abs() < _NOTHING, 0)
        for i in range(BLOCK):
            h[i, 1:].addcmul_(ends[:-1].masked_fill(~from_before[i, 1:, None], 0), powers[i])
    return h.transpose(0, 1).flatten(0, 1)[: len(x)]


def _double(h: Tensor, decay: Tensor, before: Tensor) -> Tensor:
    """The recurrence by doubling."""
    reach = 1
    while reach <= int(before.max()):
        h = h + (decay * h).roll(reach, 0).masked_fill((before < reach)[:, None], 0)
        decay, reach = decay * decay, 2 * reach
    return h


def _run_lengths(true: Tensor) -> Tensor:
    """The length of the run of true values that ends at each place, (n,)."""
    index = torch.arange(1, len(true) + 1, device=true.device)
    return index - index.masked_fill(true, 0).cummax(0).values


class _LinearRecurrence(torch.autograd.Function):
    """The gradient of x is the recurrence read from the end, with conjugate decays."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, before: Tensor) -> Tensor:
        h = _scan(x, decay, before)
        ctx.save_for_backward(h, decay, before)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        h, decay, before = ctx.saved_tensors
        followed = torch.zeros_like(before, dtype=torch.bool)
        followed[:-1] = before[1:] > 0
        dx = _scan(dh.flip(0), decay.conj(), _run_lengths(followed.flip(0))).flip(0)
        previous = h.roll(1, 0).masked_fill((before == 0)[:, None], 0)
        return dx, (dx * previous.conj()).sum(0), None
