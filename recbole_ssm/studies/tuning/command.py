"""The verb ``tune``: from a params file to the best configuration and a report of all trials."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from recbole_ssm.config.config import Config
from recbole_ssm.errors import InputError
from recbole_ssm.studies.report import Report, write_csv
from recbole_ssm.studies.run_store import asked_for
from recbole_ssm.studies.tuning import report, with_hyperopt
from recbole_ssm.studies.tuning.checks import check_tool, checked_config
from recbole_ssm.studies.tuning.space import Parameter, draw, find_space, read_space
from recbole_ssm.studies.tuning.trials import FAILED, SET_BY_TUNE, Task, Trial, best
from recbole_ssm.system.atomic_write import write_json
from recbole_ssm.system.progress_bar import bar
from recbole_ssm.system.terminal import Console
from recbole_ssm.training.evaluation import evaluate
from recbole_ssm.training.summary import metrics_in_words


def tune(
    task: Task,
    params_file: str | Path,
    *,
    tool: str = "ray",
    trials: int = 20,
    first_epochs: int = 5,
    cpus: int | None = None,
    gpus: float | None = None,
    address: str | None = None,
    algorithm: str = "bayes",
    command: str = "",
) -> dict[str, Any]:
    """Search for the values of parameters with which the validation metric of a model is best.

    The test data are used once, with the best trial. What is done is not done again: the same call goes on after an
    interruption, also within a trial, and a greater number of trials adds to those there are.

    Args:
        task: what is tuned. Its folder gets ``best.yaml`` (for ``--config_files``), ``results.json``, the report and
            its figures; ``trials/`` has the record and the log of each, and the weights of the best.
        params_file: see :func:`recbole_ssm.studies.tuning.read_space`.
        tool: ``ray`` (:mod:`.with_ray`) or ``hyperopt`` (:mod:`.with_hyperopt`).
        trials: how many; fewer where the space has no more.
        first_epochs: of Ray: epochs before which no trial is stopped.
        cpus: of Ray: cores for each trial; None divides those there are by the number of trials.
        gpus: of Ray: GPUs for each trial, also a part of one; None is a quarter where there are any.
        address: of Ray: a cluster; None starts one on this machine for as long as the search takes.
        algorithm: of hyperopt: ``bayes`` or ``random``.
        command: shown in the report.

    Returns:
        The content of ``results.json``: records of all ``trials`` and of the ``best``, and the metrics of its model.

    Raises:
        InputError: something cannot be used, and nothing has been trained; or no trial has a score.
        Interrupted: the same call goes on.
    """
    check_tool(tool, algorithm)
    space = read_space(find_space(params_file))
    config = _checked_and_kept(task, space, tool)
    if tool == "hyperopt":
        search = partial(with_hyperopt.search, task, space, trials=trials, algorithm=algorithm, seed=config.seed)
        return _searched(task, space, config, trials, search, command)
    from recbole_ssm.studies.tuning import with_ray

    settings = draw(space, trials, config.seed)
    how: dict[str, Any] = {"first_epochs": first_epochs, "cpus": cpus, "gpus": gpus, "address": address}
    search = partial(with_ray.search, task, settings, epochs=config.epochs, **how)
    return _searched(task, space, config, len(settings), search, command)


def _checked_and_kept(task: Task, space: Sequence[Parameter], tool: str) -> Config:
    """The configuration of a first trial; the folder keeps what is asked for, or has been asked for the same."""
    config = checked_config(task, space, tool)
    searched = {parameter.name: [parameter.kind, *parameter.values] for parameter in space}
    task.store.check_search(asked_for(config, leave_out=searched) | {"space": json.loads(json.dumps(searched))})
    return config


def _searched(
    task: Task, space: Sequence[Parameter], config: Config, trials: int, search: Callable[..., None], command: str
) -> dict[str, Any]:
    """Do the search with the folder locked, and tell and write what it finds."""
    with task.store.claimed():
        console = Console(file=sys.stdout)
        idle = [note for key, note in config.passed_over.items() if key not in SET_BY_TUNE]
        for note in [*idle, *config.overruled(SET_BY_TUNE, "tune")]:
            console.tell(note)
        metric = config.valid_metric
        with bar(console, partial(task.progress, trials)):
            search(bigger=config.valid_metric_bigger, ended=_telling(console, task, metric, trials))
        found = _write(task, space, metric, command)
        _tell_best(console, task, space, found)
        return found


def _telling(console: Console, task: Task, metric: str, trials: int) -> Callable[..., None]:
    """A function to call when a trial ends, with its parameters and its error: it tells how the trial went."""
    over: set[Path] = set()

    def end(params: dict[str, Any], error: str | None = None) -> None:
        trial = task.end(params, error)
        over.add(task.place(params))
        words = f"{trial.ended} after epoch {len(trial.best_scores)}"
        if trial.score is not None:
            words = f"{metric} {trial.score:.4f}, {words}"
        number = [task.place(each.params) for each in task.trials()].index(task.place(params)) + 1
        console.tell(f"[{len(over)}/{trials}] trial {number}: {report.in_words(params)}: {words}")

    return end


def _tell_best(console: Console, task: Task, space: Sequence[Parameter], found: dict[str, Any]) -> None:
    shown = report.table([Trial.from_json(record) for record in found["trials"]], space, found["metric"])
    table = report.without_parameters(shown, space).terminal()
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    console.tell(f"the best: {report.in_words(found['best']['params'])}")
    for name in ("valid_result", "test_result"):
        console.tell(f"{name} of the best: {metrics_in_words(found[name])}")
    console.tell(f"report: {Path(task.folder) / 'report.html'}")
    again = shlex.quote(str(Path(task.folder) / "best.yaml"))
    console.tell(f"to train it again: python -m recbole_ssm --config_files={again}")


def _write(task: Task, space: Sequence[Parameter], metric: str, command: str) -> dict[str, Any]:
    """Test the best trial, and write the report in all its forms."""
    trials = task.trials()
    winner = best(trials)
    failed = [
        f"trial {number}: {trial.error} ({task.place(trial.params) / 'train.log'})"
        for number, trial in enumerate(trials, 1)
        if trial.ended == FAILED
    ]
    if winner is None:
        raise InputError("no trial came to a score; " + "; ".join(failed))
    results = evaluate(task.checkpoint(winner))
    found = {
        "dataset": task.dataset,
        "model": task.model,
        "metric": metric,
        "command": command,
        "best": asdict(winner),
        "valid_result": results["valid_result"],
        "test_result": results["test_result"],
        "trials": [asdict(trial) for trial in trials],
    }
    number = trials.index(winner) + 1
    notes = [
        f"The best on the validation data is trial {number}; it alone was tested: "
        f"{metrics_in_words(results['test_result'])} "
        f"(time_order {results['time_order']}, filter_seen {results['filter_seen']}).",
        "The best of many trials is better on the validation data than it would be on others; the test says how much.",
    ]
    comment = f"trial {number} of {len(trials)} of {task.model} on {task.dataset}: {metric} {winner.score:.4f} "
    folder = Path(task.folder)
    (folder / "best.yaml").write_text(report.best_yaml(task, winner, comment + "on the validation data"), "utf-8")
    write_json(folder / "results.json", found)
    write_csv(folder / "trials.csv", report.as_records(trials, space, metric))
    heading = f"{task.model} on {task.dataset}: {len(trials)} trials"
    table, figures = report.table(trials, space, metric), report.figures(trials, space, metric)
    Report(heading, command, [table], notes, figures, failed).write(folder, "trials")
    return found
