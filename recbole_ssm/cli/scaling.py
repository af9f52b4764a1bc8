"""``scaling``: how do time and memory grow with histories and catalogues?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from recbole_ssm.cli.arguments import PROGRAM, help_of, own_arguments, read_count, read_names, read_sizes
from recbole_ssm.model.registry import MODELS


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
    from recbole_ssm.studies.scaling import CATALOGUES, LENGTHS, scaling

    given, keys = own_arguments(arguments, "scaling", (), ("models", "lengths", "catalogues", "threads", "out"))
    lengths = LENGTHS if given["lengths"] is None else read_sizes(given, "lengths")
    catalogues = CATALOGUES if given["catalogues"] is None else read_sizes(given, "catalogues")
    given["models"] = given["models"] or ",".join([*MODELS, "SASRec"])
    models = read_names(given, "models")
    torch.set_num_threads(read_count(given, "threads", 1))
    folder = Path(given["out"] or "scaling")
    scaling(models, folder, lengths, catalogues, keys, command=f"{PROGRAM} scaling {shlex.join(arguments)}")
