"""Which items are near one another: by their embeddings, and by how often one came after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from recbole_ssm.errors import InputError
from recbole_ssm.model.packed_input import PackedRecommender


class Part(NamedTuple):
    """What one item of a history says for another item."""

    item: str
    """Of the history."""
    similarity: float | None
    """Cosine of the two embeddings, -1 to 1; None where the model has none."""
    transitions: float | None
    """How often the other came after it in the training's histories, weighted by distance; None where the checkpoint
    has no counts. A transition memory keeps the most frequent only, and has 0 for the others."""


def nearest(model: PackedRecommender, items: Sequence[int], k: int) -> list[tuple[list[float], list[int]]]:
    """The items whose embeddings have the largest cosine with those of some items.

    Args:
        model: has embeddings.
        items: numbers of items.
        k: how many are wanted for each.

    Returns:
        For each item the cosines and the numbers of others, the nearest first.

    Raises:
        InputError: the model has no embeddings.
    """
    table = model.item_vectors()
    if table is None:
        raise InputError(f"{type(model).__name__} here has no embeddings of items; use a model that has")
    table, found = table.float(), []
    lengths = torch.linalg.vector_norm(table, dim=1).clamp(min=1e-12)
    for item in items:  # one at a time: a catalogue may be large
        cosine = table @ (table[item] / lengths[item]) / lengths
        cosine[[0, item]] = -torch.inf
        best = cosine.topk(min(k, max(0, len(cosine) - 2)))
        found.append((best.values.tolist(), best.indices.tolist()))
    return found


def parts(model: PackedRecommender, history: Sequence[int], item: int) -> tuple[list[float | None], list[float | None]]:
    """What each item of a history says for another one.

    Args:
        model: has embeddings, counts, or both.
        history: numbers of items.
        item: number of the other.

    Returns:
        For each item of the history the similarity and the transitions of :class:`Part`.
    """
    device = next(model.parameters()).device
    before = torch.tensor(history, dtype=torch.int64, device=device)
    table = model.item_vectors()
    cosine = None if table is None else cosine_similarity(table[before].float(), table[item].float(), dim=-1)
    transitions = model.transitions(before, torch.full_like(before, item))
    return _numbers(cosine, len(history)), _numbers(transitions, len(history))


def _numbers(found: Tensor | None, count: int) -> list[float | None]:
    return [None] * count if found is None else found.tolist()
