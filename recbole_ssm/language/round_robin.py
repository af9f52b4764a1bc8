"""One order of all items from the scores of several queries."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def by_turns(lists: Iterable[Iterable[int]]) -> list[int]:
    """By turns each list gives its first item that is not taken yet, the first list first.

    Args:
        lists: of items, the best first.

    Returns:
        All their items, each once.
    """
    taken: dict[int, None] = {}
    waiting = [iter(each) for each in lists]
    while waiting:
        left = []
        for each in waiting:
            item = next((item for item in each if item not in taken), None)
            if item is not None:
                taken[item] = None
                left.append(each)
        waiting = left
    return list(taken)


def ranks(scores: Tensor, tie: Tensor, most: int) -> Tensor:
    """Rank all items by the queries of S users.

    First come, by turns, the items that each query fits best (as in CALRec, RecSys 2024), then all others by the best
    of their scores.

    Args:
        scores: (S, queries, n_items) not negative, the best query first. 0 where a query has nothing in common with an
            item; negative for items that come last.
        tie: (n_items,) from 0 to 1, the order of items with equal scores.
        most: items of a query that take part in the turns.

    Returns:
        (S, n_items) float32: 1 for the last item, and 1 more for each before it.
    """
    users, _, n_items = scores.shape
    exact = scores.double() + 1e-9 * tie.double()
    best = exact.topk(min(most, n_items), 2)
    fits = scores.gather(2, best.indices) > 0
    others = exact.amax(1).argsort(dim=1, descending=True, stable=True)
    found = torch.empty(users, n_items)
    value = torch.arange(n_items, 0, -1.0)
    for user in range(users):
        counts = fits[user].sum(1).tolist()  # those that fit are the first
        lists = [each[:count] for each, count in zip(best.indices[user].tolist(), counts, strict=True)]
        first = torch.tensor(by_turns(lists), dtype=torch.int64)
        taken = torch.zeros(n_items, dtype=torch.bool).index_fill(0, first, True)
        rest = others[user]
        found[user, torch.cat([first, rest[~taken[rest]]])] = value
    return found
