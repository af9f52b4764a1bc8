"""Files as DuckDB scans them: the names of columns as expressions of SQL, and the places of rows in the files."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_ssm.data.importing.sources import LONGEST_LINE, Source, encoding_of, is_gzip, opened, pattern, rows_of
from recbole_ssm.data.importing.where import Condition
from recbole_ssm.errors import InputError

_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_WORDS = ("VARCHAR", "ENUM", "UUID", "BOOLEAN")
_DATES = ("TIMESTAMP", "DATE")


class Scan:
    """The rows of files for use in a query.

    Args:
        source: the files.
        connection: of a database.
        work: a folder for texts that are made UTF-8.

    Attributes:
        sql: what stands after FROM.
        columns: their names.
    """

    def __init__(self, source: Source, connection: Any, work: Path) -> None:
        self.source, self.connection = source, connection
        files = source.files if source.format == "parquet" else [_in_utf8(file, source, work) for file in source.files]
        self._files = files
        listed = "[" + ", ".join(text_literal(pattern(file)) for file in files) + "]"
        if source.format == "parquet":
            self.sql = f"read_parquet({listed})"
            described = connection.execute(f"DESCRIBE SELECT * FROM {self.sql}").fetchall()
            self._kinds = {row[0]: str(row[1]) for row in described} | self._durations(listed)
            self._values = {name: identifier(name) for name in self._kinds}
        else:
            self.sql = _text(source, listed)
            self._kinds = dict.fromkeys(source.columns, "VARCHAR")
            self._values = dict(zip(source.columns, _expressions(source), strict=True))
        self.columns = list(self._kinds)

    def _durations(self, listed: str) -> dict[str, str]:
        """Types of columns that pandas wrote as durations; Parquet has whole numbers for them."""
        found = self.connection.execute(f"SELECT value FROM parquet_kv_metadata({listed}) WHERE key = 'pandas'::BLOB")
        try:
            columns = [column for (text,) in found.fetchall() for column in json.loads(text)["columns"]]
            types = {column["field_name"]: column["numpy_type"] for column in columns}
        except (KeyError, TypeError, ValueError):  # pandas wrote something else
            return {}
        return {name: kind for name, kind in types.items() if str(kind).startswith("timedelta")}

    def broken(self, column: str) -> str:
        """Whether a line is no JSON object, so that this column is missing."""
        if self.source.format != "jsonl":
            return "false"
        no_object = "CASE WHEN json_valid(c0) THEN json_type(c0) <> 'OBJECT' ELSE true END"
        return f"CASE WHEN {self.value(column)} IS NULL THEN {no_object} ELSE false END"

    def value(self, name: str) -> str:
        """A column."""
        return self._values[name]

    def name(self, name: str) -> str:
        """A column as names of users or items; InputError if its type is not one for names."""
        kind, value = self._kinds[name], self._values[name]
        if kind.startswith(_WORDS) or kind in _WHOLE:
            return f"CAST({value} AS VARCHAR)"
        if kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
            broken = self.connection.execute(
                f"SELECT {value} FROM {self.sql} WHERE isfinite({value}) AND {value} <> floor({value}) LIMIT 1"
            ).fetchone()
            if broken is None:
                return f"CAST(TRY_CAST({value} AS HUGEINT) AS VARCHAR)"
            raise InputError(
                f"column {name!r} holds {broken[0]!r}; names must be words or whole numbers, so make words of them "
                "first"
            )
        raise InputError(f"column {name!r} is of type {kind}; names must be words or whole numbers")

    def time(self, name: str | None, time_format: str | None, zone: str) -> tuple[str, str]:
        """A column of times as a number, and as the seconds of a date; NULL where it is not that.

        Args:
            name: of the column; None for rows in order of time.
            time_format: of dates that are not ISO 8601.
            zone: of dates that name none.

        Returns:
            Two expressions.

        Raises:
            InputError: its type is not one for times.
        """
        none = "NULL::DOUBLE"
        if name is None:
            return none, none
        kind, value = self._kinds[name], self._values[name]
        at_zone = f" AT TIME ZONE {text_literal(zone)}"
        if kind.startswith("TIMESTAMP WITH"):
            return none, f"epoch({value})"
        if kind.startswith(_DATES):
            return none, f"epoch(CAST({value} AS TIMESTAMP){at_zone})"
        if kind == "VARCHAR" and time_format is not None:
            naive = "%z" not in time_format
            date = f"try_strptime({value}, {text_literal(time_format)})"
            return none, f"epoch({date}{at_zone if naive else ''})"
        if kind == "VARCHAR":
            number = f"TRY_CAST({value} AS DOUBLE)"
            return number, f"CASE WHEN {number} IS NULL THEN epoch(TRY_CAST({value} AS TIMESTAMPTZ)) END"
        if kind in _WHOLE or kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
            return f"CAST({value} AS DOUBLE)", none
        raise InputError(f"column {name!r} of times is of type {kind}; it must be numbers or dates")

    def condition(self, condition: Condition) -> str:
        """A condition on a column."""
        kind, value = self._kinds[condition.column], self._values[condition.column]
        if condition.number is not None:
            return f"coalesce(TRY_CAST({value} AS DOUBLE) {condition.sign} {condition.number!r}, false)"
        words = ", ".join(map(text_literal, condition.values))
        if kind in _WHOLE or kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
            numbers = ", ".join(f"TRY_CAST({text_literal(word)} AS DOUBLE)" for word in condition.values)
            found = f"coalesce(CAST({value} AS DOUBLE) IN ({numbers}), false)"
        else:
            found = f"coalesce(CAST({value} AS VARCHAR) IN ({words}), false)"
        return found if condition.sign == "=" else f"NOT {found}"

    def sample(self, n: int | None) -> pd.DataFrame:
        """The first ``n`` rows, or all, with all columns."""
        listed = ", ".join(f"{value} AS c{number}" for number, value in enumerate(self._values.values()))
        limit = "" if n is None else f" LIMIT {n}"
        found: pd.DataFrame = self.connection.execute(f"SELECT {listed} FROM {self.sql}{limit}").df()
        return found.set_axis(self.columns, axis=1)

    def rejected(self, n: int) -> list[tuple[str, int, list[str]]]:
        """The rows that are not rows of a table: why, how many, and where the first ``n`` are."""
        if self.source.format == "parquet":
            return []
        found = self.connection.execute(
            "SELECT any_value(error_type)::VARCHAR, list(file_path ORDER BY file_id, line)[1:$n], "
            "list(line ORDER BY file_id, line)[1:$n], count(*) FROM "
            "(SELECT any_value(error_type) AS error_type, file_path, file_id, line FROM "
            "reject_errors JOIN reject_scans USING (scan_id, file_id) GROUP BY ALL) GROUP BY error_type",
            {"n": n},
        ).fetchall()
        return [
            (
                _REASONS.get(kind, kind.lower()),
                number,
                [self._place(self._name(path), line) for path, line in zip(paths, lines, strict=True)],
            )
            for kind, paths, lines, number in found
        ]

    def places(self, rows: list[int]) -> list[str]:
        """Where rows are, which are counted from 0 over all files without those that are rejected."""
        if self.source.format == "parquet":
            return [f"row {row} (from 0)" for row in rows]
        rejected = set(
            self.connection.execute(
                "SELECT file_path, line FROM reject_errors JOIN reject_scans USING (scan_id, file_id) LIMIT 1000000"
            ).fetchall()
        )
        good = (
            (file, line)
            for file, path in zip(self.source.files, self._files, strict=True)
            for line, _ in rows_of(self.source, file)
            if (str(path.absolute()), line) not in rejected
        )
        found, passed = [], 0
        for row in rows:
            file, line = next(islice(good, row - passed, None))
            found.append(self._place(file, line))
            passed = row + 1
        return found

    def _name(self, path: str) -> Path:
        """The file that is read as another."""
        return dict(zip(map(str, (file.absolute() for file in self._files)), self.source.files, strict=True))[path]

    def _place(self, file: Path, line: int) -> str:
        return f"line {line}" if len(self.source.files) == 1 else f"{file.name}, line {line}"


_NO_UTF_8 = "not in UTF-8; name the encoding of the file, for example encoding=latin-1"

_REASONS = {
    "MISSING COLUMNS": "fewer columns than the header",
    "TOO MANY COLUMNS": "more columns than the header",
    "UNQUOTED VALUE": "a value that begins with a quotation mark and does not end with one",
    "LINE SIZE OVER MAXIMUM": f"more than {LONGEST_LINE:,} bytes",
    "INVALID ENCODING": _NO_UTF_8,
    "INVALID UNICODE": _NO_UTF_8,
}
"""What DuckDB's kinds of rejected rows are."""


