"""Popular items, for people of whom the model knows nothing."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from recbole_ssm.errors import InputError


def read_popular(file: Path) -> dict[str, float]:
    """Read a file of popular items.

    Args:
        file: a line for each item: its name, and behind a comma or tab how often it was had. Without these numbers the
            first is the most popular one.

    Returns:
        By name how often it was had, or a number that falls from line to line.

    Raises:
        InputError: it cannot be read, or a number is not finite.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            text = lines.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--popular={file} cannot be read: {error}") from error
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    found = {}
    for number, row in enumerate(rows):
        try:
            count = float(row[1]) if len(row) > 1 else float(len(rows) - number)
        except ValueError:
            if number == 0:  # a header
                continue
            count = math.nan
        if not math.isfinite(count):
            raise InputError(f"--popular={file}, line {number + 1}: behind the item must be a number")
        found[row[0]] = count
    return found
