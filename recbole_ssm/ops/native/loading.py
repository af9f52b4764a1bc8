"""Finding the C library, and what its callers share."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

_INTERFACE = 9
"""Of library.c: a library left behind by another version is not used."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built."""
    older = Path(__file__).parent.glob("_library.*.so")  # named after a Python, as they once were
    for file in (Path(__file__).with_name("_library.so"), *sorted(older)):
        try:
            loaded = ctypes.CDLL(str(file))
            if loaded.recbole_ssm_interface() != _INTERFACE:
                continue
        except (OSError, AttributeError):  # not built, built for another machine, or from other sources
            continue
        loaded.recbole_ssm_scan_segment.restype = ctypes.c_int64
        return loaded
    return None


def takes(*tensors: Tensor | None) -> bool:
    """Whether the library is there and computes with tensors like these."""
    given = (tensor for tensor in tensors if tensor is not None)
    return library() is not None and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in given)


def call(name: str, description: ctypes.Structure, *arguments: Tensor | int | None) -> None:
    """Call a function of the library with a description of the problem, tensors (None for NULL) and numbers."""
    converted = [
        ctypes.c_int64(argument) if isinstance(argument, int) else ctypes.c_void_p(pointer(argument))
        for argument in arguments
    ]
    if getattr(library(), f"recbole_ssm_{name}")(ctypes.byref(description), *converted):
        raise MemoryError(f"{name} ran out of memory")


def pointer(tensor: Tensor | None) -> int | None:
    """Where a tensor's data lie; None for None."""
    return None if tensor is None else tensor.data_ptr()


def rows_contiguous(tensor: Tensor) -> Tensor:
    """The tensor (T, n), copied if need be so that a row's elements lie side by side."""
    return tensor if tensor.stride(1) == 1 else tensor.contiguous()


def threads_for(channels: int) -> int:
    """As many as torch uses, if each has a vector of channels to work on."""
    return max(1, min(torch.get_num_threads(), channels // 16))


def threads_for_rows(rows: int) -> int:
    """As many as torch uses, if each has some rows to work on."""
    return max(1, min(torch.get_num_threads(), rows // 64))
