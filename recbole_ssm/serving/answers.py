"""Recommendations for one history, and what they are for users of a dataset made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from recbole.utils.argument_list import dataset_arguments

from recbole_ssm.config.command_line import key_of
from recbole_ssm.errors import InputError
from recbole_ssm.serving.everybody import Known, known_part
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.users import unknown_in_words

_OF_DATA = {"data_path", "dataset_cache", "time_order", *dataset_arguments} - {
    *("MAX_ITEM_LIST_LENGTH", "ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "POSITION_FIELD"),
}
"""Keys that decide what the histories of users are."""


class Answer(NamedTuple):
    """Recommendations, one a row."""

    fields: list[str]
    """Names of the columns, the last one ``score``."""
    rows: list[tuple]
    """A value for each column."""
    note: str
    """What the user should know of it, or nothing."""


def check_keys(keys: Sequence[str], verb: str = "recommend") -> None:
    """Raise InputError for an argument ``--key=value`` that does not decide what the histories are."""
    for argument in keys:
        if "=" not in argument or key_of(argument) not in _OF_DATA:
            raise InputError(
                f"{verb} has no use for {argument!r}; it takes --key=value, where keys are its own ({verb} --help) or "
                "about the data, such as data_path"
            )


def for_history(
    recommender: Recommender,
    history: Sequence[str],
    k: int,
    columns: Mapping[str, Sequence[Sequence[float]]] | None = None,
    *,
    skip_unknown: bool = False,
) -> Answer:
    """The best items after a history.

    Args:
        recommender: the model.
        history: names of items, the latest last.
        k: how many items.
        columns: see :meth:`recbole_ssm.serving.recommender.Recommender.recommend`.
        skip_unknown: pass over items that the model does not know.

    Returns:
        Item and score in each row.

    Raises:
        InputError: the model knows none of the items, or something else cannot be used.
    """
    note = unknown_in_words(recommender, [history]) if skip_unknown else ""
    everything = recommender.choice(None, None, 1)
    rows = recommender.ranked([history], k, everything, skip_unknown=skip_unknown, columns=columns)[0]
    return Answer([str(recommender.model.ITEM_ID), "score"], list(rows), note)


def known_of_users(
    recommender: Recommender, dataset: str | None, keys: Sequence[str], users: Sequence[str] | None
) -> Known:
    """The histories of users of a dataset, all that they have had; unknown items are passed over.

    Args:
        recommender: the model.
        dataset: name; None for the one of the training.
        keys: arguments ``--key=value`` about the data.
        users: names; None for all.

    Returns:
        What the model knows of them, for :func:`recbole_ssm.serving.everybody.recommend_to_all`.

    Raises:
        InputError: there is no such user, or the model knows none of the items.
    """
    read = recommender.user_histories(dataset, keys)
    return known_part(recommender, read if users is None else read.of(users))
