"""The global temporal split: one border in time for all users.

It is that of "Time to Split" (Gusak et al., 2025, arXiv 2507.16289). Up to the border everything may be trained on.
Tested are items after it, each with all that the user had before. So the input of a test may hold items after the
border, but no training sample and no training target does. As there, users who come after the border only are tested,
too, and so are items that nobody had before it: no model can learn these, and they count as misses.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_ssm.config.splits import TemporalSplit
from recbole_ssm.data.dataset import HISTORY_END
from recbole_ssm.data.recbole_datasets import as_kind
from recbole_ssm.data.recbole_types import Dataset, SequentialDataset
from recbole_ssm.errors import InputError

_FEW = 10
"""Of fewer users nothing can be said about what is usual."""


class Borders(NamedTuple):
    """Points in time; what has the very time of a border is before it."""

    training: float
    """Where the training ends."""
    test: float
    """Where the test begins; without validation that is the same."""


def find_borders(times: NDArray[np.float64], split: TemporalSplit) -> Borders:
    """The borders of a split.

    Args:
        times: (n_interactions,) of all users, in any order.
        split: from :attr:`recbole_ssm.config.Config.temporal`.

    Returns:
        The borders. A quantile between two times is interpolated.
    """
    test = float(np.quantile(times, split.quantile))
    if split.validation is None:
        return Borders(test, test)
    return Borders(float(np.quantile(times[times <= test], split.validation)), test)


class Interactions(NamedTuple):
    """Columns (n_interactions,) of a loaded dataset: numbers of users and items, and exact times."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.float64]


