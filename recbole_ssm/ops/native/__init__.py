"""The optional C library: found, loaded, and described to ctypes. Built by ``pip install`` where a C compiler is there."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

from torch import Tensor


class Scan(ctypes.Structure):
    """Mirrors ``Scan`` in selective_scan.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "channels", "states", "u_row", "dt_row", "B_row", "C_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "checkpoint", "u", "dt", "A", "B", "C", "D", "initial")),
        *((name, ctypes.c_int32) for name in ("reverse", "threads")),
    ]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built."""
    for file in sorted(Path(__file__).parent.glob("_library*")):
        if file.suffix in (".so", ".pyd", ".dylib"):
            try:
                loaded = ctypes.CDLL(str(file))
            except OSError:  # built for another machine
                continue
            loaded.selective_scan_segment.restype = ctypes.c_int64
            pointers = [ctypes.c_void_p] * 3
            loaded.selective_scan_forward.argtypes = [ctypes.POINTER(Scan), *pointers]
            loaded.selective_scan_backward.argtypes = [ctypes.POINTER(Scan), ctypes.c_int64, *[ctypes.c_void_p] * 10]
            return loaded
    return None


def pointer(tensor: Tensor | None) -> int | None:
    """Where a tensor's data lies, NULL for None."""
    return None if tensor is None else tensor.data_ptr()
