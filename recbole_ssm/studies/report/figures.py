"""Figures, as SVG in the text colour of a page, and as SVG and PDF files for a paper."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter

COLOURS = ("#3987e5", "#e8833a", "#2aa876", "#d9534f", "#8f6fd6", "#1fa5b8", "#d65fa5", "#8aa62b", "#a8734b")
"""Colours of lines and points, distinct on white and on black."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "*")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

_INK = "#010203"
"""Black on paper; on a page replaced by the colour of its text."""

_STYLE: dict[Any, Any] = {  # keys of matplotlib's rcParams
    **{"svg.fonttype": "none", "svg.hashsalt": "recbole-ssm", "pdf.fonttype": 42},
    **{"font.family": "sans-serif", "font.size": 10, "legend.fontsize": 9.5, "xtick.labelsize": 9.5},
    **{name: _INK for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.2},
    **{"grid.color": _INK, "axes.linewidth": 0.8, "lines.linewidth": 1.6, "legend.frameon": False},
    **{"ytick.labelsize": 9.5, "lines.markersize": 5.5, "errorbar.capsize": 3},
}

_WIDTH = 4.2
"""Inches: a figure is as wide as a small screen, where its text keeps its size."""


@dataclass(frozen=True)
class Figure:
    """A plot with its title.

    Args:
        title: what it shows.
        draw: puts lines, points and the words of axes into what it is given. What has a label is named below the plot.
    """

    title: str
    draw: Callable[[Axes], None]

    @property
    def name(self) -> str:
        """The title as the name of a file."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def write(self, folder: Path) -> str:
        """Write ``NAME.svg`` and ``NAME.pdf``.

        Args:
            folder: gets the files.

        Returns:
            The SVG for a page, in the colour of the text around it.
        """
        with matplotlib.rc_context(_STYLE):
            canvas = self._drawn()
            text = io.StringIO()
            canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
            canvas.set_layout_engine("none")  # the layout stays that of the SVG, which took most of the time
            canvas.savefig(folder / f"{self.name}.pdf", transparent=True, metadata={"CreationDate": None})
        svg = text.getvalue()
        (folder / f"{self.name}.svg").write_text(svg, encoding="utf-8")
        return svg[svg.index("<svg") :].replace(_INK, "currentColor")

    def _drawn(self) -> Canvas:
        canvas = Canvas(figsize=(_WIDTH, 3.0), layout="constrained")
        axes = canvas.subplots()
        self.draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            _number(axis)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            columns = max(1, min(3, len(labels), 44 // (max(map(len, labels)) + 6)))
            canvas.set_figheight(3.0 + 0.2 * ceil(len(labels) / columns))
            canvas.legend(handles, labels, loc="outside lower center", ncols=columns, labelcolor=_INK, handlelength=2.6)
        return canvas


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The style of each line: distinct by colour, and without colour by marker and dashes."""
    return {
        name: {
            "color": COLOURS[number % len(COLOURS)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": _DASHES[number % len(_DASHES)],
        }
        for number, name in enumerate(names)
    }


def _number(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, more than the powers of ten where there are few of these."""
    if not isinstance(axis.get_major_locator(), LogLocator):
        return
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axis.set_minor_formatter(NullFormatter())
