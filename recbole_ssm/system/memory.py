"""How much memory this process has held, and what to do when there is no more."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from recbole.utils import ModelType

from recbole_ssm.errors import InputError

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


def memory_ended(error: Exception) -> bool:
    """Whether an error says that there is no more memory."""
    full = r"out of memory|not enough memory|can(no|')t allocate memory|bad.?alloc"
    return isinstance(error, MemoryError) or bool(re.search(full, str(error), re.IGNORECASE))


class OutOfMemory(InputError):
    """Something does not fit into memory; the message says what, and what to do about it."""


@contextmanager
def fits_memory(what: str) -> Iterator[None]:
    """Raise :class:`OutOfMemory` with these words where memory ends."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises either
        if not memory_ended(error):
            raise
        raise OutOfMemory(what) from error


class WithinMemory:
    """Mixed into the trainer that RecBole has for a model: where memory ends, the keys that ask for less are named."""

    def _train_epoch(self, *args, **kwargs):
        keys = ["train_batch_size"] if self.config["train_batch_tokens"] is None else []
        keys += ["train_batch_tokens"] if self.config.is_packed else []
        with fits_memory(self._less("a step of the training", *keys)):
            return super()._train_epoch(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        with fits_memory(self._less("a batch of the evaluation", "eval_batch_size")):
            return super().evaluate(*args, **kwargs)

    def _less(self, what: str, *keys: str) -> str:
        if self.config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            keys += ("MAX_ITEM_LIST_LENGTH",)
        *others, last = (f"{key} ({self.config[key]})" for key in keys)
        given = " or ".join([*([", ".join(others)] if others else []), last])
        return f"{what} does not fit into memory; lower {given}"


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
