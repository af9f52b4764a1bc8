"""Where the sequences of a packed stream begin and end.

A packed batch is one stream of ``T`` tokens holding ``S`` sequences one after another. ``cu_seqlens``
(``(S + 1,)`` int, as in FlashAttention) are its borders: sequence ``s`` is tokens
``cu_seqlens[s]:cu_seqlens[s + 1]``. Everything else about the layout follows from it, here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.once import once
from recbole_ssm.ops.values import are_unread, demand, known_total, on_host


def refuse_recording() -> None:
    """Raise NotImplementedError while torch traces a model to export it, unless values of tensors are not read.

    Otherwise the computation depends on the borders, and the graph would hold those of the example for all inputs.
    """
    if not are_unread() and (torch.jit.is_tracing() or getattr(torch.compiler, "is_exporting", bool)()):
        raise NotImplementedError(
            "models on packed histories cannot be traced as they are: a graph of torch.jit.trace, torch.export or "
            "torch.onnx would hold the lengths of the example. `recbole-ssm export` writes a graph of a checkpoint"
        )


def check_shapes(cu_seqlens: Tensor, n_tokens: int, **expected: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raise ValueError unless the borders end at ``n_tokens`` and each tensor (or None) has the shape beside it.

    Borders on a GPU are checked there, see :mod:`recbole_ssm.ops.values`.
    """
    refuse_recording()
    if cu_seqlens.dim() != 1 or not cu_seqlens.shape[0] or cu_seqlens.is_floating_point():
        raise ValueError(f"cu_seqlens must be S + 1 whole numbers, but is {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}")
    check_borders(cu_seqlens, n_tokens)
    check_each(**expected)


@once
def check_borders(cu_seqlens: Tensor, n_tokens: int) -> None:
    """Raise ValueError unless the borders go from 0 to ``n_tokens`` and do not decrease; a GPU asserts it."""
    if not on_host(cu_seqlens):
        valid = (cu_seqlens[0] == 0) & (cu_seqlens[-1] == n_tokens) & (lengths_of(cu_seqlens) >= 0).all()
        demand(valid, f"cu_seqlens must go from 0 to the number of tokens, {n_tokens}, and not decrease")
        return
    first, last = int(cu_seqlens[0]), int(cu_seqlens[-1])
    if first != 0 or last != n_tokens:
        raise ValueError(
            f"cu_seqlens must go from 0 to the number of tokens, {n_tokens}, but goes from {first} to {last}"
        )
    if bool((lengths_of(cu_seqlens) < 0).any()):
        raise ValueError("cu_seqlens must not decrease")


@once
def check_ids(name: str, ids: Tensor, low: int, n_items: int, where: Tensor | None = None) -> None:
    """Raise ValueError unless ids are whole numbers from ``low`` to ``n_items - 1``; a GPU asserts it.

    Args:
        name: of the ids, in words.
        ids: (n,).
        low: the least.
        n_items: the largest, plus 1.
        where: (n,) bool, those that are checked; None for all.

    Raises:
        ValueError: they are not.
    """
    if ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{name} must hold whole numbers, but is {ids.dtype}")
    if not ids.numel():
        return
    wanted = f"{name} must be from {low} to {n_items - 1}"
    if not on_host(ids):
        within = ids.clamp(low, n_items - 1) == ids
        demand((within if where is None else within >= where).all(), wanted)
        return
    least, most = (ids if where is None else ids.where(where, low)).aminmax()
    if int(least) < low or int(most) >= n_items:
        raise ValueError(f"{wanted}, but has {int(least) if int(least) < low else int(most)}")


