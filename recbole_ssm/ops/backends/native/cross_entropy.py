"""Softmax cross-entropy over a catalogue in C."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.backends.layout import contiguous
from recbole_ssm.ops.backends.native.loading import call, pointers, threads_for_rows
from recbole_ssm.ops.packing import RowItems
from recbole_ssm.ops.teacher import Teacher

_LARGEST_WEIGHT, _LARGEST_SUMS = 1 << 23, 1 << 25
"""In elements: of the table, and of the gradients of the table that all threads together add up."""

_MULTIPLE = 16
"""Widths must be multiples of this."""


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


def fits(hidden: Tensor, weight: Tensor, *_: Tensor | None, **options: Any) -> bool:
    """Whether the table (V, d) is small enough for so many rows (R, d): the threads' gradients take memory and time."""
    size = weight.numel()
    return size <= _LARGEST_WEIGHT and size * threads_for_rows(len(hidden)) <= _LARGEST_SUMS


def cross_entropy(
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
    """The op ``summed_cross_entropy`` in float32; ``product`` does not matter."""
    (rows, width), items = hidden.shape, len(weight)
    if seen is not None and len(seen.items) and int(seen.items.max()) >= items:
        raise IndexError(f"item {int(seen.items.max())} is not one of the {items} rows of weight")
    tensors = (_filled(hidden), _filled(weight), bias, target, *(seen or (None, None, None)))
    kept = [contiguous(tensor) for tensor in tensors]
    threads, filled = threads_for_rows(rows), width + -width % _MULTIPLE
    added = 0.0 if seen_bias is None else float(seen_bias)
    description = _Description(rows, items, filled, *pointers(kept), added, threads)
    if teacher is not None:
        taught = [_filled(teacher.hidden).contiguous(), _filled(teacher.weight).contiguous()]
        description.taught_width = taught[0].shape[1]
        description.taught_hidden, description.taught_weight = pointers(taught)
        description.taught_seen_bias, description.share = teacher.seen_bias, teacher.share
    loss = hidden.new_zeros(threads, dtype=torch.float64)
    if not needs_grad:
        call("cross_entropy", description, loss, None, None, None, None)
        return loss.sum().float(), None, None, None, None
    d_hidden, d_weight = hidden.new_empty(rows, filled), hidden.new_zeros(threads, items, filled)
    d_bias = None if bias is None else hidden.new_zeros(threads, items)
    d_seen_bias = torch.zeros_like(loss)
    call("cross_entropy", description, loss, d_hidden, d_weight, d_bias, d_seen_bias)
    return (
        loss.sum().float(),
        d_hidden[:, :width],
        (d_weight[0] if threads == 1 else d_weight.sum(0))[:, :width],
        None if d_bias is None else d_bias.sum(0),
        None if seen_bias is None else d_seen_bias.sum().float().expand_as(seen_bias),
    )


def _filled(tensor: Tensor) -> Tensor:
    """(n, d) with zeros up to a width that the library takes."""
    return F.pad(tensor, (0, -tensor.shape[1] % _MULTIPLE))
