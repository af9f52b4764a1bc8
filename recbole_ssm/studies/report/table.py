"""Tables: for the terminal, as Markdown and as LaTeX; and records as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table as TerminalTable

from recbole_ssm.system.markdown import markdown_table


@dataclass(frozen=True)
class Table:
    """Cells with names of rows and columns, one quantity to a column.

    Args:
        title: what is in it.
        columns: heads of all columns but the first, and what they say.
        rows: the name and the cells of each.
        best: row and column, from 0, of cells that stand out.
    """

    title: str
    columns: dict[str, str]
    rows: Sequence[tuple[str, Sequence[str]]]
    best: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def terminal(self) -> TerminalTable:
        """The table for rich to print."""
        table = TerminalTable(title=self.title, title_justify="left")
        table.add_column("")
        for name in self.columns:
            table.add_column(name, justify="right")
        for name, cells in self.rows:
            table.add_row(name, *cells)
        return table

    def markdown(self) -> str:
        """The table in Markdown, with a legend of its columns."""
        rows = []
        for row, (name, cells) in enumerate(self.rows):
            name, *words = (word.replace("*", r"\*") for word in (name, *cells))
            words = [f"**{word}**" if (row, column) in self.best else word for column, word in enumerate(words)]
            rows.append((name, *words))
        lines = [f"**{self.title}**", "", *markdown_table(("", *self.columns), rows, numbers=True)]
        return "\n".join([*lines, "", *(f"- {name}: {text}" for name, text in self.columns.items())]) + "\n"

    def latex(self) -> str:
        """A ``tabular`` with the rules of booktabs, in a ``table``."""
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(self.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
            r"\toprule",
            " & ".join(["", *map(_latex, self.columns)]) + r" \\",
            r"\midrule",
        ]
        for row, (name, cells) in enumerate(self.rows):
            words = [_latex(cell) for cell in cells]
            words = [rf"\textbf{{{w}}}" if (row, column) in self.best else w for column, w in enumerate(words)]
            lines.append(" & ".join([_latex(name), *words]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


_IN_LATEX = {
    **{letter: "\\" + letter for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$"},
}


def _latex(text: str) -> str:
    words = text.rstrip("*")
    stars = text[len(words) :]
    return "".join(_IN_LATEX.get(letter, letter) for letter in words) + (f"$^{{{stars}}}$" if stars else "")


def write_csv(file: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records of the same keys as CSV; numbers are not rounded."""
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
