"""A training that came to nothing ends in one sentence: scores that are no numbers are never ranked."""

import logging

import pytest
import torch
from atomic import LEAVE_ONE_OUT, interactions, make_config, make_trainer, write_dataset

import recbole_ssm
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.cli.main import main
from recbole_ssm.errors import InputError
from recbole_ssm.training.hooks.divergence import TrainingDiverged

MODELS = ["2Mamba4Rec", "SSD4Rec", "SASRec", "BPR"]


def mode(name: str) -> dict:
    keys = {"eval_args": {**LEAVE_ONE_OUT, "mode": name}}
    return keys | {"metrics": ["AUC"], "valid_metric": "AUC"} if name == "labeled" else keys


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """With a column of labels, half of them 1."""
    folder, frame = tmp_path_factory.mktemp("labelled"), interactions()
    frame["label"] = (frame.index % 2).astype(float)
    write_dataset(folder, frame)
    return folder


def of(folder, model, evaluation, **keys):
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "label"]}} if evaluation == "labeled" else {}
    return make_trainer(make_config(folder, model, **mode(evaluation), **columns, **keys))


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("evaluation", ["full", "uni5", "labeled"])
@pytest.mark.parametrize("model", MODELS)
def test_scores_that_are_no_numbers_end_the_training(labelled, model, evaluation, value):
    _, trainer, (_, _, test) = of(labelled, model, evaluation)
    assert trainer.evaluate(test, load_best_model=False)
    embedding = next(module for module in trainer.model.modules() if isinstance(module, torch.nn.Embedding))
    with torch.no_grad():
        embedding.weight[1:] = value
    with pytest.raises(TrainingDiverged, match=rf"{model}'s scores are not all numbers .*embedding.*learning_rate"):
        trainer.evaluate(test, load_best_model=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_ranked_until_its_numbers_do_not_suffice(tiny, dtype):
    for filter_seen in (True, False):
        _, trainer, (_, _, test) = of(tiny, "2Mamba4Rec", "full", filter_seen=filter_seen, ssm_backend="torch")
        trainer.model.to(dtype)
        assert trainer.evaluate(test, load_best_model=False)["ndcg@10"] >= 0
        with torch.no_grad():
            trainer.model.item_embedding.weight.mul_(0).add_(1e30 if dtype == torch.bfloat16 else 6e4)
            trainer.model.item_embedding.weight *= 1e9 if dtype == torch.bfloat16 else 2
        with pytest.raises(TrainingDiverged):
            trainer.evaluate(test, load_best_model=False)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_a_checkpoint_of_broken_weights_is_not_evaluated(tiny, model, capsys):
    keys = {"data_path": str(tiny), "use_gpu": False, "show_progress": False, "epochs": 1, "hidden_size": 8}
    file = recbole_ssm.run(model, "tiny", config_dict=keys)["checkpoint"]
    state = checkpoint.read(file)
    del state["format"], state["format_version"]
    name = next(name for name in state["state_dict"] if "item_embedding" in name)
    state["state_dict"][name][3] = float("nan")
    checkpoint.write(file, state)
    assert main(["evaluate", f"--checkpoint={file}"]) == 2
    assert f"{model}'s scores are not all numbers (parameters not finite: item_embedding" in capsys.readouterr().err


@pytest.mark.sampled(2)
@pytest.mark.parametrize("rate", [1e4, 3.0])
def test_a_model_that_knows_less_than_nothing_has_no_metrics(tiny, rate, capsys):
    given = ["--model=2Mamba4Rec", "--dataset=tiny", f"--data_path={tiny}", "--use_gpu=False", "--epochs=6"]
    given += ["--show_progress=False", "--train_batch_size=4", "--stopping_step=10"]
    assert main([*given, f"--learning_rate={rate}"]) == 1
    said = capsys.readouterr().err
    assert "diverged" in said or "training loss became" in said
    assert "lower learning_rate" in said and said.count("\n") < 400


def test_a_ranking_by_number_is_told_from_one_by_scores(tiny, caplog):
    for model in ("2Mamba4Rec", "SASRec"):
        _, trainer, (_, _, test) = of(tiny, model, "full", filter_seen=True)
        for all_the_same in (False, True):
            if all_the_same:
                with torch.no_grad():
                    trainer.model.item_embedding.weight.zero_()
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                trainer.evaluate(test, load_best_model=False)
            assert ("all items have the same score" in caplog.text) == all_the_same


@pytest.mark.sampled(3)
@pytest.mark.parametrize("evaluation", ["uni5", "labeled"])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR", "NeuMF"])
def test_a_loss_of_probabilities_is_not_taken_of_other_scores(labelled, model, evaluation):
    """Before any training; the area under the curve needs an order only."""
    keys = {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "eval_args": mode(evaluation)["eval_args"]}
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "label"]}}
    config = make_config(labelled, model, **keys, **columns)
    _, trainer, (train, valid, test) = make_trainer(config)
    if model == "NeuMF":  # its scores are probabilities
        trainer.fit(train, valid, show_progress=False, verbose=False)
        assert 0 < trainer.evaluate(test, load_best_model=False)["logloss"] < 5
        return
    trainer._train_epoch = lambda *_, **__: pytest.fail("it was trained")
    with pytest.raises(InputError, match="LogLoss needs probabilities"):
        trainer.fit(train, valid, show_progress=False, verbose=False)
    trainer.config["metrics"] = ["AUC"]
    assert trainer.evaluate(test, load_best_model=False)["auc"] >= 0
