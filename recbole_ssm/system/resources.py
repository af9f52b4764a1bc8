"""The CPU's name, the memory that this process takes, and the error where there is no more."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from recbole_ssm.errors import OutOfMemory

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.is_file() else None
    return found[1] if found else platform.processor()


def peak_memory_gib(device: torch.device) -> float:
    """The most memory that this process has held: of the GPU if it computes there, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if _STATUS.is_file():  # on Linux ru_maxrss would count what the parent process held
        return _kibibytes("VmHWM") / 2**20
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**30
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def added_memory_mib(run: Callable[[], object], device: torch.device) -> float | None:
    """The most memory held while ``run`` ran, less what was held before; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # resets the peak, VmHWM
        before = _kibibytes("VmRSS")
    except (AttributeError, OSError, TypeError):  # TypeError: CDLL(None) on Windows
        return None
    run()
    return max(_kibibytes("VmHWM") - before, 0) / 1024


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error, of Python or torch, says that there is no more memory."""
    words = r"out of memory|not enough memory|can(no|')t allocate memory|bad.?alloc"
    return isinstance(error, MemoryError) or bool(re.search(words, str(error), re.IGNORECASE))


@contextmanager
def fits_memory(message: str) -> Iterator[None]:
    """Raise :class:`OutOfMemory` with this message where memory runs out within the context."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises either
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(message) from error


def _kibibytes(name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", _STATUS.read_text())
    if found is None:
        raise OSError(f"{_STATUS} has no {name}")
    return int(found[1])
