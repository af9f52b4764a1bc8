"""``tune``: which settings of a model are best?"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError

_OF_RAY = ("min_epochs", "cpus_per_trial", "gpus_per_trial", "address")
_OF_HYPEROPT = ("algo",)


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser(
        "tune",
        "Search for the settings of a model with which its validation metric is best; test the best of them alone.",
        keys="for all trials",
        note="What is done is not done again, so that the same command goes on after an interruption, also in the "
        "midst of a trial, and a greater --trials adds to those there are. A trial that fails does not end the others.",
    )
    found.option("model", "NAME", "name, of this package or of RecBole", needed=True)
    found.option("dataset", "NAME", "name", needed=True)
    text = (
        "RecBole's format, a line for each key: NAME choice [1,2], NAME uniform LOW,HIGH, NAME quniform LOW,HIGH,STEP, "
        "NAME loguniform LOW,HIGH (natural logarithms); default the package's tuning/MODEL.hyper"
    )
    found.option("params_file", "FILE", text)
    text = (
        "ray (default): several trials at a time, those that fall behind are stopped; or hyperopt: one after the "
        "other, each learning from those before"
    )
    found.option("tool", "ray", text, default="ray")
    found.option("trials", "20", "how many; default 20", type=types.count, default=20)
    text = (
        "folder for best.yaml, report.html (self-contained), trials.md, trials.tex, trials.csv, results.json, "
        "figures/, and the log of each trial; default tune/MODEL-DATASET-TOOL"
    )
    found.option("out", "FOLDER", text)
    found.option("min_epochs", "5", "ray: epochs before which no trial is stopped; default 5", type=types.count)
    text = "ray: cores; default all of them divided by the number of trials, one at least"
    found.option("cpus_per_trial", "N", text, type=types.count)
    text = "ray: GPUs, also a part of one; default a quarter where there are any"
    found.option("gpus_per_trial", "N", text, type=types.share)
    text = (
        "ray: HOST:PORT of a cluster, or auto for one on this machine; the folder, the data and the package must be on "
        "all its machines, in the same place; default none: Ray is started and ended"
    )
    found.option("address", "HOST:PORT", text)
    found.option("algo", "bayes", "hyperopt: bayes (default) or random")
    found.option("config_files", "FILE,FILE", "for all trials", type=types.files, default=[])
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Search."""
    from recbole_ssm.studies.tuning import Task, tune

    for key in _OF_HYPEROPT if given.tool == "ray" else _OF_RAY:
        if getattr(given, key) is not None:
            raise InputError(f"--{key} does not apply to --tool={given.tool}; leave it out")
    folder = given.out or Path("tune") / f"{given.model}-{given.dataset}-{given.tool}"
    tune(
        Task(given.model, given.dataset, str(folder), tuple(given.config_files), tuple(keys)),
        given.params_file or f"tuning/{given.model}.hyper",
        tool=given.tool,
        trials=given.trials,
        first_epochs=given.min_epochs or 5,
        cpus=given.cpus_per_trial,
        gpus=given.gpus_per_trial,
        address=given.address,
        algorithm=given.algo or "bayes",
        command=given.command,
    )
