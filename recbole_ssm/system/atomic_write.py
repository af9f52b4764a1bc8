"""Atomic writes: a file has its old content or all of its new one, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from recbole_ssm.errors import InputError

if sys.platform != "win32":
    import fcntl


@contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A new file in the folder of ``path``, which takes the place of ``path`` when the context ends without an error.

    After a crash or an error ``path`` is what it was before. Unfinished files of killed writes are removed.

    Args:
        path: the file; of a link the file that it leads to.
        sync: whether the new content is on the disk when the context has ended, even if the machine then fails.

    Yields:
        The file to write to.

    Raises:
        FileExistsError: ``path`` is a folder, or another thing that is no file.
    """
    path = Path(os.path.realpath(path))
    if os.path.exists(path) and not path.is_file():
        raise FileExistsError(f"{path} is no file")
    _remove_unfinished(path.parent)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _open_locked(unfinished) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        unfinished.replace(path)
        if sync:
            _sync_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: object) -> None:
    """Write numbers, strings, and lists and dicts of them, by an :func:`atomic_write`."""
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def check_writable(folder: Path, name: str, remedy: str = "name another folder") -> None:
    """Raise InputError, which calls the folder ``name``, if it cannot be written to or made. It is not made here."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with TemporaryDirectory(dir=existing) as new:
            (Path(new) / "some").write_bytes(bytes(1 << 16))  # a full disk still makes folders
    except OSError as error:
        raise InputError(f"{name} cannot be written to ({error}); {remedy}") from error


def _open_locked(path: Path) -> BinaryIO:
    """A new file, locked while it is open, which tells others that it is still written to.

    This is ``flock`` and not a lock of :mod:`.locks`: the unfinished file is its own lock, so that no second file stays
    behind. Windows needs none, since it removes no open file.
    """
    while True:
        file = path.open("wb")
        if sys.platform == "win32":
            return file
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # another process has removed it before it was locked


def _remove_unfinished(folder: Path) -> None:
    """Remove unfinished files that nobody writes to any more, which are those without a lock."""
    for left in folder.glob(".*.[0-9]*.part"):
        with suppress(OSError):
            if sys.platform == "win32":
                left.unlink()
                continue
            with left.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring a renaming in a folder to the disk, where the system can: Windows cannot open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
