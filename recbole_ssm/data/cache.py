"""The dataset cache: a loaded dataset in a file of arrays, so that the next run parses and filters no text."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from logging import getLogger
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_ssm.config import Config
from recbole_ssm.data.atomic_files import files_hash
from recbole_ssm.data.recbole_types import Dataset, SequentialDataset
from recbole_ssm.errors import CheckpointError, CheckpointNotWritten, InputError
from recbole_ssm.system import state_file
from recbole_ssm.system.version import __version__

FORMAT = "recbole-ssm dataset"
_FRAMES = ("inter_feat", "user_feat", "item_feat")

KINDS = (Dataset, SequentialDataset)
"""RecBole's datasets that can be kept; the others hold more than columns."""

READING = 3
"""The version of the parser: raised when it makes something else of the same files and settings."""


class Words(TypedDict):
    """A list of words in two tensors, which are written and read at once where words are one by one."""

    text: Tensor
    """uint8, all words after one another in UTF-8."""
    lengths: Tensor
    """(n,) int64, of each word in characters."""


class KeptField(TypedDict):
    """What RecBole knows of a column. ``names`` are those of a column of tokens, by number."""

    type: str
    source: str
    length: int
    buckets: int | None
    names: Words | None


class Kept(TypedDict):
    """The content of a file: the columns of each table, and what RecBole knows of them."""

    frames: dict[str, dict[str, Tensor]]
    fields: dict[str, KeptField]


def kept_file(config: Config, kind: str) -> Path | None:
    """The file in which the dataset of a configuration is kept.

    Its name holds a hash of all that the dataset depends on: the content of its atomic files, RecBole's keys for
    datasets, and the versions of RecBole, pandas and this package.

    Args:
        config: the configuration. The folder is ``dataset_cache``, or with ``save_dataset`` ``checkpoint_dir``.
        kind: the name of the dataset's class.

    Returns:
        The file, which need not exist; None if nothing is to be kept.

    Raises:
        InputError: the folder cannot be made.
    """
    key = "checkpoint_dir" if config.dataset_cache is None and config.save_dataset else "dataset_cache"
    if config[key] is None:
        return None
    folder = Path(config[key])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key} {str(folder)!r} cannot be used ({error}); name another folder") from error
    return folder / _file_name(config, kind)


def imported_file(config: Config, kind: str) -> Path:
    """The file of the same content that an import has left beside the data, or would leave."""
    return Path(config.data_path) / _file_name(config, kind)


def find_imported(config: Config, kind: str) -> Kept | None:
    """What an import has left beside the data; None where there is nothing for these settings and these files."""
    folder, name = Path(config.data_path), config.dataset
    if not any(folder.glob(f"{glob.escape(name)}-*.pth")):  # without one the files need not be hashed
        return None
    return find(imported_file(config, kind))


