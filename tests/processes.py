"""Processes of tests, forked from a server that has imported the package, so that none takes seconds to begin.

What they do stands here, since such a process has to find it, and modules of tests have no name to it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from recbole_ssm.cli.main import main, program
from recbole_ssm.studies.compare import worker
from recbole_ssm.system.atomic_write import atomic_write
from recbole_ssm.system.locks import folder_lock

CONTEXT = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
if hasattr(os, "fork"):
    CONTEXT.set_forkserver_preload(["recbole_ssm.cli.main", "recbole_ssm.studies.compare.worker", "torch._dynamo"])


def process(function: Callable, *arguments: object, output: str | Path = os.devnull, **environment: str) -> BaseProcess:
    """Start a process in this one's folder, with its environment.

    Args:
        function: of a module that can be found by its name.
        *arguments: of the function.
        output: the file to which its output and errors are added.
        **environment: more variables.

    Returns:
        The process.
    """
    given = (os.getcwd(), {**os.environ, **environment}, str(output), function, arguments)
    started = CONTEXT.Process(target=_begin, args=given)
    started.start()
    return started


def _begin(folder: str, environment: dict[str, str], output: str, function: Callable, arguments: tuple) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    with open(output, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments)


def verb(*words: str) -> None:
    """As ``recbole-ssm WORDS``."""
    raise SystemExit(main(words))


def program_interrupted_as_it_ends() -> None:
    """As ``recbole-ssm --version``, with Ctrl-C while Python cleans up."""
    sys.argv = ["recbole-ssm", "--version"]
    try:
        program()
    finally:
        signal.raise_signal(signal.SIGINT)


def verb_that_nobody_reads(*words: str) -> None:
    """As ``recbole-ssm WORDS | true``."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    verb(*words)


def run_of_compare(file: str, parent: int) -> None:
    """As ``compare`` starts it."""
    raise SystemExit(worker.main(file, str(parent)))


def hold_lock(folder: Path, pipe: Connection) -> None:
    """Hold the lock of a folder, tell the number of a child process, and end when told."""
    with folder_lock(folder):
        pipe.send(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid)
        pipe.recv()


def write_half(file: Path, pipe: Connection) -> None:
    """Begin to write a file, tell that, and end when told."""
    with atomic_write(file) as content:
        content.write(b"half")
        content.flush()
        pipe.send(None)
        pipe.recv()


def train_slowly_saved(arguments: list[str], slow: bool) -> None:
    """A training, if wanted with saves that take long, so that many kills meet one."""
    if slow:
        original = os.fsync

        def fsync(descriptor: int) -> None:
            time.sleep(0.02)
            original(descriptor)

        os.fsync = fsync
    verb(*arguments)
