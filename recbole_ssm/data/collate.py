"""Packed batches by vectorised gathers, without padding and without a Python loop over samples."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.ops.packing import cumulative_lengths, sequence_index


def pack_histories(
    batch: Interaction,
    history: Tensor,
    list_field: str,
    next_item_field: str | None = None,
    columns: Mapping[str, Tensor] | None = None,
    n_tokens: int | None = None,
) -> Interaction:
    """Add the packed histories of its samples to a batch.

    Args:
        batch: S samples with ``history_start``, ``history_end``; changed in place.
        history: (n_interactions,) items that the ranges point into.
        list_field: the field for the items, ``item_id_list`` in RecBole's default configuration.
        next_item_field: a field for the item that follows each token, (T,); None for no such field.
        columns: (n_interactions,) other values of the interactions, by the field that they get in the batch.
        n_tokens: T, if that is known; else the host waits for a GPU that has the batch.

    Returns:
        The batch, with ``list_field`` (T,) int64, ``cu_seqlens`` (S + 1,) int32, ``seq_idx`` (T,) int32 and the fields
        of ``columns``, (T,) each. Its ``length`` stays S.
    """
    start, end = batch["history_start"], batch["history_end"]
    index, cu_seqlens, seq_idx = _ranges(start, end - start, n_tokens)
    batch[list_field] = history[index]
    batch["cu_seqlens"], batch["seq_idx"] = cu_seqlens, seq_idx
    for field, values in (columns or {}).items():
        batch[field] = values[index]
    if next_item_field is not None:
        batch[next_item_field] = history[index + 1]
    return batch


def _ranges(start: Tensor, lengths: Tensor, total: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of the elements of ranges, borders, and the range of each element; without a loop."""
    borders = cumulative_lengths(lengths)
    total = int(borders[-1]) if total is None else total
    of = sequence_index(borders, total)
    return (start - borders[:-1]).index_select(0, of) + torch.arange(total, device=start.device), borders, of


def draw_cuts(lengths: Tensor, generator: torch.Generator) -> Tensor:
    """Draw for each history the number of items before its cut, from 1 to all of them.

    It is a uniform share, cubed. Early cuts are more frequent, because items before a cut have no target. Three
    quarters of all items have one.

    Args:
        lengths: (S,) of the histories.
        generator: the source of randomness.

    Returns:
        The numbers, (S,) int64.
    """
    share = torch.rand(len(lengths), generator=generator) ** 3
    return 1 + (share * lengths).long().clamp(max=lengths - 1)


def cut_histories(batch: Interaction, cut: Tensor, next_item_field: str, n_targets: int | None = None) -> Interaction:
    """Keep only the targets of a packed batch that follow a cut.

    Args:
        batch: from :func:`pack_histories` with ``next_item_field``; changed in place.
        cut: (S,) int64, the number of items before the cut of each history; 1 or more.
        next_item_field: as for :func:`pack_histories`.
        n_targets: R, if that is known; else the host waits for a GPU that has the batch.

    Returns:
        The batch, with ``cut`` (S,); ``readout`` (R,) int64, the tokens from each history's last one before the cut on;
        and ``next_item_field`` (R,), the items that follow these tokens.
    """
    cu_seqlens = batch["cu_seqlens"]
    index, *_ = _ranges(cu_seqlens[:-1] + cut - 1, cu_seqlens.diff() - cut + 1, n_targets)
    batch["cut"], batch["readout"] = cut, index
    batch[next_item_field] = batch[next_item_field][index]
    return batch


def mask_items(items: Tensor, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Replace each item by 0 with probability ``mask_ratio``, the last one too: SSD4Rec's masking.

    The generator is one of the device that has the items.
    """
    drawn = torch.rand(items.shape, generator=generator, device=items.device)
    return items.masked_fill(drawn < mask_ratio, 0)
