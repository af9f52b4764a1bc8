"""Vectors of items: from a file, and from columns of the ``.item`` file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.utils import FeatureType

from recbole_ssm.errors import InputError
from recbole_ssm.system.atomic_write import atomic_write
from recbole_ssm.system.extras import package

_BUCKETS = 256
"""Numbers for the values of one column of words. A value has the same place and sign in all data."""

Vectors = NDArray[np.float32]


def item_content(dataset: Any, vectors: str | None, features: Sequence[str]) -> Vectors:
    """The vectors of a dataset's items.

    The part of the file and that of each column of words have length 1 each, or 0 for items of which nothing is known.
    Numbers of a column are divided by the largest of them.

    Args:
        dataset: RecBole's or this package's.
        vectors: a file, see :func:`read_vectors`; None for none.
        features: columns of the ``.item`` file.

    Returns:
        (n_items, d), of zeros for the padding.

    Raises:
        InputError: the file or a column cannot be used.
    """
    names = [str(name) for name in dataset.field2id_token[dataset.iid_field]]
    parts = [] if not vectors else [_of_file(Path(vectors), names)]
    for column in features:
        parts.append(_of_column(dataset, column))
    found = np.concatenate(parts, axis=1)
    found[0] = 0
    if bare := int((~found[1:].any(1)).sum()):
        getLogger().warning(f"nothing is known of {bare:,} of {len(names) - 1:,} items beside their ids")
    return found


def read_vectors(file: Path) -> tuple[list[str], Vectors]:
    """Read a file of vectors.

    Args:
        file: an array (n, d) of numbers as numpy.save writes it, or with the ending ``.safetensors`` a file with one
            tensor (n, d). Beside it stands a text of the same name with the ending ``.txt``: the n names, a line each.

    Returns:
        Names and vectors.

    Raises:
        InputError: it cannot be read, or names and vectors do not fit.
    """
    texts = file.with_suffix(".txt")
    try:
        names = texts.read_text(encoding="utf-8").split("\n")
        read = _safetensor(file) if file.suffix == ".safetensors" else np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, UnicodeDecodeError) as error:
        raise InputError(
            f"item_vectors: {file} and {texts} must be an array (n, d) of numbers, as numpy.save or safetensors write "
            f"it, and the n names of its items, a line each: {error}"
        ) from error
    names = names[:-1] if names[-1] == "" else names
    if not isinstance(read, np.ndarray) or read.ndim != 2 or read.dtype.kind != "f" or not read.shape[1]:
        raise InputError(f"item_vectors: {file} must be an array (n, d) of floating-point numbers")
    with np.errstate(over="ignore"):
        read = read.astype(np.float32)
    if len(read) != len(names) or len(set(names)) != len(names):
        raise InputError(f"item_vectors: {file} has {len(read)} vectors, and {texts} {len(set(names))} different names")
    if not np.isfinite(read).all():
        raise InputError(f"item_vectors: {file} has numbers that are not finite in float32")
    return names, read


def as_embeddings(vectors: Vectors, width: int, std: float) -> Vectors:
    """Vectors of another width: their principal components.

    Args:
        vectors: (n, d), of zeros where nothing is known.
        width: of the embeddings.
        std: standard deviation of all their numbers.

    Returns:
        (n, width), of mean 0; NaN where nothing is known, and in columns beyond d.
    """
    there = vectors.any(1)
    known = vectors[there].astype(np.float64)
    known -= known.mean(0)
    axes = np.linalg.eigh(known.T @ known)[1][:, ::-1][:, :width]
    found = np.full((len(vectors), width), np.nan, np.float32)
    components = known @ axes
    found[there, : axes.shape[1]] = components * (std / max(float(components.std()), 1e-30))
    return found


def check_vectors_file(file: Path) -> None:
    """Raise InputError unless a file has an ending of vectors, and what writes that is installed."""
    if file.suffix not in (".npy", ".safetensors"):
        raise InputError(f"{file} must end in .safetensors or .npy")
    if file.suffix == ".safetensors":
        package("safetensors", "language", "a .safetensors file")


def write_vectors(file: Path, names: Sequence[str], vectors: Vectors) -> None:
    """Write what :func:`read_vectors` reads.

    Args:
        file: as there; the text of the names stands beside it.
        names: n different names of items, without line breaks.
        vectors: (n, d).
    """
    with atomic_write(file.with_suffix(".txt")) as out:
        out.write("".join(f"{name}\n" for name in names).encode())
    with atomic_write(file) as out:
        if file.suffix == ".npy":
            np.save(out, vectors, allow_pickle=False)
        else:
            out.write(package("safetensors.numpy", "language", "a .safetensors file").save({"vectors": vectors}))


def _safetensor(file: Path) -> NDArray[Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file  # numpy knows no bfloat16
    except ModuleNotFoundError as error:
        raise InputError("item_vectors: a .safetensors file needs pip install safetensors") from error
    try:
        found = load_file(file)
    except SafetensorError as error:
        raise ValueError(error) from error
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} tensors, and must have one")
    (tensor,) = found.values()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _of_file(file: Path, names: Sequence[str]) -> Vectors:
    known, vectors = read_vectors(file)
    row = {name: number for number, name in enumerate(known)}
    found = np.zeros((len(names), vectors.shape[1]), np.float32)
    there = [number for number, name in enumerate(names) if number > 0 and name in row]
    if not there:
        raise InputError(f"item_vectors: {file} knows no item of these data; its names are like {known[:1]}")
    found[there] = vectors[[row[names[number]] for number in there]]
    return _to_length_1(found)


def _of_column(dataset: Any, column: str) -> Vectors:
    """A column of words by the hashing trick (Weinberger et al., ICML 2009), or one of numbers as it is."""
    if dataset.item_feat is None or column not in dataset.item_feat:
        raise InputError(f"item_features: the .item file of {dataset.dataset_name!r} has no column {column!r}")
    values, kind = dataset.item_feat[column].numpy(), dataset.field2type[column]
    if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
        numbers = np.nan_to_num(values.reshape(len(values), -1)).astype(np.float32)
        return numbers / max(float(np.abs(numbers).max()), 1e-30)
    codes = np.zeros((len(dataset.field2id_token[column]), _BUCKETS), np.float32)
    for code, value in enumerate(dataset.field2id_token[column]):
        if code > 0:
            place, sign = divmod(int.from_bytes(hashlib.blake2b(str(value).encode(), digest_size=8).digest()), 2)
            codes[code, place % _BUCKETS] = 1 - 2 * sign
    found: Vectors = codes[values.reshape(len(values), -1)].sum(1)
    return _to_length_1(found)


def _to_length_1(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
