"""From a table to a data set on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_ssm.data.importing.columnar import write_columns
from recbole_ssm.data.importing.duck import check_memory, database, read_files, scan_again
from recbole_ssm.data.importing.frames import read_frame
from recbole_ssm.data.importing.items import Items, read_items, rows_from_0
from recbole_ssm.data.importing.names import PADDING
from recbole_ssm.data.importing.options import Options, check_name, make_options, name_from
from recbole_ssm.data.importing.report import Report
from recbole_ssm.data.importing.scan import Scan
from recbole_ssm.data.importing.sources import TextFormat, find_source
from recbole_ssm.data.importing.table import Allocate, Table, compact, drop_duplicates, keep_core, split_sessions
from recbole_ssm.data.importing.writing import REPORT, write_interactions, write_items, write_report
from recbole_ssm.errors import InputError
from recbole_ssm.system.atomic_folder import atomic_folder
from recbole_ssm.system.atomic_write import check_writable


@dataclass(frozen=True)
class ImportedData:
    """A data set that was made of a table.

    Attributes:
        name: of the data set, for ``dataset``.
        data_path: the folder that holds it, for ``data_path``.
        report: what was read, left out and why, and what the data are like.
    """

    name: str
    data_path: str
    report: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(self.data_path) / self.name

    def __repr__(self) -> str:
        sizes = ", ".join(f"{self.report[key]:,} {key}" for key in ("interactions", "users", "items"))
        return f"ImportedData({str(self.folder)!r}: {sizes})"


def from_dataframe(
    df: pd.DataFrame,
    name: str | None = None,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    items: pd.DataFrame | None = None,
    path: str | Path = "dataset",
    **options: Any,
) -> ImportedData:
    """Make a data set of a DataFrame.

    Args:
        df: a row for each interaction, in any order. It is not changed.
        name: of the data set. Without one it is called after a hash of rows and options, and what was imported
            before is not imported again.
        user: the column of users; None to guess it by its name.
        item: the column of items; None to guess it.
        time: the column of times: numbers, dates, or words that are either; None to guess it.
        items: a row for each item, with titles and features; they go into the ``.item`` file.
        path: the folder in which the data set's folder is made.
        **options: others of :class:`recbole_ssm.data.importing.options.Options`.

    Returns:
        The name of the data set, its place, and a report.

    Raises:
        InputError: something in the arguments or the rows cannot be used, or the data set exists already.
    """
    if not isinstance(df, pd.DataFrame):
        raise InputError(f"from_dataframe takes a pandas DataFrame, not a {type(df).__name__}")
    how = make_options({"user": user, "item": item, "time": time, **options})
    if name is None:
        name = f"table-{_digest(df, items, how)}"
        known = Path(path) / name / REPORT
        if known.is_file():
            content = json.loads(known.read_text(encoding="utf-8"))
            if "reading" in content:
                return ImportedData(name, str(path), content)
            how = replace(how, overwrite=True)  # an earlier version made it
    folder = check_target(path, name, how)
    report = Report(["DataFrame"])
    table = read_frame(df, how, report)
    features = None if items is None else _read_items(items, ["DataFrame"], how, report)
    finish(table, features, folder, how, report)
    return ImportedData(name, str(path), report.content())


def import_files(
    files: Sequence[str | Path],
    name: str | None = None,
    *,
    items: str | Path | None = None,
    path: str | Path = "dataset",
    text: TextFormat | None = None,
    memory: str = "2GB",
    tell: Callable[[str], object] = lambda what: None,
    **options: Any,
) -> ImportedData:
    """Make a data set of files, which may be larger than memory.

    Args:
        files: CSV, JSON lines or Parquet, plain or compressed with gzip; several are one table.
        name: of the data set; None for that of the first file.
        items: a file with a row for each item, with titles and features; they go into the ``.item`` file.
        path: the folder in which the data set's folder is made.
        text: how text is read.
        memory: the most that reading and sorting take; the rest is done on the disk, in ``path``.
        tell: is called with what is done next.
        **options: see :class:`recbole_ssm.data.importing.options.Options`.

    Returns:
        The name of the data set, its place, and a report.

    Raises:
        InputError: something in the arguments or the files cannot be used, the data set exists already, or DuckDB is
            missing.
    """
    how = make_options(options)
    check_memory(memory)
    text = text or TextFormat()
    source = find_source(files, text)
    of_items = None if items is None else find_source([items], TextFormat(quote=text.quote, encoding=text.encoding))
    name = name_from(source.files[0]) if name is None else name
    folder = check_target(path, name, how)
    report = Report([str(file) for file in source.files])
    with work_folder(folder) as work, database(work, memory, how.time_zone) as connection:
        allocate = partial(on_disk, work)
        table = read_files(source, how, report, connection, work, allocate, tell)
        tell("filtering and writing")
        features = None
        if of_items is not None:
            scan = scan_again(of_items, connection, work)
            features = _read_items(scan.sample(None), [str(items)], how, report, scan)
        finish(table, features, folder, how, report, allocate)
    return ImportedData(name, str(path), report.content())


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A folder beside that of the data set, which is removed; InputError where the disk is full."""
    try:
        with atomic_folder(folder.with_name(f"{folder.name}.work"), keep=False) as work:
            yield work
    except OSError as error:
        raise InputError(f"the data set {folder} cannot be written: {error.strerror or error}") from error


