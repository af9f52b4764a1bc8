"""The report of a search: a table of its trials, figures, and the best configuration as yaml."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recbole_ssm.config.config import Config
from recbole_ssm.studies.report import COLOURS, Figure, Table
from recbole_ssm.studies.tuning.space import Parameter
from recbole_ssm.studies.tuning.trials import FINISHED, SET_BY_TUNE, STOPPED, Task, Trial, best, by_score
from recbole_ssm.system.plain import plain


def table(trials: Sequence[Trial], space: Sequence[Parameter], metric: str) -> Table:
    """All trials, the best first."""
    columns = {
        metric: "best on the validation data",
        **{parameter.name: f"{parameter.kind} {', '.join(map(short, parameter.values))}" for parameter in space},
        "best epoch": "the one with that score",
        "epochs": "trained in all",
        "s / epoch": "seconds of training per epoch, median",
        "end": "finished; stopped, where the search gave it up; or failed",
    }
    rows = [(f"trial {number}", cells(trial, space)) for number, trial in by_score(trials)]
    return Table("Trials", columns, rows)


def cells(trial: Trial, space: Sequence[Parameter]) -> list[str]:
    """The text of a trial in each column."""
    seconds = f"{median(epoch['train_seconds'] for epoch in trial.history):.1f}" if trial.history else ""
    return [
        "" if trial.score is None else f"{trial.score:.4f}",
        *(short(trial.params[parameter.name]) for parameter in space),
        "" if trial.best_epoch is None else str(trial.best_epoch),
        str(len(trial.history)),
        seconds,
        trial.ended or "going on",
    ]


def without_parameters(shown: Table, space: Sequence[Parameter], most: int = 10) -> Table:
    """The best trials without their parameters, narrow enough for a terminal."""
    kept = [head for head in shown.columns if head not in {parameter.name for parameter in space}]
    places = [list(shown.columns).index(head) for head in kept]
    rows = [(name, [cells[place] for place in places]) for name, cells in shown.rows[:most]]
    title = f"the best of {len(shown.rows)} trials" if len(shown.rows) > most else shown.title
    return Table(title, {head: shown.columns[head] for head in kept}, rows)


def as_records(trials: Sequence[Trial], space: Sequence[Parameter], metric: str) -> list[dict[str, Any]]:
    """A flat record for each trial, in the order in which they began."""
    return [
        {
            "trial": number,
            metric: trial.score,
            **{parameter.name: trial.params[parameter.name] for parameter in space},
            "epochs": len(trial.history),
            "end": trial.ended,
            "error": trial.error,
        }
        for number, trial in enumerate(trials, 1)
    ]


def best_yaml(task: Task, trial: Trial, comment: str) -> str:
    """The configuration of a trial, for ``python -m recbole_ssm --config_files=FILE``."""
    settings = {"model": task.model, "dataset": task.dataset} | given(task.config(trial.params))
    return f"# {comment}\n" + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def given(config: Config) -> dict[str, Any]:
    """What a configuration was given, in plain values, without what a later training has no use for."""
    return {k: v for k, v in plain(config.external_config_dict).items() if k not in {*SET_BY_TUNE, "gpu_id"}}


def figures(trials: Sequence[Trial], space: Sequence[Parameter], metric: str) -> list[Figure]:
    """Trials in their order, their learning curves, and the score over each parameter."""
    numbered = ((number, trial) for number, trial in enumerate(trials, 1) if trial.counts)
    scored = [ScoredTrial(number, trial, trial.score) for number, trial in numbered if trial.score is not None]
    drawn = [
        Figure(f"Validation {metric} of the trials", lambda axes: _by_trial(axes, scored, metric)),
        Figure(f"Validation {metric} by epoch, the best until then", lambda axes: _curves(axes, scored, metric)),
    ]
    for parameter in space:
        draw = partial(_over, scored=scored, parameter=parameter, metric=metric)
        drawn.append(Figure(f"Validation {metric} by {parameter.name}", draw))
    return drawn


class ScoredTrial(NamedTuple):
    """A trial with a score that counts."""

    number: int
    trial: Trial
    score: float


def _by_trial(axes: Axes, scored: Sequence[ScoredTrial], metric: str) -> None:
    numbers, scores = [each.number for each in scored], [each.score for each in scored]
    accumulate = np.maximum.accumulate if scored[0].trial.bigger else np.minimum.accumulate
    _points(axes, numbers, scored)
    axes.step(numbers, accumulate(scores), where="post", color=COLOURS[1], label="best until then")
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curves(axes: Axes, scored: Sequence[ScoredTrial], metric: str) -> None:
    winner = best(each.trial for each in scored)
    for number, trial, final in scored:
        points = [(epoch, score) for epoch, score in enumerate(trial.best_scores, 1) if score is not None]
        epochs, scores = [epoch for epoch, _ in points], [score for _, score in points]
        if trial is winner:
            axes.plot(epochs, scores, color=COLOURS[1], zorder=3, label=f"trial {number}, the best")
            chosen, star = trial.best_epoch or 0, f"its epoch {trial.best_epoch}"
            axes.plot([chosen], [final], "*", markersize=12, color=COLOURS[1], zorder=4, label=star)
        else:
            style = "-" if trial.ended == FINISHED else ":"
            marker = "o" if len(points) == 1 else None
            axes.plot(epochs, scores, style, marker=marker, markersize=3, color=COLOURS[0], alpha=0.5, linewidth=1)
    if any(each.trial.ended == STOPPED for each in scored):
        axes.plot([], [], ":", color=COLOURS[0], label="stopped")
    axes.set(xlabel="epoch", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _over(axes: Axes, scored: Sequence[ScoredTrial], parameter: Parameter, metric: str) -> None:
    values = [each.trial.params[parameter.name] for each in scored]
    if parameter.kind == "choice":
        words = [short(value) for value in parameter.values]
        axes.set(xticks=range(len(words)), xticklabels=words, xlim=(-0.5, len(words) - 0.5))
        values = [parameter.values.index(value) for value in values]
    elif parameter.kind == "loguniform":
        low, high = parameter.telling
        ticks = np.geomspace(low, high, 4)
        axes.set(xscale="log", xticks=ticks, xticklabels=[f"{tick:.2g}" for tick in ticks])
        axes.minorticks_off()
    _points(axes, values, scored)
    if parameter.kind != "choice":
        axes.update_datalim([(value, scored[0].score) for value in parameter.telling])
        axes.autoscale_view()
    logarithmic = " (logarithmic)" if parameter.kind == "loguniform" else ""
    axes.set(xlabel=parameter.name + logarithmic, ylabel=metric)


def _points(axes: Axes, places: Sequence[float], scored: Sequence[ScoredTrial]) -> None:
    """Draw a point for each trial: filled if it was trained to its end."""
    for end, fill in ((FINISHED, COLOURS[0]), (STOPPED, "none")):
        chosen = [(place, each.score) for place, each in zip(places, scored, strict=True) if each.trial.ended == end]
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.plot(x, y, "o", markersize=6, color=COLOURS[0], label=end, markerfacecolor=fill)


def in_words(params: dict[str, Any]) -> str:
    """Names and values of a trial."""
    return ", ".join(f"{name} {short(value)}" for name, value in params.items())


def short(value: Any) -> str:
    """A value in few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
