"""How popular each item was at the end of the training's data, for people of whom nothing else is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_ssm.system.bounded import Unusable

KEY = "popularity"
"""The key of a checkpoint that has it. Checkpoints of earlier versions have no such key."""

_HALF_LIFE = 0.1
"""An interaction counts half as much as one that comes this share of all interactions later."""


def popularity(dataset: Any) -> Tensor:
    """Interactions of each item in a training split, of which later ones count more.

    Args:
        dataset: RecBole's or this package's. Without times all interactions count 1.

    Returns:
        (n_items,) float32.
    """
    items = dataset.inter_feat[dataset.iid_field]
    weights = torch.ones(len(items))
    if dataset.time_field in dataset.inter_feat:
        age = torch.empty(len(items))
        order = dataset.inter_feat[dataset.time_field].argsort(descending=True, stable=True)
        age[order] = torch.arange(len(items), dtype=torch.float32)
        weights = torch.exp2(-age / (_HALF_LIFE * max(1, len(items))))
    return torch.zeros(dataset.item_num).index_add(0, items, weights)


def check_popularity(state: dict[str, Any]) -> None:
    """Raise :class:`Unusable` if a checkpoint has something else in its place."""
    found = state.get(KEY)
    if found is None:
        return
    if not isinstance(found, Tensor) or found.dtype != torch.float32 or found.shape != (len(state["item_vocabulary"]),):
        raise Unusable(f"{KEY} is not a number for each item")
    if not bool((found.isfinite() & (found >= 0)).all()):
        raise Unusable(f"{KEY} has numbers that are no counts")
