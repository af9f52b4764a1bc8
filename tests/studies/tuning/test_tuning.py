"""Trials are done once, go on where they were, fail alone; the best is kept, tested, and can be trained again."""

import csv
import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from atomic import SMALL, interactions, write_dataset

from recbole_ssm.checkpoints.describe import describe
from recbole_ssm.cli.main import main
from recbole_ssm.studies.tuning import Task
from recbole_ssm.studies.tuning import trials as trials_module
from recbole_ssm.studies.tuning.trials import Trial, best, by_score
from recbole_ssm.training.hooks.stopping import Interrupted

KEYS = ("--data_path=.", "--use_gpu=False", "--epochs=3", *(f"--{key}={value}" for key, value in SMALL.items()))
VERB = ["tune", "--model=2Mamba4Rec", "--dataset=tiny", "--params_file=my.hyper", "--out=found", *KEYS]


@pytest.fixture
def folder(tmp_path):
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
    scores = [(epoch["valid_result"]["ndcg@10"], epoch["epoch"], epoch["valid_score"]) for epoch in record.history]
    assert first == [(epoch, max(scores[:epoch])[2]) for epoch in (1, 2, 3)]
    assert (record.best_epoch, record.score) == max(scores)[1:] and record.ended == "finished"
    assert describe(task.checkpoint(record))["valid_result"]["ndcg@10"] == max(scores)[0]
    assert task.train({"learning_rate": 0.01}, again) == record
    assert again == first


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_trial_that_was_stopped_goes_on(task, last):
    params = {"learning_rate": 0.01}
    whole = Task("2Mamba4Rec", "tiny", "whole", keys=KEYS).train(params, Reports())

    def die(epoch: int, score: float) -> None:
        if epoch == last:
            raise Interrupted(15, "there")

    with pytest.raises(Interrupted, match="the same command goes on with it"):
        task.train(params, die)
    assert len(task.trial(params).history) == last
    assert task.trial(params).ended == (None if last < 3 else "finished")
    reports = Reports()
    record = task.train(params, reports)
    assert record.best_scores == whole.best_scores
    assert reports == list(enumerate(whole.best_scores, 1))
    losses = [[epoch["train_loss"] for epoch in each.history] for each in (whole, record)]
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [("--epochs=2",), ("--epochs=3", "--eval_step=2"), ("--epochs=20", "--stopping_step=1", "--learning_rate=0.05")],
)
def test_a_trial_whose_process_is_ended_as_it_tells_of_its_last_epoch_is_finished(folder, keys):
    """Its early stopping ends it, or the number of epochs; a search that hears of an epoch may end the process."""
    task, params = Task("2Mamba4Rec", "tiny", "found", keys=(*KEYS[:2], *KEYS[3:], *keys)), {"dropout_prob": 0.0}
    whole = Task("2Mamba4Rec", "tiny", "whole", keys=task.keys).train(params, Reports())
    last = len(whole.history)

    def killed(epoch: int, score: float) -> None:
        if epoch == last:
            raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        task.train(params, killed)
    assert task.end(params).ended == "finished" and len(task.trial(params).history) == last < 20
    assert [file.name.endswith(".latest.pth") for file in task.checkpoint(task.trial(params)).parent.iterdir()] == [
        False
    ]


@pytest.mark.slow
def test_only_the_weights_of_the_best_are_kept(task):
    all_params = [{"learning_rate": rate} for rate in (0.01, 1e-7, 0.02)]
    for params in all_params:
        task.train(params, Reports())
        task.end(params)
    winner = best(task.trials())
    for record in task.trials():
        assert (task.place(record.params) / "checkpoints").exists() == (record.params == winner.params)
    leading = {"learning_rate": 0.03}  # one that goes on counts for nothing yet, and keeps its own
    task.keep(replace(task.trial(all_params[0]), params=leading, score=1.0, ended=None))
    (task.place(leading) / "checkpoints").mkdir()
    task.end(all_params[0])
    kept = [record for record in task.trials() if (task.place(record.params) / "checkpoints").exists()]
    assert {record.params["learning_rate"] for record in kept} == {winner.params["learning_rate"], 0.03}
    task.end(leading, "it ran out of memory")
    assert best(task.trials()).params == winner.params and task.checkpoint(winner).is_file()
    all_params.append(leading)
    stopped = {"learning_rate": 0.5}
    assert task.end(stopped, "it was killed").error == "it was killed"
    assert {record.params["learning_rate"] for record in task.trials()} == {0.01, 1e-7, 0.02, 0.03, 0.5}
    ranked = [record for _, record in by_score(task.trials())]
    assert ranked[0] == winner and {record.ended for record in ranked[3:]} == {"failed"}


