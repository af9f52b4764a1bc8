"""Whole runs: from the command line and from Python."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from atomic import (
    BARE,
    ROOT,
    SMALL,
    interactions,
    make_config,
    make_loaders,
    run_here,
    run_python,
    small,
    write_dataset,
)

import recbole_ssm
from recbole_ssm.checkpoints.describe import describe
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backends import choose
from recbole_ssm.training.evaluation import evaluate
from recbole_ssm.training.summary import count_parameters
from recbole_ssm.training.trainer import create_trainer

SCRIPT = str(ROOT / "run_recbole_ssm.py")
QUICK = {"epochs": 1, "show_progress": False, "use_gpu": False}
RESULT = {
    "best_valid_score",
    "valid_score_bigger",
    "best_valid_result",
    "test_result",
    "epochs",
    "seconds_per_epoch",
    "best_epoch",
    "seconds_to_best",
    "history",
    "parameters",
    "parameters_without_item_embedding",
    "peak_memory_gib",
    "checkpoint",
}


def options(model: str, **keys) -> list[str]:
    given = {**QUICK, **small(model), **keys}
    return [f"--{key}={value}" for key, value in given.items()]


def numbers(text: str) -> dict[str, float]:
    """The metrics in a line of the log."""
    return {name: float(value) for name, value in (words.split() for words in text.split(", "))}


def summary(done: subprocess.CompletedProcess) -> dict[str, str]:
    """The lines ``name: text`` that end the log of a run."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    names = ("best valid", "test result", "parameters", "peak memory", "checkpoint")
    found = {}
    for name in names:
        lines = re.findall(rf"^.*INFO\s+{name}\s*:\s*(.+)$", plain, flags=re.MULTILINE)
        assert len(lines) == 1, f"{name}: {lines}"
        found[name] = lines[0]
    return found


