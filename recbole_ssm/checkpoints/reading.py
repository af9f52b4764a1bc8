"""How the table of a training was read, so that later tables are read in the same way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_ssm.data.importing.options import make_options
from recbole_ssm.data.importing.writing import REPORT
from recbole_ssm.system.bounded import Unusable

KEY = "reading"
"""The key of a checkpoint, and of the report of an import, that has options. Those of earlier versions have none."""


def of_import(dataset: Any) -> dict[str, Any]:
    """What the report beside a data set says; nothing where no import of this version made it.

    Args:
        dataset: RecBole's or this package's.

    Returns:
        Options of the import, with the columns of users, items and times.
    """
    try:
        report = json.loads((Path(dataset.config["data_path"]) / REPORT).read_text(encoding="utf-8"))
        make_options(report[KEY])
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return {}
    found: dict[str, Any] = report[KEY]
    return found


def check_reading(state: Mapping[str, Any]) -> None:
    """Raise :class:`Unusable` if a checkpoint has something else in its place."""
    try:
        make_options(state.get(KEY, {}))
    except (AttributeError, TypeError, ValueError) as error:
        raise Unusable(f"{KEY} is not how a table can be read: {error}") from error
