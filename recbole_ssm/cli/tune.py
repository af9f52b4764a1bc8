"""``tune``: which settings of a model are best?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from recbole_ssm.cli.arguments import PROGRAM, help_of, own_arguments, read_count, read_files, read_share
from recbole_ssm.errors import InputError


def tune_model(arguments: Sequence[str]) -> None:
    """Search for the settings of a model with which its validation metric is best; test the best of them alone.

    --model           name, of this package or of RecBole
    --dataset         name
    --params_file     RecBole's format, a line for each key: NAME choice [1,2], NAME uniform LOW,HIGH,
                      NAME quniform LOW,HIGH,STEP, NAME loguniform LOW,HIGH (natural logarithms);
                      default the package's tuning/MODEL.hyper
    --tool            ray (default): several trials at a time, those that fall behind are stopped; or hyperopt:
                      one after the other, each learning from those before
    --trials          how many; default 20
    --out             folder for best.yaml, report.html (self-contained), trials.md, trials.tex, trials.csv,
                      results.json, figures/, and the log of each trial; default tune/MODEL-DATASET-TOOL
    --min_epochs      ray: epochs before which no trial is stopped; default 5
    --cpus_per_trial  ray: cores; default all of them divided by the number of trials, one at least
    --gpus_per_trial  ray: GPUs, also a part of one; default a quarter where there are any
    --address         ray: HOST:PORT of a cluster, or auto for one on this machine; the folder, the data and the
                      package must be on all its machines, in the same place; default none: Ray is started and ended
    --algo            hyperopt: bayes (default) or random
    --key=value       for all trials; also --config_files=FILE,FILE

    What is done is not done again, so that the same command goes on after an interruption, also in the midst of a
    trial, and a greater --trials adds to those there are. A trial that fails does not end the others.
    """
    if {"-h", "--help"} & set(arguments):
        usage = "--model=NAME --dataset=NAME [--params_file=FILE] [--tool=ray] [--trials=20] [--out=FOLDER]"
        print(help_of(f"tune {usage} [--key=value ...]", tune_model.__doc__))
        return
    from recbole_ssm.studies.tuning import Task, tune

    ours = ("params_file", "tool", "trials", "out", "min_epochs", "cpus_per_trial", "gpus_per_trial", "address", "algo")
    given, keys = own_arguments(arguments, "tune", ("model", "dataset"), (*ours, "config_files"))
    tool = given["tool"] or "ray"
    of_other = ("algo",) if tool == "ray" else ("min_epochs", "cpus_per_trial", "gpus_per_trial", "address")
    for key in of_other:
        if given[key] is not None:
            raise InputError(f"--{key} does not apply to --tool={tool}; leave it out")
    folder = given["out"] or Path("tune") / f"{given['model']}-{given['dataset']}-{tool}"
    files = read_files(given["config_files"])
    tune(
        Task(given["model"], given["dataset"], str(folder), tuple(files), tuple(keys)),
        given["params_file"] or f"tuning/{given['model']}.hyper",
        tool=tool,
        trials=read_count(given, "trials", 20),
        first_epochs=read_count(given, "min_epochs", 5),
        cpus=read_count(given, "cpus_per_trial", None),
        gpus=read_share(given, "gpus_per_trial"),
        address=given["address"],
        algorithm=given["algo"] or "bayes",
        command=f"{PROGRAM} tune {shlex.join(arguments)}",
    )
