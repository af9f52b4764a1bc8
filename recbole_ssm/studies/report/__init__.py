"""Reports: tables, notes and figures, as a self-contained page, and as files for a paper."""

from recbole_ssm.studies.report.figures import COLOURS, Figure, styles
from recbole_ssm.studies.report.page import Report
from recbole_ssm.studies.report.table import Table, write_csv

__all__ = ["COLOURS", "Figure", "Report", "Table", "styles", "write_csv"]
