"""Packed batches by vectorised gathers: nothing is padded, and no Python loop runs over samples."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.ops.packing import gather_ranges, sequence_index


def pack_histories(
    batch: Interaction,
    history: Tensor,
    list_field: str,
    next_item_field: str | None = None,
    columns: Mapping[str, Tensor] | None = None,
) -> Interaction:
    """Add the packed histories of its samples to a batch.

    Args:
        batch: S samples with ``history_start``, ``history_end``; changed in place.
        history: (n_interactions,) items that the ranges point into.
        list_field: name of the stream of items, ``item_id_list`` in RecBole's default configuration.
        next_item_field: if given, this field becomes (T,): after each token the item that follows it.
        columns: (n_interactions,) other values of the interactions, by the field that they get in the batch.

    Returns:
        The batch, with ``list_field`` (T,) int64, ``cu_seqlens`` (S + 1,) int32, ``seq_idx`` (T,) int32 and the fields
        of ``columns``, (T,) each. Its ``length`` stays S.
    """
    start, end = batch["history_start"], batch["history_end"]
    index, cu_seqlens = gather_ranges(start, end - start)
    batch[list_field] = history[index]
    batch["cu_seqlens"] = cu_seqlens
    batch["seq_idx"] = sequence_index(cu_seqlens, len(index))
    for field, values in (columns or {}).items():
        batch[field] = values[index]
    if next_item_field is not None:
        batch[next_item_field] = history[index + 1]
    return batch


def draw_cuts(lengths: Tensor, generator: torch.Generator) -> Tensor:
    """After how many of its items each history of ``lengths`` (S,) is cut: from 1 to all of them.

    A uniform share, cubed: short ones are more frequent, since what stands before a cut has no target. Three quarters
    of the items have one.
    """
    share = torch.rand(len(lengths), generator=generator) ** 3
    return 1 + (share * lengths).long().clamp(max=lengths - 1)


def cut_histories(batch: Interaction, cut: Tensor, next_item_field: str) -> Interaction:
    """Keep the targets of a packed batch from a cut on.

    Args:
        batch: from :func:`pack_histories`, with the items that follow all tokens; changed in place.
        cut: (S,) int64, after how many items of each history; 1 or more.
        next_item_field: their field.

    Returns:
        The batch, with ``cut`` (S,), ``readout`` (R,) int64, the tokens from each history's last before the cut on, and
        in ``next_item_field`` (R,) what follows these.
    """
    cu_seqlens = batch["cu_seqlens"]
    index, _ = gather_ranges(cu_seqlens[:-1] + cut - 1, cu_seqlens.diff() - cut + 1)
    batch["cut"], batch["readout"] = cut, index
    batch[next_item_field] = batch[next_item_field][index]
    return batch


def mask_items(items: Tensor, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Replace each id by 0 with probability ``mask_ratio`` (SSD4Rec's masking; the last item is not spared)."""
    return items.masked_fill(torch.rand(items.shape, generator=generator) < mask_ratio, 0)
