"""``filter_seen``: items of a user's history cannot be recommended, for any model and whatever its loader."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.packing import gather_ranges, sequence_index


class SeenFilter:
    """A collate function that adds the whole history of each sample to what another one returns.

    The trainer sets the scores of these items to minus infinity. The history is whole: what a model does not read
    because of ``MAX_ITEM_LIST_LENGTH`` is filtered all the same, so that all models rank the same items. A target that
    the user has had before is filtered too, and counts as a miss.

    Args:
        collate: the collate function of a full-ranking loader, ``index -> (interaction, None, users, items)``.
        items: all items by user and time.
        start: (R,) where the history of each sample of the loader begins in ``items``.
        length: (R,) how many items it has.
    """

    def __init__(self, collate, items: Tensor, start: Tensor, length: Tensor):
        self.collate, self.items, self.start, self.length = collate, items, start, length

    def __call__(self, index):
        interaction, _, positive_u, positive_i = self.collate(index)
        rows, cu_seqlens = gather_ranges(self.start[index], self.length[index])
        history_u = sequence_index(cu_seqlens, len(rows)).long()
        return interaction, (history_u, self.items[rows]), positive_u, positive_i


def add_seen_filter(loaders, items: Tensor, user_start: Tensor) -> None:
    """Filter seen items in the evaluation loaders.

    Works on what every split in order of time has in common: a user's samples for training, validation and testing, in
    this order, have the user's second, third, ... interaction as targets.

    Args:
        loaders: training, validation and test loader; the last two rank all items.
        items: all items by user and time.
        user_start: (n_users,) where each user begins in ``items``.
    """
    seen = torch.ones_like(user_start)
    for number, loader in enumerate(loaders):
        dataset = loader._dataset
        users = dataset.inter_feat[dataset.uid_field]
        if number > 0:
            length = seen[users] + _occurrences_before(users)
            loader.collate_fn = SeenFilter(loader.collate_fn, items, user_start[users], length)
        seen += users.bincount(minlength=len(seen))


def filter_lists(loaders) -> None:
    """Filter the items of each line's list in the evaluation loaders of files that are split already.

    Args:
        loaders: training, validation and test loader, of :class:`recbole_ssm.data.presplit.Histories`.
    """
    done = 0
    for number, loader in enumerate(loaders):
        dataset = loader._dataset
        rows = slice(done, done := done + len(dataset))
        start, end = dataset.history_start[rows], dataset.history_end[rows]
        if number > 0:
            loader.collate_fn = SeenFilter(loader.collate_fn, dataset.history, start, end - start)


def _occurrences_before(values: Tensor) -> Tensor:
    """For each element, how many equal ones stand before it."""
    order = values.argsort(stable=True)
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    before = torch.empty_like(values)
    before[order] = torch.arange(len(values)) - first[inverse[order]]
    return before
