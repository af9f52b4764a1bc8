"""The verb ``tune``: from a params file to the best configuration and a report of all trials."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from recbole_ssm.config.command_line import key_of
from recbole_ssm.config.config import Config
from recbole_ssm.data.atomic_files import check_atomic_files
from recbole_ssm.errors import InputError
from recbole_ssm.studies.progress import bar
from recbole_ssm.studies.report import Report, write_csv
from recbole_ssm.studies.run_store import asked_for, check_same
from recbole_ssm.studies.tuning import report, with_hyperopt
from recbole_ssm.studies.tuning.space import Parameter, draw, find_space, read_space
from recbole_ssm.studies.tuning.trials import SET_BY_TUNE, Task, best
from recbole_ssm.system.atomic_write import check_writable, write_json
from recbole_ssm.system.locks import folder_lock
from recbole_ssm.system.terminal import Console
from recbole_ssm.training.evaluation import evaluate
from recbole_ssm.training.run import metrics_in_words

TOOLS = ("ray", "hyperopt")

_NOT_SEARCHED = {
    *("model", "dataset", "epochs", "eval_step", "eval_args", "time_order", "filter_seen"),
    *("metrics", "topk", "valid_metric", "metric_decimal_place", "data_path", "gpu_id", "state"),
    *SET_BY_TUNE,
}


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
            ``trials.md``, ``trials.tex``, ``trials.csv``, ``figures/`` (SVG and PDF) and ``results.json``; ``trials/``
            has the record and the log of each, and the weights of the best.
        params_file: see :func:`recbole_ssm.studies.tuning.read_space`.
        tool: ``ray`` (:mod:`.with_ray`) or ``hyperopt`` (:mod:`.with_hyperopt`).
        trials: how many; there are fewer where the space has no more.
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
    _check_installed(tool)
    file = find_space(params_file)
    space = read_space(file)
    config = _check(task, space, tool)
    metric = config["valid_metric"]
    _keep(task, space, config)
    with folder_lock(Path(task.folder)):
        console = Console(file=sys.stdout)
        for note in config.overruled(SET_BY_TUNE, "tune"):
            console.tell(note)
        if tool == "ray":
            from recbole_ssm.studies.tuning import with_ray

            settings = draw(space, trials, config["seed"])
            how = {"settings": settings, "epochs": config["epochs"], "first_epochs": first_epochs}
            search = partial(with_ray.search, task, **how, cpus=cpus, gpus=gpus, address=address)
            trials = len(settings)
        else:
            how = {"trials": trials, "algorithm": algorithm, "seed": config["seed"]}
            search = partial(with_hyperopt.search, task, space, **how)
        with bar(console, partial(task.progress, trials)):
            search(bigger=config["valid_metric_bigger"], ended=_telling(console, task, metric, trials))
        found = _write(task, space, metric, command)
        _tell_best(console, task, space, found)
        return found


def _telling(console: Console, task: Task, metric: str, trials: int) -> Callable[..., None]:
    """What is to be called as a trial ends, with its parameters and its error: it tells how the trial went."""
    over: set[Path] = set()

    def end(params: dict, error: str | None = None) -> None:
        record = task.end(params, error)
        over.add(task.place(params))
        words = f"{record['ended']} after epoch {len(record['best_scores'])}"
        if record.get("score") is not None:
            words = f"{metric} {record['score']:.4f}, {words}"
        number = [task.place(each["params"]) for each in task.records()].index(task.place(params)) + 1
        console.tell(f"[{len(over)}/{trials}] trial {number}: {report.in_words(params)}: {words}")

    return end


def _tell_best(console: Console, task: Task, space: Sequence[Parameter], found: dict) -> None:
    shown = report.table(found["trials"], space, found["metric"])
    table = report.without_parameters(shown, space).terminal()
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    console.tell(f"the best: {report.in_words(found['best']['params'])}")
    for name in ("valid_result", "test_result"):
        console.tell(f"{name} of the best: {metrics_in_words(found[name])}")
    console.tell(f"report: {Path(task.folder) / 'report.html'}")
    again = shlex.quote(str(Path(task.folder) / "best.yaml"))
    console.tell(f"to train it again: python -m recbole_ssm --config_files={again}")


def _check_installed(tool: str) -> None:
    """Raise InputError where a tool is missing or cannot be imported; say so if the other one can be used."""
    error = _import_error(tool)
    if error is None:
        return
    other = TOOLS[1 - TOOLS.index(tool)]
    instead = f", or use --tool={other}, which is installed" if _import_error(other) is None else ""
    raise InputError(
        f"--tool={tool} needs packages that are not installed here ({error}): pip install 'recbole-ssm[tune]'{instead}"
    ) from error


def _import_error(tool: str) -> Exception | None:
    try:
        import_module("recbole_ssm.studies.tuning.with_ray" if tool == "ray" else "hyperopt")
    except (ImportError, AttributeError) as error:  # an old Ray asks numpy for names that a new one has no more
        return error
    return None


def _check(task: Task, space: Sequence[Parameter], tool: str) -> Config:
    """Make configurations with each telling value, so that what is wrong is said before anything is trained.

    Returns:
        The first of them.
    """
    first = {parameter.name: parameter.telling[0] for parameter in space}
    for name in first:
        if name in _NOT_SEARCHED:
            raise InputError(f"{name} cannot be searched: trials are compared by it, or kept by it; remove its line")
    for key in map(key_of, task.keys):
        if key in first:
            raise InputError(f"{key} is in the params file; leave --{key} out, or its line there")
        if key in SET_BY_TUNE:
            raise InputError(f"tune sets {key} itself; leave --{key} out")
    config = task.config(first)
    if tool == "ray" and "gpu_id" in config.external_config_dict:
        raise InputError("Ray gives each trial a GPU of those that CUDA_VISIBLE_DEVICES shows; leave gpu_id out")
    for parameter in space:
        for value in parameter.telling:
            note = task.config(first | {parameter.name: value}).passed_over.get(parameter.name)
            if note is not None:
                raise InputError(f"the params file has a line to no purpose: {note}")
    if not 1 <= config["eval_step"] <= config["epochs"]:
        raise InputError(
            f"a search compares by validation: eval_step {config['eval_step']} must be 1 to epochs ({config['epochs']})"
        )
    if not config.held_out[0]:
        split = config["eval_args"]["split"]
        raise InputError(f"a search compares by validation, for which eval_args: split {split!r} leaves no data")
    check_atomic_files(config)
    return config


def _keep(task: Task, space: Sequence[Parameter], config: Config) -> None:
    """Note in the folder what is searched, or raise InputError if it is of another search."""
    searched = {parameter.name: [parameter.kind, *parameter.values] for parameter in space}
    asked = asked_for(config, leave_out=searched) | {"space": json.loads(json.dumps(searched))}
    file = Path(task.folder) / "search.json"
    check_writable(file.parent, f"--out={task.folder}")
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, asked)
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--out={task.folder} cannot be used ({error}); name another folder") from error
    if before.get("space", asked["space"]) != asked["space"]:
        raise InputError(f"{task.folder} has trials with another space; name another folder with --out")
    check_same(before, asked, Path(task.folder), "trials")


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
    results = evaluate(task.checkpoint(winner))
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
    notes = [
        f"The best on the validation data is trial {number}; it alone was tested: "
        f"{metrics_in_words(results['test_result'])} "
        f"(time_order {results['time_order']}, filter_seen {results['filter_seen']}).",
        "The best of many trials is better on the validation data than it would be on others; the test says how much.",
    ]
    comment = f"trial {number} of {len(records)} of {task.model} on {task.dataset}: {metric} {winner['score']:.4f} "
    folder = Path(task.folder)
    (folder / "best.yaml").write_text(report.best_yaml(task, winner, comment + "on the validation data"), "utf-8")
    write_json(folder / "results.json", found)
    write_csv(folder / "trials.csv", report.as_records(records, space, metric))
    heading = f"{task.model} on {task.dataset}: {len(records)} trials"
    table, figures = report.table(records, space, metric), report.figures(records, space, metric)
    Report(heading, command, [table], notes, figures, failed).write(folder, "trials")
    return found
