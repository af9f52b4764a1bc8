"""Files that are written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


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
