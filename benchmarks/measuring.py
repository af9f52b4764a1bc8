"""Fair timings of code that does the same work: alternating in one process, medians, ratios of neighbours in time."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable

import torch

from recbole_ssm.system.resources import processor


def clock() -> float:
    """Seconds: of this process's work where it has one thread, so that others do not count, else of the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def alternate(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each variant in each of so many rounds; a round before them warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(repeats + 1):
        for name, run in variants.items():
            gc.collect()
            start = clock()
            run()
            if round_:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(slower: list[float], faster: list[float]) -> float:
    """How many times faster: the median over rounds."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def sgemm_gflops() -> float:
    """What this machine makes of a product of two (1024, 1024) matrices, the best of many."""
    a = torch.randn(1024, 1024)
    best = min(_seconds(lambda: a @ a) for _ in range(20))
    return 2 * 1024**3 / best / 1e9


def _seconds(run) -> float:
    start = clock()
    run()
    return clock() - start


def machine() -> dict:
    """What the figures hold for."""
    return {
        "cpu": processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
