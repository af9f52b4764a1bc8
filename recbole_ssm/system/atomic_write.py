"""Files that are written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, in the folder of ``path``, whose place it takes when the context ends, by then on the disk.

    A crash at any moment leaves what was there before, or all of the new. An error within the context leaves nothing
    but what was there before, and goes on. What a killed write has left in the folder is removed.
    """
    path = Path(os.path.realpath(path))  # of a link the file that it leads to
    if os.path.exists(path) and not path.is_file():
        raise FileExistsError(f"{path} is no file")
    _remove_unfinished(path.parent)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _open_locked(unfinished) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _open_locked(path: Path) -> BinaryIO:
    """A new file, whose lock says as long as it is open that somebody writes to it, where the system has locks."""
    while True:
        file = path.open("wb")
        if fcntl is None:
            return file
        with suppress(OSError):  # some network file systems have none
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # another process has removed it, between its making and its lock


def _remove_unfinished(folder: Path) -> None:
    """Remove files that nobody writes to any more: the lock of one that is written cannot be had."""
    for left in folder.glob(".*.[0-9]*.part"):
        with suppress(OSError):  # on Windows a file that is open cannot be removed
            if fcntl is None:
                left.unlink()
                continue
            with left.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


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
