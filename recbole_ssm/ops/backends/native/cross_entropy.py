"""Softmax cross-entropy over a catalogue in C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.added import Added
from recbole_ssm.ops.backends.layout import contiguous
from recbole_ssm.ops.backends.native.loading import call, pointer, pointers, threads_for_rows
from recbole_ssm.ops.teacher import Teacher

_LARGEST_WEIGHT, _LARGEST_SUMS = 1 << 23, 1 << 25
"""In elements: of the table, and of the gradients of the table that all threads together add up."""

_MULTIPLE = 16
"""Widths must be multiples of this."""


class _Description(ctypes.Structure):
    """Mirrors ``CrossEntropy`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "items", "width")),
        *((name, ctypes.c_void_p) for name in ("hidden", "weight", "bias", "target", "added", "taught_added")),
        *((name, ctypes.c_int64) for name in ("n_added", "n_taught_added", "taught_width")),
        *((name, ctypes.c_void_p) for name in ("taught_hidden", "taught_weight")),
        ("share", ctypes.c_float),
        ("threads", ctypes.c_int32),
    ]


class _Added(ctypes.Structure):
    """Mirrors ``Added`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("items", "values", "start", "end", "weight", "gradient")),
        ("groups", ctypes.c_int64),
    ]


class _Lists:
    """What is added, as the library reads it: an array, and the tensors that it points into."""

    def __init__(self, added: Sequence[Added], n_items: int, gradients: Sequence[Tensor] = ()):
        self.array = (_Added * len(added))()
        self.kept: list[list[Tensor | None]] = []
        for number, (to, weight) in enumerate(added):
            if len(to.items) and int(to.items.max()) >= n_items:
                raise IndexError(f"item {int(to.items.max())} is not one of the {n_items} rows of weight")
            tensors = to.items.int(), to.values, to.start.long(), to.end.long(), weight
            self.kept.append([contiguous(each) for each in tensors])
            gradient = pointer(gradients[number]) if gradients else None
            self.array[number] = _Added(*pointers(self.kept[-1]), gradient, to.start.shape[1])

    @property
    def address(self) -> int:
        """Of the array."""
        return ctypes.addressof(self.array)


def fits(hidden: Tensor, weight: Tensor, *_: Tensor | None, **options: Any) -> bool:
    """Whether the table (V, d) is small enough for so many rows (R, d): the threads' gradients take memory and time."""
    size = weight.numel()
    return size <= _LARGEST_WEIGHT and size * threads_for_rows(len(hidden)) <= _LARGEST_SUMS


def cross_entropy(
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
    """The op ``summed_cross_entropy`` in float32; ``product`` does not matter."""
    (rows, width), items = hidden.shape, len(weight)
    kept = [contiguous(tensor) for tensor in (_filled(hidden), _filled(weight), bias, target)]
    threads, filled = threads_for_rows(rows), width + -width % _MULTIPLE
    d_added = [torch.empty_like(each.weight, memory_format=torch.contiguous_format) for each in added]
    lists, taught_lists = _Lists(added, items, d_added), _Lists(teacher.added if teacher else (), items)
    description = _Description(rows, items, filled, *pointers(kept), lists.address, taught_lists.address)
    description.n_added, description.n_taught_added = len(lists.array), len(taught_lists.array)
    description.threads = threads
    if teacher is not None:
        taught = [_filled(teacher.hidden).contiguous(), _filled(teacher.weight).contiguous()]
        description.taught_width = taught[0].shape[1]
        description.taught_hidden, description.taught_weight = pointers(taught)
        description.share = teacher.share
    loss = hidden.new_zeros(threads, dtype=torch.float64)
    if not needs_grad:
        call("cross_entropy", description, loss, None, None, None)
        return loss.sum().float(), *[None] * (3 + len(added))
    d_hidden, d_weight = hidden.new_empty(rows, filled), hidden.new_zeros(threads, items, filled)
    d_bias = None if bias is None else hidden.new_zeros(threads, items)
    call("cross_entropy", description, loss, d_hidden, d_weight, d_bias)
    return (
        loss.sum().float(),
        d_hidden[:, :width],
        (d_weight[0] if threads == 1 else d_weight.sum(0))[:, :width],
        None if d_bias is None else d_bias.sum(0),
        *d_added,
    )


def _filled(tensor: Tensor) -> Tensor:
    """(n, d) with zeros up to a width that the library takes."""
    return F.pad(tensor, (0, -tensor.shape[1] % _MULTIPLE))
