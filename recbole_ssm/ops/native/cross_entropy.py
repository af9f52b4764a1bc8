"""Softmax cross-entropy over a catalogue in C."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.native.loading import call, pointer, threads_for_rows
from recbole_ssm.ops.packing import RowItems
from recbole_ssm.ops.teacher import Teacher

_LARGEST_WEIGHT, _LARGEST_SUMS = 1 << 23, 1 << 25
"""Elements of the table, and of the sums of gradients, of which each thread has its own."""

_MULTIPLE = 16
"""Of the width that the library takes."""


class _Description(ctypes.Structure):
    """Mirrors ``CrossEntropy`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "items", "width")),
        *((name, ctypes.c_void_p) for name in ("hidden", "weight", "bias", "target", "seen", "seen_from", "seen_to")),
        ("seen_bias", ctypes.c_float),
        ("threads", ctypes.c_int32),
        ("taught_width", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("taught_hidden", "taught_weight")),
        *((name, ctypes.c_float) for name in ("taught_seen_bias", "share")),
    ]


def fits_cross_entropy(weight: Tensor, rows: int) -> bool:
    """Whether :func:`cross_entropy` is for a table (V, d) and so many rows: of large ones its sums take long."""
    size = weight.numel()
    return size <= _LARGEST_WEIGHT and size * threads_for_rows(rows) <= _LARGEST_SUMS


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seen_bias: Tensor | None,
    target: Tensor,
    seen: RowItems | None,
    needs_grad: bool,
    teacher: Teacher | None = None,
) -> tuple[Tensor | None, ...]:
    """Summed loss of the rows whose target is not negative, and its gradients, in float32.

    Args:
        hidden: (R, d).
        weight: (V, d).
        bias: (V,) or None, added to all logits.
        seen_bias: (), (1,) or None, added to the logits of a row's seen items.
        target: (R,) int64.
        seen: items of each row, or None.
        needs_grad: whether gradients are wanted.
        teacher: whose softmax takes a share of the targets.

    Returns:
        The loss () and the gradients of hidden, weight, bias and seen_bias; None for what is None or not wanted.
    """
    (rows, width), items = hidden.shape, len(weight)
    if seen is not None and len(seen.items) and int(seen.items.max()) >= items:
        raise IndexError(f"item {int(seen.items.max())} is not one of the {items} rows of weight")
    fill = -width % _MULTIPLE
    hidden, weight = (F.pad(tensor, (0, fill)) for tensor in (hidden, weight))
    taught: list[Tensor | None] = [None, None]
    if teacher is not None:
        more = -teacher.weight.shape[1] % _MULTIPLE
        taught = [F.pad(tensor, (0, more)).contiguous() for tensor in (teacher.hidden, teacher.weight)]
    given = hidden, weight, bias, target, *(seen or (None, None, None))
    data = [None if tensor is None else tensor.contiguous() for tensor in given]
    threads = threads_for_rows(rows)
    added = 0.0 if seen_bias is None else float(seen_bias)
    description = _Description(rows, items, width + fill, *map(pointer, data), added, threads)
    if teacher is not None:
        description.taught_width = taught[0].shape[1]
        description.taught_hidden, description.taught_weight = map(pointer, taught)
        description.taught_seen_bias, description.share = teacher.seen_bias, teacher.share
    loss = hidden.new_zeros(threads, dtype=torch.float64)
    if not needs_grad:
        call("cross_entropy", description, loss, None, None, None, None)
        return loss.sum().float(), None, None, None, None
    d_hidden, d_weight = hidden.new_empty(hidden.shape), hidden.new_zeros(threads, items, width + fill)
    d_bias = None if bias is None else hidden.new_zeros(threads, items)
    d_seen_bias = torch.zeros_like(loss)
    call("cross_entropy", description, loss, d_hidden, d_weight, d_bias, d_seen_bias)
    d_weight = d_weight[0] if threads == 1 else d_weight.sum(0)
    return (
        loss.sum().float(),
        d_hidden[:, :width],
        d_weight[:, :width],
        None if bias is None else d_bias.sum(0),
        None if seen_bias is None else d_seen_bias.sum().float().expand_as(seen_bias),
    )
