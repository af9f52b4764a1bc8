"""Checkpoint files: the trained model, or the training as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recbole_ssm.checkpoints.contents import check_checkpoint
from recbole_ssm.system import state_file

FORMAT = "recbole-ssm checkpoint"


def write(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training's state to a file; see :func:`recbole_ssm.system.state_file.write`."""
    state_file.write(path, state, format=FORMAT)


def read(path: str | Path, device: torch.device | str = "cpu", *, trust: bool = False) -> dict[str, Any]:
    """The state that :func:`write` put into a file; see :func:`recbole_ssm.system.state_file.read`."""
    return state_file.read(path, device, format=FORMAT, trust=trust, check=check_checkpoint)


def time_order(config: dict[str, Any]) -> str:
    """``time_order`` of a checkpoint's configuration: RecBole's if the checkpoint is older than the key."""
    return config.get("time_order", "recbole")
