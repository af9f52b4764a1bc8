"""Exact softmax cross-entropy over a whole catalogue, without the matrix of logits."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_ssm.ops import native
from recbole_ssm.ops.backend import choose
from recbole_ssm.ops.packing import RowItems, check_each, check_ids
from recbole_ssm.ops.precision import HALF, autocast_type, without_half
from recbole_ssm.ops.teacher import Teacher

_CACHED, _ALIVE = 1 << 18, 1 << 26
"""Logits of a block: rather few enough for a second-level cache, and never more than this."""


def _rows_per_block(n_items: int) -> int:
    """Fewer than 64 rows make products of matrices slow, fewer than 16 very slow."""
    return max(_CACHED // n_items, min(64, _ALIVE // n_items), 16)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    seen: RowItems | None = None,
    seen_bias: Tensor | None = None,
    teacher: Teacher | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """``F.cross_entropy(hidden @ weight.T + bias, target)``, a block of rows at a time.

    Each block's gradients are taken while its logits are at hand (as in Liger Kernel and in arXiv 2411.09009), so
    at most 67 million logits, or 16 rows of them, exist at any time (in C: of each thread), whatever R and V are; and
    as many of a teacher's.
    Half precision is computed in float32, but for PyTorch's products of matrices, which are in its type, as they are
    under autocast.

    Args:
        hidden: (R, d).
        weight: (V, d), for tied embeddings the embedding table.
        target: (R,) int64 in ``0..V-1``, or ``ignore_index``.
        bias: (V,), added to the logits of every row.
        seen: items of each row whose logits have ``seen_bias`` added, and the teacher's its own.
        seen_bias: one number, shape () or (1,); needs ``seen``.
        teacher: whose softmax takes a share of the targets; ``target`` has the rest.
        ignore_index: rows with this target count nothing.
        reduction: ``"mean"`` over the rows that count, or ``"sum"``.

    Returns:
        The loss, a scalar. The mean of no row at all is NaN, as in ``F.cross_entropy``.

    Raises:
        ValueError: shapes do not fit, or a target or another argument is none of those above.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', not {reduction!r}")
    if (seen is None) != (seen_bias is None and not (teacher and teacher.seen_bias)):
        raise ValueError("seen and a seen_bias, the teacher's or this, are given together or not at all")
    rows, width = hidden.shape
    check_each(weight=(weight, (len(weight), width)), target=(target, (rows,)), bias=(bias, (len(weight),)))
    if seen is not None:
        check_each(seen_start=(seen.start, (rows,)), seen_end=(seen.end, (rows,)))
        seen = RowItems(*(tensor.long() for tensor in seen))
    target = target.long()
    counts = target != ignore_index
    check_ids("target", target[counts], 0, len(weight))
    half = autocast_type(hidden) or next((t.dtype for t in (hidden, weight) if t.dtype in HALF), None)
    if half is not None:
        hidden, weight, bias, seen_bias = map(without_half, (hidden.float(), weight.float(), bias, seen_bias))
    if teacher is not None:
        teacher = teacher.for_(hidden, len(weight))
    with torch.autocast(hidden.device.type, enabled=False) if half is not None else nullcontext():
        rows = target.where(counts, -1), seen, teacher
        total = _LinearCrossEntropy.apply(hidden, weight, bias, seen_bias, *rows, half or hidden.dtype)
    return total / counts.sum() if reduction == "mean" else total


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over the rows that count; gradients are computed in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, seen_bias, target, seen, teacher, product):
        needs_grad = any(ctx.needs_input_grad)
        small = native.fits_cross_entropy(weight, len(hidden))
        given = hidden, weight, bias, seen_bias, target, seen, needs_grad, teacher
        if small and choose("cross_entropy", hidden, weight, bias, seen_bias) == "native":
            total, *gradients = native.cross_entropy(*given)
        else:
            total, *gradients = _by_blocks(*given, product)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *(None if saved is None else grad * saved for saved in ctx.saved_tensors), None, None, None, None


def _by_blocks(
    hidden, weight, bias, seen_bias, target, seen, needs_grad, teacher, product
) -> tuple[Tensor | None, ...]:
    """The sum over the rows whose target is not negative, and its gradients; matrices are multiplied in ``product``."""
    rows = _rows_per_block(len(weight))
    d_hidden = torch.empty_like(hidden)
    d_columns = torch.zeros_like(weight.T, memory_format=torch.contiguous_format) if needs_grad else None
    d_bias = None if bias is None else torch.zeros_like(bias)
    d_seen_bias = None if seen_bias is None else torch.zeros_like(seen_bias)
    table = weight.to(product)
    columns = table.T.contiguous()
    taught_columns = None if teacher is None else teacher.weight.to(product).T.contiguous()
    total = hidden.new_zeros(())
    sure = 1.0 if teacher is None else 1.0 - teacher.share
    for start in range(0, len(hidden), rows):
        block = slice(start, start + rows)
        h, kept, column = hidden[block], target[block] >= 0, target[block].clamp(min=0)
        logits = (h.to(product) @ columns).to(h.dtype)
        if bias is not None:
            logits += bias
        if seen is not None:
            row, item = seen.of_rows(block)
        if seen_bias is not None:
            logits.index_put_((row, item), seen_bias.expand(len(row)), accumulate=True)
        expected = sure * logits.gather(1, column[:, None])
        if teacher is not None:
            taught = (teacher.hidden[block].to(product) @ taught_columns).to(h.dtype)
            if seen is not None:
                taught[row, item] += teacher.seen_bias
            taught = taught.softmax(1).mul_(teacher.share)
            expected += torch.linalg.vecdot(taught, logits)[:, None]
        largest = logits.amax(1, keepdim=True)
        unnormalised = logits.sub_(largest).exp_()
        z = unnormalised.sum(1, keepdim=True)
        total += (z.log() + largest - expected)[kept].sum()
        if not needs_grad:
            continue
        # d loss / d logits = softmax - (1 - share) onehot(target) - share * the teacher's softmax, zero where the row
        # does not count. The softmax is never formed: its rows are scaled where they are narrow, before and after the
        # products; but for half precision, which would not hold z times the teacher's.
        scale = kept[:, None] / z
        if teacher is not None and product in HALF:
            unnormalised.div_(z).sub_(taught)
            scale = kept[:, None].to(h.dtype)
        elif teacher is not None:
            unnormalised.addcmul_(taught, z, value=-1.0)
        if bias is not None:
            d_bias += scale[:, 0] @ unnormalised
        if seen_bias is not None:
            d_seen_bias += (unnormalised[row, item] * scale[row, 0]).sum()
            d_seen_bias -= (item == target[block][row]).sum().to(h.dtype) * sure
        unnormalised = unnormalised.to(product)
        d_hidden[block] = (unnormalised @ table) * scale - sure * weight[column] * kept[:, None]
        scaled = (h * scale).to(product).T
        if product == weight.dtype:
            d_columns.addmm_(scaled, unnormalised)
        else:
            d_columns += scaled @ unnormalised
    if not needs_grad:
        return total, None, None, None, None
    kept, column = target >= 0, target.clamp(min=0)
    d_weight = d_columns.T.contiguous().index_add_(0, column, hidden * kept[:, None], alpha=-sure)
    if bias is not None:
        d_bias.index_add_(0, column, kept.to(d_bias.dtype), alpha=-sure)
    return total, d_hidden, d_weight, d_bias, d_seen_bias
