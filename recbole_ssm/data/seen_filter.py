"""The rule for items that a user has had before, the same for models of every kind.

With ``filter_seen`` such an item is not recommended: a full ranking leaves it out, a sampled one does not draw it, and
a target that is one of them is a miss. RecBole has another rule for general models. It leaves out the history, but
never a target, so that a repeated target is easy to find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.data.dataset import HISTORY_END
from recbole_ssm.data.recbole_loaders import RowPerSample
from recbole_ssm.data.recbole_types import EvalBatch, EvalLoader, Loader, Loaders
from recbole_ssm.model.packed_input import SEEN_ITEMS, SEEN_ROWS
from recbole_ssm.ops.packing import gather_ranges, sequence_index


@dataclass(frozen=True)
class Seen:
    """The items that the users of an evaluation split have had before.

    Attributes:
        items: (T,) all items, user by user.
        start: (R,) where the history of each row of the split begins in ``items``.
        length: (R,) how many items this history has.
        repeated: (R,) whether the target of the row is one of them.
    """

    items: Tensor
    start: Tensor
    length: Tensor
    repeated: Tensor

    def of_row(self, row: int) -> Tensor:
        """The history of a row."""
        return self.items[self.start[row] : self.start[row] + self.length[row]]

    def share_repeated(self) -> float:
        """The share of targets that their users have had before."""
        return self.repeated.double().mean().item() if len(self.repeated) else 0.0


def seen_in_sequences(loaders: Loaders, items: Tensor, user_start: Tensor) -> list[Seen]:
    """The items seen before each sample of a sequential model: all that the user had before the target.

    In every split in order of time, a user's samples for training, validation and testing, in this order, have the
    user's second, third, ... interaction as targets. This is all that is used of the split.

    Args:
        loaders: of training, validation and test data.
        items: (n_interactions,) sorted by user and time.
        user_start: (n_users,) where each user begins in ``items``.

    Returns:
        Those of validation and of test data.
    """
    return _seen(loaders, items, user_start, sequential=True)


def seen_in_splits(loaders: Loaders) -> list[Seen]:
    """The items seen before by users of a model that is not sequential: those of earlier splits."""
    users, items = (torch.cat([columns_of_samples(loader)[column] for loader in loaders]) for column in (0, 1))
    order = users.argsort(stable=True)
    user_start = torch.searchsorted(users[order], torch.arange(loaders[0]._dataset.user_num))
    return _seen(loaders, items[order], user_start, sequential=False)


def seen_in_lists(loaders: Loaders) -> list[Seen]:
    """The items seen before each line of pre-split files: those of its list.

    Args:
        loaders: of training, validation and test data, whose datasets are :class:`recbole_ssm.data.presplit.Histories`.

    Returns:
        Those of validation and of test data.
    """
    found, files = [], loaders[0]._dataset  # the histories of all three
    for loader in loaders[1:]:
        end, (_, targets) = loader._dataset.inter_feat[HISTORY_END], columns_of_samples(loader)
        start = files.history_start[torch.searchsorted(files.history_end, end)]
        places, cu_seqlens = gather_ranges(start, end - start)
        row = sequence_index(cu_seqlens, len(places)).long()
        repeated = torch.zeros(len(targets), dtype=torch.bool)
        repeated[row[files.history[places] == targets[row]]] = True
        found.append(Seen(files.history, start, end - start, repeated))
    return found


def seen_before_places(loaders: Loaders, items: Tensor, user_start: Tensor) -> list[Seen]:
    """The items seen before each row that says where its target is in the histories of all users.

    Args:
        loaders: of training, validation and test data; the datasets of the last two have the column
            :data:`~recbole_ssm.data.dataset.HISTORY_END`.
        items: (n_interactions,) sorted by user and time.
        user_start: (n_users,) where each user begins in ``items``.

    Returns:
        Those of validation and of test data.
    """
    first = _first_places(items, user_start, loaders[0]._dataset.item_num)
    found = []
    for loader in loaders[1:]:
        (users, targets), end = columns_of_samples(loader), loader._dataset.inter_feat[HISTORY_END]
        start = user_start[users]
        found.append(Seen(items, start, end - start, first(users, targets) < end))
    return found


def columns_of_samples(loader: Loader) -> tuple[Tensor, Tensor]:
    """The users and targets of a loader's rows."""
    dataset = loader._dataset
    return dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.iid_field]


def _seen(loaders: Loaders, items: Tensor, user_start: Tensor, *, sequential: bool) -> list[Seen]:
    """Find the seen items of validation and test rows.

    Args:
        loaders: of training, validation and test data.
        items: (T,) all items, user by user, in the order in which they are seen.
        user_start: (n_users,) where each user begins in ``items``.
        sequential: whether a row has seen all that is before its target, and not only the splits before its own.

    Returns:
        Those of validation and of test data.
    """
    n_users = len(user_start)
    first = _first_places(items, user_start, loaders[0]._dataset.item_num)
    before = torch.ones(n_users, dtype=torch.long) if sequential else torch.zeros(n_users, dtype=torch.long)
    found = []
    for loader in loaders:
        users, targets = columns_of_samples(loader)
        start, length = user_start[users], before[users]
        if sequential:
            length = length + _occurrences_before(users)
        found.append(Seen(items, start, length, first(users, targets) < start + length))
        before = before + users.bincount(minlength=n_users)
    return found[1:]


