"""Atomic files: are those that a run needs there, with the columns that it needs? And how plain ones are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from recbole.utils import ModelType

from recbole_ssm.errors import InputError


def find_datasets(data_path: str | Path) -> list[str]:
    """Names of the datasets in a folder: every ``name/name*.inter``."""
    folder = Path(data_path)
    if not folder.is_dir():
        return []
    return sorted(d.name for d in folder.iterdir() if d.is_dir() and any(d.glob(f"{d.name}*.inter")))


def check_atomic_files(config) -> None:
    """Look for the interaction files of ``config`` and read their headers.

    Raises:
        InputError: a folder, a file or a column is missing, or a column has the wrong type.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    if not folder.is_dir():
        found = find_datasets(folder.parent)
        raise InputError(
            f"dataset {name!r}: there is no folder {folder.resolve()}; set --data_path to the folder that "
            f"holds {name}/{name}.inter. Found there now: {', '.join(found) or 'no dataset'}; ml-100k is always there"
        )
    parts = config["benchmark_filename"]
    for file in [folder / f"{name}.inter"] if parts is None else [folder / f"{name}.{part}.inter" for part in parts]:
        if not file.is_file():
            raise InputError(f"dataset {name!r}: the file {file.resolve()} is missing")
        _check_columns(config, file)


def read_header(file: str | Path, separator: str, encoding: str) -> dict[str, str]:
    """Columns of an atomic file in their order, and their types; a type is empty where the header has none."""
    with open(file, encoding=encoding) as lines:
        header = lines.readline().rstrip("\r\n")
    return dict(column.partition(":")[::2] for column in header.split(separator))


def read_plain_columns(file: str | Path, kinds: dict[str, str], separator: str, encoding: str) -> pd.DataFrame:
    """Columns of an atomic file: words for the type ``token``, float64, to the last bit, for ``float``.

    Args:
        file: the atomic file.
        kinds: the types of the columns that are wanted, in the order of the header.
        separator: a single character.
        encoding: of the file.

    Raises:
        InputError: a value is no number, or lines differ in their number of columns.
    """
    names = {f"{field}:{kind}": np.float64 if kind == "float" else str for field, kind in kinds.items()}
    read = partial(pd.read_csv, file, delimiter=separator, usecols=list(names), encoding=encoding, engine="c")
    try:
        frame = read(dtype=names, float_precision="round_trip")
    except ValueError as error:
        _name_wrong_number(file, read(dtype=str)[[name for name, kind in names.items() if kind is not str]])
        raise InputError(f"{file} cannot be read: {error}") from error
    return frame.set_axis(list(kinds), axis=1)


def _name_wrong_number(file: str | Path, words: pd.DataFrame) -> None:
    for column in words:
        wrong = words[column][pd.to_numeric(words[column], errors="coerce").isna() & words[column].notna()]
        if len(wrong):
            raise InputError(f"{file}, line {wrong.index[0] + 2}: column {column} holds {wrong.iloc[0]!r}")


def _check_columns(config, file: Path) -> None:
    columns = read_header(file, config["field_separator"], config["encoding"])
    header = config["field_separator"].join(":".join(filter(None, column)) for column in columns.items())
    needed = [("USER_ID_FIELD", "token", "users"), ("ITEM_ID_FIELD", "token", "items")]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        needed.append(("TIME_FIELD", "float", "the order of interactions"))
    for key, kind, purpose in needed:
        field = config[key]
        if field not in columns:
            raise InputError(
                f"{file} has no column {field}:{kind}, which gives {purpose}; its header is {header!r}. "
                f"Add the column, or name the one to use with --{key}=..."
            )
        if columns[field] != kind:
            raise InputError(f"{file}: column {field} must be declared {field}:{kind}, not {field}:{columns[field]}")
        loaded = (config["load_col"] or {}).get("inter", "*") if config["load_col"] is not None else "*"
        if loaded != "*" and field not in loaded:
            raise InputError(
                f"load_col reads {loaded} from {file.name}, but column {field} is needed for {purpose}; add it"
            )
    untyped = [name for name, kind in columns.items() if not kind]
    if untyped:
        raise InputError(
            f"{file}: the header must name each column as name:type, separated by {config['field_separator']!r}, "
            f"but has {untyped[0]!r}"
        )
