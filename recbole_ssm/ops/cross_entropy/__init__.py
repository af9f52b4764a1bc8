"""Exact softmax cross-entropy over a whole catalogue, without the matrix of logits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_ssm.ops.added import Added, check_added
from recbole_ssm.ops.backends import compute
from recbole_ssm.ops.packing import check_each, check_ids
from recbole_ssm.ops.precision import HALF, autocast_type, without_half
from recbole_ssm.ops.teacher import Teacher

__all__ = ["linear_cross_entropy", "summed_cross_entropy"]


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    added: Sequence[Added] = (),
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
        added: numbers that are added to some logits of each row.
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
    counts = target != ignore_index
    _check(hidden, weight, target, counts, bias, added)
    half = autocast_type(hidden) or next((t.dtype for t in (hidden, weight) if t.dtype in HALF), None)
    if half is not None:
        hidden, weight, bias = hidden.float(), weight.float(), without_half(bias)
    teacher = None if teacher is None else teacher.for_(hidden, len(weight))
    lists = tuple(each.like(hidden) for each in added)
    weights = tuple(each.weight.to(hidden.dtype) for each in added)
    others = target.long().where(counts, -1), lists, teacher, half or hidden.dtype
    with torch.autocast(hidden.device.type, enabled=False) if half is not None else nullcontext():
        total = _LinearCrossEntropy.apply(hidden, weight, bias, *others, *weights)
    return total / counts.sum() if reduction == "mean" else total


def _check(
    hidden: Tensor, weight: Tensor, target: Tensor, counts: Tensor, bias: Tensor | None, added: Sequence[Added]
) -> None:
    rows, width = hidden.shape
    check_each(weight=(weight, (len(weight), width)), target=(target, (rows,)), bias=(bias, (len(weight),)))
    check_added(added, rows, len(weight))
    check_ids("target", target, 0, len(weight), where=counts)


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    *,
    added: tuple[Added, ...],
    teacher: Teacher | None,
    product: torch.dtype,
    needs_grad: bool,
) -> tuple[Tensor | None, ...]:
    """The loss and its gradients at once: what backends compute. Nothing is recorded for autograd.

    Args:
        hidden: (R, d).
        weight: (V, d).
        bias: (V,) or None, added to all logits.
        target: (R,) int64; rows with a negative one do not count.
        added: numbers that are added to some logits of each row.
        teacher: whose softmax takes a share of the targets, or None.
        product: type in which matrices may be multiplied, if it is narrower than that of hidden.
        needs_grad: whether gradients are wanted.

    Returns:
        The loss () and the gradients of hidden, weight and bias, and of the weight of each of ``added``; None for what
        is None or not wanted.
    """
    options: dict[str, Any] = {"added": added, "teacher": teacher, "product": product, "needs_grad": needs_grad}
    return compute("cross_entropy", hidden, weight, bias, target, **options)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over the rows that count; gradients are computed in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        hidden, weight, bias, target, added, teacher, product, *_ = arguments
        options = {"added": added, "teacher": teacher, "product": product, "needs_grad": any(ctx.needs_input_grad)}
        total, *gradients = summed_cross_entropy(hidden, weight, bias, target, **options)
        ctx.save_for_backward(*gradients)
        assert total is not None
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if saved is None else grad * saved for saved in ctx.saved_tensors]
        return *scaled[:3], None, None, None, None, *scaled[3:]
