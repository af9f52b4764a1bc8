"""The dataset cache of an imported data set, written without reading its text: the first training need not parse it."""

from __future__ import annotations

from pathlib import Path

import torch

from recbole_ssm.config import Config
from recbole_ssm.data import cache
from recbole_ssm.data.dataset import PackedDataset
from recbole_ssm.data.importing.table import Table

MODEL = "2Mamba4Rec"
"""Any model of packed histories: their datasets are the same under default settings."""


def write_columns(table: Table, folder: Path, name: str) -> None:
    """Write what :func:`recbole_ssm.data.cache.keep` would write after reading the atomic files.

    It is for the default settings of a model of packed histories. With others the atomic files are read.

    Args:
        table: the interactions as they were written, numbered from 1.
        folder: that holds the atomic files.
        name: of the data set.
    """
    config = Config(MODEL, name, trains=False)
    config["data_path"] = str(folder)
    columns = {"user_id": table.users, "item_id": table.items, "timestamp": table.times}
    names = {"user_id": table.user_names, "item_id": table.item_names}
    fields = {
        field: cache.KeptField(
            type="token" if field in names else "float",
            source=field if field in names else "inter",
            length=1,
            buckets=None if field in names else 2,
            names=cache.pack_words(names[field]) if field in names else None,
        )
        for field in columns
    }
    frames = {"inter_feat": {field: torch.from_numpy(values) for field, values in columns.items()}}
    file = cache.imported_file(config, PackedDataset.__name__)
    cache.write(file, {"frames": frames, "fields": fields})