def text_literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """The name of a column as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(source: Source, listed: str) -> str:
    """The scan of text files: columns c0, c1, ... of words; of JSON lines the line as c0."""
    how = {"max_line_size": str(LONGEST_LINE), "store_rejects": "true", "auto_detect": "false", "rejects_limit": "0"}
    if source.format == "jsonl":
        how |= {"columns": "{'c0': 'VARCHAR'}", "delim": "'\x01'", "quote": "''", "escape": "''", "header": "false"}
    else:
        names = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(source.columns)))
        quote = text_literal(source.text.quote)
        how |= {"columns": f"{{{names}}}", "delim": text_literal(source.text.separator or ","), "quote": quote}
        how |= {"escape": quote, "header": "false" if source.text.header is not None else "true"}
    scan = f"read_csv({listed}, " + ", ".join(f"{name} = {value}" for name, value in how.items()) + ")"
    return scan if source.format == "csv" else f"(SELECT * FROM {scan} WHERE c0 IS NOT NULL)"


def _expressions(source: Source) -> list[str]:
    """The columns of a text."""
    if source.format == "csv":
        return [f"c{number}" for number in range(len(source.columns))]
    pointers = ["/" + name.replace("~", "~0").replace("/", "~1") for name in source.columns]
    return [f"CASE WHEN json_valid(c0) THEN json_extract_string(c0, {text_literal(each)}) END" for each in pointers]


def _in_utf8(file: Path, source: Source, work: Path) -> Path:
    """The same text in UTF-8, compressed only if its name says so: the file itself, or a copy."""
    if encoding_of(file, source.text.encoding) == "utf-8-sig" and is_gzip(file) == file.name.lower().endswith(".gz"):
        return file
    copy = work / f"{source.files.index(file)}.txt"
    with opened(file, source.text.encoding) as text, copy.open("w", encoding="utf-8", newline="") as target:
        while block := text.read(1 << 22):
            target.write(block)
    return copy
