"""Recommendations as files, in the format that a file's name says."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from recbole_ssm.errors import InputError


def atomic(fields: Sequence[str], rows: Sequence[tuple]) -> bytes:
    """RecBole's atomic format: columns separated by tabs, and their types behind their names."""
    types = ["float" if field == "score" else "token" for field in fields]
    head = [f"{field}:{kind}" for field, kind in zip(fields, types, strict=True)]
    return _separated(head, rows, "\t")


def _separated(head: Sequence[str], rows: Sequence[tuple], delimiter: str) -> bytes:
    text = io.StringIO()
    lines = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    lines.writerow(head)
    lines.writerows((*names, f"{score:.6g}") for *names, score in rows)
    return text.getvalue().encode()


def _csv(fields: Sequence[str], rows: Sequence[tuple]) -> bytes:
    return _separated(fields, rows, ",")


def _json(fields: Sequence[str], rows: Sequence[tuple]) -> bytes:
    return b"[\n" + _json_lines(fields, rows).rstrip(b"\n").replace(b"\n", b",\n") + b"\n]\n"


def _json_lines(fields: Sequence[str], rows: Sequence[tuple]) -> bytes:
    records = (dict(zip(fields, row, strict=True)) for row in rows)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _parquet(fields: Sequence[str], rows: Sequence[tuple]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    columns = zip(*rows, strict=True) if rows else [[] for _ in fields]
    types = [pyarrow.float64() if field == "score" else pyarrow.string() for field in fields]
    arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(fields)), content)
    return content.getvalue()


_FORMATS: dict[str, Callable[[Sequence[str], Sequence[tuple]], bytes]] = {
    ".inter": atomic,
    ".tsv": atomic,
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}


def format_of(file: Path) -> Callable[[Sequence[str], Sequence[tuple]], bytes]:
    """The format that the ending of a file's name stands for.

    Args:
        file: where recommendations will be written.

    Returns:
        A function that makes the file's content from ``fields`` (``score`` is the last) and ``rows`` of values.

    Raises:
        InputError: the ending of the name is unknown, or its format needs a package that is not there.
    """
    ending = file.suffix.lower()
    if ending not in _FORMATS:
        raise InputError(f"--out={file} must end in one of {', '.join(_FORMATS)}, which says its format")
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(f"--out={file} needs pyarrow; pip install pyarrow, or write .csv or .jsonl")
    return _FORMATS[ending]
