"""The lock of a folder: one process at a time works there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from recbole_ssm.errors import InputError

LOCK = ".lock"
"""The name of the lock's file in a folder."""


@contextmanager
def folder_lock(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder until the context ends, or the process does, however it ends.

    Child processes do not hold it: each takes the lock of the folder that it writes to.

    Args:
        folder: which exists.
        wait: seconds to wait for another process that holds it.

    Raises:
        InputError: another process holds it. The message says which.
    """
    lock, holder = FileLock(folder / LOCK, timeout=wait), folder / ".lock-holder"
    try:
        lock.acquire()
    except Timeout as error:
        who = f" ({holder.read_text(encoding='utf-8')})" if holder.exists() else ""
        raise InputError(
            f"another process is at work in {folder}{who}; wait for its end, or name another folder with --out"
        ) from error
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
