"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(columns: dict[str, str], rows: Sequence[tuple[str, Sequence[str]]], footnotes: Sequence[str] = ()) -> str:
    """A table, what its columns say, and its footnotes; arguments as for :func:`recbole_ssm.report.render`."""
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]
    lines += ["", *(f"- {name}: {text}" for name, text in columns.items())]
    return "\n".join([*lines, *(["", *footnotes] if footnotes else [])]) + "\n"