def _file_name(config: Config, kind: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    keys = [*config.parameters["Dataset"], "encoding", "numerical_features", "discretization"]
    settings = {key: config[key] for key in keys}
    versions = [version("recbole"), version("pandas"), __version__]
    digest.update(repr((state_file.VERSION, READING, kind, versions, sorted(settings.items()))).encode())
    digest.update(files_hash(config).encode())
    return f"{config.dataset}-{digest.hexdigest()}.pth"


def find(file: Path | None) -> Kept | None:
    """The content of a file; None where the file does not exist or cannot be used."""
    if file is None or not file.exists():
        return None
    try:
        kept = cast(Kept, state_file.read(file, format=FORMAT))
        _check(kept)
    except CheckpointError as error:
        getLogger().warning(f"{error}; the dataset is read from its files")
        return None
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        getLogger().warning(
            f"{file} does not hold a dataset as this package keeps it; the dataset is read from its files"
        )
        return None
    return kept


def pack_words(words: Sequence[str]) -> Words:
    """Words as two tensors; :func:`unpack_words` gives them back."""
    text = np.frombuffer(bytearray("".join(words).encode(errors="surrogatepass")), np.uint8)
    return {"text": torch.from_numpy(text), "lengths": torch.tensor(list(map(len, words)), dtype=torch.int64)}


def unpack_words(packed: Words) -> list[str]:
    """The words that :func:`pack_words` was given."""
    text = packed["text"].numpy().tobytes().decode(errors="surrogatepass")
    ends = packed["lengths"].cumsum(0).tolist()
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _check(kept: Kept) -> None:
    """Raise any error unless all columns of a table are equally long and each token has a name.

    Otherwise numbers would point outside of arrays.
    """
    if "inter_feat" not in kept["frames"]:
        raise ValueError("no interactions")
    for what in kept["fields"].values():
        FeatureType(what["type"]), FeatureSource(what["source"])
        if what["names"] is not None and not (what["names"]["lengths"] >= 0).all():
            raise ValueError("a word of negative length")
    for name, columns in kept["frames"].items():
        if name not in _FRAMES or len({column.shape for column in columns.values()}) != 1:
            raise ValueError("columns of several lengths")
        for field, column in columns.items():
            names = kept["fields"][field]["names"]
            if column.ndim != 1 or (
                names is not None and not 0 <= column.min() <= column.max() < len(names["lengths"])
            ):
                raise ValueError("a number without a name")


def keep(dataset: Dataset, file: Path, order: NDArray[np.int64] | slice = slice(None)) -> None:
    """Write a loaded and filtered dataset to a file. Where that cannot be, a warning says why.

    Args:
        dataset: not yet built.
        file: from :func:`kept_file`.
        order: of its interactions, (n_interactions,); sorted by user and time they need not be sorted again.
    """
    frames = {name: getattr(dataset, name) for name in _FRAMES if getattr(dataset, name) is not None}
    if dataset._preloaded_weight or any(kind.hasobject for frame in frames.values() for kind in frame.dtypes):
        getLogger().warning(
            "the dataset is not kept: only single values can be kept, and this one has lists or preload_weight"
        )
        return
    tensors = {
        name: {field: torch.from_numpy(column.to_numpy()) for field, column in frame.items()}
        for name, frame in frames.items()
    }
    tensors["inter_feat"] = {field: column[order] for field, column in tensors["inter_feat"].items()}
    fields: dict[str, KeptField] = {
        field: {
            "type": kind.value,
            "source": FeatureSource(dataset.field2source[field]).value,
            "length": int(dataset.field2seqlen[field]),
            "buckets": dataset.field2bucketnum.get(field),
            "names": pack_words([str(name) for name in dataset.field2id_token[field]])
            if field in dataset.field2id_token
            else None,
        }
        for field, kind in dataset.field2type.items()
    }
    try:
        write(file, {"frames": tensors, "fields": fields})
    except CheckpointNotWritten as error:
        getLogger().warning(f"the dataset is not kept: {error}")


def write(file: Path, kept: Kept) -> None:
    """Write a file that :func:`find` reads; CheckpointNotWritten where that cannot be."""
    state_file.write(file, dict(kept), format=FORMAT)


def restore(dataset: Dataset, kept: Kept) -> None:
    """Fill an empty dataset with what :func:`keep` has written."""
    for name in _FRAMES:
        columns = kept["frames"].get(name)
        arrays = None if columns is None else {field: column.numpy() for field, column in columns.items()}
        setattr(dataset, name, None if arrays is None else pd.DataFrame(arrays, copy=False))
    for field, what in kept["fields"].items():
        dataset.field2type[field] = FeatureType(what["type"])
        dataset.field2source[field] = FeatureSource(what["source"])
        dataset.field2seqlen[field] = what["length"]
        if what["buckets"] is not None:
            dataset.field2bucketnum[field] = what["buckets"]
        if what["names"] is not None:
            names = np.array(unpack_words(what["names"]))
            dataset.field2id_token[field] = names
            dataset.field2token_id[field] = {name: number for number, name in enumerate(names)}
    dataset.feat_name_list = dataset._build_feat_name_list()
