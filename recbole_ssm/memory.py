"""How much memory this process has held."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory_gib(device: torch.device) -> float:
    """Most memory that this process has held: of the GPU if it computes there, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if _STATUS.is_file():  # ru_maxrss, on Linux, would count what the parent process held
        return _kibibytes("VmHWM") / 2**20
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def added_memory_mib(run: Callable[[], object], device: torch.device) -> float | None:
    """Most memory held while ``run`` ran, over what was held before; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # the highest mark starts again from here
        before = _kibibytes("VmRSS")
    except (AttributeError, OSError):
        return None
    run()
    return max(_kibibytes("VmHWM") - before, 0) / 1024


def _kibibytes(name: str) -> int:
    return int(re.search(rf"{name}:\s*(\d+) kB", _STATUS.read_text())[1])
