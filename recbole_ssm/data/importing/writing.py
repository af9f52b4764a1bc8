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

_LINES = 1 << 14
"""Lines that are made at a time."""


def write_interactions(table: Table, file: Path) -> None:
    """Write interactions as an atomic file.

    Args:
        table: the interactions.
        file: the new file.
    """
    users, items = (
        np.array([f"{quoted(name)}\t" for name in names], dtype=object)
        for names in (table.user_names, table.item_names)
    )
    with file.open("wb") as lines:
        lines.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        for start in range(0, len(table), _LINES):
            rows = slice(start, min(start + _LINES, len(table)))
            words = np.empty((rows.stop - start, 3), dtype=object)
            words[:, 0], words[:, 1] = users[table.users[rows]], items[table.items[rows]]
            words[:, 2] = [f"{number}\n" for number in _numbers(table.times[rows])]
            lines.write("".join(words.ravel().tolist()).encode())


def write_items(items: Items, file: Path) -> None:
    """Write a table of items as an atomic file."""
    file.write_bytes(items.lines.encode())


def _numbers(times: NDArray[np.float64]) -> list[int] | list[float]:
    """Numbers that are exact to the last bit as words: whole ones as integers, if all are."""
    whole = (times == np.floor(times)).all() and np.abs(times).max() < 2**53
    return times.astype(np.int64).tolist() if whole else times.tolist()


def write_report(report: Report, folder: Path) -> None:
    """Keep the report beside the data."""
    (folder / REPORT).write_text(json.dumps(report.content(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
