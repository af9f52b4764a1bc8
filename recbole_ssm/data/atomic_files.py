"""Atomic files: are those that a run needs there, with the columns that it needs? And how plain ones are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
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


def check_atomic_files(config) -> list[Path]:
    """Look for the interaction files of ``config`` and read their headers.

    Returns:
        The files.

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
    files = [folder / f"{name}.inter"] if parts is None else [folder / f"{name}.{part}.inter" for part in parts]
    headers = []
    for file in files:
        if not file.is_file():
            raise InputError(f"dataset {name!r}: the file {file.resolve()} is missing")
        headers.append(_check_columns(config, file))
        if parts is not None:
            _check_presplit(config, files, headers)
    return files


def dataset_files(config) -> list[Path]:
    """All atomic files of the dataset, whether they are read or not."""
    return sorted(f for f in Path(config["data_path"]).iterdir() if f.name.startswith(f"{config['dataset']}."))


def _check_presplit(config, files: list[Path], headers: list[dict[str, str]]) -> None:
    """The last of so many files that are split already: has it lines, and the columns of the first one?"""
    file, encoding = files[len(headers) - 1], config["encoding"]
    with _naming_the_encoding(file, encoding), open(file, encoding=_with_mark(encoding)) as lines:
        next(lines)
        if not any(line.strip() for line in lines):
            raise InputError(f"{file} has no line but its header; training, validation and test take one or more")
    differing = sorted(headers[0].items() ^ headers[-1].items())
    if differing:
        field, kind = differing[0]
        raise InputError(
            f"{file} and {files[0].name} must have the same columns, and one of them alone has {field}:{kind}"
        )


def files_hash(config) -> str:
    """BLAKE2 of the names and contents of all atomic files of the dataset."""
    digest = hashlib.blake2b(digest_size=16)
    for file in dataset_files(config):
        digest.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def read_header(file: str | Path, separator: str, encoding: str | None) -> dict[str, str]:
    """Columns of an atomic file in their order, and their types; a type is empty where the header has none.

    Raises:
        InputError: the file is empty or not a text in this encoding, or a column's name is odd or stands there twice.
    """
    with _naming_the_encoding(file, encoding), open(file, encoding=_with_mark(encoding)) as lines:
        header = lines.readline().rstrip("\r\n")
    if not header:
        raise InputError(f"{file} is empty; its first line must be like user_id:token{separator}item_id:token")
    if '"' in header or "\0" in header:
        raise InputError(f"{file}: the header {header!r} must hold no quotation marks and no zero bytes")
    columns = [column.partition(":")[::2] for column in header.split(separator)]
    names = [name for name, _ in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file}: the header names column {twice} more than once")
    return dict(columns)


def read_plain_columns(file: str | Path, kinds: dict[str, str], separator: str, encoding: str | None) -> pd.DataFrame:
    """Columns of an atomic file: words for the type ``token``, float64, to the last bit, for ``float``.

    Args:
        file: the atomic file.
        kinds: the types of the columns that are wanted, in the order of the header.
        separator: a single character.
        encoding: of the file.

    Raises:
        InputError: a value is no number, or lines differ in their number of columns.
    """
    with _naming_the_encoding(file, encoding):
        if b"\0" not in "\n".encode(encoding or "utf-8"):  # as in UTF-16
            _check_lines(file, separator)
    names = {f"{field}:{kind}": np.float64 if kind == "float" else str for field, kind in kinds.items()}
    read = partial(pd.read_csv, file, delimiter=separator, usecols=list(names), encoding=encoding, engine="c")
    with _naming_the_encoding(file, encoding):
        try:
            frame = read(dtype=names, float_precision="round_trip")
        except pd.errors.ParserError as error:
            raise InputError(
                f"{file} cannot be read: {error}. A value that begins with a quotation mark must end with one"
            ) from error
        except ValueError as error:
            if isinstance(error, UnicodeError):
                raise
            _name_wrong_number(file, read(dtype=str)[[name for name, kind in names.items() if kind is not str]])
            raise InputError(f"{file} cannot be read: {error}") from error
    return frame.set_axis(list(kinds), axis=1)


def _with_mark(encoding: str | None) -> str:
    """UTF-8 if no encoding is named, and in UTF-8 the mark that Windows puts before a text is no part of it."""
    return "utf-8-sig" if encoding is None or encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


@contextmanager
def _naming_the_encoding(file: str | Path, encoding: str | None) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise InputError(
            f"{file} is no text in {encoding or 'UTF-8'} ({error}); name its encoding with --encoding=..., for "
            "example latin-1"
        ) from error
    except LookupError as error:
        raise InputError(f"encoding {encoding!r} is unknown; set --encoding=utf-8, or what the files have") from error


