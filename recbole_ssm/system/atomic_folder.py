"""Atomic writes of a folder: it is there with all of its files, or as it was before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from recbole_ssm.errors import InputError
from recbole_ssm.system.locks import LOCK, folder_lock


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
    try:
        with folder_lock(unfinished):
            yield unfinished
        if keep:
            _put_in_place(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, path: Path) -> None:
    (unfinished / LOCK).unlink(missing_ok=True)
    unfinished.chmod(0o777 & ~_umask())
    if path.exists():
        old = Path(mkdtemp(prefix=f".{path.name}.", suffix=".old.part", dir=path.parent))
        path.rename(old / path.name)
        unfinished.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        unfinished.rename(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove_unfinished(folder: Path) -> None:
    """Remove unfinished folders whose process has ended, which are those whose lock is free."""
    for left in folder.glob(".*.part"):
        if left.is_dir() and (left / LOCK).exists():
            with suppress(InputError, OSError), folder_lock(left):
                shutil.rmtree(left, ignore_errors=True)
