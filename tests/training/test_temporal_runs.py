"""A training with a global temporal split is evaluated, resumed and searched like any other."""

import json

import pytest
from atomic import interactions, small, write_dataset

import recbole_ssm
from recbole_ssm.cli.main import main
from recbole_ssm.training.evaluation import evaluate
from recbole_ssm.training.hooks.stopping import Interrupted

GIVEN = {"use_gpu": False, "show_progress": False, "data_path": ".", "metric_decimal_place": 6, "filter_seen": True}


@pytest.fixture(autouse=True)
def dataset(tmp_path):
    write_dataset(tmp_path, interactions(n_users=60, n_items=30, shortest=5, longest=12))


def train(model: str, protocol: str = "temporal", folder: str = "saved", **options) -> dict:
    keys = {**GIVEN, **small(model), "epochs": 2, "checkpoint_dir": folder}
    return recbole_ssm.run(model, "tiny", config_file_list=[f"protocol/{protocol}"], config_dict=keys, **options)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "PCTM", "SASRec", "BPR"])
def test_a_checkpoint_gives_what_its_run_gave(model):
    result = train(model)
    found = evaluate(result["checkpoint"])
    assert found["valid_result"] == pytest.approx(result["best_valid_result"])
    assert found["test_result"] == pytest.approx(result["test_result"])
    assert found["same_training_data"]
    assert found["split"].startswith("temporal split, each user's last item after quantile 0.9 of all times")
    successive = evaluate(
        result["checkpoint"], command_line=["--eval_args={'split': {'temporal': {'target': 'successive'}}}"]
    )
    assert successive["same_training_data"]
    assert successive["split"].startswith("temporal split, every item after")


@pytest.mark.slow
def test_without_validation_all_before_the_border_is_trained_on():
    result = train("2Mamba4Rec", "temporal_no_validation")
    assert result["best_valid_result"] is None and result["best_epoch"] == 2
    found = evaluate(result["checkpoint"])
    assert found["valid_result"] is None
    assert "no validation: all before it trained on" in found["split"]
    later = evaluate(result["checkpoint"], command_line=["--eval_args={'split': {'temporal': {}}}"])
    assert not later["same_training_data"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "BPR"])
def test_a_training_that_was_stopped_goes_on(model):
    def stop(trainer):
        raise KeyboardInterrupt

    whole = train(model, folder="whole")
    with pytest.raises(Interrupted):
        train(model, folder="stopped", after_epoch=stop)
    resumed = train(model, folder="stopped", resume=True)
    assert resumed["test_result"] == whole["test_result"]
    assert resumed["best_valid_score"] == whole["best_valid_score"]


@pytest.mark.slow
def test_settings_are_searched(tmp_path):
    space = tmp_path / "space.hyper"
    space.write_text("window choice [1, 5]\n")
    verb = ["tune", "--model=PCTM", "--dataset=tiny", f"--params_file={space}", "--tool=hyperopt", "--trials=2"]
    verb += ["--config_files=protocol/temporal", "--data_path=.", "--use_gpu=False", "--out=found"]
    assert main(verb) == 0
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    assert results
