"""A folder of its own for every test, since RecBole writes into the current one, and small datasets to share."""

import pytest
import torch
from atomic import interactions, write_dataset


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # RecBole sets it; so it is as before after the test
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a dataset ``tiny``: 30 users, 40 items, histories of 4 to 20 items."""
    folder = tmp_path_factory.mktemp("datasets")
    write_dataset(folder, interactions())
    return folder
