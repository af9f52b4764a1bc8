"""A folder of its own for every test, and small datasets to share."""

import pytest
from atomic import interactions, isolate, write_dataset


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a dataset ``tiny``: 30 users, 40 items, histories of 4 to 20 items."""
    folder = tmp_path_factory.mktemp("datasets")
    write_dataset(folder, interactions())
    return folder
