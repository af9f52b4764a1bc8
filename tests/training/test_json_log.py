"""What programs can read of a run: JSON lines, and TensorBoard's files."""

import json
import logging
import re
from pathlib import Path

import pytest
from atomic import SMALL, interactions, small, write_dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import recbole_ssm
from recbole_ssm.training import json_log


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "GRU4Rec"])
def test_json_lines_and_tensorboard_say_what_the_history_says(tmp_path, monkeypatch, model):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's, beside which RecBole writes no log
    write_dataset(tmp_path, interactions())
    keys = {"data_path": str(tmp_path), "use_gpu": False, "show_progress": False, **small(model)}
    keys |= (
        {"train_batch_tokens": 64} if model == "2Mamba4Rec" else {"train_batch_size": 50}
    )  # several, the last smaller
    result = recbole_ssm.run(model, "tiny", config_dict={**keys, "epochs": 4, "eval_step": 2})
    (file,) = tmp_path.glob("log/*/*.jsonl")
    log = re.sub(r"\x1b\[\d+m", "", file.with_suffix(".log").read_text())
    of_log = [
        (int(epoch), float(loss)) for epoch, loss in re.findall(r"epoch (\d+) training .*train loss: ([\d.]+)", log)
    ]
    assert of_log == [(epoch["epoch"], pytest.approx(epoch["train_loss"], abs=1e-4)) for epoch in result["history"]]
    assert re.findall(r"epoch (\d+) evaluating", log) == ["2", "4"]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines.pop() == {"test_result": {name: float(value) for name, value in result["test_result"].items()}}
    told = {}
    for line in lines:
        told.setdefault(line["epoch"], {}).update(line)
    assert list(told.values()) == result["history"]
    assert ["valid_result" in epoch for epoch in told.values()] == [False, True, False, True]

    (folder,) = tmp_path.glob("log_tensorboard/*")
    events = EventAccumulator(str(folder))
    events.Reload()
    losses = [event.value for event in events.Scalars("Loss/Train")]
    assert losses == pytest.approx([epoch["train_loss"] for epoch in result["history"]], rel=1e-5)
    scores = [event.value for event in events.Scalars("Vaild_score")]
    metric = {"2Mamba4Rec": "ndcg@10", "GRU4Rec": "mrr@10"}[model]
    assert scores == pytest.approx([epoch["valid_result"][metric] for epoch in result["history"][1::2]], abs=1e-6)


def test_each_run_has_its_own_file(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    write_dataset(tmp_path, interactions())
    for seed in (1, 2):
        keys = {"data_path": str(tmp_path), "use_gpu": False, "epochs": 1, "seed": seed, **SMALL}
        recbole_ssm.run("2Mamba4Rec", "tiny", config_dict=keys, saved=False)
    assert [len(file.read_text().splitlines()) for file in tmp_path.glob("log/*/*.jsonl")] == [3, 3]


@pytest.mark.slow
def test_runs_of_the_same_second_have_logs_of_their_own(tiny, monkeypatch):
    monkeypatch.setattr("recbole.utils.logger.get_local_time", lambda: "Nov-27-2026_12-00-00")
    keys = {"data_path": str(tiny), "use_gpu": False, "show_progress": False, "epochs": 1, "hidden_size": 8}
    for _ in range(3):
        recbole_ssm.run("2Mamba4Rec", "tiny", config_dict=keys)
    logs = list(Path("log").rglob("*.log"))
    assert len(logs) == 3
    for log in logs:
        assert log.read_text().count("test result") == 1
        lines = [json.loads(line) for line in log.with_suffix(".jsonl").read_text().splitlines()]
        assert sum("test_result" in line for line in lines) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
@pytest.mark.parametrize("full", ["log", "jsonl", "log_tensorboard", "all"])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "GRU4Rec"])
def test_a_log_that_cannot_be_written_to_is_told_once_and_costs_nothing(tiny, monkeypatch, capfd, model, full):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def fill(trainer):
        if len(trainer.history) > 1:
            return
        if full in ("jsonl", "all"):
            json_log.file().unlink(missing_ok=True)
            json_log.file().symlink_to("/dev/full")
        if full in ("log", "all"):
            (log,) = (each for each in logging.getLogger().handlers if isinstance(each, logging.FileHandler))
            log.setStream(open("/dev/full", "w"))  # noqa: SIM115  (the handler closes it)
        if full in ("log_tensorboard", "all"):
            monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", refuse)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    keys = {"data_path": str(tiny), "use_gpu": False, "show_progress": False, "epochs": 4, **small(model)}
    expected = recbole_ssm.run(model, "tiny", config_dict=keys, saved=False)
    capfd.readouterr()
    result = recbole_ssm.run(model, "tiny", config_dict=keys, saved=False, after_epoch=fill)
    for name in ("best_valid_result", "test_result", "epochs"):
        assert result[name] == expected[name]
    said = capfd.readouterr().err
    told = "cannot be written to ([Errno 28] No space left on device); the run goes on without it"
    assert said.count(told) == {"all": 3}.get(full, 1)
    assert "Traceback" not in said
