"""The names of models, and the classes behind them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

import torch
from recbole.utils import get_model

from recbole_ssm.errors import InputError, did_you_mean
from recbole_ssm.model.declarations import Column, Configuration, Key
from recbole_ssm.model.packed_input import PackedRecommender
from recbole_ssm.model.recbole_models import check_packages, recbole_models
from recbole_ssm.system.plugins import load_plugin

SHIPPED = {
    "SSD4Rec": "recbole_ssm.model.ssd4rec:SSD4Rec",
    "Mamba4Rec": "recbole_ssm.model.mamba4rec:Mamba4Rec",
    "2Mamba4Rec": "recbole_ssm.model.two_mamba4rec:TwoMamba4Rec",
    "Hydra4Rec": "recbole_ssm.model.hydra4rec:Hydra4Rec",
    "LRURec": "recbole_ssm.model.lrurec:LRURec",
    "PackedSASRec": "recbole_ssm.model.packed_sasrec:PackedSASRec",
    "MamRec": "recbole_ssm.model.mamrec:MamRec",
    "GPT4Rec": "recbole_ssm.model.gpt4rec:GPT4Rec",
    "BM25": "recbole_ssm.model.bm25:BM25Recommender",
    "LlamaRec": "recbole_ssm.model.llamarec:LlamaRec",
    "PCTM": "recbole_ssm.model.pctm:PCTM",
    "SeqRules": "recbole_ssm.model.seq_rules:SeqRules",
    "MarkovChain": "recbole_ssm.model.markov_chain:MarkovChain",
}
"""Models that come with this package: name to ``module:class``. Names need not be Python identifiers."""

GROUP = "recbole_ssm.models"
"""The group of entry points by which another package names its models."""


class _Models(Mapping[str, str]):
    """Name to ``module:class``: :data:`SHIPPED`, and then the models of installed packages."""

    def __getitem__(self, name: str) -> str:
        return (SHIPPED.get(name) or _installed()[name][0]) if isinstance(name, str) else SHIPPED[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*SHIPPED, *_installed()]))

    def __len__(self) -> int:
        return len({*SHIPPED, *_installed()})


MODELS: Mapping[str, str] = _Models()
"""All models on packed histories, by name."""


def _installed() -> dict[str, list[str]]:
    """The models of other packages, by name; more than one value where several packages have the name."""
    return _installed_in(tuple(sys.path))


@lru_cache(maxsize=4)
def _installed_in(path: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for point in entry_points(group=GROUP):
        if point.value not in found.setdefault(point.name, []):
            found[point.name].append(point.value)
    return found


def shipped_models() -> dict[str, type[PackedRecommender]]:
    """The classes of this package's models, by name."""
    return {name: _loaded(name, value) for name, value in SHIPPED.items()}


def _loaded(name: str, value: str) -> Any:
    return load_plugin(GROUP, "model", name, value)


def _packed_model(name: str) -> type[PackedRecommender]:
    values = [*([SHIPPED[name]] if name in SHIPPED else []), *_installed().get(name, [])]
    if len(values) > 1 or (name not in SHIPPED and name in recbole_models()):
        others = values if len(values) > 1 else [f"RecBole's {name}", *values]
        raise InputError(f"several models are called {name!r}: {', '.join(others)}; uninstall the others")
    found = _loaded(name, values[0])
    if not (isinstance(found, type) and issubclass(found, PackedRecommender)):
        raise InputError(f"the model {name} ({values[0]}) must be a class made from PackedSequentialRecommender")
    return found


def check_declarations(model: type[PackedRecommender], given: Configuration) -> None:
    """Raise InputError unless what a model declares is well-formed, and its ``encode`` takes the columns.

    Args:
        model: the class.
        given: keys that are given; they decide which columns are read.
    """
    name = model.__name__
    for attribute, kind in (("keys", Key), ("columns", Column)):
        declared = getattr(model, attribute)
        others = (
            [each for each in declared if not isinstance(each, kind)] if isinstance(declared, tuple) else [declared]
        )
        if others:
            raise InputError(f"{name}.{attribute} must be a tuple of {kind.__name__}s, but is or has {others[0]!r}")
        names = [each.name for each in declared]
        if twice := [each for each in dict.fromkeys(names) if names.count(each) > 1]:
            raise InputError(f"{name}.{attribute} declares {twice[0]!r} twice; remove one")
    for column in model.columns:
        takes = inspect.signature(model.encode).parameters.values()
        if column.is_read(given) and not any(
            each.name == column.name or each.kind == each.VAR_KEYWORD for each in takes
        ):
            raise InputError(f"{name}.encode must take {column.name!r}, which is one of the columns that it declares")


def model_class(name: str) -> type[Any]:
    """The class of a model.

    Args:
        name: of a model of this package, of another that is installed, or of RecBole.

    Returns:
        The class.

    Raises:
        InputError: there is no such model, a package that it needs is not installed, or what is registered by this
            name cannot be used.
    """
    if name in MODELS:
        return _packed_model(name)
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
