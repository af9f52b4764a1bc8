"""How many threads compute, and how those that have nothing to do wait.

A product of matrices is divided among threads, and the last one to finish is waited for. By default a waiting thread
of OpenMP spins for milliseconds. If another program uses a core meanwhile, the thread that still has work may wait for
those that spin, and a training becomes many times slower. A thread that sleeps at once has to be woken at the next
product, which costs a quarter of the speed of a small model. So waiting threads spin here for a short while and then
sleep, unless the environment says otherwise.

The package calls :func:`wait_passively` before it imports torch, and :func:`chosen` around all that computes.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import threadpoolctl

HELPFUL = 8
"""More threads than this are not expected to help the models of this package.

By Amdahl's law, and the 1.5 times that two threads give on MovieLens-1M, eight give 2.4 times and sixty-four 2.9. And
the C library divides a scan of the shipped settings into 8 parts: where one team has fewer threads than the last, GNU's
OpenMP ends some and starts them anew for the next.
"""

_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how threads wait."""

_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user says how many threads torch has."""

SPINS = 20_000
"""Checks of a waiting thread before it sleeps: some tenths of a millisecond, where GNU's OpenMP by itself has 300,000.

From 3,000 to 60,000 there is little difference when alone. Beside two other programs 300,000 are slower than one
thread; with 0 a training that is alone loses a quarter of its speed (``benchmarks/training.py --beside=2``).
"""

_waiting = "waiting ones do as OpenMP has it"


def wait_passively() -> None:
    """Let waiting threads sleep after :data:`SPINS`, here and in child processes, unless the environment says how.

    OpenMP reads the environment when it is loaded. One that is loaded already, because torch was imported first, is
    told in another way.
    """
    global _waiting
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # numpy's products: 2**4 cycles of spinning and not 2**26
    given = [f"{name}={os.environ[name]}" for name in _POLICIES if name in os.environ]
    if given:
        _waiting = f"waiting ones as {', '.join(given)} says"
        return
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT=str(SPINS))  # the second is GNU's, and goes before
    loaded = [library["filepath"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "openmp"]
    spinning = [file for file in loaded if not _calm(ctypes.CDLL(file))]
    if spinning:
        _waiting = (
            f"waiting ones may spin, since {', '.join(spinning)} was loaded before recbole_ssm; import recbole_ssm "
            "first, or set OMP_WAIT_POLICY=PASSIVE in the environment"
        )
    else:
        _waiting = "waiting ones sleep (set OMP_WAIT_POLICY=ACTIVE to let them spin)"


def _calm(openmp: ctypes.CDLL) -> bool:
    """Let the waiting threads of an OpenMP library sleep that has read the environment; False if it cannot be told."""
    if hasattr(openmp, "kmp_set_blocktime"):  # Intel's and LLVM's
        openmp.kmp_set_blocktime(0)
        return True
    if not hasattr(openmp, "GOMP_parallel"):
        return False

    # GNU's: where there are more OpenMP threads than cores, it spins 100 times only (its manual, on GOMP_SPINCOUNT).
    # A team of a thread more than there are cores is started, and sleeps for as long as the thread that has it.
    def keep_a_team() -> None:
        openmp.GOMP_parallel(openmp.omp_get_num_threads, None, openmp.omp_get_num_procs() + 1, 0)
        started.set()
        threading.Event().wait()

    started = threading.Event()
    threading.Thread(target=keep_a_team, name="recbole_ssm: a sleeping OpenMP team", daemon=True).start()
    return started.wait(timeout=10)


@contextmanager
def chosen(most: int | None = None) -> Iterator[str]:
    """Within this context torch and numpy compute with as many threads as this process is allowed and as help.

    A number that the user has set holds: ``OMP_NUM_THREADS``, ``MKL_NUM_THREADS`` or ``torch.set_num_threads``.

    Args:
        most: more would not help; None for no such limit.

    Returns:
        In words how many there are, why, and how they wait.
    """
    import torch  # not before wait_passively

    before = torch.get_num_threads()
    threads, why = _count(before, most)
    blas = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    with threadpoolctl.threadpool_limits({each["prefix"]: min(each["num_threads"], threads) for each in blas}):
        torch.set_num_threads(threads)
        try:
            yield f"{threads} ({why}); {_waiting}"
        finally:
            torch.set_num_threads(before)


def _count(before: int, most: int | None) -> tuple[int, str]:
    """How many threads, and why, where torch has so many before."""
    given = [f"{name}={os.environ[name]}" for name in _COUNTS if name in os.environ]
    by_torchrun = "OMP_NUM_THREADS=1" in given and _torchrun_chose()
    if given and not by_torchrun:
        obeyed = given[0].partition("=")[2].split(",")[0] == str(before)
        return before, given[0] if obeyed else f"as torch has it, whatever {given[0]} says"
    processes, cores, quota = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), _cores(), _quota()
    divided = f", divided among {processes} processes" if processes > 1 else ""
    limits = {f"as many as cores{divided}": max(1, cores // processes)}
    if quota < math.inf:
        limits[f"the cgroup's CPU quota is {quota:g}{divided}"] = max(1, round(quota / processes))
    if most is not None:
        limits["more do not help this model"] = most
    why = min(limits, key=limits.get)
    limit = limits[why]
    if by_torchrun:
        is_default = before == 1
    else:
        is_default = before >= limit and before in (cores, psutil.cpu_count(logical=False))
    return (limit, why) if is_default or before == limit else (before, "as torch has it")


def _torchrun_chose() -> bool:
    """Whether it was torchrun that set ``OMP_NUM_THREADS``, which it does, to 1, where the user has not."""
    try:
        return "TORCHELASTIC_RUN_ID" in os.environ and "OMP_NUM_THREADS" not in psutil.Process().parent().environ()
    except (psutil.Error, AttributeError):
        return False


def _cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _quota(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores' worth of time that the cgroups of this process (version 1 or 2) let it use; infinite without a limit.

    In a container the path that is told may be that of the host, and then only the group at the top is there.
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
    """Of one cgroup, in cores."""
    try:
        if (place / "cpu.max").is_file():
            quota, period = (place / "cpu.max").read_text().split()
        else:
            quota, period = ((place / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf
