"""Figures of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import mean, median, stdev

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recbole_ssm.studies.compare.measuring import AT, METRICS
from recbole_ssm.studies.compare.record import Record
from recbole_ssm.studies.compare.summary import Row
from recbole_ssm.studies.report import COLOURS, Figure, styles
from recbole_ssm.training.hooks.history import exact_score


def figures(rows: list[Row]) -> list[Figure]:
    """All figures that the runs have data for."""
    style = styles(row.name for row in rows)
    drawn = []
    validated = [row for row in rows if row.validated]
    if validated:
        drawn += [
            Figure(f"Validation NDCG@{AT} by epoch", lambda axes: _learning(axes, validated, style, seconds=False)),
            Figure(f"Validation NDCG@{AT} by seconds", lambda axes: _learning(axes, validated, style, seconds=True)),
        ]

    def training(run: Record) -> float:
        return run["seconds_to_best"]

    def one_user(run: Record) -> float:
        assert run["latency_one"] is not None
        return run["latency_one"]["median_ms"]

    drawn.append(
        Figure("Accuracy and cost of training", lambda axes: _cost(axes, rows, style, training, "seconds to best"))
    )
    if all(run["latency_one"] for row in rows for run in row.runs):
        drawn.append(Figure("Accuracy and latency", lambda axes: _cost(axes, rows, style, one_user, "ms for one user")))
    for name, label in (("length", "length of history"), ("popularity", "how often the item is a training target")):
        having = [row for row in rows if all(name in each for each in row.samples.values())]
        if having:
            draw = partial(_by_group, rows=having, style=style, name=name, label=label)
            drawn.append(Figure(f"HR@{AT} by {label}", draw))
    return drawn


def by_value(rows: list[Row], model: str, parameter: str) -> list[Figure]:
    """A figure for each metric over the values of a parameter, with each seed and the standard deviation."""

    def curve(axes: Axes, metric: str, name: str) -> None:
        scores = [row.scores(metric) for row in rows]
        places = range(len(rows))
        for place, each in zip(places, scores, strict=True):
            axes.plot([place] * len(each), each, "o", markersize=4, alpha=0.35, color=COLOURS[0], markeredgewidth=0)
        spreads = [stdev(each) if len(each) > 1 else 0.0 for each in scores]
        axes.errorbar(places, [mean(each) for each in scores], spreads, marker="o", color=COLOURS[0])
        values = [row.name.partition("=")[2] for row in rows]
        axes.set(xlabel=parameter, ylabel=f"test {name}@{AT}", xticks=places, xticklabels=values)
        axes.margins(x=0.1)

    return [
        Figure(f"{name}@{AT} of {model} by {parameter}", partial(curve, metric=metric, name=name))
        for metric, name in METRICS.items()
    ]


def _learning(axes: Axes, rows: list[Row], style: dict, *, seconds: bool) -> None:
    """Draw the mean over seeds with its standard deviation, each seed, and the best epoch of each."""
    for row in rows:
        own = style[row.name]
        curves = [_validation(run["history"], seconds) for run in row.runs]
        for run, (epochs, places, scores) in zip(row.runs, curves, strict=True):
            if len(curves) > 1:
                axes.plot(places, scores, color=own["color"], linestyle=own["linestyle"], linewidth=0.7, alpha=0.45)
            if run["best_epoch"] in epochs:
                chosen = epochs.index(run["best_epoch"])
                axes.plot(
                    places[chosen], scores[chosen], own["marker"], color=own["color"], markeredgecolor="white", zorder=4
                )
        reached = min(len(scores) for _, _, scores in curves)
        mean_places = np.mean([places[:reached] for _, places, _ in curves], axis=0)
        all_scores = np.array([scores[:reached] for _, _, scores in curves])
        middle = all_scores.mean(axis=0)
        spread = all_scores.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(reached)
        axes.fill_between(mean_places, middle - spread, middle + spread, color=own["color"], alpha=0.15, linewidth=0)
        axes.plot(mean_places, middle, color=own["color"], linestyle=own["linestyle"])
        axes.plot([], [], label=row.name, **own)
    axes.set(xlabel="epoch (marked: the one that is kept)", ylabel=f"validation NDCG@{AT}")
    if seconds:
        axes.set(xscale="log", xlabel="seconds of training and validation (logarithmic)")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _validation(history: list[dict], seconds: bool) -> tuple[list[int], list[float], list[float]]:
    """Numbers, places on the axis and scores of the validated epochs."""
    took = np.cumsum([epoch["train_seconds"] + epoch.get("valid_seconds", 0.0) for epoch in history])
    validated = [number for number, epoch in enumerate(history, 1) if "valid_result" in epoch]
    places = [float(took[number - 1]) if seconds else number for number in validated]
    return validated, places, [exact_score(history[number - 1], f"ndcg@{AT}") for number in validated]


def _cost(axes: Axes, rows: list[Row], style: dict, value: Callable[[Record], float], label: str) -> None:
    """Draw a point for each model, with the range of costs and the standard deviation of scores."""
    for row in rows:
        costs, scores = [value(run) for run in row.runs], row.scores("ndcg")
        middle = median(costs)
        look = {"color": style[row.name]["color"], "marker": style[row.name]["marker"], "linestyle": "none"}
        several = len(costs) > 1
        xerr = np.array([[middle - min(costs)], [max(costs) - middle]]) if several else None
        yerr = stdev(scores) if several else None
        axes.errorbar([middle], [mean(scores)], xerr=xerr, yerr=yerr, **look, markersize=7, elinewidth=1)
        axes.plot([], [], **look, markersize=7, label=row.name)
    axes.set(xlabel=f"{label} (logarithmic)", ylabel=f"test NDCG@{AT}", xscale="log")
    axes.margins(0.15)


def _by_group(axes: Axes, rows: list[Row], style: dict, name: str, label: str, groups: int = 5) -> None:
    """Draw a line for each model over groups of about equally many test samples, all seeds together."""

    def everything(row: Row, what: str) -> np.ndarray:
        return np.concatenate([samples[what] for samples in row.samples.values()])

    values = everything(rows[0], name)
    borders = np.unique(np.quantile(values, np.linspace(0, 1, groups + 1)[1:-1]))
    group = np.searchsorted(borders, values, side="left")
    present = np.unique(group)
    spans = [(values[group == each].min(), values[group == each].max()) for each in present]
    words = [f"{low:,}" if low == high else f"{low:,}\nto {high:,}" for low, high in spans]
    for row in rows:
        of_row, hits = np.searchsorted(borders, everything(row, name), side="left"), everything(row, "hit")
        rates = [hits[of_row == each].mean() if (of_row == each).any() else np.nan for each in present]
        axes.plot(range(len(present)), rates, label=row.name, **style[row.name])
    axes.set(xlabel=label, ylabel=f"test HR@{AT}", xticks=range(len(present)), xticklabels=words, ylim=(0, None))
