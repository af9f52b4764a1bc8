"""Plots of a comparison, as SVG that takes its ink from the page around it, light or dark."""

from __future__ import annotations

import io
from statistics import mean, stdev

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_ssm.compare.measuring import AT, METRICS
from recbole_ssm.compare.summary import Row

_COLOURS = ("#3987e5", "#e8833a", "#2aa876", "#d9534f", "#8f6fd6", "#1fa5b8", "#d65fa5", "#8aa62b", "#a8734b")
_INK = "#010203"
"""Replaced by the colour of the page's text."""

_STYLE = {
    **{"svg.fonttype": "none", "svg.hashsalt": "recbole-ssm", "font.family": "sans-serif", "font.size": 10},
    **{name: _INK for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25},
    **{"grid.color": _INK, "axes.linewidth": 0.8, "lines.linewidth": 1.6, "legend.frameon": False},
}


def plots(rows: list[Row]) -> list[tuple[str, str]]:
    """Title and SVG of each plot that the runs have the data for."""
    colours = {row.name: _COLOURS[number % len(_COLOURS)] for number, row in enumerate(rows)}
    drawn = [
        (
            f"Validation NDCG@{AT} by epoch",
            _learning(rows, colours, lambda history: range(1, len(history) + 1), "epoch"),
        ),
        (
            f"Validation NDCG@{AT} by seconds",
            _learning(rows, colours, _seconds, "seconds of training and validation", "log"),
        ),
        ("Accuracy and cost of training", _cost(rows, colours, lambda run: run["seconds_to_best"], "seconds to best")),
    ]
    if all(run["latency_one"] for row in rows for run in row.runs):
        median = _cost(rows, colours, lambda run: run["latency_one"]["median_ms"], "ms for one user")
        drawn.append(("Accuracy and latency", median))
    for name, label in (("length", "length of history"), ("popularity", "how often the item is a training target")):
        having = [row for row in rows if name in row.samples]
        if having:
            drawn.append((f"HR@{AT} by {label}", _by_group(having, colours, name, label)))
    return drawn


def _seconds(history: list[dict]) -> np.ndarray:
    return np.cumsum([epoch["train_seconds"] + epoch.get("valid_seconds", 0.0) for epoch in history])


def _learning(rows: list[Row], colours: dict, places, label: str, scale: str = "linear") -> str:
    """A line for each run."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes()
        for row in rows:
            for number, run in enumerate(row.runs):
                points = [
                    (x, epoch["valid_result"][f"ndcg@{AT}"])
                    for x, epoch in zip(places(run["history"]), run["history"], strict=True)
                    if "valid_result" in epoch
                ]
                marker = "o" if len(points) == 1 else None
                axes.plot(*zip(*points, strict=True), color=colours[row.name], alpha=0.85, marker=marker, markersize=4)
                if number == 0:
                    axes.lines[-1].set_label(row.name)
        axes.set(xlabel=label, ylabel=f"NDCG@{AT}")
        if scale == "log":
            axes.set(xscale="log", xlabel=f"{label} (logarithmic)")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _with_legend(figure, axes)


def _cost(rows: list[Row], colours: dict, value, label: str) -> str:
    """A point for each model: cost to the right, accuracy upwards."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes()
        for row in rows:
            x, y = row.middle(value), mean(row.scores("ndcg"))
            axes.plot([x], [y], "o", markersize=7, color=colours[row.name], label=row.name)
        axes.set(xlabel=f"{label} (logarithmic)", ylabel=f"test NDCG@{AT}", xscale="log")
        axes.margins(0.15)
        return _with_legend(figure, axes)


def by_value(rows: list[Row], parameter: str) -> list[tuple[str, str]]:
    """Title and SVG of each metric over the values of a parameter, with deviations over seeds; names end in values."""
    drawn = []
    for metric, name in METRICS.items():
        with matplotlib.rc_context(_STYLE):
            figure, axes = _axes()
            scores = [row.scores(metric) for row in rows]
            spreads = [stdev(each) if len(each) > 1 else 0.0 for each in scores]
            places = range(len(rows))
            axes.errorbar(
                places, list(map(mean, scores)), spreads, marker="o", markersize=4, capsize=3, color=_COLOURS[0]
            )
            values = [row.name.partition("=")[2] for row in rows]
            axes.set(xlabel=parameter, ylabel=f"test {name}@{AT}", xticks=places, xticklabels=values)
            drawn.append((f"{name}@{AT} by {parameter}", _svg(figure)))
    return drawn


def _by_group(rows: list[Row], colours: dict, name: str, label: str, groups: int = 5) -> str:
    """A line for each model over groups of about as many test samples each."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes()
        values = rows[0].samples[name]
        borders = np.unique(np.quantile(values, np.linspace(0, 1, groups + 1)[1:-1]))
        group = np.searchsorted(borders, values, side="left")
        present = np.unique(group)
        for row in rows:
            rates = [row.samples["hit"][group == each].mean() for each in present]
            axes.plot(range(len(present)), rates, marker="o", markersize=4, color=colours[row.name], label=row.name)
        spans = [(values[group == each].min(), values[group == each].max()) for each in present]
        words = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in spans]
        axes.set(xlabel=label, ylabel=f"HR@{AT}", xticks=range(len(present)), xticklabels=words, ylim=(0, None))
        return _with_legend(figure, axes)


def _axes():
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    return figure, figure.subplots()


def _with_legend(figure: Figure, axes) -> str:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), labelcolor=_INK)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(_INK, "currentColor")
