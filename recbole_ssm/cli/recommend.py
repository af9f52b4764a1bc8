"""``recommend``: what fits a history, or the users of a dataset."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole.utils.argument_list import dataset_arguments

from recbole_ssm.cli.arguments import (
    help_of,
    own_arguments,
    read_count,
    read_names,
    read_output,
    read_switch,
    write_output,
)
from recbole_ssm.config.command_line import key_of
from recbole_ssm.errors import InputError
from recbole_ssm.serving.output import atomic, format_of
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.system import threads
from recbole_ssm.system.terminal import printable


def recommend_items(arguments: Sequence[str]) -> None:
    """The best items for a history, or for all users of a dataset, or some of them: after all that they have had.

    --history      names of items, the latest last, separated by commas (names that hold some: in Python); no data are
                   read then
    --skip_unknown pass over items of --history that the model does not know, which are an error otherwise
    --dataset      whose users, in --data_path; default the one of the training
    --columns      of --history, for a model that reads more than items: a dict in Python, of a list for each column
                   with a value for each item
    --users        names, separated by commas; default all
    --device       where it computes, cuda for example; default cpu
    --k            how many items for each; default 10
    --filter_seen  whether the items of the history are left out; default as in the training
    --out          file to write: .inter or .tsv in RecBole's atomic format, .csv, .json, .jsonl, .parquet; default the
                   screen
    """
    if {"-h", "--help"} & set(arguments):
        usage = (
            "--checkpoint=FILE (--history=ITEM,ITEM [--skip_unknown] [--columns=DICT] | [--users=NAME,NAME] "
            "[--dataset=NAME] [--data_path=FOLDER]) [--k=N] [--filter_seen=True] [--device=NAME] [--out=FILE]"
        )
        print(help_of(f"recommend {usage}", recommend_items.__doc__))
        return
    optional = ("history", "columns", "skip_unknown", "users", "dataset", "k", "filter_seen", "device", "out")
    given, rest = own_arguments(arguments, "recommend", ("checkpoint",), optional)
    for argument in rest:
        if "=" not in argument or key_of(argument) not in _OF_DATA:
            raise InputError(
                f"recommend has no use for {argument!r}; it takes --key=value, where keys are its own (recommend "
                "--help) or about the data, such as data_path"
            )
    filter_seen, skip_unknown = read_switch(given, "filter_seen"), read_switch(given, "skip_unknown")
    out, k = read_output(given, "out"), read_count(given, "k", 10)
    content = atomic if out is None else format_of(Path(given["out"]))
    recommender = Recommender(given["checkpoint"], given["device"] or "cpu", filter_seen=filter_seen)
    of = _of_users if given["history"] is None else _of_history
    with threads.chosen(threads.HELPFUL):
        fields, rows = of(recommender, given, rest, k, skip_unknown)
    if out is None:
        print(printable(content(fields, rows).decode()), end="")
        return
    write_output(out, content(fields, rows))
    print(printable(f"{len(rows)} recommendations are in {given['out']}"))


def _of_history(
    recommender: Recommender, given: dict, rest: Sequence[str], k: int, skip_unknown: bool | None
) -> tuple[list[str], list[tuple]]:
    """Names of the columns, and item and score of each that is recommended."""
    if others := [*rest, *(f"--{key}" for key in ("users", "dataset") if given[key] is not None)]:
        raise InputError(f"{others[0].partition('=')[0]} does not apply to --history, for which no data are read")
    history = given["history"].split(",")
    if skip_unknown:
        _tell_unknown(recommender, [history])
    columns = _read_columns(given["columns"])
    rows = recommender.recommend([history], k, skip_unknown=bool(skip_unknown), columns=columns)[0]
    return [recommender.model.ITEM_ID, "score"], rows


def _of_users(
    recommender: Recommender, given: dict, rest: Sequence[str], k: int, skip_unknown: bool | None
) -> tuple[list[str], list[tuple]]:
    """Names of the columns, and user, item and score of each that is recommended."""
    if skip_unknown is not None:
        raise InputError("--skip_unknown is for --history; of users, unknown items are always passed over")
    if given["columns"] is not None:
        raise InputError("--columns is for --history; those of users are read from the dataset")
    histories, columns = recommender.histories_and_columns(given["dataset"], rest)
    users = read_names(given, "users") if given["users"] is not None else list(histories)
    for user in users:
        if user not in histories:
            raise InputError(f"the dataset has no user {user!r}; it may have too few interactions for its filters")
    _tell_unknown(recommender, [histories[user] for user in users])
    values = {name: [of[user] for user in users] for name, of in columns.items()}
    found = recommender.recommend([histories[user] for user in users], k, skip_unknown=True, columns=values)
    rows = [(user, *item) for user, items in zip(users, found, strict=True) for item in items]
    return [recommender.model.USER_ID, recommender.model.ITEM_ID, "score"], rows


def _read_columns(words: str | None) -> dict[str, list[list[float]]]:
    """The values of ``--columns``, for one history."""
    try:
        given = ast.literal_eval(words or "{}")
        return {str(name): [[float(value) for value in values]] for name, values in given.items()}
    except (AttributeError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"--columns must be like {{'timestamp': [978300760, 978302109]}}, but is {words!r}") from error


_OF_DATA = {"data_path", "dataset_cache", "time_order", *dataset_arguments} - {
    *("MAX_ITEM_LIST_LENGTH", "ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "POSITION_FIELD"),
}
"""Keys that decide what the histories are that ``recommend`` reads."""


def _tell_unknown(recommender: Recommender, histories: Sequence[Sequence[str]]) -> None:
    """Say how much the model does not know of histories; it must know something."""
    known = [sum(item in recommender for item in history) for history in histories]
    everything = sum(map(len, histories))
    if not sum(known):
        raise InputError("the model knows none of the items; name a dataset with items of those that it was trained on")
    if sum(known) < everything:
        print(
            f"{everything - sum(known)} of {everything} interactions are of items that the model does not know, and "
            f"are passed over; {known.count(0)} of {len(known)} users have no others, and get none",
            file=sys.stderr,
        )
