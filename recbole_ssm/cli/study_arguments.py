"""What ``compare`` and ``sweep`` have in common: their arguments and help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from recbole_ssm.cli.arguments import (
    help_of,
    own_arguments,
    read_files,
    read_seconds,
    read_seeds,
)

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


def study_help(usage: str, verb: Callable) -> str:
    """The help of a verb, from its docstring."""
    usage += " --dataset=NAME [--seeds=3] [--budget=SECONDS] [--out=FOLDER] [--key=value ...]"
    return help_of(usage, inspect.cleandoc(verb.__doc__) + _STUDY_HELP)


def study_arguments(arguments: Sequence[str], verb: str, needed: tuple, optional: tuple) -> tuple[dict, list[str]]:
    """What is given of a study's own arguments, None for the others, and the rest."""
    return own_arguments(arguments, verb, needed, (*optional, "seeds", "budget", "out", "config_files"))


def study_settings(given: dict) -> dict:
    """What :class:`recbole_ssm.studies.compare.Study` takes of them."""
    return {
        "dataset": given["dataset"],
        "seeds": read_seeds(given["seeds"] or "3"),
        "files": read_files(given["config_files"]),
        "budget": read_seconds(given["budget"]),
    }
