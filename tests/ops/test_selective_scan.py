"""``selective_scan`` is the recurrence of its reference, in every number type and backend."""

from dataclasses import replace

import pytest
import scan_contract as contract
from hypothesis import example, given
from scan_contract import EXTREME_TOLERANCE, SelectiveScanCase, selective_scan_cases

MIXED = SelectiveScanCase((7, 1, 40, 9))
BACKWARD = replace(MIXED, reverse=True)

with_and_without_states = pytest.mark.parametrize("states", [False, True], ids=["no states", "states"])


@given(case=selective_scan_cases())
@example(MIXED)
@example(BACKWARD)
def test_equals_the_recurrence(dtype, case):
    contract.check_recurrence(case, dtype)


@pytest.mark.slow
@given(case=selective_scan_cases())
@example(MIXED)
@example(BACKWARD)
def test_equals_the_recurrence_without_states(dtype, case):
    contract.check_recurrence_without_states(case, dtype)


@given(case=selective_scan_cases(extreme=True))
def test_equals_the_recurrence_at_extreme_decays(dtype, case):
    contract.check_recurrence(case, dtype, EXTREME_TOLERANCE)


@pytest.mark.slow
@given(case=selective_scan_cases(extreme=True))
def test_equals_the_recurrence_at_extreme_decays_without_states(dtype, case):
    contract.check_recurrence_without_states(case, dtype, EXTREME_TOLERANCE)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("length", [31, 32, 33, 100])
def test_lengths_around_multiples_of_the_steps_kept(dtype, length):
    """Where states are kept for the backward pass, and where they are recomputed from."""
    contract.check_recurrence(SelectiveScanCase((3, length), d_state=3, seed=length), dtype)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("channels", [1, 7, 16, 65])
def test_numbers_of_channels(dtype, channels):
    """Around the widths of vector registers."""
    case = SelectiveScanCase((20, 1, 9), d_state=5, channels=channels, reverse=True)
    contract.check_recurrence(case, dtype)


@with_and_without_states
@given(case=selective_scan_cases())
def test_packed_equals_one_sequence_at_a_time(states, case):
    contract.check_packing(case, states=states)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("initial", [False, True])
def test_state_carries_a_sequence_on(dtype, initial, reverse):
    case = SelectiveScanCase((30,), initial=initial, reverse=reverse)
    contract.check_state_carries_on(case, dtype, cut=11)


def test_threads_change_nothing(dtype):
    """Also where they do not share the channels evenly."""
    contract.check_threads(SelectiveScanCase((7, 1, 40, 9), channels=56), dtype)


@with_and_without_states
def test_second_derivatives_are_right_or_refused(dtype, states):
    contract.check_second_derivative(SelectiveScanCase((3, 5)), dtype, states=states)


@with_and_without_states
@pytest.mark.parametrize("reverse", [False, True])
def test_backward_pass_is_the_derivative(reverse, states):
    case = SelectiveScanCase((3, 1, 5), d_state=2, channels=3, reverse=reverse)
    contract.check_backward_pass(case, states=states)
