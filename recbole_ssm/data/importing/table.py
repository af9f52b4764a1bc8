"""Interactions as numbers, and what an import does to them: sessions, duplicates, k-core. All work in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Allocate = Callable[[int, Any], NDArray[Any]]
"""Makes an array of a length and a type, in memory or on the disk."""

BLOCK = 1 << 22
"""Rows that are worked on at a time; a user with more is one block."""


@dataclass
class Table:
    """Interactions sorted by user, then by time, then by the row of the source.

    Attributes:
        users: (R,) numbers of users, ascending.
        items: (R,) numbers of items.
        times: (R,) float64, seconds.
        user_names: by number.
        item_names: by number.
    """

    users: NDArray[Any]
    items: NDArray[Any]
    times: NDArray[np.float64]
    user_names: list[str]
    item_names: list[str]

    def __len__(self) -> int:
        return len(self.users)


def blocks(n: int) -> Iterator[slice]:
    """Ranges of at most :data:`BLOCK` rows."""
    for start in range(0, n, BLOCK):
        yield slice(start, min(start + BLOCK, n))


def blocks_of_users(users: NDArray[Any]) -> Iterator[slice]:
    """Ranges of rows that do not cut a user apart."""
    start = 0
    while start < len(users):
        stop = min(start + BLOCK, len(users))
        if stop < len(users):
            border = int(np.searchsorted(users, users[stop - 1], side="left"))
            stop = border if border > start else int(np.searchsorted(users, users[start], side="right"))
        yield slice(start, stop)
        start = stop


def split_sessions(table: Table, gap: float, allocate: Allocate) -> Table:
    """Make a user of each session.

    Args:
        table: the interactions.
        gap: an interaction more than this many seconds after the one before it begins a session.
        allocate: makes the numbers of sessions.

    Returns:
        The same interactions, whose users are called ``user/1``, ``user/2``, ...; those of a user without a name are
        ``1``, ``2``, ...
    """
    sessions = allocate(len(table), np.int64)
    names: list[str] = []
    for rows in blocks_of_users(table.users):
        users, times = table.users[rows], table.times[rows]
        new_user = np.diff(users, prepend=-1) != 0
        begins = new_user | (np.diff(times, prepend=times[0]) > gap)
        sessions[rows] = len(names) + np.cumsum(begins) - 1
        first = np.flatnonzero(begins)
        count = np.cumsum(begins)
        number = count[first] - count[np.maximum.accumulate(np.where(new_user, np.arange(len(users)), 0))[first]] + 1
        for user, each in zip(users[first].tolist(), number.tolist(), strict=True):
            name = table.user_names[user]
            names.append(f"{name}/{each}" if name else str(each))
    return Table(sessions, table.items, table.times, names, table.item_names)


def drop_duplicates(table: Table, policy: str, keep: NDArray[np.bool_]) -> int:
    """Leave out duplicates.

    Args:
        table: the interactions.
        policy: see :data:`recbole_ssm.data.importing.options.DUPLICATES`.
        keep: (R,) which rows are left; rows are unset here.

    Returns:
        How many were left out.
    """
    if policy == "keep":
        return 0
    dropped = 0
    for rows in blocks_of_users(table.users):
        users, items, times = table.users[rows], table.items[rows], table.times[rows]
        again = np.zeros(len(users), bool)
        if policy == "consecutive":
            again[1:] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
        else:
            order = np.lexsort((items, users))  # stable: within a pair in order of time
            same = (np.diff(users[order]) == 0) & (np.diff(items[order]) == 0)
            if policy == "rows":
                same &= np.diff(times[order]) == 0
            again[order[:-1] if policy == "last" else order[1:]] = same
        keep[rows] &= ~again
        dropped += int(again.sum())
    return dropped


def keep_core(table: Table, cores: tuple[int, int], keep: NDArray[np.bool_]) -> int:
    """Leave out users and items with too few interactions, until none is left.

    Args:
        table: the interactions.
        cores: the fewest interactions of a user, and of an item.
        keep: (R,) which rows are left; rows are unset here.

    Returns:
        How many rows were left out.
    """
    before = int(keep.sum())
    left = before
    while max(cores) > 1:
        for numbers, names, fewest in (
            (table.users, table.user_names, cores[0]),
            (table.items, table.item_names, cores[1]),
        ):
            enough = count(numbers, len(names), keep) >= fewest
            for rows in blocks(len(numbers)):
                keep[rows] &= enough[numbers[rows]]
        now = int(keep.sum())
        if now == left:
            break
        left = now
    return before - left


def count(numbers: NDArray[Any], n: int, keep: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """How often each number below ``n`` is in the rows that are kept, (n,)."""
    found = np.zeros(n, np.int64)
    for rows in blocks(len(numbers)):
        some = numbers[rows] if keep is None else numbers[rows][keep[rows]]
        found += np.bincount(some, minlength=n)
    return found


def compact(table: Table, keep: NDArray[np.bool_], allocate: Allocate, padding: Sequence[str] = ()) -> Table:
    """The rows that are kept, with users and items numbered as they come.

    Args:
        table: the interactions.
        keep: (R,) which rows are left.
        allocate: makes the new columns.
        padding: names of the first numbers, which no user and no item gets.

    Returns:
        A table of int64 and float64, whose names are those that are left.
    """
    n = int(keep.sum())
    users, items, times = allocate(n, np.int64), allocate(n, np.int64), allocate(n, np.float64)
    has_user = count(table.users, len(table.user_names), keep) > 0
    user_number = np.cumsum(has_user) - 1 + len(padding)
    item_number = np.full(len(table.item_names), -1)
    item_order: list[int] = []
    to = 0
    for rows in blocks(len(table)):
        chosen = keep[rows]
        part = slice(to, to + int(chosen.sum()))
        some = table.items[rows][chosen]
        values, first = np.unique(some, return_index=True)
        new = values[np.argsort(first)]
        new = new[item_number[new] < 0]
        item_number[new] = len(item_order) + np.arange(len(new))
        item_order += new.tolist()
        users[part], items[part] = user_number[table.users[rows][chosen]], item_number[some] + len(padding)
        times[part] = table.times[rows][chosen]
        to = part.stop
    user_names = [table.user_names[user] for user in np.flatnonzero(has_user).tolist()]
    item_names = [table.item_names[item] for item in item_order]
    return Table(users, items, times, [*padding, *user_names], [*padding, *item_names])
