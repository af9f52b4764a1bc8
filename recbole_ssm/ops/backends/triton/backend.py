"""This package's Triton kernels, on a GPU or, with ``TRITON_INTERPRET=1``, slowly on a CPU."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.base import Backend, Kernel


@cache
def installed() -> bool:
    """Whether Triton is there."""
    return find_spec("triton") is not None


def _missing() -> str | None:
    return None if installed() else "install triton"


def takes(tensor: Tensor) -> bool:
    """Whether the kernels compute with a tensor like this."""
    anywhere = os.environ.get("TRITON_INTERPRET") == "1"  # Triton's own way to run kernels without a GPU
    return (tensor.is_cuda or anywhere) and tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)


def _selective_scan(*tensors: Tensor, **options: Any) -> Any:
    from recbole_ssm.ops.backends.triton.selective_scan import selective_scan  # Triton may be missing

    return selective_scan(*tensors, **options)


def _cross_entropy_fits(*tensors: Tensor | None, **options: Any) -> bool:
    """Whether all is in float32, as the op hands it over; matrices may still be multiplied in half precision."""
    return all(tensor is None or tensor.dtype == torch.float32 for tensor in tensors[:4])


def _cross_entropy(*tensors: Any, **options: Any) -> Any:
    from recbole_ssm.ops.backends.triton.cross_entropy import cross_entropy

    return cross_entropy(*tensors, **options)


TRITON = Backend(
    name="triton",
    kernels={
        "selective_scan": Kernel(_selective_scan),
        "cross_entropy": Kernel(_cross_entropy, _cross_entropy_fits),
    },
    takes=takes,
    missing=_missing,
)
