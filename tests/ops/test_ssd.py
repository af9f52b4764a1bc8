"""``ssd`` is the recurrence of its reference, in every number type and backend."""

from dataclasses import replace

import pytest
import scan_contract as contract
import torch
import torch.nn.functional as F
from hypothesis import example, given
from scan_contract import EXTREME_TOLERANCE, SsdCase, ssd_cases

from recbole_ssm.ops.backends.native.ssd import owners

MIXED = SsdCase((7, 1, 40, 9), groups=2, heads_per_group=2)
BACKWARD = replace(MIXED, reverse=True)

with_and_without_states = pytest.mark.parametrize("states", [False, True], ids=["no states", "states"])


@given(case=ssd_cases())
@example(MIXED)
@example(BACKWARD)
def test_equals_the_recurrence(dtype, case):
    contract.check_recurrence(case, dtype)


@pytest.mark.slow
@given(case=ssd_cases())
@example(MIXED)
@example(BACKWARD)
def test_equals_the_recurrence_without_states(dtype, case):
    contract.check_recurrence_without_states(case, dtype)


@given(case=ssd_cases(extreme=True))
@example(SsdCase((1, 22, 40, 1, 1, 17), d_state=3, headdim=1, skip=False, initial=False, extreme=True, seed=2340))
def test_equals_the_recurrence_at_extreme_decays(dtype, case):
    contract.check_recurrence(case, dtype, EXTREME_TOLERANCE)


@pytest.mark.slow
@given(case=ssd_cases(extreme=True))
def test_equals_the_recurrence_at_extreme_decays_without_states(dtype, case):
    contract.check_recurrence_without_states(case, dtype, EXTREME_TOLERANCE)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32, 33, 64, 65])
def test_lengths_around_powers_of_two(length):
    """Where chunks, if there are any, begin and end."""
    case = SsdCase((length, 3, length), d_state=3, heads_per_group=2, headdim=2, seed=length)
    contract.check_recurrence(case, torch.float64)
    contract.check_recurrence_without_states(case, torch.float64)


@pytest.mark.sampled(3)
def test_stream_of_many_tiles(dtype):
    """More tokens and columns than any backend takes at once."""
    case = SsdCase((150, 1, 20), d_state=2, groups=2, heads_per_group=4, headdim=128, seed=1)
    contract.check_recurrence_without_states(case, dtype)


@with_and_without_states
@given(case=ssd_cases())
def test_packed_equals_one_sequence_at_a_time(states, case):
    contract.check_packing(case, states=states)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("initial", [False, True])
def test_state_carries_a_sequence_on(dtype, initial, reverse):
    case = SsdCase((30,), groups=2, heads_per_group=2, initial=initial, reverse=reverse)
    contract.check_state_carries_on(case, dtype, cut=11)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("lengths", "by_sequence"),
    [((7, 1, 40, 9), False), ((3000,), False), ((30, 1, 31, 64, 29, 0, 33, 20, 40), True), ((5,) * 20, True)],
)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_threads_change_nothing(dtype, lengths, by_sequence, reverse):
    """Whether they share out sequences, or, where these are too uneven, heads: also where heads are no multiple."""
    chunks = torch.tensor([(length + 31) // 32 for length in lengths])
    assert (owners(F.pad(chunks.cumsum(0), (1, 0)), 3) is not None) == by_sequence
    case = SsdCase(lengths, groups=2, heads_per_group=2, headdim=28, reverse=reverse)
    contract.check_threads(case, dtype)


def test_sequences_are_dealt_out_evenly():
    lengths = torch.randint(1, 60, (200,), generator=torch.Generator().manual_seed(0))
    owner = owners(F.pad(lengths.cumsum(0), (1, 0)), 4)
    shares = owner.bincount(lengths.double(), minlength=4) / lengths.sum()
    assert owner.dtype == torch.int32
    assert ((shares > 0.24) & (shares < 0.26)).all()


@with_and_without_states
def test_second_derivatives_are_right_or_refused(dtype, states):
    contract.check_second_derivative(SsdCase((3, 5)), dtype, states=states)


@with_and_without_states
@pytest.mark.parametrize("reverse", [False, True])
def test_backward_pass_is_the_derivative(reverse, states):
    case = SsdCase((3, 1, 5), d_state=2, groups=2, headdim=2, reverse=reverse)
    contract.check_backward_pass(case, states=states)
