"""Intervals as RecBole writes them: ``[3,5)``, or several, ``[0,1];(2,inf)``.

RecBole silently ignores any other text.
"""

from __future__ import annotations

import math

from recbole_ssm.errors import InputError


def check_interval(name: str, value: object) -> None:
    """Raise InputError unless a value is one or several intervals, none of which is empty.

    Args:
        name: the key; the message begins with it.
        value: text such as ``[3,5)``; ``[3, 5]`` may also be a list.
    """
    parts = [part.strip() for part in str(value).split(";")]
    for part in parts:
        ends = None if isinstance(value, bool | dict) else _ends(part)
        if ends is None:
            raise InputError(f"{name} must be like '[3,inf)', but is {value!r}")
        low, high = ends
        if low > high or (low == high and (part[0], part[-1]) != ("[", "]")):
            raise InputError(f"{name} is {value!r}, but no number lies within {part}; the lower end comes first")


def _ends(part: str) -> tuple[float, float] | None:
    low, comma, high = part[1:-1].partition(",")
    if not comma or part[0] not in "[(" or part[-1] not in ")]":
        return None
    try:
        ends = float(low), float(high)
    except ValueError:
        return None
    return None if any(map(math.isnan, ends)) else ends
