"""This package's Triton kernels, on a GPU or, with ``TRITON_INTERPRET=1``, slowly on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.base import Backend, Kernel

_OLDEST = (3, 4)
"""Before it Triton's compiler has no tuples of tuples, which the kernels of Mamba's scan return."""


@cache
def _missing() -> str | None:
    if find_spec("triton") is None:
        return "install triton"
    found = _installed_version()
    if found >= _OLDEST:
        return None
    needed, here = (".".join(map(str, each)) for each in (_OLDEST, found))
    return f"install triton {needed} or later, which torch 2.8 brings along; this is {here}"


def _installed_version() -> tuple[int, ...]:
    """Its first two numbers; the oldest that will do where a package of another name brought it."""
    try:
        return tuple(int(part) for part in version("triton").split(".")[:2])
    except PackageNotFoundError:
        return _OLDEST


def _is_here(tensor: Tensor) -> bool:
    anywhere = os.environ.get("TRITON_INTERPRET") == "1"  # Triton's own way to run kernels without a GPU
    return tensor.is_cuda or anywhere


def takes(tensor: Tensor) -> bool:
    """Whether the kernels compute with a tensor like this."""
    return _is_here(tensor) and tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)


def _takes_complex(tensor: Tensor) -> bool:
    return _is_here(tensor) and tensor.dtype == torch.complex64


def _from(file: str, name: str) -> Callable[..., Any]:
    """A function of a file of this folder, which is imported at the first call: Triton may be missing."""

    def call(first: Tensor, *others: Any, **options: Any) -> Any:
        function = getattr(import_module(f"{__package__}.{file}"), name)
        with torch.cuda.device_of(first):  # Triton launches on the current GPU, wherever the tensors are
            return function(first, *others, **options)

    return call


def _cross_entropy_fits(*tensors: Tensor | None, **options: Any) -> bool:
    """Whether all is in float32, as the op hands it over; matrices may still be multiplied in half precision."""
    return all(tensor is None or tensor.dtype == torch.float32 for tensor in tensors[:3])


TRITON = Backend(
    name="triton",
    kernels={
        "ssd": Kernel(_from("ssd", "ssd"), _from("ssd", "fits")),
        "selective_scan": Kernel(_from("selective_scan", "selective_scan")),
        "conv1d": Kernel(_from("conv1d", "conv1d"), _from("conv1d", "fits")),
        "gated_norm": Kernel(_from("gated_norm", "gated_norm"), _from("gated_norm", "fits")),
        "linear_recurrence": Kernel(_from("linear_recurrence", "linear_recurrence"), takes=_takes_complex),
        "cross_entropy": Kernel(_from("cross_entropy", "cross_entropy"), _cross_entropy_fits),
        "attention": Kernel(_from("attention", "attention"), _from("attention", "fits")),
    },
    takes=takes,
    missing=_missing,
)
