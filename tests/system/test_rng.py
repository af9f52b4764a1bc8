"""The state of random number generators is saved, restored, and set for a while."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from recbole_ssm.system.rng import numpy_seed, random_state, set_random_state


def drawn() -> list[float]:
    return [random.random(), np.random.random(), np.random.standard_normal(), torch.rand(1).item()]


def test_a_restored_state_gives_the_same_numbers():
    drawn()  # the second normal number of a pair is part of numpy's state
    state = random_state()
    expected = [drawn() for _ in range(3)]
    set_random_state(state)
    assert [drawn() for _ in range(3)] == expected


def test_a_position_beyond_numpys_keys_is_refused():
    state = random_state()
    state["numpy"][2] = 10**6
    with pytest.raises(ValueError, match="no state of numpy's generator"):
        set_random_state(state)


def test_a_seed_holds_for_a_while_only():
    before = random_state()
    expected = drawn()
    set_random_state(before)
    found = []
    for _ in range(2):
        with pytest.raises(KeyError), numpy_seed(3):
            found.append(np.random.random())
            raise KeyError
    assert found[0] == found[1] != expected[1]
    assert drawn() == expected
