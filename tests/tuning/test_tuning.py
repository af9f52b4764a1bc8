"""Trials are done once, go on where they were, fail alone; the best is kept, tested, and can be trained again."""

import csv
import json
import sys

import pytest
import yaml
from atomic import SMALL, interactions, isolate, write_dataset

from recbole_ssm.cli import main
from recbole_ssm.inspection import describe
from recbole_ssm.resume import Interrupted
from recbole_ssm.tuning import Task
from recbole_ssm.tuning.trials import best, by_score

KEYS = ("--data_path=.", "--use_gpu=False", "--epochs=3", *(f"--{key}={value}" for key, value in SMALL.items()))
VERB = ["tune", "--model=2Mamba4Rec", "--dataset=tiny", "--params_file=my.hyper", "--out=found", *KEYS]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path)
    write_dataset(tmp_path, interactions(n_users=60, n_items=30, shortest=5, longest=12))
    (tmp_path / "my.hyper").write_text("learning_rate loguniform -7,-3\ntrain_batch_tokens choice [128,256]\n")
    return tmp_path


@pytest.fixture
def task(folder):
    return Task("2Mamba4Rec", "tiny", "found", keys=KEYS)


class Reports(list):
    """What a trial reports."""

    def __call__(self, epoch: int, score: float) -> None:
        self.append((epoch, score))


def trials(folder) -> dict:
    """Content of the file of each trial, and when it was written."""
    files = (folder / "found" / "trials").glob("*/trial.json")
    return {file.parent.name: (json.loads(file.read_text()), file.stat().st_mtime_ns) for file in files}


def test_a_trial_reports_the_best_score_so_far_and_repeats_it(task):
    first, again = Reports(), Reports()
    record = task.train({"learning_rate": 0.01}, first)
    scores = [epoch["valid_result"]["ndcg@10"] for epoch in record["history"]]
    assert first == [(epoch, max(scores[:epoch])) for epoch in (1, 2, 3)]
    assert record["score"] == max(scores) and record["ended"] == "finished"
    assert describe(record["checkpoint"])["valid_result"]["ndcg@10"] == max(scores)
    assert task.train({"learning_rate": 0.01}, again) == record
    assert again == first


def test_a_trial_that_was_stopped_in_its_midst_goes_on(task, monkeypatch):
    params = {"learning_rate": 0.01}
    whole = Task("2Mamba4Rec", "tiny", "whole", keys=KEYS).train(params, Reports())

    def die(epoch: int, score: float) -> None:
        if epoch == 2:
            raise Interrupted(15, "there")

    with pytest.raises(Interrupted):
        task.train(params, die)
    assert task.record(params)["ended"] is None and len(task.record(params)["history"]) == 2
    reports = Reports()
    record = task.train(params, reports)
    assert record["best_scores"] == whole["best_scores"]
    assert reports == list(enumerate(whole["best_scores"], 1))
    losses = [[epoch["train_loss"] for epoch in each["history"]] for each in (whole, record)]
    assert losses[0] == losses[1]


def test_only_the_weights_of_the_best_are_kept(task):
    all_params = [{"learning_rate": rate} for rate in (0.01, 1e-7, 0.02)]
    for params in all_params:
        task.train(params, Reports())
        task.end(params)
    winner = best(task.records())
    for record in task.records():
        assert (task.place(record["params"]) / "checkpoints").exists() == (record["params"] == winner["params"])
    stopped = {"learning_rate": 0.5}
    assert task.end(stopped, "it was killed")["error"] == "it was killed"
    assert [record["params"] for record in task.records()] == [*all_params, stopped]
    assert by_score(task.records())[-1][0] == 4


def test_less_can_be_better():
    records = [
        {"score": 3.0, "bigger": False, "ended": "stopped"},
        {"score": 2.0, "bigger": False, "ended": "finished"},
    ]
    assert best(records)["score"] == 2.0
    records.append({"score": 1.0, "bigger": False, "ended": "failed"})
    assert best(records)["score"] == 2.0
    assert best([{"ended": "failed", "score": None}]) is None


