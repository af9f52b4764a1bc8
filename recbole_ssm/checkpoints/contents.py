"""The keys of a checkpoint, and what each holds."""

from __future__ import annotations

from typing import Any

import torch

from recbole_ssm.checkpoints.popularity import check_popularity
from recbole_ssm.checkpoints.reading import check_reading
from recbole_ssm.system.bounded import Unusable

_KINDS: dict[str, type] = {
    **dict.fromkeys(("versions", "config", "given", "dataset", "state_dict", "other_parameter"), dict),
    **dict.fromkeys(("optimizer", "training"), dict),
    **dict.fromkeys(("item_vocabulary", "history"), list),
    **dict.fromkeys(("epoch", "cur_step"), int),
    "best_valid_score": float,
}
_KINDS_WITHIN: dict[str, dict[str, type]] = {
    "config": {"model": str, "dataset": str},
    "dataset": {"name": str, "users": int, "items": int, "samples": int, "hash": str},
    "versions": {"recbole_ssm": str},
}
_KINDS_OF_TRAINING: dict[str, type] = {"batches_done": int, "loss": float, "epoch_start": dict, "random": list}
"""What ``training`` holds, unless it is empty."""
_KINDS_OF_EPOCH = {"epoch": int, "train_loss": float, "train_seconds": float}
"""What each epoch of ``history`` holds. A validated one has ``valid_result`` and ``valid_seconds``, too, and
``valid_score`` unless an earlier version wrote it."""
_KINDS_OF_PARTS = {"item_vocabulary": str, "history": dict, "state_dict": torch.Tensor, "versions": str}


def check_checkpoint(state: dict[str, Any]) -> None:
    """Raise :class:`Unusable` unless all keys of a checkpoint are there, and each is of its kind."""
    _check_kinds(state, _KINDS, "")
    for key, kinds in _KINDS_WITHIN.items():
        _check_kinds(state[key], kinds, f"{key}: ")
    if state["training"]:
        _check_kinds(state["training"], _KINDS_OF_TRAINING, "training: ")
    for key, kind in _KINDS_OF_PARTS.items():
        parts = state[key].values() if isinstance(state[key], dict) else state[key]
        if not all(isinstance(part, kind) for part in parts):
            raise Unusable(f"{key} holds something else than {kind.__name__}s")
    _check_history(state)
    check_popularity(state)
    check_reading(state)
    for key in ("config", "given", "state_dict", "other_parameter"):
        if not all(isinstance(name, str) for name in state[key]):
            raise Unusable(f"{key} has a key that is no string")
    if _has_tensor([state[key] for key in ("versions", "config", "given", "dataset", "history")]):
        raise Unusable("a setting is a tensor")


def _check_history(state: dict[str, Any]) -> None:
    for epoch in state["history"]:
        _check_kinds(epoch, _KINDS_OF_EPOCH, "history: ")
        if "valid_score" in epoch:
            _check_kinds(epoch, {"valid_score": float, "valid_result": dict}, "history: ")
        if "valid_result" in epoch:
            _check_kinds(epoch, {"valid_result": dict, "valid_seconds": float}, "history: ")
            _check_kinds(epoch["valid_result"], dict.fromkeys(epoch["valid_result"], float), "history: valid_result: ")
    if state["epoch"] < len(state["history"]) - 1:
        raise Unusable("history has more epochs than were trained")


def _has_tensor(value: object) -> bool:
    if isinstance(value, dict | list | tuple):
        return any(map(_has_tensor, value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor)


def _check_kinds(values: dict[str, Any], kinds: dict[str, type], where: str) -> None:
    for key, kind in kinds.items():
        fits = isinstance(values.get(key), int | float if kind is float else kind)
        if not fits or isinstance(values[key], bool):
            raise Unusable(f"{where}{key} is missing, or no {kind.__name__}")
