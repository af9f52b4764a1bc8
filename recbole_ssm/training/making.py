"""The model of a configuration, made so that no file which RecBole's model reads on the way runs code."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import nn

from recbole_ssm.errors import InputError
from recbole_ssm.model.recbole_models import recboles_own
from recbole_ssm.system.environment import environment
from recbole_ssm.system.resources import fits_memory

_AS_DATA, _AS_CODE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""Variables of the environment by which torch is told how to read a file where its caller does not say."""


def make_model(config, dataset) -> nn.Module:
    """The model of a configuration, on its device.

    Some of RecBole's models begin with the weights of a file that the configuration names (``pre_model_path`` and the
    like). It is read as data, or with ``trust_checkpoint`` as RecBole wrote it.

    Args:
        config: the configuration.
        dataset: the training split.

    Raises:
        InputError: such a file cannot be read as data, or the model does not fit into memory.
    """
    if recboles_own(config.model_class, "LDiffRec") and config["n_cate"] > 1:
        _check_embeddings(Path(dataset.dataset_path) / "item_emb.npy")
    for name, weights in getattr(dataset, "_preloaded_weight", {}).items():  # KSR multiplies them with its own
        dataset._preloaded_weight[name] = np.asarray(weights, np.float32)
    size = f"{dataset.item_num - 1:,} items and hidden_size {config['hidden_size']}"
    memory = fits_memory(f"{config['model']} with {size} does not fit into memory")
    with memory, _files_as_data(trust=bool(config["trust_checkpoint"])):
        return config.model_class(config, dataset).to(config["device"])


def _check_embeddings(file: Path) -> None:
    """LDiffRec reads this file of a dataset's folder, Python objects as well."""
    try:
        if file.exists():
            np.load(file, mmap_mode="r", allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise InputError(f"{file} must be an array of numbers, as numpy.save writes it, and is none") from error


@contextmanager
def _files_as_data(*, trust: bool) -> Iterator[None]:
    try:
        with environment(**{_AS_CODE: "1" if trust else None, _AS_DATA: None if trust else "1"}):
            yield
    except (OSError, pickle.UnpicklingError) as error:
        remedy = "" if trust else "; if it holds Python objects, --trust_checkpoint reads them and runs their code"
        reason = str(error).splitlines()[0]
        raise InputError(f"a file of weights that the model begins with cannot be read ({reason}){remedy}") from error
