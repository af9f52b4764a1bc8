"""Exact softmax cross-entropy over a whole catalogue, without the matrix of logits."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_ssm.ops.backends import compute
from recbole_ssm.ops.packing import RowItems, check_each, check_ids
from recbole_ssm.ops.precision import HALF, autocast_type, without_half
from recbole_ssm.ops.teacher import Teacher
from recbole_ssm.ops.values import demand, on_host

__all__ = ["linear_cross_entropy", "summed_cross_entropy"]


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

    At most 67 million logits, or 16 rows of them, exist at any time (in C: of each thread), whatever R and V are, and
    as many of a teacher's. Half precision is computed in float32, but for PyTorch's matrix products.

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
        ValueError: shapes do not fit, or another argument has a value that is not named above.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', not {reduction!r}")
    if (seen is None) != (seen_bias is None and not (teacher and teacher.seen_bias)):
        raise ValueError("seen and a seen_bias, the teacher's or this, are given together or not at all")
    counts = target != ignore_index
    _check(hidden, weight, target, counts, bias, seen)
    half = autocast_type(hidden) or next((t.dtype for t in (hidden, weight) if t.dtype in HALF), None)
    if half is not None:
        hidden, weight = hidden.float(), weight.float()
        bias, seen_bias = without_half(bias), without_half(seen_bias)
    teacher = None if teacher is None else teacher.for_(hidden, len(weight))
    seen = None if seen is None else RowItems(*(tensor.long() for tensor in seen))
    others = target.long().where(counts, -1), seen, teacher, half or hidden.dtype
    with torch.autocast(hidden.device.type, enabled=False) if half is not None else nullcontext():
        total = _LinearCrossEntropy.apply(hidden, weight, bias, seen_bias, *others)
    return total / counts.sum() if reduction == "mean" else total


def _check(
    hidden: Tensor, weight: Tensor, target: Tensor, counts: Tensor, bias: Tensor | None, seen: RowItems | None
) -> None:
    rows, width = hidden.shape
    check_each(weight=(weight, (len(weight), width)), target=(target, (rows,)), bias=(bias, (len(weight),)))
    if seen is not None:
        check_each(seen_start=(seen.start, (rows,)), seen_end=(seen.end, (rows,)))
        if not on_host(seen.items):  # on a CPU what reads them refuses others
            within = (seen.start >= 0).all() & (seen.end <= len(seen.items)).all()
            demand(within & (seen.items < len(weight)).all(), "seen has ranges beyond its items, or unknown items")
    check_ids("target", target.where(counts, 0), 0, len(weight))


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seen_bias: Tensor | None,
    target: Tensor,
    *,
    seen: RowItems | None,
    teacher: Teacher | None,
    product: torch.dtype,
    needs_grad: bool,
) -> tuple[Tensor | None, ...]:
    """The loss and its gradients at once: what backends compute. Nothing is recorded for autograd.

    Args:
        hidden: (R, d).
        weight: (V, d).
        bias: (V,) or None, added to all logits.
        seen_bias: (), (1,) or None, added to the logits of a row's seen items.
        target: (R,) int64; rows with a negative one do not count.
        seen: items of each row, or None.
        teacher: whose softmax takes a share of the targets, or None.
        product: type in which matrices may be multiplied, if it is narrower than that of hidden.
        needs_grad: whether gradients are wanted.

    Returns:
        The loss () and the gradients of hidden, weight, bias and seen_bias; None for what is None or not wanted.
    """
    options: dict[str, Any] = {"seen": seen, "teacher": teacher, "product": product, "needs_grad": needs_grad}
    return compute("cross_entropy", hidden, weight, bias, seen_bias, target, **options)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over the rows that count; gradients are computed in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        hidden, weight, bias, seen_bias, target, seen, teacher, product = arguments
        options = {"seen": seen, "teacher": teacher, "product": product, "needs_grad": any(ctx.needs_input_grad)}
        total, *gradients = summed_cross_entropy(hidden, weight, bias, seen_bias, target, **options)
        ctx.save_for_backward(*gradients)
        assert total is not None
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if saved is None else grad * saved for saved in ctx.saved_tensors), None, None, None, None
