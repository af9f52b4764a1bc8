"""``sweep``: how does a metric follow one setting?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from recbole_ssm.cli.arguments import PROGRAM, read_names
from recbole_ssm.cli.study_arguments import study_arguments, study_help, study_settings


def sweep_values(arguments: Sequence[str]) -> None:
    """Train a model with several values of one configuration key, and plot the metrics over them.

    --model      name, of this package or of RecBole
    --param      the key
    --values     separated by commas, as they would stand on the command line; the first one is the baseline
    """
    if {"-h", "--help"} & set(arguments):
        print(study_help("sweep --model=NAME --param=KEY --values=VALUE,VALUE", sweep_values))
        return
    from recbole_ssm.studies.compare import Study, compare, values_of

    given, keys = study_arguments(arguments, "sweep", ("model", "dataset", "param", "values"), ())
    variants = values_of(given["param"], read_names(given, "values"), given["model"])
    folder = given.pop("out") or Path("sweep") / f"{given['model']}-{given['param']}-{given['dataset']}"
    study = Study(variants, folder=Path(folder), keys=keys, **study_settings(given))
    compare(study, command=f"{PROGRAM} sweep {shlex.join(arguments)}", parameter=given["param"])
