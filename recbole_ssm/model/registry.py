"""Model names, and the classes behind them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import recbole.utils
import torch
from recbole.utils import get_model

from recbole_ssm.errors import InputError, did_you_mean

MODELS = {
    "SSD4Rec": "recbole_ssm.model.ssd4rec:SSD4Rec",
    "Mamba4Rec": "recbole_ssm.model.mamba4rec:Mamba4Rec",
    "2Mamba4Rec": "recbole_ssm.model.two_mamba4rec:TwoMamba4Rec",
    "Hydra4Rec": "recbole_ssm.model.hydra4rec:Hydra4Rec",
    "LRURec": "recbole_ssm.model.lrurec:LRURec",
    "PackedSASRec": "recbole_ssm.model.packed_sasrec:PackedSASRec",
}
"""Models of this package: name to ``module:class``. Names need not be Python identifiers."""


_NAMES_OF_FILES = {"lightgbm": "LightGBM", "xgboost": "XGBoost"}
"""Models of RecBole that are called otherwise than their files of properties."""

_PIP = {"faiss": "faiss-cpu"}
"""Packages that pip knows by another name."""

_RECBOLE = Path(recbole.utils.__file__).parent.parent


def recbole_models() -> list[str]:
    """Names of RecBole's own models."""
    files = (file.stem for file in (_RECBOLE / "properties" / "model").glob("*.yaml"))
    return sorted(_NAMES_OF_FILES.get(name, name) for name in files)


def recbole_properties(name: str) -> Path:
    """RecBole's file with the defaults of a model of its own."""
    file = next((file for file, model in _NAMES_OF_FILES.items() if model == name), name)
    return _RECBOLE / "properties" / "model" / f"{file}.yaml"


def check_packages(name: str) -> None:
    """Raise InputError if a model of RecBole imports a package that is not there, as some do late in the training."""
    for file in (_RECBOLE / "model").glob(f"*/{name.lower()}.py"):
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


def model_class(name: str) -> type:
    """The class of a model of this package or of RecBole.

    Raises:
        InputError: there is no such model, or a package that it needs is not installed.
    """
    if name in MODELS:
        module, _, attribute = MODELS[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    known = [*MODELS, *recbole_models()]
    if name not in known:
        raise InputError(
            f"there is no model {name!r}{did_you_mean(str(name), known, 3) or '.'} Models: {', '.join(MODELS)}; "
            f"RecBole's: {', '.join(recbole_models())}"
        )
    try:
        # One of RecBole's modules (sine.py) turns on autograd's anomaly detection, for all that is trained afterwards.
        with torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled()):
            return get_model(name)
    except ImportError as error:
        check_packages(name)
        raise InputError(f"RecBole's model {name} needs a package that is not installed: {error}") from error
