"""The defaults of a configuration, in layers: each layer replaces values of those before it.

RecBole's own defaults come first, then :data:`BELOW_THE_DATA`. Once the data are read, settings that follow from them
(:mod:`recbole_ssm.config.from_data`) replace these. :data:`ABOVE_THE_DATA` replaces those, and what a caller gives
(files, dicts, command line) replaces all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from recbole_ssm.config.keys import FOR_ALL_MODELS, keys_of
from recbole_ssm.config.shipped_files import properties_folder

AT_ONCE: dict[str, Any] = {
    "epochs": 1,
    "train_samples": "whole_sequence",
    "train_batch_tokens": 1 << 20,
    "train_neg_sample_args": None,
}
"""What a model has that is not trained: one epoch of few batches, which it makes nothing of."""


class Run(NamedTuple):
    """What the defaults are for."""

    name: str
    """Of the model."""
    model: type[Any]
    dataset: str
    packed: bool
    """Whether the model takes packed batches."""


def declared(run: Run) -> dict[str, Any]:
    """The defaults of the keys that apply to the model, by their declarations.

    One that reads in both directions cannot be trained on ``whole_sequence``: it gets ``all_prefixes``. One that is not
    trained has no keys of training, and :data:`AT_ONCE`.
    """
    if not run.packed:
        return {key.name: key.default for key in FOR_ALL_MODELS}
    found = {key.name: key.default for key in keys_of(run.model)}
    if not run.model.is_trained:
        return found | AT_ONCE
    return found if run.model.causal else found | {"train_samples": "all_prefixes"}


def shipped_file(run: Run) -> Path | None:
    """The package's file of a model, ``properties/model/NAME.yaml``."""
    file = properties_folder() / "model" / f"{run.name}.yaml"
    return file if file.is_file() else None


def own_file(run: Run) -> Path | None:
    """The file ``NAME.yaml`` beside the class of somebody's own model."""
    if shipped_file(run) is not None or not run.packed:
        return None
    try:
        beside = Path(inspect.getfile(run.model)).with_name(f"{run.name}.yaml")
    except (OSError, TypeError):  # a class that was typed in
        return None
    return beside if beside.is_file() else None


def dataset_file(run: Run) -> Path | None:
    """The package's file of a dataset."""
    file = properties_folder() / "dataset" / f"{run.dataset}.yaml"
    return file if file.is_file() else None


Layer = Callable[[Run], dict[str, Any] | Path | None]
"""It gives keys and values, a file of them, or nothing."""

BELOW_THE_DATA: tuple[Layer, ...] = (declared, shipped_file)
ABOVE_THE_DATA: tuple[Layer, ...] = (own_file, dataset_file)
