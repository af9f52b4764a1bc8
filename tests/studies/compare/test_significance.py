"""Tests of significance are those of the textbook."""

import itertools

import numpy as np
import pytest

from recbole_ssm.studies.compare.significance import holm, permutation_p, stars


def test_permutation_test_is_the_share_of_signs_that_give_as_much():
    difference = np.random.default_rng(0).normal(0.6, 1, 10)
    means = [abs(np.mean(difference * signs)) for signs in itertools.product((-1, 1), repeat=10)]
    exact = np.mean([mean >= abs(difference.mean()) - 1e-12 for mean in means])
    assert 0.01 < exact < 0.5
    assert permutation_p(difference) == pytest.approx(exact, abs=0.02)


@pytest.mark.slow
def test_permutation_test_sees_what_is_there_and_nothing_else():
    rng = np.random.default_rng(1)
    assert permutation_p(rng.normal(0.1, 1, 5000)) < 0.001
    assert permutation_p(np.zeros(50)) == 1.0
    false_alarms = sum(permutation_p(rng.normal(0, 1, 80), resamples=499) < 0.05 for _ in range(200))
    assert 1 <= false_alarms <= 24  # 10 are expected


def test_holm_multiplies_by_the_number_of_hypotheses_that_are_left():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_stars():
    assert [stars(p) for p in (0.2, 0.05, 0.049, 0.0099, 0.0009)] == ["", "", "*", "**", "***"]
