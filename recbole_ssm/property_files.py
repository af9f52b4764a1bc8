"""The files of settings that come with this package, and the keys that they and RecBole's hold."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import recbole.config
import yaml

from recbole_ssm.errors import InputError


def properties_folder() -> Path:
    """Where they are: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"


def find_config_file(file: str | Path) -> Path:
    """The file of this name, or that of the package, with or without ``.yaml``.

    Raises:
        InputError: there is none.
    """
    for candidate in (Path(file), properties_folder() / file, properties_folder() / f"{file}.yaml"):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(path.relative_to(properties_folder())) for path in properties_folder().rglob("*/*.yaml"))
    raise InputError(
        f"there is no config file {file}, neither here nor among those of the package: {', '.join(shipped)}"
    )


def keys_of_model(model: str) -> frozenset[str]:
    """Keys with a default for a model; none for a model that has no file of defaults."""
    file = properties_folder() / "model" / f"{model}.yaml"
    return frozenset(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else frozenset()


def keys_of_all_files() -> frozenset[str]:
    """Every key in a yaml of RecBole or of this package."""
    return frozenset().union(*_keys_by_file().values())


def keys_of_other_models(model: str) -> frozenset[str]:
    """Keys that stand in no file but those of other models, RecBole's among them; none for a model without a file."""
    own = keys_of_model(model)
    if not own:
        return frozenset()
    of_models = {file for file in _keys_by_file() if file.parent.name == "model"}
    general = (keys for file, keys in _keys_by_file().items() if file not in of_models)
    return keys_of_all_files() - own - frozenset().union(*general)


@lru_cache(maxsize=1)
def _keys_by_file() -> dict[Path, frozenset[str]]:
    recbole_properties = Path(recbole.config.__file__).parent.parent / "properties"
    files = (*recbole_properties.rglob("*.yaml"), *properties_folder().rglob("*.yaml"))
    return {
        file: frozenset(yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) or ()) for file in files
    }
