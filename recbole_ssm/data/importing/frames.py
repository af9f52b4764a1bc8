"""A DataFrame as a table of interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_ssm.data.importing.columns import SAMPLE, find_roles
from recbole_ssm.data.importing.names import bad_name, name_of
from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.report import Report
from recbole_ssm.data.importing.table import Table
from recbole_ssm.data.importing.times import seconds_of
from recbole_ssm.data.importing.where import conditions, split_by_time
from recbole_ssm.errors import InputError

_NOT_NAMES = " (pandas reads names such as NA and null as missing, unless read_csv is given keep_default_na=False)"


def read_frame(frame: pd.DataFrame, options: Options, report: Report) -> Table:
    """The interactions of a DataFrame.

    Args:
        frame: with a row for each interaction; it is not changed.
        options: how to read it.
        report: gets what was read and left out.

    Returns:
        The interactions.

    Raises:
        InputError: columns are missing or of the wrong type, or a row cannot be used and is not to be skipped.
    """
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    roles = find_roles(frame.head(SAMPLE), options)
    report.roles = roles
    report.read = len(frame)
    if not len(frame):
        raise InputError("the table has no rows")
    on_words, on_times = split_by_time(
        conditions(options.where, list(frame.columns), roles.time, options.time_zone), roles.time
    )
    wanted = np.ones(len(frame), bool)
    for condition in on_words:
        wanted &= condition.holds(frame[condition.column])
    frame = frame[wanted]
    users, user_names, bad_user = _coded(frame, roles.user)
    items, item_names, bad_item = _coded(frame, roles.item)
    rows = np.flatnonzero(wanted)
    times, bad_time = rows.astype(np.float64), np.zeros(len(frame), bool)
    if roles.time is not None and len(frame):
        times, report.time_text = seconds_of(frame[roles.time], options.time_format, options.time_zone)
        bad_time = ~np.isfinite(times)
    bad = {f"no {role} that can be used": wrong for role, wrong in _by_role(bad_user, bad_item, bad_time).items()}
    for reason, wrong in bad.items():
        report.add_bad(reason, [f"row {row} (from 0)" for row in rows[np.flatnonzero(wrong)[:5]]], int(wrong.sum()))
    missing = any(role is not None and frame[role].isna().any() for role in (roles.user, roles.item))
    report.check_bad(options, _NOT_NAMES if missing else "")
    kept = ~(bad_user | bad_item | bad_time)
    in_time = np.ones(len(frame), bool)
    for condition in on_times:
        in_time &= condition.holds(pd.Series(times))
    report.filtered = int((~wanted).sum() + (kept & ~in_time).sum())
    kept &= in_time
    users, items, times = users[kept], items[kept], times[kept]
    order = np.lexsort((times, users))
    return Table(users[order], items[order], times[order], user_names, item_names)


def _by_role(*wrong: NDArray[np.bool_]) -> Mapping[str, NDArray[np.bool_]]:
    """Which rows are bad, each counted once: by the first of user, item and time that is."""
    user, item, time = wrong
    return {"user": user, "item": item & ~user, "time": time & ~item & ~user}


def _coded(frame: pd.DataFrame, name: str | None) -> tuple[NDArray[Any], list[str], NDArray[np.bool_]]:
    """The numbers (R,) of a column of names, the names, and which rows (R,) have none that can be used."""
    if name is None:
        return np.zeros(len(frame), np.int64), [""], np.zeros(len(frame), bool)
    column = frame[name]
    if column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype | pd.IntervalDtype):
        raise InputError(f"column {name!r} is of type {column.dtype}; names must be words or whole numbers")
    try:
        codes, values = pd.factorize(column.astype(object) if column.dtype == "category" else column)
    except TypeError as error:
        raise InputError(f"column {name!r} holds lists or dicts; names must be words or whole numbers") from error
    words = [name_of(value, name) for value in np.asarray(values).tolist()]
    numbers, names = pd.factorize(np.array(words, dtype=object))  # 1 and "1" are one name
    wrong = np.array([bad_name(word) is not None for word in names] + [True])
    codes = np.append(numbers, -1)[codes]
    return codes, list(names), wrong[codes]
