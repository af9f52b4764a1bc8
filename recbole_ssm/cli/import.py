"""``import``: a table of interactions becomes a data set."""

from __future__ import annotations

import json
import shlex
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from rich.markup import escape

from recbole_ssm.cli import types
from recbole_ssm.cli.output import print_table, write_output
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.system.terminal import Console, printable


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser("import", "Make a data set of your own table of interactions: one row for each, in any order.")
    text = "CSV, TSV, JSON lines or Parquet, plain or .gz; several files with the same columns are one table"
    found.take_words("files", "FILE", text)
    found.option("name", "NAME", "of the data set; default that of the first file")
    found.option("data_path", "FOLDER", "folder for the data set's folder; default dataset", default="dataset")
    found.option("user", "COLUMN", "the column of users; default a column with a usual name, which is printed")
    found.option("item", "COLUMN", "the column of items; likewise")
    text = "the column of times: seconds, milliseconds or microseconds, or ISO 8601 dates; likewise"
    found.option("time", "COLUMN", text)
    found.option("row_order", "True", "the rows are in order of time, and no column says it", type=types.switch)
    found.option("time_format", "FORMAT", "of dates that are not ISO 8601, for example %%d.%%m.%%Y".replace("%%", "%"))
    found.option("time_zone", "ZONE", "of dates that name none, for example Europe/Berlin; default UTC")
    text = "conditions on rows: event=purchase, event=view|cart, price>=10, time<2026-11-01; joined by ' and '"
    found.option("where", "CONDITION", text)
    text = "rows (the default): the same user, item and time count once; or keep, consecutive, first, last"
    found.option("duplicates", "POLICY", text)
    text = "the fewest interactions of a user and of an item; 5,3 for 5 of a user and 3 of an item"
    found.option("k_core", "5", text, type=_core)
    text = "seconds after which a user's next interaction begins another session; sessions are the users then"
    found.option("session_gap", "1800", text, type=types.seconds)
    found.option("items", "FILE", "a file with a row for each item: titles and features", type=Path)
    found.option("items_id", "COLUMN", "its column of items; default that of the interactions, or a usual name")
    text = "types of its columns, token, token_seq (words separated by |) or float; default by their values"
    found.option("items_columns", "NAME:TYPE,NAME:TYPE", text, type=_typed)
    found.option("bad_rows", "skip", "rows that cannot be used: refuse (the default) or skip")
    found.option("separator", ",", "between columns, or tab; default that of the first line", type=_separator)
    found.option(
        "quote", "SIGN", 'around values that hold a separator; default ", and none for no such sign', type=_quote
    )
    found.option("encoding", "NAME", "of the text, for example latin-1; default UTF-8")
    found.option("header", "NAME,NAME", "the columns of files whose first line is a row", type=types.names)
    found.option("format", "csv", "csv, jsonl or parquet; default by the ending of the name")
    found.option("memory", "2GB", "the most that reading and sorting take; the rest is on the disk", default="2GB")
    found.option("overwrite", "True", "replace an earlier import of this name", type=types.switch)
    found.option("report", "FILE", "file for the report as JSON; it is also beside the data", type=types.output_file)
    return found


_OF_TEXT = ("format", "separator", "quote", "encoding", "header")
_OTHERS = (
    *("user", "item", "time", "row_order", "time_format", "time_zone", "where", "duplicates", "k_core", "session_gap"),
    *("items_id", "items_columns", "bad_rows", "overwrite"),
)


def call(given: Namespace, keys: list[str]) -> None:
    """Import the files, and print the report."""
    from recbole_ssm.data.importing import TextFormat, import_files, shown

    def named(names: tuple[str, ...]) -> dict:
        return {name: getattr(given, name) for name in names if getattr(given, name) is not None}

    text = named(_OF_TEXT)
    text |= {"header": tuple(given.header)} if given.header else {}
    with Console(stderr=True).status("looking at the files") as status:  # nothing where that is no terminal
        found = import_files(
            given.files,
            given.name,
            items=given.items,
            path=given.data_path,
            text=TextFormat(**text),
            memory=given.memory,
            tell=lambda what: status.update(printable(escape(what))),
            **named(_OTHERS),
        )
    print_table(shown(found.report), None)
    keys = [f"--dataset={found.name}"] + [f"--data_path={given.data_path}"] * (given.data_path != "dataset")
    train = shlex.join(["python", "-m", "recbole_ssm", "--model=2Mamba4Rec", *keys])
    print(printable(f"The data set is in {found.folder}. Train on it: {train}"))
    if given.report is not None:
        write_output(given.report, (json.dumps(found.report, indent=1, ensure_ascii=False) + "\n").encode())


def _core(word: str) -> tuple[int, int]:
    try:
        numbers = [types.count(each) for each in word.split(",")]
    except ArgumentTypeError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ArgumentTypeError("must be one whole number of at least 1, or two separated by a comma")
    return numbers[0], numbers[-1]


def _typed(word: str) -> dict[str, str]:
    pairs = [part.rpartition(":") for part in word.split(",")]
    if not all(name and kind for name, _, kind in pairs):
        raise ArgumentTypeError("must be like genres:token_seq,price:float")
    return {name: kind for name, _, kind in pairs}


def _separator(word: str) -> str:
    return "\t" if word in ("tab", "\\t") else word


def _quote(word: str) -> str:
    return "" if word == "none" else word
