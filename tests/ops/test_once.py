"""What is computed once for a batch, and what is not."""

import pytest
import torch

from recbole_ssm.ops import packing
from recbole_ssm.ops.once import once, once_a_batch


@pytest.fixture
def counted():
    """A function that is marked, and its calls."""
    calls = []

    @once
    def double(tensor, factor=2):
        calls.append(factor)
        return factor * tensor

    return double, calls


def test_each_tensor_has_its_own_result(counted):
    double, calls = counted
    first, second = torch.arange(3), torch.arange(3)
    with once_a_batch():
        assert double(first) is double(first)
        assert double(first) is not double(second)
        assert double(first, factor=3).tolist() == [0, 3, 6]
        assert double(torch.arange(2)).tolist() == double(torch.arange(2)).tolist()  # one may get the other's id
    assert calls == [2, 2, 3, 2, 2]


def test_outside_of_a_batch_and_in_another_it_is_computed_again(counted):
    double, calls = counted
    tensor = torch.arange(3)
    for _ in range(2):
        double(tensor)
        with once_a_batch():
            double(tensor)
            with once_a_batch():
                double(tensor)
            double(tensor)
    assert len(calls) == 4


def test_a_tensor_that_has_changed_is_another(counted):
    double, _ = counted
    tensor = torch.arange(3)
    with once_a_batch():
        double(tensor)
        tensor += 1
        assert double(tensor).tolist() == [2, 4, 6]


def test_what_inference_mode_has_made_is_not_used_for_gradients(counted):
    double, _ = counted
    tensor, weight = torch.arange(3.0), torch.ones(3, requires_grad=True)
    with once_a_batch():
        with torch.inference_mode():
            double(tensor)
            assert double(torch.ones(1)).tolist() == [2]  # of inference mode, where nobody counts changes
        (double(tensor) * weight).sum().backward()
    assert weight.grad.tolist() == [0, 2, 4]


def test_an_error_is_raised_each_time():
    with once_a_batch():
        for _ in range(2):
            with pytest.raises(ValueError, match="must not decrease"):
                packing.check_borders(torch.tensor([0, 3, 2, 5]), 5)
