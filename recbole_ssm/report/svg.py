"""Plots as SVG that takes its ink from the page around it."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

COLOURS = ("#3987e5", "#e8833a", "#2aa876", "#d9534f", "#8f6fd6", "#1fa5b8", "#d65fa5", "#8aa62b", "#a8734b")
"""Of lines and points, to be told apart on white and on black."""

_INK = "#010203"
"""Replaced by the colour of the page's text."""

_STYLE = {
    **{"svg.fonttype": "none", "svg.hashsalt": "recbole-ssm", "font.family": "sans-serif", "font.size": 10},
    **{name: _INK for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25},
    **{"grid.color": _INK, "axes.linewidth": 0.8, "lines.linewidth": 1.6, "legend.frameon": False},
}


def drawing(draw: Callable[[Axes], None]) -> str:
    """The SVG of a plot; what has a label is named beside it.

    Args:
        draw: puts lines, points and the words of axes into what it is given.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            _number(axis)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), labelcolor=_INK)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(_INK, "currentColor")


def _number(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, more than the powers of ten where there are few of these."""
    if not isinstance(axis.get_major_locator(), LogLocator):
        return
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axis.set_minor_formatter(NullFormatter())
