"""Numbers that are added to the scores of some items of each row: of seen items, or of those that a memory names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_ssm.ops.packing import RowEntries, RowItems, check_each
from recbole_ssm.ops.values import demand, on_host


class Added(NamedTuple):
    """Adds ``weight[r, g] * value`` to the score of each item of group g of row r. Additions to one score add up."""

    to: RowItems
    """The items of R rows, in G groups, and their values."""
    weight: Tensor
    """(R, G). It gets a gradient; the values get none."""

    def check(self, rows: int, n_items: int) -> None:
        """Raise ValueError unless it is for so many rows; on a GPU let that assert that it is for so many items."""
        items, start, end, values, _, below = self.to
        shape = rows, start.shape[-1]
        check_each(
            start_of_added_items=(start, shape),
            end_of_added_items=(end, shape),
            weight_of_added_items=(self.weight, shape),
            value_of_added_items=(values, items.shape),
        )
        if not on_host(items) and (below is None or below > n_items):  # on a CPU what reads them refuses others
            within = (start >= 0).all() & (end <= len(items)).all()
            demand(within & (items < n_items).all(), "added has ranges beyond its items, or unknown items")

    def like(self, other: Tensor) -> Added:
        """The same with weights and values of the number type of another tensor, on its device, without gradients."""
        values = None if self.to.values is None else self.to.values.to(other)
        items, start, end = (tensor.to(other.device) for tensor in (self.to.items, self.to.start, self.to.end))
        to = RowItems(items, start, end, values, self.to.longest, self.to.below)
        return Added(to, self.weight.detach().to(other))

    def times(self, share: float) -> Added:
        """The same with other weights."""
        return self._replace(weight=share * self.weight)

    def add_to(self, scores: Tensor) -> None:
        """Add to scores (R, V), in place; a GPU is not waited for if :attr:`RowItems.longest` is known."""
        if on_host(scores) or self.to.longest is None:
            self.add_to_block(scores, slice(None))
        elif len(self.to.items):
            self._add_by_groups(scores, self.to.longest)

    def _add_by_groups(self, scores: Tensor, longest: int) -> None:
        """In shapes that do not depend on where groups end."""
        items, start, end, values = self.to[:4]
        for group in range(start.shape[1]):
            place = start[:, group, None] + torch.arange(longest, device=start.device)
            there = place < end[:, group, None]
            place = place.where(there, 0)
            item, amount = items[place].long(), self.weight[:, group, None].expand(place.shape)
            amount = amount if values is None else amount * values[place]
            kept = there & (item >= 0)
            scores.scatter_add_(1, item.where(kept, 0), amount.where(kept, 0).to(scores.dtype))

    def add_to_block(self, scores: Tensor, block: slice) -> RowEntries:
        """Add to scores (r, V) of a block of rows, in place.

        Args:
            scores: of the rows of ``block``, changed in place.
            block: the rows.

        Returns:
            What was added to.
        """
        entries = self.to.of_rows(block)
        amount = self.weight[block].reshape(-1)[entries.place]
        amount = amount if entries.values is None else amount * entries.values
        scores.index_put_((entries.row, entries.item), amount.to(scores.dtype), accumulate=True)
        return entries

    def named(self) -> tuple[Tensor, Tensor]:
        """The rows (m,) and items (m,) of which the scores are added to."""
        entries = self.to.of_rows()
        return entries.row, entries.item

    def at(self, rows: Tensor, items: Tensor) -> Tensor:
        """What is added to the scores of items.

        Args:
            rows: (R,) int64, a row for each column of ``items``.
            items: (..., R) int64, 0 or more.

        Returns:
            (..., R).
        """
        n, entries = items.max() + 1, self.to.of_rows()
        wanted = rows * n + items
        keys = wanted.flatten().sort().values
        key = torch.where(entries.item < n, entries.row * n + entries.item, -1)
        place = torch.searchsorted(keys, key).clamp(max=len(keys) - 1)
        amount = self.weight.reshape(-1)[entries.place] * (keys[place] == key)
        amount = amount if entries.values is None else amount * entries.values
        return amount.new_zeros(len(keys)).index_add(0, place, amount)[torch.searchsorted(keys, wanted)]


class AddedWhere(NamedTuple):
    """Adds a number of each row to the scores of the items that are marked."""

    marked: Tensor
    """(R, V) bool."""
    weight: Tensor
    """(R, 1)."""

    def add_to(self, scores: Tensor) -> None:
        """Add to scores (R, V), in place."""
        scores += self.weight * self.marked

    def at(self, rows: Tensor, items: Tensor) -> Tensor:
        """As :meth:`Added.at`."""
        return self.weight[rows, 0] * self.marked[rows, items]

    def named(self) -> tuple[Tensor, Tensor]:
        """As :meth:`Added.named`."""
        row, item = self.marked.nonzero(as_tuple=True)
        return row, item


def check_added(added: Sequence[Added], rows: int, n_items: int) -> None:
    """Raise ValueError unless all of them are for so many rows and items; see :meth:`Added.check`."""
    for each in added:
        each.check(rows, n_items)
