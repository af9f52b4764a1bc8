"""From somebody's own table to a data set: read, filter, number, write, and report."""

from recbole_ssm.data.importing.clicks import read_clicks
from recbole_ssm.data.importing.imported import ImportedData, from_dataframe, import_files
from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.report import shown
from recbole_ssm.data.importing.sources import TextFormat

__all__ = ["ImportedData", "Options", "TextFormat", "from_dataframe", "import_files", "read_clicks", "shown"]
