"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """The lines of a table in Markdown.

    Args:
        head: of each column.
        rows: a cell for each column.
        numbers: all columns but the first are set to the right.

    Returns:
        A line for the head, one for the alignment, and one for each row.
    """
    marks = ["---"] + ["---:" if numbers else "---"] * (len(head) - 1)
    lines = [_line(head), "|" + "".join(f"{mark}|" for mark in marks)]
    return lines + [_line(row) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
