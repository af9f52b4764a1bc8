"""Plots of a comparison."""

from __future__ import annotations

from statistics import mean, stdev

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recbole_ssm.compare.measuring import AT, METRICS
from recbole_ssm.compare.summary import Row
from recbole_ssm.report import COLOURS, drawing


def plots(rows: list[Row]) -> list[tuple[str, str]]:
    """Title and SVG of each plot that the runs have the data for."""
    colours = {row.name: COLOURS[number % len(COLOURS)] for number, row in enumerate(rows)}
    seconds = "seconds of training and validation"
    drawn = []
    validated = [row for row in rows if row.validated]
    if validated:
        drawn += [
            (f"Validation NDCG@{AT} by epoch", _learning(validated, colours, _numbers, "epoch")),
            (f"Validation NDCG@{AT} by seconds", _learning(validated, colours, _seconds, seconds, logarithmic=True)),
        ]
    cost = _cost(rows, colours, lambda run: run["seconds_to_best"], "seconds to best")
    drawn.append(("Accuracy and cost of training", cost))
    if all(run["latency_one"] for row in rows for run in row.runs):
        median = _cost(rows, colours, lambda run: run["latency_one"]["median_ms"], "ms for one user")
        drawn.append(("Accuracy and latency", median))
    for name, label in (("length", "length of history"), ("popularity", "how often the item is a training target")):
        having = [row for row in rows if name in row.samples]
        if having:
            drawn.append((f"HR@{AT} by {label}", _by_group(having, colours, name, label)))
    return drawn


def by_value(rows: list[Row], parameter: str) -> list[tuple[str, str]]:
    """Title and SVG of each metric over the values of a parameter, with deviations over seeds; names end in values."""

    def curve(metric: str, name: str) -> str:
        def draw(axes: Axes) -> None:
            scores = [row.scores(metric) for row in rows]
            spreads = [stdev(each) if len(each) > 1 else 0.0 for each in scores]
            places, means = range(len(rows)), [mean(each) for each in scores]
            axes.errorbar(places, means, spreads, marker="o", markersize=4, capsize=3, color=COLOURS[0])
            values = [row.name.partition("=")[2] for row in rows]
            axes.set(xlabel=parameter, ylabel=f"test {name}@{AT}", xticks=places, xticklabels=values)

        return drawing(draw)

    return [(f"{name}@{AT} by {parameter}", curve(metric, name)) for metric, name in METRICS.items()]


def _numbers(history: list[dict]) -> range:
    return range(1, len(history) + 1)


def _seconds(history: list[dict]) -> np.ndarray:
    return np.cumsum([epoch["train_seconds"] + epoch.get("valid_seconds", 0.0) for epoch in history])


def _learning(rows: list[Row], colours: dict, places, label: str, logarithmic: bool = False) -> str:
    """A line for each run."""

    def draw(axes: Axes) -> None:
        for row in rows:
            for number, run in enumerate(row.runs):
                points = [
                    (x, epoch["valid_result"][f"ndcg@{AT}"])
                    for x, epoch in zip(places(run["history"]), run["history"], strict=True)
                    if "valid_result" in epoch
                ]
                marker = "o" if len(points) == 1 else None
                (line,) = axes.plot(*zip(*points, strict=True), color=colours[row.name], marker=marker, markersize=4)
                if number == 0:
                    line.set_label(row.name)
        axes.set(xlabel=label, ylabel=f"NDCG@{AT}")
        if logarithmic:
            axes.set(xscale="log", xlabel=f"{label} (logarithmic)")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return drawing(draw)


def _cost(rows: list[Row], colours: dict, value, label: str) -> str:
    """A point for each model: cost to the right, accuracy upwards."""

    def draw(axes: Axes) -> None:
        for row in rows:
            x, y = row.middle(value), mean(row.scores("ndcg"))
            axes.plot([x], [y], "o", markersize=7, color=colours[row.name], label=row.name)
        axes.set(xlabel=f"{label} (logarithmic)", ylabel=f"test NDCG@{AT}", xscale="log")
        axes.margins(0.15)

    return drawing(draw)


def _by_group(rows: list[Row], colours: dict, name: str, label: str, groups: int = 5) -> str:
    """A line for each model over groups of about as many test samples each."""
    values = rows[0].samples[name]
    borders = np.unique(np.quantile(values, np.linspace(0, 1, groups + 1)[1:-1]))
    group = np.searchsorted(borders, values, side="left")
    present = np.unique(group)
    spans = [(values[group == each].min(), values[group == each].max()) for each in present]
    words = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in spans]

    def draw(axes: Axes) -> None:
        for row in rows:
            rates = [row.samples["hit"][group == each].mean() for each in present]
            axes.plot(range(len(present)), rates, marker="o", markersize=4, color=colours[row.name], label=row.name)
        axes.set(xlabel=label, ylabel=f"HR@{AT}", xticks=range(len(present)), xticklabels=words, ylim=(0, None))

    return drawing(draw)
