"""``export``: a folder with a model in one of several formats, and what it is in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recbole_ssm.config.keys import keys_of
from recbole_ssm.errors import InputError
from recbole_ssm.serving.export.graphs import graphs
from recbole_ssm.serving.export.programs import write_onnx, write_torch
from recbole_ssm.serving.index import ItemIndex
from recbole_ssm.serving.nearest import KINDS
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.vectors import item_vectors
from recbole_ssm.system.atomic_folder import atomic_folder
from recbole_ssm.system.atomic_write import atomic_write, write_json
from recbole_ssm.system.extras import package
from recbole_ssm.system.plain import plain
from recbole_ssm.system.version import __version__

_FORMAT = "recbole-ssm export 1"


def export(
    recommender: Recommender,
    folder: Path,
    format: str,
    k: int | None = None,
    index: str | None = None,
    histories: Iterable[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Write a model to a folder, with ``model.json``, which says what it is, and ``items.json``, the items' names.

    Args:
        recommender: the model, on the CPU.
        folder: is made, in an atomic write. One of an earlier export is replaced.
        format: a name in :data:`FORMATS`.
        k: for graphs, how many best items they give in place of all scores; None for all scores.
        index: for vectors, the kind of an index beside them, see :meth:`recbole_ssm.serving.index.ItemIndex.build`.
        histories: with which the index is measured, see there.

    Returns:
        What is in ``model.json``.

    Raises:
        InputError: there is no such format, a package is missing, the model does not fit the format, or the folder
            holds something else or cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"--format={format} must be one of {', '.join(FORMATS)}")
    if k is not None and format not in ("torch", "onnx"):
        raise InputError(f"--k is for the formats torch and onnx; {format} holds no scores")
    if k is not None and k >= len(recommender.items):
        raise InputError(f"--k={k} must be at most the number of items, {len(recommender.items) - 1}")
    if index is not None and (format != "vectors" or index not in ("auto", *KINDS)):
        raise InputError(f"--index={index} must be one of auto, {', '.join(KINDS)}, and is for --format=vectors")
    _check_replaceable(folder)
    try:
        with atomic_folder(folder) as new:
            about = _about(recommender) | FORMATS[format](recommender, new, k)
            if index is not None:
                made = ItemIndex.build(recommender, index, histories=histories)
                made.save(new / "items.index")
                about["index"] = asdict(made.about)
            write_json(new / "items.json", recommender.items)
            about["files"] = sorted([*(each.name for each in new.glob("[!.]*")), "model.json"])
            write_json(new / "model.json", about)
    except OSError as error:
        raise InputError(f"--out={folder} cannot be written: {error}") from error
    return about


def _check_replaceable(folder: Path) -> None:
    """Raise InputError where a folder, or a file, holds something else than an export."""
    about = folder / "model.json"
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not about.is_file() or _FORMAT.encode() not in about.read_bytes():
        raise InputError(f"--out={folder} is there and is no export, which would be replaced; name another folder")


def _about(recommender: Recommender) -> dict[str, Any]:
    model = recommender.model
    stored = recommender._stored["config"]
    keys = sorted(key.name for key in keys_of(type(model)))
    return {
        "format": _FORMAT,
        "version": __version__,
        "model": stored["model"],
        "dataset": stored["dataset"],
        "config": plain({key: stored.get(key) for key in keys}),
        "n_items": len(recommender.items),
        "columns": recommender.columns,
        "longest_history": recommender._longest,
        "filter_seen": recommender.filter_seen,
    }


def _weights(recommender: Recommender, folder: Path, k: int | None) -> dict[str, Any]:
    """All weights by name, and the counts of a transition memory; of equal ones in one memory the first."""
    safetensors = package("safetensors.torch", "export", "--format=safetensors")
    state, same = _once(recommender.model.state_dict())
    kept = recommender.model.other_parameter() or {}
    numbers = {name: value for name, value in kept.items() if not hasattr(value, "shape")}
    state |= {name: value.cpu().contiguous() for name, value in kept.items() if hasattr(value, "shape")}
    with atomic_write(folder / "weights.safetensors") as file:
        file.write(safetensors.save(state, metadata={"format": "pt"}))
    return {"numbers": plain(numbers)} | ({"same_weights": same} if same else {})


def _once(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by name, each once, and other names of them: a language model may write with what it reads."""
    found: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    known: dict[tuple[Any, ...], str] = {}
    for name, each in weights.items():
        first = known.setdefault((each.data_ptr(), each.shape, each.stride()) if each.numel() else (name,), name)
        if first != name:
            same[name] = first
        else:
            found[name] = each.detach().cpu().contiguous()
    return found, same


def _vectors(recommender: Recommender, folder: Path, k: int | None) -> dict[str, Any]:
    """A vector and a name for each item but the padding, row by row."""
    vectors = item_vectors(recommender.model)
    with atomic_write(folder / "vectors.npy") as file:
        np.save(file, vectors)
    write_json(folder / "names.json", recommender.items[1:])
    biased = recommender.model.item_bias is not None
    model, kept = recommender.model, {"repeat_bias": "repeat_bias", "transition_memory": "memory"}
    additions = [key for key, attribute in kept.items() if getattr(model, attribute) is not None]
    return {
        "query": "the hidden vector of a history" + (", and then 1" if biased else ""),
        "not_in_the_vectors": additions,
    }


def _graphs(write: Callable[..., tuple[str, float]]) -> Callable[..., dict[str, Any]]:
    def written(recommender: Recommender, folder: Path, k: int | None) -> dict[str, Any]:
        found, no_step = graphs(recommender, k)
        about: dict[str, Any] = {"graphs": {}}
        for graph in found:
            file, difference = write(graph, folder)
            about["graphs"][graph.name] = {
                "file": file,
                "inputs": {
                    name: {"type": str(each.dtype).removeprefix("torch."), "shape": ["any", *each.shape[1:]]}
                    for name, each in graph.inputs.items()
                },
                "outputs": graph.outputs,
                "largest_difference": difference,
            }
        return about | ({"no_step": no_step} if no_step else {})

    return written


FORMATS: dict[str, Callable[[Recommender, Path, int | None], dict[str, Any]]] = {
    "safetensors": _weights,
    "torch": _graphs(write_torch),
    "onnx": _graphs(write_onnx),
    "vectors": _vectors,
}
"""What ``--format`` may be, and what writes it."""
