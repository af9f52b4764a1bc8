"""Checkpoints of all models, each trained once for all tests of the folder."""

import pytest
from atomic import small

from recbole_ssm import run


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """A checkpoint of each model, by name and keys; trained once."""
    files: dict = {}

    def train(model: str, **keys) -> str:
        key = (model, *sorted(keys.items()))
        if key not in files:
            fixed = {"data_path": str(tiny), "checkpoint_dir": str(tmp_path_factory.mktemp("checkpoints"))}
            settings = {"use_gpu": False, "show_progress": False, "epochs": 1, **small(model), **keys, **fixed}
            files[key] = run(model, "tiny", config_dict=settings)["checkpoint"]
        return files[key]

    return train
