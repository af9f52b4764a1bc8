"""What ``compare`` and ``sweep`` have in common: the options of a study."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser

KEYS = "for all runs"
NOTE = (
    "Each run is a process of its own. After an interruption the same command continues: finished runs are kept, and a "
    "training that was cut off goes on after its last epoch. You can add models, values and seeds."
)


def add_study_options(parser: VerbParser) -> None:
    """Add the options that follow a verb's own."""
    parser.option("dataset", "NAME", "name", needed=True)
    text = "how many (2020, 2021, ...), or which, separated by commas; default 3"
    parser.option("seeds", "3", text, type=types.seeds, default=types.seeds("3"))
    text = "seconds of training and validation after which a run begins no further epoch"
    parser.option("budget", "SECONDS", text, type=types.seconds)
    text = (
        "beyond accuracy, separated by commas: ItemCoverage, GiniIndex, AveragePopularity, ShannonEntropy, "
        "TailPercentage, Novelty; default ItemCoverage,GiniIndex,AveragePopularity,Novelty"
    )
    parser.option("metrics", "NAME,NAME", text, type=types.names)
    text = (
        "folder for report.html (self-contained), table.md, table.tex, table.csv, results.json, figures/ and the log "
        "of each run"
    )
    parser.option("out", "FOLDER", text)
    parser.option("config_files", "FILE,FILE", "for all runs", type=types.files, default=[])


def study_settings(given: Namespace) -> dict[str, Any]:
    """What :class:`recbole_ssm.studies.compare.Study` takes of them."""
    found = {"dataset": given.dataset, "seeds": given.seeds, "files": given.config_files, "budget": given.budget}
    return found if given.metrics is None else found | {"metrics": given.metrics}
