"""``recommend``: what fits a history, or the users of a dataset."""

from __future__ import annotations

import sys
from argparse import Namespace

from recbole_ssm.cli import types
from recbole_ssm.cli.output import write_output
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError
from recbole_ssm.system.terminal import printable

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
    text = "file to write: .inter or .tsv in RecBole's atomic format, .csv, .json, .jsonl, .parquet; default the screen"
    found.option("out", "FILE", text, type=types.output_file)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Print or write the recommendations."""
    from recbole_ssm.serving.answers import check_keys, for_history, for_users
    from recbole_ssm.serving.output import atomic, format_of
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
    content = atomic if given.out is None else format_of(given.out)
    recommender = Recommender(given.checkpoint, given.device or "cpu", filter_seen=given.filter_seen)
    with threads.chosen(threads.HELPFUL):
        if given.history is None:
            answer = for_users(recommender, given.dataset, keys, given.users, given.k)
        else:
            history = given.history.split(",")
            answer = for_history(recommender, history, given.k, given.columns, skip_unknown=bool(given.skip_unknown))
    if answer.note:
        print(answer.note, file=sys.stderr)
    if given.out is None:
        print(printable(content(answer.fields, answer.rows).decode()), end="")
        return
    write_output(given.out, content(answer.fields, answer.rows))
    print(printable(f"{len(answer.rows)} recommendations are in {given.out}"))
