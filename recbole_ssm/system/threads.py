"""How many threads compute: as many as this process may use, and no more than help."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import psutil
import threadpoolctl
import torch

from recbole_ssm.system.openmp import wait_passively

HELPFUL = 8
"""More threads than this are not expected to help the models of this package.

By Amdahl's law, and the 1.5 times that two threads give on MovieLens-1M, eight give 2.4 times and sixty-four 2.9. And
the C library divides a scan of the shipped settings into 8 parts: where one team has fewer threads than the last, GNU's
OpenMP ends some and starts them anew for the next.
"""

_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user says how many threads torch has."""


@contextmanager
def chosen(most: int | None = None) -> Iterator[str]:
    """Set the number of threads of torch and numpy within this context.

    It is the number of cores, or less where a cgroup's quota, other processes of torchrun or ``most`` say so. A number
    that the user has set holds: by ``OMP_NUM_THREADS``, ``MKL_NUM_THREADS`` or ``torch.set_num_threads``.

    Args:
        most: more threads would not help; None for no such limit.

    Yields:
        A phrase for the log: how many threads, why, and how they wait.
    """
    before = torch.get_num_threads()
    threads, why = _count(before, most)
    pools = threadpoolctl.ThreadpoolController()  # looks through all libraries of the process
    blas = [library for library in pools.info() if library["user_api"] == "blas"]
    with pools.limit(limits={each["prefix"]: min(each["num_threads"], threads) for each in blas}):
        torch.set_num_threads(threads)
        try:
            yield f"{threads} ({why}); {wait_passively()}"
        finally:
            torch.set_num_threads(before)


@cache
def one_after_fork() -> None:
    """Let processes that are forked from this one compute with one thread, as those of torch's loaders do.

    OpenMP's other threads are not there after a fork, and torch would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def _count(before: int, most: int | None) -> tuple[int, str]:
    """Choose the number of threads.

    Args:
        before: how many torch has now.
        most: as in :func:`chosen`.

    Returns:
        The number, and why, as a phrase.
    """
    given = [f"{name}={os.environ[name]}" for name in _COUNTS if name in os.environ]
    by_torchrun = "OMP_NUM_THREADS=1" in given and _torchrun_chose()
    if given and not by_torchrun:
        obeyed = given[0].partition("=")[2].split(",")[0] == str(before)
        return before, given[0] if obeyed else f"as torch has it, whatever {given[0]} says"
    processes, cores, quota = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), _cores(), _quota()
    divided = f", divided among {processes} processes" if processes > 1 else ""
    limits = [(max(1, cores // processes), f"as many as cores{divided}")]
    if quota < math.inf:
        limits.append((max(1, round(quota / processes)), f"the cgroup's CPU quota is {quota:g}{divided}"))
    if most is not None:
        limits.append((most, "more do not help this model"))
    limit, why = min(limits, key=lambda each: each[0])
    if by_torchrun:
        is_default = before == 1
    else:
        is_default = before >= limit and before in (cores, psutil.cpu_count(logical=False))
    return (limit, why) if is_default or before == limit else (before, "as torch has it")


def _torchrun_chose() -> bool:
    """Whether ``OMP_NUM_THREADS`` comes from torchrun, which sets it to 1 where the user has not set it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    try:
        parent = psutil.Process().parent()
        return parent is not None and "OMP_NUM_THREADS" not in parent.environ()
    except (psutil.Error, AttributeError):  # AttributeError: psutil reads no environments on this system
        return False


def _cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """The CPU quota of this process's cgroups (version 1 or 2), in cores; infinite without a limit.

    In a container ``groups`` may hold the host's paths, of which only the top exists in ``mounted``.
    """
    least = math.inf
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mounted / "cpu" if controllers else mounted
        place = top / path.lstrip("/")
        least = min(least, *(_quota_at(each) for each in (place, *place.parents) if each.is_relative_to(top)))
    return least


def _quota_at(place: Path) -> float:
    """The quota of one cgroup, in cores."""
    try:
        if (place / "cpu.max").is_file():
            quota, period = (place / "cpu.max").read_text().split()
        else:
            quota, period = ((place / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf
