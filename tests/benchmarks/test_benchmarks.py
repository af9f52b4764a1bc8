"""The benchmarks: what cannot be measured is said before anything is run; workers have the environment given."""

import json
import os
import re
import sys
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
from atomic import ROOT, interactions, write_dataset

sys.path.insert(0, str(ROOT / "benchmarks"))
import beside
import cold_items
import first_recommendation
import language
import nearest_items
import recommending
import training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "MODEL"),
        ("Mamba4rec", "Did you mean Mamba4Rec"),
        ("Pop", "Pop is no sequential model"),
        ("SSD4Rec SSD4Rec", "models must be different ones"),
        ("SSD4Rec --dataset=none-such", "none-such"),
        ("SSD4Rec --config_files none/such", "none/such"),
        ("SSD4Rec --threads 0", "'0' is no whole number of at least 1"),
        ("SSD4Rec --threads two", "'two' is no whole number"),
        ("SSD4Rec --threads 2 1 2", "threads must be different ones"),
        ("SSD4Rec --threads 1 --beside 2", "leave --threads out"),
        ("SSD4Rec --thread 1", "unrecognized arguments: --thread 1"),
        ("SSD4Rec --beside=-1", "'-1' is no whole number"),
        ("SSD4Rec --beside", "expected one argument"),
        ("SSD4Rec --batches=0", "'0' is no whole number"),
        ("SSD4Rec --rounds=1.5", "'1.5' is no whole number"),
        ("SSD4Rec --set num_layers", "KEY=VALUE, and not 'num_layers'"),
        ("SSD4Rec --set =2", "KEY=VALUE, and not '=2'"),
        ("SSD4Rec --set num_layers=[2", "the value is no YAML"),
        ("SSD4Rec --set num_layers=2 num_layers=3", "num_layers is given twice"),
        ("SSD4Rec --set data_path=. --data_path=.", "data_path is given twice"),
        ("SSD4Rec --set num_layer=2", "num_layer"),
        ("SSD4Rec --set hidden_size=none", "hidden_size"),
        ("SSD4Rec --json=none-such/a.json", "none-such/a.json must be a file"),
        ("SSD4Rec --json=.", "must be a file"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(monkeypatch, capsys, arguments, message):
    for name in ("steps", "take_turns", "others", "Worker"):
        monkeypatch.setattr(training, name, lambda *_: pytest.fail("something was run"))
    with pytest.raises(SystemExit) as end:
        training.main(arguments.split())
    assert end.value.code == 2
    error = capsys.readouterr().err.rpartition("error: ")[2]
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_model_of_recbole_is_measured(tmp_path, capsys):
    write_dataset(tmp_path, interactions())
    given = f"SASRec --dataset=tiny --data_path={tmp_path} --threads 1 --rounds=1 --batches=2 --set hidden_size=16 "
    training.main((given + "n_layers=1 n_heads=2 inner_size=16 train_neg_sample_args=null").split())
    written = json.loads((tmp_path / "training.json").read_text())
    assert [(row["model"], row["threads"]) for row in written["rows"]] == [("SASRec", 1)]
    assert all(row["tokens_per_second"] > 0 for row in written["rows"])
    assert "data_path" not in written["options"]


@pytest.mark.parametrize(("name", "value"), [("OMP_NUM_THREADS", "3"), ("OMP_WAIT_POLICY", None), ("HERE", "yes")])
def test_a_worker_has_the_variables_of_threads_that_it_is_given_only(monkeypatch, name, value):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("HERE", "yes")
    with beside._environment({"OMP_NUM_THREADS": "3"}):
        assert os.environ.get(name) == value
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.slow
def test_a_worker_is_called_again_and_again():
    worker = beside.Worker({"OMP_NUM_THREADS": "3"}, partial, os.getenv, "OMP_NUM_THREADS")
    assert [worker(), worker()] == ["3", "3"]


def test_lines_of_a_program_are_timed_one_by_one(tmp_path, capsys):
    found = first_recommendation.timed("import time\nx = 2\ntime.sleep(x / 100)\nprint(x)")
    assert [line for line, _ in found] == ["import time", "x = 2", "time.sleep(x / 100)", "print(x)"]
    assert found[2][1] >= 0.02
    assert capsys.readouterr().out == "2\n"
    first_recommendation.write_table(tmp_path / "clicks.csv")
    with (tmp_path / "clicks.csv").open() as lines:
        assert next(lines) == "user_id,item_id,rating,timestamp\n"
    with pytest.raises(SystemExit):
        first_recommendation.main(["--table=nowhere.csv"])
    assert "there is no file nowhere.csv" in capsys.readouterr().err


def test_indices_of_items_are_measured(tmp_path, capsys):
    pytest.importorskip("faiss", reason="pip install 'recbole-ssm[ann]'")
    file = tmp_path / "nearest.json"
    nearest_items.main(["--items=2000", "--kinds", "exact", "ivf", f"--json={file}"])
    exact, ivf = json.loads(file.read_text())["rows"]
    assert (exact["kind"], exact["recall_at_10"], exact["mebibytes"] > 0.4) == ("exact", 1.0, True)
    assert ivf["recall_at_10"] > 0.9 and ivf["mebibytes"] < exact["mebibytes"]
    assert "exact" in capsys.readouterr().out


@pytest.mark.slow
def test_language_models_are_measured(tmp_path, capsys, monkeypatch):
    pytest.importorskip("transformers", reason="pip install 'recbole-ssm[language]'")
    file = tmp_path / "language.json"
    monkeypatch.setattr(language, "SHARED", 5)
    monkeypatch.setattr(language, "VOCABULARY", 300)
    monkeypatch.setattr(language, "WRITTEN", 4)
    language.main(["--layers=1", "--width=16", "--tokens=12", "--repeats=1", f"--json={file}"])
    rows = json.loads(file.read_text())["rows"]
    assert [row["case"] for row in rows] == list(language.CASES)
    assert all(row["difference"] < 1e-5 and row["times_faster"] > 0 for row in rows)
    assert capsys.readouterr().out.count("times faster") == len(rows)


@pytest.mark.slow
def test_cold_items_are_compared_by_what_is_known_of_them(tmp_path, capsys, monkeypatch):
    write_dataset(tmp_path, interactions(n_users=60))
    np.save(tmp_path / "v.npy", np.eye(40))
    (tmp_path / "v.txt").write_text("".join(f"i{number}\n" for number in range(40)))
    lines = ["item_id:token\ttitle:token_seq", *(f"i{number}\tnumber {number}" for number in range(40))]
    (tmp_path / "tiny" / "tiny.item").write_text("\n".join(lines))
    keys = [f"--data_path={tmp_path}", f"--checkpoint_dir={tmp_path}", "--epochs=1", "--hidden_size=8", "--headdim=4"]
    titles = ["--mamrec", "epochs=1", "hidden_size=8", "tokenizer_size=265"] if find_spec("transformers") else []
    cold_items.main(["tiny", "--cold_items=0.4", *titles, "--vectors", str(tmp_path / "v.npy"), "--used=frozen", *keys])
    table = capsys.readouterr().out.rpartition("are in no training")[2]
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.strip().splitlines()[2:]]
    known = ["titles, by MamRec"] * bool(titles) + ["ids", f"{tmp_path}/v.npy, frozen"]
    assert [row[0] for row in rows] == ["chance", "popularity", *known]
    assert [row[1] for row in rows[:2]] == ["0.2500", "0.0000"] and float(rows[0][2]) == pytest.approx(0.1136, abs=1e-4)


@pytest.mark.slow
def test_users_a_second_are_measured_beside_recboles(tmp_path, capsys):
    write_dataset(tmp_path, interactions())
    recommending.main(["LRURec", "--dataset=tiny", f"--data_path={tmp_path}", "--rounds=1", "--k=3"])
    found = capsys.readouterr().out
    assert "the best 3 items of 30 users" in found and re.search(r"LRURec +[\d,]+ ", found)
