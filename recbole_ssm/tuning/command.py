"""The verb ``tune``: from a params file to the best configuration and a report of all trials."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from recbole_ssm.data.atomic_files import check_atomic_files
from recbole_ssm.errors import InputError
from recbole_ssm.inspection import evaluate
from recbole_ssm.report import render
from recbole_ssm.tuning import report, with_hyperopt
from recbole_ssm.tuning.space import Parameter, find_space, read_space
from recbole_ssm.tuning.trials import Task, best, by_score

TOOLS = ("ray", "hyperopt")


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
) -> dict:
    """Search for the values of parameters with which the validation metric of a model is best.

    The test data are looked at once, with the best trial of all. What is done is not done again: the same call goes
    on after an interruption, also in the midst of a trial, and a greater number of trials adds to those there are.

    Args:
        task: what is tuned. Its folder gets ``best.yaml`` (for ``--config_files``), ``report.html`` (self-contained),
            ``trials.md``, ``trials.csv`` and ``results.json``; ``trials/`` has the record and the log of each, and
            the weights of the best.
        params_file: see :func:`recbole_ssm.tuning.read_space`.
        tool: ``ray``, :mod:`recbole_ssm.tuning.with_ray`, or ``hyperopt``, :mod:`recbole_ssm.tuning.with_hyperopt`.
        trials: how many.
        first_epochs, cpus, gpus, address: of Ray, see there.
        algorithm: of hyperopt, see there.
        command: shown in the report.

    Returns:
        What ``results.json`` holds: ``best`` (the record of the trial), ``valid_result`` and ``test_result`` of its
        model, and the records of all ``trials``.

    Raises:
        InputError: something cannot be used, and nothing has been trained; or no trial came to a score.
        Interrupted: the same call goes on.
    """
    if tool not in TOOLS:
        raise InputError(f"--tool={tool} must be {' or '.join(TOOLS)}")
    if algorithm not in with_hyperopt.ALGORITHMS:
        raise InputError(f"--algo={algorithm} must be {' or '.join(with_hyperopt.ALGORITHMS)}")
    file = find_space(params_file)
    space = read_space(file)
    config = _check(task, space)
    metric = config["valid_metric"]
    console = Console(file=sys.stdout)  # also while that is directed elsewhere
    ended: set[str] = set()

    def end(params: dict, error: str | None = None) -> None:
        record = task.end(params, error)
        ended.add(str(task.place(params)))
        found = f"{metric} {record['score']:.4f}" if record.get("score") is not None else ""
        words = f"{found} at epoch {len(record['best_scores'])}, {record['ended']}" if found else record["ended"]
        console.print(
            f"[{len(ended)}/{trials}] {report.in_words(params)}: {words}", markup=False, highlight=False, soft_wrap=True
        )

    if tool == "ray":
        try:
            from recbole_ssm.tuning import with_ray
        except (ImportError, AttributeError) as error:  # an old Ray asks numpy for names that a new one has no more
            raise InputError(
                f"--tool=ray needs Ray Tune ({error}); pip install 'recbole-ssm[tune]', or use --tool=hyperopt"
            ) from error
        with_ray.search(
            task,
            space,
            trials=trials,
            seed=config["seed"],
            bigger=config["valid_metric_bigger"],
            epochs=config["epochs"],
            first_epochs=first_epochs,
            cpus=cpus,
            gpus=gpus,
            address=address,
            ended=end,
        )
    else:
        seed = config["seed"]
        with_hyperopt.search(task, space, file, trials=trials, algorithm=algorithm, seed=seed, ended=end)
    found = _write(task, space, metric, command)
    console.print(report.terminal(found["trials"], space, metric))
    console.print(f"the best: {report.in_words(found['best']['params'])}", highlight=False)
    for name in ("valid_result", "test_result"):
        console.print(
            f"{name} of the best: " + ", ".join(f"{k} {v}" for k, v in found[name].items()),
            highlight=False,
            soft_wrap=True,
        )
    folder = Path(task.folder)
    console.print(f"report: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"python run_recbole_ssm.py --config_files={folder / 'best.yaml'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return found


def _check(task: Task, space: Sequence[Parameter]):
    """Make configurations with each extreme value, so that what is wrong is said before anything is trained.

    Returns:
        The first of them.
    """
    first = {parameter.name: parameter.extremes[0] for parameter in space}
    for key in (argument.removeprefix("--").partition("=")[0] for argument in task.keys):
        if key in first:
            raise InputError(f"{key} is in the params file; leave --{key} out, or its line there")
        if key in report.OWN:
            raise InputError(f"tune sets {key} itself; leave --{key} out")
    config = task.config(first)
    for parameter in space:
        for value in parameter.extremes:
            task.config(first | {parameter.name: value})
    check_atomic_files(config)
    asked = {
        "model": task.model,
        "dataset": task.dataset,
        "files": list(task.files),
        "keys": list(task.keys),
        "space": [[parameter.name, parameter.kind, list(parameter.values)] for parameter in space],
    }
    file = Path(task.folder) / "study.json"
    if file.exists() and (before := json.loads(file.read_text(encoding="utf-8"))) != asked:
        other = " and ".join(key for key in asked if asked[key] != before.get(key))
        raise InputError(f"{task.folder} has trials with another {other}; name another folder with --out")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asked, indent=1), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out={task.folder} cannot be written to ({error}); name another folder") from error
    return config


def _write(task: Task, space: Sequence[Parameter], metric: str, command: str) -> dict:
    """Test the best trial, and write the report in all its forms."""
    records = task.records()
    winner = best(records)
    failed = [
        f"trial {number}: {record['error']} ({task.place(record['params']) / 'train.log'})"
        for number, record in enumerate(records, 1)
        if record["ended"] == "failed"
    ]
    if winner is None:
        raise InputError("no trial came to a score; " + "; ".join(failed))
    results = evaluate(winner["checkpoint"])
    found = {
        "dataset": task.dataset,
        "model": task.model,
        "metric": metric,
        "command": command,
        "best": winner,
        "valid_result": results["valid_result"],
        "test_result": results["test_result"],
        "trials": records,
    }
    number = records.index(winner) + 1
    in_words = ", ".join(f"{name} {value}" for name, value in results["test_result"].items())
    notes = [
        f"The best on the validation data is trial {number}; it alone was tested: {in_words} "
        f"(time_order {results['time_order']}, filter_seen {results['filter_seen']}).",
        "The best of many trials is better on the validation data than it would be on others; the test says how much.",
    ]
    comment = f"trial {number} of {len(records)} of {task.model} on {task.dataset}: {metric} {winner['score']:.4f} "
    texts = {
        "best.yaml": report.best_yaml(task, winner, comment + "on the validation data"),
        "trials.md": report.markdown(records, space, metric),
        "trials.csv": report.as_csv(records, space, metric),
        "results.json": json.dumps(found, indent=1) + "\n",
        "report.html": render(
            heading=f"{task.model} on {task.dataset}: {len(records)} trials",
            command=command,
            columns=report.columns(space, metric),
            rows=[(f"trial {n}", report.cells(record, space)) for n, record in by_score(records)],
            footnotes=notes,
            failed=failed,
            plots=report.plots(records, space, metric),
        ),
    }
    for name, text in texts.items():
        (Path(task.folder) / name).write_text(text, encoding="utf-8")
    return found
