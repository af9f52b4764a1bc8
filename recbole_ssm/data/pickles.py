"""Files that RecBole has pickled: they are read only where they are named and ``trust_dataset`` is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_ssm.config import Config
from recbole_ssm.errors import InputError


def is_trusted(config: Config, key: str) -> bool:
    """Whether a key names a file that exists and may be unpickled.

    Args:
        config: the configuration.
        key: ``dataset_save_path`` or ``dataloaders_save_path``.

    Returns:
        False if no file is named or it does not exist.

    Raises:
        InputError: the file exists, and ``trust_dataset`` is not set.
    """
    if not config[key] or not Path(config[key]).exists():
        return False
    if not config.trust_dataset:
        raise InputError(
            f"{key} {config[key]} holds Python objects, and reading those runs code that stands in the file; if you "
            "trust its source, set --trust_dataset. save_dataset and dataset_cache keep data only"
        )
    return True


@contextmanager
def only_trusted_pickles(config: Config) -> Iterator[None]:
    """Let RecBole find, within this context, no pickled dataset and no pickled loaders but trusted ones.

    RecBole looks in ``checkpoint_dir`` where no file is named. So one is always named here, by a name that no file can
    have. RecBole does not pickle the dataset either: ``save_dataset`` keeps it as ``dataset_cache`` does.
    """
    keys = ("dataset_save_path", "dataloaders_save_path", "save_dataset")
    before = {key: config[key] for key in keys}
    config["save_dataset"] = False
    for key in keys[:2]:
        if not is_trusted(config, key):
            config[key] = "\0"
    try:
        yield
    finally:
        for key, value in before.items():
            config[key] = value
