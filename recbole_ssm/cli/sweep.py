"""``sweep``: how does a metric follow one setting?"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.cli.study_options import KEYS, NOTE, add_study_options, study_settings


def parser() -> VerbParser:
    """The options of the verb."""
    text = "Train a model with several values of one configuration key, and plot the metrics over them."
    found = VerbParser("sweep", text, keys=KEYS, note=NOTE)
    found.option("model", "NAME", "name, of this package or of RecBole", needed=True)
    found.option("param", "KEY", "the key", needed=True)
    text = (
        "separated by commas, as they would stand on the command line, lists in brackets, words that have a comma in "
        "quotation marks; the first is the baseline"
    )
    found.option("values", "VALUE,VALUE", text, type=types.values, needed=True)
    add_study_options(found)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Train with each value."""
    from recbole_ssm.studies.compare import Study, compare, values_of

    variants = values_of(given.param, given.values, given.model)
    folder = Path(given.out or Path("sweep") / f"{given.model}-{given.param}-{given.dataset}")
    study = Study(variants, folder=folder, keys=keys, **study_settings(given))
    compare(study, command=given.command, parameter=given.param)
