"""Softmax cross-entropy over a catalogue on a GPU: a block of rows at a time, without the matrix of all logits.

For each block a product of matrices gives the logits, one kernel turns them in place into their gradients (softmax less
targets), and two more products give what hidden and weight get of these (as Liger Kernel, arXiv 2410.10989). A program
has one row. Sums over rows are left to PyTorch, so that results do not depend on the order in which programs end.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from recbole_ssm.ops.packing import RowItems
from recbole_ssm.ops.teacher import Teacher

_ALIVE = 1 << 25
"""Logits of a block: enough to keep a GPU busy, and 128 MiB in float32."""

_ROWS = 16
"""Blocks have a multiple of so many rows, so that all begin at aligned addresses, for which one kernel is compiled."""

_WIDEST = 4096
"""Logits of a row that a program reads at once."""

_SEEN = 128
"""Seen items of a row that it reads at once."""


@triton.jit
def _seen(items, place, end, NONE):  # type: ignore[no-untyped-def]  # in Triton's language, whose pointers have no types
    """The items at these places; NONE, which no item is, for those that are not there."""
    item = tl.load(items + place, place < end, -1)
    return tl.where(item < 0, NONE, item)


@triton.jit
def _add_to_seen(row, amount, items, start, end, WIDTH, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # likewise
    for at in range(start, end, BLOCK):
        item = _seen(items, at + tl.arange(0, BLOCK), end, WIDTH)
        logit = tl.load(row + item, item < WIDTH, 0.0).to(tl.float32)
        tl.store(row + item, logit + amount, item < WIDTH)


@triton.jit
def _logits(row, bias, item, V, WIDTH, BIAS: tl.constexpr):  # type: ignore[no-untyped-def]  # likewise
    """Of these items; minus infinity beyond the last. A mask of WIDTH, and not of V, lets loads be wide."""
    logit = tl.load(row + item, item < WIDTH, 0.0).to(tl.float32)
    if BIAS:
        logit += tl.load(bias + item, item < WIDTH, 0.0)
    return tl.where(item < V, logit, float("-inf"))


@triton.jit
def _largest_and_sum(row, bias, V, WIDTH, BIAS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """M, the largest logit, and z, the sum of ``exp(logit - M)``."""
    M, z = tl.full((), float("-inf"), tl.float32), tl.full((), 0.0, tl.float32)
    for at in range(0, V, BLOCK):
        logit = _logits(row, bias, at + tl.arange(0, BLOCK), V, WIDTH, BIAS)
        larger = tl.maximum(M, tl.max(logit, 0))
        z = z * tl.exp(M - larger) + tl.sum(tl.exp(logit - larger), 0)
        M = larger
    return M, z


@triton.jit
def _targets(item, aim, taught_row, taught_M, taught_z, share, V, WIDTH, TAUGHT: tl.constexpr):  # type: ignore[no-untyped-def]
    """The target distribution at these items."""
    target = tl.where(item == aim, 1.0 - share, 0.0)
    if TAUGHT:
        by_teacher = _logits(taught_row, taught_row, item, V, WIDTH, False)
        target += share * (tl.exp(by_teacher - taught_M) / taught_z)
    return target


@triton.jit
def _rows(  # type: ignore[no-untyped-def]  # likewise
    logits, taught, target, bias, seen_bias, items, starts, ends, loss, d_seen, share, taught_bias, V, WIDTH,
    BIAS: tl.constexpr, SEEN: tl.constexpr, TAUGHT: tl.constexpr, TAUGHT_SEEN: tl.constexpr, GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_SEEN: tl.constexpr,
):  # fmt: skip
    """The loss of a row, and in place of its logits their gradient."""
    r = tl.program_id(0).to(tl.int64)
    row, taught_row, aim = logits + r * WIDTH, taught + r * WIDTH, tl.load(target + r)
    start, end = tl.load(starts + r), tl.load(ends + r)
    if SEEN:
        _add_to_seen(row, tl.load(seen_bias), items, start, end, WIDTH, BLOCK_SEEN)
    if TAUGHT_SEEN:
        _add_to_seen(taught_row, taught_bias, items, start, end, WIDTH, BLOCK_SEEN)
    tl.debug_barrier()
    M, z = _largest_and_sum(row, bias, V, WIDTH, BIAS, BLOCK)
    taught_M, taught_z = M, z
    if TAUGHT:
        taught_M, taught_z = _largest_and_sum(taught_row, taught_row, V, WIDTH, False, BLOCK)
    log_p, d_of_seen = tl.full((), 0.0, tl.float32), tl.full((), 0.0, tl.float32)
    if SEEN:
        for at in range(start, end, BLOCK_SEEN):
            item = _seen(items, at + tl.arange(0, BLOCK_SEEN), end, WIDTH)
            p = tl.exp(_logits(row, bias, item, V, WIDTH, BIAS) - M) / z
            p -= _targets(item, aim, taught_row, taught_M, taught_z, share, V, WIDTH, TAUGHT)
            d_of_seen += tl.sum(p, 0)
        tl.debug_barrier()
    for at in range(0, V, BLOCK):
        item = at + tl.arange(0, BLOCK)
        logit = _logits(row, bias, item, V, WIDTH, BIAS) - M
        targets = _targets(item, aim, taught_row, taught_M, taught_z, share, V, WIDTH, TAUGHT)
        log_p += tl.sum(tl.where(item < V, targets * logit, 0.0), 0)
        if GRADIENT:
            gradient = tl.where(aim < 0, 0.0, tl.exp(logit) / z - targets)
            tl.store(row + item, gradient, item < WIDTH)
    tl.store(loss + r, tl.where(aim < 0, 0.0, tl.log(z) - log_p))
    tl.store(d_seen + r, tl.where(aim < 0, 0.0, d_of_seen))


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
    """The op ``summed_cross_entropy``. Logits are kept in the type of products, and read and summed in float32."""
    (R, V), width = (len(hidden), len(weight)), triton.cdiv(len(weight), 16) * 16
    n = max(_ALIVE // width // _ROWS * _ROWS, _ROWS)
    table, loss, d_seen = weight.to(product), hidden.new_empty(R), hidden.new_empty(R)
    taught_table = None if teacher is None else teacher.weight.to(product)
    buffers = hidden.new_empty(1 if teacher is None else 2, min(n, R), width, dtype=product)
    unused = loss  # what the kernel takes and does not read
    padded_bias = unused if bias is None else F.pad(bias, (0, width - V))
    target = target.contiguous()
    items, starts, ends = (target,) * 3 if seen is None else (each.contiguous() for each in seen)
    share, taught_bias = (0.0, 0.0) if teacher is None else (teacher.share, teacher.seen_bias)
    kinds = bias is not None, seen is not None and seen_bias is not None, teacher is not None
    sizes = min(triton.next_power_of_2(V), _WIDEST), _SEEN
    gradients = _Gradients(hidden, weight, table, bias) if needs_grad else None
    for first in range(0, R, n):
        rows = slice(first, first + n)
        block = hidden[rows].to(product)
        logits, taught = buffers[0, : len(block)], buffers[-1, : len(block)]
        torch.mm(block, table.T, out=logits[:, :V])
        if teacher is not None and taught_table is not None:
            torch.mm(teacher.hidden[rows].to(product), taught_table.T, out=taught[:, :V])
        _rows[(len(block),)](
            logits, taught, target[rows], padded_bias, unused if seen_bias is None else seen_bias,
            items, starts[rows], ends[rows], loss[rows], d_seen[rows], share, taught_bias, V, width,
            *kinds, seen is not None and taught_bias != 0.0, needs_grad, *sizes, num_warps=8 if V > 1024 else 4,
        )  # fmt: skip
        if gradients is not None:
            gradients.add(rows, block, logits[:, :V])
    if gradients is None:
        return loss.sum(), None, None, None, None
    by_seen_bias = None if seen_bias is None else d_seen.sum().view_as(seen_bias)
    return loss.sum(), gradients.hidden, gradients.weight, gradients.bias, by_seen_bias


class _Gradients:
    """Of hidden, weight and bias, added up block by block from those of the logits."""

    def __init__(self, hidden: Tensor, weight: Tensor, table: Tensor, bias: Tensor | None):
        self.table = table
        self.hidden, self.weight = torch.empty_like(hidden), torch.zeros_like(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)

    def add(self, rows: slice, block: Tensor, gradient: Tensor) -> None:
        """Add those by the ``gradient`` (r, V) of the logits of some rows, which are ``block`` (r, d)."""
        self.hidden[rows] = gradient @ self.table
        if block.dtype == self.weight.dtype:
            self.weight.addmm_(gradient.T, block)
        else:
            self.weight += gradient.T @ block
        if self.bias is not None:
            self.bias += gradient.sum(0, dtype=self.bias.dtype)
