"""Times of a table: numbers whose unit is told by their size, and dates. All become seconds since 1970, in float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_ssm.errors import InputError

UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
"""How many of each are a second."""

SMALLEST = 1e8
"""A smaller number (before March 1973) does not tell its unit, and may just count."""

_WITH_ZONE = r".*:.*(?:[zZ]|[+-]\d\d(?::?\d\d)?)"
"""An ISO 8601 date that names its zone."""


class Numbers(NamedTuple):
    """How the numbers of a column are read."""

    unit: str
    low: float
    high: float
    """Numbers from ``low`` up to ``high``, without their sign, are in another unit, except those below
    :data:`SMALLEST`."""

    @property
    def text(self) -> str:
        """What a report says of the column."""
        return f"numbers, taken for {self.unit}" if self.high > SMALLEST else "numbers that are too small for dates"


def unit_of(sizes: Iterable[tuple[int, int]]) -> Numbers:
    """The unit that most numbers of a column have.

    Args:
        sizes: of each power of 1000 how many numbers have that size, from :func:`size_of`; 0 are those that do not
            tell their unit.

    Returns:
        The unit and its range. Where no number tells its unit, they are seconds.
    """
    counts = {size: count for size, count in sizes if size > 0}
    if not counts:
        return Numbers("seconds", 0.0, SMALLEST)
    size = max(counts, key=lambda each: counts[each])
    low = SMALLEST * 1000.0 ** (size - 1)
    return Numbers(list(UNITS)[size - 1], low, low * 1000)


def size_of(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of the unit of each number (R,) in :data:`UNITS`, from 1; 0 for numbers that do not tell it."""
    borders = [SMALLEST * 1000.0**power for power in range(len(UNITS))]
    return np.minimum(np.searchsorted(borders, np.abs(numbers), side="right"), len(UNITS))


def seconds_of(column: pd.Series, time_format: str | None, zone: str) -> tuple[NDArray[np.float64], str]:
    """The times of a column of a DataFrame.

    Args:
        column: (R,) numbers, dates, or words that are either.
        time_format: of dates that are not ISO 8601.
        zone: of dates that name none.

    Returns:
        Seconds (R,), NaN where there is no time that can be used; and what they were taken for.

    Raises:
        InputError: the column has another type, or no value of it is a time.
    """
    if isinstance(column.dtype, pd.ArrowDtype):
        column = column.astype(object)
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind) or isinstance(kind, pd.PeriodDtype) or kind.kind == "m":
        raise InputError(f"column {column.name!r} of times is of type {kind}; it must be numbers or dates")
    if pd.api.types.is_datetime64_any_dtype(kind):
        return _of_dates(column, zone), "dates"
    if time_format is None:
        numbers = pd.to_numeric(column.astype(object) if kind == "category" else column, errors="coerce")
        numbers = numbers.to_numpy(np.float64, na_value=np.nan)
        finite = np.isfinite(numbers)
        if 2 * finite.sum() >= column.notna().sum() and finite.any():
            check_not_days(str(column.name), np.nanmin(numbers[finite]), np.nanmax(numbers[finite]))
            return _of_numbers(np.where(finite, numbers, np.nan))
    found = _parsed(column, time_format, zone)
    if np.isnan(found).all():
        raise InputError(no_times(str(column.name), first_value(column)))
    return found, "dates" if time_format is None else f"dates in the format {time_format}"


def no_times(name: str, example: object) -> str:
    """The message for a column in which nothing is a time."""
    return (
        f"column {name!r} holds no times that can be read, for example {example!r}; they must be numbers or ISO 8601 "
        "dates, or name their format with time_format, for example '%d.%m.%Y %H:%M'"
    )


def check_not_days(name: str, low: float, high: float) -> None:
    """Raise InputError where the numbers of a column, from ``low`` to ``high``, look like days such as 20261102."""
    if 19000101 <= low <= high <= 21001231:
        raise InputError(
            f"column {name!r} holds numbers such as {low:.0f}, which look like days; read them with time_format=%Y%m%d"
        )


def first_value(column: pd.Series) -> object:
    """The first value of a column that is not missing; None if there is none."""
    there = column[column.notna()]
    return None if there.empty else there.iloc[0]


def _of_numbers(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    size = size_of(numbers[np.isfinite(numbers)])
    how = unit_of(zip(*(each.tolist() for each in np.unique(size, return_counts=True)), strict=True))
    large = np.abs(numbers)
    fits = (large < SMALLEST) | ((large >= how.low) & (large < how.high))
    return np.where(fits, numbers / UNITS[how.unit], np.nan), how.text


def _parsed(column: pd.Series, time_format: str | None, zone: str) -> NDArray[np.float64]:
    """Seconds (R,) of dates in words; each word is parsed once."""
    codes, values = pd.factorize(column.astype(object))
    words = pd.Series(values, dtype=object).map(str)
    seconds = np.full(len(words) + 1, np.nan)
    has_zone = words.str.fullmatch(_WITH_ZONE) if time_format is None else words.map(lambda _: "%z" in time_format)
    for aware in (True, False):
        some = np.flatnonzero(has_zone.to_numpy(bool) == aware)
        if len(some):
            how = time_format or "ISO8601"
            seconds[some] = _of_dates(pd.to_datetime(words.iloc[some], format=how, errors="coerce", utc=aware), zone)
    return seconds[codes]


def _of_dates(dates: pd.Series, zone: str) -> NDArray[np.float64]:
    """Seconds (R,) of dates, NaN for those that are missing."""
    if dates.dt.tz is None:
        dates = dates.dt.tz_localize(zone, ambiguous=np.ones(len(dates), bool), nonexistent="shift_forward")
    since, second = dates.dt.tz_convert("UTC") - pd.Timestamp(0, tz="UTC"), pd.Timedelta(seconds=1)
    whole, rest = since // second, since % second / second  # as nanoseconds in float64 they would be rounded twice
    return whole.to_numpy(np.float64) + rest.to_numpy(np.float64)
