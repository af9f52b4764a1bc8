"""Finding the C library, and what its callers share."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

_INTERFACE = 11
"""Of library.c."""


_NOT_BUILT = (
    "no C compiler was found when this package was installed (install one, and install the package again), or this is "
    "a checkout that was not installed with pip install -e"
)
_OTHER_SOURCES = (
    "the C library was built from other sources of this package, so that PyTorch computes, several times slower; "
    "install the package again (in a checkout: pip install -e .)"
)


class _Found(NamedTuple):
    """What is there of the library."""

    library: ctypes.CDLL | None
    missing: str | None


@cache
def _found() -> _Found:
    older = Path(__file__).parents[2] / "native" / "_library.so"  # where it was built before it moved here
    why = _NOT_BUILT
    for file in (Path(__file__).with_name("_library.so"), older):
        try:
            loaded = ctypes.CDLL(str(file))
            interface = loaded.recbole_ssm_interface()
        except (OSError, AttributeError):  # not built, or built for another machine
            continue
        if interface == _INTERFACE:
            loaded.recbole_ssm_scan_segment.restype = ctypes.c_int64
            return _Found(loaded, None)
        why = _OTHER_SOURCES
    if why == _OTHER_SOURCES:
        getLogger().warning(why)
    return _Found(None, why)


def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built. One that another version left behind is told of, and not used."""
    return _found().library


def loaded() -> ctypes.CDLL:
    """The library, or RuntimeError where it was not built."""
    found = library()
    if found is None:
        raise RuntimeError(f"backend native is not there: {missing()}")
    return found


def missing() -> str | None:
    """What to do where the library was not built; None where it was."""
    return None if library() is not None else _found().missing or _NOT_BUILT


def takes(tensor: Tensor) -> bool:
    """Whether the library computes with a tensor like this."""
    return tensor.dtype == torch.float32 and tensor.is_cpu


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


def function(name: str, n_pointers: int) -> Callable[..., None]:
    """:func:`call` of one function, quicker, of a description and tensors: ``n_pointers`` in all."""
    of_library = getattr(loaded(), f"recbole_ssm_{name}")
    of_library.argtypes = [ctypes.c_void_p] * n_pointers

    def called(description: ctypes.Structure, *tensors: Tensor) -> None:
        if of_library(ctypes.byref(description), *[tensor.data_ptr() for tensor in tensors]):
            raise MemoryError(f"{name} ran out of memory")

    return called


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
