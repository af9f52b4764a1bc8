"""What a search has found: a table of its trials, plots of them, and the best configuration as yaml."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from recbole_ssm import report
from recbole_ssm.report import COLOURS, drawing
from recbole_ssm.trainer import plain
from recbole_ssm.tuning.space import Parameter
from recbole_ssm.tuning.trials import SET_BY_TUNE, Task, best, by_score, counts


def columns(space: Sequence[Parameter], metric: str) -> dict[str, str]:
    """Heads of the table's columns, and what they say."""
    return {
        metric: "best on the validation data",
        **{parameter.name: f"{parameter.kind} {', '.join(map(short, parameter.values))}" for parameter in space},
        "best epoch": "the one with that score",
        "epochs": "trained in all",
        "s / epoch": "seconds of training per epoch, median",
        "end": "finished; stopped, where the search gave it up; or failed",
    }


def cells(record: dict, space: Sequence[Parameter]) -> list[str]:
    """A trial's words in each column."""
    history = record.get("history", [])
    seconds = f"{np.median([epoch['train_seconds'] for epoch in history]):.1f}" if history else ""
    scored = record.get("score") is not None
    return [
        f"{record['score']:.4f}" if scored else "",
        *(short(record["params"][parameter.name]) for parameter in space),
        str(record["best_scores"].index(record["score"]) + 1) if scored else "",
        str(len(history)),
        seconds,
        record["ended"] or "going on",
    ]


def terminal(records: list[dict], space: Sequence[Parameter], metric: str, most: int = 10) -> Table:
    """For rich to print: the best trials, without their parameters, for which a terminal is too narrow."""
    table = Table(title=f"the best of {len(records)} trials" if len(records) > most else None)
    for name in ("", metric, "best epoch", "epochs", "s / epoch", "end"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, record in by_score(records)[:most]:
        score, *values = cells(record, space)
        table.add_row(f"trial {number}", score, *values[len(space) :])
    return table


def markdown(records: list[dict], space: Sequence[Parameter], metric: str) -> str:
    """The table of all trials, the best first."""
    rows = [(f"trial {number}", cells(record, space)) for number, record in by_score(records)]
    return report.markdown(columns(space, metric), rows)


def as_csv(records: list[dict], space: Sequence[Parameter], metric: str) -> str:
    """A line for each trial in the order in which they began, numbers to their last digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", metric, *(parameter.name for parameter in space), "epochs", "end", "error"])
    for number, record in enumerate(records, 1):
        values = [record["params"][parameter.name] for parameter in space]
        epochs = len(record.get("history", []))
        writer.writerow([number, record.get("score"), *values, epochs, record["ended"], record["error"]])
    return text.getvalue()


def best_yaml(task: Task, record: dict, comment: str) -> str:
    """The configuration of a trial, for ``python -m recbole_ssm --config_files=FILE``."""
    settings = {"model": task.model, "dataset": task.dataset} | given(task.config(record["params"]))
    return f"# {comment}\n" + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def given(config) -> dict:
    """What a configuration was given, in plain values, without what a later training has no use for."""
    return {k: v for k, v in plain(config.external_config_dict).items() if k not in {*SET_BY_TUNE, "gpu_id"}}


def plots(records: list[dict], space: Sequence[Parameter], metric: str) -> list[tuple[str, str]]:
    """Title and SVG of each plot: trials in their order, their learning curves, and the score over each parameter."""
    scored = [(number, record) for number, record in enumerate(records, 1) if counts(record)]
    drawn = [
        (f"Validation {metric} of the trials", drawing(lambda axes: _by_trial(axes, scored, metric))),
        (f"Validation {metric} by epoch, the best until then", drawing(lambda axes: _curves(axes, scored, metric))),
    ]
    for parameter in space:
        over = drawing(lambda axes, parameter=parameter: _over(axes, scored, parameter, metric))
        drawn.append((f"Validation {metric} by {parameter.name}", over))
    return drawn


def _by_trial(axes: Axes, scored: list[tuple[int, dict]], metric: str) -> None:
    numbers, scores = zip(*((number, record["score"]) for number, record in scored), strict=True)
    accumulate = np.maximum.accumulate if scored[0][1]["bigger"] else np.minimum.accumulate
    _points(axes, numbers, [record for _, record in scored])
    axes.step(numbers, accumulate(scores), where="post", color=COLOURS[1], label="best")
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curves(axes: Axes, scored: list[tuple[int, dict]], metric: str) -> None:
    winner = best([record for _, record in scored])
    for number, record in scored:
        points = [(epoch, score) for epoch, score in enumerate(record["best_scores"], 1) if score is not None]
        is_best = record is winner
        label = f"trial {number}, the best" if is_best else None
        style = {"color": COLOURS[1], "zorder": 3} if is_best else {"color": COLOURS[0], "alpha": 0.4}
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label, **style)
    axes.set(xlabel="epoch", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _over(axes: Axes, scored: list[tuple[int, dict]], parameter: Parameter, metric: str) -> None:
    values = [record["params"][parameter.name] for _, record in scored]
    if parameter.kind == "choice":
        words = [short(value) for value in parameter.values]
        axes.set(xticks=range(len(words)), xticklabels=words, xlim=(-0.5, len(words) - 0.5))
        values = [parameter.values.index(value) for value in values]
    elif parameter.kind == "loguniform":
        ticks = np.geomspace(*parameter.telling, 4)
        axes.set(xscale="log", xticks=ticks, xticklabels=[f"{tick:.2g}" for tick in ticks])
        axes.minorticks_off()
    _points(axes, values, [record for _, record in scored])
    if parameter.kind != "choice":
        axes.update_datalim([(value, scored[0][1]["score"]) for value in parameter.telling])
        axes.autoscale_view()
    logarithmic = " (logarithmic)" if parameter.kind == "loguniform" else ""
    axes.set(xlabel=parameter.name + logarithmic, ylabel=metric)


def _points(axes: Axes, places: Sequence, records: list[dict]) -> None:
    """A point for each trial: full where it was trained to its end."""
    for end, style in (("finished", {}), ("stopped", {"markerfacecolor": "none"})):
        chosen = [(place, record["score"]) for place, record in zip(places, records, strict=True)]
        chosen = [point for point, record in zip(chosen, records, strict=True) if record["ended"] == end]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), "o", markersize=6, color=COLOURS[0], label=end, **style)


def in_words(params: dict) -> str:
    """Names and values of a trial."""
    return ", ".join(f"{name} {short(value)}" for name, value in params.items())


def short(value) -> str:
    """A value in few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
