"""What an import has read, left out and why, and what the data are like."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_ssm.data.importing.columns import Roles
from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.table import Table, blocks_of_users, count
from recbole_ssm.data.importing.times import SMALLEST
from recbole_ssm.data.temporal import judge_times
from recbole_ssm.errors import InputError

_EXAMPLES = 5

_EARLY = 631152000.0
"""The beginning of 1990."""


@dataclass
class Report:
    """Filled while a table is imported.

    Attributes:
        source: the files, or ``DataFrame``.
        read: rows of the source.
        bad: rows that could not be used, by reason.
        examples: where the first of them stand.
        filtered: rows that the conditions left out.
        duplicates: rows that the policy for duplicates left out.
        core: rows of users and items with too few interactions.
        time_text: what the times were taken for.
        data: numbers about the data as they were written.
        notes: sentences about what is unusual.
        items: what was read of a table of items, if there is one.
        options: that were asked for, and hold for later tables too.
        where: of which table the rows are, for messages.
    """

    source: list[str]
    read: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    filtered: int = 0
    duplicates: int = 0
    core: int = 0
    roles: Roles | None = None
    time_text: str = "the order of the rows"
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    items: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    where: str = ""

    def add_bad(self, reason: str, places: list[str], number: int) -> None:
        """Count rows that cannot be used, and remember where the first of them are."""
        if number:
            self.bad[reason] = self.bad.get(reason, 0) + number
            room = _EXAMPLES - len(self.examples)
            self.examples += [f"{place}: {reason}" for place in places[:room]]

    def check_bad(self, options: Options, why: str = "") -> None:
        """Raise InputError if rows cannot be used and are not to be skipped; ``why`` is a guess for the message."""
        number = sum(self.bad.values())
        if number and options.bad_rows == "refuse":
            raise InputError(
                f"{number:,} of {self.read:,} rows{self.where} cannot be used: {'; '.join(self.examples)}"
                f"{' and others' * (number > len(self.examples))}{why}. Mend them, or leave them out with bad_rows=skip"
            )

    def left_out(self) -> str:
        """How many rows were left out, and why, as words."""
        return left_out(self.rows)

    @property
    def rows(self) -> dict[str, Any]:
        """How many rows were read, and how many were left out, by reason."""
        return {
            "read": self.read,
            "bad": self.bad,
            "left out by where": self.filtered,
            "duplicates": self.duplicates,
            "too few interactions": self.core,
        }

    def describe(self, table: Table) -> None:
        """Add numbers about the data as they are written, numbered from 1."""
        users, items, times = table.users, table.items, table.times
        per_user, per_item = (
            count(numbers, len(names))[1:] for numbers, names in ((users, table.user_names), (items, table.item_names))
        )
        first, last = float(times.min()), float(times.max())
        why, equal = judge_times(users, times, "time")
        counts = first == 0 and self.roles is not None and self.roles.time is None
        self.data = {
            "interactions": len(table),
            "users": len(per_user),
            "items": len(per_item),
            "first": _date(first),
            "last": _date(last),
            "days": round((last - first) / 86400, 2),
            "real timestamps": why is None and not counts and max(abs(first), abs(last)) >= SMALLEST,
            "repeats": round(repeated(table) / len(table), 4),
            "interactions per user": spread(per_user),
            "interactions per item": spread(per_item),
        }
        self._note(table, per_user, why, equal)

    def compare_items(self, table: Table, names: list[str]) -> None:
        """Count items that only the interactions, or only the table of items, have."""
        known, used = set(names), set(table.item_names[1:])
        missing = len(used - known)
        self.items = (self.items or {}) | {"without interactions": len(known - used), "without a row": missing}

    def _note(self, table: Table, per_user: NDArray[np.int64], why: str | None, equal: float) -> None:
        """Add sentences about what is unusual."""
        found = {
            "the times only say the order: they are too small for dates": not self.data["real timestamps"] and not why,
            f"the times only say the order: {why}": why is not None,
            f"{equal:.0%} of neighbouring interactions of a user have the same time: they keep the order of the rows": (
                equal > 0.1
            ),
        }
        single = int((per_user == 1).sum())
        found[f"{single:,} users have a single interaction, of which nothing can be learned; k_core=2 removes them"] = (
            single > 0
        )
        if self.data["real timestamps"]:
            early, late = (int(each) for each in ((table.times < _EARLY).sum(), (table.times > time.time()).sum()))
            found[f"{early:,} interactions are before 1990"] = early > 0
            found[f"{late:,} interactions are in the future"] = late > 0
        for role, names in (("users", table.user_names), ("items", table.item_names)):
            gib = 4 * max(map(len, names)) * len(names) / 2**30
            long = f"a name of {role} has {max(map(len, names)):,} characters: the names take {gib:.1f} GiB in training"
            found[long] = gib > 1
            text = f"the names of all {role} end in '.0', as where whole numbers were written as fractions"
            found[text] = all(name.endswith(".0") for name in names[1:])
        self.notes += [note for note, holds in found.items() if holds]

    def content(self) -> dict[str, Any]:
        """The report as plain values."""
        roles = self.roles
        columns = {} if roles is None else {"user": roles.user, "item": roles.item, "time": roles.time}
        return {
            "source": self.source,
            "columns": columns,
            "reading": self.options | {role: name for role, name in columns.items() if name is not None},
            "guessed": [] if roles is None else list(roles.guessed),
            "other columns": [] if roles is None else list(roles.others),
            "times": self.time_text,
            "rows": self.rows,
            "bad rows": self.examples,
            **self.data,
            **({} if self.items is None else {"table of items": self.items}),
            "notes": self.notes,
        }


def left_out(rows: dict[str, Any]) -> str:
    """How many rows were left out, and why, as words; see :attr:`Report.rows`."""
    reasons = {
        "that cannot be used": sum(rows["bad"].values()),
        "by where": rows["left out by where"],
        "as duplicates": rows["duplicates"],
        "of users or items with too few interactions": rows["too few interactions"],
    }
    return ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number) or "no row"


def shown(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a report as lines for a reader."""
    columns = ", ".join(
        f"{role} {name}{' (guessed)' * (role in content['guessed'])}"
        for role, name in content["columns"].items()
        if name is not None
    )
    lines: dict[str, Any] = {
        "read": f"{content['rows']['read']:,} rows of {', '.join(content['source'])}",
        "columns": columns + _unread(content),
        "times": f"{content['times']}, from {content['first']} to {content['last']}",
        "left out": left_out(content["rows"]),
        "written": ", ".join(f"{content[what]:,} {what}" for what in ("interactions", "users", "items")),
    }
    lines |= {f"per {role}": content[f"interactions per {role}"] for role in ("user", "item")}
    lines["repeats"] = f"{content['repeats']:.1%} of interactions are with an item that the user had before"
    if (items := content.get("table of items")) is not None:
        lines["table of items"] = items
    lines |= {"bad rows": "; ".join(content["bad rows"])} if content["bad rows"] else {}
    return lines | {f"note {number}": note for number, note in enumerate(content["notes"], 1)}


def _unread(content: dict[str, Any]) -> str:
    names = content.get("other columns")
    if not names:
        return ""
    more = "" if "table of items" in content else " (--items reads features of items)"
    return f"; not imported: {', '.join(names)}{more}"


def repeated(table: Table) -> int:
    """How many interactions are with an item that the user had before."""
    found = 0
    for rows in blocks_of_users(table.users):
        pairs = np.sort(table.users[rows].astype(np.int64) * len(table.item_names) + table.items[rows])
        found += int((np.diff(pairs) == 0).sum())
    return found


def spread(counts: NDArray[np.int64]) -> dict[str, float]:
    """The least, middle, mean and largest of counts, and that which nine tenths do not exceed."""
    middle, high = np.quantile(counts, [0.5, 0.9], method="lower")
    return {
        "min": int(counts.min()),
        "median": int(middle),
        "mean": round(float(counts.mean()), 1),
        "p90": int(high),
        "max": int(counts.max()),
    }


def _date(seconds: float) -> str | float:
    """A time as a date; a number that is too small or too large for one as it is."""
    try:
        date = datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return seconds
    return date.isoformat(timespec="seconds") if abs(seconds) >= 1e8 else seconds
