"""RecBole's own models: their names, files and packages, and what is peculiar about some of them.

The tables at the end are of RecBole 1.2.1; ``tests/config/test_recbole_keys.py`` compares them with its code.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import recbole.utils

from recbole_ssm.errors import InputError

_FOLDER = Path(recbole.utils.__file__).parent.parent

_NAMES_OF_FILES = {"lightgbm": "LightGBM", "xgboost": "XGBoost"}
"""Models that are called otherwise than their files of defaults."""

_PIP = {"faiss": "faiss-cpu"}
"""Packages that pip knows by another name."""


def recbole_models() -> list[str]:
    """Names of RecBole's own models."""
    files = (file.stem for file in (_FOLDER / "properties" / "model").glob("*.yaml"))
    return sorted(_NAMES_OF_FILES.get(name, name) for name in files)


def recbole_properties(name: str) -> Path:
    """RecBole's file with the defaults of a model of its own."""
    file = next((file for file, model in _NAMES_OF_FILES.items() if model == name), name)
    return _FOLDER / "properties" / "model" / f"{file}.yaml"


def check_packages(name: str) -> None:
    """Raise InputError if a model of RecBole imports a package that is not there, as some do late in the training."""
    for file in (_FOLDER / "model").glob(f"*/{name.lower()}.py"):
        imports = re.findall(r"^\s*(?:import|from) (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        for package in imports:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"RecBole's model {name} needs {package}, which is not installed; pip install "
                    f"{_PIP.get(package, package)}"
                )


def recboles_own(kind: type, name: str) -> type | None:
    """The model of RecBole of this name that a class is, or is made from; None if it is another."""
    return next(
        (base for base in kind.__mro__ if base.__name__ == name and base.__module__.startswith("recbole.")), None
    )


COUNTS_PER_BATCH = frozenset({"Pop"})
"""Models that count an item once for each batch that holds it."""

_WITH_FEATURES = (
    *("AFM", "AutoInt", "DCN", "DCNV2", "DIEN", "DIN", "DSSM", "DeepFM", "EulerNet", "FDSA", "FFM", "FM", "FNN"),
    *("FiGNN", "FwFM", "GRU4RecF", "KD_DAGFM", "LR", "NFM", "PNN", "SASRecF", "WideDeep", "xDeepFM"),
    *("LightGBM", "XGBoost"),
)
_WITH_TOWERS = (
    *("AFM", "AutoInt", "DCN", "DCNV2", "DeepFM", "EulerNet", "FFM", "FM", "FNN", "FiGNN", "FwFM", "KD_DAGFM", "LR"),
    *("NFM", "PNN", "WideDeep", "xDeepFM"),
)
_WITH_TURNS = ("CFKG", "CKE", "KGCN", "KGIN", "KGNNLS", "MCCLK", "RippleNet")

READS_MORE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (_WITH_FEATURES, ("numerical_features", "discretization")),
    (_WITH_TOWERS, ("double_tower",)),
    (_WITH_TURNS, ("train_rec_step", "train_kg_step")),
    (("GRU4RecKG", "KSR"), ("preload_weight",)),
    (("LightGCN", "SimpleX"), ("require_pow",)),
    (("DMF",), ("RATING_FIELD",)),
    (("AutoInt",), ("has_residual",)),
    (("FEARec",), ("contrast", "sim", "tau", "use_filter")),
    (("HRM",), ("reg_weight",)),
    (("DiffRec", "LDiffRec"), ("norm",)),
    (("KD_DAGFM",), ("cin", "t_*")),
    (("XGBoost",), ("xgb_early_stopping_rounds",)),
)
"""Models, and keys that they read beside those of their file of defaults; ``*`` stands for any letters."""

READS_NOT = {"DMF": ("embedding_size",)}
"""Keys of a model's file of defaults that it does not read."""

READ_BY_TRANSFORMS = {
    "mask_itemseq": ("mask_ratio", "ft_ratio"),
    "crop_itemseq": ("eta",),
    "reorder_itemseq": ("beta",),
}
"""Keys that RecBole reads under a value of ``transform``."""
