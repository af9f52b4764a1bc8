"""The user's CUDA_VISIBLE_DEVICES holds unless gpu_id is given; variables set for a while are restored."""

import os

import pytest
import torch
import torch.distributed

from recbole_ssm.config.config import Config
from recbole_ssm.errors import InputError
from recbole_ssm.system.environment import environment

VISIBLE = "CUDA_VISIBLE_DEVICES"


def test_variables_are_set_for_a_while(monkeypatch):
    monkeypatch.setenv("SET_BEFORE", "1")
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(KeyError), environment(SET_BEFORE=None, NOT_SET="2"):
        assert (os.environ.get("SET_BEFORE"), os.environ.get("NOT_SET")) == (None, "2")
        raise KeyError
    assert (os.environ.get("SET_BEFORE"), os.environ.get("NOT_SET")) == ("1", None)


@pytest.fixture
def gpus(monkeypatch):
    """A machine with four GPUs, as torch counts them before one is used; what is used is written down."""
    used = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch.cuda.device_count() > 0)
    monkeypatch.setattr(
        torch.cuda, "device_count", lambda: len([x for x in os.environ.get(VISIBLE, "0,1,2,3").split(",") if x])
    )
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: used.append(backend))
    monkeypatch.delenv(VISIBLE)
    return used


def config(model="2Mamba4Rec", **keys):
    return Config(model, "ml-100k", config_dict=keys)


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "Pop"])
@pytest.mark.parametrize("visible", ["3", "1,2", "", "GPU-0a1b", None])
def test_what_the_environment_shows_holds(gpus, monkeypatch, model, visible):
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    found = config(model)
    assert os.environ.get(VISIBLE) == visible
    assert found["gpu_id"] == (visible or "")
    assert found["device"].type == ("cpu" if visible == "" else "cuda")
    assert not [note for note in found.notes if "gpu_id" in note]


@pytest.mark.parametrize(
    ("given", "shown"), [(2, "2"), ("2", "2"), ("0,3", "0,3"), ((1, 2), "1,2"), ([3], "3"), ("GPU-5", "GPU-5")]
)
def test_gpu_id_takes_its_place_and_it_is_said(gpus, monkeypatch, given, shown):
    assert config(gpu_id=given)["gpu_id"] == os.environ[VISIBLE] == shown
    assert not config(gpu_id=given).notes
    monkeypatch.setenv(VISIBLE, "7")
    assert f"gpu_id {shown} takes the place of {VISIBLE}=7" in config(gpu_id=given).notes
    assert os.environ[VISIBLE] == shown


def test_without_use_gpu_nothing_is_hidden_from_the_process(gpus):
    found = config(use_gpu=False, gpu_id=2)
    assert (found["device"].type, os.environ.get(VISIBLE)) == ("cpu", None)
    assert "gpu_id is passed over: use_gpu is False" in found.notes
    assert config()["device"].type == "cuda"


def test_once_a_gpu_is_used_it_is_too_late(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert any("does nothing" in note and VISIBLE in note for note in config(gpu_id=2).notes)
    assert VISIBLE not in os.environ


@pytest.mark.parametrize("given", ["abc", "0;1", -1, 1.5, True, "0,,1", {"a": 1}])
def test_what_names_no_gpu_is_refused(gpus, given):
    with pytest.raises(InputError, match="gpu_id must be"):
        config(gpu_id=given)
    assert VISIBLE not in os.environ


def test_that_no_gpu_is_shown_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(VISIBLE, "9")
    assert any(f"no GPU here that {VISIBLE}=9 shows" in note for note in config().notes)


@pytest.mark.parametrize(
    ("visible", "gpu_id", "local", "device"),
    [(None, None, 1, 1), ("2,3", None, 1, 1), (None, "0,1", 1, 1), ("3", "1,2", 0, 0), ("5", None, 0, 0)],
)
def test_each_process_has_a_gpu_of_those_that_are_shown(gpus, monkeypatch, visible, gpu_id, local, device):
    several(monkeypatch, visible, local)
    assert config(gpu_id=gpu_id)["device"] == torch.device("cuda", device)
    assert gpus == [device, "nccl"]


@pytest.mark.parametrize(("visible", "gpu_id"), [("3", None), (None, 0), ("0,1", "1")])
def test_more_processes_than_gpus_that_are_shown_are_refused(gpus, monkeypatch, visible, gpu_id):
    several(monkeypatch, visible, local=1)
    with pytest.raises(InputError, match=rf"2 processes for 1 GPUs \({VISIBLE}="):
        config(gpu_id=gpu_id)


def several(monkeypatch, visible, local):
    for name, value in {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": local, "LOCAL_RANK": local}.items():
        monkeypatch.setenv(name, str(value))
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
