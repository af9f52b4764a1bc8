"""Conditions on the rows of a table, such as ``event=purchase and price>=10``.

A condition is a column, one of ``= != < <= > >=`` and a value. ``=`` and ``!=`` take several values, separated by
``|``. The others compare numbers; in the column of times also dates. Several conditions are joined by ``and``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_ssm.data.importing.times import seconds_of
from recbole_ssm.errors import InputError, did_you_mean

ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(NamedTuple):
    """One condition. ``number`` is the value to compare with; None where words are compared."""

    column: str
    sign: str
    values: list[str]
    number: float | None

    def holds(self, column: pd.Series) -> NDArray[np.bool_]:
        """Whether each value (R,) of a column fulfils the condition."""
        if self.number is not None:
            return np.asarray(ORDERS[self.sign](pd.to_numeric(column, errors="coerce"), self.number), bool)
        if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            found = column.isin(pd.to_numeric(pd.Series(self.values), errors="coerce").dropna())
        else:
            found = column.astype(object).map(str, na_action="ignore").isin(self.values)
        return np.asarray(found if self.sign == "=" else ~found, bool)


def conditions(text: str | None, columns: Collection[str], time: str | None, zone: str) -> list[Condition]:
    """Read conditions.

    Args:
        text: as given; None for no condition.
        columns: the names that there are.
        time: the column of times, whose values are compared as seconds.
        zone: of dates that name none.

    Returns:
        The conditions, which must all hold.

    Raises:
        InputError: one is no condition, names a column that does not exist, or compares with what is no number.
    """
    return [_condition(part, columns, time, zone) for part in re.split(r"\s+and\s+", text or "") if text]


def _condition(part: str, columns: Collection[str], time: str | None, zone: str) -> Condition:
    found = re.fullmatch(r"\s*(.+?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", part, re.DOTALL)
    if found is None:
        raise InputError(f"where: {part!r} must be like event=purchase, event=purchase|cart or price>=10")
    name, sign, value = found.groups()
    if name not in columns:
        raise InputError(
            f"where: there is no column {name!r}{did_you_mean(name, columns) or '.'} There are {', '.join(columns)}"
        )
    if sign not in ORDERS:
        return Condition(name, sign, value.split("|"), None)
    return Condition(name, sign, [], _number(part, value, zone if name == time else None))


def _number(part: str, value: str, zone: str | None) -> float:
    try:
        number = float(value) if zone is None else float(seconds_of(pd.Series([value]), None, zone)[0][0])
    except (InputError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        what = "a number" if zone is None else "a number or a date"
        raise InputError(f"where: in {part!r} {value!r} must be {what}")
    return number


def split_by_time(found: Sequence[Condition], time: str | None) -> tuple[list[Condition], list[Condition]]:
    """Conditions on columns, and those that compare seconds."""
    of_time = [each for each in found if each.column == time and each.number is not None]
    return [each for each in found if each not in of_time], of_time
