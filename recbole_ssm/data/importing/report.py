"""What an import has read, left out and why, and what the data are like."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_ssm.data.importing.columns import Roles
from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.table import Table, count
from recbole_ssm.errors import InputError

_EXAMPLES = 5


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

    def add_bad(self, reason: str, places: list[str], number: int) -> None:
        """Count rows that cannot be used, and remember where the first of them are."""
        if number:
            self.bad[reason] = self.bad.get(reason, 0) + number
            room = _EXAMPLES - len(self.examples)
            self.examples += [f"{place}: {reason}" for place in places[:room]]

    def check_bad(self, options: Options) -> None:
        """Raise InputError if rows cannot be used and are not to be skipped."""
        number = sum(self.bad.values())
        if number and options.bad_rows == "refuse":
            raise InputError(
                f"{number:,} of {self.read:,} rows cannot be used: {'; '.join(self.examples)}"
                f"{' and others' * (number > len(self.examples))}. Mend them, or leave them out with bad_rows=skip"
            )

    def left_out(self) -> str:
        """How many rows were left out, and why, as words."""
        reasons = {
            "cannot be used": sum(self.bad.values()),
            "are left out by where": self.filtered,
            "are duplicates": self.duplicates,
            "are of users or items with too few interactions": self.core,
        }
        return ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number) or "none is left out"

    def describe(self, table: Table) -> None:
        """Add numbers about the data as they are written."""
        users, items, times = table.users, table.items, table.times
        per_user, per_item = count(users, len(table.user_names)), count(items, len(table.item_names))
        first, last = float(times.min()), float(times.max())
        self.data = {
            "interactions": len(table),
            "users": len(table.user_names),
            "items": len(table.item_names),
            "first": _date(first),
            "last": _date(last),
            "interactions per user": spread(per_user),
            "interactions per item": spread(per_item),
        }

    def content(self) -> dict[str, Any]:
        """The report as plain values."""
        roles = self.roles
        columns = {} if roles is None else {"user": roles.user, "item": roles.item, "time": roles.time}
        return {
            "source": self.source,
            "columns": columns,
            "guessed": [] if roles is None else list(roles.guessed),
            "times": self.time_text,
            "rows": {
                "read": self.read,
                "bad": self.bad,
                "left out by where": self.filtered,
                "duplicates": self.duplicates,
                "too few interactions": self.core,
            },
            "bad rows": self.examples,
            **self.data,
            "notes": self.notes,
        }


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
