"""Checkpoints of adapters (LoRA): they name the folder of the frozen language model, which may have been moved."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_ssm.errors import CheckpointError
from recbole_ssm.language.loading import check_folder, folder_hash
from recbole_ssm.language.making import check_there

_PARTS = "", "retriever.other_parameter."
"""Beginnings of names in ``other_parameter``: of the model itself, and of the retriever in it."""


def with_folder(states: Sequence[dict[str, Any]], folder: str | Path) -> list[dict[str, Any]]:
    """Checkpoints whose frozen language model lies in a folder now. The folder's hash is compared.

    Args:
        states: what is in each checkpoint.
        folder: of the frozen model of one of them at least; or several, separated by commas.

    Returns:
        The same; those whose model it is name this folder. Where none has adapters, a warning says so.

    Raises:
        InputError: a folder cannot be read.
        CheckpointError: it holds other files than any of the frozen models.
    """
    found, expected = list(states), {known for state in states for known in _hashes(state).values()}
    if not expected:
        getLogger().warning(f"language_model {folder} is not read: the checkpoint holds all weights of its model")
        return found
    for place in [Path(folder)] if Path(folder).is_dir() else map(Path, str(folder).split(",")):
        check_folder(place)
        own = folder_hash(place)
        if own not in expected:
            raise CheckpointError(
                f"language_model: {place} holds other files than the model that the adapters were trained with; name "
                "the folder of that one"
            )
        found = [_named(state, own, str(place.resolve())) for state in found]
    return found


def check_adapted(state: dict[str, Any]) -> None:
    """Raise :class:`FolderMissing`, before data are read, unless the model of a checkpoint's adapters is there."""
    if "" in _hashes(state) and not Path(state["config"].get("language_model") or "").is_dir():
        check_there(str(state["other_parameter"].get("base")))


def _hashes(state: dict[str, Any]) -> dict[str, str]:
    """The hash of each frozen model, by the beginning of its names."""
    kept = state.get("other_parameter") or {}
    return {part: str(kept[f"{part}base_hash"]) for part in _PARTS if f"{part}base_hash" in kept}


def _named(state: dict[str, Any], found: str, folder: str) -> dict[str, Any]:
    """The checkpoint with the folder of the frozen models of this hash."""
    parts = [part for part, expected in _hashes(state).items() if expected == found]
    if not parts:
        return state
    kept = state["other_parameter"] | {f"{part}base": folder for part in parts}
    own = {"language_model": folder} if "" in parts else {}
    return state | {"other_parameter": kept, **{key: state[key] | own for key in ("config", "given")}}
