"""What a file of values may hold. It is looked at before anything is computed of it: anybody may have written it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

_DEPTH = 64
"""How many lists and dicts may stand in one another."""

_BITS = 128
"""Of a whole number; random number generators have long ones."""

_LONG = 64
"""Letters: longer words count by their length."""


class Unusable(ValueError):
    """Something is not as this package writes it; the message says what."""


def check_archive(file: Path) -> int:
    """Of how many parts that which is in a file may be made: each takes a byte or more, or is a part of several.

    Raises:
        Unusable: it is no archive as torch writes them, in which nothing is compressed.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (NotImplementedError, RuntimeError, UnicodeDecodeError, ValueError, zipfile.BadZipFile) as error:
        raise Unusable("it is no archive") from error
    if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
        raise Unusable("it is compressed")
    if sum(part.file_size for part in parts) > file.stat().st_size:
        raise Unusable("its parts lie in one another")
    sizes = [part.file_size for part in parts if part.filename.endswith("/data.pkl")]
    if not sizes:
        raise Unusable("it is no archive of torch's")
    return 1000 + 2 * sum(sizes)


def check_bounded(value: object, parts: int, size: int) -> None:
    """Raise :class:`Unusable` unless a value is made of plain ones and dense tensors, and not of too many.

    Args:
        value: what was read from a file.
        parts: of how many values it may be made; what stands there again and again counts each time.
        size: how many bytes its tensors and long words may take, likewise.
    """
    rest: list[tuple[object, int]] = [(value, 0)]
    while rest:
        item, depth = rest.pop()
        if isinstance(item, dict | list | tuple):
            inner = item.values() if isinstance(item, dict) else item
            parts -= len(inner)
            if depth == _DEPTH:
                raise Unusable(f"it has more than {_DEPTH} lists in one another")
            if isinstance(item, dict) and not all(isinstance(key, str | int) for key in item):
                raise Unusable("a key is neither a word nor a number")
            if parts >= 0:
                rest.extend((part, depth + 1) for part in inner)
        elif isinstance(item, torch.Tensor):
            _check_dense(item)
            size -= item.nbytes
        elif isinstance(item, str):
            size -= len(item) if len(item) > _LONG else 0
        elif isinstance(item, int):
            if item.bit_length() > _BITS:
                raise Unusable("it has a number of too many digits")
        elif not isinstance(item, float | None):
            raise Unusable(f"it has a {type(item).__name__}")
        if min(parts, size) < 0:
            raise Unusable("it says that it holds more than its size allows")


def _check_dense(tensor: torch.Tensor) -> None:
    plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided and tensor.device.type != "meta"
    if not plain or tensor.is_quantized or tensor.is_nested:
        raise Unusable("it has a tensor that is not dense")
