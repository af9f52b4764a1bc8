"""The files of an imported data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_ssm.data.importing.items import Items
from recbole_ssm.data.importing.names import quoted
from recbole_ssm.data.importing.report import Report
from recbole_ssm.data.importing.table import Table

REPORT = "import-report.json"
"""The file beside the data that says what they were made of."""

_LINES = 1 << 18
"""Lines that are made at a time."""


def write_interactions(table: Table, file: Path) -> None:
    """Write interactions as an atomic file.

    Args:
        table: the interactions.
        file: the new file.
    """
    users, items = [quoted(name) for name in table.user_names], [quoted(name) for name in table.item_names]
    with file.open("w", encoding="utf-8", newline="", errors="strict") as lines:
        lines.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for start in range(0, len(table), _LINES):
            rows = slice(start, start + _LINES)
            words = zip(
                map(users.__getitem__, table.users[rows].tolist()),
                map(items.__getitem__, table.items[rows].tolist()),
                _numbers(table.times[rows]),
                strict=True,
            )
            lines.write("\n".join(map("\t".join, words)) + "\n")


def write_items(items: Items, file: Path) -> None:
    """Write a table of items as an atomic file."""
    file.write_bytes(items.lines.encode())


def _numbers(times: NDArray[np.float64]) -> list[str]:
    """Numbers as words, exact to the last bit."""
    whole = (times == np.floor(times)).all() and np.abs(times).max() < 2**53
    return list(map(str, times.astype(np.int64).tolist())) if whole else list(map(repr, times.tolist()))


def write_report(report: Report, folder: Path) -> None:
    """Keep the report beside the data."""
    (folder / REPORT).write_text(json.dumps(report.content(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
