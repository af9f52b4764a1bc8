"""The configuration of a checkpoint's training, for using its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from recbole_ssm.checkpoints.format import time_order
from recbole_ssm.config import Config
from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.model.registry import MODELS
from recbole_ssm.ops.backends import check_backend
from recbole_ssm.system.resources import is_out_of_memory

_OF_TRAINING = {
    *("model", "dataset", "log_wandb", "causal_epochs", "worker", "init_from"),
    *("checkpoint_dir", "dataset_cache", "dataset_save_path", "save_dataset"),
    *("dataloaders_save_path", "save_dataloaders", "trust_checkpoint", "trust_dataset", "gpu_id"),
}
"""Keys of a checkpoint that do not hold when its model is used: they are about the training, about where its files
were, or about trust, which a file cannot claim for itself."""


def stored_config(state: dict[str, Any], dataset: str | None, command_line: Iterable[str], **changes: Any) -> Config:
    """The configuration of a checkpoint's training, without the keys that only a training needs.

    Args:
        state: what is in the checkpoint.
        dataset: another dataset, or None.
        command_line: arguments ``--key=value``, which override all others.
        **changes: keys and values that override those of the training.

    Returns:
        The configuration, with notes about arguments that have no effect.
    """
    dataset, command_line = dataset or state["config"]["dataset"], list(command_line)
    left_out = _OF_TRAINING | ({"teacher"} if state["config"]["model"] in MODELS else set())  # else a part of the model
    given = {key: value for key, value in state["given"].items() if key not in left_out}
    backend = given.get("ssm_backend")
    if usable_backend(backend, "cuda" if torch.cuda.is_available() else "cpu") != backend:
        given["ssm_backend"] = "auto"
        if not any(argument.startswith("--ssm_backend=") for argument in command_line):
            getLogger().warning(f"ssm_backend {backend} of the training is not there: auto computes")
    given["time_order"] = time_order(state["config"])  # whatever is the default now
    config = Config(state["config"]["model"], dataset, [given | changes], command_line=command_line, trains=False)
    for key in config.cmd_config_dict.keys() & config.passed_over.keys():
        getLogger().warning(config.passed_over[key])
    return config


def usable_backend(stored: Any, device: str) -> str | None:
    """The backend that a model computes on where nobody names another.

    Args:
        stored: ``ssm_backend`` of its training, from a checkpoint.
        device: kind of device, such as ``cpu``.

    Returns:
        The backend of the training; ``auto`` where that is not installed or does not compute on such a device.
    """
    if stored is None:
        return None
    try:
        check_backend(str(stored))
    except ValueError:
        return "auto"
    return "auto" if stored in ("mamba_ssm", "triton") and device != "cuda" else str(stored)


@contextmanager
def understood(
    file: str | Path,
    wrong: str = "cannot be used with these data: its settings or weights do not fit",
    remedy: str = "evaluate it with the settings and on the data that it was trained with",
) -> Iterator[None]:
    """Turn any error within into a :class:`CheckpointError`, since a checkpoint may hold anything.

    Args:
        file: the checkpoint's name.
        wrong: what an error says of the checkpoint.
        remedy: what to do about it.

    Raises:
        CheckpointError: there was an error. One for the user, or that memory ran out, stays as it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise CheckpointError(f"{file} {wrong} ({reason}); {remedy}") from error
