"""The order of interactions in time: exact, or as RecBole makes it of times in float32."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_ssm.config import Config
from recbole_ssm.data.recbole_types import Dataset


def order_in_time(config: Config, dataset: Dataset) -> None:
    """Sort a loaded dataset by exact times; or, with ``time_order: recbole``, warn of what RecBole's order loses.

    Args:
        config: the configuration.
        dataset: not yet built: RecBole sorts it later.
    """
    if config.time_order == "exact":
        _order_exactly(dataset)
        _warn_of_large_times(dataset)
        return
    users, times = (dataset.inter_feat[field].to_numpy() for field in (dataset.uid_field, dataset.time_field))
    neighbours, lost, histories = lost_order(users, times)
    if lost:
        getLogger().warning(
            f"time_order: recbole: {lost:,} of {neighbours:,} neighbouring interactions of a user have different times "
            f"that are equal in float32, and so keep the order of the file; {histories:,} of {dataset.user_num - 1:,} "
            "users have another history than by their times. time_order: exact keeps the order in time"
        )


def _warn_of_large_times(dataset: Dataset) -> None:
    """Warn of times, such as nanoseconds, that are equal because float64 lacks some integers from 2**53 on."""
    times = dataset.inter_feat[dataset.time_field]
    large = times.abs() >= 2**53
    equal = int((large & dataset.inter_feat.duplicated([dataset.uid_field, dataset.time_field], keep=False)).sum())
    if equal:
        getLogger().warning(
            f"{equal:,} interactions have the same {dataset.time_field} as another of their user. The numbers are so "
            f"large that float64 rounds them to multiples of {np.spacing(times[large].abs().max()):g}: if they differ "
            "in the file, their order is lost. Give times in a larger unit, such as seconds"
        )


def by_user_and_time(users: NDArray[np.int64], times: NDArray[np.floating[Any]]) -> NDArray[np.int64] | slice:
    """RecBole's order of histories: rows sorted by user, and by time in float32, stably.

    Args:
        users: (R,) the number of each row's user.
        times: (R,) of the same rows.

    Returns:
        The numbers of the rows, (R,); or a slice of all rows if they are sorted already.
    """
    times = times.astype(np.float32)
    step = np.diff(users)
    if ((step > 0) | ((step == 0) & (np.diff(times) >= 0))).all():
        return slice(None)
    return np.lexsort((times, users))


def lost_order(users: NDArray[np.int64], times: NDArray[np.float64]) -> tuple[int, int, int]:
    """Count what RecBole's order of histories, by times in float32, loses of the exact order.

    Args:
        users: (R,) the number of each row's user.
        times: (R,) of the same rows.

    Returns:
        Three numbers. The first is that of neighbours: two successive interactions of a user. The second is that of
        neighbours whose times differ in float64 and not in float32, so that they keep the order of the rows. The third
        is that of users whose history differs from the exact one.
    """
    exact, rounded = np.lexsort((times, users)), np.lexsort((times.astype(np.float32), users))
    of, at = users[exact], times[exact]
    neighbours = of[1:] == of[:-1]
    lost = neighbours & (at[1:] != at[:-1]) & (np.diff(at.astype(np.float32)) == 0)
    return int(neighbours.sum()), int(lost.sum()), len(np.unique(of[exact != rounded]))


def _order_exactly(dataset: Dataset) -> None:
    """Sort a loaded, unbuilt dataset by exact times, ties in the order of the file.

    RecBole sorts later by times in float32 (steps of 64 seconds on Unix time), stably. Rounding does not change the
    order of sorted values, so RecBole's own sort keeps the exact order, for any of its datasets.
    """
    dataset.inter_feat = dataset.inter_feat.sort_values(dataset.time_field, kind="stable", ignore_index=True)


def chronological_history(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The histories of all users one after another, as RecBole will order them.

    Args:
        dataset: loaded and not yet built.

    Returns:
        The items, (n_interactions,) int64, and where each user begins in them, (n_users,) int64.
    """
    users = dataset.inter_feat[dataset.uid_field].to_numpy()
    start = np.searchsorted(np.sort(users), np.arange(dataset.user_num))
    return torch.from_numpy(chronological_column(dataset, dataset.iid_field)), torch.from_numpy(start)


def chronological_column(dataset: Dataset, field: str) -> NDArray[Any]:
    """The values (n_interactions,) of a column, in the order of :func:`chronological_history`."""
    feat = dataset.inter_feat
    users, times = (feat[name].to_numpy() for name in (dataset.uid_field, dataset.time_field))
    return feat[field].to_numpy()[by_user_and_time(users, times)]
