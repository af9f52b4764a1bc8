"""Models are compared on the same test items, a run is done once, and the report says what the runs gave."""

import csv
import json
import re
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import processes
import pytest
from atomic import ROOT, interactions, write_dataset
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Canvas

from recbole_ssm.cli.main import main
from recbole_ssm.data.atomic_files import files_hash
from recbole_ssm.errors import InputError
from recbole_ssm.studies import worker as trainings
from recbole_ssm.studies.compare import Study, Variant, worker
from recbole_ssm.studies.compare.figures import by_value, figures
from recbole_ssm.studies.compare.record import as_record
from recbole_ssm.studies.compare.significance import permutation_p
from recbole_ssm.studies.compare.summary import Row, _differences, summarise
from recbole_ssm.studies.compare.tables import footnotes, tables
from recbole_ssm.system.plain import plain

KEYS = ["--data_path=.", "--use_gpu=False", "--epochs=2", "--hidden_size=8", "--headdim=4", "--d_state=4"]
VERB = ["compare", "--models=2Mamba4Rec,SASRec", "--dataset=tiny", "--seeds=7,8", "--baseline=SASRec", "--out=found"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the runs: tests share the cores
    write_dataset(tmp_path, interactions(n_users=60, n_items=30, shortest=5, longest=12))
    return tmp_path


def killed_after_its_first_run(folder) -> float:
    """Start a comparison, kill it once a run is done; when that run was written."""
    process = processes.process(processes.verb, *VERB, *KEYS, PYTHONPATH=str(ROOT))
    first = folder / "found" / "runs" / "2Mamba4Rec-7.result.json"
    while not first.exists():
        assert process.is_alive()
        time.sleep(0.05)
    process.kill()
    process.join()
    assert not (folder / "found" / "report.html").exists()
    return first.stat().st_mtime_ns


@pytest.mark.slow
def test_from_a_kill_to_the_report(folder, capsys, monkeypatch, runs_here, painted, unpainted):
    written = killed_after_its_first_run(folder)
    assert main([*VERB, *KEYS]) == 0
    said = capsys.readouterr().out
    assert "[1/4] 2Mamba4Rec, seed 7: done before" in said
    assert "[4/4] SASRec, seed 8: test NDCG@10" in said
    first = folder / "found" / "runs" / "2Mamba4Rec-7.result.json"
    assert first.stat().st_mtime_ns == written

    runs = {
        (model, seed): folder / "found" / "runs" / f"{model}-{seed}"
        for model in ("2Mamba4Rec", "SASRec")
        for seed in (7, 8)
    }
    results = {key: json.loads(file.with_suffix(".result.json").read_text()) for key, file in runs.items()}
    for key, file in runs.items():  # what is kept of each sample comes to what RecBole's evaluator says
        with np.load(file.with_suffix(".npz")) as samples:
            assert len(set(samples["user"])) == 60
            for metric in ("hit", "ndcg", "mrr"):
                mean = results[key]["test_result"][f"{metric}@10"]
                assert samples[metric].mean() == pytest.approx(mean, abs=6e-5)
                assert mean > 0
            assert set(samples["length"]) <= set(range(4, 12))
    with (folder / "found" / "table.csv").open() as lines:
        rows = {row["name"]: row for row in csv.DictReader(lines)}
    for model in ("2Mamba4Rec", "SASRec"):
        scores = []  # not as RecBole rounds them
        for seed in (7, 8):
            with np.load(runs[model, seed].with_suffix(".npz")) as samples:
                scores.append(samples["ndcg"].mean())
        assert float(rows[model]["NDCG@10"]) == pytest.approx(np.mean(scores), rel=1e-12)
        assert float(rows[model]["NDCG@10 deviation"]) == pytest.approx(np.std(scores, ddof=1), rel=1e-9)
        assert float(rows[model]["latency_one median_ms"]) > 0
        assert float(rows[model]["latency_many users"]) == 60
    assert float(rows["2Mamba4Rec"]["latency_step median_ms"]) > 0
    assert rows["SASRec"]["latency_step median_ms"] == ""
    assert rows["SASRec"]["NDCG@10 p"] == ""
    assert 0 < float(rows["2Mamba4Rec"]["NDCG@10 p"]) <= 1
    assert "2Mamba4Rec" in (folder / "found" / "table.md").read_text()
    assert "2Mamba4Rec & " in (folder / "found" / "table.tex").read_text()
    figures = {file.stem for file in (folder / "found" / "figures").glob("*.svg")}
    assert figures == {file.stem for file in (folder / "found" / "figures").glob("*.pdf")} and len(figures) == 6
    page = (folder / "found" / "report.html").read_text()
    assert page.count("<svg") == 6
    assert not re.search(r"""(src|href)=["']?(?!#)|url\((?!#)|@import""", page.replace("xlink:href", "link"))

    monkeypatch.setattr(worker, "main", lambda *_: pytest.fail("a run is done again"))
    unpainted()
    assert main([*VERB, *KEYS]) == 0
    assert (folder / "found" / "report.html").read_text() == re.sub("<svg.*?</svg>", "<svg></svg>", page, flags=re.S)
    assert main([*VERB[:-1], f"--out={folder / 'found'}", *reversed(KEYS)]) == 0  # said in another way
    capsys.readouterr()
    (folder / "my.yaml").write_text("learning_rate: 0.1\n")
    for other in ("--learning_rate=0.1", "--config_files=my.yaml"):
        assert main([*VERB, *KEYS, other]) == 2
        said = capsys.readouterr().err
        assert "has a run of 2Mamba4Rec with other settings, learning_rate 0.002 (now 0.1)" in said


def test_a_run_that_was_begun_with_other_settings_is_not_gone_on_with(folder):
    begun = Study([Variant("2Mamba4Rec", "2Mamba4Rec")], "tiny", [1], folder / "found", keys=KEYS)
    begun.check()
    file = folder / "found" / "runs" / "2Mamba4Rec-1.json"
    config = begun._config(begun.variants[0], 1)
    settings, data = json.loads(json.dumps(plain(config.final_config_dict))), files_hash(config)
    trained = file.with_suffix(".trained.json")
    slower = settings | {"learning_rate": 0.1}
    for there, refused in (
        ({"settings": settings, "data": data}, None),
        (
            {"settings": slower, "data": data},
            r"with other settings, learning_rate 0.1 \(now 0.002\); name another folder",
        ),
        ({"settings": settings, "data": "another"}, "on other data of this name"),
        ({}, "of an earlier version"),
    ):
        file.write_text(json.dumps(there))
        trained.unlink(missing_ok=True)
        begun.check()  # nothing was trained
        trained.write_text("{}")
        with pytest.raises(InputError, match=refused) if refused else nullcontext():
            begun.check()


@pytest.mark.slow
def test_runs_of_other_data_are_not_mixed_in(folder, capsys, runs_here):
    command = ["compare", "--models=2Mamba4Rec", "--dataset=tiny", "--out=found", *KEYS]
    assert main([*command, "--seeds=1"]) == 0
    write_dataset(folder, interactions(n_users=60, n_items=30, shortest=5, longest=12, seed=5))
    assert main([*command, "--seeds=2"]) == 2
    assert "found has a run of 2Mamba4Rec on other data of this name" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_ends_with_the_process_that_asked_for_it(folder):
    """However early that one is gone: here before the run begins."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    asked = {"model": "2Mamba4Rec", "dataset": "tiny", "files": [], "keys": [*KEYS[:2], *KEYS[3:], "--epochs=100000"]}
    (folder / "run.json").write_text(json.dumps(asked))
    run = processes.process(processes.run_of_compare, "run.json", gone.pid)
    run.join(60)
    assert run.exitcode == 1


def test_ctrl_c_says_how_it_goes_on(folder, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_ssm.studies.compare.study.start", interrupted)
    assert main([*VERB, *KEYS]) == 130
    assert "interrupted; found keeps" in (said := capsys.readouterr().err) and "the same command goes on" in said


@pytest.mark.slow
def test_a_run_that_fails_ends_no_other(folder, capsys, runs_here):
    arguments = [
        "compare",
        "--models=2Mamba4Rec,Pop",
        "--baseline=Pop",
        "--dataset=tiny",
        "--seeds=1",
        "--out=found",
        *KEYS[:2],
        "--filter_seen=True",
        "--defaults=paper",
    ]
    # Scores that are no numbers: seen only in the training.
    assert main([*arguments, "--learning_rate=1e30"]) == 2
    said = capsys.readouterr()
    assert "[2/2] Pop, seed 2020: test NDCG@10" in said.out
    assert "these runs failed, and the report is without them: 2Mamba4Rec, seed 2020" in said.err
    assert "2Mamba4Rec's scores are not" in said.err
    assert main([*arguments, "--baseline=2Mamba4Rec", "--learning_rate=1e30"]) == 2
    assert "--baseline is given twice" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again_if_measuring_ends_before_its_time(folder, monkeypatch, runs_here):
    monkeypatch.chdir(folder)
    asked = {"model": "2Mamba4Rec", "dataset": "tiny", "files": [], "keys": KEYS}
    Path("run.json").write_text(json.dumps(asked))
    with monkeypatch.context() as patch:
        patch.setattr(worker, "by_sample", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            worker.main("run.json", "0")
    monkeypatch.setattr(trainings, "run", lambda *_, **__: pytest.fail("it was trained again"))
    assert worker.main("run.json", "0") == 0
    assert json.loads(Path("run.result.json").read_text())["epochs"] == 2
    assert {file.name for file in Path().glob("run.*")} == {"run.json", "run.npz", "run.result.json"}


@pytest.mark.slow
def test_a_sampled_evaluation_has_latencies_too_and_tests_models_of_all_kinds_alike(folder, monkeypatch, runs_here):
    monkeypatch.chdir(folder)
    keys = ["--data_path=.", "--use_gpu=False", "--show_progress=False", "--epochs=1", "--filter_seen=True"]
    keys += [
        "--eval_args={'split':{'LS':'valid_and_test'},'order':'TO','mode':'uni20'}",
        "--metrics=['Hit','NDCG','MRR']",
    ]
    asked = {"dataset": "tiny", "files": [], "keys": keys}
    Path("Pop.json").write_text(json.dumps(asked | {"model": "Pop"}))
    Path("ours.json").write_text(json.dumps(asked | {"model": "2Mamba4Rec"}))
    results, samples = {}, {}
    for name in ("Pop", "ours"):
        assert worker.main(f"{name}.json", "0") == 0
        results[name] = json.loads(Path(f"{name}.result.json").read_text())
        with np.load(f"{name}.npz") as kept:
            samples[name] = sorted(zip(kept["user"].tolist(), kept["item"].tolist(), strict=True))
        for kind in ("latency_one", "latency_many"):
            assert results[name][kind]["median_ms"] > 0
    assert results["ours"]["latency_step"]["median_ms"] > 0
    assert samples["Pop"] == samples["ours"]
    assert results["Pop"]["rule_of_seen"] == results["ours"]["rule_of_seen"]
    assert results["Pop"]["repeated_targets"] == results["ours"]["repeated_targets"] > 0


@pytest.mark.slow
def test_a_sweep_plots_its_values_in_their_order(folder, runs_here, painted):
    values = ["--param=dropout_prob", "--values=0.5,0.0"]
    assert main(["sweep", "--model=2Mamba4Rec", *values, "--dataset=tiny", "--seeds=1", "--eval_step=2", *KEYS]) == 0
    found = folder / "sweep" / "2Mamba4Rec-dropout_prob-tiny"
    results = json.loads((found / "results.json").read_text())
    assert [run["best_epoch"] for run in results["runs"]] == [2, 2]  # the first epoch is not validated
    rows = results["rows"]
    assert [row["name"] for row in rows] == ["dropout_prob=0.5", "dropout_prob=0.0"]
    assert rows[0]["NDCG@10"] != rows[1]["NDCG@10"]
    page = (found / "report.html").read_text()
    assert page.count("<svg") == 9
    assert page.index("NDCG@10 of 2Mamba4Rec by dropout_prob") < page.index("Validation NDCG@10 by epoch")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset=tiny"], "compare needs --models="),
        (["--models=SASRec"], "compare needs --dataset="),
        (["--models=SASRec,SASRek", "--dataset=tiny"], "there is no model 'SASRek'. Did you mean SASRec"),
        (["--models=SASRec,SASRec", "--dataset=tiny"], "--models=SASRec,SASRec must name different ones"),
        (["--models=SASRec", "--dataset=tiny", "--seeds=0"], "--seeds=0 must be"),
        (["--models=SASRec", "--dataset=tiny", "--seeds=1,1"], "--seeds=1,1 must be"),
        (["--models=SASRec", "--dataset=tiny", "--seeds=few"], "--seeds=few must be"),
        (["--models=SASRec", "--dataset=tiny", "--seeds=1,5000000000"], "--seeds=1,5000000000 must be"),
        (["--models=SASRec", "--dataset=tiny", "--budget=-1"], "--budget=-1 must be"),
        (["--models=SASRec", "--dataset=tiny", "--budget=hour"], "--budget=hour must be"),
        (["--models=SASRec", "--dataset=tiny", "--baseline=GRU4Rec"], "the baseline GRU4Rec is not one of"),
        (["--models=SASRec", "--dataset=tinny"], "there is no folder"),
        (["--models=SASRec", "--dataset=tiny", "--topk=[5]"], "compare sets topk itself"),
        (["--models=SASRec", "--dataset=tiny", "--dataset=ml-100k"], "--dataset is given twice"),
        (["--models=2Mamba4Rec", "--dataset=tiny", "--d_stat=4"], "Did you mean d_state"),
        (["--models=SASRec", "--dataset=tiny", "--out=tiny/tiny.inter"], "--out=tiny/tiny.inter cannot be written to"),
        (["--models=SASRec,Pop", "--dataset=tiny"], "RecBole does not let Pop recommend items of the history"),
        (["--models=SASRec,Pop", "--dataset=tiny", "--eval_args={'mode':'uni5'}"], "does not let Pop recommend items"),
        (
            [
                "--models=2Mamba4Rec,Pop,BPR",
                "--dataset=tiny",
                "--filter_seen=True",
                "--eval_args={'split':{'RS':[4,3,3]}}",
            ],
            "2Mamba4Rec and Pop would not be tested on the same items and cannot be compared:",
        ),
        (["--models=SASRec", "--dataset=tiny", "--eval_args={'split':{'LS':'valid_only'}}"], "leaves no data"),
        (["--models=SASRec", "--dataset=tiny", "SASRec"], "argument 'SASRec' is not understood"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_said_before_any_training(folder, capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a training was begun"))
    assert main(["compare", *KEYS[:2], *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_without_validation_the_last_epoch_counts(folder, runs_here):
    arguments = ["--models=2Mamba4Rec", "--dataset=tiny", "--seeds=1", "--config_files=protocol/no_validation"]
    assert main(["compare", *arguments, "--out=found", *KEYS]) == 0
    ours = json.loads((folder / "found" / "results.json").read_text())["runs"][0]
    assert ours["best_epoch"] == ours["epochs"] == 2
    assert "The model of the last epoch" in (folder / "found" / "table.md").read_text()
    assert "Validation NDCG@10" not in (folder / "found" / "report.html").read_text()


def test_a_sweep_of_an_unknown_key_is_refused(folder, capsys):
    arguments = ["sweep", "--model=SSD4Rec", "--dataset=tiny", *KEYS[:2]]
    assert main([*arguments, "--param=betta", "--values=0,1"]) == 2
    assert "Did you mean beta" in capsys.readouterr().err
    assert main([*arguments, "--param=beta", "--values=0,much"]) == 2
    assert "beta must be a number" in capsys.readouterr().err
    assert main([*arguments, "--param=n_layers", "--values=1,2"]) == 2
    assert "the variants do not differ: n_layers is passed over" in capsys.readouterr().err
    assert main([*arguments, "--param=model", "--values=SASRec,GRU4Rec"]) == 2
    assert "--model=SASRec does not apply here" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "sweep needs --param=" in capsys.readouterr().err


def test_help(capsys):
    assert main(["compare", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"--{key}" in said for key in ("models", "dataset", "seeds", "budget", "baseline", "out"))


def row(name: str, scores: dict[int, list[float]]) -> Row:
    """Of one user to each score, by seed."""
    samples = {seed: {metric: np.array(values) for metric in ("hit", "ndcg", "mrr")} for seed, values in scores.items()}
    runs = []
    for seed, values in scores.items():
        samples[seed] |= {"user": np.arange(len(values)).astype(str), "item": np.full(len(values), "i")}
        history = [{"epoch": 1, "train_seconds": 1.0, "valid_seconds": 0.5, "valid_result": {"ndcg@10": values[0]}}]
        runs.append(as_record({"history": history, "best_epoch": 1, "seconds_to_best": 1.5, "latency_one": None}))
        runs[-1]["test_result"] = {f"{metric}@10": float(np.mean(values)) for metric in ("hit", "ndcg", "mrr")}
    return Row(name, runs, samples)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(1, False), (2, True), (3, True)])
def test_figures_show_how_far_seeds_differ_and_tell_models_apart_without_colour(seeds, spread):
    rows = [row(name, {seed: [0.1 + seed / 100, 0.2] for seed in range(seeds)}) for name in ("A", "B", "C", "D", "E")]
    drawn = {figure.title: figure for figure in [*figures(rows), *by_value(rows, "SSD4Rec", "beta")]}
    assert "NDCG@10 of SSD4Rec by beta" in drawn
    for title in ("Accuracy and cost of training", "Validation NDCG@10 by epoch"):
        axes = Canvas().subplots()
        drawn[title].draw(axes)
        lines, names = axes.get_legend_handles_labels()
        assert names == ["A", "B", "C", "D", "E"] and len({line.get_marker() for line in lines}) == 5
        assert any(len(bars.get_segments()) for bars in axes.collections if isinstance(bars, LineCollection)) == (
            spread and title.startswith("Accuracy")
        )


@pytest.mark.parametrize("of_one", [None, {"median_ms": 1.0, "p99_ms": 2.0}])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_columns_in_which_no_model_has_anything_are_left_out(of_one, steps):
    rows = [row(name, {7: [0.1, 0.2]}) for name in ("A", "B")]
    for number, each in enumerate(rows):
        sizes = dict.fromkeys(("seconds_per_epoch", "epochs", "peak_memory_gib"), 1.0)
        sizes |= {"parameters": 2, "parameters_without_item_embedding": 1}
        step = {"median_ms": 3.0, "p99_ms": 4.0} if number < steps else None
        each.runs[0] |= {**sizes, "latency_one": of_one, "latency_step": step, "latency_many": None}
    shown = {table.title: list(table.columns) for table in tables(rows, "A")}
    expected = ["1 user ms", "1 user p99"] * bool(of_one) + ["1 click ms", "1 click p99"] * bool(steps)
    assert shown.get("Time to recommend to one user", []) == expected
    assert list(shown["Accuracy"]) == ["HR@10", "NDCG@10", "MRR@10", "seeds"]
    assert "Time to recommend to 1,024 users" not in shown


@pytest.mark.parametrize(("users", "said"), [(166, True), (1024, False), (None, False)])
def test_the_notes_say_how_many_users_are_ranked_at_once_where_they_are_few(users, said):
    one = row("A", {7: [0.1, 0.2]})
    one.runs[0]["machine"] = {"processor": "x", "threads": 1, "device": "cpu"}
    one.runs[0]["latency_many"] = users and {"users": users}
    assert ("it is all 166 that are tested" in footnotes([one], "A")[-1]) == said


def test_users_are_paired_where_each_seed_has_test_users_of_its_own():
    one, other = (row(name, {7: [a, b], 8: [a, b, 0.5]}) for name, a, b in (("A", 0.5, 0.25), ("B", 0.25, 0.25)))
    assert _differences(one, other, "ndcg").tolist() == [0.5, 0.0, 0.0]
    del other.samples[7]
    assert _differences(one, other, "ndcg").tolist() == [0.25, 0.0, 0.0]
    del other.samples[8]
    assert permutation_p(_differences(one, other, "ndcg")) == 1.0


@pytest.mark.parametrize(
    "key", [["--filter_seen=True"], ["--repeatable=True"], ["--eval_args={'mode':'uni5'}", "--filter_seen=True"]]
)
def test_models_that_rank_alike_are_compared(folder, key):
    keys = ["--data_path=.", "--use_gpu=False", *key]
    Study([Variant(model, model) for model in ("SASRec", "Pop")], "tiny", [1], folder / "found", keys=keys).check()


@pytest.mark.parametrize(("key", "values"), [("time_order", "recbole,exact"), ("filter_seen", "True,False")])
def test_values_that_are_tested_otherwise_are_not_trained(folder, capsys, key, values):
    varied = [f"--param={key}", f"--values={values}"]
    assert main(["sweep", "--model=2Mamba4Rec", *varied, "--dataset=tiny", "--seeds=1", *KEYS]) == 2
    assert f"with another {key} the test is another one" in capsys.readouterr().err


def test_models_that_rank_other_items_are_not_compared(folder):
    items = [f"i{number}\tred" for number in range(30)] + ["new\tblue"]
    (folder / "tiny" / "tiny.item").write_text("\n".join(["item_id:token\tcolour:token", *items, ""]))
    keys = ["--data_path=.", "--use_gpu=False", "--item_features=colour"]
    variants = [Variant(name, name) for name in ("SASRec", "2Mamba4Rec")]
    with pytest.raises(InputError, match=r"SASRec ranks 30 items and 2Mamba4Rec 31, .* --load_col=\"(.*)\"$") as error:
        Study(variants, "tiny", [1], folder / "found", keys=keys).check()
    keys.append("--load_col=" + str(error.value).split('"')[1])  # as it says
    Study(variants, "tiny", [1], folder / "found", keys=keys).check()


def test_rows_of_users_and_of_samples_are_not_compared(folder):
    """Of pre-split files with several lines of a user, which a model that is not sequential ranks together."""
    for part in ("train", "valid", "test"):
        lines = [f"u{user}\ti1 i2\ti{item}" for user in range(3) for item in (3, 4)]
        text = "\n".join(["user_id:token\titem_id_list:token_seq\titem_id:token", *lines, ""])
        (folder / "tiny" / f"tiny.{part}.inter").write_text(text)
    files = "--benchmark_filename=['train','valid','test']"
    keys = ["--data_path=.", "--use_gpu=False", "--filter_seen=True", "--load_col=None", files]
    for models in (("SASRec", "2Mamba4Rec"), ("Pop", "BPR")):
        Study([Variant(name, name) for name in models], "tiny", [1], folder / "found", keys=keys).check()
    with pytest.raises(InputError, match=r"Pop is not sequential .* and 2Mamba4Rec once for each test item"):
        Study([Variant(name, name) for name in ("2Mamba4Rec", "Pop")], "tiny", [1], folder / "found", keys=keys).check()


def test_other_test_items_are_not_compared(folder):
    study = Study([Variant(name, name) for name in ("2Mamba4Rec", "SASRec")], "tiny", [1], folder / "made")
    (folder / "made" / "runs").mkdir(parents=True)
    for model, target in (("2Mamba4Rec", "i1"), ("SASRec", "i2")):
        file = folder / "made" / "runs" / f"{model}-1"
        file.with_suffix(".result.json").write_text(json.dumps({"asked": {}, "test_result": {}}))
        metrics = {name: np.ones(2) for name in ("hit", "ndcg", "mrr")}
        np.savez(file.with_suffix(".npz"), user=np.array(["u", "v"]), item=np.array(["i1", target]), **metrics)
    with pytest.raises(Exception, match="were not tested on the same items"):
        summarise(study, "SASRec")


def test_keys_that_none_of_the_models_reads_are_told_of(folder):
    variants = [Variant(name, name) for name in ("SASRec", "GRU4Rec")]
    keys = [*KEYS[:2], "--n_layers=1", "--hiden_size=8"]  # SASRec reads the first
    (note,) = Study(variants, "tiny", [7], folder / "found", keys=keys).check()
    assert note.startswith("hiden_size is passed over: unknown key 'hiden_size'. Did you mean hidden_size?")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ("topk: [5]\nvalid_metric: Hit@5\n", {"topk: the config files' [5]", "valid_metric: the config files' Hit@5"}),
        ("seed: 3\nepochs: 1\n", {"seed: the config files' 3"}),
        (
            "metrics: [Recall]\nshow_progress: True\n",
            {"metrics: the config files' [", "show_progress: the config files'"},
        ),
        ("topk: [10]\nseed: 7\ntime_budget: 60\n", set()),
    ],
)
def test_what_config_files_say_in_vain_is_told(folder, given, noted):
    (folder / "mine.yaml").write_text(given)
    study = Study([Variant("SASRec", "SASRec")], "tiny", [7, 8], folder / "found", ["mine.yaml"], KEYS[:2])
    notes = study.check()
    assert len(notes) == len(noted)
    for note, begin in zip(notes, sorted(noted), strict=True):
        assert note.startswith(begin) and "is passed over; compare sets" in note
