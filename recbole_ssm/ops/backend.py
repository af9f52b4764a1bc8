"""Which code computes what here exists in several forms: a choice for the whole process.

=============  =======================================================================================================
``auto``       the fastest that takes the tensors at hand
``torch``      PyTorch alone, on any device and in any number type
``native``     the C library: all of them, on a CPU in float32
``mamba_ssm``  the packages mamba-ssm and causal-conv1d: ``ssd`` without states and causal convolutions, on a GPU
``triton``     this package's Triton kernels: ``selective_scan``, on a GPU
=============  =======================================================================================================

What a backend lacks, or does not take, PyTorch computes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

from recbole_ssm.ops import mamba_ssm, native

BACKENDS = ("auto", "torch", "native", "mamba_ssm", "triton")
OPS = ("ssd", "selective_scan", "conv1d", "cross_entropy", "feed_forward", "gated_norm", "dropout")

_INSTALL = {
    "native": (
        "no C compiler was found when this package was installed (install one, and install the package again), or this "
        "is a checkout that was not installed with pip install -e"
    ),
    "mamba_ssm": "install mamba-ssm and causal-conv1d",
    "triton": "install triton",
}

_chosen = "auto"


def _installed(name: str) -> bool:
    if name == "native":
        return native.library() is not None
    return mamba_ssm.installed() if name == "mamba_ssm" else find_spec("triton") is not None


def _takes(name: str, op: str, tensors: tuple[Tensor | None, ...]) -> bool:
    if name == "native":
        return native.takes(*tensors)
    if name == "mamba_ssm":
        return op in ("ssd", "conv1d") and mamba_ssm.takes(*tensors)
    given = [tensor for tensor in tensors if tensor is not None]
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    anywhere = os.environ.get("TRITON_INTERPRET") == "1"  # Triton's own way to run kernels without a GPU
    fits = all((tensor.is_cuda or anywhere) and tensor.dtype in kinds for tensor in given)
    return op == "selective_scan" and fits and _installed(name)


def check_backend(name: str) -> None:
    """Raise ValueError unless the backend is known and installed; the message says what to do."""
    if name not in BACKENDS:
        raise ValueError(f"the backend is one of {', '.join(BACKENDS)}, not {name!r}")
    if name in _INSTALL and not _installed(name):
        raise ValueError(f"backend {name} is not there: {_INSTALL[name]}, or use auto")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run ops on a backend for the time of a ``with`` block.

    Raises:
        ValueError: the backend is unknown or not installed.
    """
    global _chosen
    check_backend(name)
    before, _chosen = _chosen, name
    try:
        yield
    finally:
        _chosen = before


def choose(op: str, *tensors: Tensor | None) -> str:
    """The backend that computes ``op``, one of :data:`OPS`, on tensors like these (None: not given)."""
    if op not in OPS:
        raise ValueError(f"op is one of {', '.join(OPS)}, not {op!r}")
    for name in _INSTALL if _chosen == "auto" else (_chosen,):
        if name in _INSTALL and _takes(name, op, tensors):
            return name
    return "torch"


def describe_backends(device: torch.device) -> str:
    """Which backend each op has on a device in float32, in words."""
    example = torch.empty(0, device=device)
    return ", ".join(f"{op} {choose(op, example)}" for op in OPS)
