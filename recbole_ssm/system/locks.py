"""Folders of results: that they can be written to, and that one process at a time is at work there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

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


def check_writable(folder: Path, name: str, remedy: str = "name another folder") -> None:
    """Raise InputError, which calls it ``name``, if a folder cannot be written to, or made. It is not made here."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with TemporaryDirectory(dir=there) as new:
            (Path(new) / "some").write_bytes(bytes(1 << 16))  # a full disk still makes folders
    except OSError as error:
        raise InputError(f"{name} cannot be written to ({error}); {remedy}") from error