def _check_lines(file: str | Path, separator: str) -> None:
    """Raise InputError unless all lines have as many columns as the header, which pandas does not always notice.

    Neither does it notice zero bytes, at which it stops, and carriage returns within a line, at which it errs. A file
    with quotation marks is left to pandas: within them a separator separates nothing.
    """
    mark = separator.encode()
    with open(file, "rb") as content:
        expected = content.readline().count(mark)
        content.seek(0)
        separators, lines, returns, quoted = -expected, -1, 0, False
        last = b"\n"
        while block := content.read(1 << 24):
            if b"\0" in block:
                raise InputError(f"{file} is no text: it holds zero bytes; it is damaged, or needs --encoding=utf-16")
            quoted = quoted or b'"' in block
            separators += block.count(mark)
            lines += block.count(b"\n")
            returns += block.count(b"\r") - block.count(b"\r\n") - (last[-1:] + block[:1] == b"\r\n")
            last = block
        if quoted:
            return
        if returns:
            raise InputError(f"{file}: {returns} carriage returns end no line; lines must end with \\n or \\r\\n")
        lines += not last.endswith(b"\n")
        if separators == expected * lines:
            return
        content.seek(0)
        for number, line in enumerate(content, 1):
            if line.strip(b"\r\n") and line.count(mark) != expected:
                raise InputError(
                    f"{file}, line {number}: it has {line.count(mark) + 1} columns, and the header {expected + 1}"
                )


def _name_wrong_number(file: str | Path, words: pd.DataFrame) -> None:
    for column in words:
        wrong = words[column][pd.to_numeric(words[column], errors="coerce").isna() & words[column].notna()]
        if len(wrong):
            raise InputError(f"{file}, line {wrong.index[0] + 2}: column {column} holds {wrong.iloc[0]!r}")


def check_times(config, file: str | Path, times: pd.Series | None = None) -> None:
    """Raise InputError unless every line has a time: RecBole would give it the mean of all.

    Args:
        config: the configuration.
        file: of interactions.
        times: their column of times, in the order of the lines; None to read it.
    """
    field, separator = config["TIME_FIELD"], config["field_separator"]
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL or config["benchmark_filename"] is not None or len(separator) != 1:
        return
    if times is None:
        times = read_plain_columns(file, {field: "float"}, separator, config["encoding"])[field]
    times = times.to_numpy()
    wrong = np.flatnonzero(~np.isfinite(times))
    if len(wrong):
        raise InputError(
            f"{file}, line {wrong[0] + 2}: {field} is {times[wrong[0]]}, so that the interaction has no place in time"
            + (f" (and so in {len(wrong) - 1} other lines)" if len(wrong) > 1 else "")
            + "; give it a time, or remove it"
        )


def _check_columns(config, file: Path) -> dict[str, str]:
    """The header of a file of interactions, if it has what the run needs."""
    columns = read_header(file, config["field_separator"], config["encoding"])
    header = config["field_separator"].join(":".join(filter(None, column)) for column in columns.items())
    needed = [("USER_ID_FIELD", "", "token", "users"), ("ITEM_ID_FIELD", "", "token", "items")]
    if config["benchmark_filename"] is None:
        if config["eval_args"]["order"] == "TO":
            needed.append(("TIME_FIELD", "", "float", "the order of interactions"))
    elif config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        needed.append(("ITEM_ID_FIELD", config["LIST_SUFFIX"], "token_seq", "the history of each line"))
    for key, suffix, kind, purpose in needed:
        field = config[key] + suffix
        if field not in columns:
            raise InputError(
                f"{file} has no column {field}:{kind}, which gives {purpose}; its header is {header!r}. "
                f"Add the column, or name the one to use with --{'LIST_SUFFIX' if suffix else key}=..."
            )
        if columns[field] != kind:
            raise InputError(f"{file}: column {field} must be declared {field}:{kind}, not {field}:{columns[field]}")
        loaded = "*" if config["load_col"] is None else config["load_col"].get("inter", [])
        if loaded != "*" and field not in loaded:
            raise InputError(
                f"load_col reads {loaded} from {file.name}, and leaves out column {field}, which gives {purpose}; add "
                "it, or set --load_col=None to read all columns"
            )
        if field in ((config["unload_col"] or {}).get("inter") or []):
            raise InputError(
                f"unload_col leaves out column {field} of {file.name}, which gives {purpose}; remove it there"
            )
    untyped = [name for name, kind in columns.items() if not kind]
    if untyped:
        raise InputError(
            f"{file}: the header must name each column as name:type, separated by {config['field_separator']!r}, "
            f"but has {untyped[0]!r}"
        )
    return columns
