"""The vectors of items and histories whose inner products are a model's scores, biases included."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from recbole_ssm.errors import InputError
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.serving.recommender import Recommender

_QUERIES, _LONGEST = 500, 20
"""How many histories a measurement takes, and how many items a made one has at most."""


def item_vectors(model: Any) -> np.ndarray:
    """The vector of each item but the padding: its embedding, and its bias as one more number where there are biases.

    Args:
        model: a model of this package.

    Returns:
        (n_items - 1, width) float32; row i is item i + 1. The vector of a history has a 1 where items have their bias.

    Raises:
        InputError: the model has no vectors of items, because it counts or ranks by titles.
    """
    table = model.item_vectors()
    if table is None or not isinstance(model, PackedSequentialRecommender):
        raise InputError(f"{type(model).__name__} here has no vectors of items; use a model that learns some")
    parts = [table.detach()[1:].float()]
    if model.item_bias is not None:
        parts.append(model.item_bias.detach()[1:, None].float())
    return torch.cat(parts, 1).cpu().numpy()


def fingerprint(model: Any) -> str:
    """A hash of the vectors of items, by which an index knows its model."""
    vectors = item_vectors(model)
    return hashlib.blake2b(
        f"{vectors.shape} ".encode() + np.ascontiguousarray(vectors).data, digest_size=16
    ).hexdigest()


def query_vectors(recommender: Recommender, histories: Iterable[Sequence[str]] | None) -> tuple[np.ndarray, str]:
    """Vectors of histories, for a measurement.

    Args:
        recommender: the model.
        histories: names of items; unknown ones are passed over. None: made ones, of items drawn evenly.

    Returns:
        (R, width) float32, R being at most 500, and what the histories are, in words.

    Raises:
        InputError: the model knows none of the items.
    """
    draw = np.random.default_rng(0)
    if histories is None:
        count = len(recommender.items)
        rows = [draw.integers(1, count, draw.integers(1, _LONGEST + 1)).tolist() for _ in range(_QUERIES)]
        told = "made histories of items drawn evenly"
    else:
        given = list(histories)
        read = (recommender.names.numbers(given[place], skip_unknown=True) for place in draw.permutation(len(given)))
        rows = list(islice((each for each in read if each), _QUERIES))
        if not rows:
            raise InputError("the model knows none of the items in the histories; give some of its training's data")
        told = "histories that were given"
    if recommender.columns:
        told += ", at equal times"
    found = np.concatenate([_represent(recommender, rows[i : i + 50]) for i in range(0, len(rows), 50)])
    ones = np.ones((len(found), 1 if recommender.model.item_bias is not None else 0), np.float32)
    return np.concatenate([found, ones], 1), told


def _represent(recommender: Recommender, rows: list[list[int]]) -> np.ndarray:
    """The model's representations (R, hidden_size) of histories of numbers of items."""
    batch = recommender._batch(rows, {name: [[0.0] * len(row) for row in rows] for name in recommender.columns})
    with recommender.computing():
        return recommender.model.represent(batch)[0].float().cpu().numpy()
