"""Whoever waits sees how far a training is, where there is a screen to see it."""

import io
import json
import time
from itertools import count

import pytest
from atomic import interactions, small, write_dataset
from rich.console import Console

import recbole_ssm
from recbole_ssm.studies import progress
from recbole_ssm.studies.tuning import Task
from recbole_ssm.studies.tuning.trials import Trial
from recbole_ssm.system import progress_bar


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_a_trainer_tells_how_far_it_is_batch_by_batch(tmp_path, model):
    write_dataset(tmp_path, interactions())
    told = []
    keys = {"data_path": str(tmp_path), "use_gpu": False, "show_progress": False, "epochs": 3}
    keys |= {"train_batch_tokens": 40} if model == "2Mamba4Rec" else {"train_batch_size": 40}
    result = recbole_ssm.run(model, "tiny", config_dict=small(model) | keys, watch=lambda *far: told.append(far))
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[0] == 0 and 2 / 3 < shares[-1] <= 1
    assert len(set(shares)) > 2 * result["epochs"]
    words = [f"epoch {number}/3{what}" for number in (1, 2, 3) for what in ("", ", validating")]
    assert list(dict.fromkeys(each for _, each in told)) == words


@pytest.mark.slow
def test_a_budget_that_is_spent_counts_as_done(tmp_path):
    write_dataset(tmp_path, interactions())
    told = []
    keys = {"data_path": str(tmp_path), "use_gpu": False, "show_progress": False, **small("2Mamba4Rec")}
    keys |= {"epochs": 100000, "time_budget": 1.0, "stopping_step": 100000}
    recbole_ssm.run("2Mamba4Rec", "tiny", config_dict=keys, watch=lambda *far: told.append(far))
    assert told[-1][0] > 0.5


def test_what_is_told_goes_through_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    file = tmp_path / "run.progress"
    assert progress.from_file(file) == (0.0, "beginning")
    tell = progress.to_file(file)
    for share in (0.25, 0.5):
        tell(share, "epoch 1/2")
        assert progress.from_file(file) == (share, "epoch 1/2")
    for damaged in ("", "[1", "{}", "[1, 2, 3]"):
        file.write_text(damaged)
        assert progress.from_file(file) == (0.0, "beginning")
    progress.to_file(tmp_path / "no folder" / "run.progress")(0.5, "")  # nothing is lost but the bar


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_and_nothing_elsewhere(monkeypatch, terminal):
    shares = (min(number / 10, 0.4) for number in count())
    monkeypatch.setattr(progress_bar, "SECONDS", 0.01)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with progress_bar.bar(console, lambda: (next(shares), "epoch 2/5")):
        until = time.monotonic() + 20
        while terminal and "40%" not in console.file.getvalue() and time.monotonic() < until:
            time.sleep(0.02)
        console.print("a line")
    said = console.file.getvalue()
    assert "a line" in said
    assert ("epoch 2/5" in said and "40%" in said and "left" in said) if terminal else said == "a line\n"


def test_trials_that_go_on_count_in_part(tmp_path):
    task = Task("2Mamba4Rec", "tiny", str(tmp_path))
    assert task.progress(4) == (0.0, "0/4 trials")
    for rate, ended in ((0.1, "finished"), (0.2, "failed"), (0.3, None), (0.4, None)):
        task.keep(Trial({"learning_rate": rate}, began=rate, ended=ended))
    (task.place({"learning_rate": 0.3}) / "progress").write_text(json.dumps([0.5, "epoch 2/4"]))
    assert task.progress(10) == (0.25, "2/10 trials")
    assert task.progress(1) == (1.0, "1/1 trials")
