"""Values that JSON and checkpoints can hold."""

from __future__ import annotations

from enum import Enum
from typing import Any


def plain(value: Any) -> Any:
    """A copy of a value in numbers, strings, None, and lists and dicts of them; of anything else its name."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value)  # numpy's float64 is one, too
    if isinstance(value, bool | int | str) or value is None:
        return value
    return value.name if isinstance(value, Enum) else str(value)
