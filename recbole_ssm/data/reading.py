"""How atomic files are read: their headers, and their columns, in which an empty field, and no word, is missing."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import recbole.data.dataset
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_ssm.errors import InputError


def dataset_class(config) -> type[Dataset]:
    """RecBole's class of datasets for the model of a configuration."""
    kinds = recbole.data.dataset
    of_type = {ModelType.SEQUENTIAL: kinds.SequentialDataset, ModelType.KNOWLEDGE: kinds.KnowledgeBasedDataset}
    return getattr(kinds, f"{config['model']}Dataset", None) or of_type.get(config["MODEL_TYPE"], Dataset)


class AtomicFiles:
    """Mixed into a dataset of RecBole's: the parser of its files, and what is done where a field is empty.

    RecBole's takes words such as ``NA`` and ``null`` for missing, drops other lines than those that have no user or
    item once both occur, and is slower.
    """

    def _load_feat(self, filepath, source) -> pd.DataFrame | None:
        load, leave = self._get_load_and_unload_col(source)
        if load == set():
            return None
        config = self.config
        header = read_header(filepath, config["field_separator"], config["encoding"])
        kinds = {
            field: kind
            for field, kind in header.items()
            if (load is None or field in load) and (leave is None or field not in leave)
        }
        if not kinds:
            getLogger().warning(f"no column of {filepath} is read")
            return None
        frame = read_columns(
            filepath, kinds, config["field_separator"], config["encoding"], seq_separator=config["seq_separator"]
        )
        for field, kind in kinds.items():
            longest = 1
            if kind.endswith("seq"):
                if limit := (config["seq_len"] or {}).get(field):
                    frame[field] = [values[:limit] for values in frame[field]]
                longest = max(map(len, frame[field]), default=0)
            if source != "link":  # whose columns have been read from other files
                self.set_field_property(field, FeatureType(kind), source, longest)
                if kind.startswith("float"):
                    self.field2bucketnum[field] = 2
        if source == FeatureSource.INTERACTION and self.time_field in kinds:
            check_times(config, filepath, frame[self.time_field])
        return frame

    def _normalize(self) -> None:
        """RecBole's, which fails where all values of a column of lists are the same."""
        fields = self.config["normalize_field"] or (self.float_like_fields if self.config["normalize_all"] else ())
        for field in fields:
            if self.field2type.get(field) != FeatureType.FLOAT_SEQ:
                continue
            values = np.concatenate([*self.field2feats(field)[0][field], []])
            if len(np.unique(values)) < 2:
                raise InputError(
                    f"column {field}:float_seq cannot be normalized: it has the same value everywhere; leave it out "
                    "with unload_col, or name the columns to normalize with normalize_field"
                )
        super()._normalize()

    def _filter_nan_user_or_item(self) -> None:
        for name, fields in (
            ("user", [self.uid_field]),
            ("item", [self.iid_field]),
            ("inter", [self.uid_field, self.iid_field]),
        ):
            feat = getattr(self, f"{name}_feat")
            if feat is None:
                continue
            missing = feat[fields].isna().any(axis=1)
            if missing.any():
                rows, file = feat.index[missing], Path(self.dataset_path) / f"{self.dataset_name}.{name}"
                lines = lines_of(file, rows[:10], self.config["field_separator"], self.config["encoding"])
                getLogger().warning(
                    f"{file.name}: {len(rows)} of {len(feat)} lines have no {' or no '.join(fields)}, "
                    f"and are left out: {', '.join(map(str, lines))}{' and others' * (len(rows) > 10)}"
                )
                feat.drop(feat.index[missing], inplace=True)


def lines_of(file: str | Path, rows: Sequence[int], separator: str, encoding: str | None) -> list[int]:
    """The numbers, from 1, of the lines in which rows of :func:`read_columns` begin; blank lines are no rows.

    Args:
        file: the atomic file.
        rows: from 0, in their order.
        separator: what stands between columns.
        encoding: of the file.
    """
    how = {"delimiter": separator} if len(separator) == 1 else {"quoting": csv.QUOTE_NONE}
    found, row, begin = [], -1, 1  # the header is row -1
    most = csv.field_size_limit(2**31 - 1)
    with open(file, encoding=with_mark(encoding), newline="") as content:
        lines = csv.reader(content, **how)
        while len(found) < len(rows):
            fields = next(lines)
            if len(fields) > 1 or (fields and fields[0].strip()):
                found += [begin] if row == rows[len(found)] else []
                row += 1
            begin = lines.line_num + 1
    csv.field_size_limit(most)
    return found


def read_header(file: str | Path, separator: str, encoding: str | None) -> dict[str, str]:
    """Columns of an atomic file in their order, and their types; a type is empty where the header has none.

    Raises:
        InputError: the file cannot be read, is empty or not a text in this encoding, is not divided by the separator,
            or a column's name is odd or stands there twice.
    """
    with naming_the_file(file, encoding), open(file, encoding=with_mark(encoding)) as lines:
        header = lines.readline().rstrip("\r\n")
    if not header:
        raise InputError(f"{file} is empty; its first line must be like user_id:token{separator}item_id:token")
    if '"' in header or "\0" in header:
        raise InputError(f"{file}: the header {header!r} must hold no quotation marks and no zero bytes")
    columns = [column.partition(":")[::2] for column in header.split(separator)]
    if len(columns) == 1 and header.count(":") > 1:
        other = next((mark for mark in ("\t", ",", ";", "|", "::", " ") if mark in header), None)
        raise InputError(
            f"{file}: the header {header!r} is not divided by field_separator, which is {separator!r}"
            + ("" if other is None else f"; it seems to be {other!r}" + " (in yaml in double quotes)" * (other == "\t"))
        )
    names = [name for name, _ in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file}: the header names column {twice} more than once")
    return dict(columns)