def test_hyperopt_from_a_params_file_to_a_training(folder, capsys):
    pytest.importorskip("hyperopt", reason="pip install -e '.[tune]' brings hyperopt")
    assert main([*VERB, "--tool=hyperopt", "--trials=3"]) == 0
    said = capsys.readouterr().out
    assert "[3/3] learning_rate" in said and "test_result of the best: " in said
    before = trials(folder)
    assert len(before) == 3
    found = json.loads((folder / "found" / "results.json").read_text())
    scores = [record["score"] for record, _ in before.values()]
    assert found["best"]["score"] == max(scores) == found["valid_result"]["ndcg@10"]
    with (folder / "found" / "trials.csv").open() as lines:
        assert sorted(float(row["NDCG@10"]) for row in csv.DictReader(lines)) == sorted(scores)
    page = (folder / "found" / "report.html").read_text()
    assert page.count("<svg") == 4 and "trial 3" in page

    assert main([*VERB, "--tool=hyperopt", "--trials=5"]) == 0  # three there are, and two more
    after = trials(folder)
    assert len(after) == 5 and before.items() <= after.items()

    best_file = folder / "found" / "best.yaml"
    assert yaml.safe_load(best_file.read_text())["dataset"] == "tiny"
    best_of_five = json.loads((folder / "found" / "results.json").read_text())
    capsys.readouterr()
    assert main([f"--config_files={best_file}", "--checkpoint_dir=again"]) == 0
    (checkpoint,) = (folder / "again").glob("*.pth")
    assert describe(checkpoint)["valid_result"] == best_of_five["valid_result"]


def test_a_trial_that_fails_does_not_end_the_search(folder, capsys):
    pytest.importorskip("hyperopt", reason="pip install -e '.[tune]' brings hyperopt")
    (folder / "my.hyper").write_text("learning_rate choice [0.01,1e30]\n")
    assert main([*VERB, "--tool=hyperopt", "--trials=4", "--algo=random"]) == 0
    assert {record["ended"] for record, _ in trials(folder).values()} == {"finished", "failed"}
    assert "TrainingDiverged" in (folder / "found" / "report.html").read_text()
    (folder / "my.hyper").write_text("learning_rate choice [1e30]\n")
    (folder / "found").rename(folder / "before")
    assert main([*VERB, "--tool=hyperopt", "--trials=1"]) == 2
    assert "no trial came to a score; trial 1: TrainingDiverged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tool=grid"], "--tool=grid must be ray or hyperopt"),
        (["--algo=exhaustive"], "--algo=exhaustive must be bayes or random"),
        (["--trials=0"], "--trials=0 must be a whole number of at least 1"),
        (["--trials=many"], "--trials=many must be"),
        (["--gpus_per_trial=-1"], "--gpus_per_trial=-1 must be a number"),
        (["--learning_rate=0.1"], "learning_rate is in the params file; leave --learning_rate out"),
        (["--checkpoint_dir=x"], "tune sets checkpoint_dir itself"),
        (["--learning_rat=0.1"], "unknown key 'learning_rat'; did you mean learning_rate?"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_trained(folder, capsys, arguments, says):
    assert main([*VERB, *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (folder / "found" / "trials").exists()


def test_values_that_the_model_cannot_use(folder, capsys):
    (folder / "my.hyper").write_text("headdim choice [4,5]\n")
    assert main([a for a in VERB if "headdim" not in a]) == 2
    assert "headdim 5 does not divide" in capsys.readouterr().err
    assert not (folder / "found").exists()


def test_another_search_needs_another_folder(folder, capsys):
    pytest.importorskip("hyperopt", reason="pip install -e '.[tune]' brings hyperopt")
    assert main([*VERB, "--tool=hyperopt", "--trials=1"]) == 0
    (folder / "my.hyper").write_text("learning_rate loguniform -7,-2\n")
    assert main([*VERB, "--tool=hyperopt", "--trials=1"]) == 2
    assert "found has trials with another space; name another folder with --out" in capsys.readouterr().err


def test_a_tool_that_is_not_installed(folder, capsys, monkeypatch):
    for tool in ("hyperopt", "ray"):
        monkeypatch.setitem(sys.modules, tool, None)
        monkeypatch.delitem(sys.modules, "recbole_ssm.tuning.with_ray", raising=False)
        monkeypatch.delattr("recbole_ssm.tuning.with_ray", raising=False)
        assert main([*VERB, f"--tool={tool}"]) == 2
        assert f"--tool={tool} needs" in capsys.readouterr().err
