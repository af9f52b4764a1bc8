"""Prompts that are put together from tokenised pieces, without a loop over them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbole_ssm.ops.packing import cumulative_lengths, gather_ranges


class Pieces(nn.Module):
    """Tokenised texts, of which packed streams are made.

    Args:
        pieces: the tokens of each. A piece may be empty.
    """

    flat: Tensor
    start: Tensor
    length: Tensor

    def __init__(self, pieces: Sequence[Sequence[int]]):
        super().__init__()
        with torch.device("cpu"):
            length = torch.tensor([len(piece) for piece in pieces])
            flat = torch.tensor([token for piece in pieces for token in piece], dtype=torch.int64)
        for name, values in {"flat": flat, "start": length.cumsum(0) - length, "length": length}.items():
            self.register_buffer(name, values, persistent=False)

    def join(self, pieces: Tensor, borders: Tensor) -> tuple[Tensor, Tensor]:
        """Streams of tokens.

        Args:
            pieces: (P,) int64 numbers of pieces, stream by stream.
            borders: (S + 1,) which of them belong to each stream.

        Returns:
            The tokens (T,), and ``cu_seqlens`` (S + 1,) int32.
        """
        index, ends = gather_ranges(self.start[pieces], self.length[pieces])
        return self.flat[index], ends[borders.long()]


def surrounded(items: Tensor, cu_seqlens: Tensor, before: int, after: Sequence[int | Tensor]) -> tuple[Tensor, Tensor]:
    """Streams of numbers, with one in front of each and some behind each.

    Args:
        items: (T,) int64, stream by stream.
        cu_seqlens: (S + 1,) their borders.
        before: stands in front of each stream.
        after: each is one number that stands behind each stream, or one for each stream (S,).

    Returns:
        The numbers (T + (1 + len(after)) S,), and their borders (S + 1,).
    """
    lengths = cu_seqlens.diff().long()
    borders = cumulative_lengths(lengths + 1 + len(after))
    starts, found = borders[:-1].long(), items.new_empty(len(items) + len(lengths) * (1 + len(after)))
    places, _ = gather_ranges(starts + 1, lengths)
    found[places], found[starts] = items, before
    for number, each in enumerate(after):
        found[starts + 1 + lengths + number] = each
    return found, borders