def check_each(**expected: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raise ValueError unless each tensor (or None) has the shape beside it."""
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must have shape {tuple(shape)}, but has {tuple(tensor.shape)}")


def cumulative_lengths(lengths: Tensor) -> Tensor:
    """``cu_seqlens`` (S + 1,) int32 of sequences with the given ``lengths`` (S,)."""
    return F.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))


@once
def lengths_of(cu_seqlens: Tensor) -> Tensor:
    """How many tokens each sequence has, (S,)."""
    return cu_seqlens.diff()


@once
def sequence_index(cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """The register ``seq_idx`` (T,) int32: the sequence that each token belongs to."""
    if are_unread():  # in a form that ONNX has
        return (torch.arange(n_tokens, device=cu_seqlens.device)[:, None] >= cu_seqlens[1:]).sum(1, dtype=torch.int32)
    if on_host(cu_seqlens):
        sequences = torch.arange(cu_seqlens.shape[0] - 1, dtype=torch.int32, device=cu_seqlens.device)
        return sequences.repeat_interleave(lengths_of(cu_seqlens), output_size=n_tokens)
    tokens = torch.arange(n_tokens, dtype=cu_seqlens.dtype, device=cu_seqlens.device)  # a GPU launches less
    return torch.searchsorted(cu_seqlens[1:], tokens, right=True, out_int32=True)


@once
def positions(cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """How many tokens of the same sequence precede each token, (T,) int64."""
    return torch.arange(n_tokens, device=cu_seqlens.device) - starts_of(cu_seqlens, n_tokens)


@once
def starts_of(cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """The first token of each token's sequence, (T,) in the type of the borders."""
    return cu_seqlens[:-1].index_select(0, sequence_index(cu_seqlens, n_tokens))


@once
def ends_of(cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """The token after the last of each token's sequence, (T,) in the type of the borders."""
    return cu_seqlens[1:].index_select(0, sequence_index(cu_seqlens, n_tokens))


def of_tokens(values: Tensor, cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """The value (T,) of the sequence of each token, of values (S,) of sequences."""
    if are_unread():
        return values[sequence_index(cu_seqlens, n_tokens).long()]
    return values.repeat_interleave(lengths_of(cu_seqlens), output_size=n_tokens)


def sequences(cu_seqlens: Tensor) -> Iterator[tuple[int, range]]:
    """Yield the number of each sequence and the numbers of its tokens, one by one: for references and tests."""
    for number, (start, end) in enumerate(pairwise(cu_seqlens.tolist())):
        yield number, range(start, end)


@once
def last_tokens(cu_seqlens: Tensor) -> Tensor:
    """The last token of each sequence, (S,) int64. No sequence may be empty."""
    return cu_seqlens[1:].long() - 1


def at(rows: Tensor | None, tensor: Tensor) -> Tensor:
    """The given rows (R,) of a tensor; all of them for None."""
    return tensor if rows is None else tensor.index_select(0, rows)


@once
def flip_index(cu_seqlens: Tensor, n_tokens: int, cut: Tensor | None = None) -> Tensor:
    """Gather index (T,) that reverses every sequence in its place; it is its own inverse.

    With ``cut`` (S,) it points into a stream of the first ``cut[s]`` tokens of each sequence s: these are reversed, and
    each later token gets the first.
    """
    lengths = lengths_of(cu_seqlens)
    starts, last = (cu_seqlens, lengths - 1) if cut is None else (cumulative_lengths(cut), cut - 1)
    starts, last = (of_tokens(each.long(), cu_seqlens, n_tokens) for each in (starts[:-1], last))
    return starts + (last - positions(cu_seqlens, n_tokens)).clamp(min=0)


@once
def cut_borders(cu_seqlens: Tensor, n_tokens: int, cut: Tensor) -> Tensor:
    """``cu_seqlens`` of the first ``cut`` (S,) tokens of each sequence, with each later token alone."""
    place = positions(cu_seqlens, n_tokens)
    begins = (place == 0) | (place >= of_tokens(cut, cu_seqlens, n_tokens))
    total = known_total(cut)
    if total is None:
        found = begins.nonzero()[:, 0]
    else:  # one for each sequence, of which none is empty, and one for each token after a cut
        found = begins.byte().argsort(descending=True, stable=True)[: len(cut) + n_tokens - total]
    return F.pad(found, (0, 1), value=n_tokens).to(cu_seqlens.dtype)


@once
def flip_borders(cu_seqlens: Tensor) -> Tensor:
    """``cu_seqlens`` of the whole stream read backwards (which reverses every sequence)."""
    return cu_seqlens[-1] - cu_seqlens.flip(0)


def gather_ranges(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers of many ranges, concatenated, without a loop.

    Args:
        starts: (S,) int64, first row of each range.
        lengths: (S,) int64, number of rows of each range. If they are on a GPU, the host waits for their sum, unless
            :func:`recbole_ssm.ops.values.remember_total` has noted it.

    Returns:
        index (T,) int64 and ``cu_seqlens`` (S + 1,) int32; range ``s`` is
        ``index[cu_seqlens[s]:cu_seqlens[s + 1]]``.
    """
    cu_seqlens = cumulative_lengths(lengths)
    offsets = starts - cu_seqlens[:-1]
    total = known_total(lengths)
    n_tokens = int(cu_seqlens[-1]) if total is None else total
    index = offsets.repeat_interleave(lengths, output_size=n_tokens)
    return index + torch.arange(n_tokens, device=starts.device), cu_seqlens


@once
def prefixes(cu_seqlens: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
    """The first ``cut`` (S,) tokens of each sequence: their numbers in the stream, and their borders (S + 1,)."""
    return gather_ranges(cu_seqlens[:-1], cut)


def pack_padded(padded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Pack right-padded rows.

    Args:
        padded: (S, L), row ``s`` valid up to ``lengths[s]``.
        lengths: (S,) int.

    Returns:
        tokens (T,) and ``cu_seqlens`` (S + 1,) int32.

    Raises:
        ValueError: shapes do not fit, or a length is greater than L, or negative.
    """
    refuse_recording()
    if padded.dim() != 2:
        raise ValueError(f"a padded batch must have shape (S, L), but has {tuple(padded.shape)}, and no cu_seqlens")
    check_each(lengths=(lengths, (len(padded),)))
    check_ids("lengths of histories", lengths, 0, padded.shape[1] + 1)
    valid = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    return padded[valid], cumulative_lengths(lengths)


def pad(tokens: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right-pad a stream with 0.

    Args:
        tokens: (T,).
        cu_seqlens: (S + 1,) borders of the sequences.

    Returns:
        (S, L), and the row and the column of each token, (T,) int64 each.
    """
    row, column = sequence_index(cu_seqlens, len(tokens)).long(), positions(cu_seqlens, len(tokens))
    padded = tokens.new_zeros(len(cu_seqlens) - 1, int(lengths_of(cu_seqlens).max()))
    padded[row, column] = tokens
    return padded, row, column


def as_lists(tokens: Tensor, cu_seqlens: Tensor) -> list[list[int]]:
    """The sequences of a stream (T,), the borders (S + 1,) of which are given."""
    return [each.tolist() for each in tokens.split(lengths_of(cu_seqlens).tolist())]


def share_out(sizes: torch.Tensor, parts: int) -> torch.Tensor:
    """Distribute things over parts of about equal size.

    Args:
        sizes: (R,), the size of each thing.
        parts: how many parts there are.

    Returns:
        (R,) int64, the part of each. The largest go to parts 0, 1, ..., the next to ..., 1, 0, and so on.
    """
    place = torch.arange(len(sizes))
    turn = torch.minimum(place % (2 * parts), 2 * parts - 1 - place % (2 * parts))
    return torch.empty_like(turn).index_copy_(0, sizes.argsort(descending=True, stable=True), turn)


class RowItems(NamedTuple):
    """Items for each of R rows, in G groups, as ranges of one list, which may overlap. A group has no item twice."""

    items: Tensor
    """(n,) whole numbers; negative ones are ignored."""
    start: Tensor
    """(R, G) int64, where the items of a group begin."""
    end: Tensor
    """(R, G) int64, where they end."""
    values: Tensor | None = None
    """(n,) a number for each item; None for ones."""
    longest: int | None = None
    """The most items of a group, if the host knows it."""
    below: int | None = None
    """All items are below it, and all ranges within the list, if the host knows that."""

    def of_rows(self, block: slice = slice(None)) -> RowEntries:
        """All that a block of rows has, row by row and group by group."""
        start, end = self.start[block].flatten(), self.end[block].flatten()
        index, cu_seqlens = gather_ranges(start, end - start)
        place = sequence_index(cu_seqlens, index.shape[0]).long()
        kept = self.items[index] >= 0
        index, place = index[kept], place[kept]
        values = None if self.values is None else self.values[index]
        return RowEntries(place // self.start.shape[1], place, self.items[index].long(), values)


class RowEntries(NamedTuple):
    """What some rows of :class:`RowItems` have, written out."""

    row: Tensor
    """(m,) int64, counted from the first of these rows."""
    place: Tensor
    """(m,) int64, row times G plus group; it does not decrease."""
    item: Tensor
    """(m,) int64."""
    values: Tensor | None
    """(m,), or None for ones."""


def items_read(tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None) -> RowItems:
    """The items up to each token, or up to the tokens ``readout`` (R,); one group, each once, padding (0) never."""
    sequence = sequence_index(cu_seqlens, tokens.shape[0]).long()
    key, order = (sequence * (tokens.max() + 1) + tokens).sort(stable=True)
    fresh = tokens > 0
    fresh[order[1:]] &= key[1:] != key[:-1]
    start, end = cu_seqlens[:-1].long()[sequence], torch.arange(1, tokens.shape[0] + 1, device=tokens.device)
    return RowItems(tokens.where(fresh, -1), at(readout, start)[:, None], at(readout, end)[:, None])
