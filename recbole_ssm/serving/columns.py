"""The values of a model's columns that come with a history: checked, and turned into numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole_ssm.errors import InputError


def read_columns(
    given: Mapping[str, Iterable[Iterable[float]]] | None, names: Sequence[str], lengths: Sequence[int]
) -> dict[str, list[list[float]]]:
    """The values of columns in each history.

    Args:
        given: for each column its values in each history; None for no columns.
        names: of the columns that the model reads.
        lengths: how many items each history has.

    Returns:
        The same as numbers.

    Raises:
        InputError: a column is missing or not known, a history has too few or too many values, or a value is no number.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise InputError(f"columns must be a dict of lists, such as {{'timestamp': ...}}, but is {given!r}")
    if given.keys() != set(names):
        raise InputError(
            f"columns must have {', '.join(names) or 'nothing'}, which the model reads beside the items, but have "
            f"{', '.join(map(str, given)) or 'nothing'}"
        )
    found = {}
    for name, histories in given.items():
        lists = [_as_list(each) for each in _as_list(histories)]
        if [len(values) for values in lists] != list(lengths):
            raise InputError(f"columns: {name} must have a value for each item of each history")
        found[name] = [[_number(name, value) for value in values] for values in lists]
    return found


def _as_list(values: Any) -> list[Any]:
    """What holds several values as a list; a single value as a list without any, which has a wrong length."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        return []
    try:
        return list(values)
    except TypeError:  # an array or tensor of no dimension
        return []


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"columns: {name} must have finite numbers, but has {value!r}")
    return number
