"""``check_backend`` passes this package's backends, and finds mistakes in wrong ones."""

from dataclasses import replace

import pytest
import torch

from recbole_ssm.ops.backends import Backend, Kernel
from recbole_ssm.ops.backends.native.backend import NATIVE
from recbole_ssm.ops.backends.pytorch.backend import PYTORCH
from recbole_ssm.testing import check_backend, unwritten_memory_is_nan

pytestmark = pytest.mark.slow


def only(backend: Backend, op: str) -> Backend:
    """A backend of one of the ops."""
    return replace(backend, kernels={op: backend.kernels[op]})


@pytest.mark.parametrize("op", PYTORCH.kernels)
def test_pytorch_keeps_the_contract(op):
    check_backend(only(PYTORCH, op), dtype=torch.float64)


@pytest.mark.parametrize("op", ["ssd", "cross_entropy", "gated_norm"])
def test_pytorch_keeps_the_contract_in_half_precision(op):
    check_backend(only(PYTORCH, op), dtype=torch.bfloat16, only="extreme" if op == "ssd" else "")


def test_pytorch_itself_may_not_compute_scans_in_half_precision():
    """A backend that takes half precision must keep its sums in float32, and PyTorch's scans alone do not."""
    with pytest.raises(AssertionError, match="careless: ssd"):
        check_backend(replace(only(PYTORCH, "ssd"), name="careless"), dtype=torch.float16)


@pytest.mark.skipif(NATIVE.missing() is not None, reason="the C library is not built")
@pytest.mark.parametrize("op", NATIVE.kernels)
def test_the_c_library_keeps_the_contract(op):
    check_backend(only(NATIVE, op))


def wrong(op, change, fits=None) -> Backend:
    """PyTorch with one op's results changed."""
    right = PYTORCH.kernels[op].run

    def run(*arguments, **options):
        return change(right(*arguments, **options), *arguments)

    return Backend("wrong", {op: Kernel(run, fits)}, takes=lambda tensor: True)


def looks_ahead(y, x, *_):
    return y + 1e-3 * x.roll(-1, 0)


def overwrites(y, x, *_):
    x.detach().add_(1e-3)
    return y


def forgets_to_write(y, x, *_):
    into = torch.empty_like(y)
    into[1:] = y[1:].detach()
    return y + 0.0 * into


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (looks_ahead, "y is off by"),
        (lambda y, *_: y.detach() + 0.5 * (y - y.detach()), "grad x is off by"),
        (overwrites, "x was overwritten"),
        (forgets_to_write, "there are numbers that are not finite"),
        (lambda y, *_: y.to(torch.complex128), "y is torch.complex128"),
    ],
)
def test_a_mistake_is_found(change, what):
    with pytest.raises(AssertionError, match=f"wrong: linear_recurrence, lengths .*: {what}"):
        check_backend(wrong("linear_recurrence", change))


def test_a_backend_that_takes_nothing_is_found():
    with pytest.raises(AssertionError, match="attention: it takes none of the cases"):
        check_backend(wrong("attention", lambda y, *_: y, fits=lambda *arguments: False))


def test_dropout_that_forgets_to_scale_is_found():
    with pytest.raises(AssertionError, match="dropout: kept elements are not scaled"):
        check_backend(wrong("dropout", lambda y, *_: 0.7 * y))


@pytest.mark.parametrize("before", [True, False])
def test_unwritten_memory_is_nan_within_the_block_alone(before):
    torch._C._set_deterministic_algorithms(before, warn_only=True)
    with unwritten_memory_is_nan():
        x = torch.zeros(3)
        assert all(made.isnan().all() for made in (torch.empty(2, 3), torch.empty_like(x), x.new_empty(4)))
        assert torch.empty(2, dtype=torch.int64).dtype == torch.int64
    assert torch.are_deterministic_algorithms_enabled() == before
