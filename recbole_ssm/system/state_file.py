"""Files of tensors and plain values: written atomically, with a checksum, and read without running code in them."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from recbole_ssm.errors import CheckpointError, CheckpointNotWritten
from recbole_ssm.system.atomic_write import atomic_write
from recbole_ssm.system.bounded import Unusable, check_archive, check_bounded

VERSION = 1
"""The version of the format. A file of a later version is refused."""


_HEADER = ("format", "format_version")
"""Keys that :func:`write` adds, beside ``checksum``."""


def write(path: str | Path, state: dict[str, Any], *, format: str) -> None:
    """Write a state to a file, atomically.

    Args:
        path: the file.
        state: tensors, numbers, strings, None, and lists, tuples and dicts of these.
        format: what the file is; :func:`read` asks for it.

    Raises:
        CheckpointNotWritten: the file is as it was before.
    """
    path = Path(path)
    state = {"format": format, "format_version": VERSION, "checksum": checksum(state), **state}
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise CheckpointNotWritten(
            f"{path} could not be written ({str(error).splitlines()[0]}){_space(path, state, error)}. "
            + (
                "The file of before is still there"
                if path.is_file() and path.stat().st_size
                else "There was no file before"
            )
        ) from error


def _space(path: Path, state: dict[str, Any], error: OSError | RuntimeError) -> str:
    """Words on how much space a state needs, unless an error is of the place."""
    if isinstance(error, FileExistsError | FileNotFoundError | NotADirectoryError | PermissionError):
        return ""
    needed, free = sum(tensor.nbytes for tensor in _tensors(state)), shutil.disk_usage(path.parent).free
    return f": it needs {needed / 2**20:.1f} MiB, and {free / 2**20:.1f} MiB are free"


def read(
    path: str | Path,
    device: torch.device | str = "cpu",
    *,
    format: str,
    trust: bool = False,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Read a state that :func:`write` has written.

    Args:
        path: the file.
        device: where its tensors go.
        format: what the file must be.
        trust: also read files of RecBole and others, **which runs code in the file**.
        check: raises :class:`Unusable` for a state that such a file cannot have.

    Returns:
        The state, with the keys ``format`` and ``format_version``.

    Raises:
        CheckpointError: the file is missing, cut off, altered, of a later version, or not of this package.
    """
    path = Path(path)
    if not path.is_file():
        what = f"{path} is a folder and no checkpoint" if path.is_dir() else f"there is no checkpoint {path}"
        raise CheckpointError(f"{what}{_newest_beside(path)}")
    state, parts = _load(path, device, trust)
    if not isinstance(state, dict) or state.get("format") != format:
        if trust and isinstance(state, dict) and "state_dict" in state:
            return state
        raise CheckpointError(f"{path} is not a {format.partition(' ')[2]} of this package")
    version = state.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise CheckpointError(f"{path} is damaged: it does not say which version wrote it")
    if version > VERSION:
        raise CheckpointError(
            f"{path} was written by a later version of this package (format {version}; this version "
            f"reads up to {VERSION}); update the package"
        )
    try:
        check_bounded(state, parts, 8 * path.stat().st_size)
        expected = state.pop("checksum", None)
        if checksum({key: value for key, value in state.items() if key not in _HEADER}) != expected:
            raise Unusable("its checksum does not agree")
        if check is not None:
            check(state)
    except Unusable as error:
        raise CheckpointError(f"{path} has been altered or damaged since it was written: {error}") from error
    return state


def _newest_beside(path: Path) -> str:
    """The end of a message about a missing file, or a folder: the newest checkpoints there, or nothing without any."""
    folder = path if path.is_dir() else path.parent
    found = sorted(folder.glob("*.pth"), key=lambda file: file.stat().st_mtime, reverse=True)
    return f"; the newest there: {', '.join(map(str, found[:3]))}" if found else ""


def _load(path: Path, device: torch.device | str, trust: bool) -> tuple[object, int]:
    """What torch reads from a file, and how many values that may be. Without trust it reads no objects and no code."""
    try:
        parts = path.stat().st_size if trust else check_archive(path)
        return torch.load(path, map_location=device, weights_only=not trust), parts
    except pickle.UnpicklingError as error:
        if trust:
            raise CheckpointError(f"{path} cannot be read: it is cut off, damaged, or no checkpoint") from error
        raise CheckpointError(
            f"{path} is no checkpoint of this package: it holds Python objects, as RecBole's do, and reading "
            "them runs code in the file. If you trust its source, continue its training with --resume=FILE "
            "--trust_checkpoint"
        ) from error
    except Exception as error:  # damaged bytes can fail in any way
        raise CheckpointError(f"{path} cannot be read: it is cut off, damaged, or no checkpoint") from error


def checksum(value: object) -> str:
    """The BLAKE2 hash of a state: of its keys and values, and of the type, shape and bits of its tensors."""
    digest = hashlib.blake2b(digest_size=32)
    for part in _parts(value):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: object) -> Iterator[bytes | memoryview]:
    if isinstance(value, dict):
        yield f"dict {len(value)}".encode()
        for key, item in value.items():
            yield repr(key).encode()
            yield from _parts(item)
    elif isinstance(value, list | tuple):
        yield f"list {len(value)}".encode()
        for item in value:
            yield from _parts(item)
    elif isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        if value.numel():  # an empty one may have strides that cannot be viewed as bytes
            yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    else:
        yield repr(value).encode()


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
