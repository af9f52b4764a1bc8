"""What a folder has is compared with what is asked for, and a training that is done is not done again."""

import pytest
from atomic import interactions, write_dataset

from recbole_ssm.config.config import Config
from recbole_ssm.errors import InputError
from recbole_ssm.studies import worker
from recbole_ssm.studies.run_store import RunStore, StudyRun, asked_for, difference

ASKED = {"settings": {"model": "SASRec", "epochs": 3, "checkpoint_dir": "a", "seed": 1}, "data": "d", "space": {"x": 1}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"settings": ASKED["settings"] | {"checkpoint_dir": "b"}}, None),
        ({"settings": ASKED["settings"] | {"epochs": 4}}, "with other settings, epochs 3 (now 4)"),
        ({"data": "e"}, "on other data of this name"),
        ({"space": {"x": 2}}, "with another space"),
    ],
)
def test_what_was_asked_for_is_compared(changes, reason):
    assert difference(ASKED, ASKED | changes) == reason
    assert difference({}, ASKED) == difference({"data": "d"}, ASKED) == "of an earlier version of this package"


def test_a_search_is_kept_and_another_is_refused(tmp_path):
    store = RunStore(tmp_path / "found")
    store.check_search(ASKED)
    store.check_search(ASKED)
    with pytest.raises(InputError, match="found has trials on other data of this name; name another folder with --out"):
        store.check_search(ASKED | {"data": "e"})


def test_several_processes_of_torchrun_do_not_hold_a_study(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="start them without torchrun"):
        RunStore(tmp_path / "found").make()
    assert not (tmp_path / "found").exists()


def test_runs_have_names_of_files_that_any_system_takes(tmp_path):
    run = RunStore(tmp_path).run("beta=0.5/1-7")
    assert run.name == "beta=0_5_1-7"
    assert run == StudyRun.of(tmp_path / "runs" / "beta=0_5_1-7")
    assert run.record() is None
    run.keep({"epochs": 3})
    assert run.record() == {"epochs": 3} and run.record_file.name == "beta=0_5_1-7.result.json"


def test_a_training_that_is_done_is_found_by_its_settings(tmp_path, monkeypatch):
    write_dataset(tmp_path, interactions())
    keys = [f"--data_path={tmp_path}", "--use_gpu=False", "--epochs=1"]
    asked = {"model": "2Mamba4Rec", "dataset": "tiny", "files": []}
    settings = asked_for(Config("2Mamba4Rec", "tiny", command_line=keys))
    (tmp_path / "a.pth").touch()
    trainings = []

    def run(*of, **how):
        trainings.append(how["command_line"])
        return {"checkpoint": str(tmp_path / "a.pth")}

    monkeypatch.setattr(worker, "run", run)
    for words in (keys, keys[::-1], keys[::-1]):
        worker.train_once({**asked, "keys": words, **settings}, tmp_path / "with.json")
    assert trainings == [keys]
    for words in (keys, keys[::-1], keys[::-1]):  # which do not say their settings
        worker.train_once({**asked, "keys": words}, tmp_path / "without.json")
    assert trainings == [keys, keys, keys[::-1]]
    (tmp_path / "a.pth").unlink()
    worker.train_once({**asked, "keys": keys, **settings}, tmp_path / "with.json")
    assert len(trainings) == 4


def test_what_a_process_said_last_is_its_error(tmp_path):
    program = "import sys; print('begun'); print('no room', file=sys.stderr); print(); sys.exit(int(sys.argv[1]) and 3)"
    assert worker.start(["-c", program], log=tmp_path / "log") == "no room"
    assert worker.start(["-c", "raise SystemExit(3)"], log=tmp_path / "other") == "exit status 3"
    assert worker.start(["-c", "pass"], log=tmp_path / "other") is None
