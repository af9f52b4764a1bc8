"""A loaded dataset kept in arrays on the disk, so that the next start need not read, filter and number text again."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.utils import FeatureSource, FeatureType

from recbole_ssm.data.atomic_files import files_hash
from recbole_ssm.data.reading import AtomicFiles
from recbole_ssm.errors import CheckpointError, CheckpointNotWritten, InputError
from recbole_ssm.system import state_file
from recbole_ssm.system.version import __version__

FORMAT = "recbole-ssm dataset"
_FRAMES = ("inter_feat", "user_feat", "item_feat")


KINDS = (Dataset, SequentialDataset)
"""RecBole's datasets that can be kept; the others hold more than columns."""

READING = 2
"""Raised when the same files and settings are read to something else."""


def kept_file(config, kind: str) -> Path | None:
    """Where the dataset of a configuration is kept: the name holds a hash of all that decides what it is.

    That is the content of its atomic files, RecBole's keys for datasets, and the versions of who reads them.

    Args:
        config: the configuration; ``dataset_cache`` is the folder, or with ``save_dataset`` ``checkpoint_dir``; None
            for nothing kept.
        kind: name of the dataset's class.

    Raises:
        InputError: the folder cannot be made.
    """
    key = "checkpoint_dir" if config["dataset_cache"] is None and config["save_dataset"] else "dataset_cache"
    if config[key] is None:
        return None
    folder, name = Path(config[key]), config["dataset"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key} {str(folder)!r} cannot be used ({error}); name another folder") from error
    digest = hashlib.blake2b(digest_size=16)
    keys = [*config.parameters["Dataset"], "encoding", "numerical_features", "discretization"]
    settings = {key: config[key] for key in keys}
    versions = [version("recbole"), version("pandas"), __version__]
    digest.update(repr((state_file.VERSION, READING, kind, versions, sorted(settings.items()))).encode())
    digest.update(files_hash(config).encode())
    return folder / f"{name}-{digest.hexdigest()}.pth"


def find(file: Path | None) -> dict | None:
    """What is kept in a file; None if there is nothing that can be used."""
    if file is None or not file.exists():
        return None
    try:
        kept = state_file.read(file, format=FORMAT)
        _check(kept)
    except CheckpointError as error:
        getLogger().warning(f"{error}; the dataset is read anew")
        return None
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        getLogger().warning(f"{file} does not hold a dataset as this package keeps it; the dataset is read anew")
        return None
    return kept


def _check(kept: dict) -> None:
    """Raise an error unless columns fit one another, and numbers stand for names: others would lead out of arrays."""
    if "inter_feat" not in kept["frames"]:
        raise ValueError("no interactions")
    for what in kept["fields"].values():
        FeatureType(what["type"]), FeatureSource(what["source"])
    for name, columns in kept["frames"].items():
        if name not in _FRAMES or len({column.shape for column in columns.values()}) != 1:
            raise ValueError("columns of several lengths")
        for field, column in columns.items():
            names = kept["fields"][field]["names"]
            if column.ndim != 1 or (names is not None and not 0 <= column.min() <= column.max() < len(names)):
                raise ValueError("a number without a name")


def keep(dataset, file: Path, order: np.ndarray | slice = slice(None)) -> None:
    """Write a loaded and filtered dataset to a file; where that cannot be, say why.

    Args:
        dataset: not yet built.
        file: from :func:`kept_file`.
        order: of its interactions; by user and time they need not be sorted again.
    """
    frames = {name: getattr(dataset, name) for name in _FRAMES if getattr(dataset, name) is not None}
    if dataset._preloaded_weight or any(kind.hasobject for frame in frames.values() for kind in frame.dtypes):
        getLogger().warning("columns of single values only can be kept: this dataset is not")
        return
    tensors = {
        name: {field: torch.from_numpy(column.to_numpy()) for field, column in frame.items()}
        for name, frame in frames.items()
    }
    tensors["inter_feat"] = {field: column[order] for field, column in tensors["inter_feat"].items()}
    fields = {
        field: {
            "type": kind.value,
            "source": FeatureSource(dataset.field2source[field]).value,
            "length": int(dataset.field2seqlen[field]),
            "buckets": dataset.field2bucketnum.get(field),
            "names": [str(name) for name in dataset.field2id_token[field]] if field in dataset.field2id_token else None,
        }
        for field, kind in dataset.field2type.items()
    }
    try:
        state_file.write(file, {"frames": tensors, "fields": fields}, format=FORMAT)
    except CheckpointNotWritten as error:
        getLogger().warning(f"the dataset is not kept: {error}")


class Kept:
    """Mixed into a dataset of RecBole: it begins with what :func:`keep` has written, or, without it, with its files.

    Args:
        config: the configuration.
        kept: what :func:`find` gave, or None.
    """

    def __init__(self, config, kept: dict | None = None):
        self._kept = kept
        super().__init__(config)
        del self._kept

    def _from_scratch(self) -> None:
        if self._kept is None:
            super()._from_scratch()
            return
        self._get_preset()
        self._get_field_from_config()
        restore(self, self._kept)
        self._init_alias()


def load(kind: type[Dataset], config, kept: dict | None = None) -> Dataset:
    """RecBole's dataset of a class: as it was kept, if it is one of :data:`KINDS`, or from its files."""
    dataset = kind.__new__(kind)  # which RecBole can pickle
    dataset.__dict__.update(type(kind.__name__, (Kept, AtomicFiles, kind), {})(config, kept).__dict__)
    return dataset


def restore(dataset, kept: dict) -> None:
    """Give an empty dataset what :func:`keep` has written."""
    for name in _FRAMES:
        columns = kept["frames"].get(name)
        if columns is not None:
            columns = pd.DataFrame({field: column.numpy() for field, column in columns.items()}, copy=False)
        setattr(dataset, name, columns)
    for field, what in kept["fields"].items():
        dataset.field2type[field] = FeatureType(what["type"])
        dataset.field2source[field] = FeatureSource(what["source"])
        dataset.field2seqlen[field] = what["length"]
        if what["buckets"] is not None:
            dataset.field2bucketnum[field] = what["buckets"]
        if what["names"] is not None:
            names = np.array(what["names"])
            dataset.field2id_token[field] = names
            dataset.field2token_id[field] = {name: number for number, name in enumerate(names)}
    dataset.feat_name_list = dataset._build_feat_name_list()
