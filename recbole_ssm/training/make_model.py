"""Making the model of a configuration, without running code from a file that RecBole's model reads meanwhile."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from recbole_ssm.config.config import Config
from recbole_ssm.errors import InputError
from recbole_ssm.model.recbole_models import recboles_own
from recbole_ssm.system.environment import environment
from recbole_ssm.system.resources import fits_memory

_AS_DATA, _AS_CODE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""Environment variables that tell torch how to read a file where its caller does not."""


def make_model(config: Config, dataset: Any) -> nn.Module:
    """The model of a configuration, on its device.

    Some of RecBole's models start from the weights in a file that the configuration names (such as ``pre_model_path``).
    It is read as data, or with ``trust_checkpoint`` as RecBole wrote it.

    Args:
        config: the configuration.
        dataset: the training split.

    Returns:
        The model, with new weights.

    Raises:
        InputError: such a file cannot be read as data, or the model does not fit into memory.
    """
    if recboles_own(config.model_class, "LDiffRec") and config["n_cate"] > 1:
        _check_embeddings(Path(dataset.dataset_path) / "item_emb.npy")
    for name, weights in getattr(dataset, "_preloaded_weight", {}).items():  # KSR multiplies them with its own
        dataset._preloaded_weight[name] = np.asarray(weights, np.float32)
    size = f"{dataset.item_num - 1:,} items"
    if config["hidden_size"] and not (config["language_config"] or config["language_model"]):
        size += f" and hidden_size {config['hidden_size']}"
    memory = fits_memory(f"{config.model} with {size} does not fit into memory")
    with memory, _files_as_data(trust=bool(config.trust_checkpoint)):
        return config.model_class(config, dataset).to(config.device)


def _check_embeddings(file: Path) -> None:
    """Refuse a file with Python objects, which LDiffRec would load from the folder of a dataset."""
    try:
        if file.exists():
            np.load(file, mmap_mode="r", allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise InputError(f"{file} must be an array of numbers, as numpy.save writes it") from error


@contextmanager
def _files_as_data(*, trust: bool) -> Iterator[None]:
    try:
        with environment(**{_AS_CODE: "1" if trust else None, _AS_DATA: None if trust else "1"}):
            yield
    except (OSError, pickle.UnpicklingError) as error:
        remedy = "" if trust else "; if it holds Python objects, --trust_checkpoint reads them and runs their code"
        reason = str(error).splitlines()[0]
        raise InputError(f"a file of weights that the model begins with cannot be read ({reason}){remedy}") from error
