"""Files as a source of rows: what format they have, and how DuckDB reads them."""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from recbole_ssm.data.importing.columns import check_names
from recbole_ssm.errors import InputError, did_you_mean

ENDINGS = {
    "csv": (".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".inter", ".item", ".psv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
"""The endings of names, by format; each also with ``.gz``, which Parquet does without."""

_HEAD = 1 << 20
"""Characters in which a header must end."""

LONGEST_LINE = 2_000_000
"""Bytes of a line. A longer one cannot be used."""

_BYTE_ORDER_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class TextFormat:
    """How text is read; for other formats only ``format`` counts.

    Attributes:
        format: ``csv``, ``jsonl`` or ``parquet``; None to tell it by the ending of the name.
        separator: between columns; None to tell it by the first line.
        quote: the mark around values that hold a separator; empty for none.
        encoding: of the text; None for UTF-8, or what a byte order mark says.
        header: the names of the columns, for files whose first line is a row.
    """

    format: str | None = None
    separator: str | None = None
    quote: str = '"'
    encoding: str | None = None
    header: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in ENDINGS:
            raise InputError(f"format must be one of {', '.join(ENDINGS)}, but is {self.format!r}")
        if self.separator is not None and not (0 < len(self.separator.encode()) <= 4 and "\n" not in self.separator):
            raise InputError(f"separator must be one to four bytes, such as a comma, but is {self.separator!r}")
        if len(self.quote.encode()) > 1 or (self.quote and self.quote == self.separator):
            raise InputError(f"quote must be one sign or empty, and not the separator, but is {self.quote!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError as error:
            raise InputError(f"encoding {self.encoding!r} is unknown; name one such as utf-8 or latin-1") from error
        check_names(list(self.header or ()))


@dataclass(frozen=True)
class Source:
    """Files of one format with the same columns.

    Attributes:
        files: as they were named.
        format: see :data:`ENDINGS`.
        columns: their names, in order.
        text: how text is read, with the separator found.
    """

    files: list[Path]
    format: str
    columns: list[str]
    text: TextFormat


def find_source(files: Sequence[str | Path], text: TextFormat) -> Source:
    """Look at files before they are read.

    Args:
        files: one or more of the same format and columns.
        text: what the caller says of them.

    Returns:
        The source.

    Raises:
        InputError: a file is missing, empty, a folder or an address, is not what its name says, or differs from others.
    """
    if not files:
        raise InputError("there is no file to import; name one, such as clicks.csv")
    paths = [_checked(file) for file in files]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is named twice")
    formats = {text.format or _format_of(path) for path in paths}
    if len(formats) > 1:
        found = " and ".join(sorted(formats))
        raise InputError(f"the files have different formats, {found}; import one format at a time")
    (form,) = formats
    for path in paths:
        _check_start(path, form)
    heads = [_head(path, form, text) for path in paths]
    columns, separator = heads[0]
    for path, (names, _) in zip(paths, heads, strict=True):
        if form == "jsonl":
            columns = list(dict.fromkeys([*columns, *names]))
        elif names != columns:
            raise InputError(
                f"{path} has the columns {', '.join(names)}, and {paths[0]} has {', '.join(columns)}; files that are "
                "imported together must have the same"
            )
    how = TextFormat(form, separator, text.quote, text.encoding, text.header)
    return Source(paths, form, check_names(columns), how)


def _checked(file: str | Path) -> Path:
    """The path of a file; InputError unless it is one that can be read and is not empty."""
    if re.match(r"\w+://", str(file)) and not Path(file).exists():
        raise InputError(f"{file} is an address; download the file, and import it from the disk")
    path = Path(file)
    if "\0" in str(file):
        raise InputError("the name of a file holds a zero byte")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name its files, such as {path}/*.csv")
    if not path.exists():
        there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"there is no file {path}{did_you_mean(path.name, there)}")
    if not path.is_file():
        raise InputError(f"{path} is no file, but a device or a pipe; write its content to a file first")
    try:
        empty = not path.open("rb").read(1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if empty:
        raise InputError(f"{path} is empty")
    return path


def _format_of(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    for form, endings in ENDINGS.items():
        if name.endswith(endings):
            return form
    known = ", ".join(ending for endings in ENDINGS.values() for ending in endings)
    raise InputError(
        f"the format of {path} cannot be told from its name, which ends in none of {known}; name it with format"
    )


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes."""
    with path.open("rb") as content:
        return content.read(2) == b"\x1f\x8b"


def _check_start(path: Path, form: str) -> None:
    with path.open("rb") as content:
        start = content.read(4)
    if (start == b"PAR1") != (form == "parquet"):
        raise InputError(f"{path} {'is no' if form == 'parquet' else 'is a'} Parquet file; name its format with format")
    if start[:2] == b"PK" or start == b"\x28\xb5\x2f\xfd" or start[:3] == b"BZh":
        raise InputError(f"{path} is an archive or a spreadsheet; unpack it, or save it as CSV")


def encoding_of(path: Path, given: str | None) -> str:
    """The encoding of a text: as given, or by its byte order mark; without either UTF-8."""
    if given is not None:
        return "utf-8-sig" if codecs.lookup(given).name == "utf-8" else given
    with gzip.open(path) if is_gzip(path) else path.open("rb") as content:
        start = content.read(4)
    return next((name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8-sig")


@contextmanager
def opened(path: Path, encoding: str | None, errors: str = "strict") -> Iterator[IO[str]]:
    """A text file, unpacked and decoded; InputError where that cannot be."""
    name = encoding_of(path, encoding)
    try:
        if is_gzip(path):
            with gzip.open(path, "rt", encoding=name, errors=errors, newline="") as lines:
                yield lines
        else:
            with path.open(encoding=name, errors=errors, newline="") as lines:
                yield lines
    except UnicodeError as error:
        raise InputError(
            f"{path} is not a text in {name.removesuffix('-sig')} ({error}); name its encoding, for example "
            "encoding=latin-1"
        ) from error
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _head(path: Path, form: str, text: TextFormat) -> tuple[list[str], str]:
    """The names of the columns of a file, and its separator."""
    if form == "parquet":
        return [], ","
    with opened(path, text.encoding, errors="replace") as lines:
        head = lines.read(_HEAD)
    if "\0" in head:
        raise InputError(f"{path} is not a text: it holds zero bytes; name its encoding, for example encoding=utf-16")
    if not head.strip():
        raise InputError(f"{path} is empty")
    if form == "jsonl":
        return _keys(path, head), ","
    separator = text.separator or _separator(path, head.splitlines()[0])
    if text.header is not None:
        return list(text.header), separator
    how: dict[str, Any] = {"quotechar": text.quote} if text.quote else {"quoting": csv.QUOTE_NONE}
    if len(separator) > 1:
        names = head.splitlines()[0].split(separator)
    else:
        names = next(csv.reader(head.splitlines(keepends=True), delimiter=separator, **how))
    if "" in names:
        raise InputError(f"{path}: column {names.index('') + 1} has no name in the first line; give it one")
    return names, separator


def _separator(path: Path, line: str) -> str:
    """The separator that is most often in the first line, outside of quotation marks."""
    plain = re.sub(r'"[^"]*"', "", line)
    best = max("\t,;|", key=plain.count)
    if best not in plain:
        raise InputError(
            f"{path}: the first line {line[:80]!r} has no tab, comma, semicolon or bar between columns; name what "
            "separates them with separator"
        )
    return best


def _keys(path: Path, head: str) -> list[str]:
    """The keys of the objects at the beginning of a file of JSON lines."""
    names: dict[str, None] = {}
    if head.lstrip()[0] == "[":
        raise InputError(f"{path} is a JSON list; write one object on each line")
    for line in islice(head.splitlines(), 1000):
        try:
            found = json.loads(line)
        except ValueError:
            continue  # a bad line is counted later
        if isinstance(found, dict):
            names |= dict.fromkeys(found)
    if not names:
        raise InputError(f"{path} has no line that is a JSON object; write one on each line")
    return list(names)


def rows_of(source: Source, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a text at which rows begin, from 1, and the rows' fields; blank lines are no rows.

    Args:
        source: of which the file is one.
        path: a file of CSV or JSON lines.

    Yields:
        Number and fields of each row, with that of the header left out.
    """
    separator, quote = source.text.separator or ",", source.text.quote
    with opened(path, source.text.encoding, errors="replace") as lines:
        if source.format == "jsonl" or len(separator) > 1:
            for number, line in enumerate(lines, 1):
                fields = [line.rstrip("\r\n")]
                if fields[0] and (number > 1 or source.format == "jsonl" or source.text.header is not None):
                    yield number, fields
            return
        how: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
        most = csv.field_size_limit(2**31 - 1)
        try:
            reader, begin, first = csv.reader(lines, delimiter=separator, **how), 1, source.text.header is None
            for fields in reader:
                if fields and not first:
                    yield begin, fields
                first &= not fields
                begin = reader.line_num + 1
        finally:
            csv.field_size_limit(most)


def pattern(path: Path) -> str:
    """A file's name as DuckDB takes it, which reads ``*?[`` as a pattern."""
    return glob.escape(str(path.absolute()))
