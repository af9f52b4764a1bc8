"""Processes to measure with: some that only compute, and some that take turns, each with an environment of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event, Semaphore

import torch

_CONTEXT = get_context("spawn")  # a new interpreter, in which OpenMP reads the environment again

OF_THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
    *("KMP_BLOCKTIME", "OPENBLAS_THREAD_TIMEOUT"),
)
"""Variables that say how many threads there are and how they wait: a worker has those only that it is given."""


@contextmanager
def others(number: int) -> Iterator[Event]:
    """So many processes, at this one's priority, that multiply (700, 700) matrices with one thread for ever.

    Yields:
        While this event is set they compute, else they sleep.
    """
    computing, ready = _CONTEXT.Event(), _CONTEXT.Semaphore(0)
    processes = [_CONTEXT.Process(target=_compute, args=(computing, ready), daemon=True) for _ in range(number)]
    try:
        for process in processes:
            process.start()
        for _ in processes:
            if not ready.acquire(timeout=300):
                raise RuntimeError("a process that is to compute beside has not come up")
        yield computing
    finally:
        for process in processes:
            process.terminate()


def _compute(computing: Event, ready: Semaphore) -> None:
    torch.set_num_threads(1)
    matrix = torch.rand(700, 700)
    ready.release()
    parent = os.getppid()
    while os.getppid() == parent:  # a parent that is killed ends nobody
        if computing.wait(timeout=1):
            matrix @ matrix


class Worker:
    """A function in a process of its own, which waits, asleep, until it is called.

    Args:
        environment: variables; those of :data:`OF_THREADS` that it leaves out are not set.
        make: is called there with ``arguments`` and returns the function; of a module, so that it can be found.
    """

    def __init__(self, environment: dict[str, str], make: Callable[..., Callable[[], object]], *arguments):
        self._connection, there = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(there, make, arguments), daemon=True)
        with _environment(environment):
            process.start()
        there.close()
        self._connection.recv()

    def __call__(self) -> object:
        """Call the function; EOFError if its process has failed, which has then said why."""
        self._connection.send(None)
        return self._connection.recv()


def _serve(connection: Connection, make: Callable[..., Callable[[], object]], arguments: Sequence) -> None:
    function = make(*arguments)
    connection.send(None)
    with suppress(EOFError):  # who asked has ended
        while True:
            connection.recv()
            connection.send(function())


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    try:
        for name in OF_THREADS:
            os.environ.pop(name, None)
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
