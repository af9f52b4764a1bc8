"""A self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader


def render(
    heading: str,
    command: str,
    columns: dict[str, str],
    rows: Sequence[tuple[str, Sequence[str]]],
    footnotes: Sequence[str],
    plots: Sequence[tuple[str, str]],
    failed: Sequence[str] = (),
) -> str:
    """The text of a page.

    Args:
        heading: what it is about.
        command: what made it.
        columns: heads of the table's columns but the first, and what they say.
        rows: the name and the cells of each.
        footnotes: paragraphs below the table.
        plots: title and SVG of each.
        failed: what should be in it and is not.
    """
    page = Environment(loader=PackageLoader("recbole_ssm.report", "."), autoescape=True).get_template("page.html.j2")
    return page.render(
        heading=heading,
        command=command,
        columns=columns,
        rows=rows,
        footnotes=footnotes,
        plots=plots,
        failed=failed,
    )
