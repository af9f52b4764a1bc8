"""Are the files that a run needs there, with the columns that it needs? Asked before anything is read."""

from __future__ import annotations

from pathlib import Path

from recbole.utils import ModelType

from recbole_ssm.errors import InputError


def find_datasets(data_path: str | Path) -> list[str]:
    """Names of the datasets in a folder: every ``name/name*.inter``."""
    folder = Path(data_path)
    if not folder.is_dir():
        return []
    return sorted(d.name for d in folder.iterdir() if d.is_dir() and any(d.glob(f"{d.name}*.inter")))


def check_atomic_files(config) -> None:
    """Look for the interaction files of ``config`` and read their headers.

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
    for file in [folder / f"{name}.inter"] if parts is None else [folder / f"{name}.{part}.inter" for part in parts]:
        if not file.is_file():
            raise InputError(f"dataset {name!r}: the file {file.resolve()} is missing")
        _check_columns(config, file)


def _check_columns(config, file: Path) -> None:
    with open(file, encoding=config["encoding"]) as lines:
        header = lines.readline().rstrip("\r\n")
    columns = dict(column.partition(":")[::2] for column in header.split(config["field_separator"]))
    needed = [("USER_ID_FIELD", "token", "users"), ("ITEM_ID_FIELD", "token", "items")]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        needed.append(("TIME_FIELD", "float", "the order of interactions"))
    for key, kind, purpose in needed:
        field = config[key]
        if field not in columns:
            raise InputError(
                f"{file} has no column {field}:{kind}, which gives {purpose}; its header is {header!r}. "
                f"Add the column, or name the one to use with --{key}=..."
            )
        if columns[field] != kind:
            raise InputError(f"{file}: column {field} must be declared {field}:{kind}, not {field}:{columns[field]}")
        loaded = (config["load_col"] or {}).get("inter", "*") if config["load_col"] is not None else "*"
        if loaded != "*" and field not in loaded:
            raise InputError(
                f"load_col reads {loaded} from {file.name}, but column {field} is needed for {purpose}; add it"
            )
    untyped = [name for name, kind in columns.items() if not kind]
    if untyped:
        raise InputError(
            f"{file}: the header must name each column as name:type, separated by {config['field_separator']!r}, "
            f"but has {untyped[0]!r}"
        )
