"""``compare``: which model is better, is it significant, and what does each cost?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from recbole_ssm.cli.arguments import PROGRAM, read_names
from recbole_ssm.cli.study_arguments import study_arguments, study_help, study_settings


def compare_models(arguments: Sequence[str]) -> None:
    """Train several models on the same data and test items, and report which is better, and what each costs.

    --models     names, of this package or of RecBole, separated by commas
    --baseline   the model that the others are tested against; default the first
    """
    if {"-h", "--help"} & set(arguments):
        print(study_help("compare --models=NAME,NAME", compare_models))
        return
    from recbole_ssm.studies.compare import Study, Variant, compare  # with matplotlib, which training does without

    given, keys = study_arguments(arguments, "compare", ("models", "dataset"), ("baseline",))
    variants = [Variant(name, name) for name in read_names(given, "models")]
    folder = given.pop("out") or Path("compare") / given["dataset"]
    study = Study(variants, folder=Path(folder), keys=keys, **study_settings(given))
    compare(study, given["baseline"], f"{PROGRAM} compare {shlex.join(arguments)}")
