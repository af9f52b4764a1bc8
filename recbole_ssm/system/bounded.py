"""Limits on what a file of values may hold, checked before the values are used: anybody may have written the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

_DEPTH = 64
"""How deep lists and dicts may be nested."""

_BITS = 128
"""The longest integer. States of random number generators hold long ones."""

_LONG = 64
"""Characters. A longer string counts towards the size."""


class Unusable(ValueError):
    """A value is not as this package writes it. The message says what is wrong with it."""


def check_archive(file: Path) -> int:
    """Check that a file is an archive as torch writes it, in which nothing is compressed.

    Args:
        file: the file.

    Returns:
        How many values the file can hold, by its size: for :func:`check_bounded`.

    Raises:
        Unusable: it is no such archive.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (NotImplementedError, RuntimeError, UnicodeDecodeError, ValueError, zipfile.BadZipFile) as error:
        raise Unusable("it is no archive") from error
    if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
        raise Unusable("it is compressed")
    if sum(part.file_size for part in parts) > file.stat().st_size:
        raise Unusable("its parts overlap")
    sizes = [part.file_size for part in parts if part.filename.endswith("/data.pkl")]
    if not sizes:
        raise Unusable("it is no archive of torch's")
    return 1000 + 2 * sum(sizes)


def check_bounded(value: object, parts: int, size: int) -> None:
    """Check that a value consists of numbers, strings, None, dense tensors, and lists, tuples and dicts of these.

    A value that several lists share counts once for each.

    Args:
        value: what was read from a file.
        parts: how many values there may be.
        size: how many bytes tensors and long strings may take.

    Raises:
        Unusable: there is something else, or too much.
    """
    rest: list[tuple[object, int]] = [(value, 0)]
    while rest:
        item, depth = rest.pop()
        if isinstance(item, dict | list | tuple):
            inner = item.values() if isinstance(item, dict) else item
            parts -= len(inner)
            if depth == _DEPTH:
                raise Unusable(f"its lists are nested more than {_DEPTH} deep")
            if isinstance(item, dict) and not all(isinstance(key, str | int) for key in item):
                raise Unusable("a key is neither a string nor an integer")
            if parts >= 0:
                rest.extend((part, depth + 1) for part in inner)
        elif isinstance(item, torch.Tensor):
            _check_dense(item)
            size -= item.nbytes
        elif isinstance(item, str):
            size -= len(item) if len(item) > _LONG else 0
        elif isinstance(item, int):
            if item.bit_length() > _BITS:
                raise Unusable("it has an integer of too many digits")
        elif not isinstance(item, float | None):
            raise Unusable(f"it has a {type(item).__name__}")
        if min(parts, size) < 0:
            raise Unusable("it says that it holds more than its size allows")


def _check_dense(tensor: torch.Tensor) -> None:
    plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided and tensor.device.type != "meta"
    if not plain or tensor.is_quantized or tensor.is_nested:
        raise Unusable("it has a tensor that is not dense")
