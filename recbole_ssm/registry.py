"""Model names, and the classes behind them."""

from __future__ import annotations

import importlib
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


def recbole_models() -> list[str]:
    """Names of RecBole's own models."""
    folder = Path(recbole.utils.__file__).parent.parent / "properties" / "model"
    return sorted(file.stem for file in folder.glob("*.yaml"))


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
        raise InputError(f"RecBole's model {name} needs a package that is not installed: {error}") from error
