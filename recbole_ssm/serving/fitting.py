"""From a table of clicks to a model in use, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from recbole_ssm.config.config import Config
from recbole_ssm.data.importing import ImportedData, Options, from_dataframe
from recbole_ssm.errors import InputError
from recbole_ssm.model.registry import MODELS, model_class
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.users import Histories, Naming
from recbole_ssm.training.run import run

_OF_IMPORT = {field.name for field in fields(Options)}


def fit(
    data: pd.DataFrame | ImportedData | str,
    model: str = "2Mamba4Rec",
    *,
    items: pd.DataFrame | None = None,
    resume: bool | str | Path = False,
    config_files: Sequence[str | Path] = (),
    **keys: Any,
) -> Recommender:
    """Train a model on a table of clicks, and use it.

    Of each user the last item is tested, the one before it validates, and the best epoch is kept. The model then knows
    all histories of the data. Files are written below the working directory: the data set to ``dataset``, logs to
    ``log``, and the checkpoint to ``saved``. Nothing is read from ``sys.argv``.

    Args:
        data: a DataFrame with a row for each click; or what :func:`recbole_ssm.from_dataframe` has made of one; or the
            name of a data set in ``data_path``, or ``ml-100k``.
        model: name of a model of this package.
        items: with a DataFrame a row for each item, with titles and features (:func:`recbole_ssm.from_dataframe`).
        resume: go on with an interrupted training: its checkpoint, or True for the newest of this model and table.
        config_files: yaml files, or names of those that come with the package, such as ``protocol/everything``.
        **keys: keys of the configuration, such as ``epochs=10`` or ``filter_seen=True``. Of a DataFrame also options of
            the import: ``user=``, ``item=`` and ``time=`` name columns that are else guessed, and the others are those
            of :class:`recbole_ssm.data.importing.Options`.

    Returns:
        The trained model.

    Raises:
        InputError: there is no such model or key, the table cannot be read, or something else does not fit; nothing
            has been trained.
    """
    of_import = {key: keys.pop(key) for key in _OF_IMPORT & keys.keys()}
    _check(data, model, config_files, of_import if items is None else of_import | {"items": items}, keys)
    naming, frame = None, data
    if isinstance(frame, pd.DataFrame):
        data = from_dataframe(frame, items=items, path=keys.get("data_path") or "dataset", **of_import)
        naming = Naming.of_frame(frame, data.report["columns"]["user"], data.report["columns"]["item"])
    if isinstance(data, ImportedData):
        name, keys = data.name, keys | {"data_path": data.data_path}
    else:
        name = data
    files = [str(file) for file in config_files]
    result = run(model, name, config_file_list=files, config_dict=keys, resume=resume)
    found = Recommender(result["checkpoint"], _device(keys))
    found._take_training(result, naming)
    return found


def _device(keys: dict[str, Any]) -> str:
    return "cuda" if keys.get("use_gpu", True) and torch.cuda.is_available() else "cpu"


def load(file: str | Path, histories: Histories | None = None, **options: Any) -> Recommender:
    """The model of a checkpoint, for use.

    Args:
        file: the checkpoint, of :func:`fit`, of a training, or from :meth:`Recommender.save`.
        histories: see :class:`recbole_ssm.serving.recommender.Recommender`.
        **options: as there, such as ``device`` and ``filter_seen``.

    Returns:
        The model.

    Raises:
        CheckpointError: the file cannot be read, or holds a model of RecBole.
        InputError: something else cannot be used.
    """
    return Recommender(file, histories=histories, **options)


def _check(
    data: Any, model: str, config_files: Sequence[str | Path], of_import: dict[str, Any], keys: dict[str, Any]
) -> None:
    """Raise InputError for what can be seen to be wrong before anything is read."""
    if isinstance(model, str) and model not in MODELS:
        model_class(model)
        raise InputError(f"fit trains models of this package, and {model} is RecBole's; train it with recbole_ssm.run")
    if not isinstance(data, pd.DataFrame | ImportedData | str):
        raise InputError(f"data must be a DataFrame or the name of a data set, but is a {type(data).__name__}")
    if of_import and not isinstance(data, pd.DataFrame):
        raise InputError(f"{min(of_import)} is for a DataFrame; a data set has been read already")
    if isinstance(data, str) and Path(data).suffix in (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".gz"):
        raise InputError(f"{data!r} is a file; read it with pandas, or import it: recbole-ssm import {data}")
    for key in ("model", "dataset", "checkpoint"):
        if key in keys:
            raise InputError(f"{key} is no key of fit; say what to train on and which model as the first two arguments")
    name = data if isinstance(data, str) else "clicks"
    Config(model, name, [str(file) for file in config_files], keys)
