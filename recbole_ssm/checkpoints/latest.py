"""Trainings that were not brought to their end: which there are, and whether a configuration can go on with one."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.errors import CheckpointError

SUFFIX = ".latest.pth"

_MAY_DIFFER = {
    *("checkpoint_dir", "data_path", "dataset_save_path", "dataset_cache"),  # where things are
    *("trust_checkpoint", "trust_dataset"),
    *("device", "use_gpu", "gpu_id", "local_rank", "worker", "eval_batch_size"),  # what computes them
    *("log_wandb", "wandb_project", "show_progress", "state"),  # what is shown of them
}
"""Keys of the configuration that do not decide what a training comes to."""


def find_latest(folder: str | Path, model: str, dataset: str, given: dict | None = None) -> Path | None:
    """The newest training of a model on a dataset that was not brought to its end; None if there is none.

    With ``given``, a configuration in plain values, the newest of those that were begun with it, or else of all. A
    process that is killed as it begins leaves an empty file, which is passed over, and so is a damaged one.
    """
    files = [file for file in Path(folder).glob(f"{model}-*{SUFFIX}") if file.stat().st_size]
    files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    newest = None
    for file in files:
        try:
            stored = checkpoint.read(file)["config"]
        except CheckpointError as error:  # of whatever training it was
            getLogger().warning(f"{error}; it is passed over")
            continue
        if stored["dataset"] == dataset:
            if given is None or not _other_settings(stored, given):
                return file
            newest = newest or file
    return newest


def decisive(settings: dict) -> dict:
    """Those of a configuration's keys and values that decide what a training comes to."""
    return {key: value for key, value in settings.items() if key not in _MAY_DIFFER}


def differences(before: dict, now: dict) -> dict[str, str]:
    """Of two configurations in plain values, the :func:`decisive` keys where they differ, and how."""
    before, now = decisive(before), decisive(now)
    keys = sorted(before.keys() | now.keys())
    return {key: f"{key} {before.get(key)!r} (now {now.get(key)!r})" for key in keys if before.get(key) != now.get(key)}


def check_configuration(file: str | Path, given: dict, *, trust: bool = False) -> None:
    """Raise :class:`CheckpointError` if a training was begun with another configuration than the one that is given.

    Args:
        file: the checkpoint; one that RecBole wrote says too little, and is not checked.
        given: the configuration of this run, in plain values.
        trust: as :func:`recbole_ssm.checkpoints.format.read` has it.
    """
    stored = checkpoint.read(file, trust=trust)["config"]
    if not isinstance(stored, dict):
        return
    if other := _other_settings(stored, given):
        raise CheckpointError(
            f"{file} was begun with {', '.join(other[:5])}; resume it with the same configuration, or start anew "
            "without --resume"
        )


def _other_settings(stored: dict, given: dict) -> list[str]:
    """Why a training with the one configuration cannot go on with the other."""
    may_differ = {"epochs"} if given.get("lr_schedule") == "constant" else set()
    stored = stored | {"time_order": checkpoint.time_order(stored)}
    return [words for key, words in differences(stored, given).items() if key not in may_differ]
