"""``compare``: which model is better, is it significant, and what does each cost?"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.cli.study_options import KEYS, NOTE, add_study_options, study_settings


def parser() -> VerbParser:
    """The options of the verb."""
    text = "Train several models on the same data and test items, and report which is better, and what each costs."
    found = VerbParser("compare", text, keys=KEYS, note=NOTE)
    text = "names, of this package or of RecBole, separated by commas"
    found.option("models", "NAME,NAME", text, type=types.names, needed=True)
    found.option("baseline", "NAME", "the model that the others are tested against; default the first")
    add_study_options(found)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Compare the models."""
    from recbole_ssm.studies.compare import Study, Variant, compare  # with matplotlib, which training does without

    variants = [Variant(name, name) for name in given.models]
    folder = Path(given.out or Path("compare") / given.dataset)
    study = Study(variants, folder=folder, keys=keys, **study_settings(given))
    compare(study, given.baseline, given.command)
