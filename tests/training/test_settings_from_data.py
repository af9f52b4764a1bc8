"""Settings that follow from the data: in a run, its log and its checkpoint, and wherever the checkpoint is used."""

import re
from pathlib import Path

import pytest
from atomic import SMALL, interactions, write_dataset

from recbole_ssm import Recommender
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.config.config import Config
from recbole_ssm.config.from_data import dropout, epochs
from recbole_ssm.data import create_dataset
from recbole_ssm.data.statistics import statistics_of
from recbole_ssm.errors import CheckpointError
from recbole_ssm.training.evaluation import evaluate
from recbole_ssm.training.run import run

FEW = {"hidden_size": 8, "use_gpu": False, "show_progress": False, "data_path": "data"}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data", interactions())
    return statistics_of(create_dataset(Config("2Mamba4Rec", "tiny", config_dict=FEW), packed=True))


def test_the_data_are_counted_as_they_are_read(tiny):
    frame = interactions()
    lengths = frame["user_id"].value_counts()
    assert tiny == (len(frame), 30, 40)
    for keys, expected in (
        ({"MAX_ITEM_LIST_LENGTH": 5}, int(lengths.clip(upper=6).sum())),
        ({"user_inter_num_interval": "[10,inf)"}, int(lengths[lengths >= 10].sum())),
    ):
        config = Config("2Mamba4Rec", "tiny", config_dict=FEW | keys)
        assert statistics_of(create_dataset(config, packed=True)).interactions == expected


@pytest.mark.slow
def test_a_run_has_the_settings_of_its_data_and_they_stay_with_its_model(tiny, caplog):
    caplog.set_level("INFO")
    result = run("SSD4Rec", "tiny", config_dict=FEW | {"epochs": 2, "num_layers": 1})
    state = checkpoint.read(result["checkpoint"])
    expected = {"dropout_prob": dropout(tiny.per_item, after_norm=True), "stopping_step": 2, "causal_epochs": 0}
    for kept in (state["config"], state["given"]):
        assert {key: kept[key] for key in expected} == expected
        assert (kept["epochs"], kept["num_layers"], kept["d_state"]) == (2, 1, 32)
    assert caplog.text.count("from the data (--defaults=paper") == 1
    assert re.search(rf"stopping_step 2, causal_epochs 0: for {tiny.interactions} interactions", caplog.text)
    assert evaluate(result["checkpoint"], command_line=["--data_path=data"])["test_result"] == result["test_result"]
    assert len(Recommender(result["checkpoint"]).recommend([["i1", "i2"]], k=3)[0]) == 3


@pytest.mark.slow
def test_a_training_is_resumed_with_the_settings_of_its_data(tiny):
    def stop(trainer):
        if len(trainer.history) == 2:
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        run("2Mamba4Rec", "tiny", config_dict=FEW, after_epoch=stop)
    trained = []
    result = run(
        "2Mamba4Rec", "tiny", config_dict=FEW, resume=True, after_epoch=lambda trainer: trained.append(trainer.epoch)
    )
    assert result["epochs"] == epochs(tiny.interactions) == 40
    assert len(trained) < 40
    with pytest.raises(CheckpointError, match=r"was begun with dropout_prob 0\.5 .*size of the data.*on the same data"):
        with pytest.raises(KeyError, match="stopped"):
            run("2Mamba4Rec", "tiny", config_dict=FEW, after_epoch=stop)
        write_dataset(Path("data"), interactions(n_items=12))
        run("2Mamba4Rec", "tiny", config_dict=FEW, resume=True)


def test_published_settings_have_no_block_in_the_log(tiny, caplog):
    caplog.set_level("INFO")
    run("2Mamba4Rec", "tiny", config_dict=FEW | SMALL | {"epochs": 1})
    assert "from the data (--defaults=paper" not in caplog.text
