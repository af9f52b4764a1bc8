"""How often one item follows another in a packed stream: sparse counts, and the scores that they give to all items."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recbole_ssm.ops.packing import check_each, check_ids, check_shapes, sequence_index


class SparseRows(NamedTuple):
    """A matrix (n_items, n_items) of float32 that has a value where item a has followed item b, else 0 (CSR)."""

    start: Tensor
    """(n_items + 1,) int64: row b is ``start[b]:start[b + 1]`` of the other two."""
    items: Tensor
    """(n,) int64, the columns a, ascending in each row."""
    values: Tensor
    """(n,) float32."""

    @classmethod
    def of_none(cls, n_items: int) -> SparseRows:
        """Nothing has followed any item."""
        return cls(torch.zeros(n_items + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0))

    def plus(self, other: SparseRows) -> SparseRows:
        """The sum of two matrices."""
        return _from_scipy(_to_scipy(self) + _to_scipy(other))

    def of_row(self) -> Tensor:
        """The row (n,) of each value."""
        return torch.arange(len(self.start) - 1).repeat_interleave(self.start.diff())

    def sums(self) -> Tensor:
        """The sum (n_items,) of each row."""
        return torch.zeros(len(self.start) - 1).index_add(0, self.of_row(), self.values)

    def strongest(self, most: int) -> SparseRows:
        """The ``most`` largest values of each row; of equal ones those of the lower columns."""
        length = self.start.diff()
        order, place = self._by_value()
        kept = order[place < most].sort().values
        start = torch.cat([self.start.new_zeros(1), length.clamp(max=most).cumsum(0)])
        return SparseRows(start, self.items[kept], self.values[kept])

    def largest_but(self, most: int) -> Tensor:
        """The largest value (n_items,) of each row that is not among its ``most`` largest; 0 where all are."""
        order, place = self._by_value()
        best = order[place == most]
        return torch.zeros(len(self.start) - 1).index_put((self.of_row()[best],), self.values[best])

    def at(self, row: Tensor, column: Tensor, longest: int | None = None) -> Tensor:
        """Some values, by bisection.

        Args:
            row: int64, of any shape.
            column: of the same shape.
            longest: how many values a row has at most; None to count.

        Returns:
            A value for each, 0 where the matrix has none.
        """
        low, end = self.start[row], self.start[row + 1]
        if not len(self.items):
            return torch.zeros_like(column, dtype=self.values.dtype)
        longest = int(self.start.diff().max()) if longest is None else longest
        high, last = end, len(self.items) - 1
        for _ in range(longest.bit_length()):
            middle = (low + high) // 2
            less = (self.items[middle.clamp(max=last)] < column) & (low < high)
            low, high = (middle + 1).where(less, low), high.where(less, middle)
        low = low.clamp(max=last)
        return self.values[low].where((low < end) & (self.items[low] == column), 0)

    def _by_value(self) -> tuple[Tensor, Tensor]:
        """The values' places, row by row, and in each row the largest value first; and their ranks in their rows."""
        row = self.of_row()
        order = torch.from_numpy(np.lexsort((-self.values.numpy(), row.numpy())))  # stable
        return order, torch.arange(len(row)) - self.start[:-1].repeat_interleave(self.start.diff())


def check_rows(rows: SparseRows, n_items: int) -> None:
    """Raise ValueError unless these are rows and columns of so many items."""
    start, items, values = rows
    if start.dtype != torch.int64 or items.dtype != torch.int64 or values.dtype != torch.float32:
        raise ValueError("rows must have int64 borders and items, and float32 values")
    check_shapes(start, len(items), values=(values, (len(items),)))
    if len(start) != n_items + 1:
        raise ValueError(f"rows must be those of {n_items} items, but are of {len(start) - 1}")
    check_ids("columns", items, 0, n_items)
    if not bool(values.isfinite().all()):
        raise ValueError("values must be finite")


def count_transitions(
    tokens: Tensor, cu_seqlens: Tensor, weights: Tensor, n_items: int, new: Tensor | None = None
) -> SparseRows:
    """``C[b, a] = sum_d weights[d - 1] N_d[b, a]``, where ``N_d`` counts item a exactly d places after item b.

    Args:
        tokens: (T,) int64, ids of items from 0 to ``n_items - 1``; on the CPU.
        cu_seqlens: (S + 1,) borders; pairs do not cross them.
        weights: (W,) of the distances 1 to W.
        n_items: number of rows and columns.
        new: (T,) bool, the tokens a that count as coming after others; None for all.

    Returns:
        C; its time is O(T W).

    Raises:
        ValueError: the borders are not those of the tokens, or an id is not below ``n_items``.
    """
    check_shapes(cu_seqlens, len(tokens))
    check_each(new=(new, tokens.shape))
    check_ids("tokens", tokens, 0, n_items)
    ids, sequence = tokens.numpy(), sequence_index(cu_seqlens, len(tokens)).numpy()
    total = sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    for distance, weight in enumerate(weights.tolist(), 1):
        if distance >= len(ids):
            break
        together = sequence[distance:] == sequence[:-distance]
        if new is not None:
            together &= new.numpy()[distance:]
        before, after = ids[:-distance][together], ids[distance:][together]
        values = np.full(len(before), weight, dtype=np.float32)
        total = total + sparse.csr_matrix((values, (before, after)), shape=total.shape)
    return _from_scipy(total)


def _to_scipy(rows: SparseRows) -> Any:
    n_items = len(rows.start) - 1
    parts = tuple(each.cpu().numpy() for each in (rows.values, rows.items, rows.start))
    return sparse.csr_matrix(parts, shape=(n_items, n_items))


def _from_scipy(matrix: Any) -> SparseRows:
    matrix.sort_indices()
    start, items = (torch.from_numpy(each.astype(np.int64)) for each in (matrix.indptr, matrix.indices))
    return SparseRows(start, items, torch.from_numpy(matrix.data))


def sum_rows(rows: SparseRows, tokens: Tensor, weights: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``y[s, a] = sum over the tokens t of sequence s of weights[t] rows[tokens[t], a]``.

    Args:
        rows: the matrix.
        tokens: (T,) int64, whose rows are added.
        weights: (T,).
        cu_seqlens: (S + 1,) borders.

    Returns:
        y (S, n_items) float32, on the device of ``tokens``.
    """
    matrix = _to_scipy(rows)
    history = sparse.csr_matrix(
        tuple(each.cpu().numpy() for each in (weights.float(), tokens, cu_seqlens)),
        shape=(len(cu_seqlens) - 1, matrix.shape[0]),
    )
    return torch.from_numpy((history @ matrix).toarray()).to(tokens.device)
