"""RecBole's LightGBM and XGBoost, where their packages are installed."""

from pathlib import Path

import numpy as np
import pytest
from atomic import interactions, write_dataset

import recbole_ssm
from recbole_ssm.errors import InputError


@pytest.mark.parametrize("model", ["LightGBM", "XGBoost"])
def test_trees_are_trained_and_leave_their_librarys_file(tmp_path, model):
    package = pytest.importorskip(model.lower())
    frame = interactions(n_users=60, shortest=10, longest=20)
    frame["label"] = (np.arange(len(frame)) % 3 == 0).astype(float)
    frame["hint"] = frame["label"] * 0.8 + np.random.default_rng(0).random(len(frame)) / 2
    write_dataset(tmp_path, frame)
    keys = {"data_path": str(tmp_path), "use_gpu": False, "show_progress": False}
    keys["load_col"] = {"inter": ["user_id", "item_id", "label", "hint"]}
    keys |= {"lgb_num_boost_round": 20, "xgb_num_boost_round": 20}
    result = recbole_ssm.run(model, "tiny", config_dict=keys)
    assert result["test_result"]["auc"] > 0.9 and result["test_result"]["logloss"] < 0.5
    assert result["epochs"] == result["best_epoch"] == 1 and result["parameters"] == 0
    if model == "LightGBM":
        assert package.Booster(model_file=result["checkpoint"]).num_trees() == 20
    else:
        booster = package.Booster()
        booster.load_model(result["checkpoint"])
        assert booster.num_boosted_rounds() == 20
    assert [str(file) for file in Path("saved").iterdir()] == [result["checkpoint"]]
    for other in ({"eval_args": {"mode": "full"}}, {"metrics": ["NDCG"], "valid_metric": "NDCG@10"}):
        with pytest.raises(InputError, match=r"labeled|Full sort|value-based"):
            recbole_ssm.run(model, "tiny", config_dict=keys | other)
    with pytest.raises(InputError, match="trained at once"):
        recbole_ssm.run(model, "tiny", config_dict=keys, resume=True)
