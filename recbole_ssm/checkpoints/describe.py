"""What is in a checkpoint, for a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.layers import TransitionMemory


def describe(file: str | Path) -> dict[str, Any]:
    """What was trained, on what, and how well.

    Args:
        file: a checkpoint, of the best model or of a training as it stood.

    Returns:
        ``model``, ``dataset`` (name, sizes and hash of the training data), ``given`` (what differed from the
        defaults), ``epoch`` (from 1), ``valid_result`` of that epoch (None where it was not validated, or another is
        under way), ``parameters``, ``transition_memory`` (its transitions and bytes; None without one), ``versions``.

    Raises:
        CheckpointError: the file cannot be read.
    """
    state = checkpoint.read(file)
    names = {f"memory.{name}" for name in TransitionMemory.OF_DATA} & state["state_dict"].keys()
    memory = {name: state["state_dict"][name] for name in names}
    weights = {name: tensor for name, tensor in state["state_dict"].items() if name not in names}
    return {
        "model": state["config"]["model"],
        "dataset": state["dataset"],
        "given": state["given"],
        "epoch": state["epoch"] + 1,
        "valid_result": _valid_result(state),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "transition_memory": _size(memory),
        "versions": state["versions"],
    }


def _size(memory: dict[str, Tensor]) -> dict[str, int] | None:
    if not memory:
        return None
    return {
        "transitions": memory["memory.items"].numel(),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in memory.values()),
    }


def _valid_result(state: dict[str, Any]) -> dict[str, float] | None:
    under_way = state["training"].get("batches_done", 0) > 0
    return None if under_way or not state["history"] else state["history"][-1].get("valid_result")
