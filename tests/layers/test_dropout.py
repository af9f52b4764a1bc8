"""Dropout keeps what it should, at random, and the same in both passes."""

import pytest
import torch

from recbole_ssm.layers import Dropout
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.backends import choose
from recbole_ssm.ops.backends.native.loading import library

compiled = pytest.mark.skipif(choose("dropout", torch.empty(0)) != "native", reason="the C library is not built")


@pytest.fixture(params=["torch", pytest.param("native", marks=compiled)])
def backend(request):
    with use_backend(request.param):
        yield request.param


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_kept_values_are_scaled_and_as_many_as_they_should_be(backend, p):
    torch.manual_seed(0)
    x = torch.rand(300, 700) + 1
    y = Dropout(p)(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], (x / (1 - p))[kept])
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(kept.double().mean() - (1 - p)) < 5 * deviation


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_places_are_independent(backend, p):
    """Neighbours in a row, in a column, and the same place of another call agree no more often than chance has it."""
    torch.manual_seed(1)
    ones = torch.ones(1000, 256)
    first, second = (Dropout(p)(ones) != 0 for _ in range(2))
    pairs = {
        "row": (first[:, :-1], first[:, 1:]),
        "column": (first[:-1], first[1:]),
        "stride of 16": (first[:, :-16], first[:, 16:]),
        "next call": (first, second),
    }
    for name, (a, b) in pairs.items():
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).float())[0, 1]
        assert abs(correlation) < 5 / a.numel() ** 0.5, name
    per_column = first.double().mean(0)
    assert (per_column - (1 - p)).abs().max() < 6 * (p * (1 - p) / 1000) ** 0.5


def test_the_gradient_passes_where_the_value_did(backend):
    x = torch.rand(50, 33).add(1).requires_grad_()
    y = Dropout(0.4)(x)
    y.backward(torch.full_like(y, 3.0))
    torch.testing.assert_close(x.grad, 3.0 * y.detach() / x.detach())


def test_a_seed_repeats_it(backend):
    x, found = torch.ones(40, 9), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(Dropout(0.5)(x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.7, False)])
def test_nothing_is_dropped_without_reason(backend, p, training):
    x = torch.rand(3, 5)
    assert torch.equal(Dropout(p).train(training)(x), x)


def test_everything_is_dropped_at_one(backend):
    assert not Dropout(1.0)(torch.ones(3, 5)).any()


@compiled
def test_threads_machines_and_memory_layout_change_nothing():
    x, found = torch.rand(999, 77), []
    try:
        for threads, machine, rows in ((1, 2, x), (3, 2, x), (1, 1, x), (1, 0, x), (2, 2, x.T.contiguous().T)):
            torch.set_num_threads(threads)  # the fixture torch_for_tests sets it back
            library().recbole_ssm_use(machine)
            torch.manual_seed(3)
            found.append(Dropout(0.3)(rows))
    finally:
        library().recbole_ssm_use(2)
    assert all(torch.equal(found[0], other) for other in found[1:])
