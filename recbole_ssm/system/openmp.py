"""How OpenMP's threads wait for work.

A product of matrices is divided among threads, and all wait for the last one. By default a waiting thread of OpenMP
spins for milliseconds. If another program uses a core meanwhile, the thread that still has work may wait for those that
spin, and a training becomes many times slower. A thread that sleeps at once has to be woken at the next product, which
costs a quarter of the speed of a small model. So waiting threads spin here for a short while and then sleep, unless the
environment says otherwise.

The package calls :func:`wait_passively` before it imports torch.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache

import threadpoolctl

_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how threads wait."""

SPINS = 20_000
"""Checks of a waiting thread before it sleeps: some tenths of a millisecond. GNU's default is 300,000.

From 3,000 to 60,000 there is little difference when alone. Beside two other programs 300,000 are slower than one
thread; with 0 a training that is alone loses a quarter of its speed (``benchmarks/training.py --beside=2``).
"""


@cache
def wait_passively() -> str:
    """Let waiting threads sleep after :data:`SPINS`, here and in child processes, unless the environment says how.

    OpenMP reads the environment when it is loaded. A library that is loaded already, because torch was imported first,
    is told by a call. A second call of this function does nothing.

    Returns:
        A phrase for the log that says how threads wait.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # numpy's products: 2**4 cycles of spinning, not 2**26
    given = [f"{name}={os.environ[name]}" for name in _POLICIES if name in os.environ]
    if given:
        return f"waiting ones as {', '.join(given)} says"
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT=str(SPINS))  # GNU's prefers the second
    loaded = [library["filepath"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "openmp"]
    spinning = [file for file in loaded if not _calm(ctypes.CDLL(file))]
    if spinning:
        return (
            f"waiting ones may spin, since {', '.join(spinning)} was loaded before recbole_ssm; import recbole_ssm "
            "first, or set OMP_WAIT_POLICY=PASSIVE in the environment"
        )
    return "waiting ones sleep (set OMP_WAIT_POLICY=ACTIVE to let them spin)"


def _calm(openmp: ctypes.CDLL) -> bool:
    """Let the waiting threads of an OpenMP library sleep that is loaded already; False if there is no call for it."""
    if hasattr(openmp, "kmp_set_blocktime"):  # Intel's and LLVM's
        openmp.kmp_set_blocktime(0)
        return True
    if not hasattr(openmp, "GOMP_parallel"):
        return False

    # GNU's has no such call. But where there are more OpenMP threads than cores, it spins 100 times only (its manual,
    # on GOMP_SPINCOUNT). So a thread of our own starts a team that has one thread more than there are cores, and sleeps
    # for as long as the process lives.
    def keep_a_team() -> None:
        openmp.GOMP_parallel(openmp.omp_get_num_threads, None, openmp.omp_get_num_procs() + 1, 0)
        started.set()
        threading.Event().wait()

    started = threading.Event()
    threading.Thread(target=keep_a_team, name="recbole_ssm: a sleeping OpenMP team", daemon=True).start()
    return started.wait(timeout=10)
