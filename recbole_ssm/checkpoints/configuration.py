"""The configuration that a checkpoint's training had, for a use of its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

from recbole_ssm.checkpoints.format import time_order
from recbole_ssm.config import Config
from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.model.registry import MODELS

_OF_TRAINING = {
    *("model", "dataset", "log_wandb", "causal_epochs", "worker"),
    *("checkpoint_dir", "dataset_cache", "dataset_save_path", "save_dataset"),
    *("dataloaders_save_path", "save_dataloaders", "trust_checkpoint", "trust_dataset", "gpu_id"),
}
"""Keys that a checkpoint was given and that do not hold when it is tried: of the training, of where it was, or of what
is trusted, which a checkpoint, not trusted itself, cannot say."""


def stored_config(state: dict, dataset: str | None, command_line: Iterable[str], **changes) -> Config:
    """The configuration that a checkpoint's training had, but for what decides only that.

    Args:
        state: what is in the checkpoint.
        dataset: another dataset, or None.
        command_line: arguments ``--key=value`` of more importance.
        changes: keys and values of more importance than those of the training.
    """
    dataset = dataset or state["config"]["dataset"]
    left_out = _OF_TRAINING | ({"teacher"} if state["config"]["model"] in MODELS else set())  # else a part of the model
    given = {key: value for key, value in state["given"].items() if key not in left_out}
    given["time_order"] = time_order(state["config"])  # whatever is the default now
    config = Config(state["config"]["model"], dataset, [given | changes], command_line=command_line, trains=False)
    for key in config.cmd_config_dict.keys() & config.passed_over.keys():
        getLogger().warning(config.passed_over[key])
    return config


@contextmanager
def understood(file: str | Path) -> Iterator[None]:
    """Whatever goes wrong within, for a checkpoint's settings may say anything, is said in a sentence.

    Raises:
        CheckpointError: something was not as it should be.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{file} cannot be used with these data: its settings or weights do not fit ({reason}); evaluate it with "
            "the settings and on the data that it was trained with"
        ) from error
