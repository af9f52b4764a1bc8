"""The parser of atomic files, of their headers, columns and lines. A value is missing only where the field is empty."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recbole.utils import FeatureType

from recbole_ssm.errors import InputError


def lines_of(file: str | Path, rows: Sequence[int], separator: str, encoding: str | None) -> list[int]:
    """Find the lines at which rows of :func:`read_columns` begin.

    Args:
        file: the atomic file.
        rows: the numbers of rows, from 0, ascending.
        separator: what separates columns.
        encoding: of the file.

    Returns:
        The numbers of the lines, from 1. Blank lines are no rows.
    """
    how: dict[str, Any] = {"delimiter": separator} if len(separator) == 1 else {"quoting": csv.QUOTE_NONE}
    found: list[int] = []
    row, begin = -1, 1  # the header is row -1
    most = csv.field_size_limit(2**31 - 1)
    try:
        with open(file, encoding=python_encoding(encoding), newline="") as content:
            lines = csv.reader(content, **how)
            while len(found) < len(rows):
                fields = next(lines)
                if len(fields) > 1 or (fields and fields[0].strip()):
                    found += [begin] if row == rows[len(found)] else []
                    row += 1
                begin = lines.line_num + 1
    finally:
        csv.field_size_limit(most)
    return found


def read_header(file: str | Path, separator: str, encoding: str | None) -> dict[str, str]:
    """Read the header of an atomic file.

    Args:
        file: the atomic file.
        separator: what separates columns.
        encoding: of the file; None for UTF-8.

    Returns:
        The names of the columns, in their order, and their types; a type is empty where the header has none.

    Raises:
        InputError: the file cannot be read, is empty, is not a text in this encoding, or has another separator; or a
            column's name has a quotation mark or is there twice.
    """
    with file_errors(file, encoding), open(file, encoding=python_encoding(encoding)) as lines:
        header = lines.readline().rstrip("\r\n")
    if not header:
        raise InputError(f"{file} is empty; its first line must be like user_id:token{separator}item_id:token")
    if '"' in header or "\0" in header:
        raise InputError(f"{file}: the header {header!r} must hold no quotation marks and no zero bytes")
    columns = [column.partition(":")[::2] for column in header.split(separator)]
    if len(columns) == 1 and header.count(":") > 1:
        other = next((mark for mark in ("\t", ",", ";", "|", "::", " ") if mark in header), None)
        raise InputError(
            f"{file}: the header {header!r} has no field_separator, which is {separator!r}"
            + ("" if other is None else f"; it seems to be {other!r}" + " (in yaml in double quotes)" * (other == "\t"))
        )
    names = [name for name, _ in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file}: the header names column {twice} more than once")
    return dict(columns)


def read_rows(file: str | Path, separator: str, encoding: str | None) -> list[list[str]]:
    """The fields of each line but the header, as words; a line may have fewer or more than the header.

    Quotation marks are those of CSV where they are so in the whole file, as in one that ``import`` has written. Else
    they are letters, as in titles of shops: ``"Pro" brush``, ``17" wig``.

    Args:
        file: the atomic file.
        separator: what separates columns.
        encoding: of the file; None for UTF-8.

    Returns:
        The rows. Blank lines are left out.

    Raises:
        InputError: the file cannot be read, or not in this encoding.
    """
    with file_errors(file, encoding), open(file, encoding=python_encoding(encoding), newline="") as lines:
        if _is_csv(file, separator, encoding):
            return [row for row in list(csv.reader(lines, delimiter=separator))[1:] if any(row)]
        next(lines, None)
        return [line.rstrip("\r\n").split(separator) for line in lines if line.strip()]


def _is_csv(file: str | Path, separator: str, encoding: str | None) -> bool:
    """Whether each field that begins with a quotation mark ends with one, in which others are double."""
    if len(separator) > 1:
        return False
    with open(file, encoding=python_encoding(encoding), newline="") as lines:
        try:
            for _ in csv.reader(lines, delimiter=separator, strict=True):
                pass
        except csv.Error:
            return False
    return True


def read_columns(
    file: str | Path,
    kinds: dict[str, str],
    separator: str,
    encoding: str | None,
    *,
    seq_separator: str = " ",
    marks_are_letters: bool = False,
) -> pd.DataFrame:
    """Read columns of an atomic file.

    Args:
        file: the atomic file.
        kinds: the wanted columns and their types, in the order of the header.
        separator: what separates columns.
        encoding: of the file; None for UTF-8.
        seq_separator: what separates the values of a list.
        marks_are_letters: whether quotation marks are letters where they are not those of CSV, as in
            :func:`read_rows`; else a value that begins with one must end with one.

    Returns:
        A table by the types of the columns. Empty fields are NaN, or empty arrays.

        - ``token``: strings.
        - ``float``: float64, exact to the last bit.
        - ``token_seq``: arrays of strings.
        - ``float_seq``: arrays of float64.

    Raises:
        InputError: the file cannot be read, a type is unknown, a value is not a number, or a line has more or fewer
            columns than the header.
    """
    names, quoting = _names(file, kinds), csv.QUOTE_MINIMAL
    with file_errors(file, encoding):
        if marks_are_letters and not _is_csv(file, separator, encoding):
            quoting = csv.QUOTE_NONE
        if b"\0" not in "\n".encode(encoding or "utf-8"):  # as in UTF-16
            _check_lines(file, separator.encode(encoding or "utf-8"), quotes=quoting != csv.QUOTE_NONE)
        frame = _read_words(file, names, separator, encoding, quoting)
    try:
        for name in names:
            if frame[name].dtype != np.float64:
                frame[name] = _converted(frame[name], seq_separator)
    except _NotANumber as error:
        line = lines_of(file, [error.args[0]], separator, encoding)[0]
        raise InputError(f"{file}, line {line}: {error}") from error
    return frame.set_axis(list(kinds), axis=1)


def _read_words(
    file: str | Path, names: dict[str, str], separator: str, encoding: str | None, quoting: int
) -> pd.DataFrame:
    """The columns as pandas reads them; ``names`` has their names in the header, and their types."""
    wanted: dict[str, Any] = {"usecols": list(names), "encoding": encoding, "keep_default_na": False, "na_values": [""]}
    try:
        if len(separator.encode()) > 1:
            return pd.read_csv(file, sep=re.escape(separator), dtype=str, engine="python", quoting=quoting, **wanted)
        return _read_quickly(file, names, sep=separator, engine="c", quoting=quoting, **wanted)
    except pd.errors.ParserError as error:
        raise InputError(
            f"{file} cannot be read: {error}. A value that begins with a quotation mark must end with one"
        ) from error


def _names(file: str | Path, kinds: dict[str, str]) -> dict[str, str]:
    """The type of each column, by its name in the header."""
    known = [kind.value for kind in FeatureType]
    for field, kind in kinds.items():
        if kind not in known:
            raise InputError(f"{file}: the type of column {field}:{kind} must be one of {', '.join(known)}")
    return {f"{field}:{kind}": kind for field, kind in kinds.items()}


def _read_quickly(file: str | Path, names: dict[str, str], **how: Any) -> pd.DataFrame:
    """Read columns with pandas' fast parser.

    Args:
        file: the atomic file.
        names: of the columns as in the header, and their types.
        **how: further arguments of ``pandas.read_csv``.

    Returns:
        The columns; those of ``float`` as float64 if all their values are numbers, else all columns as strings.
    """
    kinds = {name: np.float64 if kind == "float" else str for name, kind in names.items()}
    try:
        return pd.read_csv(file, dtype=kinds, float_precision="round_trip", **how)
    except pd.errors.ParserError:
        raise
    except ValueError as error:
        if isinstance(error, UnicodeError):
            raise
        return pd.read_csv(file, dtype=str, **how)


class _NotANumber(ValueError):
    """Its arguments are a row, its column of numbers, and the string that is there."""

    def __str__(self) -> str:
        _, column, value = self.args
        what = "not a number; leave the field empty where there is no number"
        if _is_date(value):
            what = "a date; write it in Unix seconds, as dataset/README.md of this package shows"
        return f"column {column} holds {value!r}, which is {what}"


def _converted(words: pd.Series, separator: str) -> pd.Series | list[NDArray[Any]]:
    """The values of a column of strings, whose name is ``field:type``."""
    _, _, kind = words.name.rpartition(":")
    if kind == "token":
        return words
    if kind == "float":
        wrong = pd.to_numeric(words, errors="coerce").isna() & words.notna()
        if wrong.any():
            raise _NotANumber(wrong.idxmax(), words.name, words[wrong.idxmax()])
        return words.astype(np.float64)
    lists = [[word for word in field.split(separator) if word] for field in words.fillna("")]
    if kind == "token_seq":
        return [np.array(each, dtype=str) for each in lists]
    return [_numbers(each, row, words) for row, each in enumerate(lists)]


def _is_date(word: str) -> bool:
    try:
        return not pd.isna(pd.to_datetime(word))
    except ValueError:
        return False


def _numbers(values: list[str], row: int, words: pd.Series) -> NDArray[np.float64]:
    try:
        return np.array([float(value) for value in values])
    except ValueError as error:
        raise _NotANumber(row, words.name, words[row]) from error


def python_encoding(encoding: str | None) -> str:
    """The encoding to open a file with: UTF-8 if none is named, and UTF-8 without its byte order mark."""
    return "utf-8-sig" if encoding is None or encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


@contextmanager
def file_errors(file: str | Path, encoding: str | None) -> Iterator[None]:
    """Raise InputError, which names the file, where it cannot be read within the context, or not in this encoding."""
    try:
        yield
    except UnicodeError as error:
        raise InputError(
            f"{file} is not a text in {encoding or 'UTF-8'} ({error}); write it in UTF-8, or name its encoding "
            "with --encoding=..., for example latin-1"
        ) from error
    except LookupError as error:
        raise InputError(f"encoding {encoding!r} is unknown; set --encoding=utf-8, or what the files have") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error


def _check_lines(file: str | Path, mark: bytes, *, quotes: bool) -> None:
    """Raise InputError for a file that pandas would misread without an error.

    That is a line with another number of columns than the header, a zero byte, and a carriage return within a line. A
    file with quotation marks is left to pandas: between them a separator separates nothing.

    Args:
        file: the file.
        mark: the separator, in the encoding of the file.
        quotes: whether separators may stand between quotation marks.
    """
    with open(file, "rb") as content:
        expected = content.readline().count(mark)
        content.seek(0)
        separators, lines, returns, quoted = -expected, -1, 0, False
        last = b"\n"
        while block := content.read(1 << 24):
            if b"\0" in block:
                raise InputError(f"{file} is not a text: it holds zero bytes; mend it, or set --encoding=utf-16")
            quoted = quoted or (quotes and b'"' in block)
            separators += block.count(mark)
            lines += block.count(b"\n")
            returns += block.count(b"\r") - block.count(b"\r\n") - (last[-1:] + block[:1] == b"\r\n")
            last = block
        if quoted:
            return
        if returns:
            raise InputError(f"{file}: {returns} carriage returns are within lines; lines must end with \\n or \\r\\n")
        lines += not last.endswith(b"\n")
        if separators == expected * lines:
            return
        content.seek(0)
        for number, line in enumerate(content, 1):
            if line.strip(b"\r\n") and line.count(mark) != expected:
                raise InputError(
                    f"{file}, line {number}: it has {line.count(mark) + 1} columns, and the header {expected + 1}"
                )
