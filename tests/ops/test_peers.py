"""The ops of the models that ours are compared with, against their definitions, a token at a time."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from packed_cases import alone, borders, randn, relative_error, sequence_lengths, slices

from recbole_ssm.ops import causal_attention, linear_recurrence
from recbole_ssm.ops.backends.pytorch.linear_recurrence import BLOCK


def complex_randn(*shape, seed):
    return torch.complex(randn(*shape, seed=seed).double(), randn(*shape, seed=seed + 100).double())


def decays(size, least=0.1, most=1.0):
    magnitude = torch.linspace(least, most, size, dtype=torch.float64)
    return torch.polar(magnitude, torch.linspace(0, 6.2, size, dtype=torch.float64))


def recurrence(x, decay, lengths):
    rows = []
    for part in slices(lengths):
        h = torch.zeros_like(decay)
        for token in x[part]:
            h = decay * h + token
            rows.append(h)
    return torch.stack(rows) if rows else x


def with_gradients(function, *leaves):
    """The result, and the gradient of each leaf for a fixed random gradient of it."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    y = function(*leaves)
    upstream = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype)
    return y.detach(), *torch.autograd.grad(y, leaves, upstream)


@given(lengths=sequence_lengths())
@example(lengths=[BLOCK - 1, 1, 2 * BLOCK, BLOCK + 1, 3])
@example(lengths=[3, 5 * BLOCK, 1, 1, BLOCK])
def test_linear_recurrence(lengths):
    x, decay = complex_randn(sum(lengths), 5, seed=1), decays(5)
    found = with_gradients(lambda x, decay: linear_recurrence(x, decay, borders(lengths)), x, decay)
    want = with_gradients(lambda x, decay: recurrence(x, decay, lengths), x, decay)
    for actual, expected in zip(found, want, strict=True):
        assert relative_error(torch.view_as_real(actual), torch.view_as_real(expected)) < 1e-12


@pytest.mark.parametrize("length", [1, 2, 3, 255, 256, 257, 1500])
def test_linear_recurrence_reaches_over_any_length(length):
    """In float32, with decays from nothing to none."""
    x, decay = complex_randn(length, 4, seed=2), decays(4, least=1e-6)
    found = linear_recurrence(x.to(torch.complex64), decay.to(torch.complex64), alone(length))
    expected = recurrence(x, decay, [length])
    assert relative_error(torch.view_as_real(found), torch.view_as_real(expected)) < 1e-5


@given(lengths=sequence_lengths())
def test_causal_attention(lengths):
    leaves = [randn(sum(lengths), 2, 3, seed=seed).double() for seed in (1, 2, 3)]

    def one_by_one(q, k, v):
        rows = []
        for part in slices(lengths):
            for t in range(part.start, part.stop):
                seen = slice(part.start, t + 1)
                weight = F.softmax(torch.einsum("hp,khp->hk", q[t], k[seen]) / 3**0.5, -1)
                rows.append(torch.einsum("hk,khp->hp", weight, v[seen]))
        return torch.stack(rows) if rows else v

    found = with_gradients(lambda *qkv: causal_attention(*qkv, borders(lengths)), *leaves)
    for actual, expected in zip(found, with_gradients(one_by_one, *leaves), strict=True):
        assert relative_error(actual, expected) < 1e-12


@pytest.mark.parametrize("op", ["attention", "recurrence"])
def test_borders_that_do_not_fit_are_refused(op):
    with pytest.raises(ValueError, match="cu_seqlens"):
        if op == "attention":
            causal_attention(*randn(3, 4, 1, 2, seed=0), alone(5))
        else:
            linear_recurrence(complex_randn(4, 2, seed=0), decays(2), alone(5))


def test_linear_recurrence_of_nothing():
    x = complex_randn(0, 3, seed=0).requires_grad_()
    y = linear_recurrence(x, decays(3), borders([]))
    assert y.shape == (0, 3)
    assert torch.autograd.grad(y.real.sum(), x)[0].shape == (0, 3)
