"""A training in a process of its own, which ends with the process that asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from recbole_ssm.studies.run_store import difference, read_json
from recbole_ssm.system.atomic_write import write_json
from recbole_ssm.system.plain import plain
from recbole_ssm.training.run import run

OF_RUN = (
    *("epochs", "seconds_per_epoch", "best_epoch", "seconds_to_best", "history"),
    *("parameters", "parameters_without_item_embedding", "peak_memory_gib"),
)
"""What records keep of the result of :func:`recbole_ssm.training.run.run`, beside the metrics."""


def start(words: Sequence[str], *, log: Path | None = None) -> str | None:
    """Run Python in a new process and wait for its end. The process must call :func:`end_with_parent`.

    Args:
        words: follow ``python`` on the command line. The number of this process is added as the last word.
        log: gets what the process prints, behind what is there; None leaves it to the terminal.

    Returns:
        None if the process ended well; else the last line of its log, or its exit status.
    """
    command = [sys.executable, "-W", "ignore", *words, str(os.getpid())]
    with nullcontext() if log is None else log.open("a", encoding="utf-8") as output:
        stderr = None if output is None else subprocess.STDOUT
        done = subprocess.run(command, stdout=output, stderr=stderr, check=False)
    return None if done.returncode == 0 else last_line(log) or f"exit status {done.returncode}"


def last_line(log: Path | None) -> str:
    """The last line of a log that is not blank."""
    said = [] if log is None else log.read_text(encoding="utf-8").splitlines()
    return next((line for line in reversed(said) if line.strip()), "")


def end_with_parent(parent: int) -> None:
    """End this process once the process of this number is gone, so that a second start finds the files free."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def train_once(asked: Mapping[str, Any], trained: Path, watch: Callable[[float, str], None] | None = None) -> dict:
    """Train a model, or go on with its training; a training that is done is not done again.

    Args:
        asked: ``model``, ``dataset``, ``files`` and ``keys`` (arguments ``--key=value``); with ``settings`` and
            ``data`` (:func:`recbole_ssm.studies.run_store.asked_for`) a finished training counts if these are the same,
            else if all words are the same.
        trained: keeps what the training gave.
        watch: see :func:`recbole_ssm.training.run.run`.

    Returns:
        The result of :func:`recbole_ssm.training.run.run` in plain values.
    """
    done = read_json(trained)
    if done is None or not _same(done["asked"], asked) or not Path(done["result"]["checkpoint"]).is_file():
        files, keys = list(asked["files"]), list(asked["keys"])
        whole = {"console": "verbose"}  # the process that asked for it keeps what is printed, and prints its own
        result = run(asked["model"], asked["dataset"], files, whole, command_line=keys, resume=True, watch=watch)
        done = {"asked": asked, "result": plain(result)}
        write_json(trained, done)
    return done["result"]


def _same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return difference(before, now) is None if "settings" in now else before == now
