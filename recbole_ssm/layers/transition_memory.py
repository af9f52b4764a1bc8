"""What is known of transitions from item to item, as numbers that are added to scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recbole_ssm.ops.added import Added
from recbole_ssm.ops.packing import RowItems, at, positions, sequence_index
from recbole_ssm.ops.transitions import SparseRows, check_rows, count_transitions

_RATE = 10.0
"""The weights are the parameter times this: Adam moves all parameters at the same rate, and these go a long way."""

_FIRST_WEIGHT, _DECAY = 1.0, 0.6
"""At first the j-th latest item has the first number times the second to the power of j as weight."""


class Counting(NamedTuple):
    """How transitions count.

    ``C[b, a] = sum_d d^-power N_d[b, a]``, where ``N_d[b, a]`` counts item a exactly d places after b; as evidence
    ``E[b, a] = log(1 + C[b, a] / s) / log(1 + 1 / s)``, which is 1 for a count of 1 (PCTM, RecSys 2026). With
    ``rarity`` C is first divided by how often a comes, to a power.
    """

    window: int
    """The largest distance d."""
    power: float
    smoothing: float
    """s."""
    strongest: int
    """How many of the largest counts of each row are kept."""
    rarity: float = 0.0
    """r: the counts of item a are divided by f to the power of r. f is the sum of column a of C, over the mean of the
    sums that are not 0."""

    def distance_weights(self) -> Tensor:
        """Of the distances 1 to ``window``."""
        return torch.arange(1.0, self.window + 1) ** -self.power


class TransitionMemory(nn.Module):
    """Adds ``sum_j theta_j E[h_j, a]`` to the score of item a, h_j being the j-th latest item.

    The counts of which the evidence E is made are buffers. The weights theta are learned unless ``dropout`` is 1.

    Args:
        n_items: number of items, with the padding item 0.
        n_recent: how many latest items are looked up.
        counting: how transitions count.
        dropout: share of the rows to which nothing is added in training, so that the model learns to do without, too.
            With 1 the weights stay what they are at first.
        scale: in use theta is this times what was learned. In training all other weights come to know the targets, and
            so the memory seems less useful than it is.

    Attributes:
        start: (n_items + 1,) int64, items and counts of row b are ``start[b]:start[b + 1]``.
        items: (n,) int32, ascending in each row.
        counts: (n,) float32.
        pruned: (n_items,) float32, the largest count of each row that was not kept.
        parameter: (n_recent,), theta / 10.
    """

    OF_DATA = ("start", "items", "counts", "pruned")
    """The buffers that hold what was counted."""

    start: Tensor
    items: Tensor
    counts: Tensor
    pruned: Tensor
    evidence: Tensor
    rare: Tensor
    gamma: Tensor

    def __init__(self, n_items: int, n_recent: int, counting: Counting, dropout: float = 0.0, scale: float = 1.0):
        super().__init__()
        self.n_items, self.n_recent, self.counting = n_items, n_recent, counting
        self.dropout, self.scale = dropout, scale
        self.parameter = nn.Parameter(_FIRST_WEIGHT / _RATE * _DECAY ** torch.arange(n_recent))
        self.register_buffer("gamma", counting.distance_weights(), persistent=False)
        for name in self.OF_DATA:
            self.register_buffer(name, None)
        self.register_buffer("evidence", None, persistent=False)
        self.register_buffer("rare", None, persistent=False)
        with torch.device("cpu"):  # also while the sizes of weights are compared on none
            self._keep(SparseRows.of_none(n_items), torch.zeros(n_items))

    def learn(self, tokens: Tensor, cu_seqlens: Tensor) -> None:
        """Count the transitions of whole sequences.

        Args:
            tokens: (T,) int64 items, on the CPU.
            cu_seqlens: (S + 1,) borders of the sequences.
        """
        counts = count_transitions(tokens, cu_seqlens, self.counting.distance_weights(), self.n_items)
        kept = counts.strongest(self.counting.strongest)
        self._keep(kept, counts.largest_but(self.counting.strongest))

    def update(self, tokens: Tensor, cu_seqlens: Tensor, new: Tensor) -> None:
        """Count more transitions: those to the ``new`` (T,) tokens of sequences; see :meth:`learn`.

        Transitions that were not kept before begin at 0.
        """
        before = SparseRows(self.start.cpu(), self.items.long().cpu(), self.counts.cpu())
        weights = self.counting.distance_weights()
        counts = before.plus(count_transitions(tokens, cu_seqlens, weights, self.n_items, new))
        lost = counts.largest_but(self.counting.strongest)
        self._keep(counts.strongest(self.counting.strongest), lost.maximum(self.pruned.cpu()))

    def _keep(self, counts: SparseRows, pruned: Tensor) -> None:
        device = self.parameter.device
        self.start, self.counts = counts.start.to(device), counts.values.to(device)
        self.items, self.pruned = counts.items.int().to(device), pruned.to(device)
        self.rare = self._rarity()
        self.evidence = self._evidence_of(self.counts, self.items)
        self._longest = int(counts.start.diff().max())

    def _rarity(self) -> Tensor:
        """What the counts of each item (n_items,) are multiplied by; see :class:`Counting`."""
        often = torch.zeros_like(self.pruned).index_add(0, self.items, self.counts)
        mean = often.sum() / (often > 0).sum().clamp(min=1)
        return (often / mean).where(often > 0, 1) ** -self.counting.rarity

    def _evidence_of(self, counts: Tensor, items: Tensor) -> Tensor:
        s = self.counting.smoothing
        return torch.log1p(counts * self.rare[items] / s) / math.log1p(1 / s)

    def forward(
        self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, target: Tensor | None = None
    ) -> tuple[Added, ...]:
        """What is added after tokens.

        Args:
            tokens: (T,) item ids; 0 is no item.
            cu_seqlens: (S + 1,) borders of the sequences.
            readout: (R,) the tokens after which items are scored; None for all.
            target: (R,) what comes after these tokens in sequences that were counted, a negative number for nothing:
                what the sequence itself has counted of it and of later targets is left out. None: nothing is.

        Returns:
            Up to two :class:`Added`.
        """
        if self.training and self.dropout >= 1:
            return ()
        place = positions(cu_seqlens, len(tokens))
        rows = at(readout, torch.arange(len(tokens), device=tokens.device))[:, None]
        age = torch.arange(self.n_recent, device=tokens.device)
        there, recent = at(readout, place)[:, None] >= age, (rows - age).clamp(min=0)
        found = [self.after(tokens[recent].where(there, 0))]
        if target is not None:
            to = self._own(tokens, cu_seqlens, readout, target)
            start = (recent * self.counting.window + age.clamp(max=self.counting.window)).where(there, 0)
            end = ((recent + 1) * self.counting.window).where(there, 0)
            found.append(Added(RowItems(to[0], start, end, to[1]), self.theta().expand(start.shape)))
        if self.training and self.dropout:
            kept = torch.rand(len(rows), 1, device=rows.device) >= self.dropout
            found = [each._replace(weight=each.weight * kept) for each in found]
        return tuple(found)

    def theta(self) -> Tensor:
        """The weights (n_recent,), in training or in use."""
        return _RATE * self.parameter * (1.0 if self.training else self.scale)

    def after(self, latest: Tensor) -> Added:
        """What is added after histories whose latest items are ``latest`` (R, n_recent); 0 is no item."""
        to = RowItems(
            self.items, self.start[latest], self.start[latest + 1], self.evidence, self._longest, self.n_items
        )
        return Added(to, self.theta().expand(latest.shape))

    def _own(self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None, target: Tensor) -> tuple[Tensor, Tensor]:
        """What the sequences have themselves counted.

        Args:
            tokens: as in :meth:`forward`.
            cu_seqlens: as in :meth:`forward`.
            readout: as in :meth:`forward`.
            target: as in :meth:`forward`.

        Returns:
            (T W,) items, those up to W places after each token, and what evidence of them is without the sequence's
            own count, less what it is with that. An item that comes more than once is -1 but for the last time.
        """
        W, n = self.counting.window, len(tokens)
        follows = torch.full_like(tokens, -1)
        follows = target if readout is None else follows.index_copy(0, readout, target)
        sequence = sequence_index(cu_seqlens, n).long()
        later = torch.arange(n, device=tokens.device)[:, None] + torch.arange(W, device=tokens.device)
        within = later < cu_seqlens[1:].long()[sequence][:, None]
        item = follows[later.clamp(max=n - 1)]
        item = item.where(within & (item > 0) & (tokens > 0)[:, None], -1)
        none = item < 0
        before = tokens[:, None].expand_as(item)
        own = _sums_of_equals(
            ((sequence[:, None] * self.n_items + before) * self.n_items + item).masked_fill(none, -1).flatten(),
            self.gamma.to(torch.float64).expand_as(item).masked_fill(none, 0).flatten(),
        ).view_as(item)
        item = item.masked_fill(~_last_of_equals(item), -1)
        known, floor = self.count(before, item), self.pruned[before]
        left = (known - own.to(known.dtype)).clamp(min=0)
        left = left.where((left > floor) & (left > 0.5 * self.gamma[-1]), 0)
        change = (self._evidence_of(left, item) - self._evidence_of(known, item)).masked_fill(item < 0, 0)
        return item.flatten(), change.flatten()

    def count(self, before: Tensor, item: Tensor) -> Tensor:
        """The counts of ``item`` after ``before``, int64 of one shape; 0 where nothing is known."""
        return SparseRows(self.start, self.items, self.counts).at(before, item, self._longest)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Take over counts of another number of transitions, too."""
        found = [state_dict.get(prefix + name) for name in self.OF_DATA]
        if all(isinstance(each, Tensor) for each in found):
            start, items, counts, pruned = (each.cpu() for each in found)  # type: ignore[union-attr]
            rows = SparseRows(start, items.long(), counts.float())
            check_rows(rows, self.n_items)
            if pruned.shape != (self.n_items,):
                raise ValueError("pruned must have a number for each item")
            self._keep(rows, pruned.float())
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _sums_of_equals(keys: Tensor, values: Tensor) -> Tensor:
    """For each of the keys (n,) the sum of the values (n,) of all keys equal to it, in a fixed order."""
    ordered, order = keys.sort(dim=0, stable=True)
    sums = torch.nn.functional.pad(values[order].cumsum(0), (1, 0))
    return sums[torch.searchsorted(ordered, keys, right=True)] - sums[torch.searchsorted(ordered, keys)]


def _last_of_equals(items: Tensor) -> Tensor:
    """Whether no equal item comes later in the same row, (n, W) bool."""
    ordered, order = items.sort(dim=1, stable=True)
    last = torch.nn.functional.pad(ordered[:, 1:] != ordered[:, :-1], (0, 1), value=True)
    return torch.zeros_like(last).scatter(1, order, last)
