"""The histories of a dataset's users, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole_ssm.checkpoints.configuration import stored_config
from recbole_ssm.data import create_dataset
from recbole_ssm.data.order import chronological_column, chronological_history
from recbole_ssm.errors import InputError


def read_histories(
    stored: Mapping[str, Any], dataset: str | None, command_line: Iterable[str], columns: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, dict[str, list[float]]]]:
    """The histories of all users of a dataset, read as a training read its data. Rare users and items are kept.

    Args:
        stored: what is in a checkpoint of ``config`` and ``given``.
        dataset: name; None for the one of the training.
        command_line: arguments ``--key=value`` about the data.
        columns: names of those that are wanted beside the items.

    Returns:
        Item names by user name, the latest last. And for each of the columns its values by user name.

    Raises:
        InputError: the data cannot be read.
    """
    everybody = dict.fromkeys(("user_inter_num_interval", "item_inter_num_interval"), "[0,inf)")
    config = stored_config(dict(stored), dataset, command_line, **everybody)
    if config["benchmark_filename"] is not None:
        raise InputError(
            "benchmark_filename: such files have no whole histories; give one (--history), or with "
            "--benchmark_filename=None a dataset of one file"
        )
    data = create_dataset(config, packed=True, samples=False)
    items, start = chronological_history(data)
    names = data.field2id_token[data.iid_field][items.numpy()].tolist()
    users = data.field2id_token[data.uid_field].tolist()
    borders = [*start.tolist(), len(names)]

    def by_user(flat: list[Any]) -> dict[str, list[Any]]:
        return {users[user]: flat[borders[user] : borders[user + 1]] for user in range(1, len(users))}

    return by_user(names), {name: by_user(chronological_column(data, name).tolist()) for name in columns}
