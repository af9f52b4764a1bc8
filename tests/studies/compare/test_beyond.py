"""Metrics beyond accuracy are the same for the same recommendations, whatever kind of model gives them."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from atomic import LEAVE_ONE_OUT, histories, interactions, make_config, make_loaders, make_trainer, write_dataset

from recbole_ssm.cli.main import main
from recbole_ssm.errors import InputError
from recbole_ssm.studies.compare import worker
from recbole_ssm.studies.compare.beyond import DEFAULT, check_names, novelty, to_evaluate, training_popularity
from recbole_ssm.studies.compare.measuring import beyond_accuracy, by_sample

ALL = [*DEFAULT, "ShannonEntropy", "TailPercentage"]


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_popularity_is_that_of_the_raw_lines_for_models_of_every_kind(tmp_path, model):
    frame = interactions(n_users=40, n_items=20, shortest=1, longest=9)
    write_dataset(tmp_path, frame)
    dataset, (train, *_) = make_loaders(make_config(tmp_path, model, eval_args=LEAVE_ONE_OUT))
    trained = [items[: max(len(items) - 2, 2)] for items in histories(frame).values() if len(items) > 1]
    expected = Counter(item for items in trained for item in items)
    names = dataset.id2token("item_id", np.arange(dataset.item_num))
    counted = training_popularity(train._dataset)
    assert {name: n for name, n in zip(names, counted.tolist(), strict=True) if n} == dict(expected)


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_popularity_in_files_with_one_line_of_a_user_is_that_of_the_targets(tmp_path, model):
    (tmp_path / "tiny").mkdir()
    for part in ("train", "valid", "test"):
        lines = [f"{part}{user}\ti1 i2 i3\ti{user % 2 + 4}" for user in range(5)]
        text = "\n".join(["user_id:token\titem_id_list:token_seq\titem_id:token", *lines, ""])
        (tmp_path / "tiny" / f"tiny.{part}.inter").write_text(text)
    files = {"benchmark_filename": ["train", "valid", "test"], "load_col": None, "topk": [2], "valid_metric": "MRR@2"}
    dataset, (train, *_) = make_loaders(make_config(tmp_path, model, **files))
    counted = training_popularity(train._dataset)
    names = dataset.id2token("item_id", np.flatnonzero(counted))
    assert dict(zip(names, counted[counted > 0].tolist(), strict=True)) == {"i4": 3, "i5": 2}


def test_novelty_is_the_information_of_what_is_recommended():
    popularity = np.array([0, 8, 4, 4, 0])
    assert novelty(np.array([[1, 2], [3, 1]]), popularity) == pytest.approx((1 + 2 + 2 + 1) / 4)
    assert novelty(np.array([[4]]), popularity) == pytest.approx(4)  # as if somebody had had it


@pytest.mark.parametrize("model", ["PCTM", "SASRec", "BPR"])
def test_metrics_are_those_of_the_recommended_lists(tiny, model):
    config = make_config(
        tiny, model, eval_args=LEAVE_ONE_OUT, filter_seen=True, metrics=["Hit", "NDCG", "MRR", *to_evaluate(ALL)]
    )
    dataset, trainer, (train, _, test) = make_trainer(config)
    trainer.eval_collector.data_collect(train)
    samples = by_sample(trainer, train, test)
    found = beyond_accuracy(trainer, ALL)
    lists, popularity = trainer.evaluator.recommended, training_popularity(train._dataset)
    assert lists.shape == (len(samples["hit"]), 10)
    assert found["itemcoverage"] == pytest.approx(len(set(lists.flatten())) / dataset.item_num)
    assert found["averagepopularity"] == pytest.approx(popularity[lists].mean())
    assert found["novelty"] == pytest.approx(novelty(lists, popularity))
    assert 0 < found["giniindex"] < 1
    assert set(found) == {name.lower() for name in ALL}


def test_names_are_checked():
    check_names(ALL)
    check_names([])
    for name, said in (("NDCG", "'NDCG' is not one"), ("ItemCoverag", "Did you mean itemcoverage"), ("AUC", "not one")):
        with pytest.raises(InputError, match=said):
            check_names([name])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["last", "successive"])
@pytest.mark.usefixtures("runs_here")
def test_models_of_all_kinds_are_compared_after_a_border_in_time(tmp_path, capsys, target):
    write_dataset(tmp_path, interactions(n_users=60, n_items=30, shortest=5, longest=12))
    protocol = "protocol/temporal" + "_successive" * (target == "successive")
    keys = ["--data_path=.", "--use_gpu=False", "--epochs=2", "--filter_seen=True", f"--config_files={protocol}"]
    models = "--models=PCTM,SASRec,BPR,Pop"
    arguments = [models, "--dataset=tiny", "--seeds=1", "--out=found", "--metrics=ItemCoverage,Novelty,TailPercentage"]
    assert main(["compare", *arguments, *keys]) == 0
    said = capsys.readouterr().out
    assert "coverage@10" in said and "novelty@10" in said and "tail@10" in said
    page = Path("found/table.md").read_text()
    tested = "each user's last item" if target == "last" else "every item"
    assert page.startswith(f"Temporal split, {tested} after quantile 0.9 of all times; validation items, after ")
    assert "not trained on. time_order exact; filter_seen True" in page.partition("\n")[0]
    assert "Temporal split" in Path("found/report.html").read_text()
    results = json.loads(Path("found/results.json").read_text())
    assert all(0 < row["itemcoverage@10"] <= 1 < row["novelty@10"] for row in results["rows"])
    samples = []
    for model in ("PCTM", "SASRec", "BPR", "Pop"):
        with np.load(f"found/runs/{model}-2020.npz") as kept:
            samples.append((kept["user"].tolist(), kept["item"].tolist()))
    assert samples[1:] == samples[:-1]
    assert (len(samples[0][0]) > len(set(samples[0][0]))) == (target == "successive")


@pytest.mark.slow
def test_sampled_candidates_cover_no_catalogue(tiny, monkeypatch):
    monkeypatch.setattr(worker, "end_with_parent", lambda parent: None)
    keys = [f"--data_path={tiny}", "--use_gpu=False", "--show_progress=False", "--eval_args={'mode':'uni20'}"]
    keys += ["--metrics=['Hit','NDCG','MRR']", "--topk=[10]"]
    Path("run.json").write_text(
        json.dumps({"dataset": "tiny", "files": [], "keys": keys, "model": "MarkovChain", "beyond": list(DEFAULT)})
    )
    assert worker.main("run.json", "0") == 0
    assert json.loads(Path("run.result.json").read_text())["beyond"] == {}
