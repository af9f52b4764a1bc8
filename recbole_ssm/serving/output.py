"""Recommendations as files, in the format that a file's name says, written a part at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from recbole_ssm.errors import InputError
from recbole_ssm.system.atomic_write import atomic_write

_NUMBERS = {"score": "float", "rank": "float"}
"""The types of columns of numbers, as RecBole calls them; others are words."""


class Table:
    """A table that is written row by row. ``score``, if it is there, is the last column.

    Args:
        file: where it goes.
        fields: names of the columns.
    """

    def __init__(self, file: BinaryIO, fields: Sequence[str]):
        self.file, self.fields = file, list(fields)

    def write(self, rows: Sequence[tuple]) -> None:
        """Add rows, with a value for each column."""
        raise NotImplementedError

    def end(self) -> None:
        """Write what ends the file."""


class Csv(Table):
    """Values separated by commas, under their names."""

    delimiter = ","

    def __init__(self, file: BinaryIO, fields: Sequence[str]):
        super().__init__(file, fields)
        self._separated([self.head()])

    def head(self) -> list[str]:
        """The first line."""
        return self.fields

    def write(self, rows: Sequence[tuple]) -> None:
        """See :class:`Table`."""
        self._separated([(*names, f"{score:.6g}") for *names, score in rows])

    def _separated(self, lines: Sequence[Sequence[Any]]) -> None:
        written: list[str] = []  # line by line, which end in \r\n, so that names with one of the two are quoted
        csv.writer(SimpleNamespace(write=written.append), delimiter=self.delimiter).writerows(lines)
        self.file.write("".join(f"{line[:-2]}\n" for line in written).encode())


class Atomic(Csv):
    """RecBole's atomic format: columns separated by tabs, and their types behind their names."""

    delimiter = "\t"

    def head(self) -> list[str]:
        """The first line."""
        return [f"{field}:{_NUMBERS.get(field, 'token')}" for field in self.fields]


class JsonLines(Table):
    """A record on each line."""

    def write(self, rows: Sequence[tuple]) -> None:
        """See :class:`Table`."""
        self.file.write("".join(f"{line}\n" for line in self.records(rows)).encode())

    def records(self, rows: Sequence[tuple]) -> Iterator[str]:
        """Each row as JSON."""
        return (json.dumps(dict(zip(self.fields, row, strict=True)), ensure_ascii=False) for row in rows)


class Json(JsonLines):
    """A list of records."""

    def __init__(self, file: BinaryIO, fields: Sequence[str]):
        super().__init__(file, fields)
        self._before = "[\n"

    def write(self, rows: Sequence[tuple]) -> None:
        """See :class:`Table`."""
        for record in self.records(rows):
            self.file.write(f"{self._before}{record}".encode())
            self._before = ",\n"

    def end(self) -> None:
        """See :class:`Table`."""
        self.file.write(b"\n]\n" if self._before == ",\n" else b"[\n\n]\n")


class Parquet(Table):
    """Parquet, by pyarrow; what has been written takes no memory from :attr:`ROWS` rows on."""

    ROWS = 1 << 18
    """Of a row group, at least."""

    def __init__(self, file: BinaryIO, fields: Sequence[str]):
        import pyarrow
        import pyarrow.parquet

        super().__init__(file, fields)
        self._arrow, kinds = pyarrow, {"score": pyarrow.float64(), "rank": pyarrow.int32()}
        self._schema = pyarrow.schema([(field, kinds.get(field, pyarrow.string())) for field in fields])
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema)
        self._rows: list[tuple] = []

    def write(self, rows: Sequence[tuple]) -> None:
        """See :class:`Table`."""
        self._rows.extend(rows)
        if len(self._rows) >= self.ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [[] for _ in self.fields]
        arrays = [self._arrow.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))
        self._rows = []

    def end(self) -> None:
        """See :class:`Table`."""
        self._flush()
        self._writer.close()


_FORMATS: dict[str, type[Table]] = {
    ".inter": Atomic,
    ".tsv": Atomic,
    ".csv": Csv,
    ".json": Json,
    ".jsonl": JsonLines,
    ".parquet": Parquet,
}


def format_of(file: Path) -> type[Table]:
    """The format that the ending of a file's name stands for; ``.gz`` may follow that of a text.

    Args:
        file: where recommendations will be written.

    Returns:
        The kind of table.

    Raises:
        InputError: the ending of the name is unknown, or its format needs a package that is not there.
    """
    packed = file.suffix.lower() == ".gz"
    ending = (file.with_suffix("") if packed else file).suffix.lower()
    if ending not in _FORMATS or (packed and ending == ".parquet"):
        raise InputError(
            f"--out={file} must end in one of {', '.join(_FORMATS)}, which says its format; texts may end in .gz too"
        )
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(f"--out={file} needs pyarrow; pip install pyarrow, or write .csv or .jsonl")
    return _FORMATS[ending]


@contextmanager
def table_in(path: Path, fields: Sequence[str]) -> Iterator[Table]:
    """A table that takes the place of a file when the context ends without an error.

    Args:
        path: the file; its ending says the format.
        fields: names of the columns.

    Yields:
        The table to write to.

    Raises:
        InputError: the file cannot be written, or as :func:`format_of`.
    """
    kind = format_of(path)
    try:
        with atomic_write(path) as file:
            if path.suffix.lower() == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                    yield from _filled(kind(packed, fields))  # type: ignore[arg-type]
            else:
                yield from _filled(kind(file, fields))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _filled(table: Table) -> Iterator[Table]:
    try:
        yield table
    except BaseException:
        with suppress(Exception):
            table.end()  # pyarrow would do so later, when the file is closed
        raise
    table.end()


def as_text(fields: Sequence[str], rows: Sequence[tuple]) -> str:
    """Rows in RecBole's atomic format, for the screen."""
    text = io.BytesIO()
    Atomic(text, fields).write(rows)
    return text.getvalue().decode()
