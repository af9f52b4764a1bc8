"""Finding the C library, and what its callers share."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

_INTERFACE = 10
"""Of library.c: a library left behind by another version is not used."""


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built."""
    older = Path(__file__).parents[2] / "native" / "_library.so"  # where it was built before it moved here
    for file in (Path(__file__).with_name("_library.so"), older):
        try:
            loaded = ctypes.CDLL(str(file))
            if loaded.recbole_ssm_interface() != _INTERFACE:
                continue
        except (OSError, AttributeError):  # not built, built for another machine, or from other sources
            continue
        loaded.recbole_ssm_scan_segment.restype = ctypes.c_int64
        return loaded
    return None


def loaded() -> ctypes.CDLL:
    """The library, or RuntimeError where it was not built."""
    found = library()
    if found is None:
        raise RuntimeError(f"backend native is not there: {missing()}")
    return found


def missing() -> str | None:
    """What to do where the library was not built; None where it was."""
    if library() is not None:
        return None
    return (
        "no C compiler was found when this package was installed (install one, and install the package again), or this "
        "is a checkout that was not installed with pip install -e"
    )


def takes(tensor: Tensor) -> bool:
    """Whether the library computes with a tensor like this."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def call(name: str, description: ctypes.Structure, *arguments: Tensor | int | None) -> None:
    """Call a function of the library; MemoryError where it runs out of memory.

    Args:
        name: of the function, without ``recbole_ssm_``.
        description: of the problem.
        *arguments: tensors, None for NULL, and numbers.
    """
    converted = [
        ctypes.c_int64(argument) if isinstance(argument, int) else ctypes.c_void_p(pointer(argument))
        for argument in arguments
    ]
    if getattr(loaded(), f"recbole_ssm_{name}")(ctypes.byref(description), *converted):
        raise MemoryError(f"{name} ran out of memory")


def pointer(tensor: Tensor | None) -> int | None:
    """Where a tensor's data lie; None for None."""
    return None if tensor is None else tensor.data_ptr()


def pointers(tensors: Sequence[Tensor | None]) -> list[int | None]:
    """:func:`pointer` of each."""
    return [pointer(tensor) for tensor in tensors]


def threads_for(channels: int) -> int:
    """As many as torch uses, if each has a vector of channels to work on."""
    return max(1, min(torch.get_num_threads(), channels // 16))


def threads_for_rows(rows: int) -> int:
    """As many as torch uses, if each has some rows to work on."""
    return max(1, min(torch.get_num_threads(), rows // 64))
