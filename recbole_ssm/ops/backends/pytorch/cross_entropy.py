"""Softmax cross-entropy over a catalogue, a block of rows at a time: the matrix of all logits never exists.

With logits l of a row, ``u = exp(l - max l)`` and z the sum of u, the loss is ``log z + max l - p . l``. Here p is 1 at
the target; or it is ``1 - share`` there, plus ``share`` times a teacher's softmax. The gradient with respect to l is
``u / z - p``, and is taken while u is at hand (as in Liger Kernel and in arXiv 2411.09009).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_ssm.ops.added import Added
from recbole_ssm.ops.packing import RowEntries
from recbole_ssm.ops.precision import HALF
from recbole_ssm.ops.teacher import Teacher

_CACHED, _ALIVE = 1 << 18, 1 << 26
"""Logits of a block: few enough for a CPU's second-level cache where rows allow it, and never more than the second
number; as many as that elsewhere, where each block costs the time of a dozen launches."""


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
    """The op ``summed_cross_entropy``."""
    problem = _Problem(hidden, weight, bias, target, added, teacher, product)
    gradients = _Gradients(problem) if needs_grad else None
    total = hidden.new_zeros(())
    for block in problem.blocks():
        (logits, entries), taught = problem.logits(block), problem.taught(block)
        expected = problem.share_of_target * logits.gather(1, block.target[:, None])
        if taught is not None:
            expected += torch.linalg.vecdot(taught, logits)[:, None]
        largest = logits.amax(1, keepdim=True)
        u = logits.sub_(largest).exp_()
        z = u.sum(1, keepdim=True)
        total += (z.log() + largest - expected).masked_fill_(~block.counts[:, None], 0.0).sum()
        if gradients is not None:
            gradients.add(block, u, z, taught, entries)
    return (total, *[None] * (3 + len(added))) if gradients is None else (total, *gradients.finished())


def _rows_per_block(n_items: int, device: torch.device) -> int:
    """Fewer than 64 rows make products of matrices slow, fewer than 16 very slow."""
    most = _ALIVE // n_items
    return max(_CACHED // n_items, min(64, most), 16) if device.type == "cpu" else max(most, 16)


class _Block(NamedTuple):
    """Some rows of the problem."""

    rows: slice
    hidden: Tensor
    target: Tensor
    """0 where the row does not count."""
    counts: Tensor
    """(R,) bool."""


class _Problem:
    """The arguments of :func:`cross_entropy`, and the tables as matrix products take them."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        added: tuple[Added, ...],
        teacher: Teacher | None,
        product: torch.dtype,
    ):
        self.hidden, self.weight, self.bias, self.target = hidden, weight, bias, target
        self.added, self.teacher, self.product = added, teacher, product
        self.table = weight.to(product)  # (V, d)
        self.columns = self.table.T.contiguous()  # (d, V)
        self.taught_columns = None if teacher is None else teacher.weight.to(product).T.contiguous()
        self.share_of_target = 1.0 if teacher is None else 1.0 - teacher.share  # what the teacher leaves

    def blocks(self) -> Iterator[_Block]:
        """Yield all rows, a block at a time."""
        n = _rows_per_block(len(self.weight), self.weight.device)
        for start in range(0, len(self.hidden), n):
            rows = slice(start, start + n)
            target = self.target[rows]
            yield _Block(rows, self.hidden[rows], target.clamp(min=0), target >= 0)

    def logits(self, block: _Block) -> tuple[Tensor, list[RowEntries]]:
        """(R, V), and what was added to them."""
        logits = (block.hidden.to(self.product) @ self.columns).to(block.hidden.dtype)
        if self.bias is not None:
            logits += self.bias
        return logits, [each.add_to_block(logits, block.rows) for each in self.added]

    def taught(self, block: _Block) -> Tensor | None:
        """The teacher's softmax times its share, (R, V)."""
        if self.teacher is None or self.taught_columns is None:
            return None
        taught = (self.teacher.hidden[block.rows].to(self.product) @ self.taught_columns).to(block.hidden.dtype)
        for each in self.teacher.added:
            each.add_to_block(taught, block.rows)
        return taught.softmax(1).mul_(self.teacher.share)


class _Gradients:
    """Of hidden, weight, bias and what is added, block by block.

    The softmax u / z is never formed: its rows are scaled where they are narrow, before and after the products. In half
    precision, which would not hold z times the teacher's softmax, it is.
    """

    def __init__(self, problem: _Problem):
        self.problem = problem
        self.hidden = torch.empty_like(problem.hidden)
        self.columns = torch.zeros_like(problem.weight.T, memory_format=torch.contiguous_format)
        self.bias = None if problem.bias is None else torch.zeros_like(problem.bias)
        self.added = [torch.empty_like(each.weight) for each in problem.added]

    def add(self, block: _Block, u: Tensor, z: Tensor, taught: Tensor | None, entries: list[RowEntries]) -> None:
        """Add those of a block; u is overwritten."""
        problem, dtype = self.problem, block.hidden.dtype
        scale = block.counts[:, None] / z
        if taught is not None and problem.product in HALF:
            u.div_(z).sub_(taught)
            scale = block.counts[:, None].to(dtype)
        elif taught is not None:
            u.addcmul_(taught, z, value=-1.0)
        if self.bias is not None:
            self.bias += scale[:, 0] @ u
        for gradient, (row, place, item, values) in zip(self.added, entries, strict=True):
            is_target = item == problem.target[block.rows][row]
            of_entries = u[row, item] * scale[row, 0] - is_target.to(dtype) * problem.share_of_target
            of_entries = of_entries if values is None else of_entries * values
            gradient[block.rows] = _sums(of_entries, place, gradient[block.rows])
        u = u.to(problem.product)
        at_target = problem.share_of_target * problem.weight[block.target] * block.counts[:, None]
        self.hidden[block.rows] = (u @ problem.table) * scale - at_target
        scaled = (block.hidden * scale).to(problem.product).T
        if problem.product == problem.weight.dtype:
            self.columns.addmm_(scaled, u)
        else:
            self.columns += scaled @ u

    def finished(self) -> tuple[Tensor | None, ...]:
        """With what the targets take from the table and the bias."""
        problem, share = self.problem, self.problem.share_of_target
        counts, target = problem.target >= 0, problem.target.clamp(min=0)
        weight = self.columns.T.contiguous().index_add_(0, target, problem.hidden * counts[:, None], alpha=-share)
        if self.bias is not None:
            self.bias.index_add_(0, target, counts.to(self.bias.dtype), alpha=-share)
        return self.hidden, weight, self.bias, *self.added


def _sums(values: Tensor, place: Tensor, like: Tensor) -> Tensor:
    """Sums of the values (m,) of each place (m,), which ascend, as a tensor of another's shape."""
    lengths = torch.bincount(place, minlength=like.numel())
    return torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True).view_as(like)
