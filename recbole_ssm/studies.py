"""The verbs that answer a question by many measurements: ``compare``, ``sweep``, ``tune`` and ``scaling``."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from recbole_ssm.arguments import (
    PROGRAM,
    help_of,
    own_arguments,
    read_count,
    read_files,
    read_names,
    read_seconds,
    read_seeds,
    read_share,
    read_sizes,
)
from recbole_ssm.errors import InputError
from recbole_ssm.registry import MODELS


def compare_models(arguments: Sequence[str]) -> None:
    """Train several models on the same data and test items, and report which is better, and what each costs.

    --models     names, of this package or of RecBole, separated by commas
    --baseline   the model that the others are tested against; default the first
    """
    if {"-h", "--help"} & set(arguments):
        print(_study_help("compare --models=NAME,NAME", compare_models))
        return
    from recbole_ssm.compare import Study, Variant, compare  # with matplotlib, which training does without

    given, keys = _study_arguments(arguments, "compare", ("models", "dataset"), ("baseline",))
    variants = [Variant(name, name) for name in read_names(given, "models")]
    folder = given.pop("out") or Path("compare") / given["dataset"]
    study = Study(variants, folder=Path(folder), keys=keys, **_study_settings(given))
    compare(study, given["baseline"], f"{PROGRAM} compare {shlex.join(arguments)}")


def sweep_values(arguments: Sequence[str]) -> None:
    """Train a model with several values of one configuration key, and plot the metrics over them.

    --model      name, of this package or of RecBole
    --param      the key
    --values     separated by commas, as they would stand on the command line; the first one is the baseline
    """
    if {"-h", "--help"} & set(arguments):
        print(_study_help("sweep --model=NAME --param=KEY --values=VALUE,VALUE", sweep_values))
        return
    from recbole_ssm.compare import Study, compare, values_of

    given, keys = _study_arguments(arguments, "sweep", ("model", "dataset", "param", "values"), ())
    variants = values_of(given["param"], read_names(given, "values"), given["model"])
    folder = given.pop("out") or Path("sweep") / f"{given['model']}-{given['param']}-{given['dataset']}"
    study = Study(variants, folder=Path(folder), keys=keys, **_study_settings(given))
    compare(study, command=f"{PROGRAM} sweep {shlex.join(arguments)}", parameter=given["param"])


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
    from recbole_ssm.tuning import Task, tune

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


def scaling_of_models(arguments: Sequence[str]) -> None:
    """Measure what models cost as histories get longer, and as catalogues get larger, on random histories.

    --models      sequential ones, of this package or of RecBole, by commas; default: all of this package, and SASRec
    --lengths     of histories, separated by commas, or none; default 50 to 10,000
    --catalogues  numbers of items, separated by commas, or none; default 1,000 to 1,000,000
    --threads     default 1, where processor time is measured, so that other programs do not count
    --out         folder for report.html (self-contained), scaling.json, scaling.csv, scaling.md, scaling.tex and
                  figures/; default scaling
    --key=value   for all models
    """
    if {"-h", "--help"} & set(arguments):
        usage = "[--models=NAME,NAME] [--lengths=N,N] [--catalogues=N,N] [--threads=1] [--out=FOLDER]"
        print(help_of(f"scaling {usage} [--key=value ...]", scaling_of_models.__doc__))
        return
    from recbole_ssm.scaling import CATALOGUES, LENGTHS, scaling

    given, keys = own_arguments(arguments, "scaling", (), ("models", "lengths", "catalogues", "threads", "out"))
    lengths = LENGTHS if given["lengths"] is None else read_sizes(given, "lengths")
    catalogues = CATALOGUES if given["catalogues"] is None else read_sizes(given, "catalogues")
    given["models"] = given["models"] or ",".join([*MODELS, "SASRec"])
    models = read_names(given, "models")
    torch.set_num_threads(read_count(given, "threads", 1))
    folder = Path(given["out"] or "scaling")
    scaling(models, folder, lengths, catalogues, keys, command=f"{PROGRAM} scaling {shlex.join(arguments)}")


_STUDY_HELP = """
--dataset    name
--seeds      how many (2020, 2021, ...), or which, separated by commas; default 3
--budget     seconds of training of each run: the epoch that is then going on is its last
--out        folder for report.html (self-contained), table.md, table.tex, table.csv, results.json, figures/ and the log
             of each run
--key=value  for all runs; also --config_files=FILE,FILE

Each run is a process of its own. What is done is not done again, so that the same command goes on after an
interruption, also in the midst of a training; models, values and seeds may be added.
"""


def _study_help(usage: str, verb) -> str:
    usage += " --dataset=NAME [--seeds=3] [--budget=SECONDS] [--out=FOLDER] [--key=value ...]"
    return help_of(usage, inspect.cleandoc(verb.__doc__) + _STUDY_HELP)


def _study_arguments(arguments: Sequence[str], verb: str, needed: tuple, optional: tuple) -> tuple[dict, list[str]]:
    return own_arguments(arguments, verb, needed, (*optional, "seeds", "budget", "out", "config_files"))


def _study_settings(given: dict) -> dict:
    return {
        "dataset": given["dataset"],
        "seeds": read_seeds(given["seeds"] or "3"),
        "files": read_files(given["config_files"]),
        "budget": read_seconds(given["budget"]),
    }