def on_disk(work: Path, n: int, kind: Any) -> NDArray[Any]:
    """A new array in a file of its own. Its space is taken at once: a disk that is full later would end the process."""
    if not n:
        return np.empty(0, kind)
    handle, name = mkstemp(suffix=".array", dir=work)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, n * np.dtype(kind).itemsize)
    finally:
        os.close(handle)
    return np.memmap(name, kind, mode="w+", shape=(n,))


def check_target(path: str | Path, name: str, options: Options) -> Path:
    """The folder of a data set that is to be written; InputError if it cannot be, or is there and is to stay."""
    folder = Path(path) / check_name(name)
    if folder.exists():
        if not options.overwrite:
            raise InputError(f"the data set {folder} exists; give another name, or replace it with overwrite=True")
        if not (folder / REPORT).is_file():
            raise InputError(f"{folder} was not made by an import, and is not replaced; move it away")
    check_writable(Path(path), f"the folder {path}")
    return folder


def _read_items(
    frame: pd.DataFrame,
    source: list[str],
    options: Options,
    report: Report,
    scan: Scan | None = None,
) -> Items:
    """The table of items, and what the report says of it."""
    assert report.roles is not None
    found = Report(source, where=" of the table of items")
    for reason, number, places in () if scan is None else scan.rejected(5):
        found.read += number
        found.add_bad(reason, places, number)
    items = read_items(frame, report.roles.item, options, found, rows_from_0 if scan is None else scan.places)
    report.items = {
        "rows": found.read,
        "cannot be used": sum(found.bad.values()),
        "columns": " ".join(f"{name}:{kind}" for name, kind in items.kinds.items()),
    }
    return items


def finish(
    table: Table, items: Items | None, folder: Path, options: Options, report: Report, allocate: Allocate = np.empty
) -> None:
    """Filter the interactions, and write them.

    Args:
        table: all interactions that can be used.
        items: the table of items, if there is one.
        folder: of the data set.
        options: what to leave out.
        report: gets what was left out, and what the data are like.
        allocate: makes large arrays.

    Raises:
        InputError: nothing is left, or the files cannot be written.
    """
    report.options = options.reading
    if options.session_gap is not None:
        table = split_sessions(table, options.session_gap, allocate)
    keep = np.ones(len(table), bool)
    report.duplicates = drop_duplicates(table, options.duplicates, keep)
    report.core = keep_core(table, options.cores, keep)
    if not keep.any():
        raise InputError(f"no row is left of {report.read:,}; left out: {report.left_out()}; loosen the filters")
    table = compact(table, keep, allocate, padding=[PADDING])
    report.describe(table)
    if items is not None:
        report.compare_items(table, items.names)
    try:
        with atomic_folder(folder) as unfinished:
            write_interactions(table, unfinished / f"{folder.name}.inter")
            if items is not None:
                write_items(items, unfinished / f"{folder.name}.item")
            write_columns(table, unfinished, folder.name)
            write_report(report, unfinished)
    except OSError as error:
        raise InputError(f"the data set {folder} cannot be written: {error.strerror or error}") from error


def _digest(df: pd.DataFrame, items: pd.DataFrame | None, options: Options) -> str:
    """A short hash of rows and options."""
    digest = blake2b(repr(options).encode(), digest_size=6)
    for frame in (df,) if items is None else (df, items):
        digest.update(repr(list(frame.columns)).encode())
        try:
            digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
        except (TypeError, UnicodeEncodeError):  # of lists, or halves of characters
            digest.update(frame.to_csv(index=False).encode(errors="surrogatepass"))
    return digest.hexdigest()
