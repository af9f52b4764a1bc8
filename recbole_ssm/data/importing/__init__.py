"""From somebody's own table to a data set: read, filter, number, write, and report."""

from recbole_ssm.data.importing.imported import ImportedData, from_dataframe

__all__ = ["ImportedData", "from_dataframe"]