def _first_places(items: Tensor, user_start: Tensor, n_items: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from users (R,) and items (R,) that they have had to the places (R,) where they had them first.

    Args:
        items: (T,) all items, user by user, in the order in which they are seen.
        user_start: (n_users,) where each user begins in ``items``.
        n_items: number of items.

    Returns:
        The function.
    """
    owner = torch.searchsorted(user_start, torch.arange(len(items)), right=True) - 1
    pairs, inverse = (owner * n_items + items).unique(return_inverse=True)
    first = torch.full((len(pairs),), len(items)).scatter_reduce(0, inverse, torch.arange(len(items)), "amin")
    return lambda users, wanted: first[torch.searchsorted(pairs, users * n_items + wanted)]


class SeenFilter:
    """A collate function that adds the whole history of each row to a batch.

    The trainer sets the scores of these items to minus infinity. Items that a model does not read because of
    ``MAX_ITEM_LIST_LENGTH`` are filtered, too, so that all models rank the same items.

    Args:
        collate: the collate function of a full-ranking loader.
        seen: of the split.
        rows: (R,) for each of the loader's rows the row of ``seen`` that has its history.
        keeps_targets: leave the target of a row in the ranking though it is seen, as RecBole does for general models;
            each row has one.
        told: say these items to the model in the batch, too. It may look more closely at what can be recommended.
    """

    def __init__(
        self,
        collate: Callable[[Any], EvalBatch],
        seen: Seen,
        rows: Tensor,
        *,
        keeps_targets: bool = False,
        told: bool = False,
    ):
        self.collate, self.seen, self.rows, self.keeps_targets, self.told = collate, seen, rows, keeps_targets, told

    def __call__(self, index: Any) -> EvalBatch:
        """The batch of the loader's rows at ``index``, with their histories."""
        interaction, _, positive_u, positive_i = self.collate(index)
        rows = self.rows[index]
        found, cu_seqlens = gather_ranges(self.seen.start[rows], self.seen.length[rows])
        history_u, history_i = sequence_index(cu_seqlens, len(found)).long(), self.seen.items[found]
        if self.keeps_targets:
            others = history_i != positive_i[history_u]
            history_u, history_i = history_u[others], history_i[others]
        if self.told:
            interaction.update(Interaction({SEEN_ROWS: history_u, SEEN_ITEMS: history_i}))
        return interaction, (history_u, history_i), positive_u, positive_i


class SeenTargetsMissed:
    """A collate function of sampled evaluation that makes a miss of a target that the user has had before.

    It replaces the target by the padding, item 0, which is never recommended.

    Args:
        collate: the collate function of a loader with candidates.
        seen: of the split.
        first: (U,) the first sample of each of the loader's rows.
        count: (U,) how many samples the row has.
    """

    def __init__(self, collate: Callable[[Any], EvalBatch], seen: Seen, first: Tensor, count: Tensor):
        self.collate, self.seen, self.first, self.count = collate, seen, first, count

    def __call__(self, index: Any) -> EvalBatch:
        """The batch of the loader's rows at ``index``, with seen targets replaced."""
        interaction, row, positive_u, positive_i = self.collate(index)
        rows, _ = gather_ranges(self.first[index], self.count[index])
        return interaction, row, positive_u, positive_i.masked_fill(self.seen.repeated[rows], 0)


def add_seen_filter(loader: EvalLoader, seen: Seen, *, keeps_targets: bool = False, told: bool = False) -> None:
    """Filter seen items in a loader of evaluation data, by full ranking or with candidates.

    Args:
        loader: is changed.
        seen: of its split.
        keeps_targets: see :class:`SeenFilter`; for a loader with a row for each sample, as ``told`` is.
        told: see :class:`SeenFilter`.
    """
    users, _ = columns_of_samples(loader)
    if not len(users):
        return
    if isinstance(loader, FullSortEvalDataLoader) and (loader.is_sequential or isinstance(loader, RowPerSample)):
        rows = torch.arange(len(users))
        loader.collate_fn = SeenFilter(loader.collate_fn, seen, rows, keeps_targets=keeps_targets, told=told)
        return
    if isinstance(loader, NegSampleEvalDataLoader):
        samples = [loader.uid2index[each] for each in loader.uid_list]
        first, end = (torch.tensor([getattr(each, name) for each in samples]) for name in ("start", "stop"))
        loader.collate_fn = SeenTargetsMissed(loader.collate_fn, seen, first, end - first)
    else:  # which has sorted its rows by user
        first = torch.searchsorted(users, torch.as_tensor(loader.uid_list))
        loader.collate_fn = SeenFilter(loader.collate_fn, seen, first)


def _occurrences_before(values: Tensor) -> Tensor:
    """For each element the number of equal ones before it."""
    order = values.argsort(stable=True)
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    before = torch.empty_like(values)
    before[order] = torch.arange(len(values)) - first[inverse[order]]
    return before
