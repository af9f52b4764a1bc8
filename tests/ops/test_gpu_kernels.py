"""What runs on GPUs, as far as it can be seen without one.

The kernels of mamba-ssm and causal-conv1d are replaced by plain functions with their documented meaning, so that what
is handed to them, and what comes back, can be checked. This package's own are in ``test_triton_kernels.py``.
"""

import sys
from dataclasses import replace
from functools import wraps
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from packed_cases import borders, randn
from scan_contract import SsdCase

from recbole_ssm.ops import causal_conv1d, use_backend
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.convolution.reference import depthwise_conv1d
from recbole_ssm.ops.state_space_duality.reference import ssd


def packages(**functions) -> dict[str, ModuleType]:
    """Modules, with all above them, that hold a function each: ``{"a.b": function}``."""
    modules = {}
    for name, function in functions.items():
        parts = name.split("__")
        for i in range(1, len(parts) + 1):
            modules.setdefault(".".join(parts[:i]), ModuleType(".".join(parts[:i])))
        setattr(modules[".".join(parts)], function.__name__, function)
    return modules


def borders_of(seq_idx):
    """``cu_seqlens`` of a register."""
    assert seq_idx.dtype == torch.int32
    return borders(seq_idx.unique_consecutive(return_counts=True)[1].tolist())


def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D=None, seq_idx=None):
    """(1, T, ...) with the state reset where ``seq_idx`` changes."""
    assert chunk_size & (chunk_size - 1) == 0
    assert all(tensor.is_contiguous() and len(tensor) == 1 for tensor in (x, dt, B, C, seq_idx))
    y, _ = ssd(x[0], dt[0], A, B[0], C[0], borders_of(seq_idx[0]), D=D)
    return y[None]


def causal_conv1d_fn(x, weight, bias=None, seq_idx=None, activation=None):
    """(1, C, T), which with ``seq_idx`` must have channels side by side."""
    assert x.stride(1) == 1
    assert weight.is_contiguous()
    y = depthwise_conv1d(x[0].T, weight, bias, borders_of(seq_idx[0]), ahead=0)
    return (F.silu(y) if activation == "silu" else y).T[None]


@pytest.fixture
def fake_packages(monkeypatch):
    """mamba-ssm and causal-conv1d as they document themselves, and CPU tensors taken for a GPU's.

    Yields the list of functions called, which grows with each call.
    """
    called = []

    def noted(function):
        @wraps(function)
        def noting(*arguments, **options):
            called.append(function.__name__)
            return function(*arguments, **options)

        return noting

    fakes = packages(
        mamba_ssm__ops__triton__ssd_combined=noted(mamba_chunk_scan_combined), causal_conv1d=noted(causal_conv1d_fn)
    )
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    with use_backend(replace(GPU_PACKAGES, takes=lambda tensor: True, missing=lambda: None)):
        yield called


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_what_mamba_ssm_is_given_for_ssd(fake_packages, reverse, skip):
    import scan_contract as contract

    case = SsdCase((7, 1, 20), groups=2, heads_per_group=2, reverse=reverse, skip=skip)
    contract.check_recurrence_without_states(case, torch.float64)
    assert fake_packages == ["mamba_chunk_scan_combined"]
    contract.check_recurrence(case, torch.float64)  # states: in PyTorch
    assert fake_packages == ["mamba_chunk_scan_combined"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("channels", "width"), [(8, 4), (16, 2), (8, 5), (9, 4)])
@pytest.mark.parametrize("activation", ["silu", None])
def test_what_causal_conv1d_is_given(fake_packages, channels, width, reverse, activation):
    """Also sizes that it does not have, which PyTorch computes."""
    lengths = (5, 1, 12)
    x, weight, bias = randn(18, channels), randn(channels, width, seed=1), randn(channels, seed=2)
    found = causal_conv1d(x, weight, bias, borders(lengths), activation=activation, reverse=reverse)
    taps, ahead = (weight.flip(1), width - 1) if reverse else (weight, 0)
    y = depthwise_conv1d(x, taps, bias, borders(lengths), ahead=ahead)
    torch.testing.assert_close(found, F.silu(y) if activation else y)
    assert fake_packages == (["causal_conv1d_fn"] if (channels, width) in [(8, 4), (16, 2)] else [])


def test_mamba_ssm_takes_no_tensors_of_a_cpu():
    assert not GPU_PACKAGES.takes(torch.empty(0))
