"""The settings of all tests (conftest.py) are in force."""

from pathlib import Path

import torch


def test_memory_that_nobody_has_written_is_no_number():
    assert torch.empty(3).isnan().all()


def test_a_test_runs_in_a_folder_of_its_own(tmp_path):
    assert Path.cwd() == tmp_path
