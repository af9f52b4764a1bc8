"""Histories of items as streams of the tokens of their titles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recbole_ssm.language.model import LanguageModel
from recbole_ssm.ops.packing import gather_ranges, sequence_index


class TitleStream(NamedTuple):
    """S histories with T items as one packed stream of N tokens."""

    tokens: Tensor
    """(N,) int64: of each history the begin token, where it has one, and then each title with its separator."""
    cu_seqlens: Tensor
    """(S + 1,) int32, borders of the histories."""
    ends: Tensor
    """(T,) int64, the separator after each item's title."""


def title_stream(language: LanguageModel, items: Tensor, cu_seqlens: Tensor, *, begin: bool = True) -> TitleStream:
    """The titles of histories, one after another. Item 0 is a title without a word.

    Args:
        language: has the titles.
        items: (T,) item numbers.
        cu_seqlens: (S + 1,) borders of the histories.
        begin: whether a begin token stands in front of each history.

    Returns:
        The stream.
    """
    start = language.title_start
    index, titles = gather_ranges(start[items], start[items + 1] - start[items])
    tokens, borders, ends = language.title_flat[index], titles[cu_seqlens.long()], titles[1:].long() - 1
    if not begin:
        return TitleStream(tokens, borders, ends)
    sequences = len(cu_seqlens) - 1
    count = torch.arange(sequences + 1, device=items.device)
    place = torch.arange(len(tokens), device=items.device) + sequence_index(borders, len(tokens)) + 1
    stream = tokens.new_full((len(tokens) + sequences,), language.tokenizer.begin)
    stream[place] = tokens
    return TitleStream(stream, (borders + count).to(borders.dtype), place[ends])


def with_targets(items: Tensor, cu_seqlens: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Histories of T items with one item more each, ``target`` (S,): items (T + S,) and borders (S + 1,)."""
    count = torch.arange(len(cu_seqlens), device=items.device)
    borders = (cu_seqlens + count).to(cu_seqlens.dtype)
    longer = items.new_empty(len(items) + len(target))
    longer[torch.arange(len(items), device=items.device) + sequence_index(cu_seqlens, len(items))] = items
    longer[borders[1:].long() - 1] = target
    return longer, borders


def next_tokens(stream: TitleStream) -> Tensor:
    """The token that follows each token (N,) of its history; -100 after the last of a history."""
    target = stream.tokens.roll(-1)
    return target.index_fill(0, stream.cu_seqlens[1:].long() - 1, -100)
