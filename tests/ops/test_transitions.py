"""Counts of transitions and the scores they give, against loops in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.ops.transitions import SparseRows, count_transitions, sum_rows

SEQUENCES = st.lists(st.lists(st.integers(0, 6), max_size=8), max_size=6)


def packed(sequences):
    tokens = torch.tensor([item for sequence in sequences for item in sequence], dtype=torch.int64)
    return tokens, cumulative_lengths(torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64))


def dense(rows: SparseRows) -> torch.Tensor:
    n_items = len(rows.start) - 1
    row = torch.arange(n_items).repeat_interleave(rows.start.diff())
    return torch.zeros(n_items, n_items).index_put((row, rows.items), rows.values)


def by_loops(sequences, weights, n_items):
    counts = torch.zeros(n_items, n_items, dtype=torch.float64)
    for sequence in sequences:
        for later, a in enumerate(sequence):
            for distance, weight in enumerate(weights, 1):
                if later - distance >= 0:
                    counts[sequence[later - distance], a] += weight
    return counts


@given(sequences=SEQUENCES, weights=st.lists(st.floats(0.125, 2.0, width=16), min_size=1, max_size=10))
def test_counts_are_those_of_a_loop(sequences, weights):
    found = count_transitions(*packed(sequences), torch.tensor(weights), n_items=7)
    torch.testing.assert_close(dense(found).double(), by_loops(sequences, weights, 7), rtol=1e-6, atol=0.0)
    for first, end in zip(found.start[:-1], found.start[1:], strict=True):
        assert (found.items[first:end].diff() > 0).all()


@given(sequences=SEQUENCES, most=st.integers(1, 8))
def test_the_strongest_of_each_row_are_kept(sequences, most):
    every = count_transitions(*packed(sequences), torch.tensor([1.0, 0.5]), n_items=7)
    kept, full = dense(every.strongest(most)), dense(every)
    for row, all_of_row in zip(kept, full, strict=True):
        values = all_of_row.sort(descending=True, stable=True).values[:most]
        torch.testing.assert_close(row.sort(descending=True).values[:most], values)
        assert (row[row > 0] == all_of_row[row > 0]).all()


@given(sequences=SEQUENCES, histories=SEQUENCES, seed=st.integers(0, 99))
def test_sums_of_rows_are_those_of_a_loop(sequences, histories, seed):
    rows = count_transitions(*packed(sequences), torch.tensor([1.0, 0.5]), n_items=7)
    tokens, cu_seqlens = packed(histories)
    weights = torch.rand(len(tokens), generator=torch.Generator().manual_seed(seed))
    matrix, expected, place = dense(rows).double(), torch.zeros(len(histories), 7, dtype=torch.float64), 0
    for s, history in enumerate(histories):
        for item in history:
            expected[s] += weights[place].double() * matrix[item]
            place += 1
    torch.testing.assert_close(sum_rows(rows, tokens, weights, cu_seqlens).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "borders", "what"),
    [([1, 9], [0, 2], "tokens must be from 0 to 6"), ([1, 2], [0, 3], "cu_seqlens"), ([-1], [0, 1], "has -1")],
)
def test_wrong_input_is_refused(tokens, borders, what):
    with pytest.raises(ValueError, match=what):
        count_transitions(torch.tensor(tokens), torch.tensor(borders, dtype=torch.int32), torch.ones(2), n_items=7)
