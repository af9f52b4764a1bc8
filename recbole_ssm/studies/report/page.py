"""A report: a self-contained HTML page, and its tables and figures as files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from recbole_ssm.studies.report.figures import Figure
from recbole_ssm.studies.report.table import Table


@dataclass(frozen=True)
class Report:
    """The content of a report.

    Args:
        heading: what it is about.
        command: the command that made it.
        tables: the page shows their first rows, and the others on demand.
        notes: paragraphs below the tables.
        figures: plots.
        failed: runs that are missing from it.
        protocol: a paragraph above the tables.
    """

    heading: str
    command: str
    tables: Sequence[Table]
    notes: Sequence[str]
    figures: Sequence[Figure]
    failed: Sequence[str] = ()
    protocol: str = ""

    def write(self, folder: Path, name: str) -> None:
        """Write ``report.html``, ``NAME.md``, ``NAME.tex`` (for LaTeX with booktabs) and ``figures/`` (SVG and PDF).

        What is in ``figures/`` is replaced.
        """
        shutil.rmtree(folder / "figures", ignore_errors=True)
        (folder / "figures").mkdir(parents=True)
        environment = Environment(
            loader=PackageLoader("recbole_ssm.studies.report", "."), autoescape=True, trim_blocks=True
        )
        environment.filters["breakable"] = _breakable
        drawn = [(figure.title, figure.write(folder / "figures")) for figure in self.figures]
        columns = {name: text for table in self.tables for name, text in table.columns.items()}
        page = environment.get_template("page.html.j2").render(report=self, drawn=drawn, columns=columns)
        above = [f"{self.protocol}\n"] if self.protocol else []
        markdown = "\n".join([*above, *(table.markdown() for table in self.tables), "\n\n".join(self.notes)])
        latex = "% \\usepackage{booktabs}\n" + "\n".join(table.latex() for table in self.tables)
        for file, text in (("report.html", page), (f"{name}.md", markdown + "\n"), (f"{name}.tex", latex)):
            (folder / file).write_text(text, encoding="utf-8")


def _breakable(name: str) -> Markup:
    """A long name with places where a narrow screen may break it."""
    return Markup(re.sub(r"([=_,/-])", r"\1<wbr>", str(escape(name))))
