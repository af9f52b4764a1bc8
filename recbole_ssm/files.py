"""Files that are written whole or not at all, whatever happens meanwhile, in folders that one process has at a time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from recbole_ssm.errors import InputError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


_PATIENCE = 60.0
"""Seconds: a run whose study was killed takes some to find out."""


@contextmanager
def claimed(folder: Path) -> Iterator[tuple[int, ...]]:
    """The folder is this process's until the context ends, and as long as a child lives that has the file descriptor.

    Yields:
        What to give a child as ``pass_fds``.

    Raises:
        InputError: it is another process's.
    """
    if fcntl is None:
        yield ()
        return
    with (folder / ".lock").open("w") as file:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise InputError(
                        f"another process is at work in {folder}; wait for its end, or name another folder with --out"
                    ) from error
                time.sleep(0.2)
        yield (file.fileno(),)


def check_writable(folder: Path) -> None:
    """Make the folder, and raise InputError if nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--out={folder} cannot be written to ({error}); name another folder") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, in the folder of ``path``, whose place it takes when the context ends, by then on the disk.

    A crash at any moment leaves what was there before, or all of the new. An error within the context leaves nothing
    but what was there before, and goes on.
    """
    path = Path(os.path.realpath(path))  # of a link the file that it leads to
    if os.path.exists(path) and not path.is_file():
        raise FileExistsError(f"{path} is no file")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Numbers, words, and lists and dicts of them."""
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where the system can: Windows cannot open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
