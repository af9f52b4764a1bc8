"""A search with a running Ray: trials at the same time, some stopped early, one killed; and clusters that are not."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import processes
import pytest
from atomic import ROOT, SMALL, interactions, write_dataset

from recbole_ssm.cli.main import main
from recbole_ssm.errors import InputError
from recbole_ssm.training.hooks.stopping import Interrupted

KEYS = ("--data_path=.", "--use_gpu=False", *(f"--{key}={value}" for key, value in SMALL.items()))
RATES = [0.05, 1e-6, 1e-9, 1e30]
VERB = ["tune", "--model=2Mamba4Rec", "--dataset=tiny", "--params_file=my.hyper", "--out=found", *KEYS]


@pytest.fixture(scope="module", autouse=True)
def with_ray():
    """Imports Ray, which takes a second, when the first of these tests runs."""
    try:
        from recbole_ssm.studies.tuning import with_ray
    except (ImportError, AttributeError) as error:
        pytest.skip(f"Ray cannot be used ({error}); pip install -e '.[tune]' brings it")
    return with_ray


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")  # its 15 would wait for all other tests
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    write_dataset(tmp_path, interactions(n_users=60, n_items=30, shortest=5, longest=12))
    (tmp_path / "my.hyper").write_text(f"learning_rate choice {RATES}\n")
    return tmp_path


def records(folder) -> list[dict]:
    return [json.loads(file.read_text()) for file in (folder / "found" / "trials").glob("*/trial.json")]


@pytest.mark.slow
def test_a_search_from_a_kill_to_the_report(folder, capsys):
    command = [*VERB, "--trials=9", "--epochs=30", "--min_epochs=2", "--stopping_step=9"]
    search = processes.process(processes.verb, *command)
    until = time.monotonic() + 300
    while not any(len(record.get("history", [])) > 1 for record in records(folder)):
        assert search.is_alive() and time.monotonic() < until
        time.sleep(0.05)
    search.kill()
    search.join()
    assert not (folder / "found" / "results.json").exists()

    before = signal.getsignal(signal.SIGTERM)
    assert main(command) == 0
    assert signal.getsignal(signal.SIGTERM) == before
    found = json.loads((folder / "found" / "results.json").read_text())
    ends = {record["params"]["learning_rate"]: record["ended"] for record in found["trials"]}
    assert sorted(ends) == sorted(RATES)
    assert ends[1e30] == "failed" and "stopped" in ends.values() and "finished" in ends.values()
    assert found["best"]["score"] == max(record["score"] or 0 for record in found["trials"])
    for record in found["trials"]:
        if record["ended"] == "stopped":
            assert 2 <= len(record["history"]) < 30
    said = capsys.readouterr().out
    assert "[4/4] trial " in said and "test_result of the best: " in said
    assert (folder / "found" / "best.yaml").is_file() and (folder / "found" / "report.html").is_file()


@pytest.mark.slow
def test_an_interruption_is_not_the_end(folder):
    command = [sys.executable, "-W", "ignore", "-m", "recbole_ssm", *VERB, "--trials=2", "--epochs=500"]
    to = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    search = subprocess.Popen([*command, "--stopping_step=500"], cwd=folder, **to)
    until = time.monotonic() + 300
    while not any(record.get("history") for record in records(folder)):
        assert search.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    search.send_signal(signal.SIGTERM)
    said = search.communicate(timeout=300)[1]
    assert search.returncode == 128 + signal.SIGTERM
    assert "interrupted; found keeps the training as it stands, and the same command goes on with it" in said
    assert "Traceback" not in said
    assert not (folder / "found" / "results.json").exists()
    assert {record["ended"] for record in records(folder)} == {None}


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port", "nowhere"])
def test_an_address_without_a_cluster(folder, capsys, address):
    begun = time.monotonic()
    assert main([*VERB, "--trials=2", f"--address={address}"]) == 2
    assert f"there is no Ray cluster at --address={address}" in capsys.readouterr().err
    assert time.monotonic() - begun < 50  # Ray itself tries for a minute
    assert records(folder) == []


@pytest.mark.parametrize("told", [False, True])
def test_a_ray_that_does_not_start_is_one_sentence(with_ray, monkeypatch, tmp_path, told):
    """It gives up waiting for its processes on a busy machine, and where a signal has ended them."""
    shut = []

    def init(**_):
        if told:
            signal.raise_signal(signal.SIGTERM)
        raise Exception("The current node timed out during startup. This could happen.\nMore of it")

    monkeypatch.setattr(with_ray.ray, "init", init)
    monkeypatch.setattr(with_ray.ray, "shutdown", lambda: shut.append(True))
    how = {"bigger": True, "epochs": 9, "first_epochs": 1, "cpus": None, "gpus": None, "address": None, "ended": print}
    with pytest.raises(Interrupted if told else InputError) as error:
        with_ray.search(SimpleNamespace(folder=tmp_path), [{"learning_rate": 0.1}], **how)
    words = "interrupted; " if told else "Ray did not start on this machine (The current node timed out during startup"
    assert words in str(error.value) and "the same command" in str(error.value) and "\n" not in str(error.value)
    assert shut == [True]


def test_shares(with_ray):
    small, large = {"CPU": 8.0}, {"CPU": 32.0, "GPU": 2.0}
    assert with_ray._share([small], 20, None, None) == (1, 0.0)
    assert with_ray._share([small], 1, None, None) == (8, 0.0)
    assert with_ray._share([large], 10, None, None) == (3, 0.25)
    assert with_ray._share([large], 10, 8, 1.0) == (8, 1.0)
    assert with_ray._share([small] * 4, 2, None, None) == (8, 0.0)  # a trial is on one machine
    for machines, cpus, gpus in (([small], 9, None), ([small], None, 0.5), ([large] * 4, 33, None), ([large], 1, 3.0)):
        with pytest.raises(InputError, match="no machine of Ray's has what a trial is to have"):
            with_ray._share(machines, 4, cpus, gpus)
