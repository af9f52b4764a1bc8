"""Exact softmax cross-entropy over a whole catalogue, without the matrix of logits."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_ssm.ops.precision import HALF, autocast_type

_CACHED, _ALIVE = 1 << 18, 1 << 24
"""Logits of a block: rather few enough for a second-level cache, and never more than this."""


def _rows_per_block(n_items: int) -> int:
    """Fewer than 64 rows make products of matrices slow, fewer than 16 very slow."""
    return max(_CACHED // n_items, min(64, _ALIVE // n_items), 16)


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """``F.cross_entropy(hidden @ weight.T, target)``, a block of rows at a time.

    Each block's gradients are taken while its logits are at hand (as in Liger Kernel and in arXiv 2411.09009), so
    at most 16 million logits, or 16 rows of them, exist at any time, whatever R and V are. Under autocast the matrix
    products are in its type, exponentials and all sums in float32, as are half-precision inputs.

    Args:
        hidden: (R, d).
        weight: (V, d), for tied embeddings the embedding table.
        target: (R,) int64 in ``0..V-1``, or ``ignore_index``.
        ignore_index: rows with this target count nothing.
        reduction: ``"mean"`` over the rows that count, or ``"sum"``.

    Returns:
        The loss, a scalar. The mean of no row at all is NaN, as in ``F.cross_entropy``.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', not {reduction!r}")
    keep = target != ignore_index
    half = autocast_type(hidden) or next((t.dtype for t in (hidden, weight) if t.dtype in HALF), None)
    if half is not None:
        hidden, weight = hidden.float(), weight.float()
    with torch.autocast(hidden.device.type, enabled=False) if half is not None else nullcontext():
        total = _LinearCrossEntropy.apply(hidden, weight, target, keep, half or hidden.dtype)
    return total / keep.sum() if reduction == "mean" else total


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over the kept rows; gradients are computed in the forward pass and scaled in the backward pass.

    Matrices are multiplied in the type ``product``.
    """

    @staticmethod
    def forward(ctx, hidden, weight, target, keep, product):
        rows = _rows_per_block(len(weight))
        needs_grad = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        table = weight.to(product)
        columns = table.T.contiguous()
        grad_columns = torch.zeros_like(weight.T, memory_format=torch.contiguous_format) if needs_grad else None
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), rows):
            block = slice(start, start + rows)
            h, kept = hidden[block], keep[block]
            column = target[block].where(kept, 0)
            logits = (h.to(product) @ columns).to(h.dtype)
            at_target = logits.gather(1, column[:, None])
            largest = logits.amax(1, keepdim=True)
            unnormalised = logits.sub_(largest).exp_()
            z = unnormalised.sum(1, keepdim=True)
            total += (z.log() + largest - at_target)[kept].sum()
            if not needs_grad:
                continue
            # d loss / d logits = softmax - onehot(target), zero where the row does not count. The softmax is never
            # formed: its rows are scaled where they are narrow, before and after the products.
            scale = kept[:, None] / z
            unnormalised = unnormalised.to(product)
            grad_hidden[block] = (unnormalised @ table) * scale - weight[column] * kept[:, None]
            scaled = (h * scale).to(product).T
            if product == weight.dtype:
                grad_columns.addmm_(scaled, unnormalised)
            else:
                grad_columns += scaled @ unnormalised
        if needs_grad:
            grad_weight = grad_columns.T.contiguous()
            grad_weight.index_add_(0, target.where(keep, 0), hidden * keep[:, None], alpha=-1.0)
            ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad * grad_hidden, grad * grad_weight, None, None, None
