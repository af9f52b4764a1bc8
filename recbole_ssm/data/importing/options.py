"""What can be asked of an import, checked before any work."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from recbole_ssm.errors import InputError, did_you_mean
from recbole_ssm.system.plain import plain

DUPLICATES = {
    "rows": "rows with the same user, item and time count once",
    "keep": "all rows stay",
    "consecutive": "an item that follows itself at once counts once",
    "first": "of a user's interactions with an item the first stays",
    "last": "of a user's interactions with an item the last stays",
}
"""The policies for duplicates, and what each does."""

BAD_ROWS = ("refuse", "skip")


@dataclass(frozen=True)
class Options:
    """How a table is read and filtered.

    Attributes:
        user: the column of users; None to guess it by its name.
        item: the column of items; None to guess it.
        time: the column of times; None to guess it.
        row_order: whether the rows are in order of time, and no column says it.
        time_format: of dates that are not ISO 8601, as for ``strptime``, for example ``%d.%m.%Y %H:%M``.
        time_zone: of dates that name no zone, for example ``Europe/Berlin``.
        where: conditions, see :mod:`recbole_ssm.data.importing.where`.
        duplicates: one of :data:`DUPLICATES`.
        k_core: the fewest interactions of a user and of an item, as one number or as two.
        session_gap: seconds after which a user's next interaction begins another session; sessions are the users then.
        bad_rows: ``refuse`` or ``skip`` rows that cannot be used.
        items_id: the column of names in a table of items; None for that of the interactions, or a usual name.
        items_columns: types of columns of a table of items, each ``token``, ``token_seq`` or ``float``; those of other
            columns follow from their values.
        overwrite: whether an earlier import of the same name may be replaced.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    row_order: bool = False
    time_format: str | None = None
    time_zone: str = "UTC"
    where: str | None = None
    duplicates: str = "rows"
    k_core: int | tuple[int, int] | None = None
    session_gap: float | None = None
    bad_rows: str = "refuse"
    items_id: str | None = None
    items_columns: dict[str, str] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.duplicates not in DUPLICATES:
            raise InputError(f"duplicates must be one of {', '.join(DUPLICATES)}, but is {self.duplicates!r}")
        if self.bad_rows not in BAD_ROWS:
            raise InputError(f"bad_rows must be refuse or skip, but is {self.bad_rows!r}")
        if self.session_gap is not None and not 0 < self.session_gap < float("inf"):
            raise InputError(f"session_gap must be a number of seconds above 0, but is {self.session_gap!r}")
        if self.row_order and self.time is not None:
            raise InputError("row_order is for tables without a column of times; leave out time, or row_order")
        if self.row_order and self.session_gap is not None:
            raise InputError("session_gap needs times, and row_order says that there are none; leave out one of them")
        _check_zone(self.time_zone)
        if min(self.cores) < 1:
            raise InputError(f"k_core must be one whole number of at least 1, or two, but is {self.k_core!r}")

    @property
    def cores(self) -> tuple[int, int]:
        """The fewest interactions of a user, and of an item."""
        if self.k_core is None:
            return 1, 1
        pair = (self.k_core, self.k_core) if isinstance(self.k_core, int) else tuple(self.k_core)
        if len(pair) != 2 or not all(type(number) is int for number in pair):
            return 0, 0
        return pair

    @property
    def reading(self) -> dict[str, Any]:
        """What was asked for that also holds for a later table of the same kind, as plain values."""
        given = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return {name: plain(value) for name, value, default in given if value != default and name not in _OF_ONE_IMPORT}


_OF_ONE_IMPORT = ("k_core", "items_id", "items_columns", "overwrite")
"""Options that do not say how the clicks are read."""


def make_options(given: dict[str, Any]) -> Options:
    """Options from keywords; InputError for one that does not exist."""
    known = [field.name for field in fields(Options)]
    for name in given:
        if name not in known:
            raise InputError(f"an import has no option {name!r}{did_you_mean(name, known)}")
    return Options(**given)


def check_name(name: str) -> str:
    """The name of a data set, which becomes a folder; InputError unless it is letters, digits, and ``_ . -``."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise InputError(
            f"the name of a data set must be at most 100 letters, digits, '_', '.' and '-', and begin with a letter or "
            f"digit, but is {name!r}"
        )
    if name == "ml-100k":
        raise InputError("the name ml-100k is that of the data set that comes with RecBole; give another name")
    return name


def name_from(file: Path) -> str:
    """A name for the data set of a file: that of the file without its endings."""
    stem = re.sub(r"(\.[A-Za-z][A-Za-z0-9]*)+$", "", file.name) or file.name
    return check_name(re.sub(r"[^\w.-]+", "-", stem).strip("-._") or "table")


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(f"time_zone {zone!r} is unknown; give a name such as UTC or Europe/Berlin") from error
