"""A table of clicks in memory, read as an import reads it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recbole_ssm.data.importing.columns import Roles
from recbole_ssm.data.importing.frames import read_frame
from recbole_ssm.data.importing.options import make_options
from recbole_ssm.data.importing.report import Report
from recbole_ssm.data.importing.table import Table, compact, drop_duplicates


def read_clicks(frame: pd.DataFrame, **columns: str | None) -> tuple[Table, Roles]:
    """The interactions of a table, as :func:`from_dataframe` would write them. Nothing is written.

    Args:
        frame: a row for each interaction, in any order.
        **columns: ``user``, ``item`` and ``time``, each the name of a column; one that is not given is guessed.

    Returns:
        The interactions by user and time, and the columns.

    Raises:
        InputError: columns are missing, or a row cannot be used.
    """
    options, report = make_options(dict(columns)), Report(["DataFrame"])
    table = read_frame(frame, options, report)
    keep = np.ones(len(table), bool)
    drop_duplicates(table, options.duplicates, keep)
    if report.roles is None:
        raise AssertionError("a table that was read has columns")
    return compact(table, keep, np.empty), report.roles
