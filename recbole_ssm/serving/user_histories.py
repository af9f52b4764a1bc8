"""The histories of a dataset's users, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_ssm.checkpoints.configuration import stored_config
from recbole_ssm.data import create_dataset
from recbole_ssm.data.order import chronological_column, chronological_history
from recbole_ssm.errors import InputError


class UserHistories(NamedTuple):
    """The histories of U users of a dataset, one after another."""

    users: NDArray[Any]
    """(U,) names."""
    borders: NDArray[np.int64]
    """(U + 1,), user u has the interactions ``borders[u]:borders[u + 1]``."""
    items: NDArray[np.int64]
    """(T,) numbers in the dataset."""
    item_names: NDArray[Any]
    """By number."""
    columns: dict[str, NDArray[np.float64]]
    """(T,) for each column that a model reads beside the items."""

    def of(self, names: Sequence[str]) -> UserHistories:
        """Those of some users; InputError for one that is not there."""
        place = {name: number for number, name in enumerate(self.users.tolist())}
        for name in names:
            if name not in place:
                raise InputError(f"the dataset has no user {name!r}; it may have too few interactions for its filters")
        rows = np.array([place[name] for name in names], dtype=np.int64)
        lengths = self.borders[rows + 1] - self.borders[rows]
        borders = np.concatenate([[0], lengths.cumsum()])
        index = np.arange(borders[-1]) + np.repeat(self.borders[rows] - borders[:-1], lengths)
        columns = {name: values[index] for name, values in self.columns.items()}
        return UserHistories(self.users[rows], borders, self.items[index], self.item_names, columns)


def read_user_histories(
    stored: Mapping[str, Any], dataset: str | None, command_line: Iterable[str], columns: Sequence[str]
) -> UserHistories:
    """The histories of all users of a dataset, read as a training read its data. Rare users and items are kept.

    Args:
        stored: what is in a checkpoint of ``config`` and ``given``.
        dataset: name; None for the one of the training.
        command_line: arguments ``--key=value`` about the data.
        columns: names of those that are wanted beside the items.

    Returns:
        The histories, the latest item last.

    Raises:
        InputError: the data cannot be read.
    """
    everybody = dict.fromkeys(("user_inter_num_interval", "item_inter_num_interval"), "[0,inf)")
    config = stored_config(dict(stored), dataset, command_line, **everybody)
    if config.benchmark_filename is not None:
        raise InputError(
            "benchmark_filename: such files have no whole histories; give one (--history), or with "
            "--benchmark_filename=None a dataset of one file"
        )
    data = create_dataset(config, packed=True, samples=False)
    items, start = chronological_history(data)
    return UserHistories(
        data.field2id_token[data.uid_field][1:],
        np.append(start.numpy()[1:], len(items)),
        items.numpy(),
        data.field2id_token[data.iid_field],
        {name: chronological_column(data, name) for name in columns},
    )


def read_histories(
    stored: Mapping[str, Any], dataset: str | None, command_line: Iterable[str], columns: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, dict[str, list[float]]]]:
    """As :func:`read_user_histories`, in names.

    Args:
        stored: see there.
        dataset: see there.
        command_line: see there.
        columns: see there.

    Returns:
        Item names by user name, the latest last. And for each of the columns its values by user name.
    """
    read = read_user_histories(stored, dataset, command_line, columns)
    borders, users = read.borders.tolist(), read.users.tolist()

    def by_user(flat: list[Any]) -> dict[str, list[Any]]:
        return {name: flat[borders[user] : borders[user + 1]] for user, name in enumerate(users)}

    return by_user(read.item_names[read.items].tolist()), {
        name: by_user(values.tolist()) for name, values in read.columns.items()
    }
