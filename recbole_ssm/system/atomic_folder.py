"""Atomic writes of a folder: it is there with all of its files, or as it was before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout


@contextmanager
def atomic_folder(path: Path, *, keep: bool = True) -> Iterator[Path]:
    """A new folder beside ``path``, which takes its place when the context ends without an error.

    After a crash or an error ``path`` is what it was before, except in the moment between two renamings when an older
    folder is replaced. Unfinished folders of killed processes are removed.

    Args:
        path: the folder. Its parent is made if there is none.
        keep: whether the folder takes its place; False for a folder that is only worked in, and then removed.

    Yields:
        The folder to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(path.parent)
    unfinished = Path(mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    lock = FileLock(unfinished / ".lock")
    try:
        lock.acquire()
        yield unfinished
        if not keep:
            return
        lock.release()
        (unfinished / ".lock").unlink(missing_ok=True)
        unfinished.chmod(0o777 & ~_umask())
        if path.exists():
            old = Path(mkdtemp(prefix=f".{path.name}.", suffix=".old.part", dir=path.parent))
            path.rename(old / path.name)
            unfinished.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            unfinished.rename(path)
    finally:
        lock.release()
        shutil.rmtree(unfinished, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove_unfinished(folder: Path) -> None:
    """Remove unfinished folders whose process has ended, which are those whose lock is free."""
    for left in folder.glob(".*.part"):
        lock = left / ".lock"
        if not left.is_dir() or not lock.exists():
            continue
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            lock.unlink(missing_ok=True)
            shutil.rmtree(left, ignore_errors=True)
