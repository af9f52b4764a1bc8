"""``scaling``: how do time and memory grow with histories and catalogues?"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.model.registry import MODELS


def parser() -> VerbParser:
    """The options of the verb."""
    text = (
        "Measure what models cost as histories get longer, and as catalogues get larger, on random histories. What is "
        "measured is written at once."
    )
    found = VerbParser("scaling", text, keys="for all models")
    text = "sequential ones, of this package or of RecBole, by commas; default: all of this package, and SASRec"
    found.option("models", "NAME,NAME", text, type=types.names, default=[*MODELS, "SASRec"])
    text = "of histories, separated by commas, or none; default 50 to 10,000"
    found.option("lengths", "N,N", text, type=types.sizes())
    text = "numbers of items, separated by commas, or none; default 1,000 to 1,000,000"
    found.option("catalogues", "N,N", text, type=types.sizes(least=11))
    text = "default 1, where processor time is measured, so that other programs do not count"
    found.option("threads", "1", text, type=types.count, default=1)
    text = (
        "folder for report.html (self-contained), scaling.json, scaling.csv, scaling.md, scaling.tex and figures/; "
        "default scaling"
    )
    found.option("out", "FOLDER", text)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Measure the models."""
    import torch

    from recbole_ssm.studies.scaling import CATALOGUES, LENGTHS, scaling

    lengths = LENGTHS if given.lengths is None else given.lengths
    catalogues = CATALOGUES if given.catalogues is None else given.catalogues
    torch.set_num_threads(given.threads)
    scaling(given.models, Path(given.out or "scaling"), lengths, catalogues, keys, command=given.command)
