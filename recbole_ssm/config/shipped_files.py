"""The config files that come with this package, and the keys in them and in RecBole's files of models."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import recbole.config
import yaml

from recbole_ssm.errors import InputError, did_you_mean


def properties_folder() -> Path:
    """The folder of these files: inside the package once it is installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"


def find_config_file(file: str | Path) -> Path:
    """The file of this name, or that of the package, with or without ``.yaml``; InputError if there is none."""
    for candidate in (Path(file), properties_folder() / file, properties_folder() / f"{file}.yaml"):
        if candidate.is_file():
            return candidate
    shipped = [
        str(path.relative_to(properties_folder()).with_suffix("")) for path in properties_folder().rglob("*/*.yaml")
    ]
    raise InputError(
        f"there is no config file {file}, neither here nor in the package, whose files --help lists"
        + did_you_mean(str(file), shipped, 3)
    )


def keys_of_model(model: str) -> frozenset[str]:
    """Keys with a default for a model of this package or of RecBole; none for one that has no file of defaults."""
    files = (keys for file, keys in _keys_by_file().items() if file.stem.casefold() == model.casefold())
    return frozenset().union(*files)


def keys_of_models() -> frozenset[str]:
    """Keys with a default for any model of this package or of RecBole."""
    return frozenset().union(*_keys_by_file().values())


@lru_cache(maxsize=1)
def _keys_by_file() -> dict[Path, frozenset[str]]:
    folders = Path(recbole.config.__file__).parent.parent / "properties", properties_folder()
    return {
        file: frozenset(yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) or ())
        for folder in folders
        for file in folder.glob("model/*.yaml")
    }
