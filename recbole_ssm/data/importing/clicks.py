"""A table of clicks in memory, read as an import reads it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recbole_ssm.data.importing.columns import Roles
from recbole_ssm.data.importing.frames import read_frame
from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.report import Report
from recbole_ssm.data.importing.table import Table, compact, drop_duplicates, split_sessions


def read_clicks(frame: pd.DataFrame, options: Options) -> tuple[Table, Roles]:
    """The interactions of a table, as :func:`from_dataframe` would write them without a k-core. Nothing is written.

    Args:
        frame: a row for each interaction, in any order.
        options: how to read it.

    Returns:
        The interactions by user and time, and the columns.

    Raises:
        InputError: columns are missing, or a row cannot be used.
    """
    report = Report(["DataFrame"])
    table = read_frame(frame, options, report)
    if options.session_gap is not None:
        table = split_sessions(table, options.session_gap, np.empty)
    keep = np.ones(len(table), bool)
    drop_duplicates(table, options.duplicates, keep)
    if report.roles is None:
        raise AssertionError("a table that was read has columns")
    return compact(table, keep, np.empty), report.roles