def assert_checkpoint_gives(file: Path, config, result: dict[str, float]) -> None:
    """A new model with the parameters of the checkpoint has the same test result."""
    _, (train, _, test) = make_loaders(config)
    model = config.model_class(config, train._dataset)
    checkpoint = torch.load(file, weights_only=True)
    model.load_state_dict(checkpoint["state_dict"])
    assert dict(create_trainer(config, model).evaluate(test, load_best_model=False)) == result


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("model", "time_order", "filter_seen", "gpu"),
    [
        ("SSD4Rec", "recbole", False, False),
        ("Mamba4Rec", "exact", True, True),
        ("2Mamba4Rec", "recbole", True, False),
        ("Hydra4Rec", "exact", False, False),
        ("SASRec", "exact", True, True),
        ("GRU4Rec", "recbole", False, False),
    ],
)
def test_one_epoch_from_the_command_line(tiny, tmp_path, capfd, monkeypatch, model, time_order, filter_seen, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # which is settled once it has been asked
    keys = {"time_order": time_order, "filter_seen": filter_seen}
    device = {"use_gpu": gpu, "gpu_id": 99}  # there is no such GPU, on whatever machine this runs
    given = [f"--model={model}", "--dataset=tiny", f"--data_path={tiny}", *options(model, **keys, **device)]
    done = run_here(SCRIPT, *given, "--verbose", capfd=capfd, monkeypatch=monkeypatch)
    lines = summary(done)
    assert f"time_order {time_order}, filter_seen {filter_seen}" in done.stdout + done.stderr
    assert ("no GPU" in done.stdout + done.stderr) == gpu
    result = numbers(lines["test result"])
    assert {"hit@10", "ndcg@10", "mrr@10"} <= set(result)
    assert numbers(lines["best valid"]).keys() == result.keys()
    assert float(lines["peak memory"].split()[0]) > 0.01
    (file,) = (tmp_path / "saved").glob(f"{model}-*.pth")
    assert Path(lines["checkpoint"]) == file.relative_to(tmp_path)
    assert_checkpoint_gives(file, make_config(tiny, model, **keys), result)
    total = sum(value.numel() for value in torch.load(file, weights_only=True)["state_dict"].values())
    assert int(lines["parameters"].split()[0].strip(",").replace(",", "")) == total

    (log,) = (tmp_path / "log" / model).glob("*.log")
    assert "test result" in log.read_text()
    assert "epoch 1 training" in log.read_text()
    assert list((tmp_path / "log_tensorboard").glob(f"{model}*/events*"))
    assert {path.name for path in tmp_path.iterdir()} == {"saved", "log", "log_tensorboard"}


WITHOUT_RAY = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "ray":
            raise SystemExit("ray was asked for")

sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.slow
def test_one_epoch_in_a_process_of_its_own_on_ml_100k_which_needs_no_files_and_no_ray(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_RAY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    given = ["--model=2Mamba4Rec", "--dataset=ml-100k", "--MAX_ITEM_LIST_LENGTH=50", *options("2Mamba4Rec", d_state=8)]
    done = run_python(SCRIPT, *given, "--learning_rate=0.005", "--verbose", folder=tmp_path)
    lines = summary(done)
    assert numbers(lines["test result"])["hit@10"] > 0.02  # chance: 10 of 1682 items
    assert (tmp_path / lines["checkpoint"]).is_file()


def run(folder, model="2Mamba4Rec", **keys) -> dict:
    saved, files = keys.pop("saved", True), keys.pop("config_file_list", None)
    keys = {**QUICK, **small(model), "data_path": str(folder), **keys}
    return recbole_ssm.run(model, "tiny", files, config_dict=keys, saved=saved)


def comparable(result: dict) -> dict:
    """What does not depend on the clock or on the machine."""
    timed = ("seconds_per_epoch", "seconds_to_best", "train_seconds", "valid_seconds", "peak_memory_gib", "checkpoint")
    kept = {key: value for key, value in result.items() if key not in timed}
    return kept | {"history": [comparable(epoch) for epoch in kept["history"]]} if "history" in kept else kept


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec", "SASRec"])
def test_a_seed_decides_the_result(tiny, model):
    keys = {"epochs": 2, "learning_rate": 0.01, "seed": 5}
    first, again, other = run(tiny, model, **keys), run(tiny, model, **keys), run(tiny, model, **{**keys, "seed": 6})
    assert comparable(first) == comparable(again)
    assert first["test_result"] != other["test_result"]


@pytest.mark.slow
def test_workers_do_not_change_the_result(tiny):
    keys = {"loss_type": "BPR", "mask_ratio": 0.3, "learning_rate": 0.01, "eval_step": 2, "epochs": 2}
    alone, helped = run(tiny, "SSD4Rec", **keys), run(tiny, "SSD4Rec", **keys, worker=2)
    assert comparable(alone) == comparable(helped)


def test_what_a_run_returns(tiny, tmp_path):
    result = run(tiny, epochs=3)
    assert set(result) == RESULT
    assert result["epochs"] == 3
    assert result["valid_score_bigger"] is True
    assert result["best_valid_score"] == result["best_valid_result"]["ndcg@10"]
    assert 0 < result["seconds_per_epoch"] < 60
    assert [epoch["epoch"] for epoch in result["history"]] == [1, 2, 3]
    assert max(epoch["valid_result"]["ndcg@10"] for epoch in result["history"]) == result["best_valid_score"]
    assert all(0 < epoch["train_loss"] < 10 and epoch["valid_seconds"] > 0 for epoch in result["history"])
    exact = [epoch["valid_score"] for epoch in result["history"]]
    assert [round(score, 4) for score in exact] == [epoch["valid_result"]["ndcg@10"] for epoch in result["history"]]
    assert any(round(score, 4) != score for score in exact)
    assert 0.01 < result["peak_memory_gib"] < 100
    config = make_config(tiny)
    dataset, (train, _, _) = make_loaders(config)
    model = config.model_class(config, train._dataset)
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert result["parameters"] - result["parameters_without_item_embedding"] == dataset.item_num * SMALL["hidden_size"]
    assert_checkpoint_gives(tmp_path / result["checkpoint"], config, dict(result["test_result"]))


def test_a_run_that_is_not_saved_writes_no_checkpoint(tiny, tmp_path):
    result = run(tiny, saved=False)
    assert result["checkpoint"] is None
    assert result["test_result"]["hit@10"] >= 0
    assert not list(tmp_path.rglob("*.pth"))


def test_a_run_tells_of_each_epoch_and_leaves_the_test_out_if_asked(tiny):
    seen = []
    result = recbole_ssm.run(
        "2Mamba4Rec",
        "tiny",
        config_dict={**QUICK, **SMALL, "data_path": str(tiny), "epochs": 2},
        after_epoch=lambda trainer: seen.append(len(trainer.history)),
        test=False,
    )
    assert seen == [1, 2]
    assert result["test_result"] is None and result["best_valid_result"] is not None


def test_no_epoch_tests_the_model_as_it_begins(tiny):
    result = run(tiny, epochs=0)
    assert (result["epochs"], result["seconds_per_epoch"]) == (0, None)
    assert result["test_result"]["hit@10"] >= 0


def test_without_test_data_the_rest_is_done(tiny):
    result = run(tiny, eval_args={"split": {"LS": "valid_only"}, "group_by": "user", "order": "TO", "mode": "full"})
    assert result["test_result"] is None
    assert result["best_valid_result"]["hit@10"] >= 0
    again = evaluate(result["checkpoint"])
    assert (again["valid_result"], again["test_result"]) == (result["best_valid_result"], None)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("protocol", "held_out"), [("leave_one_out", 2), ("no_validation", 1), ("everything", 0)])
def test_a_protocol_trains_on_all_but_what_it_holds_out(tiny, protocol, held_out):
    files = [f"protocol/{protocol}"]
    result = run(tiny, config_file_list=files, epochs=2)
    users, lines = 30, len((tiny / "tiny" / "tiny.inter").read_text().splitlines()) - 1
    assert describe(result["checkpoint"])["dataset"]["samples"] == lines - users * (1 + held_out)
    assert [result[name] is not None for name in ("best_valid_result", "test_result")] == [held_out > 1, held_out > 0]
    again = evaluate(result["checkpoint"])
    assert (again["valid_result"], again["test_result"]) == (result["best_valid_result"], result["test_result"])
    assert result["best_epoch"] == 2 or held_out > 1


@pytest.mark.slow
def test_the_best_epoch_is_the_last_of_the_best(tiny):
    result = run(tiny, valid_metric="Hit@10", epochs=6)
    scores = [epoch["valid_result"]["hit@10"] for epoch in result["history"]]
    assert scores[result["best_epoch"] - 1] == max(scores) > max(scores[result["best_epoch"] :], default=0)
    until = result["history"][: result["best_epoch"]]
    assert result["seconds_to_best"] == sum(epoch["train_seconds"] + epoch["valid_seconds"] for epoch in until)


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_labels_that_the_data_have_not_are_missed_before_the_training(tiny, model):
    judged = {"eval_args": {"mode": "labeled"}, "metrics": ["AUC"], "valid_metric": "AUC"}
    with pytest.raises(InputError, match="mode labeled evaluates by labels, and the data have no column 'label'"):
        run(tiny, model, **judged)


@pytest.mark.parametrize(("model", "words"), [("DeepFM", "no column 'label'"), ("SASRecF", "'class'.* load_col")])
def test_what_a_model_of_recbole_needs_of_the_data_is_named(tiny, model, words):
    settings = {**QUICK, "data_path": str(tiny), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    with pytest.raises(InputError, match=words):
        recbole_ssm.run(model, "tiny", config_dict=settings)


def test_models_of_graphs_are_trained_with_the_scipy_that_there_is(tiny):
    """RecBole fills their matrices by a method that scipy has no more."""
    settings = {**QUICK, "data_path": str(tiny), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    result = recbole_ssm.run("LightGCN", "tiny", ["protocol/leave_one_out"], settings | {"epochs": 1})
    assert result["test_result"]["hit@10"] >= 0


@pytest.mark.parametrize("eval_step", [0, -1])
def test_validation_that_never_comes_is_refused(tiny, eval_step):
    with pytest.raises(InputError, match="eval_step must be a whole number, 1 or more"):
        run(tiny, eval_step=eval_step)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("eval_step", [1, 2, 3, 9])
def test_the_last_epoch_is_validated(tiny, eval_step):
    history = run(tiny, epochs=5, eval_step=eval_step)["history"]
    found = [epoch["epoch"] for epoch in history if "valid_result" in epoch]
    assert found == sorted({*range(eval_step, 6, eval_step), 5})


def test_metrics_that_count_interactions_are_computed(tiny):
    metrics = ["NDCG", "GiniIndex", "AveragePopularity", "ItemCoverage", "ShannonEntropy", "TailPercentage"]
    result = run(tiny, metrics=metrics, valid_metric="GiniIndex@10", epochs=3)
    scores = [epoch["valid_result"]["giniindex@10"] for epoch in result["history"]]
    assert scores[result["best_epoch"] - 1] == min(scores) == result["best_valid_score"]
    assert set(result["test_result"]) == {f"{metric.lower()}@10" for metric in metrics}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["uni20", "pop20"])
def test_sampled_evaluation_from_end_to_end(tiny, mode):
    keys = {"eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": mode}}
    ours, recboles = run(tiny, **keys), run(tiny, "SASRec", **keys)
    for result in (ours, recboles):
        assert 0.2 < result["test_result"]["hit@10"] <= 1  # of 21 candidates


def test_a_general_model_of_recbole_runs(tiny):
    result = run(tiny, "BPR", load_col={"inter": ["user_id", "item_id"]})
    assert result["test_result"]["hit@10"] >= 0
    assert result["parameters_without_item_embedding"] < result["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["SASRecF", "ItemKNN"])
def test_models_that_keep_more_than_parameters_are_saved_and_tested_too(tmp_path, model):
    """Their ``other_parameter``: a layer of features, a sparse matrix."""
    file = write_dataset(tmp_path, interactions())
    items = "".join(f"i{number}\t{'a' if number % 3 else 'b'}\n" for number in range(40))
    file.with_suffix(".item").write_text(f"item_id:token\tclass:token\n{items}")
    keys = {"n_layers": 1, "hidden_size": 8, "inner_size": 16} if model == "SASRecF" else {"k": 5}
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    result = run(tmp_path, model, load_col=columns, **keys)
    assert result["test_result"]["hit@10"] >= 0
    assert torch.load(result["checkpoint"], weights_only=True)["config"]["model"] == model


def test_two_runs_in_a_process_do_not_disturb_the_callers_logging(tiny):
    root = logging.getLogger()
    before = list(root.handlers), root.level
    run(tiny)
    run(tiny, "SASRec")
    assert (list(root.handlers), root.level) == before


def test_a_log_that_cannot_be_written_costs_the_caller_none(tiny):
    Path("log").write_text("in the way")
    before = list(logging.getLogger().handlers)
    with pytest.raises(InputError, match=r"the folder log of the run's logs cannot be written to .*; start in another"):
        run(tiny)
    assert logging.getLogger().handlers == before


def test_a_caller_who_logs_gets_the_files_too(tiny, capfd):
    lines = logging.StreamHandler()
    logging.getLogger().addHandler(lines)
    try:
        run(tiny)
    finally:
        logging.getLogger().removeHandler(lines)
    (log,) = Path("log").rglob("*.log")
    assert "test result" in log.read_text()
    assert "valid_result" in log.with_suffix(".jsonl").read_text()
    assert capfd.readouterr().err.count("test result") == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_model_that_was_trained_in_one_direction_only_is_noted(tiny, caplog, monkeypatch, epochs):
    if epochs == 1:
        monkeypatch.setattr("recbole_ssm.training.hooks.time_budget.broadcast", lambda spent: True)
    keys = {"train_samples": "prefix_lm", "causal_epochs": 1, "epochs": 2, "time_budget": 1000.0}
    result = run(tiny, "SSD4Rec", learning_rate=0.0, **keys)
    assert result["best_epoch"] == result["epochs"] == epochs
    assert ("one of the 1 causal_epochs" in caplog.text) == (epochs == 1)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("backend", "what"), [("torch", "ssd torch"), ("auto", "ssd ")])
def test_the_log_says_what_computes_the_scans(tiny, caplog, backend, what):
    with caplog.at_level(logging.INFO):
        run(tiny, ssm_backend=backend)
    log = re.sub(r"\x1b\[[0-9;]*m", "", caplog.text)
    assert f"Backends: {what}" in log
    assert re.search(r"Threads: 1 \(.+\); waiting ones ", log)
    assert choose("ssd", torch.empty(0, dtype=torch.float64)) == "torch"


@pytest.mark.sampled(4)
@pytest.mark.parametrize("model", ["SSD4Rec", "Mamba4Rec", "2Mamba4Rec", "Hydra4Rec"])
def test_enable_amp_trains_to_nearly_the_same(tiny, model):
    """The same steps in bfloat16, whose rounding may exchange neighbours in a ranking."""
    exact, mixed = (run(tiny, model, enable_amp=enabled) for enabled in (False, True))
    assert exact["best_valid_result"].keys() == mixed["best_valid_result"].keys()
    parameters = [torch.load(result["checkpoint"], weights_only=True)["state_dict"] for result in (exact, mixed)]
    moved = [(parameters[0][name] - parameters[1][name]).abs().max() for name in parameters[0]]
    assert 0 < max(moved) < 0.05
    assert all(value.dtype == torch.float32 for value in parameters[1].values())


@pytest.mark.slow
def test_two_runs_in_a_process_have_logs_of_their_own(tiny, tmp_path):
    for model in ("2Mamba4Rec", "GRU4Rec"):
        run(tiny, model)
    for model, other in (("2Mamba4Rec", "GRU4Rec"), ("GRU4Rec", "2Mamba4Rec")):
        (log,) = (tmp_path / "log" / model).glob("*.log")
        text = log.read_text()
        assert "test result" in text
        assert other not in text


def test_parameters_are_counted_with_and_without_the_items():
    model = torch.nn.Module()
    model.n_items = 30
    model.item_embedding = torch.nn.Embedding(30, 4)
    model.position_embedding = torch.nn.Embedding(7, 4)
    model.frozen = torch.nn.Parameter(torch.zeros(100), requires_grad=False)
    model.linear = torch.nn.Linear(4, 2)
    assert count_parameters(model) == (120 + 28 + 10, 28 + 10)


@pytest.mark.slow
def test_peak_memory_is_the_most_that_the_process_itself_ever_held(tmp_path):
    program = (
        f"{BARE}import torch\nfrom recbole_ssm.system.resources import peak_memory_gib as peak\n"
        "cpu = torch.device('cpu')\n"
        "before = peak(cpu); x = torch.ones(2**26); held = peak(cpu); del x; print(before, held, peak(cpu))"
    )
    of_the_parent = np.ones(2**30, dtype=np.uint8)  # 1 GiB, which is not the child's
    done = run_python("-c", program, folder=tmp_path)
    del of_the_parent
    before, held, after = map(float, done.stdout.split())
    assert 0.05 < before < 1.0
    assert 0.2 < held - before < 0.35
    assert after >= 0.99 * held
