"""The layout of packed streams, against plain lists."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import borders, sequence_lengths, slices

from recbole_ssm.ops.packing import (
    cumulative_lengths,
    cut_borders,
    flip_borders,
    flip_index,
    gather_ranges,
    items_read,
    pack_padded,
    positions,
    sequence_index,
)


@given(lengths=sequence_lengths())
def test_cumulative_lengths_are_the_borders(lengths):
    cu_seqlens = cumulative_lengths(torch.tensor(lengths))
    assert cu_seqlens.tolist() == [sum(lengths[:s]) for s in range(len(lengths) + 1)]
    assert cu_seqlens.dtype == torch.int32


@given(lengths=sequence_lengths())
def test_sequence_index_names_the_sequence_of_each_token(lengths):
    register = sequence_index(borders(lengths), sum(lengths))
    assert register.tolist() == [s for s, length in enumerate(lengths) for _ in range(length)]
    assert register.dtype == torch.int32


@given(lengths=sequence_lengths())
def test_positions_count_from_the_start_of_each_sequence(lengths):
    assert positions(borders(lengths), sum(lengths)).tolist() == [t for length in lengths for t in range(length)]


@given(lengths=sequence_lengths())
def test_flip_index_reverses_each_sequence_in_its_place(lengths):
    stream = list(range(sum(lengths)))
    index = flip_index(borders(lengths), len(stream))
    assert index.tolist() == [t for tokens in slices(lengths) for t in reversed(stream[tokens])]
    assert torch.equal(index[index], torch.arange(len(stream)))


@given(lengths=sequence_lengths(), data=st.data())
def test_after_a_cut_each_token_is_alone(lengths, data):
    cuts = [data.draw(st.integers(min(length, 1), length)) for length in lengths]
    parts = slices(lengths)
    expected = [
        part.start + t
        for part, cut in zip(parts, cuts, strict=True)
        for t in range(part.stop - part.start)
        if not 0 < t < cut
    ]
    found = cut_borders(borders(lengths), sum(lengths), torch.tensor(cuts))
    assert found.tolist() == [*expected, sum(lengths)]
    assert found.dtype == torch.int32


@given(lengths=sequence_lengths(), data=st.data())
def test_flip_index_of_cut_sequences_reverses_what_is_before_the_cut(lengths, data):
    cuts = [data.draw(st.integers(min(length, 1), length)) for length in lengths]
    kept = [t for part, cut in zip(slices(lengths), cuts, strict=True) for t in range(part.start, part.start + cut)]
    expected = [
        part.start + max(cut - 1 - t, 0)
        for part, cut in zip(slices(lengths), cuts, strict=True)
        for t in range(part.stop - part.start)
    ]
    index = flip_index(borders(lengths), sum(lengths), torch.tensor(cuts))
    assert [kept[i] for i in index] == expected


@given(lengths=sequence_lengths())
def test_flip_borders_are_those_of_the_stream_read_backwards(lengths):
    assert flip_borders(borders(lengths)).tolist() == borders(lengths[::-1]).tolist()


@given(ranges=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 10)), min_size=1, max_size=8))
def test_gather_ranges_lists_the_rows_of_all_ranges(ranges):
    """Ranges may overlap, stand in any order and be empty."""
    starts, lengths = (torch.tensor(column) for column in zip(*ranges, strict=True))
    index, cu_seqlens = gather_ranges(starts, lengths)
    assert index.tolist() == [row for start, length in ranges for row in range(start, start + length)]
    assert cu_seqlens.tolist() == [sum(length for _, length in ranges[:s]) for s in range(len(ranges) + 1)]
    assert (index.dtype, cu_seqlens.dtype) == (torch.int64, torch.int32)


@given(lengths=sequence_lengths(), unused=st.integers(0, 3))
def test_pack_padded_keeps_what_is_valid(lengths, unused):
    """Padding is told from tokens by the lengths alone: id 0 may be a token."""
    rows = [[(7 * s + t) % 5 for t in range(length)] for s, length in enumerate(lengths)]
    width = max(lengths) + unused
    padded = torch.tensor([row + [99] * (width - len(row)) for row in rows])
    tokens, cu_seqlens = pack_padded(padded, torch.tensor(lengths))
    assert tokens.tolist() == [token for row in rows for token in row]
    assert torch.equal(cu_seqlens, borders(lengths))


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_borders_may_be_of_either_type(kind):
    cu_seqlens = torch.tensor([0, 3, 4], dtype=kind)
    assert positions(cu_seqlens, 4).tolist() == [0, 1, 2, 0]
    assert flip_index(cu_seqlens, 4).tolist() == [2, 1, 0, 3]
    assert sequence_index(cu_seqlens, 4).tolist() == [0, 0, 0, 1]


@given(lengths=sequence_lengths(), seed=st.integers(0, 9))
def test_items_read_are_those_of_the_sequence_so_far_once_each(lengths, seed):
    tokens = torch.randint(0, 5, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    readout = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[: len(tokens) // 2]
    starts = [part.start for part in slices(lengths) for _ in range(part.start, part.stop)]
    for rows in (None, readout):
        found = {row: [] for row in range(len(tokens if rows is None else rows))}
        entries = items_read(tokens, borders(lengths), rows).of_rows()
        for row, item in zip(entries.row, entries.item, strict=True):
            found[int(row)].append(int(item))
        for row, items in found.items():
            token = row if rows is None else int(rows[row])
            assert len(items) == len(set(items))
            assert set(items) == set(tokens[starts[token] : token + 1].tolist()) - {0}
