"""Values as data."""

from __future__ import annotations

from enum import Enum


def plain(value):
    """Numbers, words, and lists and dicts of them; anything else by its name."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value)  # numpy's are no plain ones
    if isinstance(value, bool | int | str) or value is None:
        return value
    return value.name if isinstance(value, Enum) else str(value)
