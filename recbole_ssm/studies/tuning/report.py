"""What a search has found: a table of its trials, plots of them, and the best configuration as yaml."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recbole_ssm.studies.report import COLOURS, Figure, Table
from recbole_ssm.studies.tuning.space import Parameter
from recbole_ssm.studies.tuning.trials import SET_BY_TUNE, Task, best, by_score, counts
from recbole_ssm.system.plain import plain


def table(records: list[dict], space: Sequence[Parameter], metric: str) -> Table:
    """All trials, the best first."""
    columns = {
        metric: "best on the validation data",
        **{parameter.name: f"{parameter.kind} {', '.join(map(short, parameter.values))}" for parameter in space},
        "best epoch": "the one with that score",
        "epochs": "trained in all",
        "s / epoch": "seconds of training per epoch, median",
        "end": "finished; stopped, where the search gave it up; or failed",
    }
    rows = [(f"trial {number}", cells(record, space)) for number, record in by_score(records)]
    return Table("Trials", columns, rows)


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


def without_parameters(shown: Table, space: Sequence[Parameter], most: int = 10) -> Table:
    """The best of the trials, without their parameters, for which a terminal is too narrow."""
    kept = [head for head in shown.columns if head not in {parameter.name for parameter in space}]
    places = [list(shown.columns).index(head) for head in kept]
    rows = [(name, [cells[place] for place in places]) for name, cells in shown.rows[:most]]
    title = f"the best of {len(shown.rows)} trials" if len(shown.rows) > most else shown.title
    return Table(title, {head: shown.columns[head] for head in kept}, rows)


def as_records(records: list[dict], space: Sequence[Parameter], metric: str) -> list[dict]:
    """A flat record for each trial, in the order in which they began."""
    return [
        {
            "trial": number,
            metric: record.get("score"),
            **{parameter.name: record["params"][parameter.name] for parameter in space},
            "epochs": len(record.get("history", [])),
            "end": record["ended"],
            "error": record["error"],
        }
        for number, record in enumerate(records, 1)
    ]


def best_yaml(task: Task, record: dict, comment: str) -> str:
    """The configuration of a trial, for ``python -m recbole_ssm --config_files=FILE``."""
    settings = {"model": task.model, "dataset": task.dataset} | given(task.config(record["params"]))
    return f"# {comment}\n" + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def given(config) -> dict:
    """What a configuration was given, in plain values, without what a later training has no use for."""
    return {k: v for k, v in plain(config.external_config_dict).items() if k not in {*SET_BY_TUNE, "gpu_id"}}


def figures(records: list[dict], space: Sequence[Parameter], metric: str) -> list[Figure]:
    """Trials in their order, their learning curves, and the score over each parameter."""
    scored = [(number, record) for number, record in enumerate(records, 1) if counts(record)]
    drawn = [
        Figure(f"Validation {metric} of the trials", lambda axes: _by_trial(axes, scored, metric)),
        Figure(f"Validation {metric} by epoch, the best until then", lambda axes: _curves(axes, scored, metric)),
    ]
    for parameter in space:
        title = f"Validation {metric} by {parameter.name}"
        drawn.append(Figure(title, lambda axes, parameter=parameter: _over(axes, scored, parameter, metric)))
    return drawn


def _by_trial(axes: Axes, scored: list[tuple[int, dict]], metric: str) -> None:
    numbers, scores = zip(*((number, record["score"]) for number, record in scored), strict=True)
    accumulate = np.maximum.accumulate if scored[0][1]["bigger"] else np.minimum.accumulate
    _points(axes, numbers, [record for _, record in scored])
    axes.step(numbers, accumulate(scores), where="post", color=COLOURS[1], label="best until then")
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curves(axes: Axes, scored: list[tuple[int, dict]], metric: str) -> None:
    winner = best([record for _, record in scored])
    for number, record in scored:
        points = [(epoch, score) for epoch, score in enumerate(record["best_scores"], 1) if score is not None]
        if record is winner:
            axes.plot(*zip(*points, strict=True), color=COLOURS[1], zorder=3, label=f"trial {number}, the best")
            chosen = record["best_scores"].index(record["score"]) + 1
            axes.plot(
                chosen, record["score"], "*", markersize=12, color=COLOURS[1], zorder=4, label=f"its epoch {chosen}"
            )
        else:
            style = "-" if record["ended"] == "finished" else ":"
            marker = "o" if len(points) == 1 else None
            axes.plot(
                *zip(*points, strict=True), style, marker=marker, markersize=3, color=COLOURS[0], alpha=0.5, linewidth=1
            )
    if any(record["ended"] == "stopped" for _, record in scored):
        axes.plot([], [], ":", color=COLOURS[0], label="stopped")
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
