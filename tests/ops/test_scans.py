"""What ``ssd`` and ``selective_scan`` both keep to, in every number type and backend."""

from dataclasses import replace

import pytest
import scan_contract as contract
from scan_contract import SelectiveScanCase, SsdCase

SSD = SsdCase((7, 1, 40, 9), groups=2, heads_per_group=2)
SELECTIVE_SCAN = SelectiveScanCase((7, 1, 40, 9))

each_scan = pytest.mark.parametrize("case", [SSD, SELECTIVE_SCAN], ids=["ssd", "selective scan"])
both_ways = pytest.mark.parametrize(
    "case",
    [SSD, replace(SSD, reverse=True), SELECTIVE_SCAN, replace(SELECTIVE_SCAN, reverse=True)],
    ids=["ssd forward", "ssd reverse", "selective scan forward", "selective scan reverse"],
)
with_and_without_states = pytest.mark.parametrize("states", [False, True], ids=["no states", "states"])


@pytest.mark.sampled(3)
@both_ways
def test_gradient_of_the_state_alone(dtype, case):
    """A loss that reads only the final state, and none of the outputs."""
    contract.check_recurrence(case, dtype, use=("state",))


@pytest.mark.sampled(3)
@both_ways
def test_gradient_of_the_outputs_alone(dtype, case):
    """A loss that reads only the outputs, although the state is asked for."""
    contract.check_recurrence(case, dtype, use=("y",))


@pytest.mark.sampled(5)
@with_and_without_states
@both_ways
def test_no_token_sees_another_sequence(dtype, case, states):
    contract.check_isolation(case, dtype, states=states)


@pytest.mark.sampled(5)
@with_and_without_states
@both_ways
def test_no_gradient_crosses_a_border(dtype, case, states):
    contract.check_gradients_stay_within_borders(case, dtype, states=states)


@both_ways
def test_asking_for_the_state_changes_no_output(dtype, case):
    contract.check_asking_for_the_state_changes_no_output(case, dtype)


@pytest.mark.sampled(3)
@each_scan
@with_and_without_states
def test_each_gradient_alone_equals_all_at_once(dtype, states, case):
    contract.check_each_gradient_alone(case, dtype, states=states)


@each_scan
@with_and_without_states
def test_memory_layout_does_not_matter(dtype, states, case):
    contract.check_memory_layout(case, dtype, states=states)


@both_ways
def test_inputs_stay_as_they_are(dtype, case):
    contract.check_inputs_stay_as_they_are(case, dtype)


@each_scan
@pytest.mark.parametrize("dtype", ["float32", "float32-compiled"], indirect=True)
def test_mixed_types_are_right_or_refused(dtype, case):
    contract.check_mixed_types(case)


@each_scan
@with_and_without_states
def test_sizes_that_do_not_fit_are_refused(dtype, states, case):
    contract.check_sizes(case, dtype, states=states)


@each_scan
def test_borders_of_either_type(dtype, case):
    contract.check_borders_of_either_type(case, dtype)
