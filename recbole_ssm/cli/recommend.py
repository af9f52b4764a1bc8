"""``recommend``: what fits a history, or the users of a dataset."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError
from recbole_ssm.system.terminal import printable

if TYPE_CHECKING:
    from recbole_ssm.serving.recommender import Recommender

_OF_USERS = ("users", "dataset")
_OF_HISTORY = {
    "skip_unknown": "of users, unknown items are always skipped",
    "columns": "those of users are read from the dataset",
}


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser(
        "recommend",
        "Recommend items for one history, or for the users of a dataset after their whole histories.",
        keys="without --history: keys about the data, such as --data_path=FOLDER",
    )
    found.option("checkpoint", "FILE", "a file of a model of this package", needed=True)
    found.option(*types.LANGUAGE_MODEL)
    text = (
        "names of items, the latest last, separated by commas; no data are read then. For names that hold commas use "
        "recbole_ssm.Recommender in Python"
    )
    found.option("history", "ITEM,ITEM", text)
    text = "skip items of --history that the model does not know; without it they are an error"
    found.option("skip_unknown", "True", text, type=types.switch)
    text = (
        "for a model that reads columns beside the items: a Python dict with a list for each column, a value for each "
        "item of --history"
    )
    found.option("columns", "DICT", text, type=types.columns)
    found.option(
        "dataset", "NAME", "recommend to the users of this dataset in --data_path; default the one of the training"
    )
    found.option("users", "NAME,NAME", "names of users, separated by commas; default all", type=types.names)
    found.option("device", "NAME", "the device that computes, such as cuda; default cpu")
    found.option("k", "10", "how many items for each; default 10", type=types.count, default=10)
    text = "whether to recommend nothing of the history; default as in the training"
    found.option("filter_seen", "True", text, type=types.switch)
    text = (
        "file to write: .inter or .tsv in RecBole's atomic format, .csv, .json, .jsonl, .parquet, texts also with .gz; "
        "default the screen"
    )
    found.option("out", "FILE", text, type=types.output_file)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Print or write the recommendations."""
    from recbole_ssm.serving.answers import check_keys
    from recbole_ssm.serving.output import format_of
    from recbole_ssm.serving.recommender import Recommender
    from recbole_ssm.system import threads

    check_keys(keys)
    if given.history is not None:
        if others := [*keys, *(f"--{key}" for key in _OF_USERS if getattr(given, key) is not None)]:
            raise InputError(f"{others[0].partition('=')[0]} does not apply to --history, for which no data are read")
    else:
        for key, reason in _OF_HISTORY.items():
            if getattr(given, key) is not None:
                raise InputError(f"--{key} is for --history; {reason}")
    if given.out is not None:
        format_of(given.out)
    options = {"filter_seen": given.filter_seen, "language_model": given.language_model}
    recommender = Recommender(given.checkpoint, given.device or "cpu", **options)
    with threads.chosen(threads.HELPFUL):
        count = _for_users(given, keys, recommender) if given.history is None else _for_history(given, recommender)
    if given.out is not None:
        print(printable(f"{count} recommendations are in {given.out}"))


def _for_history(given: Namespace, recommender: Recommender) -> int:
    from recbole_ssm.serving.answers import for_history
    from recbole_ssm.serving.output import as_text, table_in

    history = given.history.split(",")
    if not given.history.strip(", "):
        raise InputError("--history names no item; give some, the latest last, such as --history=242,302")
    answer = for_history(recommender, history, given.k, given.columns, skip_unknown=bool(given.skip_unknown))
    _tell(answer.note)
    if given.out is None:
        print(printable(as_text(answer.fields, answer.rows)), end="")
    else:
        with table_in(given.out, answer.fields) as table:
            table.write(answer.rows)
    return len(answer.rows)


def _for_users(given: Namespace, keys: list[str], recommender: Recommender) -> int:
    """Some users at a time, under a bar with the time left."""
    from recbole_ssm.serving.answers import known_of_users
    from recbole_ssm.serving.everybody import recommend_to_all
    from recbole_ssm.serving.output import as_text, table_in
    from recbole_ssm.system.progress_bar import bar
    from recbole_ssm.system.terminal import Console

    user, item = str(recommender.model.USER_ID), str(recommender.model.ITEM_ID)
    known = known_of_users(recommender, given.dataset, keys, given.users)
    _tell(known.note)
    found = recommend_to_all(recommender, known, given.k)
    if given.out is None:
        rows = [(name, best, score) for _, some in found for name, _, best, score in some]
        print(printable(as_text([user, item, "score"], rows)), end="")
        return len(rows)
    done = count = 0
    with (
        table_in(given.out, [user, "rank", item, "score"]) as table,
        bar(Console(stderr=True), lambda: (done / len(known.users), f"{done} of {len(known.users)} users")),
    ):
        for reached, rows in found:
            table.write(rows)
            done, count = reached, count + len(rows)
    return count


def _tell(note: str) -> None:
    if note:
        print(printable(note), file=sys.stderr)
