"""Unfinished trainings: which there are, and whether a configuration can resume one."""

from __future__ import annotations

from collections.abc import Collection
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.config.keys import defaults_of
from recbole_ssm.errors import CheckpointError

SUFFIX = ".latest.pth"

_MAY_DIFFER = {
    *("checkpoint_dir", "data_path", "dataset_save_path", "dataset_cache"),  # where files are
    *("trust_checkpoint", "trust_dataset"),
    *("device", "use_gpu", "gpu_id", "local_rank", "worker", "eval_batch_size"),  # what computes
    *("log_wandb", "wandb_project", "show_progress", "state", "console"),  # what is shown
}
"""Keys of the configuration that do not decide the result of a training."""


def find_latest(folder: str | Path, model: str, dataset: str, given: dict[str, Any] | None = None) -> Path | None:
    """The newest unfinished training of a model on a dataset; None if there is none.

    An empty file, which a process leaves that is killed as it begins, is skipped, and so is a damaged one.

    Args:
        folder: where to look.
        model: its name.
        dataset: its name.
        given: a configuration in plain values. The newest training that was begun with it comes first.

    Returns:
        The file ``NAME.latest.pth``.
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


def decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """The keys and values of a configuration that decide the result of a training."""
    return {key: value for key, value in settings.items() if key not in _MAY_DIFFER}


def differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """The :func:`decisive` keys in which two configurations (in plain values) differ, with both values in words."""
    before, now = decisive(_with_later_keys(before, now)), decisive(now)
    keys = sorted(before.keys() | now.keys(), key=lambda key: (key != "defaults", key))  # from which others follow
    return {key: f"{key} {before.get(key)!r} (now {now.get(key)!r})" for key in keys if before.get(key) != now.get(key)}


def _with_later_keys(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the keys that its version did not have, at the values with which they change nothing."""
    later = {key: value for key, value in defaults_of(now.get("model", "")).items() if key in now}
    if "defaults" in later:
        later["defaults"] = "paper"
    if "time_order" in now:
        later["time_order"] = checkpoint.time_order(before)
    return later | before


def check_configuration(
    file: str | Path, given: dict[str, Any], *, from_data: Collection[str] = (), trust: bool = False
) -> None:
    """Raise :class:`CheckpointError` if a training was begun with another configuration than the given one.

    Args:
        file: the checkpoint; one that RecBole wrote says too little, and is not checked.
        given: the configuration of this run, in plain values.
        from_data: the keys whose values nobody has given: they follow from the data.
        trust: as :func:`recbole_ssm.checkpoints.format.read` has it.
    """
    stored = checkpoint.read(file, trust=trust)["config"]
    if not isinstance(stored, dict):
        return
    if other := _other_settings(stored, given):
        why, same = "", "with the same configuration"
        if other.keys() <= set(from_data):
            why, same = (
                ", which nobody gave: they follow from the size of the data, and that has changed",
                "on the same data",
            )
        begun = ", ".join([*other.values()][:5])
        raise CheckpointError(f"{file} was begun with {begun}{why}; resume it {same}, or start anew without --resume")


def _other_settings(stored: dict[str, Any], given: dict[str, Any]) -> dict[str, str]:
    """By key why a training with the one configuration cannot go on with the other."""
    may_differ = {"epochs"} if given.get("lr_schedule") == "constant" else set()
    if given.get("lora_rank"):  # the hash of the folder is compared where the adapters are taken over
        may_differ.add("language_model")
    return {key: words for key, words in differences(stored, given).items() if key not in may_differ}