class SplitInTime(Dataset):
    """Mixed into a loaded dataset of any kind, in exact order of time: :meth:`build` makes this split.

    The rows of a part are in the order of users, and those of a user in the order of time. Validation and test are the
    same for datasets of every kind. Their column :data:`~recbole_ssm.data.dataset.HISTORY_END` is the place of a row's
    target in the histories of all users, one after another.
    """

    def build(self) -> list[Dataset]:
        """Split as ``eval_args`` says.

        Returns:
            The parts of training, validation and test, of the class without this mixin.

        Raises:
            InputError: the times say nothing about the order of interactions of different users, or a part is empty.
        """
        split = self.config.temporal
        assert split is not None
        columns = (self.inter_feat[field].to_numpy() for field in (self.uid_field, self.iid_field, self.time_field))
        given = Interactions(*columns)
        check_times(self.dataset_name, self.time_field, given)
        borders = find_borders(given.times, split)
        self._change_feat_format()
        self._drop_unused_col()
        parts = self._parts(given, borders, split.target)
        self._check_parts(parts, split)
        self._tell(parts, given, borders)
        return parts

    def _parts(self, given: Interactions, borders: Borders, target: str) -> list[Dataset]:
        trained, before_test, of_user = (
            np.bincount(given.users[given.times <= border], minlength=self.user_num) for border in (*borders, np.inf)
        )
        first = 1  # a user's first interaction is no sample of a sequential model
        if not isinstance(self, SequentialDataset):
            self.inter_feat.sort(by=[self.uid_field, self.time_field])
            first = 0
        user = self.inter_feat[self.uid_field].numpy()
        place = first + np.arange(len(user)) - np.searchsorted(user, user)
        start = np.cumsum(of_user) - of_user

        def held_out(begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
            wanted = (place >= np.maximum(begin, 1)[user]) & (place < end[user])
            return np.flatnonzero(wanted & (place == end[user] - 1) if target == "last" else wanted)

        parts = [self._part(np.flatnonzero(place < trained[user]))]
        for rows in (held_out(trained, before_test), held_out(before_test, of_user)):
            parts.append(self._part(rows))
            parts[-1].inter_feat[HISTORY_END] = torch.from_numpy((start[user] + place)[rows])
        return parts

    def _part(self, rows: NDArray[np.int64]) -> Dataset:
        part: Dataset = self.copy(self.inter_feat[torch.from_numpy(rows)])
        return as_kind(type(self).__mro__[2], part)

    def _check_parts(self, parts: list[Dataset], split: TemporalSplit) -> None:
        needed = zip(("training", "validation", "test"), (True, split.validation is not None, True), strict=True)
        for part, (name, is_needed) in zip(parts, needed, strict=True):
            if is_needed and not len(part):
                raise InputError(
                    f"dataset {self.dataset_name!r}: eval_args: split: temporal leaves no sample for {name}; choose "
                    f"another quantile than {split.quantile:g}, or another validation than {split.validation}"
                )

    def _tell(self, parts: list[Dataset], given: Interactions, borders: Borders) -> None:
        """Say where the borders are, and what no model can know."""
        trained = given.times <= borders.training
        has_items = np.bincount(given.items[trained], minlength=self.item_num) > 0
        has_user = np.bincount(given.users[trained], minlength=self.user_num) > 0
        users, items = (parts[2].inter_feat[field].numpy() for field in (self.uid_field, self.iid_field))
        tested = np.unique(users)
        alone = len(np.unique(given.users[given.times > borders.test])) - len(tested)
        at_border = int((given.times == borders.test).sum())
        validated = f"validated on {len(parts[1]):,} items up to {borders.test:.12g}, " if len(parts[1]) else ""
        getLogger().info(
            f"temporal split: trained on {trained.sum():,} interactions up to {self.time_field} "
            f"{borders.training:.12g}, {validated}tested on {len(parts[2]):,} items of {len(tested):,} users after "
            f"{borders.test:.12g}; {at_border:,} interactions have this very time and are before the test"
        )
        getLogger().info(
            f"temporal split: {(~has_items[items]).sum():,} test items are not in the training, and so are misses; "
            f"{(~has_user[tested]).sum():,} test users are not; {alone:,} users are not tested, since their only "
            "interaction is after the border"
        )


def check_times(dataset: str, field: str, given: Interactions) -> None:
    """Check that times are points in time, and not places in a history or in the file.

    Args:
        dataset: its name.
        field: the name of the column of times.
        given: all interactions.

    Raises:
        InputError: most users begin at the same time, or no two users are there at the same time.
    """
    order = np.lexsort((given.times, given.users))
    why, equal = judge_times(given.users[order], given.times[order], field)
    if why is not None:
        raise InputError(
            f"dataset {dataset!r} cannot be split in time: {why}; {field} must be points in time that all users share; "
            "take another TIME_FIELD or another split"
        )
    if equal > 0.1:
        getLogger().warning(
            f"{equal:.0%} of neighbouring interactions of a user have the same {field}: their order, and so which "
            "item is last, is that of the file"
        )


def judge_times(users: NDArray[Any], times: NDArray[np.float64], field: str) -> tuple[str | None, float]:
    """Tell points in time from places in a history or in the file.

    Args:
        users: (R,) numbers of users, ascending, R at least 1.
        times: (R,) ascending for each user.
        field: the name of the column of times.

    Returns:
        Why the times are no points in time, or None. And the share of a user's neighbouring interactions that have the
        same time.
    """
    new = users[1:] != users[:-1]
    equal = float((np.diff(times) == 0)[~new].mean()) if len(new) > new.sum() else 0.0
    begin, end = times[np.concatenate([[True], new])], times[np.concatenate([new, [True]])]
    if len(begin) < _FEW:
        return None, equal
    same = np.unique(begin, return_counts=True)[1].max()
    by_begin = np.argsort(begin, kind="stable")
    why = None
    if 2 * same > len(begin):
        why = (
            f"{same:,} of {len(begin):,} users begin at the same {field}, as where it counts the interactions of each "
            "user"
        )
    elif (begin[by_begin][1:] > np.maximum.accumulate(end[by_begin])[:-1]).all():
        why = f"by {field} each user begins after the one before has ended, as where it counts the lines of the file"
    return why, equal
