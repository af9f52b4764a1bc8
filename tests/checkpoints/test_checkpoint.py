"""Checkpoint files are whole or not there, hold data only, and say what is wrong with them."""

import errno
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.errors import CheckpointError, CheckpointNotWritten
from recbole_ssm.system import state_file
from recbole_ssm.system.state_file import checksum

STATE = {
    "versions": {"recbole_ssm": "0", "torch": "0"},
    "config": {"model": "2Mamba4Rec", "dataset": "tiny"},
    "given": {},
    "dataset": {"name": "tiny", "users": 1, "items": 1, "samples": 1, "hash": ""},
    "item_vocabulary": ["[PAD]", "a"],
    "history": [],
    "epoch": 0,
    "cur_step": 0,
    "best_valid_score": 0.0,
    "other_parameter": {},
    "training": {},
    "words": ["a", "ü", None, True, 3, 0.1],
    "state_dict": {
        "weight": torch.arange(6.0).view(2, 3),
        "half": torch.ones(3).bfloat16(),
        "flag": torch.tensor(True),
    },
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
}


@pytest.fixture
def file(tmp_path):
    checkpoint.write(tmp_path / "model.pth", STATE)
    return tmp_path / "model.pth"


def refusal(file, **options) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(file, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_written_is_read(file):
    state = checkpoint.read(file)
    assert (state.pop("format"), state.pop("format_version")) == (checkpoint.FORMAT, state_file.VERSION)
    assert checksum(state) == checksum(STATE)
    assert torch.equal(state["state_dict"]["weight"], STATE["state_dict"]["weight"])
    assert state["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert os.listdir(file.parent) == ["model.pth"]
    assert torch.load(file, weights_only=True)["words"] == STATE["words"]


def test_the_checksum_tells_all_states_apart():
    """Every value counts, its key, its type and its shape."""
    states = [
        {},
        {"a": 1},
        {"a": 1.0},
        {"a": "1"},
        {"b": 1},
        {"a": [1]},
        {"a": {"b": 1}},
        {"a": torch.tensor([1])},
        {"a": torch.tensor([[1]])},
        {"a": torch.tensor([1.0])},
        {"a": torch.tensor([1], dtype=torch.int32)},
        {"a": torch.tensor([2])},
        {"a": [], "b": []},
        {"a": [[], []]},
    ]
    assert len({checksum(state) for state in states}) == len(states)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert str(file) in refusal(file)


@pytest.mark.slow
@given(place=st.floats(0, 0.9999), bit=st.integers(0, 7))
@settings(max_examples=50)
def test_no_altered_file_is_taken_for_another_state(file, place, bit):
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    altered = file.with_name("altered.pth")
    altered.write_bytes(content)
    try:
        state = checkpoint.read(altered)
    except CheckpointError:
        return
    for key in ("format", "format_version"):
        state.pop(key)
    assert checksum(state) == checksum(STATE)  # the bit was in what surrounds the data


def test_a_file_from_elsewhere(tmp_path):
    file = tmp_path / "other.pth"
    for content in (torch.ones(3), {"state_dict": {}}, [1]):
        torch.save(content, file)
        assert "not a checkpoint of this package" in refusal(file)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    others = (
        b"",
        b"some text",
        b"user_id:token\titem_id:token\nu\ti\n",
        b"\x89PNG\r\n",
        b"%PDF-1.4",
        b"(dp0\n.",
        b"cos\n.",
    )
    for content in (*others, np.arange(5).tobytes(), (tmp_path / "a.zip").read_bytes(), b'{"model": 1}'):
        file.write_bytes(content)
        assert "damaged, or no checkpoint" in refusal(file)
    missing = refusal(tmp_path / "nothing.pth")
    assert "there is no checkpoint" in missing and f"the newest there: {file}" in missing


class Trap:
    """An object that leaves a file where it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


def test_no_code_of_a_file_is_run_unless_it_is_trusted(tmp_path):
    sprung, file = tmp_path / "sprung", tmp_path / "foreign.pth"
    torch.save({"state_dict": {}, "config": Trap(sprung)}, file)
    assert "--trust_checkpoint" in refusal(file)
    file.with_suffix(".pkl").write_bytes(pickle.dumps({"state_dict": {}, "config": Trap(sprung)}))
    refusal(file.with_suffix(".pkl"))
    assert not sprung.exists()
    assert checkpoint.read(file, trust=True)["state_dict"] == {}
    assert sprung.exists()


def test_a_file_of_a_later_version(tmp_path, monkeypatch):
    monkeypatch.setattr(state_file, "VERSION", 7)
    checkpoint.write(tmp_path / "model.pth", STATE)
    monkeypatch.undo()
    message = refusal(tmp_path / "model.pth")
    assert "later version" in message
    assert "7" in message


def test_a_full_disk_leaves_the_last_checkpoint(file, monkeypatch):
    before = file.read_bytes()
    with monkeypatch.context() as patch:

        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointNotWritten, match=r"needs \d+\.\d MiB, and \d+\.\d MiB are free") as error:
            checkpoint.write(file, {"state_dict": torch.zeros(10)})
        assert "still there" in str(error.value)
        with pytest.raises(CheckpointNotWritten, match="There was no file before"):
            checkpoint.write(file.with_name("new.pth"), STATE)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_limit_of_the_system_leaves_the_last_checkpoint(file):
    """The real thing: the system refuses to write on."""
    resource = pytest.importorskip("resource", reason="limits of a process")
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointNotWritten, match=r"it needs 3\.8 MiB"):
            checkpoint.write(file, {"state_dict": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointNotWritten, match=r"No such file.*\)\. There was no file before"):
        checkpoint.write(tmp_path / "nowhere" / "model.pth", STATE)


def test_a_folder_in_place_of_a_file(file):
    with pytest.raises(CheckpointNotWritten, match=r"is no file\)\. There was no file before"):
        checkpoint.write(file.parent, STATE)
    with pytest.raises(
        CheckpointError, match=rf"is a folder and no checkpoint; the newest there: {re.escape(str(file))}"
    ):
        checkpoint.read(file.parent)
