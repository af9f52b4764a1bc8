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

from recbole_ssm.ops.added import Added
from recbole_ssm.ops.backends.layout import contiguous
from recbole_ssm.ops.teacher import Teacher

_ALIVE = 1 << 25
"""Logits of a block: enough to keep a GPU busy, and 128 MiB in float32."""

_ROWS = 16
"""Blocks have a multiple of so many rows, so that all begin at aligned addresses, for which one kernel is compiled."""

_WIDEST = 4096
"""Logits of a row that a program reads at once."""

_ADDED = 128
"""Additions to a row that it makes at once."""


@triton.jit
def _items(items, place, end, NONE):  # type: ignore[no-untyped-def]  # in Triton's language, whose pointers have no types
    """The items at these places; NONE, which no item is, for those that are not there."""
    item = tl.load(items + place, place < end, -1)
    return tl.where(item < 0, NONE, item)


@triton.jit
def _add(  # type: ignore[no-untyped-def]  # likewise
    logits, items, values, starts, ends, weights, G, WIDTH, VALUES: tl.constexpr, BLOCK: tl.constexpr
):
    """Adds to the logits of a row, group by group: only within a group all items are different."""
    r = tl.program_id(0).to(tl.int64)
    row = logits + r * WIDTH
    for g in range(r * G, (r + 1) * G):
        end, weight = tl.load(ends + g), tl.load(weights + g)
        for at in range(tl.load(starts + g), end, BLOCK):
            place = at + tl.arange(0, BLOCK)
            item = _items(items, place, end, WIDTH)
            amount = weight
            if VALUES:
                amount *= tl.load(values + place, place < end, 0.0)
            logit = tl.load(row + item, item < WIDTH, 0.0).to(tl.float32)
            tl.store(row + item, logit + amount, item < WIDTH)
        tl.debug_barrier()


