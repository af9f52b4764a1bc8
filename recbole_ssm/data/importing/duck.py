"""Files as a table of interactions: DuckDB reads, filters, numbers and sorts them, on disk where memory is short."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recbole_ssm.data.importing.columns import SAMPLE, find_roles
from recbole_ssm.data.importing.names import LONGEST, PADDING
from recbole_ssm.data.importing.options import Options
from recbole_ssm.data.importing.report import Report
from recbole_ssm.data.importing.scan import Scan, text_literal
from recbole_ssm.data.importing.sources import Source
from recbole_ssm.data.importing.table import Allocate, Table
from recbole_ssm.data.importing.times import SMALLEST, UNITS, check_not_days, no_times, unit_of
from recbole_ssm.data.importing.where import conditions, split_by_time
from recbole_ssm.errors import InputError

_VECTORS = 512
"""Of 2,048 rows each, which are fetched at a time."""

_PLACES = 5
"""How many bad rows are looked up."""

_USABLE = f"length({{0}}) BETWEEN 1 AND {LONGEST} AND {{0}} <> '{PADDING}' AND NOT contains({{0}}, chr(0))"
"""Whether a word can be a name, see :mod:`recbole_ssm.data.importing.names`."""


def check_memory(memory: str) -> None:
    """Raise InputError unless a word is an amount of memory."""
    if not re.fullmatch(r"[1-9]\d*(\.\d+)?\s*[MG]i?B", memory):
        raise InputError(f"memory must be like 500MB or 2GB, but is {memory!r}")


@contextmanager
def database(work: Path, memory: str, zone: str) -> Iterator[Any]:
    """A database on disk that is used once.

    Args:
        work: a folder for its files.
        memory: the most it takes, such as ``2GB``.
        zone: of dates that name none.

    Yields:
        The connection.

    Raises:
        InputError: the package is missing, or something that the database does fails.
    """
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError as error:
        raise InputError(
            'reading files needs DuckDB: pip install "recbole-ssm[import]"; or read them with pandas and give the '
            "DataFrame to recbole_ssm.from_dataframe"
        ) from error
    settings = {"memory_limit": memory, "temp_directory": str(work / "spilled")}
    settings |= {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    try:
        with duckdb.connect(str(work / "import.duckdb"), config=settings) as connection:
            connection.execute(f"SET TimeZone = {text_literal(zone)}")
            yield connection
    except duckdb.OutOfMemoryException as error:
        raise InputError(
            f"the import needs more memory than {memory}, or more space on the disk; give more with "
            "memory, for example memory=4GB"
        ) from error
    except duckdb.Error as error:
        text = str(error)
        if "reached an invalid state" in text:
            text = "some lines end in \\r\\n and others in \\n; make them alike, for example with dos2unix"
        raise InputError(f"the files cannot be imported: {text.splitlines()[0]}") from error


def read_files(
    source: Source,
    options: Options,
    report: Report,
    connection: Any,
    work: Path,
    allocate: Allocate,
    tell: Callable[[str], object],
) -> Table:
    """The interactions of files.

    Args:
        source: the files.
        options: how to read them.
        report: gets what was read and left out.
        connection: from :func:`database`.
        work: a folder for files of its own.
        allocate: makes large arrays.
        tell: is called with what is done next.

    Returns:
        The interactions.

    Raises:
        InputError: columns are missing or of the wrong type, or a row cannot be used and is not to be skipped.
    """
    scan = Scan(source, connection, work)
    report.roles = find_roles(scan.sample(SAMPLE), options)
    tell(f"reading {', '.join(file.name for file in source.files)}")
    of_time = _load(scan, options, report)
    tell("numbering users and items")
    seconds = _seconds(scan, options, report)
    _number(connection, report.roles.user is not None, seconds)
    _find_bad(scan, report)
    report.check_bad(options)
    where = "".join(f" AND t {each.sign} {each.number!r}" for each in of_time)
    tell("sorting by user and time")
    return _fetch(connection, report, where, allocate)


def scan_again(source: Source, connection: Any, work: Path) -> Scan:
    """Another scan, which forgets the rejected rows of the one before."""
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    return Scan(source, connection, work)


def _load(scan: Scan, options: Options, report: Report) -> list[Any]:
    """Copy what is needed into the table ``raw``; returns the conditions on seconds."""
    roles, connection = report.roles, scan.connection
    assert roles is not None
    found = conditions(options.where, scan.columns, roles.time, options.time_zone)
    on_words, on_times = split_by_time(found, roles.time)
    user = "''" if roles.user is None else scan.name(roles.user)
    number, date = scan.time(roles.time, options.time_format, options.time_zone)
    wanted = " AND ".join(map(scan.condition, on_words)) or "true"
    keep = {"u": user, "i": scan.name(roles.item), "n": number, "d": date}
    columns = ", ".join(f"CASE WHEN {wanted} THEN {value} END AS {name}" for name, value in keep.items())
    broken = scan.broken(roles.item)
    flags = f"{broken} AS broken, {wanted} AND NOT ({broken}) AS wanted"
    connection.execute(f"CREATE TABLE raw AS SELECT {flags}, {columns} FROM {scan.sql}")
    counted = "count(*), count(*) FILTER (wanted), count(*) FILTER (broken)"
    rows, chosen, unread = connection.execute(f"SELECT {counted} FROM raw").fetchone()
    rejected = scan.rejected(_PLACES)
    report.read = rows + sum(number for _, number, _ in rejected)
    for reason, many, places in rejected:
        report.add_bad(reason, places, many)
    if not report.read:
        raise InputError(f"{', '.join(map(str, scan.source.files))}: there are no rows below the header")
    if unread:
        first = connection.execute(f"SELECT rowid FROM raw WHERE broken ORDER BY rowid LIMIT {_PLACES}").fetchall()
        report.add_bad("no JSON object that can be read", scan.places([row for (row,) in first]), unread)
    if rows == unread:
        report.check_bad(options)
    report.filtered = rows - chosen - unread
    return on_times


def _seconds(scan: Scan, options: Options, report: Report) -> str:
    """The expression for the seconds of a row of ``raw``."""
    roles, connection = report.roles, scan.connection
    assert roles is not None
    if roles.time is None:
        return "raw.rowid::DOUBLE"
    numbers, dates = connection.execute(
        "SELECT count(*) FILTER (isfinite(n)), count(*) FILTER (isfinite(d)) FROM raw"
    ).fetchone()
    if not numbers and not dates:
        if report.filtered + sum(report.bad.values()) < report.read:
            example = connection.execute(f"SELECT {scan.value(roles.time)} FROM {scan.sql} LIMIT 1").fetchone()
            raise InputError(no_times(roles.time, example and example[0]))
        return "NULL::DOUBLE"
    if dates > numbers:
        report.time_text = "dates" if options.time_format is None else f"dates in the format {options.time_format}"
        return "CASE WHEN isfinite(d) THEN d END"
    borders = " + ".join(f"(abs(n) >= {SMALLEST * 1000.0**power!r})::INT" for power in range(len(UNITS)))
    check_not_days(roles.time, *connection.execute("SELECT min(n), max(n) FROM raw WHERE isfinite(n)").fetchone())
    sizes = connection.execute(
        f"SELECT {borders} AS size, count(*) FROM raw WHERE isfinite(n) GROUP BY size"
    ).fetchall()
    how = unit_of(sizes)
    report.time_text = how.text
    fits = f"abs(n) < {SMALLEST!r} OR (abs(n) >= {how.low!r} AND abs(n) < {how.high!r})"
    return f"CASE WHEN isfinite(n) AND ({fits}) THEN n / {UNITS[how.unit]!r} END"


def _number(connection: Any, has_user: bool, seconds: str) -> None:
    """Number users and items as they come, in the tables ``u_names`` and ``i_names``, and make ``coded`` of ``raw``."""
    for name in ("u", "i"):
        usable = _USABLE.format(name) if name == "i" or has_user else "true"
        connection.execute(
            f"CREATE TABLE {name}_names AS SELECT name, (row_number() OVER (ORDER BY first) - 1)::INT AS code FROM "
            f"(SELECT {name} AS name, min(rowid) AS first FROM raw WHERE wanted GROUP BY {name} HAVING {usable})"
        )
    connection.execute(
        f"CREATE TABLE coded AS SELECT coalesce(u_names.code, -1) AS u, coalesce(i_names.code, -1) AS i, "
        f"{seconds} AS t, raw.rowid AS r FROM raw LEFT JOIN u_names ON raw.u = u_names.name "
        "LEFT JOIN i_names ON raw.i = i_names.name WHERE raw.wanted"
    )
    connection.execute("DROP TABLE raw")


_BAD = {"user": "u < 0", "item": "u >= 0 AND i < 0", "time": "u >= 0 AND i >= 0 AND t IS NULL"}
"""Rows of ``coded`` that cannot be used, each counted once."""


def _find_bad(scan: Scan, report: Report) -> None:
    """Count rows without user, item or time, and look up where the first of them are."""
    numbers = scan.connection.execute(
        f"SELECT {', '.join(f'count(*) FILTER ({bad})' for bad in _BAD.values())} FROM coded"
    ).fetchone()
    for (role, bad), number in zip(_BAD.items(), numbers, strict=True):
        if number:
            rows = scan.connection.execute(f"SELECT r FROM coded WHERE {bad} ORDER BY r LIMIT {_PLACES}").fetchall()
            report.add_bad(f"no {role} that can be used", scan.places([row for (row,) in rows]), number)


def _fetch(connection: Any, report: Report, where: str, allocate: Allocate) -> Table:
    """The rows of ``coded`` that can be used, sorted."""
    usable = f"FROM coded WHERE u >= 0 AND i >= 0 AND t IS NOT NULL{where}"
    all_rows, n = (
        connection.execute(f"SELECT count(*) {text}").fetchone()[0] for text in (usable.removesuffix(where), usable)
    )
    report.filtered += all_rows - n
    users, items, times = allocate(n, np.int32), allocate(n, np.int32), allocate(n, np.float64)
    result = connection.execute(f"SELECT u, i, t {usable} ORDER BY u, t, r")
    start = 0
    while len(chunk := result.fetch_df_chunk(_VECTORS)):
        rows = slice(start, start + len(chunk))
        users[rows], items[rows], times[rows] = chunk["u"], chunk["i"], chunk["t"]
        start = rows.stop
    names = [
        connection.execute(f"SELECT name FROM {table} ORDER BY code").fetchnumpy()["name"].tolist()
        for table in ("u_names", "i_names")
    ]
    return Table(users, items, times, *names)
