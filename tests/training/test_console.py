"""What a training prints: little by default, everything where that is asked for, and one line for an error."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from io import StringIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from atomic import ROOT, run_here, small

import recbole_ssm
from recbole_ssm.system import progress_bar
from recbole_ssm.system.console_log import ForPeople, tell
from recbole_ssm.system.terminal import Console

SCRIPT = str(ROOT / "run_recbole_ssm.py")


@pytest.fixture
def train(tiny, capfd, monkeypatch):
    """A function that trains on the command line, and returns what is printed."""

    def run(model: str, *words: str, **keys):
        keys = {"data_path": tiny, "epochs": 2, "use_gpu": False, **small(model), **keys}
        given = [f"--model={model}", "--dataset=tiny", *(f"--{key}={value}" for key, value in keys.items()), *words]
        return run_here(SCRIPT, *given, capfd=capfd, monkeypatch=monkeypatch)

    return run


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", pytest.param("PCTM", marks=pytest.mark.slow)])
def test_a_training_prints_what_a_person_wants_to_read(train, model):
    done = train(model)
    assert (done.returncode, done.stderr) == (0, "") or model == "PCTM"  # which warns of keys that it does not have
    assert not re.search("[\x1b\r]|INFO|use_gpu|Linear", done.stdout)
    (log,) = Path("log").rglob("*.log")
    (file,) = Path("saved").glob("*.pth")
    kept = log.read_text()
    for words in ("use_gpu = False", "valid result", "test result", "next  "):
        assert words in kept
    first, data, _, rest = done.stdout.split("\n", 3)
    assert first == f"{model} on tiny: reading and checking the data"
    assert re.fullmatch(r"data +tiny: 30 users, 40 items, \d+ interactions; leave one out; .*time_order exact.*", data)
    assert f"\ncheckpoint   {file}\nlog          {log}\nnext  " in rest
    assert re.search(r"\n +validation +test\n(\S+@10 +0\.\d{4} +0\.\d{4}\n)+\n", rest)
    if model != "PCTM":
        epochs = re.findall(
            r"^epoch (\d)/2   loss \d\.\d{4}   (?:mrr|ndcg)@10 0\.\d{4} .* s(   best so far)?$", rest, re.M
        )
        assert [number for number, _ in epochs] == ["1", "2"] and epochs[0][1]
        assert re.search(r"^model +\S+: [\d,]+ parameters .* width 8, 1 layer, .*cpu, 1 thread$", done.stdout, re.M)
    for command in re.findall(r"^(?:next)? +python -m recbole_ssm (.+)$", rest, re.M):
        assert recbole_ssm.cli.main.main(command.split()) == 0


def test_what_is_printed_is_for_whom_it_may_concern(train, tiny, capfd):
    """Several processes print once; ``none`` prints nothing, and ``verbose`` what the log file has."""
    assert "use_gpu = False" in train("2Mamba4Rec", "--verbose", "--show_progress=False", epochs=1).stderr
    done = train("2Mamba4Rec", console="none", epochs=1, n_heads=2)
    assert done.stdout + done.stderr == ""
    assert (
        "n_heads is passed over" in max(Path("log").rglob("*.log"), key=lambda file: file.stat().st_mtime).read_text()
    )
    assert train("2Mamba4Rec", console="loud").stderr.startswith("error: console")


def test_warnings_of_libraries_are_only_in_the_log(train, monkeypatch):
    def warn(*_):
        warnings.warn("old", FutureWarning, stacklevel=1)
        warnings.warn_explicit("older", FutureWarning, logging.__file__, 1)
        logging.getLogger().warning("careful")

    monkeypatch.setattr("recbole_ssm.training.run.data_in_words", warn)
    done = train("2Mamba4Rec", epochs=1)
    assert done.stderr == "warning: FutureWarning: old\nwarning: careful\n"
    (log,) = Path("log").rglob("*.log")
    assert "FutureWarning: older" in log.read_text()


def test_an_error_that_nobody_expected_is_one_line(train, monkeypatch):
    def fail(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("recbole_ssm.training.run.result_in_words", fail)
    done = train("2Mamba4Rec", epochs=1)
    (log,) = Path("log").rglob("*.log")
    assert done.returncode == 1
    assert done.stderr == f"error: KeyError: 'a bug'; {log.absolute()} has its traceback\n"
    assert "Traceback (most recent call last)" in log.read_text()


def test_epochs_before_an_interruption_are_printed_again_and_early_stopping_is_said(tiny, capsys, monkeypatch):
    keys = {"data_path": str(tiny), "use_gpu": False, "epochs": 9, "stopping_step": 1, **small("2Mamba4Rec")}
    worse = count(9, -1)

    def evaluate(self, _):
        self.valid_score = next(worse) / 10
        return {"ndcg@10": self.valid_score}

    monkeypatch.setattr("recbole_ssm.training.evaluator.ExactEvaluator.evaluate", evaluate)

    def stop(trainer):
        if len(trainer.history) == 2:
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        recbole_ssm.run("2Mamba4Rec", "tiny", config_dict=keys, after_epoch=stop)
    first, _ = re.findall("^epoch .+", capsys.readouterr().out, re.MULTILINE)
    recbole_ssm.run("2Mamba4Rec", "tiny", config_dict=keys, resume=True)
    said = capsys.readouterr().out
    assert f"latest.pth is loaded: the training goes on with epoch 2\n{first}\nepoch 2/9" in said
    assert re.search(r"\nepoch 3/9 .*\nearly stopping: no validation since epoch 1 was better", said)


def test_a_notebook_has_one_line_that_changes(monkeypatch):
    shown = []

    def display(content, **_):
        shown.append(content["text/plain"])
        return SimpleNamespace(update=display)

    monkeypatch.delenv("FORCE_COLOR", raising=False)
    notebook = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel="a kernel"))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with progress_bar.bar(Console(file=StringIO()), lambda: (0.5, "epoch 2/4")):
        pass
    first, last = shown
    assert re.fullmatch(r"epoch 2/4 ━+\S +50%", first) and last == ""


def test_no_terminal_ends_a_training(capfd, monkeypatch):
    """Its locale may know no umlauts, and it may be gone."""
    with open("out", "w", encoding="ascii") as out:
        console = Console(file=out)
        console.tell("Käse\x1b")
    assert Path("out").read_text() == "K\\xe4se\\x1b\n"
    handler = ForPeople(Console(file=open("/dev/full", "w")), logging.WARNING)  # noqa: SIM115
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    tell("a line")
    assert capfd.readouterr() == ("", "")
