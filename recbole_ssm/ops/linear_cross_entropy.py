"""Exact softmax cross-entropy over a whole catalogue, without the matrix of logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ELEMENTS_PER_BLOCK = 1 << 20
"""Logits alive at any time: few enough for a cache, enough to keep the matrix products busy."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """``F.cross_entropy(hidden @ weight.T, target)``, a block of rows at a time.

    Each block's gradients are taken while its logits are at hand (as in Liger Kernel and in arXiv 2411.09009), so
    at most about a million logits exist at any time, whatever R and V are.

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
    total = _LinearCrossEntropy.apply(hidden, weight, target, keep)
    return total / keep.sum() if reduction == "mean" else total


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over the kept rows; gradients are computed in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(ctx, hidden, weight, target, keep):
        rows = max(16, _ELEMENTS_PER_BLOCK // len(weight))
        needs_grad = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        grad_weight = torch.zeros_like(weight) if needs_grad else None
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), rows):
            block = slice(start, start + rows)
            h, kept = hidden[block], keep[block]
            column = target[block].where(kept, 0)[:, None]
            logits = h @ weight.T
            log_z = logits.logsumexp(1, keepdim=True)
            total += (log_z - logits.gather(1, column))[kept].sum()
            if not needs_grad:
                continue
            # d loss / d logits = softmax - onehot(target), zero where the row does not count
            probability = logits.sub_(log_z).exp_()
            probability.scatter_add_(1, column, torch.full_like(log_z, -1.0))
            probability.mul_(kept[:, None])
            torch.mm(probability, weight, out=grad_hidden[block])
            grad_weight.addmm_(probability.T, h)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad * grad_hidden, grad * grad_weight, None, None
