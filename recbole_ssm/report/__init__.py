"""Pages that need nothing but themselves: a table, its notes, and plots in the ink of the page, light or dark."""

from recbole_ssm.report.page import render
from recbole_ssm.report.svg import COLOURS, drawing
from recbole_ssm.report.text import markdown

__all__ = ["COLOURS", "drawing", "markdown", "render"]