@triton.jit
def _by_weights(  # type: ignore[no-untyped-def]  # likewise
    gradients, items, values, starts, ends, d_weights, G, WIDTH, VALUES: tl.constexpr, BLOCK: tl.constexpr
):
    """The gradient of the weight of one group of a row, by the gradients of the row's logits."""
    r, g = tl.program_id(0).to(tl.int64), tl.program_id(0).to(tl.int64) * G + tl.program_id(1)
    end, total = tl.load(ends + g), tl.full((), 0.0, tl.float32)
    for at in range(tl.load(starts + g), end, BLOCK):
        place = at + tl.arange(0, BLOCK)
        item = _items(items, place, end, WIDTH)
        gradient = tl.load(gradients + r * WIDTH + item, item < WIDTH, 0.0).to(tl.float32)
        if VALUES:
            gradient *= tl.load(values + place, place < end, 0.0)
        total += tl.sum(gradient, 0)
    tl.store(d_weights + g, total)


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
    logits, taught, target, bias, loss, share, V, WIDTH,
    BIAS: tl.constexpr, TAUGHT: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The loss of a row, and in place of its logits their gradient."""
    r = tl.program_id(0).to(tl.int64)
    row, taught_row, aim = logits + r * WIDTH, taught + r * WIDTH, tl.load(target + r)
    M, z = _largest_and_sum(row, bias, V, WIDTH, BIAS, BLOCK)
    taught_M, taught_z = M, z
    if TAUGHT:
        taught_M, taught_z = _largest_and_sum(taught_row, taught_row, V, WIDTH, False, BLOCK)
    log_p = tl.full((), 0.0, tl.float32)
    for at in range(0, V, BLOCK):
        item = at + tl.arange(0, BLOCK)
        logit = _logits(row, bias, item, V, WIDTH, BIAS) - M
        targets = _targets(item, aim, taught_row, taught_M, taught_z, share, V, WIDTH, TAUGHT)
        log_p += tl.sum(tl.where(item < V, targets * logit, 0.0), 0)
        if GRADIENT:
            gradient = tl.where(aim < 0, 0.0, tl.exp(logit) / z - targets)
            tl.store(row + item, gradient, item < WIDTH)
    tl.store(loss + r, tl.where(aim < 0, 0.0, tl.log(z) - log_p))


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
    """The op ``summed_cross_entropy``.

    Logits are kept in the type of products, and read and summed in float32; in float32 where something is added to
    them, which would be rounded each time.
    """
    (R, V), width = (len(hidden), len(weight)), triton.cdiv(len(weight), 16) * 16
    n = max(_ALIVE // width // _ROWS * _ROWS, _ROWS)
    table, loss = weight.to(product), hidden.new_empty(R)
    taught_table = None if teacher is None else teacher.weight.to(product)
    padded_bias = loss if bias is None else F.pad(bias, (0, width - V))  # what the kernel does not read without one
    target = target.contiguous()
    lists, taught_lists = _Lists(added), _Lists(() if teacher is None else teacher.added)
    kept = torch.float32 if lists.lists or taught_lists.lists else product
    buffers = hidden.new_empty(1 if teacher is None else 2, min(n, R), width, dtype=kept)
    kinds = bias is not None, teacher is not None, needs_grad
    gradients = _Gradients(hidden, weight, table, bias, added) if needs_grad else None
    for first in range(0, R, n):
        rows = slice(first, first + n)
        block = hidden[rows].to(product)
        logits, taught = buffers[0, : len(block)], buffers[-1, : len(block)]
        _multiply(block, table, logits[:, :V])
        lists.add(rows, logits)
        if teacher is not None and taught_table is not None:
            _multiply(teacher.hidden[rows].to(product), taught_table, taught[:, :V])
            taught_lists.add(rows, taught)
        _rows[(len(block),)](
            logits, taught, target[rows], padded_bias, loss[rows], 0.0 if teacher is None else teacher.share, V, width,
            *kinds, min(triton.next_power_of_2(V), _WIDEST), num_warps=8 if V > 1024 else 4,
        )  # fmt: skip
        if gradients is not None:
            gradients.add(rows, block, logits[:, :V])
            lists.by_weights(rows, logits, gradients.added)
    if gradients is None:
        return loss.sum(), *[None] * (3 + len(added))
    return loss.sum(), gradients.hidden, gradients.weight, gradients.bias, *gradients.added


def _multiply(block: Tensor, table: Tensor, logits: Tensor) -> None:
    """Write the logits (r, V) of rows (r, d), in any type."""
    if logits.dtype == table.dtype:
        torch.mm(block, table.T, out=logits)
    else:
        logits.copy_(block @ table.T)


class _Lists:
    """What is added, in memory as the kernels read it."""

    def __init__(self, added: tuple[Added, ...]):
        self.lists = []
        for to, weight in added:
            start, end, weights = to.start.contiguous(), to.end.contiguous(), weight.contiguous()
            self.lists.append((to.items.contiguous(), start, end, weights, contiguous(to.values)))

    def add(self, rows: slice, logits: Tensor) -> None:
        """Add to the logits (r, width) of some rows."""
        for items, start, end, weight, values in self.lists:
            given = items, items if values is None else values, start[rows], end[rows], weight[rows]
            sizes = start.shape[1], logits.shape[1], values is not None, _ADDED
            _add[(len(logits),)](logits, *given, *sizes, num_warps=4)

    def by_weights(self, rows: slice, gradients: Tensor, d_weights: list[Tensor]) -> None:
        """Write the gradients of the weights, given those (r, width) of the logits of some rows."""
        for (items, start, end, _, values), d_weight in zip(self.lists, d_weights, strict=True):
            given = items, items if values is None else values, start[rows], end[rows], d_weight[rows]
            sizes = start.shape[1], gradients.shape[1], values is not None, _ADDED
            _by_weights[(len(gradients), start.shape[1])](gradients, *given, *sizes, num_warps=4)


class _Gradients:
    """Of hidden, weight and bias, added up block by block from those of the logits; and room for those of weights."""

    def __init__(self, hidden: Tensor, weight: Tensor, table: Tensor, bias: Tensor | None, added: tuple[Added, ...]):
        self.table = table
        self.hidden, self.weight = torch.empty_like(hidden), torch.zeros_like(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)
        self.added = [torch.empty_like(each.weight, memory_format=torch.contiguous_format) for each in added]

    def add(self, rows: slice, block: Tensor, gradient: Tensor) -> None:
        """Add those by the ``gradient`` (r, V) of the logits of some rows, which are ``block`` (r, d)."""
        factor = gradient.to(block.dtype)
        self.hidden[rows] = factor @ self.table
        if block.dtype == self.weight.dtype:
            self.weight.addmm_(factor.T, block)
        else:
            self.weight += factor.T @ block
        if self.bias is not None:
            self.bias += gradient.sum(0, dtype=self.bias.dtype)
