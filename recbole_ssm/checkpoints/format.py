"""Checkpoint files: the trained model, or the training as it stands."""

from __future__ import annotations

from pathlib import Path

import torch

from recbole_ssm.checkpoints.contents import check_checkpoint
from recbole_ssm.system import state_file

FORMAT = "recbole-ssm checkpoint"


def write(path: str | Path, state: dict) -> None:
    """Put a training's state into a file; see :func:`recbole_ssm.system.state_file.write`."""
    state_file.write(path, state, format=FORMAT)


def read(path: str | Path, device: torch.device | str = "cpu", *, trust: bool = False) -> dict:
    """The state that :func:`write` put into a file; see :func:`recbole_ssm.system.state_file.read`."""
    return state_file.read(path, device, format=FORMAT, trust=trust, check=check_checkpoint)


def time_order(config: dict) -> str:
    """``time_order`` of the training whose configuration is in a checkpoint: RecBole's before it was a key."""
    return config.get("time_order", "recbole")