def test_a_trial_that_failed_is_tried_again(task, monkeypatch):
    params = {"learning_rate": 0.01}
    with monkeypatch.context() as patch:
        patch.setattr("recbole_ssm.studies.tuning.trials.run", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            task.train(params, Reports())
    assert task.end(params).error == "ZeroDivisionError: division by zero"

    def another_ends(epoch: int, score: float) -> None:
        task.end({"learning_rate": 0.5})

    assert task.train(params, another_ends).ended == "finished"
    assert task.end(params).error is None


def test_a_configuration_leaves_gpus_visible(task, monkeypatch):
    for visible in ("2,3", None):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        task.config({"learning_rate": 0.01})
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize(("spent", "over"), [(1.0, False), (3.0, True)])
def test_a_trial_whose_time_is_spent_is_finished(spent, over):
    history = [{"train_seconds": spent}, {"train_seconds": 0.5, "valid_seconds": 0.5}]
    budget = SimpleNamespace(time_budget=3.0)
    trainer = SimpleNamespace(config=budget, history=history, epochs=9, cur_step=0, stopping_step=2)
    assert trials_module._is_over(trainer) == over


def test_a_record_of_an_earlier_version_is_read(task):
    record = {"params": {"learning_rate": 0.5}, "began": 1.0, "ended": "stopped", "error": None, "bigger": True}
    record |= {"history": [{}, {}, {}], "best_scores": [0.1, 0.2, 0.2], "score": 0.2, "checkpoint": "a.pth"}
    place = task.place(record["params"])
    place.mkdir(parents=True)
    (place / "trial.json").write_text(json.dumps(record))
    assert task.trials() == [Trial(**record, best_epoch=2)]


def test_trials_are_compared_by_scores_that_are_not_rounded():
    """Of one trial the weights are those that RecBole chose by the rounded score: of equal ones the last."""
    found, config = {}, SimpleNamespace(valid_metric="NDCG@10", valid_metric_bigger=True)
    for name, exact in (("first", (0.12341, 0.12338)), ("second", (0.12339, 0.1))):
        history = [{"valid_result": {"ndcg@10": round(each, 4)}, "valid_score": each} for each in exact]
        found[name] = Trial({"name": name}, ended="finished")
        found[name].update(history, "a.pth", config)
    assert (found["first"].best_epoch, found["first"].score, found["first"].best_scores) == (
        2,
        0.12338,
        [0.12341, 0.12338],
    )
    assert best(found.values()) is found["second"]
    earlier = Trial({})  # a training that an earlier version began has rounded scores only
    earlier.update([{"valid_result": {"ndcg@10": 0.1}}, {}], "a.pth", config)
    assert (earlier.score, earlier.best_scores) == (0.1, [0.1, None])


def test_less_can_be_better():
    trials = [Trial({}, score=3.0, bigger=False, ended="stopped"), Trial({}, score=2.0, bigger=False, ended="finished")]
    assert best(trials).score == 2.0
    trials.append(Trial({}, score=1.0, bigger=False, ended="failed"))
    assert best(trials).score == 2.0
    assert best([Trial({}, ended="failed")]) is None


@pytest.mark.slow
def test_hyperopt_from_a_params_file_to_a_training(folder, capsys, painted, unpainted):
    pytest.importorskip("hyperopt", reason="pip install -e '.[tune]' brings hyperopt")
    assert main([*VERB, "--tool=hyperopt", "--trials=3"]) == 0
    said = capsys.readouterr().out
    assert "[3/3] trial 3: learning_rate" in said and "test_result of the best: " in said
    before = trials(folder)
    assert len(before) == 3
    found = json.loads((folder / "found" / "results.json").read_text())
    scores = [record["score"] for record, _ in before.values()]
    assert found["best"]["score"] == max(scores) == pytest.approx(found["valid_result"]["ndcg@10"], abs=5.1e-5)
    with (folder / "found" / "trials.csv").open() as lines:
        assert sorted(float(row["NDCG@10"]) for row in csv.DictReader(lines)) == sorted(scores)
    page = (folder / "found" / "report.html").read_text()
    assert page.count("<svg") == 4 and "trial 3" in page

    unpainted()
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_search_without_test_data_ends_with_its_report(folder, capsys):
    pytest.importorskip("hyperopt", reason="pip install -e '.[tune]' brings hyperopt")
    split = "--eval_args={'split':{'LS':'valid_only'}}"
    assert main([*VERB, "--tool=hyperopt", "--trials=2", "--algo=random", split]) == 0
    assert "test_result of the best: there is no such data" in capsys.readouterr().out
    assert json.loads((folder / "found" / "results.json").read_text())["test_result"] is None


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tool=grid"], "--tool=grid must be ray or hyperopt"),
        (["--tool=hyperopt", "--algo=exhaustive"], "--algo=exhaustive must be bayes or random"),
        (["--algo=random"], "--algo does not apply to --tool=ray"),
        (["--tool=hyperopt", "--address=auto"], "--address does not apply to --tool=hyperopt"),
        (["--tool=hyperopt", "--eval_step=0"], "eval_step must be a whole number, 1 or more"),
        (["--tool=hyperopt", "--eval_step=4"], "eval_step 4 must be 1 to epochs (3)"),
        (["--tool=hyperopt", "--eval_args={'split':{'LS':'test_only'}}"], "leaves no data"),
        (["--trials=0"], "--trials=0 must be a whole number of at least 1"),
        (["--trials=many"], "--trials=many must be"),
        (["--gpus_per_trial=-1"], "--gpus_per_trial=-1 must be a number"),
        (["--tool=hyperopt", "--learning_rate=0.1"], "learning_rate is in the params file; leave --learning_rate out"),
        (["--tool=hyperopt", "--checkpoint_dir=x"], "tune sets checkpoint_dir itself"),
        (["--tool=hyperopt", "--learning_rat=0.1"], "unknown key 'learning_rat'. Did you mean learning_rate?"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_trained(folder, capsys, arguments, says):
    assert main([*VERB, *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (folder / "found" / "trials").exists()


@pytest.mark.parametrize(
    ("model", "line", "says"),
    [
        ("2Mamba4Rec", "headdim choice [4,5]", "headdim 5 does not divide"),
        ("Hydra4Rec", "d_conv quniform 3,7,1", "d_conv must be odd"),
        ("2Mamba4Rec", "learning_rat uniform 0,1", "Did you mean learning_rate?"),
        (
            "SASRec",
            "learning_rat uniform 0,1",
            "that does nothing: learning_rat is passed over: unknown key 'learning_rat'. Did you mean learning_rate?",
        ),
        (
            "SASRec",
            "d_state choice [4,8]",
            "that does nothing: d_state is passed over: it is for the models of this package",
        ),
        (
            "Mamba4Rec",
            "headdim choice [4,8]",
            "that does nothing: headdim is passed over: it does not apply to Mamba4Rec",
        ),
        ("2Mamba4Rec", "n_layers choice [1,2]", "that does nothing: n_layers is passed over"),
        ("2Mamba4Rec", "config_files choice ['a','b']", "config_files does not apply here"),
        ("2Mamba4Rec", "epochs choice [5,50]", "epochs cannot be searched"),
        ("2Mamba4Rec", "eval_users choice [10,20]", "eval_users cannot be searched"),
        ("SASRec", "item_inter_num_interval choice ['[1,inf)','[5,inf)']", "item_inter_num_interval cannot be"),
        ("2Mamba4Rec", "model choice ['SASRec','GRU4Rec']", "model cannot be searched"),
        ("2Mamba4Rec", "checkpoint_dir choice ['a','b']", "checkpoint_dir cannot be searched"),
    ],
)
def test_lines_that_the_model_cannot_use(folder, capsys, model, line, says):
    (folder / "my.hyper").write_text(line + "\n")
    keys = ("--tool=hyperopt", "--data_path=.", "--use_gpu=False", "--epochs=3")
    assert main(["tune", f"--model={model}", *VERB[2:5], *keys]) == 2
    assert says in capsys.readouterr().err
    assert not (folder / "found").exists()


def test_words_of_a_params_file_are_literals_and_never_code(task):
    words = {"clip_grad_norm": "{'max_norm': 1.0}", "weight_decay": "1e-4", "learner": "adamw"}
    config = task.config(words | {"wandb_project": "__import__('pathlib').Path('run').touch()"})
    assert config["clip_grad_norm"] == {"max_norm": 1.0}
    assert (config["weight_decay"], config["learner"]) == (1e-4, "adamw")
    assert config["wandb_project"].startswith("__import__")
    assert not Path("run").exists()


@pytest.mark.slow
def test_another_search_needs_another_folder(folder, capsys):
    pytest.importorskip("hyperopt", reason="pip install -e '.[tune]' brings hyperopt")
    assert main([*VERB, "--tool=hyperopt", "--trials=1"]) == 0
    (folder / "my.hyper").write_text("learning_rate loguniform -7,-2\n")
    assert main([*VERB, "--tool=hyperopt", "--trials=1"]) == 2
    assert "found has trials with another space; name another folder with --out" in capsys.readouterr().err
    (folder / "my.hyper").write_text("learning_rate loguniform -7,-3\ntrain_batch_tokens choice [128,256]\n")
    assert main([*VERB[:5], *reversed(KEYS), "--tool=hyperopt", "--trials=1"]) == 0  # the same, in another order
    assert main([*VERB, "--tool=hyperopt", "--trials=1", "--dropout_prob=0.5"]) == 2
    assert "found has trials with other settings, dropout_prob 0.2 (now 0.5); name" in capsys.readouterr().err
    write_dataset(folder, interactions(n_users=60, n_items=30, shortest=5, longest=12, seed=9))
    assert main([*VERB, "--tool=hyperopt", "--trials=1"]) == 2
    assert "found has trials on other data of this name" in capsys.readouterr().err
    (folder / "found" / "search.json").write_text("{}")
    assert main([*VERB, "--tool=hyperopt", "--trials=1"]) == 2
    assert "found has trials of an earlier version of this package" in capsys.readouterr().err


@pytest.mark.parametrize(
    "tool, missing",
    [("hyperopt", ["hyperopt"]), ("ray", ["ray"]), ("ray", ["pyarrow"]), ("ray", ["ray", "hyperopt"])],
)
def test_a_tool_that_is_not_installed_is_named_before_anything_else(folder, capsys, monkeypatch, tool, missing):
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "recbole_ssm.studies.tuning.with_ray", raising=False)
    monkeypatch.delattr("recbole_ssm.studies.tuning.with_ray", raising=False)
    (other,) = {"ray", "hyperopt"} - {tool}
    needed = ("ray", "pyarrow") if other == "ray" else (other,)
    can_be_used = all(name not in missing and importlib.util.find_spec(name) is not None for name in needed)
    verb = [word.replace("my.hyper", "none.hyper") for word in VERB]
    assert main([*verb, f"--tool={tool}"]) == 2
    said = capsys.readouterr().err
    assert f"error: --tool={tool} needs packages that are not installed here" in said
    assert "pip install 'recbole-ssm[tune]'" in said
    assert (f"or use --tool={other}, which is installed" in said) == can_be_used


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("hyperopt") is None, reason="hyperopt is not installed")
@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ("checkpoint_dir: mine\n", {"checkpoint_dir: the config files' mine is passed over; tune sets "}),
        (
            "show_progress: True\ndataset_cache: '[/]'\n",
            {"show_progress: the config", "dataset_cache: the config files' [/]"},
        ),
        ("stopping_step: 1\nn_layers: 2\n", {"n_layers is passed over: it is a key of other models"}),
    ],
)
def test_what_config_files_say_in_vain_is_told(folder, capsys, given, noted):
    (folder / "mine.yaml").write_text(given)
    assert main([*VERB, "--tool=hyperopt", "--trials=1", "--config_files=mine.yaml"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "is passed over" in line]
    assert len(told) == len(noted)
    assert all(any(line.startswith(begin) for line in told) for begin in noted)
