"""Which columns of a table are users, items and times: named by the caller, or guessed and said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.times import seconds_of
from recbole_ssm.errors import InputError, did_you_mean

USUAL = {
    "user": (
        *(
            "userid",
            "user",
            "customerid",
            "customer",
            "visitorid",
            "visitor",
            "memberid",
            "member",
            "clientid",
            "client",
        ),
        *("accountid", "account", "buyerid", "buyer", "reviewerid", "reviewer", "listenerid", "readerid"),
        *("personid", "uid", "username", "usersession", "sessionid", "session"),
    ),
    "item": (
        *("itemid", "item", "productid", "product", "articleid", "article", "sku", "skuid", "movieid", "movie"),
        *("parentasin", "asin", "trackid", "track", "songid", "song", "videoid", "video", "bookid", "book", "isbn"),
        *("contentid", "content", "newsid", "pageid", "page", "url", "iid", "gameid", "game", "listingid", "offerid"),
    ),
    "time": (
        *("timestamp", "time", "eventtime", "eventtimestamp", "unixtimestamp", "unixtime", "datetime", "ts", "date"),
        *(
            "createdat",
            "created",
            "occurredat",
            "clickedat",
            "purchasedat",
            "unixreviewtime",
            "reviewtime",
            "orderdate",
        ),
        *("tdat", "eventdate", "timems", "timestampms", "day"),
    ),
}
"""Usual names, in lower case without other signs; the first that a table has is taken."""

SAMPLE = 1000
"""Rows that a guess looks at."""


class Roles(NamedTuple):
    """The columns of an import. ``user`` is None for a table of one user, ``time`` for rows in order of time."""

    user: str | None
    item: str
    time: str | None
    guessed: tuple[str, ...]
    """Which of ``user``, ``item`` and ``time`` were guessed."""
    others: tuple[str, ...] = ()
    """The columns of the table that are none of these."""

    @property
    def names(self) -> list[str]:
        """The columns that exist."""
        return [name for name in (self.user, self.item, self.time) if name is not None]


def find_roles(sample: pd.DataFrame, options: Options) -> Roles:
    """Find the columns of users, items and times.

    Args:
        sample: the first rows of the table, with all columns.
        options: may name the columns.

    Returns:
        The columns.

    Raises:
        InputError: a column does not exist, has two roles, or cannot be guessed.
    """
    names = check_names([str(name) for name in sample.columns])
    given = {"user": options.user, "item": options.item, "time": options.time}
    for role, name in given.items():
        if name is not None and name not in names:
            hint = did_you_mean(name, names) or "."
            raise InputError(f"{role}: there is no column {name!r}{hint} There are {', '.join(names)}")
    found = dict(given)
    for role in USUAL:
        if found[role] is None and not (role == "time" and options.row_order):
            free = [name for name in names if name not in found.values()]
            found[role] = _usual(role, free, sample, options)
    _check(found, names, options)
    guessed = tuple(role for role in found if given[role] is None and found[role] is not None)
    others = tuple(name for name in names if name not in found.values())
    return Roles(found["user"], str(found["item"]), found["time"], guessed, others)


def check_names(names: list[str]) -> list[str]:
    """The names of columns; InputError for one that is there twice."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the table has two columns {twice!r}; give one of them another name")
    return names


def usual_column(role: str, names: Sequence[str]) -> str | None:
    """The column that has a usual name for users, items or times; None if there is none."""
    return next(iter(_likely(role, names)), None)


def _likely(role: str, names: Sequence[str]) -> list[str]:
    plain = {re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0]): name for name in reversed(names)}
    return [plain[name] for name in USUAL[role] if name in plain]


def _usual(role: str, free: list[str], sample: pd.DataFrame, options: Options) -> str | None:
    likely = _likely(role, free)
    if role != "time":
        return likely[0] if likely else None
    others = [name for name in free if name not in likely and sample[name].dtype.kind in "OM"]
    return next((name for name in (*likely, *others) if _is_time(sample[name], options)), likely[0] if likely else None)


def _is_time(column: pd.Series, options: Options) -> bool:
    """Whether most values of a column are times; of one that has no usual name only dates are taken for times."""
    try:
        seconds, _ = seconds_of(column, options.time_format, options.time_zone)
    except InputError:
        return False
    return bool(2 * np.isfinite(seconds).sum() > len(seconds))


def _check(found: dict[str, str | None], names: list[str], options: Options) -> None:
    for role in ("item", "time"):
        if found[role] is None and not (role == "time" and options.row_order):
            extra = "; or set row_order=True if the rows are in order of time" if role == "time" else ""
            raise InputError(
                f"which column has the {role}s cannot be told from the names {', '.join(names)}; name it with "
                f"{role}=NAME{extra}"
            )
    if found["user"] is None and options.session_gap is None:
        raise InputError(
            f"which column has the users cannot be told from the names {', '.join(names)}; name it with user=NAME, or "
            "set session_gap to cut the rows into sessions"
        )
    taken = [name for name in found.values() if name is not None]
    for name in taken:
        if taken.count(name) > 1:
            roles = " and as ".join(role for role, each in found.items() if each == name)
            raise InputError(f"column {name!r} is given as {roles}; each needs a column of its own")
