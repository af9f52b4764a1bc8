"""A table of items: their titles and features, with a type for each column."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recbole_ssm.data.importing.columns import check_names, usual_column
from recbole_ssm.data.importing.names import bad_name, name_of, quoted
from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.report import Report
from recbole_ssm.errors import InputError, did_you_mean

KINDS = ("token", "token_seq", "float")
"""RecBole's types of columns that are made: one word, several words, a number."""

_LIST = "|"
"""What separates the values of a list in a text, as in ``Comedy|Drama``."""


@dataclass(frozen=True)
class Items:
    """A table of items, ready to be written.

    Attributes:
        names: of the items, (n,).
        columns: (n,) words as they stand in the file, by the names of the columns.
        kinds: the types of the columns.
    """

    names: list[str]
    columns: dict[str, list[str]]
    kinds: dict[str, str]

    @property
    def lines(self) -> str:
        """The atomic file."""
        head = ["item_id:token", *(f"{name}:{kind}" for name, kind in self.kinds.items())]
        rows = zip(map(quoted, self.names), *(map(quoted, column) for column in self.columns.values()), strict=True)
        return "\n".join(["\t".join(head), *map("\t".join, rows)]) + "\n"


def rows_from_0(rows: list[int]) -> list[str]:
    """Where rows of a DataFrame are."""
    return [f"row {row} (from 0)" for row in rows]


def read_items(
    frame: pd.DataFrame,
    item: str,
    options: Options,
    report: Report,
    places: Callable[[list[int]], list[str]] = rows_from_0,
) -> Items:
    """Read a table of items.

    Args:
        frame: a row for each item.
        item: the name that the column of items has in the interactions; it is looked for here first.
        options: ``items_id`` and ``items_columns`` may name the columns and their types.
        report: gets the rows that cannot be used.
        places: says where rows are.

    Returns:
        The items that have a name, each once.

    Raises:
        InputError: a column is missing or has another type, or a row cannot be used and is not to be skipped.
    """
    frame = frame.set_axis(check_names([str(name) for name in frame.columns]), axis=1).reset_index(drop=True)
    column = _id_column(list(frame.columns), item, options)
    kinds = _kinds(frame, column, options)
    words = frame[column].map(lambda value: name_of(value, column), na_action="ignore").fillna("").astype(str)
    unusable = words.map(lambda word: bad_name(word) is not None).to_numpy(bool)
    again = words.duplicated().to_numpy(bool) & ~unusable
    report.read += len(frame)
    for reason, wrong in (("no item that can be used", unusable), ("an item that has a row already", again)):
        report.add_bad(reason, places(np.flatnonzero(wrong)[:5].tolist()), int(wrong.sum()))
    report.check_bad(options)
    kept = frame[~(unusable | again)]
    columns = {_plain(name): _words(kept[name], kind) for name, kind in kinds.items()}
    return Items(words[kept.index].tolist(), columns, {_plain(name): kind for name, kind in kinds.items()})


def _id_column(names: list[str], item: str, options: Options) -> str:
    if options.items_id is not None:
        if options.items_id not in names:
            hint = did_you_mean(options.items_id, names) or "."
            raise InputError(f"items_id: there is no column {options.items_id!r}{hint} There are {', '.join(names)}")
        return options.items_id
    found = item if item in names else usual_column("item", names)
    if found is None:
        raise InputError(
            f"which column of the table of items names them cannot be told from {', '.join(names)}; name it with "
            "items_id"
        )
    return found


def _kinds(frame: pd.DataFrame, column: str, options: Options) -> dict[str, str]:
    """The type of each column but that of the names."""
    given = dict(options.items_columns or {})
    for name, kind in given.items():
        if name not in frame.columns:
            raise InputError(f"items_columns: there is no column {name!r}{did_you_mean(name, frame.columns)}")
        if kind not in KINDS:
            raise InputError(f"items_columns: the type of {name!r} must be one of {', '.join(KINDS)}, but is {kind!r}")
    found = {str(name): given.get(name) or _kind(frame[name]) for name in frame.columns if name != column}
    plain = [_plain(name) for name in found]
    taken = next((name for name in plain if plain.count(name) > 1 or name in ("item_id", "user_id", "timestamp")), None)
    if taken is not None:
        raise InputError(f"the table of items has another column that would be called {taken!r}; give it another name")
    return found


def _kind(column: pd.Series) -> str:
    """The type that the values of a column suggest."""
    there = column.dropna()
    if pd.api.types.is_bool_dtype(there.dtype):
        return "token"
    if pd.api.types.is_numeric_dtype(there.dtype):
        return "float"
    if there.map(lambda value: isinstance(value, list | tuple | np.ndarray)).any():
        return "token_seq"
    words = there.astype(str)
    words = words[words != ""]
    codes = words.str.match(r"0\d").any()
    if len(words) and not codes and pd.to_numeric(words, errors="coerce").notna().all():
        return "float"
    return "token_seq" if 10 * words.str.contains(_LIST, regex=False).sum() > len(words) else "token"


def _words(column: pd.Series, kind: str) -> list[str]:
    """The values of a column as fields of an atomic file; empty where there is none."""
    if kind == "float":
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        wrong = np.isnan(numbers) & column.notna().to_numpy() & (column.astype(str) != "").to_numpy()
        if wrong.any():
            raise InputError(f"column {column.name!r} of the items holds {column[wrong].iloc[0]!r}, which is no number")
        return [repr(number) if np.isfinite(number) else "" for number in numbers.tolist()]
    made = _list if kind == "token_seq" else _word
    return ["" if missing else made(value) for value, missing in zip(column, column.isna(), strict=True)]


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).replace("\0", "")


def _list(value: Any) -> str:
    """Words separated by spaces; a space within a word becomes an underscore."""
    parts = value.split(_LIST) if isinstance(value, str) else list(value)
    return " ".join(re.sub(r"\s+", "_", _word(part).strip()) for part in parts)


def _plain(name: str) -> str:
    """The name of a column as a header can hold it."""
    return re.sub(r'[\s:"]+', "_", name.strip())
