"""What runs on GPUs, as far as it can be seen without one.

Triton's interpreter runs this package's kernels on a CPU. The kernels of mamba-ssm and causal-conv1d are replaced by
plain functions with their documented meaning, so that what is handed to them, and what comes back, can be checked.
"""

import os
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
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

INTERPRETED = """
import torch
import scan_contract as contract
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.backends import choose

with use_backend("triton"):
    assert choose("selective_scan", torch.empty(0)) == "triton"
    for options in ({}, {"reverse": True, "skip": False}, {"initial": False, "channels": 17, "d_state": 5}):
        case = contract.SelectiveScanCase((7, 1, 40), **({"channels": 5, "d_state": 3} | options))
        contract.check_recurrence(case, torch.float32)
        contract.check_recurrence_without_states(case, torch.float32)
    extreme = contract.SelectiveScanCase((9, 34), extreme=True)
    contract.check_recurrence(extreme, torch.float32, contract.EXTREME_TOLERANCE)
"""


INTERPRETED_SSD = """
import torch
import scan_contract as contract
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.backends import choose
from recbole_ssm.ops.backends.triton import ssd

ssd._chunk_length = lambda *_: 16  # several to a sequence of few tokens
with use_backend("triton"):
    assert choose("ssd", torch.empty(0)) == "triton"
    groups = {"groups": 2, "heads_per_group": 2, "headdim": 17, "d_state": 5}
    for lengths, options in (
        ((0, 7, 1, 40), {"d_state": 3}),
        ((7, 1, 40, 0), {"d_state": 3, "reverse": True, "skip": False}),
        ((3, 20, 1, 0, 1), {"initial": False, **groups}),
    ):
        case = contract.SsdCase(lengths, **options)
        contract.check_recurrence(case, torch.float32)
        contract.check_recurrence_without_states(case, torch.float32)
    extreme = contract.SsdCase((9, 34), extreme=True)
    contract.check_recurrence(extreme, torch.float32, contract.EXTREME_TOLERANCE)
    contract.check_recurrence_without_states(extreme, torch.float32, contract.EXTREME_TOLERANCE)

    nothing = contract.SsdCase((0, 0)).inputs(torch.float32)
    y, states = contract.call(contract.ops.ssd, nothing, torch.tensor([0, 0, 0]), return_final_state=True)
    assert y.shape == (0, 1, 4) and torch.equal(states, nothing["initial_state"])
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: pip install triton")
@pytest.mark.parametrize("code", [INTERPRETED, INTERPRETED_SSD], ids=["selective_scan", "ssd"])
def test_the_triton_scans_equal_the_recurrence(code):
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("op", ["selective_scan", "ssd"])
def test_the_triton_scans_on_a_gpu(op):
    """The same compiled, against the op's formula."""
    from recbole_ssm.ops.backends.triton.backend import TRITON
    from recbole_ssm.testing import check_backend

    check_backend(replace(TRITON, kernels={op: TRITON.kernels[op]}), device="cuda", only="reverse")


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
