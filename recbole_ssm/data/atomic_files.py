"""Checks of the atomic files that a run reads: they exist, and have the columns that the run needs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from recbole.utils import ModelType

from recbole_ssm.config import Config
from recbole_ssm.config.intervals import check_interval
from recbole_ssm.data.reading import file_errors, python_encoding, read_header
from recbole_ssm.errors import InputError, did_you_mean


def find_datasets(data_path: str | Path) -> list[str]:
    """The names of the datasets in a folder: every ``name/name*.inter``."""
    folder = Path(data_path)
    if not folder.is_dir():
        return []
    return sorted(d.name for d in folder.iterdir() if d.is_dir() and any(d.glob(f"{d.name}*.inter")))


def check_atomic_files(config: Config) -> list[Path]:
    """Check that the interaction files of a configuration exist and have the columns that it needs.

    Args:
        config: the configuration.

    Returns:
        The files.

    Raises:
        InputError: a folder, a file or a column is missing, or a column has the wrong type.
    """
    name, folder = config.dataset, Path(config.data_path)
    if not folder.is_dir():
        found = find_datasets(folder.parent)
        raise InputError(
            f"dataset {name!r}: there is no folder {folder.resolve()}; set --data_path to the folder that "
            f"holds {name}/{name}.inter. Found there now: {', '.join(found) or 'no dataset'}; ml-100k is always there"
        )
    parts = config.benchmark_filename
    files = [folder / f"{name}.inter"] if parts is None else [folder / f"{name}.{part}.inter" for part in parts]
    headers = []
    for file in files:
        if not file.is_file():
            there = ", ".join(sorted(other.name for other in folder.iterdir())[:10])
            raise InputError(
                f"dataset {name!r}: the file {file.resolve()} is missing; the folder holds {there or 'nothing'}"
            )
        headers.append(_check_columns(config, file))
        if parts is not None:
            _check_presplit(config, files, headers)
    _check_named_columns(config, files)
    return files


def dataset_files(config: Config) -> list[Path]:
    """All atomic files of the dataset, also those that the run does not read."""
    return sorted(f for f in Path(config.data_path).iterdir() if f.name.startswith(f"{config.dataset}."))


def _check_presplit(config: Config, files: list[Path], headers: list[dict[str, str]]) -> None:
    """Check a pre-split file: it has lines, and the columns of the first file.

    Args:
        config: the configuration.
        files: all pre-split files.
        headers: of the first of them, up to the one that is checked.
    """
    file, encoding = files[len(headers) - 1], config.encoding
    with file_errors(file, encoding), open(file, encoding=python_encoding(encoding)) as lines:
        next(lines)
        if not any(line.strip() for line in lines):
            raise InputError(f"{file} has no line but its header; each pre-split file needs one or more samples")
    differing = sorted(headers[0].items() ^ headers[-1].items())
    if differing:
        field, kind = differing[0]
        raise InputError(
            f"{file} and {files[0].name} must have the same columns, but only one of them has {field}:{kind}"
        )


_NAME_COLUMNS = ("val_interval", "seq_len", "threshold", "numerical_features", "discretization", "preload_weight")
"""Keys whose value names columns, as a list or as the keys of a dict."""


def _check_named_columns(config: Config, files: list[Path]) -> None:
    """Raise InputError unless each column that a key names is read, and ``val_interval`` can filter by its columns."""
    suffixes = ["user", "item", "kg", *(config.additional_feat_suffix or ())]
    others = (Path(config.data_path) / f"{config.dataset}.{suffix}" for suffix in suffixes)
    headers = {
        file: read_header(file, config.field_separator, config.encoding) for file in (*files, *others) if file.is_file()
    }
    _check_seq_len(config)
    for key in _NAME_COLUMNS:
        for field in () if key in config.passed_over else config[key] or ():
            _check_named_column(config, headers, key, field)


def _check_seq_len(config: Config) -> None:
    """Raise InputError unless the values of ``seq_len`` are lengths."""
    for field, length in (config.seq_len or {}).items():
        if type(length) is not int or length < 1:
            raise InputError(f"seq_len: {field} must be the number of values to read, 1 or more, but is {length!r}")


def _check_named_column(config: Config, headers: dict[Path, dict[str, str]], key: str, field: str) -> None:
    found = [file for file, columns in headers.items() if field in columns]
    if not found:
        there = {name for columns in headers.values() for name in columns}
        hint = did_you_mean(str(field), there)
        if key == "seq_len" and field == config.ITEM_ID_FIELD + config.LIST_SUFFIX:
            hint = "; MAX_ITEM_LIST_LENGTH sets the length of histories"
        raise InputError(f"{key}: there is no column {field!r} in {', '.join(file.name for file in headers)}{hint}")
    if not any(_is_read(config, file, field) for file in found):
        raise InputError(f"{key}: column {field} of {found[0].name} is not read; add it to load_col")
    if key != "val_interval":
        return
    kind, wanted = headers[found[0]][field], config[key][field]
    if kind == "float":
        check_interval(f"val_interval: {field}", wanted)
    elif kind != "token":
        raise InputError(f"val_interval: {field}:{kind} holds lists, by which RecBole cannot filter; remove it")
    elif not isinstance(wanted, list | tuple | set) or not all(isinstance(name, str) for name in wanted):
        raise InputError(f"val_interval: {field} must be a list of names, such as ['a', 'b'], but is {wanted!r}")


def _is_read(config: Config, file: Path, field: str) -> bool:
    """Whether ``load_col`` and ``unload_col`` let a column be read."""
    suffix, load, leave = file.suffix.removeprefix("."), config.load_col, config.unload_col or {}
    read = "*" if load is None else load.get(suffix, ())
    return (read == "*" or field in read) and field not in leave.get(suffix, ())


def files_hash(config: Config) -> str:
    """The BLAKE2 hash of the names and contents of all atomic files of the dataset."""
    digest = hashlib.blake2b(digest_size=16)
    for file in dataset_files(config):
        digest.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def _check_columns(config: Config, file: Path) -> dict[str, str]:
    """The header of a file of interactions; InputError if it lacks a column that the run needs."""
    columns = read_header(file, config.field_separator, config.encoding)
    header = config.field_separator.join(":".join(filter(None, column)) for column in columns.items())
    needed = [("USER_ID_FIELD", "", "token", "users"), ("ITEM_ID_FIELD", "", "token", "items")]
    if config.benchmark_filename is None:
        if config.eval_args["order"] == "TO":
            needed.append(("TIME_FIELD", "", "float", "the order of interactions"))
    elif config.MODEL_TYPE == ModelType.SEQUENTIAL:
        needed.append(("ITEM_ID_FIELD", config.LIST_SUFFIX, "token_seq", "the history of each line"))
    for key, suffix, kind, purpose in needed:
        field = config[key] + suffix
        if field not in columns:
            raise InputError(
                f"{file} has no column {field}:{kind}, which gives {purpose}; its header is {header!r}. "
                f"Add the column, or name the one to use with --{'LIST_SUFFIX' if suffix else key}=..."
            )
        if columns[field] != kind:
            declared = ":".join(filter(None, (field, columns[field])))
            raise InputError(f"{file}: column {field} must be declared {field}:{kind}, not {declared}")
        loaded = "*" if config.load_col is None else config.load_col.get("inter", [])
        if loaded != "*" and field not in loaded:
            raise InputError(
                f"load_col reads {loaded} from {file.name}, and leaves out column {field}, which gives {purpose}; add "
                "it, or set --load_col=None to read all columns"
            )
        if field in ((config.unload_col or {}).get("inter") or []):
            raise InputError(
                f"unload_col leaves out column {field} of {file.name}, which gives {purpose}; remove it there"
            )
    untyped = [name for name, kind in columns.items() if not kind]
    if untyped:
        raise InputError(
            f"{file}: the header must name each column as name:type, separated by {config.field_separator!r}, "
            f"but has {untyped[0]!r}"
        )
    return columns
