"""Users with their histories: of a table of clicks, of a data set, or as they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from recbole_ssm.data.importing import Options, read_clicks
from recbole_ssm.errors import InputError
from recbole_ssm.serving.names import read_history, shortened, whole_number
from recbole_ssm.serving.ranker import Ranked, Ranker

Histories: TypeAlias = Mapping[str, Sequence[str]] | pd.DataFrame
"""For each user the names of items, the latest last; or a table with a row for each click."""


class Naming(NamedTuple):
    """How a table calls users and items, and the types of these columns; None for words."""

    user: str
    item: str
    user_type: Any = None
    item_type: Any = None

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, user: str | None, item: str) -> Naming:
        """Columns of whole numbers become such again, also those that pandas holds as floats, objects or categories."""
        return cls(
            user or "session", item, *(None if name is None else _number_type(frame[name]) for name in (user, item))
        )


class Users(NamedTuple):
    """What is known of users."""

    histories: Mapping[str, Sequence[str]]
    """Names of items by the user's name, the latest last."""
    columns: Mapping[str, Mapping[str, Sequence[float]]]
    """For each column that the model reads its values by the user's name."""
    naming: Naming

    def of(self, names: Sequence[str]) -> tuple[list[Sequence[str]], dict[str, list[Sequence[float]]]]:
        """Histories and columns of some users; InputError for one that is not known."""
        for name in names:
            if name not in self.histories:
                raise InputError(
                    f"there is no user {name!r}; a history is a list of its own, such as [['item 1', 'item 2']]"
                )
        columns = {column: [values[name] for name in names] for column, values in self.columns.items()}
        return [self.histories[name] for name in names], columns


def users_of(
    given: Histories, naming: Naming, reading: Mapping[str, Any], columns: Sequence[str], time_field: str
) -> Users:
    """Users of a table of clicks, or as they are given.

    Args:
        given: the table, or the histories.
        naming: what columns of users and items are called, where it is no table.
        reading: options of the import, see :class:`recbole_ssm.data.importing.Options`. Columns that they name and the
            table lacks are guessed.
        columns: names of those that the model reads beside the items.
        time_field: the one of them that has the times.

    Returns:
        The users, in the order of their first rows.

    Raises:
        InputError: it cannot be read, or a table lacks a column that the model reads.
    """
    if not isinstance(given, pd.DataFrame):
        if not isinstance(given, Mapping):
            raise InputError(f"histories are a table of clicks, or lists of items by user, and not {shortened(given)}")
        if unnamed := [user for user in given if not is_user(user)]:
            raise InputError(f"names of users are words or whole numbers, and not {shortened(unnamed[0])}")
        return Users({user_name(user): read_history(items) for user, items in given.items()}, {}, naming)
    if others := [name for name in columns if name != time_field]:
        raise InputError(f"the model reads {others[0]} beside the items; give histories as lists, with columns=")
    names = {str(name) for name in given.columns}
    known = {key: value for key, value in reading.items() if key not in ("user", "item", "time") or value in names}
    try:
        table, roles = read_clicks(given, Options(**known))
    except InputError as error:
        raise InputError(
            f"the table cannot be read as clicks ({error}); call its columns user_id, item_id and timestamp, and drop "
            "rows that lack one"
        ) from error
    items = np.array(table.item_names, dtype=object)[table.items]
    borders = np.searchsorted(table.users, np.arange(len(table.user_names) + 1)).tolist()
    ranges = {name: slice(*borders[user : user + 2]) for user, name in enumerate(table.user_names)}
    return Users(
        {name: items[rows].tolist() for name, rows in ranges.items()},
        {column: {name: table.times[rows].tolist() for name, rows in ranges.items()} for column in columns},
        Naming.of_frame(given, roles.user, roles.item),
    )


def is_user(value: object) -> bool:
    """Whether something can be a user's name: a word, or a whole number."""
    return isinstance(value, str) or whole_number(value) is not None


def user_name(value: Any) -> str:
    """A user's name as a word, 7 for 7.0."""
    return whole_number(value) or str(value)


def unknown_in_words(recommender: Ranker, histories: Sequence[Sequence[str]]) -> str:
    """Words about the items of histories that the model does not know; InputError if it knows none."""
    known = [sum(item in recommender for item in history) for history in histories]
    everything = sum(map(len, histories))
    if everything and not sum(known):
        raise InputError("the model knows none of the items; give items of the data that it was trained on")
    if sum(known) == everything:
        return ""
    return (
        f"{everything - sum(known)} of {everything} interactions are of items that the model does not know, and are "
        f"passed over; {known.count(0)} of {len(known)} users have no others, and get none"
    )


def as_table(users: Sequence[str], found: Ranked, naming: Naming) -> pd.DataFrame:
    """Recommendations as a table.

    Args:
        users: R names.
        found: names and scores of items for each, the best first.
        naming: what the columns are called.

    Returns:
        A row for each recommendation, with user, item, ``score`` and ``rank``, which begins at 1.
    """
    count = [len(items) for items in found]
    of_users = np.repeat(np.array(users, dtype=object), count)
    items = np.array([name for each in found for name, _ in each], dtype=object)
    return pd.DataFrame(
        {
            naming.user: _typed(of_users, naming.user_type),
            naming.item: _typed(items, naming.item_type),
            "score": np.array([score for each in found for _, score in each], dtype=np.float64),
            "rank": np.concatenate([np.arange(1, n + 1) for n in count] or [np.zeros(0, int)]),
        }
    )


def _number_type(column: pd.Series) -> Any:
    """The type of a column of whole numbers; None for words."""
    kind = column.cat.categories.dtype if isinstance(column.dtype, pd.CategoricalDtype) else column.dtype
    if getattr(kind, "kind", "O") in "iuf":
        return kind
    return np.int64 if pd.api.types.infer_dtype(column) == "integer" else None


def _typed(names: Any, kind: Any) -> Any:
    try:
        return names if kind is None else pd.array(names.astype(np.int64), dtype=kind)
    except (OverflowError, ValueError):  # the model knows other names, too
        return names
