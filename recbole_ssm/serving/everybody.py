"""Recommendations to many users, some thousands at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.data.transfer import on_device
from recbole_ssm.errors import InputError
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.user_histories import UserHistories

_SCORES, _TOKENS = 2**22, 2**15
"""The most scores and interactions in one batch, unless one user alone has more: few, so that they stay in caches."""


class Known(NamedTuple):
    """The part of histories that a model knows, in its numbers."""

    users: NDArray[Any]
    """(U,) names of users who have any."""
    borders: NDArray[np.int64]
    """(U + 1,) of their interactions."""
    items: NDArray[np.int64]
    """(T,)."""
    columns: dict[str, NDArray[np.float64]]
    note: str
    """Words on what is not known, or nothing."""


def known_part(recommender: Recommender, histories: UserHistories) -> Known:
    """What a model knows of histories; InputError if that is nothing."""
    number = {name: place for place, name in enumerate(recommender.items) if place}
    numbers = np.array([number.get(name, 0) for name in histories.item_names.tolist()], dtype=np.int64)
    items = numbers[histories.items]
    known = items > 0
    if not known.any():
        raise InputError("the model knows none of the items; give items of the data that it was trained on")
    before = np.concatenate([[0], known.cumsum()])
    borders = before[histories.borders]
    some = np.diff(borders) > 0
    note = ""
    if not known.all():
        note = (
            f"{(~known).sum()} of {len(known)} interactions are of items that the model does not know, and are passed "
            f"over; {(~some).sum()} of {len(some)} users have no others, and get none"
        )
    columns = {name: values[known] for name, values in histories.columns.items()}
    return Known(histories.users[some], np.append(borders[:-1][some], borders[-1]), items[known], columns, note)


def recommend_to_all(recommender: Recommender, known: Known, k: int) -> Iterator[tuple[int, list[tuple]]]:
    """The best items for each user.

    Args:
        recommender: the model.
        known: whole histories.
        k: how many items for each.

    Yields:
        How many users have been ranked so far; and for those since the last time rows of user, rank from 1, item and
        score, the best of each first.
    """
    names = np.array(recommender.items, dtype=object)
    for first, last in _chunks(known.borders, len(recommender.items)):
        scores, items = _best(recommender, known, first, last, k)
        there = scores > -np.inf
        users = np.repeat(known.users[first:last], there.sum(1)).tolist()
        ranks = np.broadcast_to(np.arange(1, scores.shape[1] + 1), scores.shape)[there].tolist()
        yield last, list(zip(users, ranks, names[items[there]].tolist(), scores[there].tolist(), strict=True))


def _chunks(borders: NDArray[np.int64], n_items: int) -> Iterator[tuple[int, int]]:
    """The first user and the one after the last of each batch."""
    first, rows = 0, max(1, _SCORES // n_items)
    while first < len(borders) - 1:
        fits = int(np.searchsorted(borders, borders[first] + _TOKENS, side="right")) - 1
        last = min(max(fits, first + 1), first + rows)
        yield first, last
        first = last


def _best(
    recommender: Recommender, known: Known, first: int, last: int, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and numbers (R, k) of the best items for users first to last; -inf where there are fewer."""
    borders, device = torch.from_numpy(known.borders[first : last + 1]), recommender.device
    all_items = torch.from_numpy(known.items[borders[0] : borders[-1]])
    with recommender.computing():
        scores = recommender.model.full_sort_predict(_batch(recommender, known, borders))
        scores[:, 0] = -torch.inf
        if recommender.filter_seen:
            row = torch.arange(last - first).repeat_interleave(borders.diff())
            scores[row.to(device), all_items.to(device)] = -torch.inf
        best, items = torch.topk(scores, min(k, scores.shape[1]))
        if bool(best[:, 0].isnan().any()):  # topk sorts NaN before all numbers
            raise InputError("the model's scores are NaN, so some of its weights are broken; use another checkpoint")
        return best.float().cpu().numpy(), items.cpu().numpy()


def _batch(recommender: Recommender, known: Known, borders: Tensor) -> Interaction:
    """What the model reads of the histories between borders."""
    longest, lengths = recommender._longest, borders.diff()
    if longest:
        lengths = lengths.clamp(max=longest)
    cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    index = (borders[1:] - cu_seqlens[1:]).repeat_interleave(lengths) + torch.arange(int(cu_seqlens[-1]))
    model = recommender.model
    fields = {model.ITEM_SEQ: torch.from_numpy(known.items)[index], "cu_seqlens": cu_seqlens.int()}
    for name, column in recommender._columns.items():
        fields[model.field_of(column)] = column.values(torch.from_numpy(known.columns[name])[index].double())
    return on_device(Interaction(fields), recommender.device)