def read_columns(
    file: str | Path, kinds: dict[str, str], separator: str, encoding: str | None, *, seq_separator: str = " "
) -> pd.DataFrame:
    """Columns of an atomic file, by their types.

    Words for ``token``, NaN where the field is empty; float64, to the last bit, for ``float``, likewise; arrays of
    words for ``token_seq`` and of float64 for ``float_seq``, of no length where the field is empty.

    Args:
        file: the atomic file.
        kinds: the types of the columns that are wanted, in the order of the header.
        separator: what stands between columns.
        encoding: of the file.
        seq_separator: what stands between the values of a list.

    Raises:
        InputError: the file cannot be read, a type is unknown, a value is no number, or lines differ in their number
            of columns.
    """
    known = [kind.value for kind in FeatureType]
    for field, kind in kinds.items():
        if kind not in known:
            raise InputError(f"{file}: the type of column {field}:{kind} must be one of {', '.join(known)}")
    names = {f"{field}:{kind}": kind for field, kind in kinds.items()}
    wanted = {"usecols": list(names), "encoding": encoding, "keep_default_na": False, "na_values": [""]}
    with naming_the_file(file, encoding):
        if b"\0" not in "\n".encode(encoding or "utf-8"):  # as in UTF-16
            _check_lines(file, separator.encode(encoding or "utf-8"))
        try:
            if len(separator.encode()) > 1:
                frame = pd.read_csv(file, sep=re.escape(separator), dtype=str, engine="python", **wanted)
            else:
                frame = _read_quickly(file, names, sep=separator, engine="c", **wanted)
        except pd.errors.ParserError as error:
            raise InputError(
                f"{file} cannot be read: {error}. A value that begins with a quotation mark must end with one"
            ) from error
    try:
        for name in names:
            if frame[name].dtype != np.float64:
                frame[name] = _converted(frame[name], seq_separator)
    except _NoNumber as error:
        row, column, value = error.args
        line = lines_of(file, [row], separator, encoding)[0]
        what = "no number; where there is none, the field must be empty"
        if _is_date(value):
            what = "a date; write it in Unix seconds"
        raise InputError(f"{file}, line {line}: column {column} holds {value!r}, which is {what}") from error
    return frame.set_axis(list(kinds), axis=1)


def _read_quickly(file: str | Path, names: dict[str, str], **how) -> pd.DataFrame:
    """With numbers as such where they all are, and else as words."""
    kinds = {name: np.float64 if kind == "float" else str for name, kind in names.items()}
    try:
        return pd.read_csv(file, dtype=kinds, float_precision="round_trip", **how)
    except pd.errors.ParserError:
        raise
    except ValueError as error:
        if isinstance(error, UnicodeError):
            raise
        return pd.read_csv(file, dtype=str, **how)


class _NoNumber(ValueError):
    """Its arguments are a row, its column of numbers, and the word that stands there."""


def _converted(words: pd.Series, separator: str) -> pd.Series | list[np.ndarray]:
    """What a column, whose name is ``field:type``, holds; of numbers float64, with NaN for an empty field alone."""
    _, _, kind = words.name.rpartition(":")
    if kind == "token":
        return words
    if kind == "float":
        wrong = pd.to_numeric(words, errors="coerce").isna() & words.notna()
        if wrong.any():
            raise _NoNumber(wrong.idxmax(), words.name, words[wrong.idxmax()])
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


def _numbers(values: list[str], row: int, words: pd.Series) -> np.ndarray:
    try:
        return np.array([float(value) for value in values])
    except ValueError as error:
        raise _NoNumber(row, words.name, words[row]) from error


def with_mark(encoding: str | None) -> str:
    """UTF-8 if no encoding is named, and in UTF-8 the mark that Windows puts before a text is no part of it."""
    return "utf-8-sig" if encoding is None or encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


@contextmanager
def naming_the_file(file: str | Path, encoding: str | None) -> Iterator[None]:
    """Raise InputError where a file cannot be read, or not in this encoding."""
    try:
        yield
    except UnicodeError as error:
        raise InputError(
            f"{file} is no text in {encoding or 'UTF-8'} ({error}); name its encoding with --encoding=..., for "
            "example latin-1"
        ) from error
    except LookupError as error:
        raise InputError(f"encoding {encoding!r} is unknown; set --encoding=utf-8, or what the files have") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error


def _check_lines(file: str | Path, mark: bytes) -> None:
    """Raise InputError unless all lines have as many columns as the header, which pandas does not always notice.

    Neither does it notice zero bytes, at which it stops, and carriage returns within a line, at which it errs. A file
    with quotation marks is left to pandas: within them a separator separates nothing.

    Args:
        file: the file.
        mark: the separator, in the encoding of the file.
    """
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


def check_times(config, file: str | Path, times: pd.Series) -> None:
    """Raise InputError unless every line has a time where one is needed: RecBole would give it the mean of all.

    Args:
        config: the configuration.
        file: of interactions.
        times: their column of times, in the order of the lines.
    """
    if config["eval_args"]["order"] != "TO" or config["benchmark_filename"] is not None:
        return
    wrong = np.flatnonzero(~np.isfinite(times.to_numpy()))
    if len(wrong):
        (line,) = lines_of(file, wrong[:1], config["field_separator"], config["encoding"])
        raise InputError(
            f"{file}, line {line}: {config['TIME_FIELD']} is {times.iloc[wrong[0]]}, so that the interaction "
            "has no place in time"
            + (f" (and so in {len(wrong) - 1} other lines)" if len(wrong) > 1 else "")
            + "; give it a time, or remove it"
        )
